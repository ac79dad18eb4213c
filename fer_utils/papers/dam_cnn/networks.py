"""What the experiments of Xie, Hu & Wu 2019 share: faces, one training of each network, and scores.

DAM-CNN and SERD are trained once for a role and a seed, in ``dam-cnn/table-4``. A network of the book's size is 50 MB,
too much to keep; so the run that trains it looks at it, too (:mod:`~fer_utils.papers.dam_cnn.looks`), and leaves what
it saw: predictions, masks, representations. The other tables and figures read that. Of stage one the trunk and the mask
are left as well, but for folds of posed faces: what other experiments train in stage two starts from them. They are
left in half precision, and so rounded before stage two.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...datasets import catalog
from ...datasets.base import FaceDataset
from ...experiments.context import RunContext
from ...experiments.faces import find_roles, fingerprint_faces, keep_classes, limit_per_class, load_role
from ...experiments.registry import Setup
from ...experiments.scores import Score, score_faces
from ...labels import BASIC
from ...splits import Split
from ...training import History
from .model import SerdNetwork
from .protocol import POSED, augment_faces, find_sets, split_set
from .recipe import Looks, StageOne
from .stages import build_serd_network, part_for, train_first

__all__ = [
    "FACE", "MOST", "PATHS", "SEEDS", "SERD", "TABLE", "find_tested", "limit_seeds", "list_across", "list_folds",
    "load_looked", "load_set", "load_seven", "load_trunk_and_mask", "name_paths", "save_trunk_and_mask", "score_set",
    "take_training", "train_network",
]

#: The experiment that trains the networks which the others read.
TABLE = "dam-cnn/table-4"
#: Rows of stage one.
FACE, SERD = "VGG-Face", "VGG-SERD"
#: Decoders, Table 4, and of how many a paper's DAM-CNN is, where it does not say.
PATHS, MOST = (2, 3, 4, 5), 5
#: Loaded to be tested on, where the dataset has them; FACSynth's posed faces stand in where it has no posed ones.
_TESTED_ACROSS = ("lab", "lab-small", "tfeid", "film", "basic")
#: How often the book trains a network; a training of either stage takes one to four minutes.
SEEDS = {"book": 5}
#: The same on posed faces, whose ten folds are ten trainings, and on other datasets than FACSynth.
_FEWER = 3


def limit_seeds(setup: Setup, role: str) -> tuple[int, ...]:
    """The seeds of an experiment, fewer where each is dear, unless somebody asked for a number.

    Parameters
    ----------
    setup : Setup
    role : str
    """
    if setup.asked or (setup.dataset.startswith("facsynth") and role not in POSED):
        return setup.seeds
    return setup.seeds[:_FEWER]


def name_paths(count: int, method: str = "DAM-CNN") -> str:
    """The row of a network by its decoders: ``"DAM-CNN, 2 paths"``.

    Parameters
    ----------
    count : int
        Decoders.
    method : str
    """
    return f"{method}, {count} path{'s' if count > 1 else ''}"


# -- faces -------------------------------------------------------------------------------------------------------------


def load_set(context: RunContext, role: str, images: int | None, **options: Any) -> FaceDataset:
    """Load the faces of a role of this paper's tables, with the paper's frames and classes.

    Parameters
    ----------
    context : RunContext
    role : str
        Of :func:`~fer_utils.papers.dam_cnn.protocol.find_sets`.
    images : int or None
        At most so many of each class and part.
    **options
        Further ones for the loader.
    """
    found = find_sets(context.dataset)[role]
    return limit_per_class(context.load_faces(found.source, **{**found.protocol.options, **options}), images)


def load_looked(context: RunContext, role: str, looks: Looks) -> FaceDataset:
    """Load the test faces that stage two is looked at with: equally many of each of some people, else the first ones.

    People are those of the test part who have enough faces, in the order of their numbers; of each the first faces.

    Parameters
    ----------
    context : RunContext
    role : str
    looks : Looks
        How many.
    """
    test = load_set(context, role, None)
    test = test.subset(find_tested(context.dataset, test, role))
    if test.identities is None:
        return test.subset(np.arange(min(len(test), looks.people * looks.faces_each)))
    people, counts = np.unique(test.identities, return_counts=True)
    chosen = people[counts >= looks.faces_each][: looks.people]
    rows = [np.flatnonzero(test.identities == person)[: looks.faces_each] for person in chosen]
    return test.subset(np.concatenate(rows))


def load_seven(context: RunContext, role: str, images: int | None) -> FaceDataset:
    """Load all faces of a role with the seven basic emotions as classes, as the paper has across datasets (4.4.3).

    Where a dataset has not the role, FACSynth's faces stand in.

    Parameters
    ----------
    context : RunContext
    role : str
    images : int or None
        At most so many of each class and part.
    """
    options: dict[str, Any] = {}
    dataset = context.dataset if role in find_sets(context.dataset) else "facsynth"
    found = find_sets(dataset)[role]
    if "classes" in found.protocol.options:
        key = find_roles(dataset)[found.source]
        # CK+'s seventh class would be contempt
        options = {**found.protocol.options, "classes": list(BASIC) if key in ("ckplus", "facsynth-lab") else 7}
    if dataset == context.dataset:
        faces = context.load_faces(found.source, **options)
    else:
        faces = load_role(dataset, found.source, **options)
        loaded = {
            "role": f"{dataset} {found.source}", "options": options,
            **fingerprint_faces(dataset, faces, found.source, options),
        }
        if loaded not in context.loaded:
            context.loaded.append(loaded)
    return limit_per_class(faces if faces.classes == BASIC else keep_classes(faces, BASIC), images)


def list_across(dataset: str, role: str) -> list[str]:
    """Sets that a network trained on a role's faces is tested on, as far as they are on this machine.

    Parameters
    ----------
    dataset, role : str
        Of the training faces.
    """
    own = find_sets(dataset)
    keys = {other: find_roles(dataset)[found.source] for other, found in own.items()}
    others = [
        other for other in _TESTED_ACROSS
        if other in own and other != role and catalog.is_here(catalog.find(keys[other]))
    ]
    # a dataset with wild faces alone meets FACSynth's posed ones, and one with posed faces alone its wild ones
    return others or [other for other in ("lab", "basic") if other not in own]


def list_folds(dataset: str, faces: FaceDataset, role: str, recipe: StageOne) -> list[Split]:
    """The splits of a role's faces, by the paper's protocol or their owners' parts; a smoke test runs two folds.

    Parameters
    ----------
    dataset : str
    faces : FaceDataset
        All of the role.
    role : str
    recipe : StageOne
        For ``folds``, fewer in a smoke test.
    """
    return split_set(faces, find_sets(dataset)[role].protocol, recipe.folds)


def find_tested(dataset: str, faces: FaceDataset, role: str) -> np.ndarray:
    """Positions of the faces that are tested: those of all folds, or of the owners' part.

    Parameters
    ----------
    dataset : str
    faces : FaceDataset
        All of the role.
    role : str
    """
    found = find_sets(dataset)[role]
    if found.protocol.folds is not None:
        return np.arange(len(faces))
    return np.flatnonzero(np.isin(faces.split, [found.protocol.part, *found.also.values()]))


def take_training(train: FaceDataset, role: str, seed: int) -> FaceDataset:
    """The training faces of a role as the paper trains on them; of JAFFE five of each (4.1.1).

    Parameters
    ----------
    train : FaceDataset
    role : str
    seed : int
        Draws the five.
    """
    return augment_faces(train, seed) if role == "lab-small" else train


# -- stage one ---------------------------------------------------------------------------------------------------------


def train_network(
    context: RunContext, train: FaceDataset, recipe: StageOne, name: str, *, attention: bool = True,
    parts: tuple[bool, bool] = (True, True),
) -> tuple[SerdNetwork, History]:
    """Build and train a network of stage one, then round its weights to half precision. A killed run goes on.

    Parameters
    ----------
    context : RunContext
    train : FaceDataset
        Training faces alone.
    recipe : StageOne
    name : str
        Of the training in the run's folder.
    attention, parts
        See :func:`~fer_utils.papers.dam_cnn.stages.build_serd_network` and
        :func:`~fer_utils.papers.dam_cnn.stages.train_first`.
    """
    seed = context.seed or 0
    network = build_serd_network(recipe, len(train.classes), seed, attention=attention)
    history = train_first(network, train, recipe, seed, _place(context, name), parts=parts)
    network.load_state_dict({name: _round(value) for name, value in network.state_dict().items()})
    return network, history


def _place(context: RunContext, name: str) -> Path:
    return context.workdir / f"{name}.safetensors"


def _round(value: torch.Tensor) -> torch.Tensor:
    """To half precision and back, but for what does not fit its range."""
    half = value.to(torch.float16).to(value.dtype) if value.is_floating_point() else value
    return half if bool(half.isfinite().all()) else value


def _list_trained(network: SerdNetwork, recipe: StageOne) -> dict[str, torch.Tensor]:
    """Weights of the trunk and the mask that stage one moved, by name."""
    part = part_for(network, recipe)
    return {
        f"{module}.{name}": value
        for module in ("trunk", "serd") for name, value in getattr(part, module).state_dict().items()
    }


def save_trunk_and_mask(context: RunContext, name: str, network: SerdNetwork, recipe: StageOne) -> None:
    """Leave what stage two starts from, in half precision; see :func:`load_trunk_and_mask`.

    Parameters
    ----------
    context : RunContext
    name : str
    network : SerdNetwork
    recipe : StageOne
        The one that it was built by.
    """
    found = _list_trained(network, recipe)
    context.save_arrays(name, {key: value.cpu().numpy().astype(np.float16) for key, value in found.items()})


def load_trunk_and_mask(context: RunContext, id: str, name: str, recipe: StageOne, num_classes: int) -> SerdNetwork:
    """Load what a run of another experiment left by :func:`save_trunk_and_mask`; the last layers are new.

    Parameters
    ----------
    context : RunContext
    id : str
        The other experiment.
    name : str
        As it was saved.
    recipe : StageOne
        The one that the network was built by.
    num_classes : int

    Raises
    ------
    DataError
        If it is missing or damaged.
    """
    network = build_serd_network(recipe, num_classes, context.seed or 0)
    own = _list_trained(network, recipe)
    arrays = context.load_arrays(id, name, tuple(own))
    with torch.no_grad():
        for key, value in own.items():
            value.copy_(torch.from_numpy(arrays[key]))
    return network.eval()


# -- scores ------------------------------------------------------------------------------------------------------------


def score_set(dataset: str, row: str, role: str, faces: FaceDataset, guess: np.ndarray, **kept: Any) -> list[Score]:
    """Score predictions for a role's faces, and for those of further parts that the same networks were asked about.

    Parameters
    ----------
    dataset, row, role : str
    faces : FaceDataset
    guess : int ``[N]``
        Of all faces; below 0 for those that no fold tested.
    **kept
        For the role itself, see :func:`~fer_utils.experiments.scores.score_faces`.
    """
    found = find_sets(dataset)[role]
    parts = {role: guess if found.protocol.folds else np.where(faces.split == found.protocol.part, guess, -1)}
    parts |= {other: np.where(faces.split == part, guess, -1) for other, part in found.also.items()}
    return [score_faces(row, name, faces, own, **(kept if name == role else {})) for name, own in parts.items()]

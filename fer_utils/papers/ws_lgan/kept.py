"""What the experiments of WS-LGAN share: where attention maps and first weights come from, and what is kept.

A branch of the generator is trained once for a seed, in ``ws-lgan/attributes``; a network once for a method and a seed,
in the experiment that :data:`TRAINED` names. All else reads the files that these left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import cdist

from ...datasets.base import FaceDataset
from ...errors import DataError
from ...experiments.context import RunContext
from ...experiments.faces import find_roles, fingerprint_faces, limit_per_class, load_role
from ...experiments.registry import Setup
from ...training.features import compute_batches
from .model import PARTS, AttentionMapGenerator, AttributeNetwork

__all__ = [
    "ELSEWHERE", "GENERATOR", "RENDERED", "SEEDS", "TRAINED", "Kept", "compute_maps", "find_home", "find_pretraining",
    "limit_seeds", "load_branches", "load_faces", "load_kept", "load_rendered", "measure_separation", "save_kept",
]

#: The experiment that trains the generator's branches.
GENERATOR = "ws-lgan/attributes"
#: Method to the experiment that trains its networks.
TRAINED: Mapping[str, str] = {
    "WS-LGAN": "ws-lgan/table-8", "GFNet": "ws-lgan/table-8", "LFNet": "ws-lgan/table-8",
    "WS-LGAN-Sum": "ws-lgan/table-9", "WS-LGAN-Concat": "ws-lgan/table-9", "WS-LGAN-WCL": "ws-lgan/table-10",
}
#: How often the book trains a network: minutes each, and eleven of them for a method and a seed.
SEEDS = {"book": 5}
#: The same on other faces than FACSynth's.
ELSEWHERE = 3
#: The dataset whose attributes and regions are known because they were rendered.
RENDERED = "facsynth"
#: The dataset with whose results branches that learned from CelebA are kept.
_REAL = "rafdb"
#: Real faces that are free, as FACSynth is: a reader who has them may well have neither CelebA nor FER2013.
_FREE = ("muxspace",)
#: Of these the papers take the last three frames of a sequence, and contempt as the seventh class.
_SEQUENCES = ("facsynth-lab", "ckplus")
_APEX: Mapping[str, Any] = {"frames": "apex3", "classes": 7}
#: Rows of a matrix of distances at a time: 256 of 12,000 are 25 MB.
_BLOCK = 256


# -- from where --------------------------------------------------------------------------------------------------------


def find_home(dataset: str) -> str:
    """The dataset with whose results the generator of a dataset is kept.

    FACSynth's own for FACSynth and for muxspace, which have no attributes of real faces beside them. For gated datasets
    that which learned from CelebA, as the paper has it; it is kept once, with RAF-DB, whose faces play no part in it.
    """
    return RENDERED if dataset.startswith(RENDERED) or dataset in _FREE else _REAL


def find_pretraining(dataset: str) -> str | None:
    """What networks are trained on before: FER2013 as in IV-C; None for FACSynth, muxspace and FER2013 itself."""
    return "fer2013" if find_home(dataset) == _REAL and dataset != "fer2013" else None


def limit_seeds(setup: Setup) -> tuple[int, ...]:
    """The seeds of an experiment, fewer on other faces than FACSynth's, unless somebody asked for a number."""
    if setup.asked:
        return setup.seeds
    return setup.seeds if setup.dataset.startswith(RENDERED) else setup.seeds[:ELSEWHERE]


def load_branches(context: RunContext) -> tuple[AttributeNetwork, AttributeNetwork]:
    """Load the trained branches of eyes and mouth of this run's seed, from :func:`find_home`.

    Raises
    ------
    DataError
        If they are missing or damaged.
    """
    home = replace(context, dataset=find_home(context.dataset))  # what is read is noted in this run's own list
    found = []
    for part in PARTS:
        branch = home.load_network(GENERATOR, part)
        if not isinstance(branch, AttributeNetwork):
            path = home.find_file(GENERATOR, home.name_file(part, "safetensors"))
            raise DataError.at(path, f"holds a {branch.name}", "a branch of the generator")
        found.append(branch)
    return found[0], found[1]


def load_faces(context: RunContext, role: str, images: int | None) -> FaceDataset:
    """Load a role's faces as the paper takes them.

    Parameters
    ----------
    context : RunContext
    role : str
    images : int or None
        At most so many of each class and part.
    """
    options = _APEX if find_roles(context.dataset).get(role) in _SEQUENCES else {}
    return limit_per_class(context.load_faces(role, **options), images)


def load_rendered(context: RunContext, role: str, images: int | None) -> tuple[str, FaceDataset]:
    """Load FACSynth's faces with their regions, for whatever dataset a generator is kept with.

    Parameters
    ----------
    context : RunContext
    role : {"basic", "lab"}
    images : int, optional
        As in :func:`load_faces`.

    Returns
    -------
    str
        What to call the role in a score: ``"basic"``, or ``"facsynth basic"`` where these are another dataset's faces.
    FaceDataset
        With ``masks``.
    """
    options: dict[str, Any] = {"masks": True, **(_APEX if role == "lab" else {"more": True})}
    if context.dataset == RENDERED:
        return role, limit_per_class(context.load_faces(role, **options), images)
    faces, name = load_role(RENDERED, role, **options), f"{RENDERED} {role}"
    found = {"role": name, "options": options, **fingerprint_faces(RENDERED, faces, role, options)}
    if found not in context.loaded:
        context.loaded.append(found)
    return name, limit_per_class(faces, images)


def compute_maps(branches: tuple[AttributeNetwork, AttributeNetwork], evidence: str, faces: FaceDataset) -> np.ndarray:
    """Attention maps of eyes and mouth, float32 ``[N, 2, H, W]``, of whole faces.

    Parameters
    ----------
    branches : (AttributeNetwork, AttributeNetwork)
        Of eyes and mouth.
    evidence : {"predicted", "positive"}
        See :meth:`~fer_utils.papers.ws_lgan.model.AttributeNetwork.compute_evidence`.
    faces : FaceDataset
    """
    generator = AttentionMapGenerator(*branches, evidence)
    # one of them may come from a training on a GPU, the other from a file
    generator.to(next(branches[0].parameters()).device)
    return torch.cat(list(compute_batches(generator, branches[0], faces.images, 256))).numpy()


# -- what is kept ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Kept:
    """What is kept of a method's trainings, besides the weights of that in the wild.

    Attributes
    ----------
    guesses : dict of str to int8 ``[N]``
        By role, what the networks say of its faces: of the test part, or in the lab each fold's network of its own
        fold; -1 for a face that no fold tested.
    separations : dict of str to float32 ``[N, P]``
        By role, :func:`measure_separation` of each branch; of the methods that are compared in it.
    """

    guesses: Mapping[str, np.ndarray]
    separations: Mapping[str, np.ndarray]


def save_kept(context: RunContext, method: str, kept: Kept) -> None:
    """Leave what is kept; see :func:`load_kept`.

    Parameters
    ----------
    context : RunContext
    method : str
    kept : Kept
    """
    arrays = {f"guess {role}": values for role, values in kept.guesses.items()}
    arrays |= {f"separation {role}": values for role, values in kept.separations.items()}
    context.save_arrays(method, arrays)


def load_kept(context: RunContext, method: str, id: str | None = None) -> Kept:
    """Load what a method's run of this seed left.

    Parameters
    ----------
    context : RunContext
    method : str
    id : str, optional
        The experiment; that of :data:`TRAINED` by default.

    Raises
    ------
    DataError
        If it is missing or damaged.
    """
    arrays = context.load_arrays(id or TRAINED[method], method)
    return Kept(*({key.removeprefix(f"{kind} "): value for key, value in arrays.items() if key.startswith(f"{kind} ")}
                  for kind in ("guess", "separation")))


# -- how far classes lie apart -----------------------------------------------------------------------------------------


def measure_separation(features: np.ndarray, labels: np.ndarray, people: np.ndarray | None = None) -> np.ndarray:
    """How many times as far from a face those of other classes lie as those of its own, by mean distances.

    Only faces of other people count, where people are known: frames of one sequence are nearly equal and would decide
    it.

    Parameters
    ----------
    features : float ``[N, C]``
    labels : int ``[N]``
    people : int ``[N]``, optional

    Returns
    -------
    float64 ``[N]``
        1 where classes play no part; NaN for a face that has nobody else of its class, or no other class, beside it, or
        lies upon them.
    """
    people = np.arange(len(labels)) if people is None else people
    ratios = np.full(len(labels), np.nan)
    for start in range(0, len(labels), _BLOCK):
        rows = slice(start, start + _BLOCK)
        distances = cdist(features[rows], features)  # [B, N]
        others = people[rows, None] != people
        alike = labels[rows, None] == labels
        sums = [(distances * chosen).sum(1) for chosen in (others & alike, others & ~alike)]
        counts = [chosen.sum(1) for chosen in (others & alike, others & ~alike)]
        known = (counts[0] > 0) & (counts[1] > 0) & (sums[0] > 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            ratios[rows] = np.where(known, (sums[1] / counts[1]) / (sums[0] / counts[0]), np.nan)
    return ratios

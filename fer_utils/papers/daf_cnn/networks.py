"""What the experiments of Zhou et al. share: faces, people who are held back, one training, and what is kept of it.

The four networks of Table 1 are trained once a seed, in ``daf-cnn/table-1``; other tables and figures read their
weights and what they said of the test faces. Keras is imported by whoever trains or asks a network, so that
experiments can be listed without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...datasets.base import FaceDataset
from ...experiments.context import RunContext
from ...experiments.faces import keep_classes, limit_per_class
from ...experiments.registry import Setup
from ...experiments.scores import Score, score_faces
from ...labels import BASIC
from ...splits import validation_split
from .recipe import DAFCNN

__all__ = [
    "OTHERS_SEEDS",
    "SEEDS",
    "TABLE",
    "ask_network",
    "guess_faces",
    "hold_back",
    "list_curves",
    "list_small_roles",
    "load_network",
    "load_small_set",
    "load_wild",
    "measure_kept",
    "save_network",
    "train_network",
]

#: The experiment that trains the networks which the others read.
TABLE = "daf-cnn/table-1"
#: How often the book trains the four networks of Table 1; one training takes a dozen minutes.
SEEDS = {"book": 5}
#: And what is trained besides: claims on it are seen less sharply, as the plans say.
OTHERS_SEEDS = {"book": 3}


# -- faces -------------------------------------------------------------------------------------------------------------


def load_wild(context: RunContext, recipe: DAFCNN, **options: Any) -> FaceDataset:
    """Load the large set; of a smoke test only the first ``recipe.images`` of each class and part.

    Parameters
    ----------
    context : RunContext
    recipe : DAFCNN
    **options
        For the loader.
    """
    return limit_per_class(context.load_faces("basic", **options), recipe.images)


def list_small_roles(setup: Setup) -> list[str]:
    """The small sets that a dataset has beside a large one: posed sequences, and SFEW 2.0, which is the paper's."""
    return [role for role in ("lab", "film") if role in setup.roles and "basic" in setup.roles]


def load_small_set(context: RunContext, role: str, recipe: DAFCNN) -> FaceDataset:
    """Load a small set with the large one's classes; of sequences the last three frames and, as neutral, the first.

    Parameters
    ----------
    context : RunContext
    role : str
        ``lab`` for sequences.
    recipe : DAFCNN
        For ``images``.
    """
    options: dict[str, Any] = {"frames": "apex3", "classes": list(BASIC)} if role == "lab" else {}
    return limit_per_class(keep_classes(context.load_faces(role, **options), BASIC), recipe.images)


def hold_back(train: FaceDataset, recipe: DAFCNN) -> tuple[FaceDataset, FaceDataset]:
    """Part training faces into those to learn from and those that the learning rate follows; the same for all seeds.

    Nobody is in both, where people are known.

    Parameters
    ----------
    train : FaceDataset
    recipe : DAFCNN
        For ``validation``.

    Returns
    -------
    FaceDataset, FaceDataset
    """
    split = validation_split(train, recipe.validation)
    return train.subset(split.train), train.subset(split.test)


# -- one training ------------------------------------------------------------------------------------------------------


def train_network(
    context: RunContext,
    learned: FaceDataset,
    watched: FaceDataset,
    recipe: DAFCNN,
    *,
    metric: bool,
    start: Any = None,
    checkpoint: str = "training",
) -> Any:
    """Train a network; a killed run goes on.

    Parameters
    ----------
    context : RunContext
    learned, watched : FaceDataset
        Of :func:`hold_back`.
    recipe : DAFCNN
    metric : bool
        Whether the triplet-centre loss has a part.
    start : keras.Model, optional
        Whose weights it starts with, but for the last layer.
    checkpoint : str
        Name of the file, where a run trains more than one.

    Returns
    -------
    Trained
        Of ``training.py``.
    """
    from .model import copy_layers
    from .objective import make_objective
    from .training import build_network, prepare_faces, train

    seed = context.seed or 0
    network = build_network(recipe, len(learned.classes), seed=seed)
    if start is not None:
        copy_layers(start, network)
    model = make_objective(network, recipe, metric=metric, seed=seed)
    parts = [(prepare_faces(faces.images, recipe), faces.labels) for faces in (learned, watched)]
    return train(model, *parts, recipe, seed=seed, checkpoint=context.workdir / f"{checkpoint}.safetensors")


def list_curves(trained: Any) -> dict[str, list[float]]:
    """Of each epoch the loss, the held-back accuracy and the rate; and when the best weights came back."""
    curves = {
        name: [log[key] for log in trained.logs]
        for name, key in (("loss", "loss"), ("held-back accuracy", "val_accuracy"))
    }
    plateau = trained.plateau
    return {**curves, "learning rate": plateau.rates, "reloads": [float(epoch) for epoch in plateau.reloads]}


def guess_faces(model: Any, faces: FaceDataset, recipe: DAFCNN) -> np.ndarray:
    """What a trained model says of faces, int8 ``[N]``: of scores that are no numbers, the first class.

    Parameters
    ----------
    model : JointSupervision
    faces : FaceDataset
    recipe : DAFCNN
        The one that its network was built by.
    """
    from .training import prepare_faces

    return (
        model.predict(prepare_faces(faces.images, recipe), batch_size=256, verbose=0)["scores"]
        .argmax(1)
        .astype(np.int8)
    )


# -- what is kept of it ------------------------------------------------------------------------------------------------


def save_network(context: RunContext, name: str, network: Any, recipe: DAFCNN) -> None:
    """Leave a trained network in half precision; see :func:`load_network`.

    Parameters
    ----------
    context : RunContext
    name : str
        The row.
    network : keras.Model
    recipe : DAFCNN
        The one that it was built by.
    """
    from .training import save_network as write

    path = context.workdir / "network.safetensors"
    provenance = {"method": name, "seed": context.seed, "dataset": context.dataset, "recipe": recipe.as_arguments()}
    write(network, path, recipe, provenance)
    context.save_file(context.name_file(name, "safetensors"), path.read_bytes())


def load_network(context: RunContext, name: str) -> Any:
    """Load a network of Table 1, for this run's seed.

    Parameters
    ----------
    context : RunContext
    name : str
        The row.

    Returns
    -------
    keras.Model

    Raises
    ------
    DataError
        If it is missing or damaged.
    """
    from .training import load_network as read

    return read(context.find_file(TABLE, context.name_file(name, "safetensors")))[0]


def ask_network(network: Any, faces: FaceDataset, recipe: DAFCNN, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Compute what layers of a network give of whole faces.

    Parameters
    ----------
    network : keras.Model
    faces : FaceDataset
    recipe : DAFCNN
        The one that the network was built by.
    names : sequence of str
        Of the layers.

    Returns
    -------
    dict of str to float32 ``[N, ...]``
    """
    from .training import compute_layers, prepare_faces

    return compute_layers(network, prepare_faces(faces.images, recipe), names)


def measure_kept(context: RunContext, id: str, name: str, row: str, role: str, recipe: DAFCNN) -> list[Score]:
    """Score what a network of another table said of its test faces, as a row of this one.

    Parameters
    ----------
    context : RunContext
    id, name : str
        The other table and its row, which left ``guess``.
    row, role : str
    recipe : DAFCNN
    """
    faces = load_wild(context, recipe).test if role == "basic" else load_small_set(context, role, recipe)
    return [score_faces(row, role, faces, context.load_arrays(id, name, ("guess",))["guess"])]

"""What the network experiments of Li & Deng 2019 share: one training, what is kept of it, and classifiers on its features.

A network is trained once for a method and a seed, in ``dlp-cnn/table-6`` or, off the paper's lambda and k, in a sweep. What the other
tables and figures need of it they read from the files that it left: its weights and its :class:`Trace`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...classifiers import LDANearestNeighbour, LinearSVM
from ...datasets.base import FaceDataset
from ...experiments.context import RunContext
from ...experiments.faces import limit_per_class
from ...experiments.registry import Setup
from ...models import FaceModel, build_model
from ...splits import Split, validation_split
from ...training import FitSettings, WatchErrors, fit, predict, prepare_images
from .objective import make_objective
from .recipe import DLPCNN

__all__ = [
    "ELSEWHERE", "METHODS", "RIVALS", "SEEDS", "SWEPT_ELSEWHERE", "SWEPT_SEEDS", "TABLE", "Trace", "build_network", "classify_features",
    "limit_seeds", "load_faces", "load_trace", "save_trace", "train_network",
]

#: Method to architecture; the first three are one network under three losses.
METHODS: Mapping[str, str] = {
    "baseDCNN": "base_dcnn", "center loss": "base_dcnn", "DLP-CNN": "base_dcnn",
    "AlexNet from scratch": "alexnet", "VGG from scratch": "vgg",
}
#: Methods with a loss on features, which figures compare.
RIVALS = ("DLP-CNN", "center loss")
#: The experiment that trains the networks which the others read.
TABLE = "dlp-cnn/table-6"
#: How often the book trains a network of Table VI, and one of a sweep: by what a plan says that the claims need.
SEEDS = {"book": 10}
SWEPT_SEEDS = {"book": 5}
#: The same on other faces than FACSynth's, where a claim is looked at once more and fewer test faces can be told apart anyway.
ELSEWHERE, SWEPT_ELSEWHERE = 5, 3


def limit_seeds(setup: Setup, elsewhere: int, here: int | None = None) -> tuple[int, ...]:
    """The seeds of an experiment, fewer where they decide less, unless somebody asked for a number.

    Parameters
    ----------
    setup : Setup
    elsewhere : int
        At most so many on other faces than FACSynth's.
    here : int, optional
        At most so many on FACSynth.
    """
    if setup.asked:
        return setup.seeds
    return setup.seeds[: here if setup.dataset.startswith("facsynth") else elsewhere]


def load_faces(context: RunContext, role: str, recipe: DLPCNN, **options: Any) -> FaceDataset:
    """Load the faces of a role; of a smoke test only the first ``recipe.images`` of each class and part.

    Parameters
    ----------
    context : RunContext
    role : str
    recipe : DLPCNN
    **options
        For the loader.
    """
    return limit_per_class(context.load_faces(role, **options), recipe.images)


def build_network(method: str, recipe: DLPCNN, seed: int, num_classes: int = 7) -> FaceModel:
    """Build the network of a method; those of one architecture and seed start alike.

    Parameters
    ----------
    method : str
        A key of ``METHODS``.
    recipe : DLPCNN
    seed : int
    num_classes : int

    Raises
    ------
    ValueError
        For an unknown method.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; expected one of {', '.join(METHODS)}")
    options = {"depth": recipe.vgg_depth} if METHODS[method] == "vgg" else {}
    return build_model(
        METHODS[method], seed=seed, num_classes=num_classes, width=recipe.width, in_channels=1, input_size=recipe.input_size,
        image_size=recipe.image_size, **options,
    )


@dataclass(frozen=True, eq=False)
class Trace:
    """What is kept of a training, besides weights.

    Attributes
    ----------
    guess : int8 ``[N]``
        What the network itself says of the test faces when it is trained, as positions in the classes.
    losses : float32 ``[steps]``
        Of each batch; in half precision in the file.
    wrong : bool ``[points, N]``
        Which test faces it got wrong on the way, the end included; only the end for softmax.
    guesses : dict of str to int8 ``[M]``
        What a classifier on its features says, by ``<classifier> <faces>``.
    """

    guess: np.ndarray
    losses: np.ndarray
    wrong: np.ndarray
    guesses: Mapping[str, np.ndarray]


def save_trace(context: RunContext, name: str, trace: Trace) -> None:
    """Leave a trace; see :func:`load_trace`.

    Parameters
    ----------
    context : RunContext
    name : str
    trace : Trace
    """
    guesses = {f"guess {key}": guess for key, guess in trace.guesses.items()}
    packed = {"guess": trace.guess, "losses": trace.losses.astype(np.float16), "wrong": np.packbits(trace.wrong, axis=1)}
    context.save_arrays(name, packed | guesses)


def load_trace(context: RunContext, id: str, name: str) -> Trace:
    """Load the trace that a run of another experiment left, for this run's seed.

    Parameters
    ----------
    context : RunContext
    id : str
        The other experiment.
    name : str
        As it was saved.

    Raises
    ------
    DataError
        If it is missing or damaged.
    """
    arrays = context.load_arrays(id, name, ("guess", "losses", "wrong"))
    guess = arrays["guess"]
    wrong = np.unpackbits(arrays["wrong"], axis=1, count=len(guess)).astype(bool)
    guesses = {key.removeprefix("guess "): value for key, value in arrays.items() if key.startswith("guess ")}
    return Trace(guess, arrays["losses"].astype(np.float32), wrong, guesses)


def train_network(
    context: RunContext, faces: FaceDataset, method: str, recipe: DLPCNN, *, weight: float | None = None, neighbours: int | None = None
) -> tuple[FaceModel, Trace]:
    """Train a network for basic emotions, on training faces alone, and ask it for the test faces. A killed run goes on.

    Parameters
    ----------
    context : RunContext
    faces : FaceDataset
        With a train and a test part.
    method : str
        Of :data:`METHODS`.
    recipe : DLPCNN
    weight, neighbours : float and int, optional
        Lambda and k, the recipe's by default.
    """
    seed, train, test = context.seed or 0, faces.train, faces.test
    model = build_network(method, recipe, seed, len(faces.classes))
    objective = make_objective(method, model, train, recipe, seed, weight=weight, neighbours=neighbours)
    watched = []
    if method in RIVALS:  # grey and small once, for all points of the curve of Fig. 10(a)
        images = prepare_images(test.images, model.in_channels, model.image_size)[:, 0].numpy()
        watched = [WatchErrors(images, test.labels, recipe.watch_every, recipe.iterations)]
    rate = recipe.learning_rate if METHODS[method] == "base_dcnn" else recipe.others_learning_rate
    settings = FitSettings(
        steps=recipe.iterations, batch_size=recipe.batch_size, learning_rate=rate, momentum=recipe.momentum,
        milestones=tuple(recipe.milestones), gamma=recipe.gamma, weight_decay=recipe.weight_decay,
        last_weight_decay=recipe.last_weight_decay, seed=seed, precision=recipe.precision,
    )
    history = fit(
        model, train, settings, objective=objective, hooks=watched,
        checkpoint=context.workdir / "training.safetensors", progress=False,
    )
    guess = predict(model, test.images)
    wrong = np.concatenate([*(hook.wrong.numpy() for hook in watched), (guess != test.labels)[None]])
    return model, Trace(guess.astype(np.int8), history.losses, wrong, {})


def classify_features(
    train_features: np.ndarray, train: FaceDataset, test_features: np.ndarray, recipe: DLPCNN, validation: Split | list[Split] | None = None
) -> tuple[dict[str, np.ndarray], float]:
    """Classify features as the paper does its descriptors' (V-A, V-B).

    Parameters
    ----------
    train_features, test_features : float32 ``[N, D]`` and ``[M, D]``
    train : FaceDataset
        The ``N`` training faces.
    recipe : DLPCNN
    validation : Split or list of Split, optional
        Of the training faces, to choose C on; by default a share of them.

    Returns
    -------
    dict of str to int64 ``[M]``
        Predictions of ``mSVM`` and ``LDA``.
    float
        The chosen C.
    """
    machine = LinearSVM(recipe.C).fit(train_features, train.labels, validation=validation or validation_split(train, recipe.validation))
    nearest = LDANearestNeighbour().fit(train_features, train.labels)
    return {"mSVM": machine.predict(test_features), "LDA": nearest.predict(test_features)}, machine.C_

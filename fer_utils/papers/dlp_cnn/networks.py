"""What the network experiments of Li & Deng 2019 share: one training, what is kept of it, and classifiers on its features.

A network is trained once for a method and a seed, in ``dlp-cnn/table-6`` or, off the paper's lambda and k, in a sweep. What the other
tables and figures need of it they read from the files that it left: its weights (:func:`read_network`) and its :class:`Trace`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ...classifiers import LDANearestNeighbour, LinearSVM
from ...datasets.base import FaceDataset
from ...errors import DataError
from ...experiments.faces import take_first
from ...experiments.registry import Task
from ...losses import CenterLoss, FeatureBank, LocalityPreservingLoss
from ...models import FaceModel, build_model
from ...splits import Split, validation_split
from ...training import FitSettings, fit, load_checkpoint, predict, prepare_images, save_checkpoint
from .recipe import DLPCNN

__all__ = [
    "METHODS", "RIVALS", "TABLE", "Trace", "build_network", "classify_features", "load_faces", "make_loss", "name_file", "read_network",
    "read_trace", "save_network", "train_network",
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


def load_faces(task: Task, role: str, recipe: DLPCNN, **options: Any) -> FaceDataset:
    """Load the faces of a role; of a smoke test only the first ``recipe.images`` of each class and part."""
    return take_first(task.load(role, **options), recipe.images)


def build_network(method: str, recipe: DLPCNN, seed: int, num_classes: int = 7) -> FaceModel:
    """Build the network of a method; those of one architecture and seed start alike.

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


def make_loss(method: str, model: FaceModel, train: FaceDataset, recipe: DLPCNN, neighbours: int) -> nn.Module | None:
    """The loss on features of a method, None for softmax alone."""
    if method == "DLP-CNN":
        return LocalityPreservingLoss(neighbours, bank=FeatureBank(train.labels, model.embedding_size))
    if method == "center loss":
        return CenterLoss(len(train.classes), model.embedding_size, alpha=recipe.centre_rate)
    return None


class _Watched(nn.Module):
    """A loss on features that also measures the test faces now and then, for Fig. 10(a); nothing is chosen by what it sees.

    What it saw is in buffers, so a resumed training has the whole curve.
    """

    def __init__(self, loss: nn.Module, model: FaceModel, test: FaceDataset, every: int, iterations: int) -> None:
        super().__init__()
        images = prepare_images(test.images, model.in_channels, model.image_size)[:, 0].numpy()  # grey, and once for all points
        self.loss, self.every = loss, every
        self._watched = (model, images, test.labels)  # in a tuple, so that the model is no part of this module
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("wrong", torch.zeros((iterations - 1) // every, len(test), dtype=torch.bool))

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        """The loss of features ``[B, D]``, labels and indices ``[B]``."""
        step = int(self.step)
        if step and step % self.every == 0:
            model, images, truth = self._watched
            self.wrong[step // self.every - 1] = torch.from_numpy(predict(model, images) != truth).to(self.wrong.device)
        self.step += 1
        return self.loss(embeddings, labels, indices)


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

    def pack(self) -> bytes:
        """As the content of a file; see :func:`read_trace`."""
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer, guess=self.guess, losses=self.losses.astype(np.float16), wrong=np.packbits(self.wrong, axis=1),
            **{f"guess {name}": guess for name, guess in self.guesses.items()},
        )
        return buffer.getvalue()


def name_file(method: str, seed: int, ending: str) -> str:
    """How a file that a training left is called, such as ``center-loss-0.npz``."""
    return f"{method.replace(' ', '-')}-{seed}.{ending}"


def read_trace(task: Task, id: str, name: str) -> Trace:
    """Read what :meth:`Trace.pack` wrote, of another experiment. Raises ``DataError`` if it is missing or damaged."""
    path = task.find_checkpoint(id, name)
    try:
        with np.load(path, allow_pickle=False) as file:
            guesses = {key.removeprefix("guess "): file[key] for key in file.files if key.startswith("guess ")}
            guess = file["guess"]
            wrong = np.unpackbits(file["wrong"], axis=1, count=len(guess)).astype(bool)
            return Trace(guess, file["losses"].astype(np.float32), wrong, guesses)
    except Exception as error:  # NumPy passes on whatever zip, zlib and its own parser raise
        raise DataError.at(path, f"cannot be read ({error})", "a trace of a training") from error


def read_network(task: Task, method: str) -> FaceModel:
    """Load the trained network of a method of Table VI, for the task's seed. Raises ``DataError`` if it is missing."""
    return load_checkpoint(task.find_checkpoint(TABLE, name_file(method, task.seed or 0, "safetensors")))[0]


def save_network(task: Task, model: FaceModel, method: str, recipe: Mapping[str, Any]) -> bytes:
    """The content of a file to ship: the network in half precision, with its method, seed and recipe."""
    path = Path(task.workdir) / "network.safetensors"
    save_checkpoint(model, path, provenance={"method": method, "seed": task.seed, "dataset": task.dataset, "recipe": dict(recipe)})
    return path.read_bytes()


def train_network(
    task: Task, faces: FaceDataset, method: str, recipe: DLPCNN, *, weight: float | None = None, neighbours: int | None = None
) -> tuple[FaceModel, Trace]:
    """Train a network for basic emotions, on training faces alone, and ask it for the test faces. A killed run goes on.

    Parameters
    ----------
    task : Task
    faces : FaceDataset
        With a train and a test part.
    method : str
        Of :data:`METHODS`.
    recipe : DLPCNN
    weight, neighbours : float and int, optional
        Lambda and k, the recipe's by default.
    """
    seed, train, test = task.seed or 0, faces.train, faces.test
    model = build_network(method, recipe, seed, len(faces.classes))
    loss = make_loss(method, model, train, recipe, neighbours or recipe.neighbours)
    watched = None if loss is None else _Watched(loss, model, test, recipe.watch_every, recipe.iterations)
    settings = FitSettings(
        steps=recipe.iterations, batch_size=recipe.batch_size, learning_rate=recipe.learning_rate, momentum=recipe.momentum,
        milestones=tuple(recipe.milestones), gamma=recipe.gamma, weight_decay=recipe.weight_decay,
        last_weight_decay=recipe.last_weight_decay, seed=seed, precision="float32",  # Caffe's, and the same on every machine
        metric_weight=0.0 if watched is None else recipe.weight if weight is None else weight,
    )
    history = fit(model, train, settings, metric_loss=watched, checkpoint=task.workdir / "training.safetensors", progress=False)
    guess = predict(model, test.images)
    seen = np.zeros((0, len(test)), bool) if watched is None else watched.wrong.cpu().numpy()
    wrong = np.concatenate([seen, (guess != test.labels)[None]])
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

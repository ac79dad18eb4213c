"""Features of the four losses, measured: the toy of Fig. 1, trained for real, and Fig. 5 of Li et al. 2021."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from ...datasets.base import FaceDataset
from ...experiments.context import RunContext
from ...experiments.registry import Run, Setup, register_experiment
from ...experiments.scores import Score, score_faces, score_predictions
from ...models import FaceModel
from ...training import FitSettings, Samples, extract_features, fit
from ...training.features import compute_named
from .objective import LOSSES, make_objective
from .recipe import LBANIL, Toy
from .traces import LOSS_TABLE, SEEDS, load_faces, load_trace, plan_losses

__all__ = [
    "PlaneNetwork", "draw_points", "measure_features", "measure_geometry", "measure_network_geometry", "measure_toy",
    "train_toy",
]


def measure_geometry(features: np.ndarray, labels: np.ndarray, centres: np.ndarray) -> dict[str, np.ndarray]:
    """Measure how features lie about class centres, one number a sample.

    Parameters
    ----------
    features : float ``[N, D]``
    labels : int ``[N]``
        Positions in ``centres``.
    centres : float ``[K, D]``

    Returns
    -------
    dict of str to float64 ``[N]``
        With ``a`` the distance to the own centre and ``b`` that to the nearest other: ``silhouette``, ``(b - a) /
        max(a, b)``; ``spread``, ``a`` over the mean distance from the own centre to the others; ``centre distance``,
        from the own centre to the nearest other; ``length``, of the feature.
    """
    rows = np.arange(len(labels))
    # wide enough for squares of small differences
    features, centres = features.astype(np.float64), centres.astype(np.float64)
    distances = np.linalg.norm(features[:, None] - centres, axis=2)  # [N, K]
    own = distances[rows, labels]
    distances[rows, labels] = np.inf
    nearest = distances.min(axis=1)
    between = np.linalg.norm(centres[:, None] - centres, axis=2)  # [K, K]
    mean = between.sum(axis=1) / (len(centres) - 1)
    np.fill_diagonal(between, np.inf)
    return {
        "silhouette": (nearest - own) / np.maximum(nearest, own), "spread": own / mean[labels],
        "centre distance": between.min(axis=1)[labels], "length": np.linalg.norm(features, axis=1),
    }


def find_means(features: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """The mean feature of each class, ``[K, D]``."""
    return np.stack([features[labels == k].mean(axis=0) for k in range(count)])


def _average(values: Mapping[str, np.ndarray]) -> dict[str, float]:
    return {name: float(each.mean()) for name, each in values.items()}


# -- Figure 5 ----------------------------------------------------------------------------------------------------------


@register_experiment("lban-il/figure-5", seeds=SEEDS, needs=(LOSS_TABLE,))
def plan_figure_5(setup: Setup) -> list[Run]:
    """The features of Table 4's networks; nothing is trained."""
    if "basic" not in setup.roles:
        return []
    return plan_losses(setup, measure_features)


def measure_features(context: RunContext, loss: str, recipe: LBANIL) -> list[Score]:
    """Measure the features that a network of Table 4 computes of the test faces.

    Parameters
    ----------
    context : RunContext
    loss : str
    recipe : LBANIL

    Returns
    -------
    list of Score
        The row ``<loss>`` with the metrics of :func:`measure_geometry`; a centre is the mean feature of a class's
        training faces.
    """
    faces = load_faces(context, "basic", recipe)
    values = measure_network_geometry(context.load_network(LOSS_TABLE, loss), faces)
    guess = load_trace(context, LOSS_TABLE, loss).guess
    return [score_faces(loss, "basic", faces.test, guess, metrics=_average(values), values=values)]


def measure_network_geometry(model: FaceModel, faces: FaceDataset) -> dict[str, np.ndarray]:
    """:func:`measure_geometry` of the test faces' features, about the class means of the training faces'.

    Parameters
    ----------
    model : FaceModel
    faces : FaceDataset
        With train and test part.
    """
    train, test = faces.train, faces.test
    centres = find_means(extract_features(model, train.images), train.labels, len(faces.classes))
    return measure_geometry(extract_features(model, test.images), test.labels, centres)


# -- Figure 1 ----------------------------------------------------------------------------------------------------------


class PlaneNetwork(nn.Module):
    """Points to two features, normalised and not rectified as LBAN's are, and from these to class scores.

    Parameters
    ----------
    recipe : Toy
    """

    embedding_size = 2

    def __init__(self, recipe: Toy) -> None:
        super().__init__()
        self.num_classes = recipe.classes
        self.body = nn.Sequential(
            nn.Linear(recipe.dimensions, recipe.hidden), nn.ReLU(), nn.Linear(recipe.hidden, self.embedding_size),
            nn.BatchNorm1d(self.embedding_size),
        )
        self.classifier = nn.Linear(self.embedding_size, recipe.classes)

    def compute_outputs(self, points: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute ``features`` ``[B, 2]`` and ``scores`` ``[B, classes]`` from points ``[B, dimensions]``."""
        features = self.body(points)
        return {"features": features, "scores": self.classifier(features)}


def draw_points(recipe: Toy) -> tuple[Samples, Samples]:
    """Draw the points that train and those that test, the same at every call: two overlapping clouds a class."""
    rng = np.random.default_rng(0)
    middles = rng.normal(0, recipe.reach, (recipe.classes, recipe.clouds, recipe.dimensions))
    classes = tuple(f"class {k + 1}" for k in range(recipe.classes))
    parts = []
    for name, count in (("train", recipe.train), ("test", recipe.test)):
        labels, clouds = np.arange(count) % recipe.classes, rng.integers(recipe.clouds, size=count)
        points = middles[labels, clouds] + rng.normal(size=(count, recipe.dimensions))
        parts.append(Samples(f"toy {name}", points.astype(np.float32), labels, classes))
    return parts[0], parts[1]


def train_toy(loss: str, seed: int, recipe: Toy, losses: LBANIL) -> PlaneNetwork:
    """Train the toy's network under a loss.

    Parameters
    ----------
    loss : str
        One of :data:`~fer_utils.papers.lban_il.objective.LOSSES`.
    seed : int
        Draws weights, centres and batches.
    recipe : Toy
    losses : LBANIL
        For how centres move, lambda 1 and lambda 2.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = PlaneNetwork(recipe)
    settings = FitSettings(
        steps=recipe.steps, batch_size=recipe.batch_size, learning_rate=recipe.learning_rate, momentum=recipe.momentum,
        milestones=(), weight_decay=recipe.weight_decay, last_weight_decay=recipe.weight_decay, precision="float32",
        seed=seed,
    )  # fmt: skip
    objective = make_objective(loss, model, losses, seed, weight=recipe.weight, centre_std=recipe.centre_std)
    fit(model, draw_points(recipe)[0], settings, objective=objective, progress=False)
    return model


@register_experiment("lban-il/figure-1", seeds={"book": 10})
def plan_figure_1(setup: Setup) -> list[Run]:
    """One training a loss and seed, seconds each, so ten seeds; faces play no part."""
    recipe, losses = Toy().at(setup.profile), LBANIL().at(setup.profile)
    return [
        Run(loss, measure_toy, {"loss": loss, "recipe": recipe, "losses": losses}, seed)
        for seed in setup.seeds for loss in LOSSES
    ]


def measure_toy(context: RunContext, loss: str, recipe: Toy, losses: LBANIL) -> list[Score]:
    """Train the toy under a loss, and measure features of test points about the means of the training points'.

    Parameters
    ----------
    context : RunContext
    loss : str
    recipe : Toy
    losses : LBANIL
        As :func:`train_toy`.

    Returns
    -------
    list of Score
        The row ``<loss>`` with the metrics of :func:`measure_geometry`. The arrays ``features`` ``[N, 2]``, ``labels``
        and ``centres`` are left, to be drawn.
    """
    train, test = draw_points(recipe)
    model = train_toy(loss, context.seed or 0, recipe, losses)
    known, features = (compute_named(model, part.inputs, "features") for part in (train, test))
    centres = find_means(known, train.labels, recipe.classes)
    guess = compute_named(model, test.inputs, "scores").argmax(axis=1)
    values = measure_geometry(features, test.labels, centres)
    context.save_arrays(
        loss, {"features": features.astype(np.float16), "labels": test.labels.astype(np.int8), "centres": centres}
    )
    return [score_predictions(loss, "", test.labels, guess, train.classes, metrics=_average(values), values=values)]

"""What the networks of Li & Deng 2019 are trained for: softmax alone, or with center loss or the locality preserving loss (eq. 6)."""

from __future__ import annotations

import torch

from ...datasets.base import FaceDataset
from ...losses import CenterLoss, FeatureBank, LocalityPreservingLoss
from ...models import FaceModel
from ...training import CrossEntropy, CrossEntropyWithMetric, Objective
from .recipe import DLPCNN

__all__ = ["make_objective"]


def make_objective(
    method: str, model: FaceModel, train: FaceDataset, recipe: DLPCNN, seed: int, *, weight: float | None = None,
    neighbours: int | None = None,
) -> Objective:
    """Make the objective of a method.

    Parameters
    ----------
    method : str
        ``"DLP-CNN"``, ``"center loss"``, or any other for softmax alone.
    model : FaceModel
    train : FaceDataset
        The faces trained on, among which neighbours are looked for.
    recipe : DLPCNN
    seed : int
        Draws the first centres.
    weight, neighbours : float and int, optional
        Lambda and k, the recipe's by default.
    """
    weight = recipe.weight if weight is None else weight
    if method == "DLP-CNN":
        bank = FeatureBank(train.labels.copy(), model.embedding_size)
        return CrossEntropyWithMetric(LocalityPreservingLoss(neighbours or recipe.neighbours, bank=bank), weight)
    if method == "center loss":
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            loss = CenterLoss(len(train.classes), model.embedding_size, alpha=recipe.centre_rate)
        return CrossEntropyWithMetric(loss, weight)
    return CrossEntropy()

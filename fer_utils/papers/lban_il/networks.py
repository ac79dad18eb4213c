"""What the experiments of Li et al. 2021 share: how a network is built and trained, and how it is asked: by ten crops of a face."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ...augment import ten_crop
from ...models import FaceModel, build_model
from ...training import FitSettings
from ...training.data import iterate_images, scale_pixels
from ...training.features import evaluation_mode, exact_cudnn
from .model import VARIANTS
from .recipe import LBANIL

__all__ = [
    "BACKBONES", "build_network", "make_settings", "predict_ten_crops", "score_ten_crops",
]

#: The backbones of Table 2: registered names, and what these are told besides sizes.
BACKBONES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "VGG19": ("slim_vgg", {}), "ResNet18": ("resnet", {"depth": 18, "in_channels": 3})
}


def build_network(row: str, recipe: LBANIL, seed: int, num_classes: int = 7, **settings: Any) -> FaceModel:
    """Build the network of a row of Tables 1 and 2; those of one row and seed start alike.

    Parameters
    ----------
    row : str
        One of :data:`~fer_utils.papers.lban_il.model.VARIANTS` or of :data:`BACKBONES`.
    recipe : LBANIL
    seed : int
        Draws weights and fixed filters.
    num_classes : int
    **settings
        For the network, in the place of the recipe's, such as ``sparsity``.

    Raises
    ------
    ValueError
        For an unknown row.
    """
    if row not in VARIANTS and row not in BACKBONES:
        raise ValueError(f"unknown row {row!r}; expected one of {', '.join([*VARIANTS, *BACKBONES])}")
    name, own = BACKBONES.get(row, ("lban", {
        "variant": row, "sparsity": recipe.sparsity, "dropout": recipe.dropout, "features": recipe.features
    }))  # fmt: skip
    sizes = {"width": recipe.width, "input_size": recipe.input_size, "image_size": recipe.image_size}
    return build_model(name, seed=seed, num_classes=num_classes, **{**sizes, **own, **settings})


def make_settings(recipe: LBANIL, count: int, seed: int) -> FitSettings:
    """Turn the recipe's epochs into steps.

    The learning rate falls after ``first_drop`` epochs, and every ``drop_every`` epochs after that.

    Parameters
    ----------
    recipe : LBANIL
    count : int
        Training faces.
    seed : int

    Raises
    ------
    ValueError
        If there are no faces, or the recipe's values are out of range.
    """
    if count < 1:
        raise ValueError(f"an epoch needs at least 1 training face, got {count}")

    def steps(epochs: int) -> int:
        return max(1, round(epochs * count / recipe.batch_size))

    drops = range(recipe.first_drop, recipe.epochs, recipe.drop_every)
    return FitSettings(
        steps=steps(recipe.epochs), batch_size=recipe.batch_size, learning_rate=recipe.learning_rate, momentum=recipe.momentum,
        milestones=tuple(map(steps, drops)), gamma=recipe.gamma, weight_decay=recipe.weight_decay,
        last_weight_decay=recipe.weight_decay, precision=recipe.precision, seed=seed,
    )


def score_ten_crops(model: FaceModel, data: Any, *, batch_size: int = 64, workers: int | None = None) -> np.ndarray:
    """Compute class scores before the softmax, each the mean of those of ten crops (Li et al. 2021, 4.1): float32 ``[N, K]``.

    The four corners, the middle, and the same of the mirror image. Whether the paper averages scores or probabilities it does not say.

    Parameters
    ----------
    model : FaceModel
        Used in evaluation mode, where it is.
    data : uint8 ``[N, H, W]`` or ``[N, H, W, 3]``, FaceDataset, torch Dataset or DataLoader
        As for ``fer_utils.training.predict_scores``.
    batch_size : int
        Faces; ten times as many crops are looked at together.
    workers : int, optional
        Processes that read images from disk.

    Raises
    ------
    ValueError
        If there are no images, or they are of another type or shape, or too small.
    """
    device, found = next(model.parameters()).device, []
    with evaluation_mode(model), exact_cudnn():
        for images in iterate_images(data, model, batch_size, workers):
            crops = ten_crop(images, model.input_size)  # [B, 10, C, S, S]
            scores = model(scale_pixels(crops.flatten(0, 1), device))
            found.append(scores.unflatten(0, (-1, 10)).mean(1).float().cpu())
    return torch.cat(found).numpy()


def predict_ten_crops(model: FaceModel, data: Any, *, batch_size: int = 64, workers: int | None = None) -> np.ndarray:
    """Find the class with the highest mean score over ten crops, int64 ``[N]``.

    Parameters
    ----------
    model, data, batch_size, workers
        As :func:`score_ten_crops`.

    Raises
    ------
    ValueError
        As :func:`score_ten_crops`.
    """
    return score_ten_crops(model, data, batch_size=batch_size, workers=workers).argmax(axis=1)

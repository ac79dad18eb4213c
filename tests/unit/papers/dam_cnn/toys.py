"""Miniature faces for the tests of this folder."""

from __future__ import annotations

import numpy as np

from fer_utils.datasets.base import FaceDataset
from fer_utils.labels import BASIC


def make_faces(count: int = 28, size: int = 40) -> FaceDataset:
    """Classes differ in where a face is bright; two images a person."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 7
    images = rng.integers(0, 60, (count, size, size, 3), dtype=np.uint8)
    third = size // 3
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 3)
        image[third * row : third * (row + 1), third * column : third * (column + 1)] += 180
    names = np.array([f"{i:02d}.png" for i in range(count)])
    return FaceDataset("toy", images, labels, BASIC, names, np.full(count, "train"), identities=np.arange(count) // 2)

"""What the tests of the Keras modules share. They are left out where Keras is not installed."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest

collect_ignore_glob = [] if find_spec("keras") else ["test_augment.py", "test_backends.py", "test_callbacks.py", "test_experiments.py",
                                                     "test_model.py", "test_objective.py", "test_training.py", "test_twin.py"]


def toy_faces(count: int, seed: int = 0, size: int = 27) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 ``[N, size, size, 1]`` of 7 classes, which differ in where they are bright, and labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 7
    images = rng.integers(0, 60, (count, size, size, 1), dtype=np.uint8)
    third = size // 3
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 3)
        image[third * row : third * (row + 1), third * column : third * (column + 1)] += 180
    return images, labels


def toy_recipe(**changes):
    """A network of a second."""
    from fer_utils.papers.daf_cnn.recipe import DAFCNN

    base = replace(DAFCNN().at("smoke"), convolutions=(1, 1), channels=(128, 256), dense=1024, embedding_size=8, batch_size=14)
    return replace(base, **{"images_per_batch": 14, "learning_rate": 0.005, **changes})


@pytest.fixture(scope="session")
def toy():
    """``faces`` and ``recipe``."""
    return SimpleNamespace(faces=toy_faces, recipe=toy_recipe)

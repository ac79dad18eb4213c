"""Faces that LBAN can tell apart within seconds."""

from dataclasses import replace

import numpy as np

from fer_utils.datasets.base import FaceDataset
from fer_utils.experiments import RunContext
from fer_utils.experiments.recipe import Profile
from fer_utils.labels import BASIC
from fer_utils.papers.lban_il.recipe import LBANIL

TINY = replace(LBANIL().at("smoke"), epochs=4, batch_size=14)


def make_faces(count=84, size=30):
    """Each class has a colour, which neither crops nor mirrors change."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 7
    colours = np.array([[(label + 1) >> bit & 1 for bit in range(3)] for label in range(7)])
    images = (rng.integers(0, 100, (count, size, size, 3)) + 150 * colours[labels][:, None, None]).astype(np.uint8)
    names = np.array([f"{i:02d}.png" for i in range(count)])
    split = np.where(np.arange(count) // 7 % 3 == 2, "test", "train")
    return FaceDataset("toy", images, labels, BASIC, names, split, identities=np.arange(count))


def make_context(folder, id="lban-il/table-4", seed=0, dataset="facsynth"):
    """A run of its own, whose data lie where its folder lies."""
    folder.mkdir(parents=True, exist_ok=True)
    return RunContext(id, Profile.SMOKE, dataset, seed, folder, data=str(folder))

"""What a checkpoint belongs to: whatever changes the training changes its description, and nothing else does."""

from __future__ import annotations

import functools
import subprocess
import sys

import numpy as np
import pytest
import torch
from pytorch_metric_learning.losses import ContrastiveLoss as TheirContrastiveLoss
from test_training import QUICK, make_faces, make_model
from torch import nn

from fer_utils.errors import DataError
from fer_utils.losses import CenterLoss
from fer_utils.training import Balanced, CrossEntropyWithMetric, FitSettings, Pairs, crop_and_flip, fit
from fer_utils.training.fingerprint import checksum_arrays, describe

pytestmark = pytest.mark.usefixtures("one_thread")


def darken(by: int):
    def augment(images, generator, size):
        return (crop_and_flip(images, generator, size) // by).to(torch.uint8)

    return augment


def add(first, second=1):
    return first + second


def add_more(first, second=2):
    return first + second


add_more.__qualname__ = "add"


class Crop:
    def __init__(self, share: float) -> None:
        self.share = share

    def __call__(self, images, generator, size):
        return crop_and_flip(images, generator, size)


OTHERS = [
    (darken(2), darken(3)),
    (functools.partial(add, second=1), functools.partial(add, second=2)),
    (add, add_more),
    (lambda x: x + 1, lambda x: x + 2),
    (Crop(0.5), Crop(0.6)), (Crop(0.5).__call__, Crop(0.6).__call__),
    (nn.Dropout(0.1), nn.Dropout(0.2)),
    (nn.Sequential(nn.Dropout(0.1)), nn.Sequential(nn.Dropout(0.2))),
    (TheirContrastiveLoss(pos_margin=0), TheirContrastiveLoss(pos_margin=0.1)),
    (CenterLoss(3, 2, alpha=0.5), CenterLoss(3, 2, alpha=0.4)),
    (Pairs(0.5), Pairs(0.25)), (Pairs(0.5), Balanced()),
    (np.zeros(3), np.zeros(4)), (np.array([1, 2]), np.array([1, 3])), (torch.zeros(2), torch.ones(2)), ({"a": 1}, {"a": 2}),
    (np.float64(1), np.float64(2)), (frozenset("ab"), frozenset("ac")),
]


@pytest.mark.parametrize(("one", "other"), OTHERS, ids=range(len(OTHERS)))
def test_other_settings_are_described_otherwise(one, other):
    assert describe(one) != describe(other)


def test_what_is_alike_is_described_alike():
    assert describe(darken(2)) == describe(darken(2))
    assert describe(Crop(0.5)) == describe(Crop(0.5))
    first, second = CenterLoss(3, 2), CenterLoss(3, 2)
    first.centres += 1
    assert describe(first) == describe(second), "centres are state"
    ring: list = [1]
    ring.append(ring)
    assert describe(ring) == [1, "itself"]


def test_a_description_is_the_same_in_every_process():
    names = "from test_training_fingerprint import Crop, Pairs, add, darken, describe"
    code = f"{names}; print(describe([darken(2), Crop(0.5), add, frozenset('abc'), Pairs(0.5)]))"
    texts = []
    for seed in ("1", "2"):
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"}
        texts.append(subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout)
    assert texts[0] == texts[1] and "darken" in texts[0]


def test_every_channel_counts():
    images = torch.zeros(4, 3, 5, 5, dtype=torch.uint8)
    changed = images.clone()
    changed[2, 2, 0, 0] = 1
    assert checksum_arrays(images) != checksum_arrays(changed)
    assert checksum_arrays(images) == checksum_arrays(images.numpy()) == checksum_arrays(images[:, :1].expand(-1, 3, -1, -1))


CASES = {
    "augment": ({"augment": darken(2)}, {"augment": darken(3)}),
    "objective": (
        {"objective": lambda: CrossEntropyWithMetric(TheirContrastiveLoss(neg_margin=1), 0.1)},
        {"objective": lambda: CrossEntropyWithMetric(TheirContrastiveLoss(neg_margin=2), 0.1)},
    ),
    "sampler": ({}, {"sampler": Balanced()}),
    "held back": ({"held_back": np.arange(10)}, {"held_back": np.arange(11)}),
    "data": ({"columns": {"age": np.zeros(120)}}, {"columns": {"age": np.ones(120)}}),
}


@pytest.mark.parametrize("name", CASES)
def test_another_training_of_the_same_names_is_refused(tmp_path, name):
    made, asked = ({key: value() if key == "objective" else value for key, value in options.items()} for options in CASES[name])
    settings = FitSettings(**{**QUICK, "steps": 2})
    path = tmp_path / "run.safetensors"
    fit(make_model(), make_faces(), settings, checkpoint=path, **made)
    with pytest.raises(DataError, match=rf"run.safetensors: of another training \({name} was .* and is now .*\)"):
        fit(make_model(), make_faces(), settings, checkpoint=path, **asked)


def test_a_colour_channel_belongs_to_the_checkpoint(tmp_path):
    images = np.repeat(make_faces().images[..., None], 3, axis=3)
    changed = images.copy()
    changed[..., 2] //= 2
    settings, path = FitSettings(**{**QUICK, "steps": 2}), tmp_path / "run.safetensors"
    fit(make_model(in_channels=3), make_faces(images=images), settings, checkpoint=path)
    with pytest.raises(DataError, match="of another training"):
        fit(make_model(in_channels=3), make_faces(images=changed), settings, checkpoint=path)

"""The checks of a GPU under pytest."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "unit"))

from checks import CHECKS


@pytest.fixture(scope="module")
def device():
    """A GPU, or what ``FER_TEST_DEVICE`` names."""
    if "FER_TEST_DEVICE" not in os.environ and not torch.cuda.is_available():
        pytest.skip("needs a GPU; FER_TEST_DEVICE=cpu runs the checks on the CPU")
    return torch.device(os.environ.get("FER_TEST_DEVICE", "cuda"))


@pytest.mark.gpu
@pytest.mark.parametrize("name", CHECKS)
def test_on_the_device(device, name):
    CHECKS[name](device)

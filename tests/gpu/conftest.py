"""Where the checks run: a GPU, or what ``FER_TEST_DEVICE`` names."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "unit")]


@pytest.fixture(scope="session")
def device():
    import torch

    if "FER_TEST_DEVICE" not in os.environ and not torch.cuda.is_available():
        pytest.skip("needs a GPU; FER_TEST_DEVICE=cpu runs the checks on the CPU")
    return torch.device(os.environ.get("FER_TEST_DEVICE", "cuda"))

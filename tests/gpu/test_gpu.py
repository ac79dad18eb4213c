"""The checks of a GPU under pytest."""

from __future__ import annotations

import pytest
from checks import CHECKS


@pytest.mark.gpu
@pytest.mark.parametrize("name", CHECKS)
def test_on_the_device(device, name):
    CHECKS[name](device)

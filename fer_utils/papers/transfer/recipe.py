"""Starting from a network that knows faces: the settings, all of them the book's own choice, and the sizes at which the book runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ...experiments.recipe import Profile, Recipe, scale

__all__ = ["Transfer"]


@dataclass(frozen=True)
class Transfer(Recipe):
    """Maps of the frozen stages, classifiers on them, and the training of the stages above.

    No paper stands behind these numbers.
    """

    stage: str = "stage_128"  # the last that stays as it is
    C: tuple[float, ...] = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
    validation: float = 0.2
    folds: int = 5
    batch_size: int = 64
    learning_rate: float = 0.03
    momentum: float = 0.9
    milestones: tuple[float, float] = (2 / 3, 0.87)
    gamma: float = 0.1
    weight_decay: float = 0.0005
    precision: str = "bfloat16"
    steps: int = scale(600)
    lab_steps: int = scale(200)
    images: int | None = scale(None)

    SIZES: ClassVar[Mapping[Profile, Mapping[str, Any]]] = {
        Profile.SMOKE: {"images": 8, "steps": 3, "lab_steps": 2}, Profile.BOOK: {},
    }

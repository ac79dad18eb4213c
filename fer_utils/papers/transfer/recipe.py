"""Starting from a network that knows faces: the settings, all of them the book's own choice, and the sizes at which the book runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ...experiments.recipe import Profile, Recipe, scale

__all__ = ["FineTuned", "Frozen", "Transfer"]


@dataclass(frozen=True)
class Transfer(Recipe):
    """What all rows share. No paper stands behind the numbers: here and below, all are the book's."""

    stage: str = "stage_128"  # the last that stays as it is
    folds: int = 5  # of people, in the lab; as Li & Deng 2019, V-A
    validation: float = 0.2  # share of the training faces on which C is chosen
    images: int | None = scale(None)  # of a class, in each part, and then one fold only; None for all

    SIZES: ClassVar[Mapping[Profile, Mapping[str, Any]]] = {Profile.SMOKE: {"images": 8}, Profile.BOOK: {}}


@dataclass(frozen=True)
class Frozen(Transfer):
    """Classifiers on maps of the frozen stages.

    On held-back training people of FACSynth's basic faces the best C was 10 for maps of the trained network, 300 for those of a random
    one, and from 1,000 on nothing changes.
    """

    C: tuple[float, ...] = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)  # maps have a mean square length of 1


@dataclass(frozen=True)
class FineTuned(Transfer):
    """The training of the stages above the frozen ones, by SGD on batches in which all classes are as frequent."""

    batch_size: int = 32
    learning_rate: float = 0.03
    momentum: float = 0.9
    milestones: tuple[float, ...] = (2 / 3, 0.87)  # as shares of the steps
    gamma: float = 0.1
    weight_decay: float = 0.0005  # of all layers
    precision: str = "bfloat16"  # of activations
    steps: int = scale(1200)
    lab_steps: int = scale(300)  # of each fold

    SIZES: ClassVar[Mapping[Profile, Mapping[str, Any]]] = {
        Profile.SMOKE: {"images": 8, "steps": 3, "lab_steps": 2}, Profile.BOOK: {},
    }

"""Settings of Li & Deng 2019."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from .base import Profile, Recipe, scale

__all__ = ["Baselines"]


@dataclass(frozen=True)
class Baselines(Recipe):
    """Descriptors and classifiers of section V-A; what the paper does not say is marked."""

    C: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)  # not said; chosen on the mean diagonal, V-A
    validation: float = 0.2  # share of the training faces on which C is chosen; not said
    folds: int = 5  # of people, on CK+, V-A 1)
    people: int = 10  # JAFFE's, each left out once, V-A 1)
    images: int | None = scale(None)  # of a class, in each part, and then one fold only; None for all

    SIZES: ClassVar[Mapping[Profile, Mapping[str, Any]]] = {Profile.SMOKE: {"images": 12}, Profile.BOOK: {}}

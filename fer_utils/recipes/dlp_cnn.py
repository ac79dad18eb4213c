"""Li & Deng 2019: what the paper prints of its settings, and the sizes at which the book runs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from .base import Profile, Recipe, scale

__all__ = ["Crowd"]


@dataclass(frozen=True)
class Crowd(Recipe):
    """The EM on the annotators' votes (sections III-A4 and III-A5, Algorithm 1).

    Attributes
    ----------
    faces : int, optional
        Only the first so many.
    tolerance : float
        Gain of the objective, as a share of its size, below which the two starts are compared as converged. Not in the paper.
    max_iterations : int
        Not in the paper.
    """

    tolerance: float = 1e-6
    max_iterations: int = 3_000
    faces: int | None = scale(None)

    SIZES: ClassVar[Mapping[Profile, Mapping[str, Any]]] = {Profile.SMOKE: {"faces": 60}, Profile.BOOK: {"faces": None}}

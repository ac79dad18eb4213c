"""How to train: steps, optimiser, schedule, validation, precision."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral
from typing import Any

__all__ = ["FitSettings"]

_CHOICES = {
    "optimizer": ("sgd", "adam"), "precision": ("auto", "float32", "bfloat16"), "monitor": ("mean diagonal", "accuracy", "loss"),
}


def _check_integer(name: str, value: Any) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise ValueError(f"{name} must be {'integers' if name == 'milestones' else 'an integer'}, got {value!r}")
    return int(value)


@dataclass(frozen=True)
class FitSettings:
    """How to train. The defaults are those of Li & Deng 2019, section V-B.

    Attributes
    ----------
    steps : int
        Batches; 20,000 in the paper.
    batch_size : int
        Over all processes, which must divide it.
    optimizer : {"sgd", "adam"}
    learning_rate : float
    momentum : float
        Adam's first beta.
    milestones : tuple of int
        Steps after which the learning rate is multiplied by ``gamma``; one may come several times.
    gamma : float
    weight_decay, last_weight_decay : float
        Of the weights of all layers but the last, and of the last; 0.0005 and 0.0025. Biases and normalisations have none; the paper does
        not say.
    validation_share : float
        Share of a ``FaceDataset`` to hold back, by person where people are known (:func:`~fer_utils.splits.validation_split`); 0: none.
    validate_every : int
        Steps.
    patience : int, optional
        Stop when so many validations in a row were not better than the best.
    monitor : {"mean diagonal", "accuracy", "loss"}
        Which validation is the best: that with the highest rate, or the lowest value of the objective, for networks without class scores.
    precision : {"auto", "float32", "bfloat16"}
        Of the network's activations; weights are float32 always. ``"auto"``: bfloat16 where the processor or GPU computes in it.
    seed : int

    Raises
    ------
    ValueError
        If a value is out of range, or no integer where one is needed.
    """

    steps: int = 20_000
    batch_size: int = 64
    optimizer: str = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.9
    milestones: tuple[int, ...] = (5_000, 18_000)
    gamma: float = 0.1
    weight_decay: float = 0.0005
    last_weight_decay: float = 0.0025
    validation_share: float = 0.0
    validate_every: int = 200
    patience: int | None = None
    monitor: str = "mean diagonal"
    precision: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.milestones, Iterable):
            raise ValueError(f"milestones must be several integers, such as ({self.milestones},), got {self.milestones!r}")
        # integers of NumPy become Python's, which JSON can hold
        object.__setattr__(self, "milestones", tuple(_check_integer("milestones", value) for value in self.milestones))
        for name in ("steps", "batch_size", "validate_every", "patience", "seed"):
            if name != "patience" or self.patience is not None:
                object.__setattr__(self, name, _check_integer(name, getattr(self, name)))
        for name, options in _CHOICES.items():
            if getattr(self, name) not in options:
                raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}, got {getattr(self, name)!r}")
        for name in ("steps", "batch_size", "validate_every", "patience"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "gamma", "weight_decay", "last_weight_decay", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be finite and not below 0, got {getattr(self, name)}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be at least 0 and below 1, got {self.momentum}")
        if not 0 <= self.validation_share < 1:
            raise ValueError(f"validation_share must be at least 0 and below 1, got {self.validation_share}")

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        return self.learning_rate * self.gamma ** sum(step >= milestone for milestone in self.milestones)

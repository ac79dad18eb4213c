"""Hooks: what looks at a training from outside, without a part in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from .features import predict

__all__ = ["Hook", "WatchErrors"]


class Hook:
    """Base of the hooks of :func:`~fer_utils.training.fit.fit`, called after every step; what it keeps is in the checkpoint."""

    def after_step(self, step: int, model: nn.Module, parts: Mapping[str, torch.Tensor]) -> None:
        """See what a step led to.

        Parameters
        ----------
        step : int
            Steps taken so far, from 1.
        model : nn.Module
            To be left as it is, in its mode.
        parts : dict of str to scalar tensor
            The loss of the step and its parts, on the device.
        """
        raise NotImplementedError

    def state_dict(self) -> dict[str, torch.Tensor]:
        """What a resumed training has to know, under the names of attributes."""
        return {}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take up what :meth:`state_dict` gave."""
        for name, value in state.items():
            setattr(self, name, value)


class WatchErrors(Hook):
    """Ask the network now and then about faces it is not trained on, such as the test faces of a curve; nothing is chosen by what it sees.

    Parameters
    ----------
    images : uint8 ``[N, H, W]`` or ``[N, H, W, 3]``
    labels : int ``[N]``
    every : int
        Steps between two points.
    steps : int
        Of the whole training. The end is no point: there the network can be asked itself.

    Attributes
    ----------
    wrong : bool ``[points, N]``
        Which faces the network got wrong after ``every``, ``2 * every``, ... steps.

    Raises
    ------
    ValueError
        If ``every`` is below 1.
    """

    def __init__(self, images: np.ndarray, labels: Any, every: int, steps: int) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        self.images, self.labels, self.every, self.steps = images, np.asarray(labels), every, steps
        self.wrong = torch.zeros((steps - 1) // every, len(self.labels), dtype=torch.bool)

    def after_step(self, step: int, model: nn.Module, parts: Mapping[str, torch.Tensor]) -> None:
        """See :meth:`Hook.after_step`."""
        if step % self.every == 0 and step < self.steps:
            self.wrong[step // self.every - 1] = torch.from_numpy(predict(model, self.images) != self.labels)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """See :meth:`Hook.state_dict`."""
        return {"wrong": self.wrong}

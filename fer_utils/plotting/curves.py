"""Pictures of a training: the loss and its parts over the steps."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from ..training import History
from .style import PALETTE

__all__ = ["show_curves"]

#: A curve is drawn as so many means of successive steps at most.
_POINTS = 60
_LINES = ("-", "--", ":", "-.")


def show_curves(axes: Axes, history: History, title: str = "") -> None:
    """Draw each part of a training's loss, as means over successive steps, one colour and line a part.

    Parameters
    ----------
    axes : matplotlib Axes
    history : History
        The parts have the scale that the objective gave them, before weights.
    title : str

    Raises
    ------
    ValueError
        If no step was taken.
    """
    if not len(history.losses):
        raise ValueError("a training of no steps has no curve")
    for number, (name, part) in enumerate(history.parts.items()):
        pieces = np.array_split(part, min(_POINTS, len(part)))
        ends = np.cumsum([len(piece) for piece in pieces])
        means = [float(piece.mean()) for piece in pieces]
        axes.plot(ends, means, _LINES[number % len(_LINES)], color=PALETTE[number % len(PALETTE)], label=name)
    axes.set(title=title, xlabel="step", ylabel="loss", xlim=(0, len(history.losses)))
    if len(history.parts) > 1:
        axes.legend()

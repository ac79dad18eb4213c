"""Pictures of two-dimensional features: points coloured by class, class centres, and the arrows of a gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

__all__ = ["draw_descent", "show_embeddings"]

#: One shape a class, so that a picture does not rest on colour alone.
_MARKERS = "osD^vPX<>"


def show_embeddings(
    axes: Axes, points: Any, labels: Any, colours: Sequence[str], centres: Any = None, title: str = "", size: float = 14.0,
) -> None:
    """Scatter features, one colour and shape a class.

    Parameters
    ----------
    axes : matplotlib Axes
    points : array ``[N, 2]``
    labels : integer ``[N]``
        Places in ``colours``.
    colours : sequence of str
        One a class.
    centres : array ``[K, 2]``, optional
        Drawn as large crosses in the colours of their classes.
    title : str
    size : float
        Of a point, in square points.

    Raises
    ------
    ValueError
        If the features are not two-dimensional, or a label or centre has no colour.
    """
    points, labels = _check_plane("points", points), np.asarray(labels)
    if labels.shape != (len(points),) or (len(labels) and not 0 <= labels.min() <= labels.max() < len(colours)):
        raise ValueError(f"labels must be {len(points)} numbers, 0 to {len(colours) - 1}, one a point and each with a colour")
    for k, colour in enumerate(colours):
        mine = points[labels == k]
        axes.scatter(*mine.T, s=size, c=colour, marker=_MARKERS[k % len(_MARKERS)], alpha=0.75, linewidths=0, zorder=2)
    if centres is not None:
        centres = _check_plane("centres", centres)
        if len(centres) != len(colours):
            raise ValueError(f"centres must be {len(colours)}, one a colour, got {len(centres)}")
        axes.scatter(*centres.T, s=110, c="white", marker="X", linewidths=0, zorder=4)
        axes.scatter(*centres.T, s=70, c=list(colours), marker="X", edgecolors="black", linewidths=0.9, zorder=5)
    if title:
        axes.set_title(title)


def draw_descent(axes: Axes, points: Any, gradients: Any, scale: float = 1.0, colour: str = "#222222", width: float = 0.004) -> None:
    """Draw where gradient descent would move each point: an arrow along the negative gradient.

    Parameters
    ----------
    axes : matplotlib Axes
    points, gradients : array ``[N, 2]``
    scale : float
        Length of an arrow, in units of the axes, for a gradient of length 1.
    colour : str
    width : float
        Of the shaft, as a share of the axes' width.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    points, gradients = _check_plane("points", points), _check_plane("gradients", gradients)
    if points.shape != gradients.shape:
        raise ValueError(f"gradients must be one a point, {list(points.shape)}, got {list(gradients.shape)}")
    moves = -scale * gradients
    axes.quiver(
        *points.T, *moves.T, angles="xy", scale_units="xy", scale=1, color=colour, width=width, headwidth=5, headlength=5,
        headaxislength=4.5, minlength=0.3, zorder=3,
    )  # fmt: skip


def _check_plane(name: str, values: Any) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if values.ndim != 2 or values.shape[1] != 2:
        raise ValueError(f"{name} must be [N, 2], got {list(values.shape)}")
    return values

"""Pictures of confusion matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

__all__ = ["show_confusions"]


def show_confusions(axes: Axes, counts: Any, classes: Sequence[str], title: str = "", size: float = 9.0) -> None:
    """Draw a confusion matrix, in % of each true class, with its numbers.

    Parameters
    ----------
    axes : matplotlib Axes
    counts : array ``[K, K]``
        Rows are the truth; any unit, as rows are divided by their sums. A row without a face is left white.
    classes : sequence of str
        ``K`` names.
    title : str
    size : float
        Of the numbers, in points.

    Raises
    ------
    ValueError
        If the matrix is not ``[K, K]``, or a number is negative.
    """
    counts = np.asarray(counts, dtype=float)
    if counts.shape != (len(classes), len(classes)) or not (counts >= 0).all():
        raise ValueError(f"counts must be [{len(classes)}, {len(classes)}] and not negative, got {list(counts.shape)}")
    sums = counts.sum(1, keepdims=True)
    shares = np.divide(100 * counts, sums, out=np.full_like(counts, np.nan), where=sums > 0)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    for (row, column), share in np.ndenumerate(shares):
        if np.isfinite(share):
            axes.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=size, color="white" if share > 55 else "black")
    axes.set_xticks(range(len(classes)), classes, rotation=40, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    axes.set(title=title, xlabel="answer", ylabel="truth")
    axes.grid(False)

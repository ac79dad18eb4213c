"""Pictures of faces: contact sheets and faces with their points drawn in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["contact_sheet", "show_face"]


def show_face(axes: Axes, image: np.ndarray, points: np.ndarray | None = None, title: str = "") -> None:
    """Draw one face without axes.

    Parameters
    ----------
    axes : matplotlib Axes
    image : uint8 ``[H, W]`` or ``[H, W, 3]``
    points : array ``[L, 2]``, optional
        Pixels of ``image``, drawn as dots.
    title : str
    """
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
    if points is not None:
        axes.scatter(*np.asarray(points).T, s=14, c="#00E5FF", edgecolors="black", linewidths=0.5)
    if title:
        axes.set_title(title, loc="center", fontsize=9)
    axes.set_axis_off()


def contact_sheet(
    images: Sequence[np.ndarray] | np.ndarray, columns: int = 8, rows: Sequence[str] | None = None, titles: Sequence[str] | None = None,
    width: float = 9.0,
) -> Figure:
    """Lay faces out in a grid, row by row.

    Parameters
    ----------
    images : sequence of uint8 ``[H, W]`` or ``[H, W, 3]``
        Of one size.
    columns : int
        Faces in a row.
    rows : sequence of str, optional
        A name for each row, at its left.
    titles : sequence of str, optional
        A name for each face, above it.
    width : float
        Inches.

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    ValueError
        If there is no image, or the names do not match the grid.
    """
    count = len(images)
    if not count:
        raise ValueError("a contact sheet needs at least one image")
    lines = -(-count // columns)
    if rows is not None and len(rows) != lines:
        raise ValueError(f"{len(rows)} row names for {lines} rows")
    if titles is not None and len(titles) != count:
        raise ValueError(f"{len(titles)} titles for {count} images")
    height, wide = np.shape(images[0])[:2]
    # The row names and titles take their own room, so that the faces touch.
    margin = 0.07 * max(map(len, rows)) if rows is not None else 0.0
    titled = sum(any(titles[i : i + columns]) for i in range(0, count, columns)) if titles is not None else 0
    face = (width - margin) / columns
    tall = face * lines * height / wide + 0.2 * titled
    figure, grid = plt.subplots(lines, columns, figsize=(width, tall), squeeze=False, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0.01, hspace=0.01)
    for place, axes in enumerate(grid.flat):
        if place < count:
            show_face(axes, images[place], title="" if titles is None else titles[place])
        else:
            axes.set_axis_off()
    if rows is not None:
        for axes, name in zip(grid[:, 0], rows, strict=True):
            axes.text(-0.06, 0.5, name, transform=axes.transAxes, ha="right", va="center", fontsize=9)
    return figure

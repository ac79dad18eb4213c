"""The one look of all figures: colours, sizes, and a background that reads on light and dark pages."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes

__all__ = ["EMOTION_COLOURS", "PALETTE", "label_bars", "use_style"]

#: Okabe and Ito's eight colours, told apart by colour-blind readers, without the yellow that fades on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#555555")

#: One colour for each basic emotion, the same on every page.
EMOTION_COLOURS = {
    "surprise": PALETTE[5], "fear": PALETTE[3], "disgust": PALETTE[2], "happiness": PALETTE[1], "sadness": PALETTE[0],
    "anger": "#A00000", "neutral": PALETTE[6], "contempt": PALETTE[4],
}


def use_style() -> None:
    """Set matplotlib's defaults for the book. Figures keep a white card of their own, so they also read on dark pages."""
    mpl.rcParams.update({
        "figure.dpi": 110, "savefig.dpi": 110, "figure.facecolor": "white", "savefig.facecolor": "white", "savefig.bbox": "tight",
        "axes.facecolor": "white", "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 11, "axes.labelsize": 10,
        "axes.titlelocation": "left", "axes.prop_cycle": mpl.cycler(color=PALETTE), "axes.axisbelow": True, "axes.grid": True,
        "grid.color": "#E4E4E4", "grid.linewidth": 0.7, "xtick.labelsize": 9, "ytick.labelsize": 9, "legend.fontsize": 9,
        "legend.frameon": False, "font.family": "DejaVu Sans", "font.size": 10, "image.interpolation": "nearest", "lines.linewidth": 1.8,
        "figure.constrained_layout.use": True,
    })


def label_bars(axes: Axes, values: Sequence[float], form: str = "{:.0%}") -> None:
    """Write each horizontal bar's value behind its end.

    Parameters
    ----------
    axes : Axes
        With the bars, drawn before.
    values : sequence of float
        In the order of the bars.
    form : str
        For ``str.format``; percent by default.
    """
    for bar, value in zip(axes.patches, values, strict=False):
        axes.text(bar.get_width(), bar.get_y() + bar.get_height() / 2, " " + form.format(value), va="center", fontsize=8)

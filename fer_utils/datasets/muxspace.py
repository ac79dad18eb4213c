"""``muxspace/facial_expressions``: real photographs with one label each, a git clone away.

``git clone https://github.com/muxspace/facial_expressions data/muxspace`` (Apache-2.0). Its faces are identifiable people:
the book measures on them but shows none.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from ..errors import DataError
from ..labels import ADJECTIVES, MUXSPACE
from .base import FaceDataset
from .layouts import resize_images
from .source import Source, find_root, read_text

__all__ = ["load"]

_HEADER = ["user.id", "image", "emotion"]
_LAYOUT = "data/legend.csv and images/*.jpg, as in a clone of https://github.com/muxspace/facial_expressions"


def load(
    root: str | os.PathLike[str] | None = None, *, size: int = 128, transform: Callable[[Image.Image], Any] | None = None
) -> FaceDataset:
    """Read the labelled images of a clone.

    Parameters
    ----------
    root : path, optional
        The clone; ``muxspace`` in :func:`~fer_utils.files.data_root` by default.
    size : int
        Side of the images: they are found in several sizes, and grey or coloured.
    transform : callable, optional
        See :class:`~fer_utils.datasets.base.FaceDataset`.

    Returns
    -------
    FaceDataset
        Grey images in the order of the legend. An image that the legend names more than once is taken once, with its most
        frequent label (the earlier on a tie); ``votes`` has every line, with class names as labels and annotators as text.
        ``identities`` number the file names without their counters (``Name_0001.jpg``, ``Name_0002.jpg``).

    Raises
    ------
    DataError
        If a file is missing, damaged, or not as in upstream.

    Notes
    -----
    Upstream writes emotions in any case, as noun or adjective, and some lines with tabs for commas; all are understood.
    """
    folder = find_root(root, "muxspace", _LAYOUT)
    votes = _read_legend(folder / "data" / "legend.csv")
    counts: dict[str, Counter[str]] = {}
    for name, emotion in zip(votes["task"], votes["label"], strict=True):
        counts.setdefault(name, Counter())[emotion] += 1
    names = list(counts)
    source = Source.require(folder, "images", expected=_LAYOUT)
    if absent := next((name for name in names if name not in source), None):
        raise DataError.at(source.where(absent), "not found", f"an image, because {folder / 'data' / 'legend.csv'} names it")

    images = resize_images(source, names, size, "L")
    people = [re.sub(r"_?\d+\.\w+$", "", name) for name in names]
    return FaceDataset(
        name="muxspace", images=images, labels=np.array([MUXSPACE.index(counts[name].most_common(1)[0][0]) for name in names]),
        classes=MUXSPACE.classes, names=np.array(names), split=np.full(len(names), "none"),
        identities=np.unique(people, return_inverse=True)[1], votes=votes, transform=transform,
    )


def _read_legend(path: Path) -> pd.DataFrame:
    """One row a line: task, worker, label."""
    expected = f"lines '{','.join(_HEADER)}' with an emotion of {', '.join(MUXSPACE.classes)}"
    rows = []
    for line, text in enumerate(read_text(path, expected).splitlines(), 1):
        columns = [column.strip().strip('"') for column in re.split("[,\t]", text)]
        if line == 1:
            if columns != _HEADER:
                raise DataError.at(path, f"header {text!r}", expected, line=line)
            continue
        if not text.strip():
            continue
        if len(columns) != 3:
            raise DataError.at(path, f"{len(columns)} columns", expected, line=line)
        worker, name, emotion = columns
        emotion = ADJECTIVES.get(emotion.lower(), emotion.lower())
        if emotion not in MUXSPACE.classes:
            raise DataError.at(path, f"emotion {columns[2]!r}", expected, line=line)
        if not name or "/" in name or "\\" in name:
            raise DataError.at(path, f"image name {name!r}", "a file name without a folder", line=line)
        rows.append((name, worker, emotion))
    if not rows:
        raise DataError.at(path, "no labels", expected)
    return pd.DataFrame(rows, columns=["task", "worker", "label"])

"""FER2013 (Goodfellow et al. 2013) and its second, crowd-sourced labels FER+ (Barsoum et al. 2016).

FER2013 is free for research from the Kaggle challenge *Challenges in Representation Learning: Facial Expression Recognition*,
as one table ``fer2013.csv``. The votes of FER+ (``fer2013new.csv``) are in https://github.com/microsoft/FERPlus.

Copies of FER2013 as image files also go around: folders ``train`` and ``test`` (some have ``val`` or ``validation``) of folders
``angry`` to ``surprise``. We assume, as no owner documents them, that a file called ``PublicTest_*`` is of the validation part
wherever it lies: the common copy puts both halves of the 7,178 test images into ``test``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from ..errors import DataError
from ..files import data_root
from ..labels import BASIC, FER2013, FERPLUS
from .base import FaceDataset
from .images import load_images
from .source import Source, default_root, parse_int, read_text

__all__ = ["NOT_A_FACE", "UNKNOWN", "load", "load_ferplus"]

SIZE = 48
#: Codes of the two last columns of FER+, which are no emotions.
UNKNOWN, NOT_A_FACE = len(FERPLUS), len(FERPLUS) + 1

_SPLITS = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
_HEADER = ("emotion", "pixels", "Usage")
_VOTES_HEADER = ("Usage", "Image name", *FERPLUS.classes, "unknown", "NF")
_TABLES = ("fer2013.csv", "icml_face_data.csv")
_WORDS = {
    "angry": "anger", "disgust": "disgust", "fear": "fear", "happy": "happiness", "neutral": "neutral", "sad": "sadness",
    "surprise": "surprise",
}
_FOLDERS = {"train": "train", "val": "val", "validation": "val", "test": "test"}
_MEMBER = re.compile(r"(\w+)/(\w+)/([\w .()+-]+\.(?:png|jpe?g))", re.IGNORECASE)
_MODES = ("majority", "probability")
#: Rows parsed at once: more do not fit a processor's cache.
_CHUNK = 16
_LAYOUT = (
    f"a folder with {_TABLES[0]}, or with train/<emotion>/*.png and test/<emotion>/*.png (emotions {', '.join(_WORDS)}); "
    "FER2013 is in Kaggle's challenges-in-representation-learning-facial-expression-recognition-challenge"
)
_VOTES_LAYOUT = "fer2013new.csv from https://github.com/microsoft/FERPlus, beside fer2013.csv or in ferplus"


def load(
    root: str | os.PathLike[str] | None = None, *, split: str | None = None, transform: Callable[[Image.Image], Any] | None = None
) -> FaceDataset:
    """Read FER2013 with its own labels.

    Parameters
    ----------
    root : path, optional
        The folder that holds ``fer2013.csv`` (or Kaggle's ``icml_face_data.csv``), or the folders ``train`` and ``test``, which
        may be in a zip archive; ``fer2013`` in :func:`~fer_utils.files.data_root` by default.
    split : {"train", "val", "test"}, optional
        Only this part: ``Training``, ``PublicTest`` or ``PrivateTest``.
    transform : callable, optional
        See :class:`~fer_utils.datasets.base.FaceDataset`.

    Returns
    -------
    FaceDataset
        Grey images of 48x48. From the table in its order, with names like ``fer2013.csv#2``, the line; from folders sorted by
        name, with names like ``train/angry/1.png``.

    Raises
    ------
    DataError
        If a file is missing, damaged, or not as described here.
    ValueError
        For an unknown ``split``.
    """
    _check_split(split)
    folder = default_root(root, "fer2013")
    table = _find_table(folder)
    if table is None:
        return _load_folders(folder, split, transform)
    rows = _read_table(table)
    keep = [i for i, part in enumerate(rows.split) if split in (None, part)]
    return FaceDataset(
        name="FER2013", images=_parse_pixels(rows, keep), labels=np.array([rows.labels[i] for i in keep], dtype=np.int64),
        classes=FER2013.classes, names=np.array([f"{table.name}#{rows.lines[i]}" for i in keep], dtype=np.str_),
        split=np.array([rows.split[i] for i in keep], dtype=np.str_), transform=transform,
    )


def load_ferplus(
    root: str | os.PathLike[str] | None = None,
    *,
    votes: str | os.PathLike[str] | None = None,
    mode: str = "majority",
    classes: int = 8,
    split: str | None = None,
    transform: Callable[[Image.Image], Any] | None = None,
) -> FaceDataset:
    """Read FER2013 with the labels of FER+.

    Parameters
    ----------
    root : path, optional
        The folder that holds ``fer2013.csv``; ``fer2013`` in :func:`~fer_utils.files.data_root` by default.
    votes : path, optional
        The folder that holds ``fer2013new.csv``; by default ``root``, or ``ferplus`` in
        :func:`~fer_utils.files.data_root` where it is not there.
    mode : {"majority", "probability"}
        Which images stay and what they are called, see *Notes*.
    classes : {7, 8}
        With or without contempt; without, images that are labelled so are left out.
    split : {"train", "val", "test"}, optional
        Only this part.
    transform : callable, optional
        See :class:`~fer_utils.datasets.base.FaceDataset`.

    Returns
    -------
    FaceDataset
        In the order of the tables, under FER+'s image names. ``votes`` has every vote on the images that stay, whatever the
        mode: codes 0 to 7 in the order of ``labels.FERPLUS``, ``UNKNOWN`` and ``NOT_A_FACE``. FER+ tells how many voted, not
        who: each vote has a ``worker`` of its own. ``distributions`` has the shares of the seven basic emotions among the votes
        that the mode counted, NaN where it counted contempt alone.

    Raises
    ------
    DataError
        If a file is missing or damaged, or the two tables are not of the same images.
    ValueError
        For an unknown ``mode``, ``classes`` or ``split``.

    Notes
    -----
    Rows without an image name are no faces and are left out. The modes are those of Barsoum et al. 2016 as their own reader
    applies them. In both a class with a single vote counts as none. *Majority*: the class with more than half of the remaining
    votes, those for unknown and no face included; images where there is none, or where it is one of those two, are left out.
    *Probability*: classes are taken from the most votes down, equal ones together, until they have three quarters of the
    remaining votes or are three, or until unknown or no face is next. Images are left out where the taken classes have no more
    than half of the remaining votes or are more than three. The label is the first class of most votes; the authors draw one
    in proportion to the taken votes each time that an image is shown.
    """
    if mode not in _MODES:
        raise ValueError(f"mode must be 'majority' or 'probability', got {mode!r}")
    if classes not in (7, 8):
        raise ValueError(f"classes must be 7 or 8, got {classes!r}")
    _check_split(split)
    folder = default_root(root, "fer2013")
    table = _find_table(folder)
    if table is None:
        raise DataError.at(folder / _TABLES[0], "not found", "the table that the votes of FER+ follow row by row")
    rows = _read_table(table)
    if votes is not None:
        path = Path(votes) / "fer2013new.csv"
    else:
        path = next((p for p in (folder / "fer2013new.csv", data_root() / "ferplus" / "fer2013new.csv") if os.path.exists(p)), None)
        path = folder / "fer2013new.csv" if path is None else path
    names, counts = _read_votes(path, rows, table)

    counted = _count_majority(counts) if mode == "majority" else _count_leading(counts)
    labels = counted.argmax(axis=1)
    stays = (counted.sum(axis=1) > 0) & (labels < classes)
    keep = [i for i, name in enumerate(names) if name and stays[i] and split in (None, rows.split[i])]
    basic = counted[keep][:, [FERPLUS.classes.index(name) for name in BASIC]].astype(np.float32)
    total = basic.sum(axis=1, keepdims=True)
    return FaceDataset(
        name="FER+", images=_parse_pixels(rows, keep), labels=labels[keep], classes=FERPLUS.classes[:classes],
        names=np.array([names[i] for i in keep], dtype=np.str_), split=np.array([rows.split[i] for i in keep], dtype=np.str_),
        votes=_list_votes([names[i] for i in keep], counts[keep]),
        distributions=np.divide(basic, total, out=np.full_like(basic, np.nan), where=total > 0), transform=transform,
    )


def _check_split(split: str | None) -> None:
    if split not in (None, *_SPLITS.values()):
        raise ValueError(f"split must be 'train', 'val', 'test' or None, got {split!r}")


# -- the table ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rows:
    """The table, a column each; ``lines`` count from 1."""

    path: Path
    lines: list[int]
    labels: list[int]
    split: list[str]
    pixels: list[str]


def _find_table(folder: Path) -> Path | None:
    return next((folder / name for name in _TABLES if os.path.exists(folder / name)), None)


def _read_table(path: Path) -> _Rows:
    expected = f"lines '{','.join(_HEADER)}', in any order of columns, with {SIZE * SIZE} pixels parted by blanks"
    lines = read_text(path, expected).splitlines() or [""]
    header = [column.strip(' "') for column in lines[0].split(",")]
    if sorted(header) != sorted(_HEADER):
        raise DataError.at(path, f"header {lines[0][:80]!r}", expected, line=1)
    emotion, pixels, usage = (header.index(column) for column in _HEADER)
    rows = _Rows(path, [], [], [], [])
    for line, text in enumerate(lines[1:], 2):
        if not text.strip():
            continue
        columns = [column.strip(' "') for column in text.split(",")]
        if len(columns) != len(_HEADER):
            raise DataError.at(path, f"{len(columns)} columns", expected, line=line)
        try:
            rows.labels.append(FER2013.index(parse_int(columns[emotion])))
        except ValueError as error:
            raise DataError.at(path, f"emotion {columns[emotion][:20]!r}", "0 to 6", line=line) from error
        if columns[usage] not in _SPLITS:
            raise DataError.at(path, f"usage {columns[usage][:20]!r}", f"one of {', '.join(_SPLITS)}", line=line)
        rows.split.append(_SPLITS[columns[usage]])
        rows.pixels.append(columns[pixels])
        rows.lines.append(line)
    if not rows.lines:
        raise DataError.at(path, "no rows", expected)
    return rows


def _parse_pixels(rows: _Rows, keep: Sequence[int]) -> np.ndarray:
    """Images ``[len(keep), 48, 48]`` of some rows."""
    images = np.empty((len(keep), SIZE * SIZE), dtype=np.uint8)
    for start in range(0, len(keep), _CHUNK):
        chunk = keep[start : start + _CHUNK]
        parsed = _parse_regular([rows.pixels[i] for i in chunk])
        if parsed is None:
            parsed = np.array([_parse_row(rows, i) for i in chunk])
        images[start : start + _CHUNK] = parsed
    return images.reshape(-1, SIZE, SIZE)


def _parse_regular(texts: Sequence[str]) -> np.ndarray | None:
    """Parse rows of digits parted by single blanks all at once; None if any is not so.

    The bytes are looked at as arrays: a number ends before each blank, and its digits are the bytes before that.
    """
    data = np.frombuffer(f"{' '.join(texts)} ".encode(), dtype=np.uint8)
    ends = np.flatnonzero(data == ord(" "))
    if not np.array_equal(ends[SIZE * SIZE - 1 :: SIZE * SIZE], np.cumsum([len(text) + 1 for text in texts]) - 1):
        return None
    lengths = np.diff(ends, prepend=-1) - 1
    digits = data - np.uint8(ord("0"))
    digits[ends] = 0  # what stands before a number of one digit counts as nothing
    if len(ends) != len(texts) * SIZE * SIZE or lengths.min() < 1 or lengths.max() > 3 or digits.max() > 9:
        return None
    values = digits[ends - 1].astype(np.uint16) + np.uint16(10) * digits[ends - 2]
    values += np.where(lengths == 3, np.uint16(100) * digits[ends - 3], np.uint16(0))
    return values.reshape(len(texts), -1) if values.max() <= 255 else None


def _parse_row(rows: _Rows, i: int) -> list[int]:
    columns = rows.pixels[i].split()
    expected = f"{SIZE * SIZE} pixels, whole numbers 0 to 255"
    if len(columns) != SIZE * SIZE:
        raise DataError.at(rows.path, f"{len(columns)} pixels", expected, line=rows.lines[i])
    for column in columns:
        if not (column.isascii() and column.isdigit() and len(column) < 4 and int(column) <= 255):
            raise DataError.at(rows.path, f"pixel {column[:20]!r}", expected, line=rows.lines[i])
    return [int(column) for column in columns]


# -- folders --------------------------------------------------------------------------------------------------------------


def _load_folders(folder: Path, split: str | None, transform: Callable[[Image.Image], Any] | None) -> FaceDataset:
    path = next((p for p in (folder, Path(f"{folder}.zip")) if os.path.exists(p)), None)
    if path is None:
        raise DataError.at(folder, "not found", _LAYOUT)
    source = Source(path)
    members, labels, parts = [], [], []
    for member in source.names:
        if member.split("/")[0].lower() not in _FOLDERS:
            continue
        match = _MEMBER.fullmatch(member)
        if not match or match[2].lower() not in _WORDS:
            raise DataError.at(source.where(member), "unexpected file", f"files like train/angry/1.png; emotions {', '.join(_WORDS)}")
        part = "val" if match[3].startswith("PublicTest") else _FOLDERS[match[1].lower()]
        if split in (None, part):
            members.append(member)
            labels.append(FER2013.classes.index(_WORDS[match[2].lower()]))
            parts.append(part)
    if not members:
        raise DataError.at(path, "no images" if split is None else f"no images of the {split} part", _LAYOUT)
    return FaceDataset(
        name="FER2013", images=load_images(source, members, mode="L", size=(SIZE, SIZE)), labels=np.array(labels, dtype=np.int64),
        classes=FER2013.classes, names=np.array(members, dtype=np.str_), split=np.array(parts, dtype=np.str_), transform=transform,
    )


# -- FER+ -----------------------------------------------------------------------------------------------------------------


def _read_votes(path: Path, rows: _Rows, table: Path) -> tuple[list[str], np.ndarray]:
    """Image names, empty for rows that are no face, and votes ``[N, 10]``, one row a row of the table.

    The numbers in the names skip some rows and not others, so only the order tells which image is meant.
    """
    expected = f"lines '{','.join(_VOTES_HEADER)}', votes as whole numbers"
    if not os.path.exists(path):
        raise DataError.at(path, "not found", _VOTES_LAYOUT)
    lines = read_text(path, expected).splitlines() or [""]
    header = [column.strip(' "').lower() for column in lines[0].split(",")]
    if header != [column.lower() for column in _VOTES_HEADER]:
        raise DataError.at(path, f"header {lines[0][:80]!r}", expected, line=1)
    names: list[str] = []
    counts: list[list[int]] = []
    seen: set[str] = set()
    for line, text in enumerate(lines[1:], 2):
        if not text.strip():
            continue
        usage, *columns = (column.strip(' "') for column in text.split(","))
        if len(columns) != len(_VOTES_HEADER) - 1:
            raise DataError.at(path, f"{len(columns) + 1} columns", expected, line=line)
        name, *votes = columns
        if not all(vote.isascii() and vote.isdigit() and len(vote) < 4 for vote in votes):
            raise DataError.at(path, f"votes {','.join(votes)[:80]!r}", expected, line=line)
        if name in seen:
            raise DataError.at(path, f"{name} is listed twice", "one line an image", line=line)
        if len(names) < len(rows.split) and _SPLITS.get(usage) != rows.split[len(names)]:
            other = f"{table.name}, line {rows.lines[len(names)]}, of the {rows.split[len(names)]} part"
            raise DataError.at(path, f"usage {usage[:20]!r}", f"that of {other}: the tables go row by row", line=line)
        if name:
            seen.add(name)
        names.append(name)
        counts.append([int(vote) for vote in votes])
    if len(names) != len(rows.split):
        raise DataError.at(path, f"{len(names)} rows", f"{len(rows.split)}, as in {table}: the tables go row by row")
    return names, np.array(counts)


def _drop_single(votes: np.ndarray) -> np.ndarray:
    return np.where(votes > 1, votes, 0)


def _count_majority(votes: np.ndarray) -> np.ndarray:
    """Votes of the emotions ``[N, 8]`` without single ones; all 0 where no emotion has the majority."""
    remaining = _drop_single(votes)
    emotions = remaining[:, : len(FERPLUS)]
    return np.where(2 * emotions.max(axis=1, keepdims=True) > remaining.sum(axis=1, keepdims=True), emotions, 0)


def _count_leading(votes: np.ndarray) -> np.ndarray:
    """Votes of the leading emotions ``[N, 8]``; all 0 where they are too many or have too few."""
    remaining = _drop_single(votes)
    counted = np.zeros((len(votes), len(FERPLUS)), dtype=votes.dtype)
    for row, taken in zip(remaining.tolist(), counted, strict=True):
        emotions, other, total = row[: len(FERPLUS)], max(row[len(FERPLUS) :]), sum(row)
        chosen: list[int] = []
        for level in sorted({count for count in emotions if count}, reverse=True):
            if 4 * sum(emotions[i] for i in chosen) >= 3 * total or len(chosen) >= 3 or other > level:
                break
            chosen += [i for i, count in enumerate(emotions) if count == level]
            if other == level:
                break
        if len(chosen) <= 3 and 2 * sum(emotions[i] for i in chosen) > total:
            taken[chosen] = [emotions[i] for i in chosen]
    return counted


def _list_votes(names: Sequence[str], counts: np.ndarray) -> pd.DataFrame:
    """One row a vote."""
    labels = np.repeat(np.tile(np.arange(counts.shape[1]), len(counts)), counts.ravel())
    tasks = np.repeat(np.array(names, dtype=object), counts.sum(axis=1))
    return pd.DataFrame({"task": tasks, "worker": np.arange(len(labels)), "label": labels})

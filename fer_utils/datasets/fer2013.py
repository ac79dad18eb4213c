"""FER2013 (Goodfellow et al. 2013) and its second, crowd-sourced labels FER+ (Barsoum et al. 2016).

FER2013 is free for research from the Kaggle challenge *Challenges in Representation Learning: Facial Expression Recognition*,
as one table ``fer2013.csv``. The votes of FER+ (``fer2013new.csv``) are in https://github.com/microsoft/FERPlus.

Copies of FER2013 as image files also go around: folders ``train`` and ``test`` (some have ``val`` or ``validation``) of folders
``angry`` to ``surprise``, or ``Training``, ``PublicTest`` and ``PrivateTest``. We assume, as no owner documents them, that a file
called ``PublicTest_*`` is of the validation part wherever it lies: the common copy puts both halves of the 7,178 test images into
``test``. Of FER+ there is what its authors' own script writes: ``FER2013Train``, ``FER2013Valid`` and ``FER2013Test``, each with
pictures and a ``label.csv`` of the votes.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from ..errors import DataError
from ..files import data_root
from ..labels import BASIC, FER2013, FERPLUS
from .base import FaceDataset
from .images import PendingImages, load_images
from .layouts import Parts, describe_folder, find_folders, name_copy, read_word, scan_parts
from .pixels import SIZE, Rows, parse_pixels, read_table
from .source import Source, default_root, read_text

__all__ = ["NOT_A_FACE", "UNKNOWN", "load", "load_ferplus"]

#: Codes of the two last columns of FER+, which are no emotions.
UNKNOWN, NOT_A_FACE = len(FERPLUS), len(FERPLUS) + 1

_SPLITS = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
_VOTES_HEADER = ("Usage", "Image name", *FERPLUS.classes, "unknown", "NF")
#: The contest's ``train.csv`` has no column of parts, and its ``test.csv`` no labels.
_TRAIN = "train.csv"
_TABLES = ("fer2013.csv", "icml_face_data.csv", "fer2013", _TRAIN)
_WORDS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
_FOLDERS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "publictest": "val", "test": "test",
    "testing": "test", "privatetest": "test",
}
#: What FER+'s own script writes.
_WRITTEN = {"FER2013Train": "train", "FER2013Valid": "val", "FER2013Test": "test"}
_BOX = re.compile(rf"\(0, *0, *{SIZE}, *{SIZE}\)")
_ROW = f"lines '<image>,\"(0, 0, {SIZE}, {SIZE})\",' and {len(_VOTES_HEADER) - 2} votes as whole numbers"
_MODES = ("majority", "probability")
_MEMBERS = f"files like train/angry/1.png; classes {', '.join(_WORDS)}, as nouns or adjectives (numbers do not say which emotion they mean)"
_LAYOUT = (
    f"a folder with {_TABLES[0]}, or with train/<emotion>/*.png and test/<emotion>/*.png (emotions {', '.join(_WORDS)}), unpacked; "
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
        The folder that holds ``fer2013.csv`` (or Kaggle's ``icml_face_data.csv``, or the contest's ``train.csv``, which has the
        training part alone), or the folders ``train`` and ``test``, which may be in a zip archive. Either may lie one folder
        deeper. Or the table itself. ``fer2013`` in :func:`~fer_utils.files.data_root` by default.
    split : {"train", "val", "test"}, optional
        Only this part: ``Training``, ``PublicTest`` or ``PrivateTest``.
    transform : callable, optional
        See :class:`~fer_utils.datasets.base.FaceDataset`.

    Returns
    -------
    FaceDataset
        Grey images of 48x48. From the table in its order, with names like ``fer2013.csv#2``, the line; from folders sorted by
        name, with names like ``train/angry/1.png``. ``name`` says which copy it is, if not the table.

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
    alone = table.name == _TRAIN
    rows = read_table(table, FER2013, _SPLITS | {"": "train"} if alone else _SPLITS)
    keep = [i for i, part in enumerate(rows.split) if split in (None, part)]
    if not keep:
        raise DataError.at(table, f"no images of the {split} part", _LAYOUT)
    return FaceDataset(
        name=name_copy("FER2013", "the contest's train.csv: the training part alone" if alone else ""),
        images=parse_pixels(rows, keep), labels=np.array([rows.labels[i] for i in keep], dtype=np.int64), classes=FER2013.classes,
        names=np.array([f"{table.name}#{rows.lines[i]}" for i in keep], dtype=np.str_),
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
        The folder that holds ``fer2013.csv``, or the folders of pictures and votes that FER+'s own script writes; ``fer2013`` in
        :func:`~fer_utils.files.data_root` by default.
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
        In the order of the tables, under FER+'s image names, or paths where there are folders. ``votes`` has every vote on the
        images that stay, whatever the mode: codes 0 to 7 in the order of ``labels.FERPLUS``, ``UNKNOWN`` and ``NOT_A_FACE``.
        FER+ tells how many voted, not who: each vote has a ``worker`` of its own. ``distributions`` has the shares of the seven
        basic emotions among the votes that the mode counted, NaN where it counted contempt alone.

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
    places = [Path(votes)] if votes is not None else [folder, data_root() / "ferplus"]
    path = next((place / "fer2013new.csv" for place in places if os.path.exists(place / "fer2013new.csv")), places[0] / "fer2013new.csv")
    if table is None or not os.path.exists(path):
        written = next((p for place in (*places, folder) for p in (place, place / "data") if _is_written(p)), None)
        if written is not None:
            return _load_written(written, mode, classes, split, transform)
    if table is None:
        expected = f"the table that the votes of FER+ follow row by row; or {', '.join(_WRITTEN)}"
        raise DataError.at(folder / _TABLES[0], f"not found: {describe_folder(folder)}" if folder.exists() else "not found", expected)
    rows = read_table(table, FER2013, _SPLITS)
    names, counts = _read_votes(path, rows, table)
    return _make_ferplus("FER+", names, counts, rows.split, partial(parse_pixels, rows), mode, classes, split, transform)


def _check_split(split: str | None) -> None:
    if split not in (None, *_SPLITS.values()):
        raise ValueError(f"split must be 'train', 'val', 'test' or None, got {split!r}")


def _find_table(folder: Path) -> Path | None:
    """The table in a folder or one deeper, or the file itself."""
    if folder.is_file() and folder.suffix != ".zip":
        return folder
    found = [place / name for name in _TABLES for place in find_folders(folder)]
    return next((path for path in found if path.is_file() and (path.name in _TABLES[:2] or _has_pixels(path))), None)


def _has_pixels(path: Path) -> bool:
    """Whether a file of a name that says little is such a table."""
    with path.open("rb") as file:
        return b"pixels" in file.readline(200)


# -- folders --------------------------------------------------------------------------------------------------------------


def _load_folders(folder: Path, split: str | None, transform: Callable[[Image.Image], Any] | None) -> FaceDataset:
    path = next((p for p in (folder, Path(f"{folder}.zip")) if os.path.exists(p)), None)
    if path is None:
        raise DataError.at(folder, "not found", _LAYOUT)
    source = Source(path)
    members, labels, parts = [], [], []
    places = set()
    for member, part, word in scan_parts(source, _FOLDERS, _MEMBERS):
        *above, _, name = member.split("/")
        places.add("/".join(above))
        if read_word(word) not in FER2013.classes:
            raise DataError.at(source.where(member), f"unexpected file, of class {word!r}", _MEMBERS)
        part = "val" if name.startswith("PublicTest") else part
        if split in (None, part):
            members.append(member)
            labels.append(FER2013.classes.index(read_word(word)))
            parts.append(part)
    if not members:
        problem = f"no images: {describe_folder(path)}" if split is None or not places else f"no images of the {split} part"
        raise DataError.at(path, problem, _LAYOUT)
    return FaceDataset(
        name=name_copy("FER2013", f"pictures in {' and '.join(sorted(places))}"),
        images=load_images(source, members, mode="L", size=(SIZE, SIZE)),
        labels=np.array(labels, dtype=np.int64), classes=FER2013.classes, names=np.array(members, dtype=np.str_),
        split=np.array(parts, dtype=np.str_), transform=transform,
    )


# -- FER+ -----------------------------------------------------------------------------------------------------------------


def _make_ferplus(
    name: str, names: Sequence[str], counts: np.ndarray, parts: Sequence[str],
    images: Callable[[list[int]], np.ndarray | PendingImages], mode: str, classes: int, split: str | None,
    transform: Callable[[Image.Image], Any] | None,
) -> FaceDataset:
    """Choose among faces by their votes; ``images`` gives those at some positions."""
    counted = _count_majority(counts) if mode == "majority" else _count_leading(counts)
    labels = counted.argmax(axis=1)
    stays = (counted.sum(axis=1) > 0) & (labels < classes)
    keep = [i for i, image in enumerate(names) if image and stays[i] and split in (None, parts[i])]
    basic = counted[keep][:, [FERPLUS.classes.index(emotion) for emotion in BASIC]].astype(np.float32)
    total = basic.sum(axis=1, keepdims=True)
    return FaceDataset(
        name=name, images=images(keep), labels=labels[keep], classes=FERPLUS.classes[:classes],
        names=np.array([names[i] for i in keep], dtype=np.str_), split=np.array([parts[i] for i in keep], dtype=np.str_),
        votes=_list_votes([names[i] for i in keep], counts[keep]),
        distributions=np.divide(basic, total, out=np.full_like(basic, np.nan), where=total > 0), transform=transform,
    )


def _is_written(place: Path) -> bool:
    """Whether FER+'s script wrote pictures here; a clone has the tables alone."""
    return any(next((place / part).glob("*.png"), None) is not None for part in _WRITTEN)


def _load_written(place: Path, mode: str, classes: int, split: str | None, transform: Callable[[Image.Image], Any] | None) -> FaceDataset:
    here = [part for part in _WRITTEN if (place / part).is_dir()]
    source = Parts(place, {part: Source(place / part) for part in here})
    listed: dict[str, list[int]] = {}
    for part in here:
        table = f"{part}/label.csv"
        where = source.where(table)
        for line, text in enumerate(source.text(table, _ROW).splitlines(), 1):
            if not text.strip():
                continue
            name, votes = _read_row(text, where, line)
            member = f"{part}/{name}"
            if member not in source:
                raise DataError.at(source.where(member), "not found", f"an image, because {where}, line {line}, names it")
            if member in listed:
                raise DataError.at(where, f"{name} is listed twice", "one line an image", line=line)
            listed[member] = votes
        unlisted = {name for name in source.names if name.startswith(f"{part}/") and name.endswith(".png")} - listed.keys()
        if unlisted:
            raise DataError.at(source.where(min(unlisted)), f"not in {where}", "only images that the table names")
    names, parts = list(listed), [_WRITTEN[name.split("/")[0]] for name in listed]

    def images(keep: list[int]) -> PendingImages:
        return load_images(source, [names[i] for i in keep], mode="L", size=(SIZE, SIZE))

    title = name_copy("FER+", f"as its own script writes it, {', '.join(here)}")
    counts = np.array(list(listed.values()), dtype=np.int64).reshape(-1, len(_VOTES_HEADER) - 2)
    return _make_ferplus(title, names, counts, parts, images, mode, classes, split, transform)


def _read_row(text: str, where: str, line: int) -> tuple[str, list[int]]:
    """Name and votes of one line of a ``label.csv``."""
    try:
        (columns,) = csv.reader([text], strict=True)
    except csv.Error as error:
        raise DataError.at(where, f"{text[:80]!r} cannot be read ({error})", _ROW, line=line) from error
    name, box, *votes = [column.strip() for column in columns] if len(columns) > 1 else [text, ""]
    if len(votes) != len(_VOTES_HEADER) - 2 or not all(vote.isascii() and vote.isdigit() and len(vote) < 4 for vote in votes):
        raise DataError.at(where, f"{text[:80]!r}", _ROW, line=line)
    if not _BOX.fullmatch(box):
        raise DataError.at(where, f"a box {box[:40]!r}", f"the whole picture: {_ROW}", line=line)
    return name, [int(vote) for vote in votes]


def _read_votes(path: Path, rows: Rows, table: Path) -> tuple[list[str], np.ndarray]:
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

"""RAF-DB (Li & Deng 2019), in the layout that its owners hand out, or as copies of its basic classes go around.

The dataset is free for research, but access is asked for from the owners: http://www.whdeng.cn/raf/model1.html.
FACSynth ships in the same layout and is read by the same code.

Reproductions keep ``EmoLabel`` and ``Image/aligned`` alone, in a folder ``basic`` or ``raf-basic``. Kaggle's copy, and what some
of their code wants, is ``train/1/train_00001_aligned.jpg`` and ``test`` or ``valid`` likewise, with the owners' numbers as
folders, and often ``train_labels.csv`` and ``test_labels.csv`` (``image,label``).
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
from ..labels import BASIC, RAFDB, RAFDB_COMPOUND, Vocabulary
from ..preprocess import TEMPLATE_5
from .base import FaceDataset
from .images import load_images
from .layouts import SPLITS, describe_folder, find_folders, name_copy, read_word, scan_parts
from .source import Source, default_root, parse_numbers, read_text

__all__ = ["AGES", "GENDERS", "RACES", "load"]

#: What the last three lines of an annotation file mean, in the order of their codes.
GENDERS = ("male", "female", "unsure")
RACES = ("Caucasian", "African-American", "Asian")
AGES = ("0-3", "4-19", "20-39", "40-69", "70+")

ALIGNED_SIZE = 100
_SUBSETS = {"basic": RAFDB, "compound": RAFDB_COMPOUND}
_LISTS = ("list_patition_label.txt", "list_partition_label.txt")
_NAME = re.compile(r"(train|test)_\d+\.jpg")
_MANUAL = "Annotation/manual"
#: What is not known without the annotations.
_UNKNOWN = {f"{_MANUAL} and auto": "landmarks or attributes"}
_MEMBERS = (
    f"files like train/1/train_00001_aligned.jpg, in folders {RAFDB.codes[0]} to {RAFDB.codes[-1]} (the owners' numbers) or named as "
    f"{', '.join(BASIC)}"
)


def load(
    root: str | os.PathLike[str] | None = None,
    subset: str = "basic",
    *,
    split: str | None = None,
    aligned: bool = True,
    landmarks: bool = True,
    partial: bool = False,
    transform: Callable[[Image.Image], Any] | None = None,
) -> FaceDataset:
    """Read RAF-DB.

    Parameters
    ----------
    root : path, optional
        The folder that holds ``basic/`` and ``compound/``, or one of these itself; ``rafdb`` in
        :func:`~fer_utils.files.data_root` by default. Images and annotations may be zipped or unzipped. Or a folder (or zip
        archive) with ``train/1`` to ``test/7``, as on Kaggle.
    subset : {"basic", "compound"}
        Seven or eleven classes.
    split : {"train", "test"}, optional
        Only this part.
    aligned : bool
        The owners' 100x100 aligned faces, or the pictures as found, which must then be of one size.
    landmarks : bool
        Also read the landmarks and attributes, where the copy has them; ``landmarks_dense`` where the automatic ones are there.
    partial : bool
        Leave out listed images that are not there, instead of failing (FACSynth ships a sample of its unaligned pictures).
    transform : callable, optional
        See :class:`~fer_utils.datasets.base.FaceDataset`.

    Returns
    -------
    FaceDataset
        In the order of the label list. RGB images; ``landmarks`` in the pixels of ``images``; ``distributions`` where the
        file is there. ``name`` says what a copy lacks.

    Raises
    ------
    DataError
        If a file is missing, damaged, or not as the owners describe it.
    ValueError
        For an unknown ``subset`` or ``split``.

    Notes
    -----
    The annotations are in pixels of the original pictures. For aligned faces they are carried over by the similarity that
    brings the five points onto :data:`~fer_utils.preprocess.TEMPLATE_5`: exact for FACSynth, an approximation for RAF-DB,
    whose owners did not publish their template.
    """
    if subset not in _SUBSETS:
        raise ValueError(f"subset must be 'basic' or 'compound', got {subset!r}")
    if split not in (None, "train", "test"):
        raise ValueError(f"split must be 'train', 'test' or None, got {split!r}")
    layout = (
        f"a folder with {subset}/Image/aligned.zip (or aligned/), {subset}/EmoLabel/{_LISTS[0]} and {subset}/{_MANUAL}.zip"
        f"{'; or with train/1 to test/7, as on Kaggle' if subset == 'basic' else ''}; "
        "RAF-DB is not public: ask its owners for access at http://www.whdeng.cn/raf/model1.html"
    )
    base = default_root(root, "rafdb")
    folder = _find_folder(base, subset)
    if folder is None:
        copied = _load_copy(base, split, aligned, layout, transform) if subset == "basic" else None
        if copied is None:
            raise DataError.at(base if base.exists() else base / subset, describe_folder(base), layout)
        return copied

    names, labels = _read_list(folder / "EmoLabel", _SUBSETS[subset])
    kind, suffix = ("aligned", "_aligned.jpg") if aligned else ("original", ".jpg")
    source = Source.require(folder / "Image", kind, expected=layout)
    members = [name.removesuffix(".jpg") + suffix for name in names]
    keep = _match(source, members, names, partial)
    if split is not None:
        keep = [i for i in keep if names[i].startswith(split)]
    names, labels, members = ([column[i] for i in keep] for column in (names, labels, members))
    images = load_images(
        source, members, size=(ALIGNED_SIZE, ALIGNED_SIZE) if aligned else None,
        hint="" if aligned else " as the first image; originals of several sizes are no array, load the aligned faces",
    )
    faces, lacks = _Faces(), {}
    if landmarks and Source.find(folder / "Annotation", "manual") is None:
        lacks = _UNKNOWN
    elif landmarks:
        faces = _read_faces(folder / "Annotation", names, aligned)
        lacks = {"Annotation/auto": "landmarks of the shape"} if faces.dense is None else {}
    return FaceDataset(
        name=name_copy(f"RAF-DB {subset}", "", lacks), images=images, labels=np.array(labels, dtype=np.int64),
        classes=_SUBSETS[subset].classes, names=np.array(names, dtype=np.str_),
        split=np.array([name.split("_")[0] for name in names], dtype=np.str_), landmarks=faces.five, landmarks_dense=faces.dense,
        attributes=faces.attributes, distributions=_read_distributions(folder / "EmoLabel" / f"distribution_{subset}.txt", names),
        transform=transform,
    )


def _find_folder(base: Path, subset: str) -> Path | None:
    """The folder of a subset in the owners' layout: below ``base``, up to two deep, or ``base`` itself."""
    (other,) = _SUBSETS.keys() - {subset}
    found = [base / subset, *(inner for place in find_folders(base) for inner in find_folders(place))]
    # one that is called by neither subset may hold either; its labels will tell
    found.sort(key=lambda place: subset not in place.name.lower())
    found = [place for place in found if subset in place.name.lower() or other not in place.resolve().name.lower()]
    return next((place for part in ("EmoLabel", "Image") for place in found if (place / part).is_dir()), None)


def _load_copy(
    base: Path, split: str | None, aligned: bool, layout: str, transform: Callable[[Image.Image], Any] | None
) -> FaceDataset | None:
    """Read ``train/1/train_00001_aligned.jpg``, or return None where there is nothing like it."""
    path = next((path for path in (base, Path(f"{base}.zip")) if path.exists()), None)
    if path is None:
        return None
    source = Source(path, (base.name, base.stem))
    found = scan_parts(source, SPLITS, _MEMBERS)
    if not found:
        return None
    if not aligned:
        raise DataError.at(path, "a copy of the aligned pictures alone", f"the pictures as found, basic/Image/original.zip: {layout}")
    lone = {part for _, part, _ in found} == {"train", "val"}  # RAF-DB has no validation part: it is the test part
    listed = _read_tables(source)
    rows: dict[str, tuple[str, str, int]] = {}
    for member, part, word in found:
        name = member.rsplit("/", 1)[-1]
        part = "test" if lone and part == "val" else part
        label = int(word) - 1 if word in map(str, RAFDB.codes) else BASIC.index(read_word(word)) if read_word(word) in BASIC else None
        if label is None:
            raise DataError.at(source.where(member), f"class {word!r}", f"{_MEMBERS}; numbers from 0 may mean any order")
        said = name.split("_")[0]
        if (said in ("train", "test") and "test" in (said, part) and said != part) or name in rows:
            problem = f"in the {part} part" if name not in rows else f"comes twice, first as {rows[name][0]}"
            raise DataError.at(source.where(member), problem, "each picture once, in the part that its name begins with")
        if listed.get(name, label) != label:
            expected = f"{BASIC[listed[name]]}, as the table of labels says"
            raise DataError.at(source.where(member), f"{BASIC[label]}, by its folder", expected)
        rows[name] = (member, part, label)
    gone = next((name for name in listed if name not in rows), None)
    if gone is not None:
        raise DataError.at(path, f"no {gone}", "an image, because the table of labels names it")
    order = sorted(rows, key=lambda name: (list(SPLITS.values()).index(rows[name][1]), name))
    chosen = [(name.replace("_aligned", ""), *rows[name]) for name in order if split in (None, rows[name][1])]
    if not chosen:
        raise DataError.at(path, f"no images of the {split} part", layout)
    names, members, parts, labels = zip(*chosen, strict=True)
    images = load_images(source, members, size=(ALIGNED_SIZE, ALIGNED_SIZE), hint=", as the owners' aligned faces are")
    return FaceDataset(
        name=name_copy("RAF-DB basic", "Kaggle's copy: aligned pictures", _UNKNOWN), images=images,
        labels=np.array(labels, dtype=np.int64), classes=BASIC, names=np.array(names, dtype=np.str_),
        split=np.array(parts, dtype=np.str_), transform=transform,
    )


def _read_tables(source: Source) -> dict[str, int]:
    """What ``train_labels.csv`` and ``test_labels.csv`` say, where they are there."""
    listed: dict[str, int] = {}
    expected = f"lines 'image,label', labels {RAFDB.codes[0]} to {RAFDB.codes[-1]}"
    for table in (name for name in source.names if re.fullmatch(r"(.*/)?\w+_labels\.csv", name)):
        for line, text in enumerate(source.text(table, expected).splitlines(), 1):
            columns = [column.strip(' "') for column in text.split(",")]
            if not text.strip() or (line == 1 and columns == ["image", "label"]):
                continue
            if len(columns) != 2 or columns[1] not in map(str, RAFDB.codes):
                raise DataError.at(source.where(table), f"{text[:80]!r}", expected, line=line)
            if listed.setdefault(columns[0], int(columns[1]) - 1) != int(columns[1]) - 1:
                raise DataError.at(source.where(table), f"a second label of {columns[0]}", "one label an image", line=line)
    return listed


def _read_list(folder: Path, vocabulary: Vocabulary) -> tuple[list[str], list[int]]:
    """Image names and class positions from the list of labels."""
    path = next((folder / name for name in _LISTS if os.path.exists(folder / name)), folder / _LISTS[0])
    expected = f"lines '<train or test>_<number>.jpg <label {vocabulary.codes[0]} to {vocabulary.codes[-1]}>'"
    names: dict[str, int] = {}
    for line, text in enumerate(read_text(path, expected).splitlines(), 1):
        columns = text.split()
        if not columns:
            continue
        if len(columns) != 2:
            raise DataError.at(path, f"{len(columns)} columns in {text!r}", expected, line=line)
        name, code = columns
        if not _NAME.fullmatch(name):
            raise DataError.at(path, f"image name {name!r}", expected, line=line)
        if name in names:
            raise DataError.at(path, f"{name} is listed twice", "one line an image", line=line)
        try:
            names[name] = vocabulary.index(int(code))
        except ValueError as error:
            raise DataError.at(path, f"label {code!r}", expected, line=line) from error
    if not names:
        raise DataError.at(path, "no labels", expected)
    return list(names), list(names.values())


def _match(source: Source, members: Sequence[str], names: Sequence[str], partial: bool) -> list[int]:
    """Positions of the listed images that are there, after checking that list and images agree."""
    unlisted = set(source.names) - set(members)
    if unlisted:
        raise DataError.at(source.where(min(unlisted)), "not in the list of labels", "only images that the list names")
    keep = [i for i, member in enumerate(members) if member in source]
    if len(keep) < len(members) and not partial:
        missing = next(i for i, member in enumerate(members) if member not in source)
        raise DataError.at(source.where(members[missing]), "not found", f"an image, because the list of labels names {names[missing]}")
    return keep


def _read_distributions(path: Path, names: Sequence[str]) -> np.ndarray | None:
    """Vote shares ``[N, 7]``, or None where the owners' file is not there."""
    if not os.path.exists(path):
        return None
    expected = f"lines '<image name> p1 .. p{len(BASIC)}', shares from 0 to 1 that sum to 1"
    shares: dict[str, list[float]] = {}
    for line, text in enumerate(read_text(path, expected).splitlines(), 1):
        if not text.strip():
            continue
        name, *columns = text.split()
        try:
            row = [float(column) for column in columns]
        except ValueError as error:
            raise DataError.at(path, f"not a number in {text!r}", expected, line=line) from error
        if len(row) != len(BASIC) or not all(0 <= p <= 1 for p in row) or abs(sum(row) - 1) > 0.02 or name in shares:
            raise DataError.at(path, f"{text!r}", f"{expected}, one line an image", line=line)
        shares[name] = row
    missing = next((name for name in names if name not in shares), None)
    if missing is not None:
        raise DataError.at(path, f"no line for {missing}", expected)
    return np.array([shares[name] for name in names], dtype=np.float32).reshape(-1, len(BASIC))


@dataclass(frozen=True)
class _Faces:
    """What the annotation files say."""

    five: np.ndarray | None = None
    dense: np.ndarray | None = None
    attributes: pd.DataFrame | None = None


def _read_faces(folder: Path, names: Sequence[str], aligned: bool) -> _Faces:
    expected = "five lines 'x y', then gender 0 to 2, race 0 to 2 and age 0 to 4, a line each"
    manual = Source.require(folder, "manual", expected="the annotations of each image; or load without landmarks")
    rows = []
    for name in names:
        member = name.removesuffix(".jpg") + "_manu_attri.txt"
        row = parse_numbers(manual.text(member, expected), manual.where(member), (2, 2, 2, 2, 2, 1, 1, 1), expected)
        for line, (code, words) in enumerate(zip(row[10:], (GENDERS, RACES, AGES), strict=True), 6):
            if code not in range(len(words)):
                raise DataError.at(manual.where(member), f"code {code:g}", expected, line=line)
        rows.append(row)
    table = np.array(rows, dtype=np.float64).reshape(-1, 13)
    five, codes = table[:, :10].reshape(-1, 5, 2), table[:, 10:].astype(int)
    attributes = pd.DataFrame(
        {field: np.array(words)[codes[:, i]] for i, (field, words) in enumerate((("gender", GENDERS), ("race", RACES), ("age", AGES)))}
    )

    dense = None
    auto = Source.find(folder, "auto")
    if auto is not None:
        expected = "37 lines 'x y'"
        members = [name.removesuffix(".jpg") + "_auto_attri.txt" for name in names]
        dense = np.array([parse_numbers(auto.text(m, expected), auto.where(m), (2,) * 37, expected) for m in members]).reshape(-1, 37, 2)

    if aligned:
        flat = np.ptp(five, axis=1).max(axis=1) < 1e-6
        if flat.any():
            member = names[int(flat.argmax())].removesuffix(".jpg") + "_manu_attri.txt"
            raise DataError.at(manual.where(member), "five times the same point", "five points of a face")
        scale, shift = _similarities(five)
        five = _carry(five, scale, shift)
        dense = None if dense is None else _carry(dense, scale, shift)
    return _Faces(five.astype(np.float32), None if dense is None else dense.astype(np.float32), attributes)


def _similarities(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``preprocess.similarity_transform`` of many faces at once, as complex factors and shifts.

    With points as complex numbers a similarity is ``w = a z + b``; least squares gives ``a`` in closed form.
    """
    z, w = points[..., 0] + 1j * points[..., 1], TEMPLATE_5[:, 0] + 1j * TEMPLATE_5[:, 1].astype(np.float64)
    z_mean, w_mean = z.mean(1, keepdims=True), w.mean()
    centred = z - z_mean
    scale = (centred.conj() * (w - w_mean)).sum(1, keepdims=True) / (np.abs(centred) ** 2).sum(1, keepdims=True)
    return scale, w_mean - scale * z_mean


def _carry(points: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    moved = scale * (points[..., 0] + 1j * points[..., 1]) + shift
    return np.stack([moved.real, moved.imag], axis=-1)

"""AffectNet (Mollahosseini, Hasani & Mahoor 2019), in the two layouts that its owners have handed out, and as copies have them.

The release of 2021 has faces of 224x224 and a file for each annotation: ``train_set/images/12.jpg`` and
``train_set/annotations/12_exp.npy``, ``12_val.npy``, ``12_aro.npy``, ``12_lnd.npy``; the same in ``val_set``. The older one has
``training.csv`` and ``validation.csv`` (in ``Manually_Annotated_file_lists`` or not, with a header or not) and the pictures below
``Manually_Annotated_Images`` (in ``Manually_Annotated`` or not). Access is asked for from the owners:
http://mohammadmahoor.com/affectnet/.

We assume that the 68 points are in pixels of the picture beside them, and that a valence or arousal of -2 says that there is
none. Of the older lists, rows of the codes 8 to 10 (none, uncertain, no face) are no emotions and are left out.

Copies of the lists may have a row number before the other columns, other columns or fewer, tabs or semicolons for commas, and
their pictures in ``images``; without a box, pictures are taken whole. Kaggle's copy of small faces has one list, ``labels.csv``, with
a path (``pth``) and a word (``label``), which counts, not the folder that the picture lies in.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from ..errors import DataError
from ..labels import AFFECTNET
from .base import FaceDataset
from .ckplus import five_points
from .images import MAX_PIXELS, load_images, resize_square
from .layouts import describe_folder, find_folders, name_copy, read_word
from .source import Source, default_root, read_text

__all__ = ["load"]

RELEASED_SIZE = 224
_MARKS = 68
_NO_EMOTION = (8, 9, 10)
_LISTS = {"train": "training.csv", "val": "validation.csv"}
#: What lists of copies are called, in lower case, and their parts.
_COPIED = {"training": "train", "train": "train", "validation": "val", "valid": "val", "val": "val", "labels": "none"}
#: Columns of copies that go by other names, in lower case.
_SYNONYMS = {"pth": "subdirectory_filepath", "path": "subdirectory_filepath", "image": "subdirectory_filepath", "label": "expression"}
_PICTURES = ("Manually_Annotated_Images", "Manually_Annotated", "images")
_HEADER = (
    "subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks", "expression", "valence", "arousal",
)
_BOX = ("face_x", "face_y", "face_width", "face_height")
_EXPECTED = f"lines '{','.join(_HEADER)}', parted by commas, or under a header with {_HEADER[0]} and expression"
_MEMBER = re.compile(r"(train|val)_set/(?:images/(\d+)\.jpg|annotations/(\d+)_(exp|val|aro|lnd)\.npy)")
_LAYOUT = (
    "a folder with train_set and val_set, each with images and annotations, or with training.csv, validation.csv and "
    "Manually_Annotated_Images, or with labels.csv beside pictures (fer_utils.datasets.folder reads pictures in class folders); "
    "AffectNet is not public: ask its owners for access at http://mohammadmahoor.com/affectnet/"
)


def load(
    root: str | os.PathLike[str] | None = None,
    *,
    split: str | None = None,
    classes: int = 8,
    size: int = 100,
    landmarks: bool = True,
    transform: Callable[[Image.Image], Any] | None = None,
) -> FaceDataset:
    """Read AffectNet's manually annotated faces.

    Parameters
    ----------
    root : path, optional
        The folder of any layout; ``affectnet`` in :func:`~fer_utils.files.data_root` by default. The release of 2021
        may be one zip archive; of the older layout, the folder of pictures.
    split : {"train", "val"}, optional
        Only this part. The test part was never handed out.
    classes : {7, 8}
        With or without contempt.
    size : int
        Side of the faces. Those of 2021 are scaled to it; in the older layout the owners' box is cut out first, and goes on
        outside the picture with the colours of its border.
    landmarks : bool
        Also read the 68 points, where the copy has them.
    transform : callable, optional
        See :class:`~fer_utils.datasets.base.FaceDataset`.

    Returns
    -------
    FaceDataset
        RGB images, with names like ``train_set/images/12.jpg`` in the order of the numbers, or as the lists write and order
        them. ``truth`` has ``valence`` and ``arousal``, -1 to 1, NaN where there is none. ``landmarks_dense`` has 68 points,
        ``landmarks`` five derived from them, in pixels of ``images``. ``name`` says what a copy lacks.

    Raises
    ------
    DataError
        If a file is missing, damaged, or not as described here. Pictures that the lists do not name are one too, where both
        lists are there.
    ValueError
        For an unknown ``split`` or ``classes``, or a ``size`` below 1.
    """
    if split not in (None, *_LISTS):
        raise ValueError(f"split must be 'train', 'val' or None, got {split!r}")
    if classes not in (7, 8):
        raise ValueError(f"classes must be 7 or 8, got {classes!r}")
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    folder = default_root(root, "affectnet")
    path = next((p for p in (folder, Path(f"{folder}.zip")) if os.path.exists(p)), None)
    if path is None:
        raise DataError.at(folder, "not found", _LAYOUT)
    lists = _find_lists(folder)
    inner = [place for place in find_folders(folder) if any((place / f"{part}_set").is_dir() for part in _LISTS)]
    source, found = _read_lists(folder, lists, split, landmarks) if lists else _read_folders(inner[0] if inner else path, split, landmarks)
    faces = [face for face in found if face.label < classes]
    boxes = np.array([face.box for face in faces], dtype=np.int64).reshape(-1, 4)
    members = [face.member for face in faces]
    if lists:
        finish = partial(_cut_listed, boxes=boxes, lines=[(face.where, face.line) for face in faces], size=size)
    else:
        marked = landmarks and faces and faces[0].marks is not None
        finish = partial(_check_released, places=list(map(source.where, members)) if marked else None, size=size)
    images = load_images(
        source, members, size=(size, size), finish=finish,
        recipe=f"box lanczos {size} {landmarks} {hashlib.sha256(boxes.tobytes()).hexdigest()}",
    )
    dense = None
    if landmarks and all(face.marks is not None for face in faces):
        marks = np.array([face.marks for face in faces]).reshape(-1, _MARKS, 2)
        dense = (marks + 0.5 - boxes[:, None, :2]) * (size / boxes[:, None, 2:]) - 0.5
    affect = np.array([face.affect for face in faces], dtype=np.float32).reshape(-1, 2)
    lists_lack = f"facial_landmarks and face_x in {' and '.join(sorted(path.name for path in lists.values()))}"
    lacks = {lists_lack if lists else "annotations/*_lnd.npy": "landmarks"} if landmarks and dense is None else {}
    return FaceDataset(
        name=name_copy("AffectNet", "", lacks), images=images, labels=np.array([face.label for face in faces], dtype=np.int64),
        classes=AFFECTNET.classes[:classes], names=np.array([face.member for face in faces], dtype=np.str_),
        split=np.array([face.split for face in faces], dtype=np.str_), landmarks=None if dense is None else five_points(dense),
        landmarks_dense=dense, truth=pd.DataFrame(affect, columns=["valence", "arousal"]), transform=transform,
    )


@dataclass(frozen=True)
class _Face:
    member: str
    split: str
    label: int
    affect: tuple[float, float]  # valence, arousal
    marks: np.ndarray | None
    box: tuple[int, int, int, int] = (0, 0, RELEASED_SIZE, RELEASED_SIZE)  # x, y, width, height
    where: Path | None = None
    line: int | None = None


def _check_released(image: np.ndarray, i: int, places: Sequence[str] | None, size: int) -> np.ndarray:
    if places is not None and image.shape[:2] != (RELEASED_SIZE, RELEASED_SIZE):
        problem = f"{image.shape[1]}x{image.shape[0]} pixels, to which the landmarks do not belong"
        raise DataError.at(places[i], problem, f"{RELEASED_SIZE}x{RELEASED_SIZE} pixels; or load without landmarks")
    return resize_square(image, size)


def _cut_listed(image: np.ndarray, i: int, boxes: np.ndarray, lines: Sequence[tuple[Path | None, int | None]], size: int) -> np.ndarray:
    return resize_square(_cut_box(image, boxes[i], *lines[i]), size)


def _cut_box(image: np.ndarray, box: np.ndarray, where: Path | None, line: int | None) -> np.ndarray:
    """Cut a box out of an image whose border goes on outside it; a box without an area is the whole image."""
    x, y, width, height = box.tolist()
    if (width, height) == (0, 0):
        return image
    if x >= image.shape[1] or y >= image.shape[0] or x + width <= 0 or y + height <= 0:
        problem = f"a face at x {x}, y {y} of {width}x{height} pixels in a picture of {image.shape[1]}x{image.shape[0]}"
        raise DataError.at(where, problem, "a face within its picture", line=line)
    rows = np.arange(y, y + height).clip(0, image.shape[0] - 1)
    return image[rows][:, np.arange(x, x + width).clip(0, image.shape[1] - 1)]


def _check_affect(value: float, where: object, line: int | None = None) -> float:
    if not (-1 <= value <= 1 or value == -2):
        raise DataError.at(where, f"valence or arousal {value:g}", "-1 to 1, or -2 for none", line=line)
    return float("nan") if value == -2 else float(value)


# -- a file an annotation -------------------------------------------------------------------------------------------------


def _read_folders(path: Path, split: str | None, landmarks: bool) -> tuple[Source, list[_Face]]:
    source = Source(path)
    pictures: dict[str, list[int]] = {part: [] for part in _LISTS if split in (None, part)}
    labelled: dict[str, set[int]] = {part: set() for part in pictures}
    for name in source.names:
        if not name.startswith(("train_set/", "val_set/")):
            continue
        match = _MEMBER.fullmatch(name)
        if not match or (match[2] or match[3]) != str(int(match[2] or match[3])):
            raise DataError.at(source.where(name), "unexpected file", "files like images/12.jpg and annotations/12_exp.npy")
        if match[1] in pictures and match[2]:
            pictures[match[1]].append(int(match[2]))
        elif match[1] in pictures and match[4] == "exp":
            labelled[match[1]].add(int(match[3]))
    faces = []
    kinds = {name.rsplit("_", 1)[-1] for name in source.names if "/annotations/" in name}
    for part, numbers in pictures.items():
        missing = labelled[part] - set(numbers)
        if missing:
            label = source.where(f"{part}_set/annotations/{min(missing)}_exp.npy")
            raise DataError.at(source.where(f"{part}_set/images/{min(missing)}.jpg"), "not found", f"an image, because {label} is there")
        for number in sorted(numbers):
            member, stem = f"{part}_set/images/{number}.jpg", f"{part}_set/annotations/{number}"
            (code,) = _read_npy(source, f"{stem}_exp.npy", 1, f"the label of {member}, {AFFECTNET.codes[0]} to {AFFECTNET.codes[-1]}")
            if code not in AFFECTNET.codes:
                span = f"{AFFECTNET.codes[0]} to {AFFECTNET.codes[-1]}"
                raise DataError.at(source.where(f"{stem}_exp.npy"), f"label {code:g}", span)
            valence, arousal = (
                _check_affect(_read_npy(source, name, 1, f"a number for {member}")[0], source.where(name)) if kind in kinds else np.nan
                for kind, name in ((kind, f"{stem}_{kind}") for kind in ("val.npy", "aro.npy"))
            )
            wanted = landmarks and "lnd.npy" in kinds  # some copies have left all of them out
            marks = _read_npy(source, f"{stem}_lnd.npy", 2 * _MARKS, f"{_MARKS} points x, y of {member}") if wanted else None
            faces.append(_Face(member, part, AFFECTNET.index(int(code)), (valence, arousal), marks))
    if not faces:
        raise DataError.at(path, f"no images: {describe_folder(path)}" if split is None else f"no images of the {split} part", _LAYOUT)
    return source, faces


def _read_npy(source: Source, member: str, count: int, expected: str) -> np.ndarray:
    """Numbers of a small .npy file; the owners store some of them as text."""
    data = source.read(member, expected)
    try:
        values = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False).astype(np.float64).ravel()
    except Exception as error:  # NumPy's reader raises many kinds on damaged files
        raise DataError.at(source.where(member), f"cannot be read as .npy ({error})", expected) from error
    if len(values) != count:
        raise DataError.at(source.where(member), f"{len(values)} numbers", f"{count}: {expected}")
    if not np.isfinite(values).all():
        raise DataError.at(source.where(member), "a number that is not finite", expected)
    return values


# -- lists ----------------------------------------------------------------------------------------------------------------


def _find_lists(folder: Path) -> dict[str, Path]:
    """The lists that are there, by part."""
    found: dict[str, Path] = {}
    for place in (folder / "Manually_Annotated_file_lists", *find_folders(folder)):
        for path in sorted(place.glob("*.csv")):
            part = _COPIED.get(path.stem.lower())
            if part is not None:
                found.setdefault(part, path)
        if found:
            break
    if "none" in found and len(found) > 1:
        del found["none"]
    return found


def _read_lists(folder: Path, lists: dict[str, Path], split: str | None, landmarks: bool) -> tuple[Source, list[_Face]]:
    if split is not None and split not in lists:
        raise DataError.at(folder / _LISTS[split], "not found", _LAYOUT)
    place = next(iter(lists.values())).parent
    place = place.parent if place.name == "Manually_Annotated_file_lists" else place
    source = Source(place) if "none" in lists else Source.require(place, *_PICTURES, expected=_LAYOUT)
    listed: dict[str, str] = {}
    faces = []
    for part, path in lists.items():
        for line, columns in _read_columns(path):
            member = columns["subdirectory_filepath"].replace("\\", "/").removeprefix("./")
            if member in listed:
                raise DataError.at(path, f"{member} is listed twice, first in {listed[member]}", "one line an image", line=line)
            listed[member] = path.name
            face = _read_row(member, columns, part, path, line, landmarks) if split in (None, part) else None
            if face is None:
                continue
            if member not in source:
                raise DataError.at(source.where(member), "not found", f"an image, because {path}, line {line}, names it")
            faces.append(face)
    if not faces:
        raise DataError.at(lists[split or next(iter(lists))], "no faces with an emotion", _EXPECTED)
    unlisted = set(source.names) - set(listed)
    if unlisted and len(lists) == len(_LISTS):
        raise DataError.at(source.where(min(unlisted)), f"not in {' or '.join(map(str, lists.values()))}", "only images that a list names")
    return source, faces


def _read_columns(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Number of each line of a list, and what stands in its columns, by their names in lower case."""
    lines = read_text(path, _EXPECTED).splitlines() or [""]
    comma = next((mark for mark in (",", "\t", ";") if mark in lines[0]), ",")
    header = [name.lower() for name in _HEADER]
    for line, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            (columns,) = csv.reader([text], delimiter=comma, strict=True)
        except csv.Error as error:
            raise DataError.at(path, f"{text[:80]!r} cannot be read ({error})", _EXPECTED, line=line) from error
        columns = [column.strip(' "') for column in columns]
        names = [_SYNONYMS.get(column.lower(), column.lower()) for column in columns]
        if line == 1 and "expression" in names:
            boxed = len(set(names).intersection(_BOX))
            if "subdirectory_filepath" not in names or len(set(names)) != len(names) or boxed not in (0, len(_BOX)):
                raise DataError.at(path, f"header {text[:80]!r}", _EXPECTED, line=line)
            header = names
        elif len(columns) != len(header):
            raise DataError.at(path, f"{len(columns)} columns", f"{len(header)}: {_EXPECTED}", line=line)
        else:
            yield line, dict(zip(header, columns, strict=True))


def _read_row(member: str, columns: dict[str, str], part: str, path: Path, line: int, landmarks: bool) -> _Face | None:
    """One face, or None where the owners saw no emotion or no face."""
    word = columns["expression"]
    code = str(AFFECTNET.classes.index(read_word(word))) if read_word(word) in AFFECTNET.classes else word
    if code not in map(str, (*AFFECTNET.codes, *_NO_EMOTION)):
        raise DataError.at(path, f"expression {code[:20]!r}", f"{AFFECTNET.codes[0]} to {_NO_EMOTION[-1]}", line=line)
    if int(code) in _NO_EMOTION:
        return None
    boxed = set(_BOX) <= columns.keys()
    marks = None
    try:
        x, y, width, height = (int(columns[name]) for name in _BOX) if boxed else (0, 0, 0, 0)
        affect = [float(columns.get(name, "-2")) for name in ("valence", "arousal")]
        if landmarks and boxed and "facial_landmarks" in columns:
            marks = np.array(columns["facial_landmarks"].split(";"), dtype=np.float64)
    except ValueError as error:
        raise DataError.at(path, f"not a number ({error})", "numbers in all columns but the first", line=line) from error
    if boxed and (width < 1 or height < 1 or width * height > MAX_PIXELS or max(abs(x), abs(y)) > MAX_PIXELS):
        raise DataError.at(path, f"a face at x {x}, y {y} of {width}x{height} pixels", "a box with an area", line=line)
    if marks is not None and (marks.size != 2 * _MARKS or not np.isfinite(marks).all()):
        problem = f"{marks.size} coordinates" if marks.size != 2 * _MARKS else "a coordinate that is not finite"
        raise DataError.at(path, problem, f"{2 * _MARKS} numbers x;y;x;y, {_MARKS} points", line=line)
    known = (_check_affect(affect[0], path, line), _check_affect(affect[1], path, line))
    return _Face(member, part, AFFECTNET.index(int(code)), known, marks, (x, y, width, height), path, line)

"""Any folder of faces: pictures in a folder for each class, or named by a table. The reader's own data comes in here.

``photos/anger/*.jpg``, ``photos/train/Angry/*.png``, or ``photos/labels.csv`` beside the pictures; the whole folder may be a zip
archive. Loaders of datasets that are such folders are built from the functions below.
"""

from __future__ import annotations

import csv as tables
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import DataError
from ..labels import ADJECTIVES, BASIC, MUXSPACE
from .base import FaceDataset
from .images import PendingImages, load_images, resize_square
from .source import Source

__all__ = ["SUFFIXES", "Face", "Parts", "list_images", "load", "open_source", "pick_classes", "resize_images", "scan_classes"]

#: Endings of file names that are pictures; anything else in a folder of faces is left alone.
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff")

_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "testing": "test"}
#: Classes that 6, 7 and 8 leave out.
_LEFT_OUT = {6: ("neutral", "contempt"), 7: ("contempt",), 8: ()}
_COLUMNS = ("image", "label", "split", "subject")
_LAYOUT = "a folder (or a .zip of it) with images in <class>/ or <train, val or test>/<class>/; or a csv file that names each image's label"


@dataclass(frozen=True)
class Face:
    """One picture of a folder, and what its place or its line in a table says.

    Attributes
    ----------
    member : str
        Path within the source.
    emotion : str
        Class name.
    split : str
        ``"train"``, ``"val"``, ``"test"`` or ``"none"``.
    subject : str
        Who is shown; empty where nothing says it.
    """

    member: str
    emotion: str
    split: str = "none"
    subject: str = ""

    @property
    def name(self) -> str:
        """File name without folder."""
        return self.member.rsplit("/", 1)[-1]


def load(
    root: str | os.PathLike[str],
    *,
    classes: Sequence[str] | None = None,
    split: str | None = None,
    csv: str | None = None,
    size: int | None = None,
    mode: str = "RGB",
    transform: Callable[[Image.Image], Any] | None = None,
) -> FaceDataset:
    """Read a folder of labelled faces.

    Parameters
    ----------
    root : path
        The folder, or a zip archive of it: images in ``<class>/``, or in ``<train, val or test>/<class>/``. Other files are
        left alone.
    classes : sequence of str, optional
        Class names, in the order that the labels shall have; images of other emotions are left out. May name classes of your
        own. By default ``labels.BASIC``, and contempt after it where there is such an image, so that labels mean the same as
        in the rest of the book.
    split : {"train", "val", "test"}, optional
        Only this part.
    csv : str, optional
        A table within ``root``, which then says everything instead of the folders: a header ``image,label`` with, if you like,
        ``split`` and ``subject``; ``image`` is a path within ``root``. Images without a line are left out.
    size : int, optional
        Side to which the images are resized, whatever their shape; without it all must be of one size.
    mode : {"RGB", "L"}
        Colour or grey.
    transform : callable, optional
        See :class:`~fer_utils.datasets.base.FaceDataset`.

    Returns
    -------
    FaceDataset
        In the order of the paths, or of the table. ``names`` are paths within ``root``, since files of two classes may share a
        name. ``identities`` number the subjects in alphabetical order, where the table has them.

    Raises
    ------
    DataError
        If there is no such folder, an image lies in no class, a line of the table is wrong, or a file is damaged.
    ValueError
        For unusable ``classes``, ``split``, ``size`` or ``mode``.

    Notes
    -----
    Emotions are understood in any case, as noun or as adjective: ``Happy``, ``happiness`` and ``HAPPY`` are one class.
    """
    if split not in (None, "train", "val", "test"):
        raise ValueError(f"split must be 'train', 'val', 'test' or None, got {split!r}")
    wanted = None if classes is None else _read_words(classes)
    source = open_source(Path(root), _LAYOUT)
    known = (*MUXSPACE.classes, *(wanted or ()))
    faces = scan_classes(source, known, _LAYOUT) if csv is None else _read_table(source, csv, known)
    if wanted is None:
        wanted = (*BASIC, "contempt") if any(face.emotion == "contempt" for face in faces) else BASIC
    faces = [face for face in faces if face.emotion in wanted and split in (None, face.split)]
    if not faces:
        part = f" in the {split} part" if split else ""
        raise DataError.at(source.path, f"no image of {', '.join(wanted)}{part}", _LAYOUT)
    subjects = [face.subject for face in faces]
    return FaceDataset(
        name=Path(root).resolve().stem, images=resize_images(source, [face.member for face in faces], size, mode),
        labels=np.array([wanted.index(face.emotion) for face in faces]), classes=wanted,
        names=np.array([face.member for face in faces]), split=np.array([face.split for face in faces]),
        identities=np.unique(subjects, return_inverse=True)[1] if all(subjects) else None, transform=transform,
    )


def open_source(path: Path, layout: str) -> Source:
    """Open a folder, or the zip archive of that name. Raises ``DataError``, which describes the ``layout``, if neither is there."""
    for found in (path, path.with_name(f"{path.name}.zip")) if path.name else (path,):
        if os.path.exists(found):
            return Source(found, (path.name, path.stem))
    raise DataError.at(path, "no such folder, and no .zip of that name", layout)


def list_images(source: Source, layout: str, suffixes: tuple[str, ...] = SUFFIXES) -> list[str]:
    """List the pictures of a source, sorted.

    Parameters
    ----------
    source : Source
    layout : str
        What the source should look like, for errors.
    suffixes : tuple of str
        What the name of a picture may end in, in lower case.

    Returns
    -------
    list of str
        Paths within the source.

    Raises
    ------
    DataError
        If there is none, or one has a name that is not UTF-8.
    """
    members = [name for name in source.names if name.lower().endswith(suffixes)]
    for member in members:
        try:
            member.encode()
        except UnicodeEncodeError as error:  # such a name can be neither printed nor stored, so that no error could tell of it later
            where = source.where(member).encode(errors="backslashreplace").decode()
            raise DataError.at(where, "a name that is not UTF-8", "file names in UTF-8") from error
    if not members:
        raise DataError.at(source.path, "no images", layout)
    return members


def scan_classes(source: Source, known: Sequence[str], layout: str) -> list[Face]:
    """Read the labels of pictures off their folders.

    Parameters
    ----------
    source : Source
        With pictures in ``<class>/`` or ``<train, val or test>/<class>/``.
    known : sequence of str
        The class names there are.
    layout : str
        What the source should look like, for errors.

    Returns
    -------
    list of Face
        Sorted by path.

    Raises
    ------
    DataError
        If a picture lies in no class, in an unknown one, outside the parts although there are some, or twice in one class.
    """
    faces, seen = [], set()
    for member in list_images(source, layout):
        *folders, name = member.split("/")
        split = _SPLITS.get(folders[0].lower(), "none") if folders else "none"
        if split != "none":
            del folders[0]
        if len(folders) != 1:
            raise DataError.at(source.where(member), "an image in no class folder", layout)
        emotion = _read_word(folders[0])
        if emotion not in known:
            raise DataError.at(source.where(member), f"class {folders[0]!r}", f"one of {', '.join(known)}")
        if (split, emotion, name) in seen:
            raise DataError.at(source.where(member), f"comes twice, as {emotion} in two folders", "one folder a class")
        seen.add((split, emotion, name))
        faces.append(Face(member, emotion, split))
    loose = next((face for face in faces if face.split == "none"), None)
    if loose is not None and any(face.split != "none" for face in faces):
        raise DataError.at(source.where(loose.member), "in no part, though others are", layout)
    return faces


def pick_classes(
    classes: int | Sequence[str], offered: Sequence[str], *, onset: bool = False, left_out: dict[int, tuple[str, ...]] = _LEFT_OUT
) -> tuple[str, ...]:
    """Choose classes by number or by name.

    Parameters
    ----------
    classes : {6, 7, 8} or sequence of str
        The 6 basic emotions; 7 with neutral; 8 with contempt too. Or names, in the order that the labels shall have.
    offered : sequence of str
        What the dataset has.
    onset : bool
        Only first frames of sequences are asked for, which are neutral: a number then adds neutral.
    left_out : dict of int to tuple of str
        Which classes each number leaves out, where a dataset counts otherwise.

    Returns
    -------
    tuple of str

    Raises
    ------
    ValueError
        For a number or a name that the dataset does not offer, or names without neutral with ``onset``.
    """
    if isinstance(classes, int):
        chosen = tuple(name for name in offered if name not in left_out.get(classes, offered))
        if len(chosen) != classes:
            raise ValueError(f"classes must be {', '.join(str(n) for n in left_out if n <= len(offered))} or names, got {classes}")
        return (*chosen, "neutral") if onset and "neutral" not in chosen else chosen
    if isinstance(classes, str) or not classes or len(set(classes)) != len(classes) or set(classes) - set(offered):
        raise ValueError(f"classes must be different names of {', '.join(offered)}, got {classes!r}")
    if onset and "neutral" not in classes:
        raise ValueError(f"first frames are neutral: classes must have neutral with frames='onset', got {classes!r}")
    return tuple(classes)


def resize_images(source: Source, members: Sequence[str], size: int | None, mode: str) -> PendingImages:
    """Prepare pictures, resized to squares where ``size`` is given.

    Parameters
    ----------
    source : Source
    members : sequence of str
        Paths within the source.
    size : int, optional
        Side in pixels; without it all pictures must be of one size.
    mode : {"RGB", "L"}

    Returns
    -------
    PendingImages
        See :func:`~fer_utils.datasets.images.load_images`.

    Raises
    ------
    ValueError
        For a ``size`` below 1 or another ``mode``.
    """
    if mode not in ("RGB", "L"):
        raise ValueError(f"mode must be 'RGB' or 'L', got {mode!r}")
    if size is None:
        return load_images(source, members, mode=mode, hint=" as the first image; pass size to resize them all")
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    return load_images(source, members, mode=mode, size=(size, size), finish=partial(_resize, size=size), recipe=f"lanczos {size}")


def _resize(image: np.ndarray, _: int, size: int) -> np.ndarray:
    return resize_square(image, size)


class Parts(Source):
    """Several sources as one; the files of each lie below the name of its part.

    Parameters
    ----------
    path : Path
        The folder that holds them, for errors.
    parts : dict of str to Source
    """

    def __init__(self, path: Path, parts: dict[str, Source]) -> None:
        self.path, self._parts = path, parts

    @cached_property
    def names(self) -> list[str]:
        """Paths of the files, sorted, each below its part."""
        return sorted(f"{part}/{name}" for part, source in self._parts.items() for name in source.names)

    def __contains__(self, name: str) -> bool:
        part, _, rest = name.partition("/")
        return part in self._parts and rest in self._parts[part]

    def where(self, name: str) -> str:
        """How errors call a file."""
        part, _, rest = name.partition("/")
        return self._parts[part].where(rest) if part in self._parts else str(self.path / name)

    def files(self, names: Sequence[str]) -> list[Path]:
        """The files on disk behind some names, part by part."""
        inside: dict[str, list[str]] = {}
        for name in names:
            part, _, rest = name.partition("/")
            inside.setdefault(part, []).append(rest)
        return [file for part, rests in inside.items() for file in self._parts[part].files(rests)]

    def read(self, name: str, expected: str = "a readable file") -> bytes:
        """Read the bytes of a file. Raises ``DataError``, which says what was ``expected``."""
        if name not in self:
            raise DataError.at(self.where(name), "not found", expected)
        part, _, rest = name.partition("/")
        return self._parts[part].read(rest, expected)


def _read_word(word: str) -> str:
    """The noun of an emotion in any case, as noun or adjective; other words in lower case."""
    word = word.strip().lower()
    return ADJECTIVES.get(word, word)


def _read_words(classes: Sequence[str]) -> tuple[str, ...]:
    words = () if isinstance(classes, str) else tuple(map(_read_word, classes))
    if not all(words) or not words or len(set(words)) != len(words):
        raise ValueError(f"classes must be different names, got {classes!r}")
    return words


def _read_table(source: Source, csv: str, known: Sequence[str]) -> list[Face]:
    expected = f"lines '{','.join(_COLUMNS[:2])}[,{','.join(_COLUMNS[2:])}]' with a label of {', '.join(known)}"
    where, lines = source.where(csv), source.text(csv, expected).splitlines() or [""]
    header = _read_line(lines[0], where, 1, expected)
    if len(set(header)) != len(header) or not set(_COLUMNS[:2]) <= set(header) <= set(_COLUMNS):
        raise DataError.at(where, f"header {lines[0]!r}", f"the columns image and label, and maybe {' and '.join(_COLUMNS[2:])}", line=1)
    faces: dict[str, Face] = {}
    for line, text in enumerate(lines[1:], 2):
        if not text.strip():
            continue
        columns = _read_line(text, where, line, expected)
        if len(columns) != len(header):
            raise DataError.at(where, f"{len(columns)} columns", f"{len(header)} columns, as in the header", line=line)
        row = dict(zip(header, columns, strict=True))
        member, emotion, split = row["image"], _read_word(row["label"]), row.get("split", "")
        if emotion not in known:
            raise DataError.at(where, f"label {row['label']!r}", expected, line=line)
        if "split" in row and split.lower() not in _SPLITS:
            raise DataError.at(where, f"split {split!r}", "train, val or test", line=line)
        if row.get("subject", "-") == "":
            raise DataError.at(where, "no subject", "a subject in every line, because the header has the column", line=line)
        if member not in source:
            raise DataError.at(where, f"image {member!r} is not in {source.path}", "paths of images within that folder", line=line)
        if member in faces:
            raise DataError.at(where, f"{member} is listed twice", "one line an image", line=line)
        faces[member] = Face(member, emotion, _SPLITS.get(split.lower(), "none"), row.get("subject", ""))
    if not faces:
        raise DataError.at(where, "no labels", expected)
    return list(faces.values())


def _read_line(text: str, where: str, line: int, expected: str) -> list[str]:
    try:
        return [column.strip() for column in next(tables.reader([text], strict=True))]
    except (tables.Error, StopIteration) as error:
        raise DataError.at(where, f"{text!r} cannot be read ({error})", expected, line=line) from error

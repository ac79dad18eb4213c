"""Any folder of faces: pictures in a folder for each class, or named by a table. The reader's own data comes in here.

``photos/anger/*.jpg``, ``photos/train/Angry/*.png``, or ``photos/labels.csv`` beside the pictures; the whole folder may be a zip
archive.
"""

from __future__ import annotations

import csv as tables
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import DataError
from ..labels import BASIC, MUXSPACE
from .base import FaceDataset
from .layouts import SPLITS, Face, make_dataset, open_source, read_word, resize_images, scan_classes
from .source import Source

__all__ = ["load", "name_people"]

_COLUMNS = ("image", "label", "split", "subject")
#: File names of lab sets that say who is shown, as CK+ (``S010_004_00000017.png``) and JAFFE (``KA.AN1.39.tiff``) have them.
_PERSON = re.compile(r"(S\d{3,})_\d{3}_\d{3,}(?!\d).*|([A-Z]{2})\.[A-Z]{2}\d\.\d+\D.*", re.IGNORECASE | re.DOTALL)
_LAYOUT = "a folder (or a .zip of it) with images in <class>/ or <train, val or test>/<class>/; or a csv file that names each image's label"


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
        left alone, with a warning where one is a picture whose name does not end like one.
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
    images = resize_images(source, [face.member for face in faces], size, mode)
    identities = np.unique(subjects, return_inverse=True)[1] if all(subjects) else None
    return make_dataset(Path(root).resolve().stem, images, faces, wanted, identities=identities, transform=transform)


def name_people(faces: FaceDataset) -> FaceDataset:
    """Faces with the people whom their file names tell apart, as those of CK+ and JAFFE do.

    Parameters
    ----------
    faces : FaceDataset

    Returns
    -------
    FaceDataset
        With ``identities``, people in alphabetical order; as it was where it had them, or where a single name says nothing.
    """
    found = [_PERSON.fullmatch(name.rsplit("/", 1)[-1]) for name in faces.names.tolist()]
    if faces.identities is not None or not all(found):
        return faces
    people = [(match[1] or match[2]).upper() for match in found if match]
    return faces.replace(identities=np.unique(people, return_inverse=True)[1])


def _read_words(classes: Sequence[str]) -> tuple[str, ...]:
    words = () if isinstance(classes, str) else tuple(map(read_word, classes))
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
        member, emotion, split = row["image"], read_word(row["label"]), row.get("split", "")
        if emotion not in known:
            raise DataError.at(where, f"label {row['label']!r}", expected, line=line)
        if "split" in row and split.lower() not in SPLITS:
            raise DataError.at(where, f"split {split!r}", "train, val or test", line=line)
        if row.get("subject", "-") == "":
            raise DataError.at(where, "no subject", "a subject in every line, because the header has the column", line=line)
        if member not in source:
            raise DataError.at(where, f"image {member!r} is not in {source.path}", "paths of images within that folder", line=line)
        if member in faces:
            raise DataError.at(where, f"{member} is listed twice", "one line an image", line=line)
        faces[member] = Face(member, emotion, SPLITS.get(split.lower(), "none"), row.get("subject", ""))
    if not faces:
        raise DataError.at(where, "no labels", expected)
    return list(faces.values())


def _read_line(text: str, where: str, line: int, expected: str) -> list[str]:
    try:
        return [column.strip() for column in next(tables.reader([text], strict=True))]
    except (tables.Error, StopIteration) as error:
        raise DataError.at(where, f"{text!r} cannot be read ({error})", expected, line=line) from error

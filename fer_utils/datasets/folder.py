"""Any folder of faces: pictures in a folder for each class, or named by a table. The reader's own data comes in here.

``photos/anger/*.jpg``, ``photos/train/Angry/*.png``, or ``photos/labels.csv`` beside the pictures; the whole folder may be a zip
archive.
"""

from __future__ import annotations

import csv as tables
import io
import os
import posixpath
import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import DataError, printable
from ..labels import BASIC, MUXSPACE
from .base import FaceDataset
from .layouts import SPLITS, Face, make_dataset, open_source, read_word, resize_images, scan_classes
from .source import Source

__all__ = ["load", "name_people"]

_COLUMNS = ("image", "label", "split", "subject")
#: File names of lab sets that say who is shown, as CK+ (``S010_004_00000017.png``) and JAFFE (``KA.AN1.39.tiff``) have them.
_PERSON = re.compile(r"(S\d{3,})_\d{3}_\d{3,}(?!\d).*|([A-Z]{2})\.[A-Z]{2}\d\.\d+\D.*", re.IGNORECASE | re.DOTALL)
#: What may part the columns of a table.
_MARKS = ",;\t|"
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
        left alone, with a warning where one is a picture whose name does not end like one; so is what is hidden or what programs
        leave behind, such as ``Thumbs.db`` and ``@eaDir``.
    classes : sequence of str, optional
        Class names, in the order that the labels shall have; images of other emotions are left out. May name classes of your
        own. By default ``labels.BASIC``, and contempt after it where there is such an image, so that labels mean the same as
        in the rest of the book.
    split : {"train", "val", "test"}, optional
        Only this part.
    csv : str, optional
        A table within ``root``, which then says everything instead of the folders: a header ``image,label`` with, if you like,
        ``split`` and ``subject``; other columns do not matter. ``image`` is a path within ``root``, as Windows or a Mac may spell it,
        too. Columns are parted by commas, semicolons, tabs or bars; the text is UTF-8 or UTF-16. Images without a line are left out.
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
    return make_dataset(printable(Path(root).resolve().stem), images, faces, wanted, identities=identities, transform=transform)


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
    where = source.where(csv)
    header, rows = _split_table(source.text(csv, expected), where, expected)
    members: dict[str, list[str]] = {}
    for name in source.names:
        members.setdefault(_spell(name), []).append(name)
    faces: dict[str, Face] = {}
    for line, columns in rows:
        if len(columns) != len(header):
            raise DataError.at(where, f"{len(columns)} columns", f"{len(header)} columns, as in the header", line=line)
        row = dict(zip(header, columns, strict=True))
        image, emotion, split = row["image"], read_word(row["label"]), row.get("split", "")
        if emotion not in known:
            raise DataError.at(where, f"label {row['label']!r}", expected, line=line)
        if "split" in row and split.lower() not in SPLITS:
            raise DataError.at(where, f"split {split!r}", "train, val or test", line=line)
        if row.get("subject", "-") == "":
            raise DataError.at(where, "no subject", "a subject in every line, because the header has the column", line=line)
        found = [image] if image in source else members.get(_spell(image), [])
        if len(found) != 1:
            problem = f"image {image!r} is not in {source.path}" if not found else f"image {image!r} may be {' or '.join(found)}"
            raise DataError.at(where, problem, "paths of images within that folder", line=line)
        if found[0] in faces:
            raise DataError.at(where, f"{found[0]} is listed twice", "one line an image", line=line)
        faces[found[0]] = Face(found[0], emotion, SPLITS.get(split.lower(), "none"), row.get("subject", ""))
    if not faces:
        raise DataError.at(where, "no labels", expected)
    return list(faces.values())


def _spell(path: str) -> str:
    """What the spellings of a path have in common that mean one file on Windows or a Mac: slashes, ``./``, letters, accents."""
    return unicodedata.normalize("NFC", posixpath.normpath(path.replace("\\", "/"))).casefold()


def _split_table(text: str, where: str, expected: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header in lower case and, with their lines, the rows that hold anything; the header tells what parts the columns."""
    first = io.StringIO(text, newline=None).readline().strip()
    for mark in _MARKS:
        header = [column.strip(' "').lower() for column in first.split(mark)]
        if set(_COLUMNS[:2]) <= set(header):
            break
    else:
        raise DataError.at(where, f"header {first!r} without the columns image and label", expected, line=1)
    if twice := next((column for column in _COLUMNS if header.count(column) > 1), None):
        raise DataError.at(where, f"header {first!r} with two columns {twice}", expected, line=1)
    # a row may go over several lines: it is called by its first
    reader, rows, line = tables.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True), [], 1
    try:
        for row in reader:
            columns = [column.strip() for column in row]
            if any(columns):
                rows.append((line, columns))
            line = reader.line_num + 1
    except tables.Error as error:
        raise DataError.at(where, f"cannot be read ({error})", expected, line=line) from error
    return header, rows[1:]

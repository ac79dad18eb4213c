"""Tables of pictures as text, one row a face: how FER2013 was handed out, and how copies of other datasets go around."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..labels import Vocabulary
from .source import parse_int, read_text

__all__ = ["SIZE", "Rows", "parse_pixels", "read_table"]

#: Side of the pictures.
SIZE = 48

_HEADER = ("emotion", "pixels", "Usage")
#: Rows parsed at once: more do not fit a processor's cache.
_CHUNK = 16


@dataclass(frozen=True)
class Rows:
    """The table, a column each.

    Attributes
    ----------
    path : Path
        The file.
    lines : list of int
        Where each row stands, from 1.
    labels : list of int
    split : list of str
        As we call it: ``"train"``, ``"val"`` or ``"test"``.
    pixels : list of str
        As they stand there: 48 x 48 numbers.
    """

    path: Path
    lines: list[int]
    labels: list[int]
    split: list[str]
    pixels: list[str]


def read_table(path: Path, vocabulary: Vocabulary, splits: Mapping[str, str]) -> Rows:
    """Read the rows of a table, all but their pixels.

    Parameters
    ----------
    path : Path
        With the columns ``emotion``, ``pixels`` and maybe ``Usage``, in any order; others, such as a row number, are left alone.
    vocabulary : Vocabulary
        Of the column ``emotion``.
    splits : dict of str to str
        Values of the column ``Usage``, and what we call them; the empty one, if it is there, is for tables without the column.

    Raises
    ------
    DataError
        If the file is missing, damaged, or has other columns or values.
    """
    expected = f"lines '{','.join(_HEADER)}', in any order of columns, with {SIZE * SIZE} pixels parted by blanks"
    lines = read_text(path, expected).splitlines() or [""]
    header = [column.strip(' "').lower() for column in lines[0].split(",")]
    needed = {name.lower() for name in (_HEADER[:2] if "" in splits else _HEADER)}
    if not needed <= set(header) or len(set(header)) != len(header):
        raise DataError.at(path, f"header {lines[0][:80]!r}", expected, line=1)
    emotion, pixels = header.index("emotion"), header.index("pixels")
    usage = header.index("usage") if "usage" in header else None
    rows = Rows(path, [], [], [], [])
    for line, text in enumerate(lines[1:], 2):
        if not text.strip():
            continue
        columns = [column.strip(' "') for column in text.split(",")]
        if len(columns) != len(header):
            raise DataError.at(path, f"{len(columns)} columns", expected, line=line)
        try:
            rows.labels.append(vocabulary.index(parse_int(columns[emotion])))
        except ValueError as error:
            span = f"{vocabulary.codes[0]} to {vocabulary.codes[-1]}"
            raise DataError.at(path, f"emotion {columns[emotion][:20]!r}", span, line=line) from error
        part = "" if usage is None else columns[usage]
        if part not in splits:
            raise DataError.at(path, f"usage {part[:20]!r}", f"one of {', '.join(filter(None, splits))}", line=line)
        rows.split.append(splits[part])
        rows.pixels.append(columns[pixels])
        rows.lines.append(line)
    if not rows.lines:
        raise DataError.at(path, "no rows", expected)
    return rows


def parse_pixels(rows: Rows, keep: Sequence[int]) -> np.ndarray:
    """Parse the images of some rows.

    Parameters
    ----------
    rows : Rows
    keep : sequence of int
        Positions of rows.

    Returns
    -------
    uint8 ``[len(keep), 48, 48]``

    Raises
    ------
    DataError
        For what is no such picture.
    """
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


def _parse_row(rows: Rows, i: int) -> list[int]:
    columns = rows.pixels[i].split()
    expected = f"{SIZE * SIZE} pixels, whole numbers 0 to 255"
    if len(columns) != SIZE * SIZE:
        raise DataError.at(rows.path, f"{len(columns)} pixels", expected, line=rows.lines[i])
    for column in columns:
        if not (column.isascii() and column.isdigit() and len(column) < 4 and int(column) <= 255):
            raise DataError.at(rows.path, f"pixel {column[:20]!r}", expected, line=rows.lines[i])
    return [int(column) for column in columns]

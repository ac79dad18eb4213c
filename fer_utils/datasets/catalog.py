"""The datasets of the book: where each lies, who needs it, how to get it, and whether a copy holds what was published.

The facts are in ``catalog_entries``. Where nothing was published, :func:`check` only reports what it found.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..files import data_root, package_data
from .base import FaceDataset
from .catalog_entries import ENTRIES
from .entry import UNDIVIDED, Entry, Published

__all__ = ["Entry", "Finding", "Published", "check", "entries", "find", "is_here"]

_CHUNK = 64


@dataclass(frozen=True)
class Finding:
    """One count of a copy beside the published one.

    Attributes
    ----------
    what : str
        Such as ``"faces"``, ``"train"`` or ``"train, fear"``.
    expected : int or None
        None where nothing was published.
    found : int
    copy, source : str
        Which published state it is compared with, and who says so; empty where nothing was published.
    """

    what: str
    expected: int | None
    found: int
    copy: str = ""
    source: str = ""

    @property
    def agrees(self) -> bool:
        """Whether the copy holds what was published, or nothing was."""
        return self.expected is None or self.expected == self.found


def entries() -> tuple[Entry, ...]:
    """All datasets, in the order of the book's table."""
    return ENTRIES


def find(key: str) -> Entry:
    """The entry of a key. Raises ``ValueError``, which names the keys, for an unknown one."""
    for entry in ENTRIES:
        if entry.key == key:
            return entry
    raise ValueError(f"unknown dataset {key!r}; expected one of {', '.join(entry.key for entry in ENTRIES)}")


def is_here(entry: Entry) -> bool:
    """Whether the folders (or archives) that the loader reads by default are there and hold something; not whether they are whole."""
    roots = [data_root()] + ([package_data()] if entry.environment == "rendered" else [])
    places = [(entry.folder, *entry.beside), *((folder,) for folder in entry.instead)]
    return any(all(_holds(root / folder) for folder in place) for root in roots for place in places)


def _holds(folder: Path) -> bool:
    return os.path.isfile(folder.with_name(f"{folder.name}.zip")) or (os.path.isdir(folder) and any(folder.iterdir()))


def check(
    entry: Entry, root: str | os.PathLike[str] | None = None, *, say: Callable[[str], None] | None = None, **options: Any
) -> list[Finding]:
    """Read a copy, decode every image, and count.

    Nothing is taken from the cache of decoded images, nor kept in memory.

    Parameters
    ----------
    entry : Entry
    root : path, optional
        As the loader takes it.
    say : callable, optional
        Is told as what the copy was read.
    **options
        For the loader, such as ``aligned=False`` for the frames of SFEW 2.0.

    Returns
    -------
    list of Finding
        Faces in all, by part and by class, beside the published state that the copy is closest to.

    Raises
    ------
    DataError
        At the first file that is missing or damaged.
    ValueError, ImportError
        As :meth:`Entry.load`.
    """
    faces = entry.load(root, **{**entry.lenient, **options})
    _decode(faces)
    if say is not None:
        say(f"read as {faces.name}")
    compared = [_compare(faces, published) for published in entry.published] or [_compare(faces, None)]
    return min(compared, key=_distance)


def _decode(faces: FaceDataset) -> None:
    def some(start: int) -> int:
        stop = min(start + _CHUNK, len(faces))
        for i in range(start, stop):
            faces[i]  # one by one: reading faces.images would take a cached copy for the files, and all of them into memory
        return stop - start

    pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
    try:
        with tqdm(total=len(faces), desc=faces.name, unit=" images", leave=False, disable=None) as bar:
            for count in pool.map(some, range(0, len(faces), _CHUNK)):
                bar.update(count)
    finally:
        pool.shutdown(cancel_futures=True)


def _compare(faces: FaceDataset, published: Published | None) -> list[Finding]:
    said = published or Published("", "")
    counts: list[tuple[str, int | None, int]] = [("faces", said.total, len(faces))]
    found = [part for part in dict.fromkeys((*said.parts, *said.classes, *faces.split.tolist())) if part != UNDIVIDED or not said.parts]
    for part in found:
        inside = faces.split == part
        if part != UNDIVIDED:
            counts.append((part, said.parts.get(part), int(inside.sum())))
        expected = said.classes.get(part)
        held = np.bincount(faces.labels[inside], minlength=len(faces.classes))
        here = dict(zip(faces.classes, map(int, held), strict=True))
        for name in dict.fromkeys((*(expected or ()), *faces.classes)):
            what = name if part == UNDIVIDED else f"{part}, {name}"
            counts.append((what, None if expected is None else expected.get(name, 0), here.get(name, 0)))
    return [
        Finding(what, want, got, *(("", "") if want is None else (said.copy, said.source))) for what, want, got in counts
    ]


def _distance(findings: Sequence[Finding]) -> int:
    return sum(abs(finding.found - finding.expected) for finding in findings if finding.expected is not None)

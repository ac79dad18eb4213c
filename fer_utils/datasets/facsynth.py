"""FACSynth, the rendered faces that ship with the book: read by the loaders of the real datasets, plus what is known of them.

Every image is synthetic; the files are CC BY 4.0.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from ..errors import DataError
from ..files import data_root, package_data
from . import ckplus, rafdb
from .base import FaceDataset
from .source import is_junk, read_text

__all__ = ["checksum", "list_folders", "load", "load_annotators", "verify"]

_FOLDERS = {"basic": "raf/basic", "compound": "raf/compound", "lab": "ckplus"}
_MORE = {"basic": "more/basic", "compound": "more/compound"}
_SUMS = "SHA256SUMS"
#: How to get the faces where only the package is installed.
_HOW = (
    "the data/facsynth folder of the book's repository: git clone --depth 1 --branch v0.1.0 https://github.com/fer-book/fer-book, "
    "then set FER_DATA to the path of fer-book/data"
)
_verified: set[Path] = set()
#: The largest code of a mask: an occluder, hair or glasses.
_LAST_REGION = 6


def load(subset: str = "basic", *, split: str | None = None, masks: bool = False, more: bool = False, **options: Any) -> FaceDataset:
    """Read a set of the shipped faces.

    Parameters
    ----------
    subset : {"basic", "compound", "lab"}
        Faces in the wild with 7 or 11 classes, in RAF-DB's layout; or posed sequences in CK+'s.
    split : {"train", "test"}, optional
        Only this part (basic and compound).
    masks : bool
        Also read the region masks: 0 background, 1 skin and other face, 2 brows, 3 eyes, 4 nose, 5 mouth, 6 occluder, hair or
        glasses. They belong to the aligned faces of 100x100.
    more : bool
        Also read the further test faces (basic and compound): three times as many, of other people, for small differences.
    **options
        For :func:`rafdb.load` (``aligned``, ``landmarks``, ``transform``) or :func:`ckplus.load` (``frames``, ``classes``,
        ``align``, ``transform``), except ``root`` and ``facs``. With ``aligned=False`` the sample of unaligned pictures.

    Returns
    -------
    FaceDataset
        ``truth`` has one row an image: action units, intensity, identity, pose, light, occlusion, camera. ``votes`` (basic
        and compound) has RAF-DB's codes 1 to 7 as labels.

    Raises
    ------
    DataError
        If a file is missing, damaged, or differs from its checksum.
    ValueError
        For an unknown ``subset`` or ``split``, a ``split`` of the lab set, masks with unaligned faces, or more faces where there are none.
    """
    folders = list_folders(subset, more=more)
    if more and options.get("aligned", True) is False:
        raise ValueError("the further test faces ship aligned only")
    if masks and (options.get("aligned", True) is False or options.get("align", 100) != 100):
        raise ValueError("the masks belong to the aligned faces of 100x100; load those, or no masks")
    root = find_root()
    if split == "train":
        folders = folders[:1]  # the others hold test faces alone
    found = [_load_folder(root, folder, subset, split, masks, options) for folder in folders]
    return found[0] if len(found) == 1 else found[0].join(found[1])


def list_folders(subset: str, *, more: bool = False) -> list[str]:
    """The folders below :func:`find_root` that hold a set, with or without the further test faces.

    Parameters
    ----------
    subset : str
        As :func:`load`.
    more : bool
        Also the further test faces.

    Raises
    ------
    ValueError
        For an unknown set, or more faces of one that has none.
    """
    if subset not in _FOLDERS:
        raise ValueError(f"subset must be one of {', '.join(_FOLDERS)}, got {subset!r}")
    if more and subset not in _MORE:
        raise ValueError(f"there are no more faces of the {subset} set, only of {' and '.join(_MORE)}")
    return [_FOLDERS[subset], *([_MORE[subset]] if more else [])]


def _load_folder(root: Path, name: str, subset: str, split: str | None, masks: bool, options: dict[str, Any]) -> FaceDataset:
    """One folder of faces, with what is known of them."""
    folder = root / name
    verify(root, name)
    if subset == "lab":
        if split is not None:
            raise ValueError("the lab set has no split; use a subject-independent one")
        faces = ckplus.load(folder, facs=False, **options)
    else:
        faces = rafdb.load(folder.parent, subset, split=split, partial=not options.get("aligned", True), **options)

    truth = _read_table(folder / "truth.parquet", ("name", "identity"))
    truth = truth.iloc[_positions(truth["name"], faces.names, folder / "truth.parquet")].reset_index(drop=True)
    known: dict[str, Any] = {"name": f"FACSynth {subset}", "truth": truth.assign(name=faces.names)}
    if subset != "lab":
        known["identities"] = truth["identity"].to_numpy()
        votes = _read_table(folder / "votes.parquet", ("task", "worker", "label"))
        known["votes"] = votes[votes["task"].isin(set(faces.names.tolist()))].reset_index(drop=True)
    if masks:
        known["masks"] = _read_masks(folder / "masks.npz", faces.names)
    return faces.replace(**known)


def load_annotators() -> pd.DataFrame:
    """Read the simulated annotators: ``worker``, ``reliability`` and ``reliable``. Raises ``DataError`` as :func:`load` does."""
    root = find_root()
    verify(root, "raf/annotators.parquet")
    return _read_table(root / "raf" / "annotators.parquet", ("worker", "reliability", "reliable"))


def checksum(folders: Sequence[str]) -> str:
    """What changes with the files below some folders of :func:`list_folders`: SHA-256 of their sorted lines in the list of checksums.

    Raises
    ------
    DataError
        If the list is not there.
    """
    lines = read_text(find_root() / _SUMS, "the checksums of the shipped faces").splitlines()
    paths = {line: PurePosixPath(line.partition(" ")[2].strip().removeprefix("*")) for line in lines}
    own = sorted(line for line, path in paths.items() if any(path.is_relative_to(folder) for folder in folders))
    return hashlib.sha256("\n".join(own).encode(errors="surrogateescape")).hexdigest()


def find_root() -> Path:
    """Find the folder of the shipped faces: below the data root, or else below the package's own data folder."""
    places = [data / "facsynth" for data in dict.fromkeys((data_root(), package_data()))]
    for place in places:
        if os.path.isfile(place / _SUMS):
            return place
    looked = " and ".join(map(str, places))
    raise DataError.at(places[-1] / _SUMS, f"not found (looked in {looked})", _HOW)


def verify(root: Path, prefix: str = "") -> int:
    """Check files against their checksums, each once a process.

    Parameters
    ----------
    root : Path
        The folder with ``SHA256SUMS``.
    prefix : str
        Only this file, or the files below this folder.

    Returns
    -------
    int
        How many files the sums list there.

    Raises
    ------
    DataError
        If a file is missing, differs, or is not listed.
    """
    sums = root / _SUMS
    expected = "lines '<SHA-256> <path below this folder>'"
    listed: dict[Path, str] = {}
    top = root.resolve()
    for line, text in enumerate(read_text(sums, expected).splitlines(), 1):
        digest, _, name = text.partition(" ")
        path = PurePosixPath(name.strip().removeprefix("*"))
        if len(digest) != 64 or not path.parts or path.is_absolute() or ".." in path.parts:
            raise DataError.at(sums, f"{text!r}", expected, line=line)
        if path.is_relative_to(prefix):
            listed[top / path] = digest.lower()
    if not listed:
        raise DataError.at(sums, f"no file of {prefix or root}", expected)
    present = {path for path in (top / prefix).rglob("*") if path.is_file() and not is_junk(path.relative_to(top).as_posix())}
    stray = present - listed.keys() - {top / _SUMS}
    if stray:
        raise DataError.at(min(stray), f"not in {_SUMS}", "only files with a checksum")
    todo = [path for path in listed if path not in _verified]
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(_digest, todo))
    for path, digest in zip(todo, digests, strict=True):
        if digest != listed[path]:
            raise DataError.at(path, f"its SHA-256 is {digest}", f"{listed[path]}; get the file again")
    _verified.update(todo)
    return len(listed)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError.at(path, f"cannot be read ({error.strerror})", f"a file of {_SUMS}") from error


def _read_table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    expected = f"a Parquet table with the columns {', '.join(columns)}"
    try:
        table = pd.read_parquet(path)
    except Exception as error:  # Arrow and pandas raise many kinds on damaged files
        raise DataError.at(path, f"cannot be read ({error})", expected) from error
    if not set(columns) <= set(table.columns):
        raise DataError.at(path, f"columns {', '.join(map(str, table.columns[:8]))}", expected)
    return table


def _positions(known: Any, names: np.ndarray, path: Path) -> np.ndarray:
    """Where each image stands in a table of ``known`` names; file endings do not count."""
    index = pd.Index([str(name).partition(".")[0] for name in known])
    if not index.is_unique:
        raise DataError.at(path, f"{index[index.duplicated()][0]} comes twice", "one row an image")
    found = index.get_indexer([str(name).partition(".")[0] for name in names])
    if (found < 0).any():
        raise DataError.at(path, f"no row of {names[(found < 0).argmax()]}", "one row an image")
    return found


def _read_masks(path: Path, names: np.ndarray) -> np.ndarray:
    expected = f"an .npz of names [N] and masks uint8 [N, 100, 100], codes 0 to {_LAST_REGION}"
    try:
        with np.load(path, allow_pickle=False) as archive:
            known, masks = np.asarray(archive["names"]), np.asarray(archive["masks"])  # what is no array is given as bytes
    except Exception as error:  # NumPy passes on whatever zip, zlib and its own parser raise
        raise DataError.at(path, f"cannot be read ({error})", expected) from error
    if masks.dtype != np.uint8 or known.ndim != 1 or masks.shape != (len(known), 100, 100):
        raise DataError.at(path, f"masks {masks.dtype} {masks.shape}", expected)
    if masks.max(initial=0) > _LAST_REGION:
        raise DataError.at(path, f"a mask with the code {masks.max()}", expected)
    return masks[_positions(known, names, path)]

"""What every loader shares: the :class:`FaceDataset`, the one error that bad data raises, and reading from folder or zip."""

from __future__ import annotations

import io
import math
import mmap
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from PIL import Image

__all__ = ["DataError", "FaceDataset", "Source", "data_root", "decode_image", "load_images", "parse_numbers", "read_text"]

#: An image with more pixels than this, or an archive member that unpacks to more bytes or by a larger factor, is refused.
MAX_PIXELS = 50_000_000
MAX_MEMBER_BYTES = 64 * 2**20
MAX_RATIO = 200
MAX_TOTAL_BYTES = 64 * 2**30

_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF")
_JUNK = {"Thumbs.db", "desktop.ini", ".DS_Store"}
_CHUNK = 64


class DataError(ValueError):
    """A dataset on disk is not what its layout promises. The message names the file, the line if any, and what was expected."""

    @classmethod
    def at(cls, where: object, problem: object, expected: str, *, line: int | None = None) -> Self:
        """Make the error from its parts.

        Parameters
        ----------
        where : object
            The file, or ``archive.zip!member``.
        problem : object
            What is wrong.
        expected : str
            What should have been there.
        line : int, optional
            Line of the file, from 1.
        """
        place = f"{where}" if line is None else f"{where}, line {line}"
        return cls(f"{place}: {problem}; expected {expected}")


def data_root() -> Path:
    """Find the folder that holds the datasets.

    ``$FER_DATA`` where it is set; else the ``data`` folder beside the package (the repository's); else ``data`` in the
    working directory. The folder need not exist.
    """
    if os.environ.get("FER_DATA"):
        return Path(os.environ["FER_DATA"]).expanduser()
    beside = package_data()
    return beside if beside.is_dir() else Path.cwd() / "data"


def package_data() -> Path:
    """Return the ``data`` folder beside the package, whatever ``$FER_DATA`` says."""
    return Path(__file__).resolve().parents[2] / "data"


# -- the dataset ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False)
class FaceDataset:
    """Faces with labels and whatever else is known of them, one row an image; acts like a torchvision dataset.

    Arrays are read-only: copy one (or index it with an array) before writing to it or giving it to ``torch.from_numpy``.

    Attributes
    ----------
    name : str
        The dataset, such as ``"FACSynth basic"``.
    images : uint8 ``[N, H, W]`` or ``[N, H, W, 3]``
        Grey or RGB.
    labels : int64 ``[N]``
        Positions in ``classes``.
    classes : tuple of str
        Class names.
    names : str ``[N]``
        File names without folder.
    split : str ``[N]``
        ``"train"`` or ``"test"``; ``"none"`` where the owners define no split.
    identities : int64 ``[N]``, optional
        Who is shown.
    landmarks : float32 ``[N, 5, 2]``, optional
        Left eye, right eye, nose tip, left and right mouth corner in image order; ``(x, y)`` pixels of ``images``.
    landmarks_dense : float32 ``[N, L, 2]``, optional
        37 (RAF-DB) or 68 (CK+) points, pixels of ``images``.
    attributes : DataFrame, optional
        ``gender``, ``race``, ``age`` as words.
    votes : DataFrame, optional
        ``task`` (a name of ``names``), ``worker``, ``label`` (the owner's code), any number of rows an image.
    distributions : float32 ``[N, 7]``, optional
        Share of the votes for each basic emotion, in the order of ``labels.BASIC``.
    truth : DataFrame, optional
        What is known beyond the owners' labels, one row an image.
    masks : uint8 ``[N, H, W]``, optional
        Region codes.
    transform : callable, optional
        Takes a ``PIL.Image`` as torchvision's do; applied by ``dataset[i]``.

    Raises
    ------
    ValueError
        If a field has the wrong type or shape, or another length than ``images``.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    names: np.ndarray
    split: np.ndarray
    identities: np.ndarray | None = None
    landmarks: np.ndarray | None = None
    landmarks_dense: np.ndarray | None = None
    attributes: pd.DataFrame | None = None
    votes: pd.DataFrame | None = None
    distributions: np.ndarray | None = None
    truth: pd.DataFrame | None = None
    masks: np.ndarray | None = None
    transform: Callable[[Image.Image], Any] | None = None

    def __post_init__(self) -> None:
        images = np.asarray(self.images)
        if images.dtype != np.uint8 or not (images.ndim == 3 or (images.ndim == 4 and images.shape[-1] == 3)):
            raise ValueError(f"{self.name}: images must be uint8 [N, H, W] or [N, H, W, 3], got {images.dtype} {images.shape}")
        n, size = len(images), images.shape[1:3]
        shapes = {
            "images": (np.uint8, images.shape), "labels": (np.int64, (n,)), "names": (np.str_, (n,)), "split": (np.str_, (n,)),
            "identities": (np.int64, (n,)), "landmarks": (np.float32, (n, 5, 2)), "landmarks_dense": (np.float32, (n, None, 2)),
            "distributions": (np.float32, (n, 7)), "masks": (np.uint8, (n, *size)),
        }
        for field, (dtype, shape) in shapes.items():
            value = getattr(self, field)
            if value is None and field not in ("images", "labels", "names", "split"):
                continue
            array = np.asarray(value).astype(dtype, copy=False).view()
            if array.ndim != len(shape) or any(want not in (None, got) for want, got in zip(shape, array.shape, strict=True)):
                raise ValueError(f"{self.name}: {field} must have shape {_shape(shape)} for {n} images, got {_shape(array.shape)}")
            array.flags.writeable = False
            object.__setattr__(self, field, array)
        for field in ("attributes", "truth"):
            frame = getattr(self, field)
            if frame is not None and len(frame) != n:
                raise ValueError(f"{self.name}: {field} must have {n} rows, one an image, got {len(frame)}")
        if self.votes is not None and not {"task", "worker", "label"} <= set(self.votes.columns):
            raise ValueError(f"{self.name}: votes must have the columns task, worker, label, got {', '.join(map(str, self.votes.columns))}")
        object.__setattr__(self, "classes", tuple(self.classes))
        unknown = set(self.labels.tolist()) - set(range(len(self.classes)))
        if unknown:
            raise ValueError(f"{self.name}: labels must be 0 to {len(self.classes) - 1}, got {min(unknown)}")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """One face as ``(PIL.Image, label)``; the image goes through ``transform`` where there is one."""
        image: Any = Image.fromarray(self.images[index])
        return (image if self.transform is None else self.transform(image)), int(self.labels[index])

    def __repr__(self) -> str:
        colour = "RGB" if self.images.ndim == 4 else "grey"
        height, width = self.images.shape[1:3]
        counts = zip(*np.unique(self.split, return_counts=True), strict=True)
        splits = ", ".join(f"{count} {name}" for name, count in counts if name != "none")
        known = [f.name for f in fields(self)[6:-1] if getattr(self, f.name) is not None]
        lines = [
            f"FaceDataset {self.name}: {len(self)} {colour} images of {width}x{height}" + (f" ({splits})" if splits else ""),
            f"  classes: {', '.join(f'{name} {count}' for name, count in self.class_counts().items())}",
        ]
        return "\n".join([*lines, f"  with: {', '.join(known)}"] if known else lines)

    @property
    def targets(self) -> np.ndarray:
        """The labels, under torchvision's name."""
        return self.labels

    @property
    def train(self) -> FaceDataset:
        """The owners' training part. Raises ``ValueError`` where there is none."""
        return self._part("train")

    @property
    def test(self) -> FaceDataset:
        """The owners' test part. Raises ``ValueError`` where there is none."""
        return self._part("test")

    def _part(self, split: str) -> FaceDataset:
        chosen = self.split == split
        if not chosen.any():
            raise ValueError(f"{self.name} has no {split} part here; its splits are {', '.join(np.unique(self.split)) or 'empty'}")
        return self.subset(chosen)

    def subset(self, index: Sequence[int] | np.ndarray | slice) -> FaceDataset:
        """Take some of the faces, with everything known of them.

        Parameters
        ----------
        index : integer positions, bool mask ``[N]`` or slice

        Returns
        -------
        FaceDataset
            In the order of ``index``. ``votes`` are those on the chosen images.

        Raises
        ------
        IndexError
            If a position is out of range, or a mask has another length than the dataset.
        """
        where = np.asarray(index) if not isinstance(index, slice) else np.arange(len(self))[index]
        if where.size == 0 and where.dtype != bool:
            where = where.astype(np.int64)
        positions = np.arange(len(self))[where]
        if positions.ndim != 1:
            raise IndexError(f"subset takes a list of positions or a mask, got an index of shape {where.shape}")
        changes: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                changes[field.name] = value[positions]
            elif field.name in ("attributes", "truth") and value is not None:
                changes[field.name] = value.iloc[positions].reset_index(drop=True)
        if self.votes is not None:
            changes["votes"] = self.votes[self.votes["task"].isin(set(changes["names"].tolist()))].reset_index(drop=True)
        return replace(self, **changes)

    def class_counts(self) -> dict[str, int]:
        """Images of each class, in the order of ``classes``."""
        counts = np.bincount(self.labels, minlength=len(self.classes))
        return {name: int(count) for name, count in zip(self.classes, counts, strict=True)}


def _shape(shape: Iterable[int | None]) -> str:
    return "[" + ", ".join("any" if s is None else str(s) for s in shape) + "]"


# -- files ----------------------------------------------------------------------------------------------------------------


class Source:
    """Files under one name, in a folder or in a zip archive, read by any number of threads.

    Parameters
    ----------
    path : Path
        A folder or a zip archive; its files may lie below one more folder of one of ``stems``.
    stems : sequence of str
        Names that the folder may have.

    Raises
    ------
    DataError
        If the archive is broken or unsafe: a member that is absolute, climbs out by ``..``, is a link, comes twice, is
        encrypted, or unpacks to more than ``MAX_MEMBER_BYTES`` or by more than ``MAX_RATIO``; or a folder that holds a link
        which leaves it.
    """

    def __init__(self, path: Path, stems: Sequence[str] = ()) -> None:
        self.path = Path(path)
        self._zipped = not self.path.is_dir()
        self._stems = tuple(stems) or (self.path.stem,)
        self._members: dict[str, Any] = _scan_zip(self.path, self._stems) if self._zipped else _scan_folder(self.path, self._stems)

    @classmethod
    def find(cls, parent: Path, *stems: str) -> Self | None:
        """Open the first of ``parent/stem`` and ``parent/stem.zip`` that is there, or return ``None``."""
        for stem in stems:
            for path in (parent / stem, parent / f"{stem}.zip"):
                if os.path.exists(path):
                    return cls(path, stems)
        return None

    @classmethod
    def require(cls, parent: Path, *stems: str, expected: str) -> Self:
        """As :meth:`find`, but its absence is a ``DataError`` that says what was ``expected``."""
        found = cls.find(parent, *stems)
        if found is None:
            raise DataError.at(parent / stems[0], "not found, neither as a folder nor as a .zip", expected)
        return found

    @cached_property
    def names(self) -> list[str]:
        """Paths of the files within the source, sorted, with forward slashes."""
        return sorted(self._members)

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def where(self, name: str) -> str:
        """How errors call a file of this source."""
        if self._zipped:
            return f"{self.path}!{self._members[name].filename if name in self._members else name}"
        return str(self._members.get(name, self.path / name))

    def read(self, name: str, expected: str = "a readable file") -> bytes:
        """Read the bytes of a file. Raises ``DataError``, which says what was ``expected``."""
        if name not in self._members:
            raise DataError.at(self.where(name), "not found", expected)
        try:
            data = self._unpack(self._members[name]) if self._zipped else self._members[name].read_bytes()
        except (OSError, EOFError, ValueError, struct.error, zlib.error) as error:
            raise DataError.at(self.where(name), f"cannot be read ({error})", expected) from error
        if not data:
            raise DataError.at(self.where(name), "empty file", expected)
        return data

    @cached_property
    def _map(self) -> mmap.mmap:
        with self.path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def _unpack(self, info: zipfile.ZipInfo) -> bytes:
        # zipfile's own reader takes one lock for all threads and many small reads; this takes one slice of the mapped file.
        head = self._map[info.header_offset : info.header_offset + 30]
        if head[:4] != b"PK\x03\x04":
            raise ValueError("no local header where the archive's directory points")
        start = info.header_offset + 30 + sum(struct.unpack("<HH", head[26:30]))
        data = self._map[start : start + info.compress_size]
        if info.compress_type == zipfile.ZIP_DEFLATED:
            data = zlib.decompressobj(-15).decompress(data, info.file_size + 1)
        if len(data) != info.file_size or zlib.crc32(data) != info.CRC:
            raise ValueError("truncated or damaged")
        return data

    def text(self, name: str, expected: str = "a text file") -> str:
        """Read a file as text. Raises ``DataError`` if it is not UTF-8."""
        return _decode_text(self.read(name, expected), self.where(name), expected)


def read_text(path: Path, expected: str) -> str:
    """Read a loose file as text. Raises ``DataError``, which says what was ``expected``."""
    try:
        data = path.read_bytes()
    except OSError as error:
        problem = "not found" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise DataError.at(path, problem, expected) from error
    if not data:
        raise DataError.at(path, "empty file", expected)
    return _decode_text(data, path, expected)


def _decode_text(data: bytes, where: object, expected: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError.at(where, f"not a text file ({error.reason})", expected) from error


def _junk(name: str) -> bool:
    *folders, last = name.split("/")
    return last in _JUNK or last.startswith("._") or "__MACOSX" in folders


def _scan_folder(path: Path, stems: Sequence[str]) -> dict[str, Path]:
    root = path.resolve()
    members: dict[str, Path] = {}

    def give_up(error: OSError) -> None:
        raise DataError.at(error.filename or path, f"cannot be read ({error.strerror})", "a readable folder") from error

    for folder, subfolders, files in os.walk(root, onerror=give_up):
        for name in [*subfolders, *files]:
            full = os.path.join(folder, name)
            if os.path.islink(full) and not Path(full).resolve().is_relative_to(root):
                raise DataError.at(path / os.path.relpath(full, root), "a link that leaves the folder", f"files that lie in {path}")
        for name in files:
            inside = os.path.relpath(os.path.join(folder, name), root).replace(os.sep, "/")
            if not _junk(inside):
                _add(members, inside, stems, path / inside, path / inside)
    return members


def _add(members: dict[str, Any], name: str, stems: Sequence[str], value: object, where: object) -> None:
    """Enter a file under its path below a leading folder of one of ``stems``, where there is one."""
    first, _, rest = name.partition("/")
    short = rest if rest and first in stems else name
    if short in members:
        raise DataError.at(where, "comes twice", "one file of a name")
    members[short] = value


def _scan_zip(path: Path, stems: Sequence[str]) -> dict[str, zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except (OSError, zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, struct.error) as error:
        raise DataError.at(path, f"cannot be read as a zip archive ({error})", "a whole zip archive; get the file again") from error
    members: dict[str, zipfile.ZipInfo] = {}
    total = 0
    for info in infos:
        name, where = info.filename, f"{path}!{info.filename}"
        if name.startswith(("/", "\\")) or name[1:2] == ":" or (".." in name and ".." in name.replace("\\", "/").split("/")):
            raise DataError.at(where, "unsafe member name", "members below the archive's own folder")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise DataError.at(where, "member is a link", "plain files")
        if info.flag_bits & 1:
            raise DataError.at(where, "member is encrypted", "an archive without a password; unzip it first")
        if info.is_dir() or _junk(name):
            continue
        total += info.file_size
        ratio = info.file_size / max(info.compress_size, 1)
        if info.file_size > MAX_MEMBER_BYTES or total > MAX_TOTAL_BYTES or (info.file_size > 2**20 and ratio > MAX_RATIO):
            raise DataError.at(where, f"unpacks to {info.file_size} bytes, {ratio:.0f} times its size", "no decompression bomb")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError.at(where, f"packed by method {info.compress_type}", "a stored or deflated member")
        _add(members, name, stems, info, where)
    return members


# -- text and images ------------------------------------------------------------------------------------------------------


def parse_numbers(text: str, where: object, widths: Sequence[int], expected: str) -> list[float]:
    """Numbers from a small text file.

    Parameters
    ----------
    text : str
        Lines of numbers parted by blanks or tabs; blank lines are skipped.
    where : object
        The file, for errors.
    widths : sequence of int
        How many numbers each line must hold.
    expected : str
        For errors.

    Returns
    -------
    list of float
        All numbers of the file, in its order; all finite.

    Raises
    ------
    DataError
        If the number of lines or columns differs, or something is not a finite number; names the line.
    """
    rows = [line.split() for line in text.splitlines()]
    if [len(row) for row in rows] == list(widths):
        try:
            numbers = [float(column) for row in rows for column in row]
        except ValueError:
            numbers = [math.nan]
        if math.isfinite(sum(numbers)):
            return numbers
    numbers = []
    numbered = [(line, columns) for line, columns in enumerate(rows, 1) if columns]
    for (line, columns), width in zip(numbered, widths, strict=False):
        if len(columns) != width:
            raise DataError.at(where, f"{len(columns)} columns", f"{expected} ({width} here)", line=line)
        try:
            row = list(map(float, columns))
        except ValueError as error:
            raise DataError.at(where, f"not a number in {' '.join(columns)!r}", expected, line=line) from error
        if not math.isfinite(sum(row)):
            raise DataError.at(where, f"not finite: {' '.join(columns)!r}", expected, line=line)
        numbers += row
    if len(numbered) != len(widths):
        raise DataError.at(where, f"{len(numbered)} lines", f"{expected}, {len(widths)} lines", line=len(rows))
    return numbers


def decode_image(data: bytes, where: object, mode: str = "RGB") -> np.ndarray:
    """Decode an image file.

    Parameters
    ----------
    data : bytes
        JPEG, PNG, BMP, GIF or TIFF.
    where : object
        The file, for errors.
    mode : {"RGB", "L"}

    Returns
    -------
    uint8 ``[H, W, 3]`` or ``[H, W]``

    Raises
    ------
    DataError
        If it is no such image, is truncated, or has more than ``MAX_PIXELS``.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height <= MAX_PIXELS:
                return np.asarray(image.convert(mode))
            problem = f"{image.width}x{image.height} pixels"
    except Exception as error:  # Pillow's decoders raise many kinds on damaged files
        raise DataError.at(where, f"cannot be decoded ({error})", "a whole JPEG or PNG image") from error
    raise DataError.at(where, problem, f"at most {MAX_PIXELS} pixels")


def load_images(
    source: Source,
    members: Sequence[str],
    *,
    mode: str = "RGB",
    size: tuple[int, int] | None = None,
    finish: Callable[[np.ndarray, int], np.ndarray] | None = None,
    hint: str = "",
) -> np.ndarray:
    """Read and decode images of one size, in threads.

    Parameters
    ----------
    source : Source
    members : sequence of str
        Names within the source.
    mode : {"RGB", "L"}
    size : (height, width), optional
        What every image must be; that of the first image by default.
    finish : callable, optional
        Takes a decoded image and its position, returns what is kept.
    hint : str
        Added to the error about sizes.

    Returns
    -------
    uint8 ``[N, H, W, 3]`` or ``[N, H, W]``

    Raises
    ------
    DataError
        At the first image that is missing, damaged, or of another size.
    """

    def one(i: int) -> np.ndarray:
        image = decode_image(source.read(members[i], "an image"), source.where(members[i]), mode)
        return image if finish is None else finish(image, i)

    depth = (3,) if mode == "RGB" else ()
    if not members:
        return np.zeros((0, *(size or (0, 0)), *depth), dtype=np.uint8)
    shape = (*(size or one(0).shape[:2]), *depth)
    images = np.empty((len(members), *shape), dtype=np.uint8)

    def some(start: int) -> None:
        for i in range(start, min(start + _CHUNK, len(members))):
            image = one(i)
            if image.shape != shape:
                got, want = (f"{s[1]}x{s[0]} pixels" for s in (image.shape, shape))
                raise DataError.at(source.where(members[i]), got, want + hint)
            images[i] = image

    pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
    try:
        list(pool.map(some, range(0, len(members), _CHUNK)))
    finally:
        pool.shutdown(cancel_futures=True)
    return images

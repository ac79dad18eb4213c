"""What every loader shares: the :class:`FaceDataset`, the one error that bad data raises, and reading from folder or zip."""

from __future__ import annotations

import hashlib
import io
import json
import math
import mmap
import os
import stat
import struct
import threading
import warnings
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
from tqdm import tqdm

from ..files import replace_whole

__all__ = [
    "DataError", "FaceDataset", "PendingImages", "Source", "cache_root", "data_root", "decode_image", "find_root", "load_images",
    "parse_numbers", "read_text",
]

#: An image with more pixels than this, or an archive member that unpacks to more bytes or by a larger factor, is refused.
MAX_PIXELS = 50_000_000
MAX_MEMBER_BYTES = 64 * 2**20
MAX_RATIO = 200
MAX_TOTAL_BYTES = 64 * 2**30

_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF")
_JUNK = {"Thumbs.db", "desktop.ini", ".DS_Store"}
_CHUNK = 64
#: Fewer images than this are decoded so fast that a bar and a cached copy would only be in the way.
_MANY = 1000


class DataError(ValueError):
    """A dataset or checkpoint on disk is not what its layout promises. The message names the file, the line if any, what was expected."""

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
        # A file name that is not UTF-8 holds surrogates, which no terminal prints.
        return cls(f"{place}: {problem}; expected {expected}".encode(errors="surrogateescape").decode(errors="replace"))


def data_root() -> Path:
    """Find the folder that holds the datasets.

    ``$FER_DATA`` where it is set; else the ``data`` folder beside the package (the repository's); else ``data`` in the
    working directory. The folder need not exist.
    """
    if os.environ.get("FER_DATA"):
        return Path(os.environ["FER_DATA"]).expanduser()
    beside = package_data()
    return beside if beside.is_dir() else Path.cwd() / "data"


def find_root(root: str | os.PathLike[str] | None, name: str, layout: str) -> Path:
    """Return the folder of a dataset: ``root``, or ``name`` in :func:`data_root`. Raises ``DataError`` if it is not there."""
    folder = Path(root) if root is not None else data_root() / name
    if not os.path.isdir(folder):
        raise DataError.at(folder, "no such folder", layout)
    return folder


def package_data() -> Path:
    """Return the ``data`` folder beside the package, whatever ``$FER_DATA`` says."""
    return Path(__file__).resolve().parents[2] / "data"


def cache_root() -> Path | None:
    """Find the folder of decoded images: ``$FER_CACHE``, or ``fer-book`` in the user's cache folder; None where it is set to nothing.

    Its files can be deleted at any time.
    """
    chosen = os.environ.get("FER_CACHE")
    if chosen is not None:
        return Path(chosen).expanduser() if chosen else None
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fer-book"


# -- images that wait -----------------------------------------------------------------------------------------------------


class _Store:
    """The images of one load, decoded once each however many subsets ask for them."""

    def __init__(
        self, count: int, shape: tuple[int, ...] | None, decode: Callable[[int], np.ndarray], where: Callable[[int], str], hint: str,
        key: Callable[[], str] | None, read: Callable[[], np.ndarray] | None = None,
    ) -> None:
        self.count, self._shape, self._decode, self._where, self._hint, self._read = count, shape, decode, where, hint, read
        self._key = key if count >= _MANY else None
        self._done = np.zeros(count, dtype=bool)
        self._array: np.ndarray | None = None
        self._lock = threading.Lock()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image; where the loader did not say it, that of the first."""
        if self._shape is None:
            self._shape = self._decode(0).shape if self.count else (0, 0)
        return self._shape

    def one(self, i: int) -> np.ndarray:
        """Decode a single image, or take it from those that are there."""
        if self._array is not None and self._done[i]:
            return self._array[i]
        image = self._decode(i)
        if image.shape != self.shape:
            got, want = (f"{s[1]}x{s[0]} pixels" for s in (image.shape, self.shape))
            raise DataError.at(self._where(i), got, want + self._hint)
        return image

    def many(self, positions: np.ndarray) -> np.ndarray:
        """The images at some positions, decoding what is missing."""
        with self._lock:
            if self._array is None:
                self._open()
            todo = positions[~self._done[positions]]
            if len(todo):
                self._decode_all(todo)
                if self._done.all():
                    self._keep()
            assert self._array is not None
            whole = len(positions) == self.count and np.array_equal(positions, np.arange(self.count))
            return self._array if whole else self._array[positions]

    def _decode_all(self, todo: np.ndarray) -> None:
        array = self._array
        assert array is not None

        def some(start: int) -> int:
            chunk = todo[start : start + _CHUNK]
            for i in chunk:
                array[i] = self.one(int(i))
            self._done[chunk] = True
            return len(chunk)

        pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
        try:
            # Without a terminal, as in a stored notebook, there is no bar.
            with tqdm(total=len(todo), desc="decoding", unit=" images", leave=False, disable=True if len(todo) < _MANY else None) as bar:
                for count in pool.map(some, range(0, len(todo), _CHUNK)):
                    bar.update(count)
        finally:
            pool.shutdown(cancel_futures=True)

    # A cached copy is one .npy file, written under a temporary name and renamed: one that exists is whole.

    def _path(self) -> Path | None:
        root = cache_root()
        return root / f"{self._key()}.npy" if self._key is not None and root is not None else None

    def _open(self) -> None:
        path = self._path()
        if path is not None and path.is_file():
            try:
                kept = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError):
                kept = None
            if kept is not None and kept.dtype == np.uint8 and kept.shape == (self.count, *self.shape):
                self._array, self._done[:] = kept, True
                return
            path.unlink(missing_ok=True)
        self._array = np.empty((self.count, *self.shape), dtype=np.uint8)
        if self._read is not None:
            self._array, self._done[:] = self._read(), True
            self._keep()

    def _keep(self) -> None:
        path = self._path()
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replace_whole(path) as partial, partial.open("wb") as file:
                np.save(file, self._array)
        except OSError as error:
            warnings.warn(f"{path}: decoded images are not kept ({error.strerror})", stacklevel=2)


class PendingImages:
    """Images that are decoded when they are first asked for; what :func:`load_images` returns.

    A :class:`FaceDataset` takes it in the place of an array.
    """

    def __init__(self, store: _Store, positions: np.ndarray | None = None) -> None:
        self._store = store
        self._positions = np.arange(store.count) if positions is None else positions

    @classmethod
    def deferred(cls, count: int, shape: tuple[int, ...], read: Callable[[], np.ndarray], key: Callable[[], str] | None = None) -> Self:
        """Images that one call reads together, such as a table of pixels.

        Parameters
        ----------
        count : int
        shape : tuple of int
            Of one image.
        read : callable
            Returns uint8 ``[count, *shape]``; raises ``DataError``.
        key : callable, optional
            Names the cached copy; see :func:`source_key`.
        """

        def one(i: int) -> np.ndarray:
            return store.many(np.array([i]))[0]

        store = _Store(count, shape, one, str, "", key, read)
        return cls(store)

    def __len__(self) -> int:
        return len(self._positions)

    @property
    def shape(self) -> tuple[int, ...]:
        """``(N, H, W, 3)`` or ``(N, H, W)``. Where the loader did not fix the size, asking for it decodes the first image."""
        return (len(self), *self._store.shape)

    def one(self, i: int) -> np.ndarray:
        """Decode the image at position ``i`` alone."""
        return self._store.one(int(self._positions[i]))

    def take(self, positions: np.ndarray) -> PendingImages:
        """Some of the images, still waiting."""
        return PendingImages(self._store, self._positions[positions])

    def load(self) -> np.ndarray:
        """Decode all of them, in threads: uint8 of ``shape``. Raises ``DataError`` at the first that is damaged or of another size."""
        return self._store.many(self._positions)


def source_key(files: Iterable[Path], *recipe: object) -> Callable[[], str]:
    """Name a cached copy after the files behind it (path, size, time of change) and the ``recipe`` that decodes them."""

    def key() -> str:
        state = [(os.fspath(path.resolve()), *_stamp(path)) for path in files]
        return hashlib.sha256(json.dumps([state, [str(part) for part in recipe]]).encode(errors="surrogateescape")).hexdigest()[:24]

    return key


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return (found.st_size, found.st_mtime_ns)


class _Images:
    """The field ``images``: a pending one becomes an array when it is read."""

    def __get__(self, faces: FaceDataset | None, owner: type | None = None) -> np.ndarray:
        if faces is None:
            raise AttributeError("images")  # no default: dataclass asks the class
        held = faces.__dict__["images"]
        if isinstance(held, PendingImages):
            held = faces.__dict__["images"] = _locked(held.load())
        return held

    def __set__(self, faces: FaceDataset, value: np.ndarray | PendingImages) -> None:
        faces.__dict__["images"] = value


def _locked(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


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
        Grey or RGB. A loader's images are decoded when this is first read, so a damaged one is reported here, as ``DataError``.
    labels : int64 ``[N]``
        Positions in ``classes``.
    classes : tuple of str
        Class names.
    names : str ``[N]``
        File names without folder.
    split : str ``[N]``
        ``"train"``, ``"val"`` or ``"test"``; ``"none"`` where the owners define no split.
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
    images: np.ndarray = _Images()  # type: ignore[assignment]
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
        held = self.__dict__["images"]
        if not isinstance(held, PendingImages):
            images = np.asarray(held)
            if images.dtype != np.uint8 or not (images.ndim == 3 or (images.ndim == 4 and images.shape[-1] == 3)):
                raise ValueError(f"{self.name}: images must be uint8 [N, H, W] or [N, H, W, 3], got {images.dtype} {images.shape}")
            self.__dict__["images"] = _locked(images)
        n, size = len(held), held.shape[1:3] if self.masks is not None else (None, None)
        shapes = {
            "labels": (np.int64, (n,)), "names": (np.str_, (n,)), "split": (np.str_, (n,)),
            "identities": (np.int64, (n,)), "landmarks": (np.float32, (n, 5, 2)), "landmarks_dense": (np.float32, (n, None, 2)),
            "distributions": (np.float32, (n, 7)), "masks": (np.uint8, (n, *size)),
        }
        for field, (dtype, shape) in shapes.items():
            value = getattr(self, field)
            if value is None and field not in ("labels", "names", "split"):
                continue
            array = np.asarray(value).astype(dtype, copy=False)
            if array.ndim != len(shape) or any(want not in (None, got) for want, got in zip(shape, array.shape, strict=True)):
                raise ValueError(f"{self.name}: {field} must have shape {_shape(shape)} for {n} images, got {_shape(array.shape)}")
            object.__setattr__(self, field, _locked(array))
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
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """One face as ``(PIL.Image, label)``; the image goes through ``transform`` where there is one."""
        held = self.__dict__["images"]
        image: Any = Image.fromarray(held.one(index) if isinstance(held, PendingImages) else held[index])
        return (image if self.transform is None else self.transform(image)), int(self.labels[index])

    def __getstate__(self) -> dict[str, Any]:
        # Another process may not see the files: what travels is decoded.
        return {**self.__dict__, "images": self.images}

    def __repr__(self) -> str:
        shape = self.__dict__["images"].shape
        colour = "RGB" if len(shape) == 4 else "grey"
        height, width = shape[1:3]
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
    def val(self) -> FaceDataset:
        """The owners' validation part. Raises ``ValueError`` where there is none."""
        return self._part("val")

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
            value = self.__dict__[field.name]
            if isinstance(value, PendingImages):
                changes[field.name] = value.take(positions)
            elif isinstance(value, np.ndarray):
                changes[field.name] = value[positions]
            elif field.name in ("attributes", "truth") and value is not None:
                changes[field.name] = value.iloc[positions].reset_index(drop=True)
        if self.votes is not None:
            changes["votes"] = self.votes[self.votes["task"].isin(set(changes["names"].tolist()))].reset_index(drop=True)
        return self.replace(**changes)

    def replace(self, **changes: Any) -> FaceDataset:
        """Take the dataset with some fields changed; images that wait go on waiting."""
        return replace(self, **{"images": self.__dict__["images"], **changes})

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

    def files(self, names: Sequence[str]) -> list[Path]:
        """The files on disk behind some names: the archive, or each of them."""
        return [self.path] if self._zipped else [Path(self._members.get(name, self.path / name)) for name in names]

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
            if os.path.islink(full):
                _check_link(Path(full), root, path)
        for name in files:
            inside = os.path.relpath(os.path.join(folder, name), root).replace(os.sep, "/")
            if not _junk(inside):
                _add(members, inside, stems, path / inside, path / inside)
    return members


def _check_link(link: Path, root: Path, path: Path) -> None:
    where = path / link.relative_to(root)
    try:
        goal = link.resolve()
        circle = goal.is_symlink() or root == goal  # later versions resolve a loop to itself
    except (OSError, RuntimeError):  # Python 3.11 and 3.12 raise RuntimeError for a loop
        circle, goal = True, root
    if circle:
        raise DataError.at(where, "a link that leads in a circle", f"files that lie in {path}")
    if not goal.is_relative_to(root):
        raise DataError.at(where, "a link that leaves the folder", f"files that lie in {path}")


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
                return np.asarray(image if image.mode == mode else image.convert(mode))
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
    recipe: str = "",
    hint: str = "",
) -> PendingImages:
    """Prepare images of one size, to be read and decoded in threads when they are first asked for.

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
    recipe : str
        Says all that ``finish`` depends on. Many images are kept decoded in :func:`cache_root` for the next time; with ``finish``
        only where there is a recipe to name them by.
    hint : str
        Added to the error about sizes.

    Returns
    -------
    PendingImages
        ``[N, H, W, 3]`` or ``[N, H, W]``. Decoding raises ``DataError`` at the first image that is damaged or of another size.

    Raises
    ------
    DataError
        If a member is not there.
    """
    members = list(members)
    absent = next((name for name in members if name not in source), None)
    if absent is not None:
        raise DataError.at(source.where(absent), "not found", "an image")

    def one(i: int) -> np.ndarray:
        image = decode_image(source.read(members[i], "an image"), source.where(members[i]), mode)
        return image if finish is None else finish(image, i)

    depth = (3,) if mode == "RGB" else ()
    shape = (*size, *depth) if size is not None else None if members else (0, 0, *depth)
    key = source_key(source.files(members), mode, size, recipe, *members) if recipe or finish is None else None
    return PendingImages(_Store(len(members), shape, one, lambda i: source.where(members[i]), hint, key))

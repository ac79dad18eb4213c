"""Where files lie, and how they are written: whole or not at all."""

from __future__ import annotations

import errno
import glob
import hashlib
import io
import mmap
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

import numpy as np

from .errors import DataError

try:
    import fcntl
except ModuleNotFoundError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["cache_root", "data_root", "package_data", "private_folder", "read_regular", "read_rows", "replace_whole", "write_rows"]


_DIGEST = hashlib.sha256().digest_size


@contextmanager
def replace_whole(path: Path, *, sync: bool = False) -> Iterator[Path]:
    """Write a file under a temporary name beside it, and rename it at the end: one that exists is whole, whenever the process ends.

    Parameters
    ----------
    path : Path
        What the file shall be called. An old one is replaced.
    sync : bool
        Wait until the disk has the content before the file is renamed, so that it also survives a machine that fails.

    Yields
    ------
    Path
        The temporary name, to write to: an empty file. After an error it is removed and the old one stays; what a writer of
        this file left that was killed is removed by the next.

    Raises
    ------
    OSError
        If it cannot be written; names the file.
    """
    _remove_left(path)
    partial, lock = _make_locked(path)
    try:
        with lock:
            yield partial
            if sync:
                with partial.open("rb") as file:
                    os.fsync(file.fileno())
            partial.replace(path)
    except OSError as error:
        if error.filename is not None:
            raise
        # a full disk says neither where nor, through some libraries, why
        problem = error.strerror or f"cannot be written ({error})"
        raise OSError(error.errno or errno.EIO, problem, os.fspath(path)) from error
    finally:
        partial.unlink(missing_ok=True)


def _make_locked(path: Path) -> tuple[Path, BinaryIO]:
    """Make an empty file for the content of `path` and lock it, so that nobody takes it for one that was left."""
    while True:
        # a name that no other thread or process draws, so that each publishes what it wrote itself; never one for the second time, as
        # whoever took the first for one that was left may yet remove what bears its name
        partial = path.with_name(f"{path.name}.{uuid4().hex[:12]}.part")
        file = partial.open("xb")
        with suppress(OSError):  # not every file system has locks
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)
        if partial.exists():
            return partial, file
        file.close()  # it was taken for one between the two


def _remove_left(path: Path) -> None:
    """Remove the temporary files of writers that were killed: those whose lock nobody holds."""
    if fcntl is None:
        return
    for left in path.parent.glob(f"{glob.escape(path.name)}.{'[0-9a-f]' * 12}.part"):
        with suppress(OSError), left.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()


def private_folder(name: str) -> Path:
    """A folder of this user alone, made if need be, among the system's temporary files, where others can guess its name.

    Raises
    ------
    DataError
        If something of that name is there that others made or may write to.
    """
    path = Path(tempfile.gettempdir()) / name
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        expected = "a folder of yours alone; set FER_CACHE to another place"
        raise DataError.at(path, "belongs to somebody else, or others may enter it", expected)
    return path


def read_regular(path: Path, limit: int) -> bytes:
    """Read a file that is not too large.

    Parameters
    ----------
    path : Path
    limit : int
        Bytes at most.

    Raises
    ------
    OSError
        Also for a larger file, a pipe or a device.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError("not a regular file")  # a pipe would be waited for, a device may never end
    if found.st_size > limit:
        raise OSError(f"{found.st_size} bytes, more than {limit}")
    return path.read_bytes()


def write_rows(path: Path, batches: Iterable[np.ndarray], count: int) -> None:
    """Write arrays one behind the other as one ``.npy`` file, with no more than one in memory.

    Behind the array stands the SHA-256 of all before it, for :func:`read_rows`; ``numpy.load`` does not see it.
    Written as a stream, not through a mapped file: a full disk is then an ``OSError`` and does not end the process.

    Parameters
    ----------
    path : Path
    batches : iterable of array ``[B, ...]``
        Of one type, and of one shape but for their rows.
    count : int
        Rows of all together.
    """
    with path.open("wb") as file:
        digest = hashlib.sha256()
        for number, batch in enumerate(batches):
            if not number:
                header = {"descr": np.lib.format.dtype_to_descr(batch.dtype), "fortran_order": False, "shape": (count, *batch.shape[1:])}
                start = io.BytesIO()
                np.lib.format.write_array_header_1_0(start, header)
                digest.update(start.getvalue())
                file.write(start.getvalue())
            data = np.ascontiguousarray(batch).data
            digest.update(data)
            file.write(data)
        file.write(digest.digest())


def read_rows(path: Path) -> np.ndarray | None:
    """Map what :func:`write_rows` wrote, read-only; None where that is not what the file holds, or it cannot be read."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            whole = memoryview(content)
            try:
                sound = hashlib.sha256(whole[:-_DIGEST]).digest() == whole[-_DIGEST:]
            finally:
                whole.release()
        return np.load(path, mmap_mode="r", allow_pickle=False) if sound else None
    except (OSError, ValueError):  # ValueError: an empty file, or one of nothing but a checksum
        return None


def data_root() -> Path:
    """Find the folder that holds the datasets.

    ``$FER_DATA`` where it is set; else the ``data`` folder beside the package (the repository's); else ``data`` in the
    working directory. The folder need not exist.

    Raises
    ------
    DataError
        If ``$FER_DATA`` begins with the home of a user who is not there.
    """
    if os.environ.get("FER_DATA"):
        return _expand("FER_DATA")
    beside = package_data()
    return beside if beside.is_dir() else Path.cwd() / "data"


def package_data() -> Path:
    """Return the ``data`` folder beside the package, whatever ``$FER_DATA`` says."""
    return Path(__file__).resolve().parents[1] / "data"


def cache_root() -> Path | None:
    """Find the folder of decoded images: ``$FER_CACHE``, or ``fer-book`` in the user's cache folder.

    None where ``$FER_CACHE`` is set to nothing, or the user has no home. Its files can be deleted at any time.

    Raises
    ------
    DataError
        If ``$FER_CACHE`` begins with the home of a user who is not there.
    """
    chosen = os.environ.get("FER_CACHE")
    if chosen is not None:
        return _expand("FER_CACHE") if chosen else None
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fer-book"
    except RuntimeError:
        return None


def _expand(variable: str) -> Path:
    path = Path(os.environ[variable])
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise DataError.at(f"{variable}={path}", error, "the path of a folder") from error

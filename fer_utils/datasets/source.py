"""Files of a dataset under one name, in a folder or in a zip archive; and its small text files."""

from __future__ import annotations

import codecs
import math
import mmap
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from ..errors import DataError
from ..files import data_root, read_regular

__all__ = ["Source", "default_root", "find_root", "is_junk", "parse_float", "parse_int", "parse_numbers", "read_text"]

#: A file with more bytes is refused, in a folder as in an archive; so is an archive member that unpacks by a larger factor.
MAX_MEMBER_BYTES = 64 * 2**20
MAX_RATIO = 200
MAX_TOTAL_BYTES = 64 * 2**30
#: A loose table with more bytes is refused: the largest, AffectNet's and FER2013's, have a few hundred MiB.
MAX_TABLE_BYTES = 2**30
_START = 64
#: No point lies further out: the largest side that a JPEG can have.
MAX_COORDINATE = 2**16 - 1

# What systems, network drives and programs leave among pictures, in lower case; what begins with a dot is theirs, too.
_JUNK = {
    "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "@tmp", "@recycle",
    "#recycle", "#snapshot", "$recycle.bin", "system volume information", "lost+found",
}


def default_root(root: str | os.PathLike[str] | None, name: str) -> Path:
    """Return where a dataset should be.

    Parameters
    ----------
    root : path, optional
        The folder itself; by default ``name`` in :func:`data_root`.
    name : str
    """
    return Path(root) if root is not None else data_root() / name


def find_root(root: str | os.PathLike[str] | None, name: str, layout: str) -> Path:
    """As :func:`default_root`, but a folder that is not there is an error.

    Parameters
    ----------
    root, name
        As :func:`default_root`.
    layout : str
        What should be there, for the error.

    Raises
    ------
    DataError
        If there is no such folder.
    """
    folder = default_root(root, name)
    if not os.path.isdir(folder):
        raise DataError.at(folder, "no such folder", layout)
    return folder


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
        which leaves it. A file of a folder is read only if it is a regular one of at most ``MAX_MEMBER_BYTES``.
    """

    def __init__(self, path: Path, stems: Sequence[str] = ()) -> None:
        self.path = Path(path)
        self._zipped = not self.path.is_dir()
        self._stems = tuple(stems) or (self.path.stem,)
        self._members: dict[str, Any] = _scan_zip(self.path, self._stems) if self._zipped else _scan_folder(self.path, self._stems)

    @classmethod
    def find(cls, parent: Path, *stems: str) -> Self | None:
        """Open the first of ``parent/stem`` and ``parent/stem.zip`` that is there, or return ``None``.

        Parameters
        ----------
        parent : Path
        *stems : str
            File or folder names without ``.zip``, the likeliest first.
        """
        for stem in stems:
            for path in (parent / stem, parent / f"{stem}.zip"):
                if os.path.exists(path):
                    return cls(path, stems)
        return None

    @classmethod
    def require(cls, parent: Path, *stems: str, expected: str) -> Self:
        """As :meth:`find`, but its absence is an error.

        Parameters
        ----------
        parent, *stems
            As :meth:`find`.
        expected : str
            What should be there, for the error.

        Raises
        ------
        DataError
            If none of them is there.
        """
        found = cls.find(parent, *stems)
        if found is None:
            raise DataError.at(parent / stems[0], "not found, neither as a folder nor as a .zip", expected)
        return found

    @cached_property
    def names(self) -> list[str]:
        """Paths of the files within the source, sorted, with forward slashes."""
        return sorted(self._members)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_map"}  # another process maps the archive itself

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
        """Read the bytes of a file.

        Parameters
        ----------
        name : str
            Path within the source, with ``/``.
        expected : str
            What should be there, for the error.

        Raises
        ------
        DataError
            If it is not there, is empty, is larger than ``MAX_MEMBER_BYTES``, or cannot be read.
        """
        if name not in self._members:
            raise DataError.at(self.where(name), "not found", expected)
        try:
            data = self._unpack(self._members[name]) if self._zipped else read_regular(self._members[name], MAX_MEMBER_BYTES)
        except (OSError, EOFError, ValueError, struct.error, zlib.error) as error:
            raise DataError.at(self.where(name), f"cannot be read ({error})", expected) from error
        if not data:
            raise DataError.at(self.where(name), "empty file", expected)
        return data

    def read_start(self, name: str) -> bytes:
        """The first bytes of a file, enough to tell its kind; none of one that cannot be read."""
        try:
            if self._zipped:
                return self._unpack(self._members[name], _START)
            if not self._members[name].is_file():
                return b""
            with self._members[name].open("rb") as file:
                return file.read(_START)
        except (OSError, ValueError, struct.error, zlib.error):
            return b""

    @cached_property
    def _map(self) -> mmap.mmap:
        with self.path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def _unpack(self, info: zipfile.ZipInfo, only: int | None = None) -> bytes:
        # zipfile's own reader takes one lock for all threads and many small reads; this takes one slice of the mapped file.
        head = self._map[info.header_offset : info.header_offset + 30]
        if head[:4] != b"PK\x03\x04":
            raise ValueError("no local header where the archive's directory points")
        start = info.header_offset + 30 + sum(struct.unpack("<HH", head[26:30]))
        data = self._map[start : start + info.compress_size]
        if info.compress_type == zipfile.ZIP_DEFLATED:
            data = zlib.decompressobj(-15).decompress(data, only or info.file_size + 1)
        if only:
            return data[:only]
        if len(data) != info.file_size or zlib.crc32(data) != info.CRC:
            raise ValueError("truncated or damaged")
        return data

    def text(self, name: str, expected: str = "a text file") -> str:
        """Read a file as text.

        Parameters
        ----------
        name, expected
            As :meth:`read`.

        Raises
        ------
        DataError
            As :meth:`read`, and if it is neither UTF-8 nor marked as UTF-16.
        """
        return _decode_text(self.read(name, expected), self.where(name), expected)


def read_text(path: Path, expected: str) -> str:
    """Read a loose file as text.

    Parameters
    ----------
    path : Path
    expected : str
        What should be there, for the error.

    Raises
    ------
    DataError
        If it is not there, is empty, cannot be read, or is neither UTF-8 nor marked as UTF-16.
    """
    try:
        data = read_regular(path, MAX_TABLE_BYTES)
    except OSError as error:
        problem = "not found" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror or error})"
        raise DataError.at(path, problem, expected) from error
    if not data:
        raise DataError.at(path, "empty file", expected)
    return _decode_text(data, path, expected)


def _decode_text(data: bytes, where: object, expected: str) -> str:
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and len(data) > 2  # "Unicode text" of Windows programs
    try:
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError.at(where, f"not a text file ({error.reason})", expected) from error


def is_junk(name: str) -> bool:
    """Tell whether a path is, or lies in, what is no part of a dataset: hidden files and folders, and what programs leave behind."""
    return any(part.startswith((".", "~$")) or part.lower() in _JUNK for part in name.split("/"))


def _scan_folder(path: Path, stems: Sequence[str]) -> dict[str, Path]:
    root = path.resolve()
    members: dict[str, Path] = {}

    def give_up(error: OSError) -> None:
        raise DataError.at(error.filename or path, f"cannot be read ({error.strerror})", "a readable folder") from error

    for folder, subfolders, files in os.walk(root, onerror=give_up):
        subfolders[:] = [name for name in subfolders if not is_junk(name)]
        for name in [*subfolders, *files]:
            full = os.path.join(folder, name)
            if os.path.islink(full):
                _check_link(Path(full), root, path)
        for name in files:
            inside = os.path.relpath(os.path.join(folder, name), root).replace(os.sep, "/")
            if not is_junk(inside):
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
        if not path.is_file():
            raise OSError("not a regular file")  # opening a pipe would wait for ever
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except (OSError, zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, struct.error) as error:
        raise DataError.at(path, f"cannot be read as a zip archive ({error})", "a whole zip archive; get the file again") from error
    members: dict[str, zipfile.ZipInfo] = {}
    total = 0
    for info in infos:
        where = f"{path}!{info.filename}"
        name = _read_name(info)
        if not name.strip("/"):
            raise DataError.at(where, "a member without a name", "a whole zip archive; get the file again")
        if name.startswith("/") or name[1:2] == ":" or ".." in name.split("/"):
            raise DataError.at(where, "unsafe member name", "members below the archive's own folder")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise DataError.at(where, "member is a link", "plain files")
        if info.flag_bits & 1:
            raise DataError.at(where, "member is encrypted", "an archive without a password; unzip it first")
        if name.endswith("/") or is_junk(name):
            continue
        total += info.file_size
        ratio = info.file_size / max(info.compress_size, 1)
        if info.file_size > MAX_MEMBER_BYTES or total > MAX_TOTAL_BYTES or (info.file_size > 2**20 and ratio > MAX_RATIO):
            raise DataError.at(where, f"unpacks to {info.file_size} bytes, {ratio:.0f} times its size", "no decompression bomb")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError.at(where, f"packed by method {info.compress_type}", "a stored or deflated member")
        _add(members, name, stems, info, where)
    return members


def _read_name(info: zipfile.ZipInfo) -> str:
    """The path of a member as it was meant: Windows may part it by backslashes, and a Mac writes UTF-8 without saying so."""
    name = info.filename
    if not info.flag_bits & 0x800 and not name.isascii():
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/")


def parse_int(text: str) -> int:
    """A whole number as tables hold it. Raises ``ValueError`` for others, too, that Python takes: ``1_0``, full-width digits."""
    return int(_plain(text))


def parse_float(text: str) -> float:
    """A number as tables hold it, or ``nan``. Raises ``ValueError`` for what :func:`parse_int` refuses."""
    return float(_plain(text))


def _plain(text: str) -> str:
    if not text.isascii() or "_" in text:
        raise ValueError(f"not a number: {text[:40]!r}")
    return text


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
        All numbers of the file, in its order; all finite and no larger than :data:`MAX_COORDINATE`.

    Raises
    ------
    DataError
        If the number of lines or columns differs, or something is not such a number; names the line.
    """
    rows = [line.split() for line in text.splitlines()]
    if [len(row) for row in rows] == list(widths):
        try:
            numbers = list(map(float, _plain(text).split()))
        except ValueError:
            numbers = [math.nan]
        if all(abs(number) <= MAX_COORDINATE for number in numbers):
            return numbers
    numbers = []
    numbered = [(line, columns) for line, columns in enumerate(rows, 1) if columns]
    for (line, columns), width in zip(numbered, widths, strict=False):
        if len(columns) != width:
            raise DataError.at(where, f"{len(columns)} columns", f"{expected} ({width} here)", line=line)
        try:
            row = list(map(parse_float, columns))
        except ValueError as error:
            raise DataError.at(where, f"not a number in {' '.join(columns)!r}", expected, line=line) from error
        if not all(abs(number) <= MAX_COORDINATE for number in row):
            problem = "too large" if math.isfinite(sum(row)) else "not finite"
            raise DataError.at(where, f"{problem}: {' '.join(columns)!r}", f"{expected}, none beyond {MAX_COORDINATE}", line=line)
        numbers += row
    if len(numbered) != len(widths):
        raise DataError.at(where, f"{len(numbered)} lines", f"{expected}, {len(widths)} lines", line=len(rows))
    return numbers

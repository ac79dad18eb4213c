"""Tables of votes as people and their tools write them, read in batches whatever their form.

What a file is, its content says and not its name: Parquet or text, compressed or not, UTF-8 or UTF-16, commas or
semicolons, a row a vote or a column a worker.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import re
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.dataset

from ..errors import DataError
from .chunks import _NONE
from .votes import COLUMNS

__all__ = ["EXPECTED", "VoteTable", "count", "list_files", "list_some", "open_votes", "show"]

EXPECTED = "a csv or Parquet table with the columns task, worker, label, or with task and a column for each worker"

#: What the columns are called, the likeliest name first; ``Worker ID`` and ``ASSIGNMENT:worker_id`` are worker, too.
_NAMES = {
    "task": ("task", "item", "question", "image", "picture", "photo", "face", "file", "filename", "hit", "unit", "id"),
    "worker": ("worker", "performer", "annotator", "rater", "user", "voter", "judge", "coder"),
    "label": ("label", "vote", "rating", "answer", "response", "choice", "result", "class", "category", "emotion"),
}
_INDEX = re.compile(r"|index|unnamed: \d+|__index_level_\d+__")  # what programs call the numbers of the rows
_DELIMITERS = (",", ";", "\t", "|", " ")
_OPENERS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, UnicodeError, csv.Error, pa.ArrowException)
_SIMPLE = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_boolean,
    pa.types.is_decimal,
    pa.types.is_temporal,
    pa.types.is_null,
)


class _Columns(NamedTuple):
    """Places of the columns; a wide table has one of ``labels`` for each worker, and no ``worker``."""

    task: int
    worker: int | None
    labels: tuple[int, ...]


@dataclass
class VoteTable:
    """An open table.

    Attributes
    ----------
    workers : tuple of str or None
        The workers of a wide table, which has a column for each; else None.
    batches : iterator of tuple of pyarrow.Array
        Tasks, workers and labels of some votes; of a wide table tasks and labels of one worker, with null for no vote.
    notes : list of str
        How the table was read, where that is not plain.
    """

    workers: tuple[str, ...] | None
    batches: Iterator[tuple[pa.Array, pa.Array | str, pa.Array]]
    notes: list[str] = field(default_factory=list)


@contextmanager
def open_votes(path: Path) -> Iterator[VoteTable]:
    """Open a table of votes.

    Parameters
    ----------
    path : Path
        Text with a header, plain or as gzip, bzip2 or xz; a Parquet file; or a folder of Parquet files. Columns may
        stand in any order, and others beside them.

    Yields
    ------
    VoteTable

    Raises
    ------
    DataError
        If there is no such file, or it is no such table; also while the batches are read.
    """
    with ExitStack() as stack:
        with _name_file(path):
            start = b"PAR1" if path.is_dir() else _read_start(path)
            names, columns, batches = (
                _open_parquet(path) if start.startswith(b"PAR1") else _open_text(path, start, stack)
            )
            table = _read_table(path, names, columns, batches)
        yield VoteTable(table.workers, _name_file_of_each(path, table.batches), table.notes)


@contextmanager
def _name_file(path: Path) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except UnicodeError as error:
        raise DataError.at(path, "is no text in UTF-8 or UTF-16", f"{EXPECTED}, in one of these encodings") from error
    except _DAMAGED as error:
        line = (str(error).splitlines() or [type(error).__name__])[0][:160].encode("unicode_escape").decode()
        raise DataError.at(path, f"cannot be read ({line})", EXPECTED) from error


def _name_file_of_each(path: Path, batches: Iterator[Any]) -> Iterator[Any]:
    """The batches, with errors of reading alone: what happens to them is the caller's."""
    while True:
        with _name_file(path):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def list_files(path: Path) -> list[Path]:
    """The files of a table: itself, or those of its folder."""
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def show(value: object) -> str:
    """A name or a label for a message: escaped, and never long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def list_some(texts: Iterable[str], most: int = 5) -> str:
    """The first few of some texts, and how many more there are.

    Parameters
    ----------
    texts : iterable of str
    most : int
        How many are written out.
    """
    known = list(texts)
    return ", ".join(known[:most]) + (f" and {len(known) - most:,} more" if len(known) > most else "")


def count(number: int, one: str, many: str) -> str:
    """A number with what it counts, in the singular or the plural.

    Parameters
    ----------
    number : int
    one, many : str
        ``"vote"`` and ``"votes"``.
    """
    return f"{number:,} {one if number == 1 else many}"


def _no_columns(path: Path, names: Sequence[str]) -> DataError:
    return DataError.at(path, f"the columns are {list_some(map(show, names), 8) or 'none'}", f"{EXPECTED}, each once")


def _read_start(path: Path) -> bytes:
    if not path.is_file():
        raise DataError.at(path, "is no plain file" if path.exists() else "not found", EXPECTED)
    with path.open("rb") as file:
        start = file.read(256)
    if start.startswith(b"PK\x03\x04"):
        raise DataError.at(path, "is a zip archive or a workbook", f"{EXPECTED}; unpack it, or save the sheet as csv")
    return start


# -- which column is which --------------------------------------------------------------------------------------


def _find_columns(names: Sequence[str]) -> _Columns | None:
    """Find the columns by their names; None where they are not all there, or one is there twice."""
    plain = [unicodedata.normalize("NFKC", name).strip().casefold() for name in names]
    short = [re.sub(r"[\s_-]*(id|name|path|url)$", "", re.split(r"[:.]", name)[-1]) or name for name in plain]
    found = {}
    for role, known in _NAMES.items():
        places = next((p for name in known for p in (_all(plain, name), _all(short, name)) if p), [])
        if len(places) > 1:
            return None
        found.update(dict.fromkeys([role], places[0]) if places else {})
    if len(found) == len(_NAMES):
        return _Columns(found["task"], found["worker"], (found["label"],))
    rest = tuple(n for n, name in enumerate(plain) if n != found.get("task") and not _INDEX.fullmatch(name))
    return _Columns(found["task"], None, rest) if found.keys() == {"task"} and len(rest) > 1 else None


def _all(names: Sequence[str], name: str) -> list[int]:
    return [place for place, other in enumerate(names) if other == name]


# -- text -------------------------------------------------------------------------------------------------------


class _Text(io.RawIOBase):
    """Decoded text as a stream of UTF-8, which counts quotes: one that is not closed swallows rows without an error."""

    def __init__(self, path: Path, text: IO[str]) -> None:
        self._path, self._text, self._quotes = path, text, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        text = self._text.read(size)
        self._quotes += text.count('"')
        if "\0" in text:
            raise DataError.at(self._path, "holds NUL characters: it is damaged, or no text", EXPECTED)
        if not text and self._quotes % 2:
            raise DataError.at(self._path, 'a quote (") is never closed', "quotes in pairs around a value")
        return text.encode()


def _open_text(path: Path, start: bytes, stack: ExitStack) -> tuple[list[str], _Columns, Iterator[pa.RecordBatch]]:
    opener = next((opener for magic, opener in _OPENERS.items() if start.startswith(magic)), None)
    file = stack.enter_context(io.BufferedReader(opener(path)) if opener else path.open("rb"))
    text = stack.enter_context(io.TextIOWrapper(file, encoding=_find_encoding(file.peek(256)[:256]), newline=""))
    header, delimiters = text.readline(), _DELIMITERS
    if hint := re.fullmatch(r"sep=(.)\s*", header):  # Excel's way to say it
        header, delimiters = text.readline(), (hint[1],)
    while header and not header.strip():
        header = text.readline()
    if not header:
        raise DataError.at(path, "is empty", EXPECTED)
    if len(header) > 2**20:
        raise DataError.at(path, "no header: its first line is longer than a megabyte", EXPECTED)
    rows = [(mark, _split(header, mark)) for mark in delimiters]
    fitting = [(columns, mark, names) for mark, names in rows if (columns := _find_columns(names)) is not None]
    if not fitting:
        raise _no_columns(path, max((names for _, names in rows), key=len))
    # a delimiter that finds all three columns, else the one that finds the most workers
    columns, mark, names = max(fitting, key=lambda found: (found[0].worker is not None, len(found[2])))
    first = text.readline()
    values = _split(first, mark)
    if len(values) == len(names) + 1:
        if values[-1].strip():  # R leaves the column of row names without one of its own
            names = ["", *names]
            columns = _Columns(
                columns.task + 1,
                None if columns.worker is None else columns.worker + 1,
                tuple(n + 1 for n in columns.labels),
            )
        else:  # a delimiter at the end of each row
            names = [*names, ""]
    if not first:
        return names, columns, iter(())
    stream = _Text(path, _Joined(first, text))  # type: ignore[arg-type]
    numbers = [str(n) for n in range(len(names))]
    reader = pa.csv.open_csv(
        pa.PythonFile(stream, mode="r"),
        read_options=pa.csv.ReadOptions(column_names=numbers),
        parse_options=pa.csv.ParseOptions(delimiter=mark, newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict.fromkeys(numbers, pa.string()), include_columns=sorted({*_list_places(columns)}, key=int)
        ),
    )
    return names, columns, iter(reader)


class _Joined:
    """A line that was read already, and the rest."""

    def __init__(self, first: str, rest: IO[str]) -> None:
        self._first, self._rest = first, rest

    def read(self, size: int) -> str:
        first, self._first = self._first, ""
        return first + self._rest.read(size)


def _list_places(columns: _Columns) -> Iterator[str]:
    return (str(n) for n in (columns.task, columns.worker, *columns.labels) if n is not None)


def _split(line: str, mark: str) -> list[str]:
    row = next(csv.reader([line.strip("\r\n")], delimiter=mark, skipinitialspace=True), [])
    return [value.strip() for value in row]


def _find_encoding(start: bytes) -> str:
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    even = len(start) // 2 * 2
    if even and not any(start[1:even:2]):  # Latin letters in UTF-16 without a mark of the order of bytes
        return "utf-16-le"
    return "utf-16-be" if even and not any(start[:even:2]) else "utf-8-sig"


# -- Parquet ----------------------------------------------------------------------------------------------------


def _open_parquet(path: Path) -> tuple[list[str], _Columns, Iterator[pa.RecordBatch]]:
    table = pa.dataset.dataset(path, format="parquet")
    names = list(table.schema.names)
    if (columns := _find_columns(names)) is None:
        raise _no_columns(path, names)
    wanted = {str(n): pa.dataset.field(names[n]) for n in map(int, _list_places(columns))}
    return names, columns, table.to_batches(columns=wanted, batch_size=2**16, batch_readahead=2, fragment_readahead=1)


# -- votes ------------------------------------------------------------------------------------------------------


def _read_table(path: Path, names: Sequence[str], columns: _Columns, batches: Iterator[pa.RecordBatch]) -> VoteTable:
    task = names[columns.task].strip()
    if columns.worker is None:
        workers = tuple(names[n].strip() for n in columns.labels)
        if len(set(workers)) < len(workers) or "" in workers:
            raise DataError.at(
                path,
                "two columns have one name, or a column has none",
                "a column for each worker, under the worker's name",
            )
        some = list_some(map(show, workers))
        notes = [
            f"read as a table with a column for each of {len(workers)} workers ({some}), and the tasks in {show(task)}"
        ]
        return VoteTable(workers, _read_wide(path, columns, workers, batches), notes)
    used = [names[n].strip() for n in (columns.task, columns.worker, *columns.labels)]
    other = [f"{show(name)} as {role}" for name, role in zip(used, COLUMNS, strict=True) if name.casefold() != role]
    return VoteTable(None, _read_long(path, columns, batches), [f"read {', '.join(other)}"] if other else [])


def _read_long(
    path: Path, columns: _Columns, batches: Iterator[pa.RecordBatch]
) -> Iterator[tuple[pa.Array, pa.Array, pa.Array]]:
    rows = 0
    for batch in batches:
        votes = [_clean(path, batch, place, name) for place, name in zip(_list_places(columns), COLUMNS, strict=True)]
        missing = [column.is_null() for column in votes]
        some = pa.compute.or_(pa.compute.or_(missing[0], missing[1]), missing[2])
        if some.true_count:
            empty = pa.compute.and_(
                pa.compute.and_(missing[0], missing[1]), missing[2]
            )  # spreadsheets write rows without anything
            if (bad := pa.compute.xor(some, empty)).true_count:
                row = bad.index(True).as_py()
                lacks = next(name for name, column in zip(COLUMNS, missing, strict=True) if column[row].as_py())
                none = ", ".join(_NONE[1:])
                raise DataError.at(
                    path,
                    f"row {rows + row + 1} has no {lacks}",
                    f"a task, a worker and a label in each row (blanks and {none} count as none)",
                )
            votes = [column.filter(pa.compute.invert(empty)) for column in votes]
        rows += len(batch)
        yield votes[0], votes[1], votes[2]


def _read_wide(
    path: Path, columns: _Columns, workers: Sequence[str], batches: Iterator[pa.RecordBatch]
) -> Iterator[tuple[pa.Array, str, pa.Array]]:
    rows = 0
    for batch in batches:
        task = _clean(path, batch, str(columns.task), "task")
        if task.null_count:
            raise DataError.at(
                path, f"row {rows + task.is_null().index(True).as_py() + 1} has no task", "a task in each row"
            )
        rows += len(batch)
        for worker, place in zip(workers, columns.labels, strict=True):
            yield task, worker, _clean(path, batch, str(place), worker)


def _clean(path: Path, batch: pa.RecordBatch, place: str, name: str) -> pa.Array:
    """A column without blanks around its values, and null for what programs write where there is nothing."""
    values: Any = batch.column(place)
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_binary(values.type) or pa.types.is_large_binary(
        values.type
    ):  # text, as some writers of Parquet leave it
        values = values.cast(pa.string())
    if not any(is_simple(values.type) for is_simple in _SIMPLE):
        raise DataError.at(path, f"column {show(name)} holds {values.type}", "texts or numbers")
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        return pa.compute.if_else(values.is_null(nan_is_null=True), pa.scalar(None, values.type), values)
    if pa.compute.any(pa.compute.match_substring_regex(values, "[\r\n]")).as_py():
        raise DataError.at(
            path, f"a value of column {show(name)} has a line break within: a quote that is not closed?", EXPECTED
        )
    values = pa.compute.utf8_trim_whitespace(values)
    none = pa.compute.is_in(values, pa.array((*_NONE, "#N/A"), values.type))
    return pa.compute.if_else(none, pa.scalar(None, values.type), values)

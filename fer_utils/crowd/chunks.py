"""Where the votes are while the estimator climbs: in memory, in files, or in the memory of a Dask cluster.

The estimator asks a :class:`Source` to apply a function to each chunk of votes and gets the results in order. All votes of a task are
in one chunk, so what concerns a task alone never leaves its chunk.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.dataset

from ..errors import DataError
from ..files import replace_whole
from .votes import COLUMNS, Block, Coded, cut_blocks, encode_classes, sort_votes

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["CHUNK_ROWS", "Held", "Source", "Spread", "Stored", "open_source"]

#: Votes a chunk, about: 10 MB in a file, 40 MB in memory.
CHUNK_ROWS = 2**20

T = TypeVar("T")
State = Any  # a tuple of arrays [N], cut by task


class Source:
    """Votes in chunks.

    Attributes
    ----------
    tasks, workers, classes : pandas.Index
        What the codes stand for; tasks in the order of the chunks.
    votes_by_worker : int64 ``[R]``
    votes_by_class : int64 ``[K]``
    """

    tasks: pd.Index
    workers: pd.Index
    classes: pd.Index
    votes_by_worker: np.ndarray
    votes_by_class: np.ndarray

    def map(self, function: Callable[[Sequence[Block], State], T], state: State) -> Iterator[T]:
        """Apply a function to each chunk, in order.

        Parameters
        ----------
        function : callable
            ``function(blocks, state)``, with the blocks of a chunk and its part of the state.
        state : State
            Of all tasks: a named tuple of arrays ``[N]``.

        Yields
        ------
        object
            What the function gave of each chunk.
        """
        raise NotImplementedError

    def save(self, key: str, state: dict[str, np.ndarray]) -> None:
        """Keep a state for after a kill, where there is a place for it.

        Parameters
        ----------
        key : str
            Of the fit that the state belongs to.
        state : dict of str to array
        """

    def restore(self, key: str) -> dict[str, np.ndarray] | None:
        """Give back the state that was last saved under ``key``, or None."""
        return None


class Held(Source):
    """Votes in memory, as one chunk.

    Parameters
    ----------
    coded : Coded
    """

    def __init__(self, coded: Coded) -> None:
        self.tasks, self.workers, self.classes = coded.tasks, coded.workers, coded.classes
        self.votes_by_worker = np.bincount(coded.worker, minlength=len(coded.workers))
        self.votes_by_class = np.bincount(coded.label, minlength=len(coded.classes))
        self._blocks = list(cut_blocks(*sort_votes(coded.task, coded.worker, coded.label, len(coded.tasks)), len(coded.classes)))

    def map(self, function: Callable[[Sequence[Block], State], T], state: State) -> Iterator[T]:
        """As :meth:`Source.map`."""
        yield function(self._blocks, state)

class Stored(Source):
    """Votes in files, one a chunk, in a folder that :func:`open_source` fills; one chunk at a time is in memory.

    Parameters
    ----------
    folder : Path
        Filled by :func:`open_source`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.tasks, self.workers, self.classes = (pd.Index(pd.read_parquet(folder / f"{name}.parquet")[name]) for name in COLUMNS)
        counts = np.load(folder / "counts.npz")
        self.votes_by_worker, self.votes_by_class, self._sizes = (counts[name] for name in ("worker", "label", "sizes"))

    def map(self, function: Callable[[Sequence[Block], State], T], state: State) -> Iterator[T]:
        """As :meth:`Source.map`."""
        for number, part in enumerate(self._cut(state)):
            yield _apply(function, self._load(number), part, len(self.classes))

    def save(self, key: str, state: dict[str, np.ndarray]) -> None:
        """As :meth:`Source.save`, in the folder."""
        with replace_whole(self._folder / "state.npz") as partial, partial.open("wb") as file:
            np.savez(file, key=np.array(key), **state)

    def restore(self, key: str) -> dict[str, np.ndarray] | None:
        """As :meth:`Source.restore`, from the folder."""
        if not (self._folder / "state.npz").is_file():
            return None
        with np.load(self._folder / "state.npz") as file:
            kept = dict(file)
        return kept if str(kept.pop("key")) == key else None

    def _load(self, number: int) -> np.ndarray:
        return np.load(_chunk_path(self._folder, number))

    def _cut(self, state: State) -> Iterator[State]:
        start = 0
        for size in self._sizes:
            yield type(state)(*(array[start : start + size] for array in state))
            start += size


class Spread(Stored):
    """Votes in the memory of a Dask cluster's workers.

    Parameters
    ----------
    folder : Path
        Filled by :func:`open_source`.
    client : distributed.Client
    """

    def __init__(self, folder: Path, client: Client) -> None:
        super().__init__(folder)
        self._client = client
        self._held = [client.scatter(self._load(number), hash=False) for number in range(len(self._sizes))]

    def map(self, function: Callable[[Sequence[Block], State], T], state: State) -> Iterator[T]:
        """As :meth:`Source.map`; all chunks at once.

        Raises
        ------
        RuntimeError
            If a worker is lost, and the votes it held with it.
        """
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError

        shared = self._client.scatter(function, hash=False)
        results = [
            self._client.submit(_apply, shared, votes, part, len(self.classes), pure=False)
            for votes, part in zip(self._held, self._cut(state), strict=True)
        ]
        try:
            for result in results:
                yield result.result()
        except (FutureCancelledError, KilledWorker) as error:
            raise RuntimeError("a Dask worker was lost, with its votes; run again, and with a scratch folder the fit goes on") from error


def _apply(function: Callable[[Sequence[Block], State], T], votes: np.ndarray, state: State, n_classes: int) -> T:
    counts = np.bincount(votes["task"])
    return function(list(cut_blocks(counts, votes["worker"], votes["label"], n_classes)), state)


def _chunk_path(folder: Path, number: int) -> Path:
    return folder / f"chunk-{number:06d}.npy"


# -- from a table to chunks -----------------------------------------------------------------------------------------------

_EXPECTED = f"a .csv or .parquet table with the columns {', '.join(COLUMNS)}"
_NONE = ("", "NaN", "nan", "NA", "N/A", "null", "NULL", "None", "<NA>")  # what programs write into a csv where there is nothing
_MARK = ".ferbook-crowd"  # in a scratch folder that is ours to remove
_VOTE = np.dtype([("task", "<i4"), ("worker", "<i4"), ("label", "<i2")])


@contextlib.contextmanager
def open_source(
    path: str | os.PathLike[str], classes: Sequence[Hashable] | None = None, *, chunk_rows: int = CHUNK_ROWS,
    scheduler: str | Client | None = None, scratch: str | os.PathLike[str] | None = None,
) -> Iterator[Source]:
    """Bring the votes of a table together by task, in chunks.

    Parameters
    ----------
    path : path
        As :meth:`ReliabilityEM.fit_file`.
    classes : sequence of hashable, optional
        All classes, voted for or not.
    chunk_rows, scheduler, scratch
        As :meth:`ReliabilityEM.fit_file`.

    Yields
    ------
    Source

    Raises
    ------
    ValueError, DataError, ImportError
        As :meth:`ReliabilityEM.fit_file`.
    """
    path = Path(path)
    if chunk_rows < 1:
        raise ValueError(f"chunk_rows must be 1 or more, got {chunk_rows}")
    with contextlib.ExitStack() as stack:
        client = None if scheduler is None else stack.enter_context(_connect(scheduler))
        table = _open_table(path)
        folder = Path(scratch or stack.enter_context(tempfile.TemporaryDirectory(prefix="ferbook-crowd-")))
        plan = json.dumps([[str(Path(name).resolve()), os.stat(name).st_size, os.stat(name).st_mtime_ns] for name in table.files]
                          + [chunk_rows, None if classes is None else repr(list(classes))])
        done = folder / "plan.json"
        if not done.is_file() or done.read_text(encoding="utf-8") != plan:
            if scratch is not None:
                _clear(folder)
            try:
                _cut_table(table, path, folder, classes, chunk_rows)
            except Exception:
                if scratch is not None:
                    shutil.rmtree(folder)
                raise
            with replace_whole(done) as partial:
                partial.write_text(plan, encoding="utf-8")
        yield Stored(folder) if client is None else Spread(folder, client)
        if scratch is not None:
            shutil.rmtree(folder)


@contextlib.contextmanager
def _connect(scheduler: str | Client) -> Iterator[Client]:
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise ImportError(f"a scheduler needs Dask ({error.name} is missing): pip install 'dask[distributed]'") from None
    if isinstance(scheduler, Client):
        yield scheduler
        return
    if not re.fullmatch(r"[a-z]+://.+:\d+", scheduler):
        raise ValueError(f"scheduler must be tcp://host:port, got {scheduler!r}")
    try:
        client = Client(scheduler, timeout="10s", set_as_default=False)
    except OSError as error:
        raise ConnectionError(f"no Dask scheduler answers at {scheduler}: {error}") from error
    with client:
        yield client


def _clear(folder: Path) -> None:
    """Make an empty scratch folder; remove what is there only if an earlier fit left it."""
    if folder.exists():
        ours = folder.is_dir() and ((folder / _MARK).is_file() or not any(folder.iterdir()))
        if not ours:
            raise DataError.at(folder, "holds something else", "an empty or new scratch folder, or one that a fit left")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / _MARK).touch()


def _open_table(path: Path) -> pyarrow.dataset.FileSystemDataset:
    if path.suffix == ".csv":
        text = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(COLUMNS, pa.string()))
        kind: Any = pyarrow.dataset.CsvFileFormat(convert_options=text)
    elif path.suffix == ".parquet" or path.is_dir():
        kind = "parquet"
    else:
        raise DataError.at(path, "not found" if not path.exists() else "of another kind", _EXPECTED)
    try:
        table = pyarrow.dataset.dataset(path, format=kind)
    except FileNotFoundError:
        raise DataError.at(path, "not found", _EXPECTED) from None
    except (OSError, pa.ArrowException) as error:
        raise DataError.at(path, f"cannot be read ({str(error).splitlines()[0]})", _EXPECTED) from error
    for column in COLUMNS:
        if (found := table.schema.names.count(column)) != 1:
            has = ", ".join(table.schema.names) or "none"
            raise DataError.at(path, f"{found or 'no'} columns {column!r} (columns: {has})", _EXPECTED)
    return table


def _cut_table(
    table: pyarrow.dataset.FileSystemDataset, path: Path, folder: Path, classes: Sequence[Hashable] | None, chunk_rows: int
) -> None:
    """Number the votes in one reading, then deal them to the chunks of their tasks, and sort each chunk."""
    codes: dict[str, dict[Hashable, int]] = {column: {} for column in COLUMNS}
    raw = folder / "votes.raw"
    counts = {column: np.zeros(0, dtype=np.int64) for column in COLUMNS}
    with raw.open("wb") as file:
        for votes in _number(table, path, codes):
            votes.tofile(file)
            for column in COLUMNS:
                more = np.bincount(votes[column], minlength=len(codes[column]))
                more[: len(counts[column])] += counts[column]
                counts[column] = more
    if not len(counts["task"]):
        raise DataError.at(path, "no votes", _EXPECTED)
    known = encode_classes(list(codes["label"]), classes, path)
    place = known.get_indexer(pd.Index(list(codes["label"])))
    if len(known) > np.iinfo(_VOTE["label"]).max:
        raise DataError.at(path, f"{len(known):,} classes", "fewer than 32,768")

    ends = counts["task"].cumsum()
    sizes: list[int] = []
    while (first := sum(sizes)) < len(ends):
        start = ends[first - 1] if first else 0
        sizes.append(max(int(np.searchsorted(ends, start + chunk_rows, side="right")) - first, 1))
    chunk_of = np.repeat(np.arange(len(sizes)), sizes)
    first_of = np.concatenate([[0], np.cumsum(sizes)])

    with raw.open("rb") as file:
        while len(votes := np.fromfile(file, _VOTE, max(chunk_rows, 2**16))):
            chunk = chunk_of[votes["task"]]
            order = np.argsort(chunk, kind="stable")
            edges = np.searchsorted(chunk[order], np.arange(len(sizes) + 1))
            for number in np.flatnonzero(np.diff(edges)):
                with (folder / f"deal-{number:06d}").open("ab") as part:
                    votes[order[edges[number] : edges[number + 1]]].tofile(part)
    raw.unlink()
    for number in range(len(sizes)):
        dealt = folder / f"deal-{number:06d}"
        votes = np.fromfile(dealt, _VOTE)
        votes = votes[np.argsort(votes["task"], kind="stable")]
        votes["task"] -= first_of[number].astype(np.int32)
        votes["label"] = place[votes["label"]]
        np.save(_chunk_path(folder, number), votes)
        dealt.unlink()

    by_class = np.bincount(place, counts["label"], len(known)).astype(np.int64)
    np.savez(folder / "counts.npz", worker=counts["worker"], label=by_class, sizes=np.array(sizes))
    for column, values in (("task", list(codes["task"])), ("worker", list(codes["worker"])), ("label", known)):
        pd.DataFrame({column: values}).to_parquet(folder / f"{column}.parquet")


def _number(table: pyarrow.dataset.FileSystemDataset, path: Path, codes: dict[str, dict[Hashable, int]]) -> Iterator[np.ndarray]:
    """Read a table in batches and number its values, adding to ``codes`` as they come."""
    rows, text = 0, isinstance(table.format, pyarrow.dataset.CsvFileFormat)
    expected = "a task, a worker and a label in each row" + (f" (blanks and {', '.join(_NONE[1:])} count as none)" if text else "")
    try:
        for batch in table.to_batches(columns=list(COLUMNS), batch_size=2**16, batch_readahead=2, fragment_readahead=1):
            votes = np.empty(len(batch), dtype=_VOTE)
            for column in COLUMNS:
                values = batch.column(column)
                if pa.types.is_dictionary(values.type):
                    values = values.dictionary_decode()
                if text:
                    values = pyarrow.compute.utf8_trim_whitespace(values)
                    none = pyarrow.compute.is_in(values, pa.array(_NONE))
                    values = pyarrow.compute.if_else(none, pa.scalar(None, pa.string()), values)
                missing = values.is_null(nan_is_null=True)
                if missing.true_count:
                    row = rows + missing.index(True).as_py() + 1
                    raise DataError.at(path, f"row {row} has no {column}", expected)
                coded = values.dictionary_encode()
                known = codes[column]
                numbers = np.array([known.setdefault(value, len(known)) for value in coded.dictionary.to_pylist()], dtype=np.int64)
                votes[column] = numbers[coded.indices.to_numpy()]
            rows += len(batch)
            if len(votes):
                yield votes
    except (OSError, pa.ArrowException) as error:
        raise DataError.at(path, f"cannot be read ({str(error).splitlines()[0]})", _EXPECTED) from error

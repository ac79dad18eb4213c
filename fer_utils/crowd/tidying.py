"""From any table of votes to the one that a fit reads: one spelling for each task, worker and class, repeats found."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from ..datasets.layouts import read_word
from ..errors import DataError
from .tables import EXPECTED, VoteTable, count, list_some, open_votes, show
from .votes import COLUMNS, encode_classes

__all__ = ["Repeats", "Tidied", "tidy_votes"]

_VOTE = np.dtype([(name, "<i4") for name in COLUMNS])
_BLOCK = 2**18  # votes that are read at a time
_RANGE = 2**21  # votes that are compared at a time
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.0+)?")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


class Repeats(StrEnum):
    """What to do with the votes of a worker who votes more than once on a task."""

    KEEP = "keep"
    FIRST = "first"
    ERROR = "error"


class Tidied(NamedTuple):
    """What came of a table.

    Attributes
    ----------
    classes : list
        All classes in order; integers where all labels are whole numbers.
    notes : list of str
        What a reader should know: how the table was read, spellings that were taken as one, repeated votes.
    """

    classes: list[Any]
    notes: list[str]


def tidy_votes(
    path: str | os.PathLike[str], out: Path, *, classes: Sequence[str] | None = None, repeats: Repeats = Repeats.KEEP
) -> Tidied:
    """Read a table of votes as people have them, and write it as Parquet, ``task, worker, label``, for ``fit_file``.

    Labels that are equal as numbers, in upper and lower case, by Unicode's compatibility form or as noun and adjective
    of one emotion are one class: it is called as in ``classes``, or as most votes have it. Tasks and workers are the
    same only where their names are, but for Unicode's composed form; where all of them are whole numbers, ``1.0`` is 1.
    Whole numbers are written as integers.

    Parameters
    ----------
    path : path
        See :func:`~fer_utils.crowd.tables.open_votes`.
    out : Path
        The table to write. A file ``.raw`` stands beside it meanwhile.
    classes : sequence of str, optional
        All classes, voted for or not. Two that would else be one are kept apart, and votes for them must be spelled as
        they are.
    repeats : Repeats
        Whether all votes of a worker on a task count, or the first only, or a second one is an error.

    Returns
    -------
    Tidied

    Raises
    ------
    DataError
        If the file is no table of votes, a vote is for none of the classes, there are fewer than two classes, or
        ``repeats`` is ``"error"`` and somebody votes twice on a task.
    """
    path, raw = Path(path), out.with_suffix(".raw")
    try:
        with open_votes(path) as table:
            values = _code_votes(table, raw)
            notes, workers = list(table.notes), table.workers
        counts = _count(raw, values)
        if not len(counts["label"]) or not counts["label"].sum():
            raise DataError.at(path, "no votes", EXPECTED)
        texts, places = {}, {}
        for name in COLUMNS[:2]:
            texts[name], places[name], merged = _spell_names(values[name], name)
            notes += merged
        key = _Key(classes)
        if workers is not None:
            notes += _drop_other_columns(raw, values, counts, key, workers)
            counts = _count(raw, values)
            silent = np.flatnonzero(np.bincount(places["task"], counts["task"]) == 0)
            if len(silent):
                names = list_some(show(texts["task"][place]) for place in silent)
                notes.append(f"{count(len(silent), 'task has', 'tasks have')} no vote and no label: {names}")
        voted, places["label"], known, merged = _spell_labels(values["label"], counts["label"], key)
        notes += merged
        order = encode_classes(voted, known, path).tolist()
        texts["label"] = [*voted, *(label for label in order if label not in set(voted))]
        left_out, said = _find_repeats(path, raw, texts, places, repeats)
        notes += said
        _write(raw, out, texts, places, left_out)
    finally:
        raw.unlink(missing_ok=True)
    return Tidied(order, notes)


# -- to numbers and back ----------------------------------------------------------------------------------------


def _code_votes(table: VoteTable, raw: Path) -> dict[str, list[Any]]:
    """Write the votes as numbers, and return what these stand for, in order of appearance."""
    codes: dict[str, dict[Any, int]] = {name: {} for name in COLUMNS}
    codes["worker"] = {worker: place for place, worker in enumerate(table.workers or ())}
    with raw.open("wb") as file:
        for task, worker, label in table.batches:
            votes = np.empty(len(task), dtype=_VOTE)
            votes["task"] = _code(task, codes["task"])
            there = np.asarray(label.is_valid())
            votes = votes[there]
            votes["worker"] = codes["worker"][worker] if isinstance(worker, str) else _code(worker, codes["worker"])
            votes["label"] = _code(label.filter(pa.array(there)), codes["label"])
            votes.tofile(file)
    return {name: list(known) for name, known in codes.items()}


def _code(values: pa.Array, known: dict[Any, int]) -> np.ndarray:
    coded = values.dictionary_encode()
    numbers = np.array([known.setdefault(value, len(known)) for value in coded.dictionary.to_pylist()], dtype=np.int32)
    return numbers[coded.indices.to_numpy(zero_copy_only=False)]


def _read(raw: Path) -> Iterator[np.ndarray]:
    with raw.open("rb") as file:
        while len(votes := np.fromfile(file, _VOTE, _BLOCK)):
            yield votes


def _count(raw: Path, values: dict[str, list[Any]]) -> dict[str, np.ndarray]:
    counts = {name: np.zeros(len(values[name]), dtype=np.int64) for name in COLUMNS}
    for votes in _read(raw):
        for name in COLUMNS:
            counts[name] += np.bincount(votes[name], minlength=len(values[name]))
    return counts


def _write(
    raw: Path, out: Path, texts: dict[str, list[Any]], places: dict[str, np.ndarray], left_out: np.ndarray | None
) -> None:
    arrays = {name: pa.array(texts[name]) for name in COLUMNS}
    schema = pa.schema([(name, array.type) for name, array in arrays.items()])
    row = 0
    with pa.parquet.ParquetWriter(out, schema) as writer:
        for votes in _read(raw):
            row, first = row + len(votes), row
            kept = votes if left_out is None else votes[~left_out[first:row]]
            writer.write_table(
                pa.table([arrays[name].take(pa.array(places[name][kept[name]])) for name in COLUMNS], schema)
            )


# -- one spelling -----------------------------------------------------------------------------------------------


def _unquote(text: str) -> str:
    """The text without quotes that a blank before them had made part of it."""
    return text[1:-1].strip() if len(text) > 1 and text[0] == text[-1] == '"' else text


def _spell_names(values: list[Any], what: str) -> tuple[list[Any], np.ndarray, list[str]]:
    """Tasks or workers, the place of each value among them, and what to say."""
    keys = [unicodedata.normalize("NFC", _unquote(value)) if isinstance(value, str) else value for value in values]
    if all(_WHOLE.fullmatch(key) if isinstance(key, str) else _is_whole(key) for key in keys):
        keys = [int(key.partition(".")[0]) if isinstance(key, str) else int(key) for key in keys]
    elif any(isinstance(key, str) for key in keys):
        keys = list(map(str, keys))
    known: dict[Any, int] = {}
    places = np.array([known.setdefault(key, len(known)) for key in keys], dtype=np.int64)
    return list(known), places, _say_merged(what, values, places, list(known), f"taken as one {what}")


def _is_whole(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and bool(value == int(value)) and abs(value) < 2**63
    except (TypeError, ValueError, OverflowError):
        return False


class _Key:
    """What labels of one class have in common: a number, or a word in one form."""

    def __init__(self, classes: Sequence[str] | None) -> None:
        keys = [self._find(name) for name in classes or ()]
        self._apart = {name: (name,) for name, key in zip(classes or (), keys, strict=True) if keys.count(key) > 1}
        self.classes = None if classes is None else list(classes)

    def __call__(self, value: Any) -> Any:
        return self._apart.get(value) or self._find(value)

    @staticmethod
    def _find(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        text = unicodedata.normalize("NFKC", " ".join(_unquote(value).split()))
        number = float(text) if _NUMBER.fullmatch(text) else np.inf
        if abs(number) < 2**53:
            return number
        return read_word(unicodedata.normalize("NFKC", text.casefold()))


def _spell_labels(
    values: list[Any], counts: np.ndarray, key: _Key
) -> tuple[list[Any], np.ndarray, list[Any] | None, list[str]]:
    """Labels voted for, the place of each value among them (-1 for none), all classes if given, and what to say."""
    used = np.flatnonzero(counts)
    keys = {place: key(values[place]) for place in used}
    given = {key(name): name for name in key.classes or ()}
    spelled: dict[Any, Any] = {}
    for place in sorted(used, key=lambda place: -counts[place]):  # stable: of equals the first that came
        spelled.setdefault(keys[place], given.get(keys[place], values[place]))
    every = [*spelled, *(k for k in given if k not in spelled)]
    if all(isinstance(k, bool) for k in every):
        names: dict[Any, Any] = {k: k for k in every}
    elif all(_is_whole(k) for k in every):
        names = {k: int(k) for k in every}
    elif all(isinstance(k, int | float) and abs(k) < np.inf for k in every):
        names = {k: float(k) for k in every}
    else:
        names = {k: _unquote(str(spelled.get(k, given.get(k)))) for k in every}
    voted = list(dict.fromkeys(names[keys[place]] for place in used))
    row = {name: place for place, name in enumerate(voted)}
    places = np.full(len(values), -1, dtype=np.int64)
    places[used] = [row[names[keys[place]]] for place in used]
    notes = _say_merged("label", [values[place] for place in used], places[used], voted, "taken as one class")
    return voted, places, [names[key(name)] for name in key.classes] if key.classes else None, notes


def _say_merged(what: str, values: Sequence[Any], places: np.ndarray, names: Sequence[Any], end: str) -> list[str]:
    several = np.flatnonzero(np.bincount(places, minlength=len(names)) > 1)
    notes = []
    for place in several[:5]:
        ways = list_some(show(values[n]) for n in np.flatnonzero(places == place))
        notes.append(f"{what} {show(names[place])} is written {ways}: {end}")
    if more := len(several[5:]):
        notes.append(f"{count(more, f'more {what} is', f'more {what}s are')} written in several ways: {end}")
    return notes


def _drop_other_columns(
    raw: Path, values: dict[str, list[Any]], counts: dict[str, np.ndarray], key: _Key, workers: Sequence[str]
) -> list[str]:
    """Take columns without votes out of a wide table: no value of theirs is a class or stands in another column."""
    groups: dict[Any, int] = {}
    group = np.array([groups.setdefault(key(value), len(groups)) for value in values["label"]], dtype=np.int64)
    held = np.zeros((len(workers), len(groups)), dtype=bool)
    for votes in _read(raw):
        held[votes["worker"], group[votes["label"]]] = True
    if key.classes is None:
        shared = held.sum(axis=0) > 1
    else:
        shared = np.isin(np.arange(len(groups)), [groups.get(key(name), -1) for name in key.classes])
    voter = (held & shared).any(axis=1)
    silent = counts["worker"] == 0
    if (voter & ~silent).sum() < 2:
        return []
    reasons = {True: "it is empty", False: "no value of it is a class or stands in another column"}
    notes = [
        f"column {show(workers[n])} is left out: {reasons[bool(silent[n])]}" for n in np.flatnonzero(~voter | silent)
    ]
    kept = raw.with_suffix(".kept")
    try:
        with kept.open("wb") as file:
            for votes in _read(raw):
                votes[voter[votes["worker"]]].tofile(file)
        kept.replace(raw)
    finally:
        kept.unlink(missing_ok=True)
    return notes


# -- repeated votes ---------------------------------------------------------------------------------------------


def _find_repeats(
    path: Path, raw: Path, texts: dict[str, list[Any]], places: dict[str, np.ndarray], repeats: Repeats
) -> tuple[np.ndarray | None, list[str]]:
    """Which votes are to be left out, if any, and what to say. A range of tasks at a time."""
    by_task = np.zeros(len(texts["task"]), dtype=np.int64)
    for votes in _read(raw):
        by_task += np.bincount(places["task"][votes["task"]], minlength=len(by_task))
    piece = (by_task.cumsum() - 1) // _RANGE
    later = np.zeros(int(by_task.sum()), dtype=bool)
    again = pairs = 0
    first: dict[str, tuple[int, int]] = {}  # row, and who on which task
    for number in np.unique(piece[by_task > 0]):
        parts, row = [], 0
        for votes in _read(raw):
            task = places["task"][votes["task"]]
            rows = np.flatnonzero(piece[task] == number)
            pair = places["worker"][votes["worker"][rows]] + task[rows] * len(texts["worker"])
            label = places["label"][votes["label"][rows]]
            parts.append(pd.DataFrame({"pair": pair, "label": label}, index=rows + row))
            row += len(votes)
        frame = pd.concat(parts)
        frame = frame[frame.duplicated("pair", keep=False)]
        later[frame.index[frame.duplicated("pair")]] = True
        same = frame.duplicated()
        other = frame[~same]
        other = other[other.duplicated("pair")]
        again, pairs = again + int(same.sum()), pairs + other["pair"].nunique()
        for kind, found in (("again", frame[same]), ("other", other)):
            if len(found):
                at = (int(found.index[0]), int(found["pair"].iloc[0]))
                first[kind] = min(first.get(kind, at), at)
    if not later.any():
        return None, []
    who = {}
    for kind, (_, pair) in first.items():
        task, worker = divmod(pair, len(texts["worker"]))
        who[kind] = f"worker {show(texts['worker'][worker])} on task {show(texts['task'][task])}"
    told = []
    if again:
        told.append(
            f"{count(again, 'vote comes', 'votes come')} again, from the same worker for the same class "
            f"(first: {who['again']})"
        )
    if pairs:
        told.append(
            f"{count(pairs, 'time', 'times')} a worker votes for several classes on one task (first: {who['other']})"
        )
    if repeats == Repeats.ERROR:
        raise DataError.at(path, "; ".join(told), "one vote of each worker on a task; or --repeats keep, or first")
    end = (
        "all votes count; --repeats first counts the first of each worker on a task"
        if repeats == Repeats.KEEP
        else (f"the first of each worker on a task counts, {count(int(later.sum()), 'vote is', 'votes are')} left out")
    )
    return later if repeats == Repeats.FIRST else None, [f"{'; '.join(told)}: {end}"]

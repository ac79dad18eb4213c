"""Votes as arrays: from a frame ``task, worker, label`` to blocks that one pass of the estimator works through."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import pandas as pd

from ..errors import DataError

__all__ = ["COLUMNS", "Block", "Coded", "code_arrays", "cut_blocks", "encode_classes", "encode_votes", "sort_votes"]

#: The columns of a frame of votes, as in crowd-kit.
COLUMNS = ("task", "worker", "label")

#: Votes a block: its arrays stay in the processor's cache while a pass works on it.
BLOCK_VOTES = 2**14


class Coded(NamedTuple):
    """Votes as numbers.

    Attributes
    ----------
    task, worker, label : int64 ``[V]``
        Codes into ``tasks``, ``workers`` and ``classes``.
    tasks, workers, classes : pandas.Index
    """

    task: np.ndarray
    worker: np.ndarray
    label: np.ndarray
    tasks: pd.Index
    workers: pd.Index
    classes: pd.Index


def encode_votes(votes: pd.DataFrame, classes: Sequence[Hashable] | None = None, workers: pd.Index | None = None) -> Coded:
    """Check a frame of votes and number its tasks, workers and classes.

    Parameters
    ----------
    votes : pandas.DataFrame
        One row a vote: ``task``, ``worker``, ``label``; other columns do not matter. A row that comes twice counts twice.
    classes : sequence of hashable, optional
        All classes, voted for or not. By default those that were voted for, sorted where they can be.
    workers : pandas.Index, optional
        The workers to number by. By default those of the frame, in order of appearance.

    Returns
    -------
    Coded
        Tasks in order of appearance.

    Raises
    ------
    ValueError
        If a column is missing, there are no votes, a value is missing, a label is not among ``classes`` or a worker not among
        ``workers``, or fewer than two classes are known.
    """
    if not isinstance(votes, pd.DataFrame):
        raise ValueError(f"votes must be a pandas.DataFrame with the columns {', '.join(COLUMNS)}, got {type(votes).__name__}")
    if missing := [column for column in COLUMNS if column not in votes.columns]:
        has = ", ".join(map(str, votes.columns)) or "none"
        raise ValueError(f"votes have no column {missing[0]!r} (columns: {has}); expected {', '.join(COLUMNS)}")
    if not len(votes):
        raise ValueError("votes are empty; expected one row a vote")
    codes, uniques = {}, {}
    for column in COLUMNS:
        codes[column], uniques[column] = pd.factorize(votes[column])
        if (codes[column] < 0).any():
            row = votes.index[(codes[column] < 0).argmax()]
            raise ValueError(f"votes: row {row!r} has no {column}; expected a task, a worker and a label in each row")
    known = encode_classes(uniques["label"], classes)
    label = known.get_indexer(uniques["label"])[codes["label"]]
    if workers is not None:
        place = workers.get_indexer(uniques["worker"])
        if (place < 0).any():
            stranger = uniques["worker"][(place < 0).argmax()]
            raise ValueError(f"votes: nothing is known of worker {stranger!r}; expected workers who voted when the crowd was fitted")
        codes["worker"], uniques["worker"] = place[codes["worker"]], workers
    return Coded(codes["task"], codes["worker"], label, pd.Index(uniques["task"], name="task"),
                 pd.Index(uniques["worker"], name="worker"), known)


def encode_classes(voted: Sequence[Hashable], classes: Sequence[Hashable] | None, where: object = "votes") -> pd.Index:
    """Put the classes in order and check that all votes are for one of them.

    Parameters
    ----------
    voted, classes : sequence of hashable
        See :func:`encode_votes`.
    where : object
        Where the votes come from, for the message.

    Raises
    ------
    ValueError
        If two of ``classes`` are alike.
    DataError
        If a vote is for none of them, or there are fewer than two.
    """
    if classes is None:
        try:
            known = sorted(voted)
        except TypeError:
            known = list(voted)
    else:
        known = list(classes)
        if len(set(known)) < len(known):
            raise ValueError(f"classes must differ, got {', '.join(map(str, known))}")
        if strange := [label for label in voted if label not in set(known)]:
            raise DataError.at(where, f"label {strange[0]!r} is no class", f"one of {', '.join(map(str, known))}")
    if len(known) < 2:
        problem = f"every vote is for {known[0]!r}, and one class leaves nothing to decide"
        raise DataError.at(where, problem, "the other classes by name, in classes= or after --classes")
    return pd.Index(known, name="label")


def code_arrays(task: np.ndarray, worker: np.ndarray, label: np.ndarray, classes: Sequence[Hashable] | None = None) -> Coded:
    """Check votes that are numbers already.

    Parameters
    ----------
    task, worker, label : int ``[V]``
        Codes from 0; ``label`` counts into ``classes``. Every task has a vote; a worker may have none.
    classes : sequence of hashable, optional
        All classes. By default the codes up to the largest.

    Returns
    -------
    Coded

    Raises
    ------
    ValueError
        If the arrays differ in length, are empty, hold anything but codes, or skip a task; or for fewer than two classes.
    """
    arrays = {"task": np.asarray(task), "worker": np.asarray(worker), "label": np.asarray(label)}
    for name, array in arrays.items():
        if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
            raise ValueError(f"{name} must be whole numbers in one row, got {array.dtype} of shape {array.shape}")
        if not len(array) or len(array) != len(arrays["task"]):
            raise ValueError(f"{name} has {len(array)} entries and task {len(arrays['task'])}; expected one a vote, and a vote at least")
        if array.min() < 0:
            raise ValueError(f"{name} must be codes from 0, got {array.min()}")
    if len(gaps := np.flatnonzero(np.bincount(arrays["task"]) == 0)):
        raise ValueError(f"task {gaps[0]} has no vote; expected all codes from 0 to {arrays['task'].max()}")
    known = encode_classes(range(int(arrays["label"].max()) + 1), None if classes is None else range(len(classes)))
    ranges = (pd.RangeIndex(int(arrays[name].max()) + 1, name=name) for name in ("task", "worker"))
    return Coded(*arrays.values(), *ranges, known if classes is None else pd.Index(list(classes), name="label"))


def sort_votes(task: np.ndarray, worker: np.ndarray, label: np.ndarray, n_tasks: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bring the votes of each task together.

    Parameters
    ----------
    task, worker, label : int ``[V]``
        Codes from 0.
    n_tasks : int
        Every task has a vote.

    Returns
    -------
    int64 ``[N]``
        Votes of each task.
    int ``[V]``, int ``[V]``
        Workers and labels, task by task.
    """
    if (np.diff(task) < 0).any():
        order = np.argsort(task, kind="stable")
        task, worker, label = task[order], worker[order], label[order]
    return np.bincount(task, minlength=n_tasks), worker, label


@dataclass(frozen=True, eq=False)
class Block:
    """Votes of neighbouring tasks, sorted by task; every task has at least one.

    Attributes
    ----------
    counts : int64 ``[N]``
        Votes a task.
    starts : int64 ``[N]``
        Where each task's votes begin.
    workers : int64 ``[V]``
        Who cast each vote.
    cells : int64 ``[V]``
        The vote's place in a flat ``[N, K]``: task times K plus label.
    tally : float64 ``[N, K]``
        Votes by task and class.
    """

    counts: np.ndarray
    starts: np.ndarray
    workers: np.ndarray
    cells: np.ndarray
    tally: np.ndarray

    @classmethod
    def build(cls, counts: np.ndarray, workers: np.ndarray, labels: np.ndarray, n_classes: int) -> Self:
        """Make a block of sorted votes.

        Parameters
        ----------
        counts : int64 ``[N]``
            Votes of each task, at least one.
        workers, labels : int64 ``[V]``
            Codes, task by task.
        n_classes : int
        """
        n = len(counts)
        cells = np.repeat(np.arange(n) * n_classes, counts) + labels
        tally = np.bincount(cells, minlength=n * n_classes).reshape(n, n_classes).astype(float)
        return cls(counts, np.concatenate([[0], counts[:-1].cumsum()]), workers.astype(np.intp), cells, tally)


def cut_blocks(counts: np.ndarray, workers: np.ndarray, labels: np.ndarray, n_classes: int, size: int = BLOCK_VOTES) -> Iterator[Block]:
    """Cut sorted votes into blocks, never through a task.

    Parameters
    ----------
    counts : int64 ``[N]``
    workers, labels : int64 ``[V]``
        As :func:`sort_votes` gives them.
    n_classes : int
    size : int
        Votes per block, about.
    """
    ends = counts.cumsum()
    task = vote = 0
    while task < len(counts):
        stop = max(int(np.searchsorted(ends, vote + size, side="right")), task + 1)
        end = int(ends[stop - 1])
        yield Block.build(counts[task:stop], workers[vote:end], labels[vote:end], n_classes)
        task, vote = stop, end

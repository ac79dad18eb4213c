"""From weighed votes to RAF-DB's subsets: the 7-dimensional soft label, and the single-label and two-tab sets (Li & Deng 2019, III-A5)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd

from .votes import encode_votes

__all__ = ["SETS", "partition_labels", "soft_labels"]

#: The sets that faces are parted into.
SETS = ("single-label", "two-tab", "excluded")


def soft_labels(
    votes: pd.DataFrame, alphas: pd.Series, *, classes: Sequence[Hashable] | None = None, normalise: bool = True, negative: str = "drop"
) -> pd.DataFrame:
    """Weigh the votes for each face by the reliability of who cast them: ``g_k``, the sum of ``alpha`` over the votes for class ``k``.

    Parameters
    ----------
    votes : pandas.DataFrame
        One row a vote: ``task``, ``worker``, ``label``.
    alphas : pandas.Series
        Reliability by worker, such as ``alphas_`` of the fit or those that ``filter_annotators`` keeps. Votes of others do not
        count.
    classes : sequence of hashable, optional
        All classes, voted for or not; by default those voted for, sorted.
    normalise : bool
        Divide by the sum, so that a face's shares sum to 1. The partition is the same either way.
    negative : {"drop", "keep"}
        Whether votes of annotators with a negative ``alpha`` are left out, or count against their class, as the formula has it. A
        kept one can make shares negative.

    Returns
    -------
    pandas.DataFrame
        Float, tasks by classes. A face without any vote that counts has 0 everywhere.

    Raises
    ------
    ValueError
        If ``votes`` are no frame of votes, no voter is in ``alphas``, an ``alpha`` is missing or stands twice, or for an unknown
        ``negative``.

    Notes
    -----
    Li & Deng 2019, section III-A5.
    """
    if negative not in ("drop", "keep"):
        raise ValueError(f"negative must be drop or keep, got {negative!r}")
    if alphas.isna().any() or alphas.index.has_duplicates:
        raise ValueError("alphas must hold one number a worker; a value is missing or a worker stands twice")
    coded = encode_votes(votes, classes)
    weights = alphas.reindex(coded.workers).to_numpy(dtype=float)
    if np.isnan(weights).all():
        raise ValueError(f"no voter is in alphas, such as worker {coded.workers[0]!r}; expected an index of workers")
    weights = np.nan_to_num(weights) if negative == "keep" else np.nan_to_num(weights).clip(min=0)
    n, k = len(coded.tasks), len(coded.classes)
    shares = np.bincount(coded.task * k + coded.label, weights[coded.worker], n * k).reshape(n, k)
    if normalise:
        total = shares.sum(axis=1, keepdims=True)
        shares = np.divide(shares, total, out=np.zeros_like(shares), where=total != 0)
    return pd.DataFrame(shares, index=coded.tasks, columns=coded.classes)


def partition_labels(shares: pd.DataFrame, *, neutral: Hashable = 7) -> pd.DataFrame:
    """Part faces by how many classes they show: a class counts where ``g_k`` is above the face's mean over all classes.

    One such class makes a single-label face. Two make a two-tab face, unless one of them is neutral: the paper takes faces with a
    neutral label away before it looks for pairs. All others, and faces that nothing is known of, belong to neither set.

    Parameters
    ----------
    shares : pandas.DataFrame
        Tasks by classes, of :func:`soft_labels`.
    neutral : hashable
        The neutral class; None where there is none. 7 is RAF-DB's code.

    Returns
    -------
    pandas.DataFrame
        By task: ``set`` (one of :data:`SETS`), ``first`` and ``second`` (the classes of a single-label or two-tab face, the stronger
        first; of equals, the earlier class; None where there is none), ``valid`` (int, how many classes are above the mean).

    Raises
    ------
    ValueError
        If ``neutral`` is no class, or a share is missing.

    Notes
    -----
    Li & Deng 2019, section III-A5.
    """
    if neutral is not None and neutral not in shares.columns:
        raise ValueError(f"neutral={neutral!r} is no class; expected one of {', '.join(map(str, shares.columns))}, or None")
    values = shares.to_numpy(dtype=float)
    if np.isnan(values).any():
        raise ValueError(f"shares of task {shares.index[np.isnan(values).any(axis=1).argmax()]!r} are missing; expected numbers")
    valid = values > values.mean(axis=1, keepdims=True)
    count = valid.sum(axis=1)
    pairs = count == 2
    if neutral is not None:
        pairs &= ~valid[:, shares.columns.get_loc(neutral)]
    order = np.argsort(-values, axis=1, kind="stable")
    names = shares.columns.to_numpy(dtype=object)
    first = np.where((count == 1) | pairs, names[order[:, 0]], None)
    second = np.where(pairs, names[order[:, 1]], None)
    sets = np.select([count == 1, pairs], SETS[:2], SETS[2])
    return pd.DataFrame({"set": sets, "first": first, "second": second, "valid": count}, index=shares.index)

"""Do the annotators agree, and who of them stays: Cronbach's alpha and the filter (Li & Deng 2019, section III-A4)."""

from __future__ import annotations

from numbers import Real

import numpy as np
import pandas as pd

from .votes import encode_votes

__all__ = ["cronbach_alpha", "filter_annotators"]


def filter_annotators(alphas: pd.Series, threshold: float | str = 0.0) -> pd.Series:
    """Choose whose votes count. The paper kept 285 of 315 and does not say by what rule.

    Parameters
    ----------
    alphas : pandas.Series
        Reliability by worker.
    threshold : float or "gap"
        Who is above stays. 0, the default, keeps whoever does better on a clearer face, as ``alpha``'s sign says whatever its scale;
        it is also where a vote would begin to count against its class in ``soft_labels``. ``"gap"`` cuts at the widest gap
        between neighbours below the median: it always finds one, so look at the picture before you believe it.

    Returns
    -------
    pandas.Series
        Those of ``alphas`` that stay, in their order.

    Raises
    ------
    ValueError
        If a reliability is missing, the threshold is neither a number nor ``"gap"``, or nobody stays.
    """
    if not len(alphas) or alphas.isna().any():
        raise ValueError("alphas must hold one number a worker; none are given, or one is missing")
    if threshold == "gap":
        low = np.sort(alphas[alphas <= alphas.median()].to_numpy(dtype=float))
        if len(low) < 2:
            raise ValueError(f"a gap needs at least two annotators below the median, got {len(low)}")
        threshold = low[np.diff(low).argmax()]
    elif not isinstance(threshold, Real) or np.isnan(threshold):
        raise ValueError(f"threshold must be a number or 'gap', got {threshold!r}")
    kept = alphas[alphas > threshold]
    if not len(kept):
        raise ValueError(f"nobody's reliability is above {threshold:g}; the highest is {alphas.max():g}")
    return kept


def cronbach_alpha(votes: pd.DataFrame, *, nominal: bool = True, raters: float | None = None) -> float:
    """How well the votes of a panel, added up, would agree with those of another panel like it: Cronbach's alpha, 1 at best.

    With the mean variance ``v`` of an annotator's votes over faces and the mean covariance ``c`` of two annotators' votes on the
    same faces, alpha of ``k`` annotators is ``k c / (v + (k - 1) c)``. That is the usual formula where everybody votes on every
    face. Where each face has the votes of some, ``v`` and ``c`` are taken over the votes and pairs of votes that there are.

    Parameters
    ----------
    votes : pandas.DataFrame
        One row a vote: ``task``, ``worker``, ``label``; nobody votes twice on a face.
    nominal : bool
        Labels are classes: each vote is a row of 0s with a 1 at its class, and variances and covariances are added over classes.
        False takes labels as numbers, as for ratings.
    raters : float, optional
        Annotators a panel, ``k``, above 0; by default the mean number of votes a face.

    Returns
    -------
    float
        At most 1; negative where annotators disagree more than by chance.

    Raises
    ------
    ValueError
        If ``votes`` are no frame of votes, somebody votes twice on a face, no face has two votes, there are fewer than two faces, all
        votes are the same, labels are no numbers where they should be, or ``raters`` is no number above 0.

    Notes
    -----
    Cronbach 1951. Li & Deng 2019, section III-A4, give 0.966 and no more. Annotators are taken as the items and faces as the
    subjects, because it is the face's sum over annotators that the book goes on to use; and ``k`` is the number of votes a face has,
    about 40, as no face was seen by all 315.
    """
    if raters is not None and not 0 < raters < np.inf:
        raise ValueError(f"raters must be a number above 0, got {raters!r}")
    coded = encode_votes(votes) if not nominal or votes.get("label", pd.Series(dtype=int)).nunique() != 1 else None
    if coded is None:
        raise ValueError("all votes are for one class; without differences there is nothing to agree on")
    n, r = len(coded.tasks), len(coded.workers)
    if nominal:
        columns = np.eye(len(coded.classes))[coded.label].T
    else:
        try:
            columns = coded.classes.to_numpy(dtype=float)[coded.label][None]
        except ValueError as error:
            raise ValueError(f"labels must be numbers where nominal=False ({error})") from None
    if len(np.unique(coded.task * r + coded.worker)) < len(coded.task):
        raise ValueError("somebody votes twice on a face; expected one vote of each annotator and face")
    by_task, by_worker = np.bincount(coded.task), np.bincount(coded.worker)
    pairs = (by_task * (by_task - 1)).sum()
    if n < 2 or not pairs:
        raise ValueError(f"expected two faces or more and two votes on one of them, got {n} faces and at most {by_task.max()} votes on one")
    variance = covariance = 0.0
    for column in columns:
        column = column - (np.bincount(coded.worker, column) / by_worker)[coded.worker]
        squares = (column**2).sum()
        variance += squares / max(len(column) - r, 1)
        covariance += ((np.bincount(coded.task, column) ** 2).sum() - squares) / pairs * n / (n - 1)
    k = by_task.mean() if raters is None else raters
    return float(k * covariance / (variance + (k - 1) * covariance))

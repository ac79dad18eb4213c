"""How good, and how sure: the mean diagonal and its kin, intervals over images and people, and tests between two methods.

Everything that is measured on labels is a function of *counts*, the confusion matrix: how many faces of a class (row) were taken for a
class (column). The functions take any leading axes, so two thousand resampled matrices are measured as one is. Rates lie in ``[0, 1]``.

Cohen's kappa between two coders is :func:`sklearn.metrics.cohen_kappa_score`; to choose a model on the mean diagonal, scikit-learn's
``scoring="balanced_accuracy"`` is the same number.

The intervals here are those of single predictions. What the ledger keeps, of several seeds, is estimated by
:mod:`fer_utils.experiments.estimates`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

__all__ = [
    "Interval", "PairedTest", "accuracy", "bootstrap_counts", "bootstrap_interval", "compute_metric", "count_confusions",
    "mean_diagonal", "paired_test", "per_class_recall", "proportion_interval",
]

#: Resamples; with 2,000 the ends of a 95 % interval are good to about a twentieth of its width.
DRAWS = 2000
#: Resamples weighed at once, which bounds memory: 256 x 15,000 images are 31 MB.
_CHUNK = 256


class Interval(NamedTuple):
    """A value and the ends of its interval.

    Attributes
    ----------
    value : float
    low, high : float
    """

    value: float
    low: float
    high: float


def count_confusions(truth: Any, guess: Any, classes: Sequence[Any]) -> np.ndarray:
    """Count how many faces of each class were taken for each class.

    Parameters
    ----------
    truth, guess : array ``[N]``
        Members of ``classes``: names, or numbers with ``range(K)``.
    classes : sequence, length K

    Returns
    -------
    int64 ``[K, K]``
        Rows are the truth.

    Raises
    ------
    ValueError
        If the lengths differ, or for a label that is not in ``classes``. (:func:`sklearn.metrics.confusion_matrix` leaves such faces out
        without a word, so a wrong answer outside ``classes`` would not count as wrong.)
    """
    first, second = _encode(truth, guess, classes)
    k = len(classes)
    return np.bincount(first * k + second, minlength=k * k).reshape(k, k)


def _encode(truth: Any, guess: Any, classes: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Positions of both in ``classes``."""
    position = {name: k for k, name in enumerate(classes)}
    if len(position) != len(classes):
        raise ValueError(f"classes must differ, got {', '.join(map(str, classes))}")
    first, second = np.asarray(truth), np.asarray(guess)
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError(f"truth and guess must be of one length, above 0, got shapes {first.shape} and {second.shape}")
    coded = []
    for what, labels in (("truth", first), ("guess", second)):
        known, where = np.unique(labels, return_inverse=True)
        unknown = [name for name in known.tolist() if name not in position]
        if unknown:
            raise ValueError(f"{what} holds {unknown[0]!r}; expected one of {', '.join(map(str, classes))}")
        coded.append(np.array([position[name] for name in known.tolist()])[where])
    return coded[0], coded[1]


# -- metrics of counts ----------------------------------------------------------------------------------------------------


def accuracy(counts: np.ndarray) -> np.ndarray:
    """Share of the faces on the diagonal of counts ``[..., K, K]``."""
    counts = np.asarray(counts)
    return np.trace(counts, axis1=-2, axis2=-1) / counts.sum(axis=(-2, -1))


def per_class_recall(counts: np.ndarray) -> np.ndarray:
    """Share of each class that was recognised, ``[..., K]``, from counts ``[..., K, K]``; NaN for a class without a face."""
    counts = np.asarray(counts)
    with np.errstate(invalid="ignore"):
        return np.diagonal(counts, axis1=-2, axis2=-1) / counts.sum(axis=-1)


def mean_diagonal(counts: np.ndarray) -> np.ndarray:
    """Mean of the diagonal of the confusion matrix of rates, that is, mean recall over classes (Li & Deng 2019, V-A).

    Every class weighs the same, however rare. A class without a face in the truth has no recall and is left out of the mean;
    :func:`per_class_recall` shows which.

    Parameters
    ----------
    counts : array ``[..., K, K]``

    Returns
    -------
    float64 ``[...]``
    """
    return np.nanmean(per_class_recall(counts), axis=-1)


def compute_metric(name: str, counts: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Measure counts by a metric's name, as results and claims write it.

    Parameters
    ----------
    name : str
        ``"accuracy"``, ``"mean diagonal"``, ``"recall <class>"``, ``"<class> as <class>"`` (the share of the first taken for the
        second), or ``"<class> as average wrong"`` (the share that an average wrong class gets).
    counts : array ``[..., K, K]``
    classes : sequence of str, length K

    Returns
    -------
    float64 ``[...]``
        NaN where the class has no face.

    Raises
    ------
    ValueError
        For a name that is none of these.
    """
    if name == "accuracy":
        return accuracy(counts)
    if name == "mean diagonal":
        return mean_diagonal(counts)
    names = [str(c) for c in classes]
    recalls = {f"recall {c}": k for k, c in enumerate(names)}
    if name in recalls:
        return per_class_recall(counts)[..., recalls[name]]
    kind, _, taken = name.partition(" as ")
    if kind in names and taken == "average wrong":
        return (1 - per_class_recall(counts)[..., names.index(kind)]) / (len(names) - 1)
    if kind in names and taken in names:
        row = np.asarray(counts)[..., names.index(kind), :]
        with np.errstate(invalid="ignore"):
            return row[..., names.index(taken)] / row.sum(axis=-1)
    raise ValueError(f"unknown metric {name!r}; expected 'accuracy', 'mean diagonal', 'recall <class>' or '<class> as <class>', "
                     f"with the classes {', '.join(names)}")


# -- intervals ------------------------------------------------------------------------------------------------------------


def bootstrap_counts(
    truth: Any, guess: Any, classes: Sequence[Any], *, groups: Any = None, stratified: bool = False, draws: int = DRAWS, seed: int = 0
) -> np.ndarray:
    """Confusion counts of resampled test sets.

    Two methods on the same images, resampled with the same arguments, get the same resamples: their metrics can be subtracted draw by draw.

    Parameters
    ----------
    truth, guess, classes
        As :func:`count_confusions`.
    groups : array ``[N]``, optional
        Who is shown, or which sequence. Whole groups are then drawn, since faces of one person are not independent.
    stratified : bool
        Draw within each class, so that each keeps its number of faces; single images only.
    draws : int
    seed : int

    Returns
    -------
    float64 ``[draws, K, K]``
        Whole numbers.

    Raises
    ------
    ValueError
        As :func:`count_confusions`; if ``groups`` has another length; or for groups with ``stratified``, where a group may span classes.
    """
    first, second = _encode(truth, guess, classes)
    k, n = len(classes), len(first)
    if groups is not None and stratified:
        raise ValueError("stratified draws take single images; leave groups out")
    who, units = np.arange(n), n
    if groups is not None:
        if len(groups) != n:
            raise ValueError(f"groups must have one entry an image, {n}, got {len(groups)}")
        ids, who = np.unique(np.asarray(groups), return_inverse=True)
        units = len(ids)
    # Counts by unit, so that a resample is a weighted sum.
    table = np.bincount((who * k + first) * k + second, minlength=units * k * k).reshape(units, k * k).astype(np.float64)
    parts = [table[first == c] for c in np.unique(first)] if stratified else [table]
    found = np.zeros((draws, k * k))
    for rows, weights in zip(parts, _draw_weights(tuple(map(len, parts)), draws, seed), strict=True):
        for start in range(0, draws, _CHUNK):
            stop = start + _CHUNK
            found[start:stop] += weights[start:stop].astype(np.float64) @ rows
    return found.reshape(draws, k, k)


@lru_cache(maxsize=2)
def _draw_weights(sizes: tuple[int, ...], draws: int, seed: int) -> list[np.ndarray]:
    """How often each unit of each part is drawn, uint16 ``[draws, size]``; kept, as methods on one test set follow each other."""
    rng = np.random.default_rng(seed)
    found = []
    for size in sizes:
        weights = np.empty((draws, size), dtype=np.uint16)
        for start in range(0, draws, _CHUNK):
            chunk = weights[start : start + _CHUNK]
            chunk[:] = rng.multinomial(size, np.full(size, 1 / size), size=len(chunk))
        found.append(weights)
    return found


def bootstrap_interval(
    truth: Any, guess: Any, classes: Sequence[Any], metric: str = "mean diagonal", *, groups: Any = None, stratified: bool = False,
    level: float = 0.95, draws: int = DRAWS, seed: int = 0,
) -> Interval:
    """A metric with its percentile bootstrap interval: how far the choice of the test faces could have moved it.

    Parameters
    ----------
    truth, guess, classes, groups, stratified, draws, seed
        As :func:`bootstrap_counts`. In a draw without a face of some class, the mean diagonal is over the others.
    metric : str
        As :func:`compute_metric`.
    level : float
        Share of the draws inside, in ``(0, 1)``.

    Returns
    -------
    Interval

    Raises
    ------
    ValueError
        As :func:`bootstrap_counts` and :func:`compute_metric`.
    """
    value = compute_metric(metric, count_confusions(truth, guess, classes), classes)
    drawn = bootstrap_counts(truth, guess, classes, groups=groups, stratified=stratified, draws=draws, seed=seed)
    return _percentiles(float(value), compute_metric(metric, drawn, classes), level)


def _percentiles(value: float, drawn: np.ndarray, level: float) -> Interval:
    # written out for 95 %, whose ends must not depend on how (1 - 0.95) / 2 rounds
    ends = (0.025, 0.975) if level == 0.95 else ((1 - level) / 2, (1 + level) / 2)
    low, high = np.nanquantile(drawn, ends)
    return Interval(value, float(low), float(high))


def proportion_interval(hits: int, count: int, level: float = 0.95) -> Interval:
    """A proportion with Wilson's score interval, which stays in ``[0, 1]`` and is sound for few faces and for rates near 0 or 1.

    Parameters
    ----------
    hits, count : int
        ``hits`` of ``count`` faces.
    level : float
        Confidence, in ``(0, 1)``.

    Raises
    ------
    ValueError
        If ``count`` is not positive or ``hits`` not within 0 and ``count``.
    """
    if not (count > 0 and 0 <= hits <= count):
        raise ValueError(f"hits must be within 0 and count, and count positive, got {hits} of {count}")
    low, high = stats.binomtest(int(hits), int(count)).proportion_ci(level, method="wilson")
    return Interval(hits / count, float(low), float(high))


# -- two methods on the same faces ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PairedTest:
    """Two methods on the same faces.

    Attributes
    ----------
    difference : Interval
        First minus second in the metric, over resampled faces (or people).
    p_bootstrap : float
        Two-sided: twice the smaller share of the draws on one side of 0, at least ``2 / (draws + 1)``.
    only_first, only_second : int
        Faces that only one of them got right.
    p_mcnemar : float
        McNemar's exact test: whether those two numbers could come from a fair coin. It is about accuracy and takes faces as independent.
    """

    difference: Interval
    p_bootstrap: float
    only_first: int
    only_second: int
    p_mcnemar: float


def paired_test(
    truth: Any, first: Any, second: Any, classes: Sequence[Any], metric: str = "mean diagonal", *, groups: Any = None,
    stratified: bool = False, level: float = 0.95, draws: int = DRAWS, seed: int = 0,
) -> PairedTest:
    """Compare two methods' answers on the same faces, by paired bootstrap and by McNemar's exact test.

    Parameters
    ----------
    truth, first, second : array ``[N]``
        The labels, and what each method said.
    classes, metric, groups, stratified, level, draws, seed
        As :func:`bootstrap_interval`.

    Raises
    ------
    ValueError
        As :func:`bootstrap_interval`.
    """
    values, drawn = [], []
    for guess in (first, second):
        values.append(float(compute_metric(metric, count_confusions(truth, guess, classes), classes)))
        counts = bootstrap_counts(truth, guess, classes, groups=groups, stratified=stratified, draws=draws, seed=seed)
        drawn.append(compute_metric(metric, counts, classes))
    gap = drawn[0] - drawn[1]
    gap = gap[~np.isnan(gap)]
    sides = min(np.sum(gap <= 0), np.sum(gap >= 0))
    right = np.asarray(truth) == np.asarray(first), np.asarray(truth) == np.asarray(second)
    only = int(np.sum(right[0] & ~right[1])), int(np.sum(~right[0] & right[1]))
    return PairedTest(
        _percentiles(values[0] - values[1], gap, level), float(min(1, 2 * (sides + 1) / (len(gap) + 1))), *only,
        float(stats.binomtest(only[0], sum(only)).pvalue) if sum(only) else 1.0,
    )

"""How far apart classes lie in a feature space, beside how wide each is; and what a single face adds to such a number.

The silhouette is :func:`sklearn.metrics.silhouette_samples`. It asks of each face whether it lies nearer to its own
class than to another one; the ratio here asks how far the centres of classes lie apart, whatever single faces do.
"""

from __future__ import annotations

import numpy as np

__all__ = ["compute_separation", "find_shares_of_ratio"]


def compute_separation(features: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Compute the ratio of the distance between classes to that within them (inter/intra ratio).

    Between is the root of the mean squared distance of two class centres; within is the root of the mean squared
    distance of a face from its class's centre, first over the faces of a class and then over classes. A rare class so
    counts as much as a frequent one, and neither the unit nor the origin of the features plays a part. A class of a
    single face has no width and is left out.

    Parameters
    ----------
    features : float ``[N, D]``
    labels : int ``[N]``

    Returns
    -------
    float
        0 where all centres coincide; larger is more separate.
    float64 ``[N]``
        What each face adds: jackknife pseudo-values, shifted so that their mean is the ratio; NaN for a face that is
        left out.

    Raises
    ------
    ValueError
        If there are fewer than two classes of two faces, or no class has any width.
    """
    _, places, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(features) != len(labels) or (counts > 1).sum() < 2:
        raise ValueError(
            "expected a label a face and two classes of two faces or more,"
            f" got {len(features)} faces, of {counts.tolist()}"
        )
    taken = counts[places] > 1
    each = np.full(len(features), np.nan)
    value, each[taken] = _compute(np.asarray(features, dtype=np.float64)[taken], np.asarray(labels)[taken])
    return value, each


def _compute(features: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """The same, of classes of two faces or more."""
    known, places, counts = np.unique(labels, return_inverse=True, return_counts=True)
    classes = len(known)
    centres = np.stack([features[places == k].mean(0) for k in range(classes)])
    offsets = features - centres[places]
    squares = np.square(offsets).sum(1)  # [N]
    within = np.bincount(places, squares) / counts  # [K]
    if not within.sum() > 0:
        raise ValueError("expected classes of some width, got the same features for all faces of each")
    gaps = np.square(centres[:, None] - centres).sum(2)  # [K, K]
    between, pairs = gaps.sum() / 2, classes * (classes - 1) / 2
    value = float(np.sqrt(between / pairs / within.mean()))

    # without a face, its class has another width and another centre; the other classes are as they were
    rest = counts[places] - 1.0  # [N]
    narrower = (within * counts)[places] - squares * (rest + 1) / rest
    within_without = within.mean() + (narrower / rest - within[places]) / classes
    # the centre moves by -offset / rest, against each of the other centres
    apart = centres[places] - centres.mean(0)
    moved = -2 * classes * (offsets * apart).sum(1) / rest + (classes - 1) * squares / rest**2
    without = np.sqrt(np.maximum(between + moved, 0) / pairs / np.maximum(within_without, np.finfo(float).tiny))
    return value, _shift(value, without)


def find_shares_of_ratio(numerators: np.ndarray, denominators: np.ndarray) -> tuple[float, np.ndarray]:
    """Compute a ratio of two sums, and what each face adds to it.

    Parameters
    ----------
    numerators, denominators : float ``[N]``

    Returns
    -------
    float
        ``sum(numerators) / sum(denominators)``.
    float64 ``[N]``
        Jackknife pseudo-values, shifted so that their mean is the ratio.

    Raises
    ------
    ValueError
        If there are fewer than two faces, or one of them holds the whole denominator.
    """
    above, below = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    if len(above) < 2 or not (below.sum() - below > 0).all():
        raise ValueError(f"expected two faces or more, none of which is all of the denominator, got {len(above)}")
    return float(above.sum() / below.sum()), _shift(
        above.sum() / below.sum(), (above.sum() - above) / (below.sum() - below)
    )


def _shift(value: float, without: np.ndarray) -> np.ndarray:
    """Pseudo-values from the numbers without each face."""
    moved = (len(without) - 1) * (without.mean() - without)
    return value + moved

"""What a run gives back: scores, each one row of a table on one test set."""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..datasets.base import FaceDataset
from ..metrics import compute_metric, count_confusions

__all__ = [
    "Score", "describe_score", "pack_labels", "pack_values", "score_faces", "score_predictions", "score_values", "unpack_labels",
    "unpack_values",
]

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, eq=False)
class Score:
    """One row of a table on one test set, from one run.

    Attributes
    ----------
    row : str
        As the published item names it, such as ``"mSVM Gabor"``.
    role : str
        Of the test set: ``basic``, ``compound``, ``lab``, ``lab-small``; empty where faces play no part.
    metrics : dict of str to float
        Rates in ``[0, 1]``, times in the item's unit.
    classes : tuple of str
        For scores with predictions; see :func:`score_predictions`.
    truth, guess : int ``[N]``, optional
        Labels and predictions, as positions in ``classes``. Runs on the same test set in the same order can be compared image by image.
        Without predictions, ``truth`` still says which faces ``values`` are of.
    people : int ``[N]``, optional
        Who is shown.
    images : str
        Checksum of the faces' names: two test sets with the same labels are not the same faces.
    values : dict of str to float ``[N]``
        For a metric that does not follow from the predictions: one number a test face (a repetition, where there is no test set) whose
        mean is the metric; NaN for a face that plays no part. Of a metric that is no mean, such as a correlation, its jackknife
        pseudo-values, shifted to that mean. So every metric can be compared face by face.
    series : dict of str to list of float
        Curves.
    """

    row: str
    role: str
    metrics: Mapping[str, float]
    classes: tuple[str, ...] = ()
    truth: Any = None
    guess: Any = None
    people: Any = None
    images: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    series: Mapping[str, Sequence[float]] = field(default_factory=dict)


def score_predictions(
    row: str, role: str, truth: Any, guess: Any, classes: Sequence[str], people: Any = None, *, images: str = "",
    metrics: Mapping[str, float] | None = None, values: Mapping[str, Any] | None = None,
    series: Mapping[str, Sequence[float]] | None = None,
) -> Score:
    """Score predictions: accuracy and mean diagonal are measured here, recalls whenever they are asked for.

    Parameters
    ----------
    row, role
        See :class:`Score`.
    truth, guess : int ``[N]``
        Labels and predictions, as positions in ``classes``.
    classes : sequence of str
    people : int ``[N]``, optional
        ``identities`` of the test faces: intervals are then over people.
    images : str
        See :class:`Score`.
    metrics, values, series : dict, optional
        Further ones.

    Returns
    -------
    Score

    Raises
    ------
    ValueError
        As :func:`~fer_utils.metrics.count_confusions`.
    """
    counts = count_confusions(truth, guess, range(len(classes)))
    own = {name: float(compute_metric(name, counts, classes)) for name in ("accuracy", "mean diagonal")}
    whole = {**own, **(metrics or {})}
    return Score(row, role, whole, tuple(classes), np.asarray(truth), np.asarray(guess), people, images, values or {}, series or {})


def score_faces(row: str, role: str, faces: FaceDataset, guess: Any, **kept: Any) -> Score:
    """Score the predictions for a role's faces; intervals are over people where they are known.

    Parameters
    ----------
    row, role : str
    faces : FaceDataset
    guess : int ``[N]``
        Predictions, as positions in its classes; below 0 for a face that no fold tested, which is left out.
    **kept
        ``metrics``, ``values`` and ``series``, see :func:`score_predictions`.

    Returns
    -------
    Score
    """
    guess = np.asarray(guess)
    tested = guess >= 0
    people = None if faces.identities is None else faces.identities[tested]
    images = checksum_names(faces.names[tested])
    return score_predictions(row, role, faces.labels[tested], guess[tested], faces.classes, people=people, images=images, **kept)


def score_values(row: str, role: str, faces: FaceDataset, values: Mapping[str, np.ndarray], **kept: Any) -> Score:
    """Score numbers whose means over faces are metrics; intervals are over people where they are known.

    Parameters
    ----------
    row, role : str
    faces : FaceDataset
    values : dict of str to float ``[N]``
        NaN for a face that plays no part. What fewer than two faces have is left out.
    **kept
        ``series``, see :class:`Score`.

    Returns
    -------
    Score
    """
    known = {name: each for name, each in values.items() if np.isfinite(each).sum() > 1}
    metrics = {name: float(np.nanmean(each)) for name, each in known.items()}
    images = checksum_names(faces.names)
    return Score(row, role, metrics, faces.classes, faces.labels, people=faces.identities, images=images, values=known, **kept)


def checksum_names(names: Sequence[str]) -> str:
    """Changes with the names of the test faces and their order; 16 hexadecimal digits."""
    return hashlib.sha256("\n".join(map(str, names)).encode(errors="surrogateescape")).hexdigest()[:16]


# -- as the ledger keeps it -----------------------------------------------------------------------------------------------


def pack_labels(labels: Any) -> str:
    """Class positions as text, one character a face. Raises ``ValueError`` for more than 36 classes."""
    labels = np.asarray(labels)
    if labels.size and not 0 <= labels.min() <= labels.max() < len(_DIGITS):
        raise ValueError(f"labels must be 0 to {len(_DIGITS) - 1}, got {labels.min()} to {labels.max()}")
    return "".join(_DIGITS[k] for k in labels.tolist())


def unpack_labels(text: str) -> np.ndarray:
    """Class positions of :func:`pack_labels`, int64 ``[N]``."""
    return np.array([_DIGITS.index(c) for c in text], dtype=np.int64)


def pack_values(values: Any) -> str:
    """Numbers ``[N]`` as text: half precision, compressed, in base 64. NaN stays NaN."""
    return base64.b64encode(zlib.compress(np.asarray(values, dtype="<f2").tobytes(), 9)).decode()


def unpack_values(text: str) -> np.ndarray:
    """Numbers of :func:`pack_values`, float64 ``[N]``. Raises ``ValueError`` for any other text."""
    try:
        return np.frombuffer(zlib.decompress(base64.b64decode(text, validate=True)), dtype="<f2").astype(np.float64)
    except (binascii.Error, zlib.error, TypeError) as error:
        raise ValueError(f"cannot be unpacked ({error})") from None


def describe_score(score: Score) -> dict[str, Any]:
    """A score as JSON holds it, with its test set apart; its role stands under ``faces``, as in the results that are kept.

    Raises
    ------
    ValueError
        For a metric that is not finite (in a series it becomes None), or values whose mean is not their metric.
    """
    for name, value in score.metrics.items():
        if not np.isfinite(value):
            raise ValueError(f"{score.row}, {score.role}: {name} is {value}; expected a number")
    kept: dict[str, Any] = {
        "row": score.row, "faces": score.role, "metrics": {name: float(value) for name, value in score.metrics.items()},
        "test_set": None,
    }
    for name, values in score.values.items():
        _check_values(score, name, np.asarray(values, dtype=float))
    if score.values:
        kept["values"] = {name: pack_values(values) for name, values in score.values.items()}
    if score.series:
        kept["series"] = {name: [float(v) if np.isfinite(v) else None for v in values] for name, values in score.series.items()}
    if score.truth is not None:
        kept["test_set"] = {"faces": score.role, "classes": list(score.classes), "truth": pack_labels(score.truth), "images": score.images}
        if score.people is not None:
            kept["test_set"]["people"] = " ".join(str(int(p)) for p in score.people)
    if score.guess is not None:
        kept["guess"] = pack_labels(score.guess)
        kept["confusion"] = count_confusions(score.truth, score.guess, range(len(score.classes))).tolist()
    return kept


def _check_values(score: Score, name: str, values: np.ndarray) -> None:
    place = f"{score.row}, {score.role}: the values of {name}"
    if score.truth is not None and len(values) != len(score.truth):
        raise ValueError(f"{place} are {len(values)}; expected one a test face, {len(score.truth)}")
    known = values[~np.isnan(values)]
    if len(known) < 2 or np.isinf(known).any():
        raise ValueError(f"{place} must be two numbers or more")
    if name not in score.metrics or not mean_matches(known, score.metrics[name]):
        raise ValueError(f"{place} have the mean {known.mean():.6g}; expected the metric, {score.metrics.get(name)}")


def mean_matches(values: np.ndarray, metric: float) -> bool:
    """Whether numbers that half precision may have rounded have the mean that a metric says."""
    return abs(float(np.mean(values)) - metric) <= 1e-3 * float(np.abs(values).max(initial=abs(metric))) + 1e-9

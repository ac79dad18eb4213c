"""What a run gives back: scores, each one row of a table on one test set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..datasets.base import FaceDataset
from ..metrics import compute_metric, count_confusions

__all__ = ["Score", "describe_score", "pack_labels", "score_faces", "score_predictions", "unpack_labels"]

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
    people : int ``[N]``, optional
        Who is shown.
    errors : dict of str to float
        Standard errors from the choice of the test faces, for metrics that do not follow from the predictions.
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
    errors: Mapping[str, float] = field(default_factory=dict)
    series: Mapping[str, Sequence[float]] = field(default_factory=dict)


def score_predictions(
    row: str, role: str, truth: Any, guess: Any, classes: Sequence[str], people: Any = None, *, metrics: Mapping[str, float] | None = None,
    errors: Mapping[str, float] | None = None, series: Mapping[str, Sequence[float]] | None = None,
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
    metrics, errors, series : dict, optional
        Further ones.

    Raises
    ------
    ValueError
        As :func:`~fer_utils.metrics.count_confusions`.
    """
    counts = count_confusions(truth, guess, range(len(classes)))
    own = {name: float(compute_metric(name, counts, classes)) for name in ("accuracy", "mean diagonal")}
    whole = {**own, **(metrics or {})}
    return Score(row, role, whole, tuple(classes), np.asarray(truth), np.asarray(guess), people, errors or {}, series or {})


def score_faces(row: str, role: str, faces: FaceDataset, guess: Any, **kept: Any) -> Score:
    """Score the predictions for a role's faces; intervals are over people where they are known.

    Parameters
    ----------
    row, role : str
    faces : FaceDataset
    guess : int ``[N]``
        Predictions, as positions in its classes; below 0 for a face that no fold tested, which is left out.
    **kept
        ``metrics``, ``errors`` and ``series``, see :func:`score_predictions`.
    """
    guess = np.asarray(guess)
    tested = guess >= 0
    people = None if faces.identities is None else faces.identities[tested]
    return score_predictions(row, role, faces.labels[tested], guess[tested], faces.classes, people=people, **kept)


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


def describe_score(score: Score) -> dict[str, Any]:
    """A score as JSON holds it, with its test set apart; its role stands under ``faces``, as in the results that are kept.

    Raises
    ------
    ValueError
        For a metric or an error that is not finite. (In a series it becomes None.)
    """
    for name, value in [*score.metrics.items(), *score.errors.items()]:
        if not np.isfinite(value):
            raise ValueError(f"{score.row}, {score.role}: {name} is {value}; expected a number")
    kept: dict[str, Any] = {
        "row": score.row, "faces": score.role, "metrics": {name: float(value) for name, value in score.metrics.items()},
        "test_set": None,
    }
    if score.errors:
        kept["errors"] = {name: float(value) for name, value in score.errors.items()}
    if score.series:
        kept["series"] = {name: [float(v) if np.isfinite(v) else None for v in values] for name, values in score.series.items()}
    if score.guess is not None:
        kept["test_set"] = {"faces": score.role, "classes": list(score.classes), "truth": pack_labels(score.truth)}
        if score.people is not None:
            kept["test_set"]["people"] = " ".join(str(int(p)) for p in score.people)
        kept["guess"] = pack_labels(score.guess)
        kept["confusion"] = count_confusions(score.truth, score.guess, range(len(score.classes))).tolist()
    return kept

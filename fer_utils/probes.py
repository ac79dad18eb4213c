"""What features still know: linear classifiers that ask them who is shown, and what else a face gives away.

A probe is trained on features that it does not change. What it finds, anybody finds who has the features; what it does
not find may still be there, for a classifier that is not linear.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import RidgeClassifierCV

__all__ = ["fit_probe", "probe_identity", "probe_labels", "weigh_recall"]

#: Among these the strength of the ridge is chosen, by leaving out one training face at a time.
ALPHAS: Sequence[float] = tuple(10.0**k for k in range(-2, 5))


def fit_probe(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Train a linear classifier, and ask it.

    A ridge classifier: least squares to the classes, each of which weighs the same. Features are centred and brought to
    a mean square of 1, by the training faces, so that one range of ridges does for all features. Nothing is drawn.

    Parameters
    ----------
    train : float ``[N, D]``
    labels : array ``[N]``
    test : float ``[M, D]``

    Returns
    -------
    array ``[M]``
        Labels.

    Raises
    ------
    ValueError
        If there are fewer than two classes.
    """
    if len(np.unique(labels)) < 2:
        raise ValueError(f"a probe needs at least 2 classes, got {len(np.unique(labels))}")
    centre = train.mean(axis=0, dtype=np.float64)
    scale = np.sqrt(np.square(train - centre).mean()) or 1.0
    probe = RidgeClassifierCV(alphas=np.asarray(ALPHAS) * train.shape[1], class_weight="balanced")
    return probe.fit((train - centre) / scale, labels).predict((test - centre) / scale)


def probe_identity(features: np.ndarray, people: np.ndarray) -> np.ndarray:
    """Ask features who is shown: trained on every second face of each person, tested on the others.

    Parameters
    ----------
    features : float ``[N, D]``
        Of people whom the network was not trained on.
    people : int ``[N]``

    Returns
    -------
    float64 ``[N]``
        1 where the person is found, 0 where another one is; NaN for faces that were trained on. Chance is one over the
        number of people.

    Raises
    ------
    ValueError
        If somebody has only one face.
    """
    known, counts = np.unique(people, return_counts=True)
    if counts.min() < 2:
        raise ValueError(f"an identity probe needs two faces of each person, but {known[counts.argmin()]} has 1")
    trained = np.zeros(len(people), dtype=bool)
    for person in known:
        trained[np.flatnonzero(people == person)[::2]] = True
    right = np.full(len(people), np.nan)
    right[~trained] = fit_probe(features[trained], people[trained], features[~trained]) == people[~trained]
    return right


def probe_labels(features: np.ndarray, labels: np.ndarray, people: np.ndarray) -> np.ndarray:
    """Ask features for something else than the person: trained on every second person, tested on the others.

    What a person always shows, such as the gender, could otherwise be read off who it is.

    Parameters
    ----------
    features : float ``[N, D]``
    labels : array ``[N]``
        Below 0 or empty text: not known, the face is left out.
    people : int ``[N]``

    Returns
    -------
    float64 ``[N]``
        As :func:`weigh_recall`; NaN for faces of people who were trained on, and for those that were left out.
    """
    known = labels != "" if labels.dtype.kind in "UO" else labels >= 0
    trained = np.isin(people, np.unique(people)[::2])
    train, test = known & trained, known & ~trained
    found = np.full(len(labels), np.nan)
    found[test] = weigh_recall(labels[test], fit_probe(features[train], labels[train], features[test]))
    return found


def weigh_recall(truth: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """Numbers, one a face, whose mean is the mean recall over classes: more for a rare class where right.

    Parameters
    ----------
    truth, guess : array ``[N]``

    Returns
    -------
    float64 ``[N]``
    """
    classes, codes, counts = np.unique(truth, return_inverse=True, return_counts=True)
    return (truth == guess) * (len(truth) / (len(classes) * counts))[codes]

"""The machine that faces are measured with, HOG and a linear support vector machine: many faces in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Thread
from typing import Any, TypeVar

import numpy as np
from sklearn.svm import LinearSVC
from tqdm import tqdm

from ..datasets.base import FaceDataset
from ..datasets.streaming import stream_images
from ..descriptors import HOGDescriptor
from ..splits import Split

__all__ = ["MOST", "SVM_C", "predict_splits", "svm_predictions"]

SVM_C = 0.01
#: Faces that one machine learns from at most: LibLinear's own copy of their features takes 64 kB each.
MOST = 12_800

T = TypeVar("T")


def _svm() -> LinearSVC:
    return LinearSVC(C=SVM_C, class_weight="balanced", random_state=0)


def svm_predictions(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Labels that HOG and a linear support vector machine give to ``test``.

    Parameters
    ----------
    train, test : uint8 ``[N, 100, 100]`` or ``[N, 100, 100, 3]``
    labels : array ``[N]``

    Returns
    -------
    array ``[M]``
    """
    hog = HOGDescriptor()
    return _svm().fit(hog.transform(train), labels).predict(hog.transform(test))


def predict_splits(
    faces: FaceDataset, splits: Sequence[Split], names: np.ndarray,
    look: Callable[[np.ndarray, np.ndarray], Any] = lambda at, images: None,
) -> np.ndarray:
    """Predictions for the tested faces of each split, by a machine that learned from its training faces.

    Parameters
    ----------
    faces : FaceDataset
        Of 100x100 pixels. Images are decoded chunk by chunk, each once.
    splits : sequence of Split
        Of these faces; each face is tested in one of them at most.
    names : array of str ``[N]``
        The classes.
    look : callable
        Also given each face once: positions int64 ``[B]`` and images.

    Returns
    -------
    array of str ``[N]``
        None where a face is not tested.

    Notes
    -----
    Where splits have more than ``MOST`` training faces, about so many are drawn with a fixed seed, the rarer classes
    whole before the frequent ones.
    """
    pool = np.unique(np.concatenate([split.train for split in splits]))
    limit = MOST * len(pool) // max(len(split.train) for split in splits)
    learned = pool[_draw_evenly(names[pool], limit)]
    row = np.full(len(faces), -1)
    row[learned] = np.arange(len(learned))

    hog, features = HOGDescriptor(), np.empty((len(learned), 0), dtype=np.float32)
    for at, images in stream_images(faces, learned, "faces to learn from"):
        look(at, images)
        found = hog.transform(images)
        if not features.size:
            features = np.empty((len(learned), found.shape[1]), dtype=found.dtype)
        features[row[at]] = found

    machines, guess = [], np.full(len(faces), None, dtype=object)
    for split in tqdm(splits, desc="learning", unit=" machines", leave=False, disable=None):
        train, test = split.train[row[split.train] >= 0], split.test[row[split.test] >= 0]
        machines.append(_run_apart(lambda train=train: _svm().fit(features[row[train]], names[train])))
        if len(test):
            guess[test] = machines[-1].predict(features[row[test]])

    for at, images in stream_images(faces, np.flatnonzero(row < 0), "other faces"):
        look(at, images)
        for split, machine in zip(splits, machines, strict=True):
            tested = np.isin(at, split.test)
            if tested.any():
                guess[at[tested]] = machine.predict(hog.transform(images[tested]))
    return guess


def _draw_evenly(names: np.ndarray, limit: int) -> np.ndarray:
    """So many positions at most, sorted: of each class the first in a drawn order, then the second, and so on."""
    if len(names) <= limit:
        return np.arange(len(names))
    drawn = np.random.default_rng(0).permutation(len(names))
    place = np.empty(len(names), dtype=np.int64)
    for name in np.unique(names):
        own = names[drawn] == name
        place[own] = np.arange(own.sum())
    return np.sort(drawn[np.argsort(place, kind="stable")[:limit]])


def _run_apart(work: Callable[[], T]) -> T:
    """Work in a thread of its own: LibLinear does not hear Ctrl-C while it computes, but who waits for it does."""
    done: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:
            failed.append(error)

    thread = Thread(target=run, daemon=True)  # a process that is to end does not wait for it
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]

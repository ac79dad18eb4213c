"""Who trains and who is tested: the owners' parts, folds of images, folds of people, one person left out, a validation part.

Every function returns a list of :class:`Split`, one a fold. Positions in a split count the faces of the dataset that it was made
for; on disk a split names images instead, so that it can be laid on another copy of the dataset, or found not to fit it.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.model_selection import LeaveOneGroupOut, StratifiedKFold

from .datasets.base import FaceDataset
from .datasets.source import read_text
from .errors import DataError
from .files import replace_whole

__all__ = ["Split", "kfold", "leave_one_subject_out", "predefined", "subject_kfold", "validation_split"]

#: A share of faces is rounded to a fraction whose denominator is at most this.
MAX_PARTS = 20


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Which faces of a dataset train and which are tested.

    Arrays are read-only.

    Attributes
    ----------
    train, test : int64 ``[M]``, ``[K]``
        Positions in the dataset; neither is empty, and no face is in both. Faces in neither are left out.
    name : str
        What the split is, such as ``"subject_kfold 3/10"``.
    seed : int or None
        None where nothing is drawn.
    names : str ``[N]``
        The dataset's image names, all different.

    Raises
    ------
    ValueError
        If a part is empty, out of range, overlaps the other or itself, or if an image name comes twice.
    """

    train: np.ndarray
    test: np.ndarray
    name: str
    seed: int | None
    names: np.ndarray

    def __post_init__(self) -> None:
        names = np.asarray(self.names, dtype=np.str_)
        unique, counts = np.unique(names, return_counts=True)
        if (counts > 1).any():
            raise ValueError(f"{self.name}: image names must differ, but {unique[counts.argmax()]} comes {counts.max()} times")
        parts = {}
        for part in ("train", "test"):
            positions = np.array(getattr(self, part), dtype=np.int64)
            if positions.ndim != 1 or not len(positions):
                raise ValueError(f"{self.name}: {part} must be a list of at least one position, got shape {positions.shape}")
            if positions.min() < 0 or positions.max() >= len(names):
                raise ValueError(f"{self.name}: {part} positions must be 0 to {len(names) - 1}, got {positions.min()} to {positions.max()}")
            parts[part] = positions
        both = np.concatenate(list(parts.values()))
        if len(np.unique(both)) < len(both):
            raise ValueError(f"{self.name}: {len(both) - len(np.unique(both))} faces come twice; a face trains or is tested, once")
        for field, array in (*parts.items(), ("names", names)):
            view = array.view()
            view.flags.writeable = False
            object.__setattr__(self, field, view)

    def __repr__(self) -> str:
        return f"Split {self.name}: {len(self.train)} to train, {len(self.test)} to test, of {len(self.names)}; seed {self.seed}"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the split as JSON, by image names, under a temporary name that is renamed at the end."""
        path = Path(path)
        unused = np.setdiff1d(np.arange(len(self.names)), np.concatenate([self.train, self.test]))
        content: dict[str, Any] = {"name": self.name, "seed": self.seed}
        content |= {part: self.names[where].tolist() for part, where in (("train", self.train), ("test", self.test), ("unused", unused))}
        with replace_whole(path) as partial:
            partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str], faces: FaceDataset) -> Self:
        """Read a split and lay it on a dataset, which may hold its faces in another order.

        Parameters
        ----------
        path : path
            As :meth:`save` wrote it.
        faces : FaceDataset

        Raises
        ------
        DataError
            If the file is missing or is no split, or if its images and those of ``faces`` differ.
        ValueError
            If two images of ``faces`` have one name.
        """
        path = Path(path)
        expected = 'JSON with "name", "seed" and the lists of image names "train", "test" and "unused"'
        text = read_text(path, expected)
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError.at(path, f"no JSON ({error.msg})", expected, line=error.lineno) from error
        lists = [content.get(part) for part in ("train", "test", "unused")] if isinstance(content, dict) else [None]
        whole = all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists)
        if not whole or not isinstance(content.get("name"), str) or not isinstance(content.get("seed", ""), int | None):
            raise DataError.at(path, "something is missing or of another type", expected)
        place = {name: i for i, name in enumerate(faces.names.tolist())}
        named = [name for names in lists for name in names]
        if len(set(named)) < len(named) or not lists[0] or not lists[1]:
            raise DataError.at(path, "an empty part, or an image that comes twice", "each image in one part")
        for strangers, problem in ((set(named) - place.keys(), "is not in"), (place.keys() - set(named), "is only in")):
            if strangers:
                raise DataError.at(path, f"{min(strangers)} {problem} {faces.name}", f"the {len(named)} images that the split was made for")
        train, test = ([place[name] for name in names] for names in lists[:2])
        return cls(np.array(train), np.array(test), content["name"], content["seed"], faces.names)


# -- kinds ----------------------------------------------------------------------------------------------------------------


def predefined(faces: FaceDataset, test: str = "test") -> list[Split]:
    """The owners' own parts: one split that trains on ``"train"``.

    Parameters
    ----------
    faces : FaceDataset
    test : {"test", "val"}
        The part to test on; papers test on the validation part of SFEW 2.0, whose test labels are not public.

    Raises
    ------
    ValueError
        If the dataset has no such parts.
    """
    parts = {part: np.flatnonzero(faces.split == part) for part in ("train", test)}
    for part, positions in parts.items():
        if not len(positions):
            raise ValueError(f"{faces.name} has no {part} part; its parts are {', '.join(np.unique(faces.split)) or 'empty'}")
    return [Split(parts["train"], parts[test], f"predefined {test}", None, faces.names)]


def kfold(faces: FaceDataset, folds: int, seed: int = 0) -> list[Split]:
    """Folds of single images, stratified: in each test part a class has its share, up to one image.

    Who is shown plays no part: a person, and even a sequence, may lie on both sides. See :func:`subject_kfold`.

    Parameters
    ----------
    faces : FaceDataset
    folds : int
        At least 2.
    seed : int

    Raises
    ------
    ValueError
        If there are fewer than two folds, or more than a class has images.
    """
    _check_folds(faces, folds, None)
    return _folds(faces, _stratify(faces.labels, None, folds, seed), f"kfold {{}}/{folds}", seed)


def subject_kfold(faces: FaceDataset, folds: int, seed: int = 0) -> list[Split]:
    """Folds of people: nobody is on both sides, and classes are spread as evenly as that allows.

    Parameters
    ----------
    faces : FaceDataset
        With ``identities``.
    folds : int
        At least 2.
    seed : int

    Raises
    ------
    ValueError
        If the dataset does not know its people, or if there are fewer than two folds, more than people, or more than people who
        show a class.

    Notes
    -----
    People are dealt out one by one, those whose classes are the most uneven first (by the standard deviation of their counts); the seed
    decides between people who are alike in that. Each goes to the fold that leaves the folds' shares of the classes most alike, by their
    standard deviation over folds, averaged over classes; of folds that are equal in that, to the one with the fewest faces, and of those
    to the first. This is the rule of :class:`sklearn.model_selection.StratifiedGroupKFold`, written out since it deals differently in
    different versions: here a seed gives the same folds with any, those of version 1.8 and later.
    """
    people = _identities(faces)
    _check_folds(faces, folds, people)
    return _folds(faces, _stratify(faces.labels, people, folds, seed), f"subject_kfold {{}}/{folds}", seed)


def leave_one_subject_out(faces: FaceDataset) -> list[Split]:
    """One fold a person, in the order of ``identities``.

    Raises
    ------
    ValueError
        If the dataset does not know its people, or knows only one.
    """
    people = _identities(faces)
    count = len(np.unique(people))
    if count < 2:
        raise ValueError(f"{faces.name} shows {count} person; leaving one out needs at least 2")
    tests = (test for _, test in LeaveOneGroupOut().split(people, groups=people))
    return _folds(faces, tests, f"leave_one_subject_out {{}}/{count}", None)


def validation_split(faces: FaceDataset, share: float, seed: int = 0) -> Split:
    """Cut a validation part from training faces: by person where people are known, else by image; stratified.

    Parameters
    ----------
    faces : FaceDataset
        Training faces only, such as ``faces.train`` or ``faces.subset(split.train)``.
    share : float
        Of the faces, for validation; rounded to a fraction with a denominator of at most ``MAX_PARTS``.
    seed : int

    Returns
    -------
    Split
        Its ``test`` is the validation part. A class with fewer people or images than the fraction has parts may be missing there.

    Raises
    ------
    ValueError
        If ``faces`` has a part of the owners' other than ``"train"``, the share is not above 0 and below 1, or there are fewer people or
        images than parts.
    """
    other = sorted(set(np.unique(faces.split).tolist()) - {"train", "none"})
    if other:
        raise ValueError(f"{faces.name} holds a {other[0]} part; cut the validation part from training faces alone")
    fraction = Fraction(share).limit_denominator(MAX_PARTS) if 0 < share < 1 else Fraction(0)
    if not 0 < fraction < 1:
        raise ValueError(f"share must be between 1/{MAX_PARTS} and {MAX_PARTS - 1}/{MAX_PARTS}, got {share}")
    parts, taken = fraction.denominator, fraction.numerator
    units, what = (len(faces), "images") if faces.identities is None else (len(np.unique(faces.identities)), "people")
    largest = faces.labels.size and np.bincount(faces.labels).max()
    if units < parts or largest < parts:
        problem = f"{units} {what} and at most {largest} images of a class"
        raise ValueError(f"{faces.name}: a share of {share} takes {taken} of {parts} parts, but there are {problem}")
    tests = list(_stratify(faces.labels, faces.identities, parts, seed))
    # The largest groups are dealt to the first part: which parts are taken is drawn too.
    chosen = np.random.default_rng(seed).choice(parts, taken, replace=False)
    test = np.sort(np.concatenate([tests[i] for i in chosen]))
    return Split(np.setdiff1d(np.arange(len(faces)), test), test, f"validation {fraction}", seed, faces.names)


def _identities(faces: FaceDataset) -> np.ndarray:
    if faces.identities is None:
        raise ValueError(f"{faces.name} does not say who is shown; a split by person needs identities")
    return faces.identities


def _check_folds(faces: FaceDataset, folds: int, people: np.ndarray | None) -> None:
    if folds < 2:
        raise ValueError(f"there must be at least 2 folds, got {folds}")
    units = np.arange(len(faces)) if people is None else people
    what = "images" if people is None else "people"
    if len(np.unique(units)) < folds:
        raise ValueError(f"{folds} folds of {faces.name}, which has {len(np.unique(units))} {what}")
    for k in np.unique(faces.labels):
        count = len(np.unique(units[faces.labels == k]))
        if count < folds:
            raise ValueError(f"{folds} folds of {faces.name}, but {faces.classes[k]} has {count} {what}")


def _stratify(labels: np.ndarray, people: np.ndarray | None, folds: int, seed: int) -> Iterator[np.ndarray]:
    """Test positions of each fold."""
    if people is not None:
        dealt = _deal_people(labels, people, folds, seed)
        yield from (np.flatnonzero(dealt == fold) for fold in range(folds))
        return
    with warnings.catch_warnings():
        # a class with fewer members than folds: refused above where it matters, allowed for a validation part
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        for _, test in StratifiedKFold(folds, shuffle=True, random_state=seed).split(np.zeros(len(labels)), labels):
            yield test


def _deal_people(labels: np.ndarray, people: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold of each face, int64 ``[N]``; the rule stands in :func:`subject_kfold`."""
    _, codes, totals = np.unique(labels, return_inverse=True, return_counts=True)
    _, who = np.unique(people, return_inverse=True)
    counts = np.zeros((who.max() + 1, len(totals)))
    np.add.at(counts, (who, codes), 1)
    shuffled = np.random.RandomState(seed).permutation(len(counts))  # the legacy generator: its draws are frozen
    order = shuffled[np.argsort(-counts[shuffled].std(axis=1), kind="stable")]
    held = np.zeros((folds, len(totals)))
    dealt = np.empty(len(counts), dtype=np.int64)
    for person in order:
        tried = held + np.eye(folds)[:, :, None] * counts[person]  # [folds, folds, K]: the folds, if the first axis's gets the person
        uneven, sizes = (tried / totals).std(axis=1).mean(axis=1), held.sum(axis=1)
        best = 0
        for fold in range(1, folds):
            equal = np.isclose(uneven[fold], uneven[best])
            if uneven[fold] < uneven[best] or (equal and sizes[fold] < sizes[best]):
                best = fold
        held[best] += counts[person]
        dealt[person] = best
    return dealt[who]


def _folds(faces: FaceDataset, tests: Iterator[np.ndarray], name: str, seed: int | None) -> list[Split]:
    everyone = np.arange(len(faces))
    return [Split(np.setdiff1d(everyone, test), test, name.format(i), seed, faces.names) for i, test in enumerate(tests, 1)]

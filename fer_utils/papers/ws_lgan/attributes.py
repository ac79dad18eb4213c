"""What the Attention Map Generator learns from: faces that show an attribute of the eyes, or of the mouth, and faces that show none.

CelebA has the seven attributes of Table I as its annotators saw them, FACSynth as it rendered them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ...datasets.base import FaceDataset
from ...datasets.celeba import PARTS, mark_part

__all__ = ["AttributeTask", "find_people", "pool_faces", "sample_task"]


@dataclass(frozen=True, eq=False)
class AttributeTask:
    """What a branch of the generator is trained on.

    Attributes
    ----------
    part : {"eyes", "mouth"}
    train, validation : FaceDataset
        Labels are 1 where the part shows an attribute; as many 1 as 0 in each. No person is in both, where people are known.
    """

    part: str
    train: FaceDataset
    validation: FaceDataset


def find_people(faces: FaceDataset) -> np.ndarray | None:
    """Who is shown, int64 ``[N]``: FACSynth's numbers, which are the same in all its sets, or else the dataset's own; None if unknown."""
    if faces.truth is not None and "identity" in faces.truth.columns:
        return faces.truth["identity"].to_numpy(dtype=np.int64)
    return faces.identities


def pool_faces(*sets: FaceDataset) -> FaceDataset:
    """Put faces with the seven attributes together, whatever their emotions.

    Parameters
    ----------
    *sets : FaceDataset
        Of CelebA, with ``attributes``, or of FACSynth, with ``truth``; training parts, as no person of a test face may be in them.

    Returns
    -------
    FaceDataset
        Of the one class ``face``, with ``identities`` where people are known and, in ``attributes``, the columns of
        :data:`fer_utils.datasets.celeba.PARTS`, true or false. Names have the set's before them.

    Raises
    ------
    ValueError
        If there is no set, or one lacks an attribute; see also :meth:`FaceDataset.join`.
    """
    if not sets:
        raise ValueError("there are no faces to pool; expected at least one set")
    first, *others = [_keep_attributes(faces) for faces in sets]
    for faces in others:
        first = first.join(faces)
    return first


def _keep_attributes(faces: FaceDataset) -> FaceDataset:
    names = [name for part in PARTS.values() for name in part]
    for table, columns in ((faces.attributes, names), (faces.truth, [name.lower() for name in names])):
        if table is not None and set(columns) <= set(table.columns):
            found = pd.DataFrame(table[columns].to_numpy(dtype=bool), columns=names)
            break
    else:
        raise ValueError(f"{faces.name} does not say which faces show {', '.join(names)}; expected faces of CelebA or FACSynth")
    return faces.replace(
        labels=np.zeros(len(faces), dtype=np.int64), classes=("face",), names=np.array([f"{faces.name}/{name}" for name in faces.names]),
        identities=find_people(faces), landmarks=None, landmarks_dense=None, attributes=found, votes=None, distributions=None, truth=None,
        masks=None,
    )


def sample_task(
    faces: FaceDataset, part: str, images: int, validation: int, seed: int, *, without: Sequence[str] = (),
    apart_from: Sequence[FaceDataset] = (),
) -> AttributeTask:
    """Draw what a branch is trained and validated on, as many positives as negatives (Zhang, Su & Wang 2020, III-B and IV-A).

    A face is positive for a part if it shows any of the part's attributes. The paper draws images; here validation people are drawn before,
    where people are known, so that nobody is in both.

    Parameters
    ----------
    faces : FaceDataset
        Of :func:`pool_faces`, or of CelebA.
    part : {"eyes", "mouth"}
    images, validation : int
        How many to train and to validate on, even numbers; 30,000 and 3,000 in the paper.
    seed : int
        Draws people and faces; each part draws its own.
    without : sequence of str
        Attributes to do without. A face that shows these and no other of its part is left out: as a negative it would teach that there is
        nothing to see.
    apart_from : sequence of FaceDataset
        Faces to be tested on: whoever is in them is left out. Give faces of the same collection, or numbers of people mean nothing.

    Raises
    ------
    ValueError
        For an unknown part or attribute, no attribute left, odd numbers, people that are not known, or too few faces.
    """
    if images < 2 or validation < 2 or images % 2 or validation % 2:
        raise ValueError(f"images and validation must be even and above 0, half positive and half negative; got {images} and {validation}")
    positive = mark_part(faces, part)
    unknown = [name for name in without if name not in PARTS[part]]
    kept = [name for name in PARTS[part] if name not in without]
    if unknown or not kept:
        problem = f"no attribute of the {part} is called {unknown[0]!r}" if unknown else f"nothing is left of the {part}"
        raise ValueError(f"{problem}; expected some, not all, of {', '.join(PARTS[part])}")
    assert faces.attributes is not None
    shown = faces.attributes[kept].to_numpy(dtype=bool).any(axis=1)
    usable = shown | ~positive
    people = find_people(faces)
    for tested in apart_from:
        others = find_people(tested)
        if people is None or others is None:
            raise ValueError(f"who is shown in {(faces if people is None else tested).name} is not known, so people cannot be kept apart")
        usable &= ~np.isin(people, others)

    rng = np.random.default_rng([seed, list(PARTS).index(part)])
    half, count = validation // 2, images // 2
    sides = {"with": usable & shown, "without": usable & ~shown}
    for kind, side in sides.items():
        if side.sum() < half + count:
            expected = f"{count} to train on and {half} to validate on"
            raise ValueError(f"{faces.name} has {side.sum()} faces {kind} an attribute of the {part}; expected {expected}, at least")
    # people in a drawn order: the first validate, until they have enough faces of both kinds; without people each face is its own
    owners = np.unique(np.arange(len(faces)) if people is None else people, return_inverse=True)[1]
    rank = rng.permutation(owners.max() + 1)[owners]  # [N]
    border = max(int(np.sort(rank[side])[half - 1]) for side in sides.values())
    drawn = []
    for name, those, wanted in (("train", rank > border, count), ("validate", rank <= border, half)):
        chosen = []
        for kind, side in sides.items():
            found = np.flatnonzero(those & side)
            if len(found) < wanted:
                problem = f"{len(found)} faces {kind} an attribute of the {part} are left to {name} on, as no person may be on both sides"
                raise ValueError(f"{faces.name}: {problem}; expected at least {wanted}")
            chosen.append(rng.permutation(found)[:wanted])
        index = np.sort(np.concatenate(chosen))
        drawn.append(faces.subset(index).replace(labels=shown[index].astype(np.int64), classes=(f"no attribute of the {part}", part)))
    return AttributeTask(part, *drawn)

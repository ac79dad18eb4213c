"""Pictures that are there more than once: found by a perceptual hash, and told with what they do to a score.

The hash is the discrete cosine transform of a small grey copy of the picture, without brightness and contrast. It is
kept as numbers, not as bits: aligned faces are so alike that few bits could not tell them apart.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from .base import FaceDataset

__all__ = ["describe_doubts", "group_duplicates", "shrink_images"]

#: Side of the small copies.
SIDE = 16
#: Hashes have length 1, and pictures nearer than this count as nearly equal: a correlation of .98. Copies of a face in
#: other files, sizes, brightness or compression lie at 0 to .2, mostly below .1; two people, however alike in pose and
#: light, from .27 on.
NEAR = 0.2
#: Small copies that vary by less, in grey levels, have no hash: it would be of noise.
_FLAT = 1.0
#: Neighbours are looked for in so many directions, those in which hashes vary most, and then compared in full.
_DIRECTIONS, _NEIGHBOURS, _ROWS = 16, 16, 4096


def shrink_images(images: np.ndarray) -> np.ndarray:
    """Make the small grey copies that are compared.

    Parameters
    ----------
    images : uint8 ``[N, H, W]`` or ``[N, H, W, 3]``

    Returns
    -------
    uint8 ``[N, 16, 16]``
    """
    small = [Image.fromarray(image).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX) for image in images]
    return np.stack([np.asarray(image) for image in small])


def group_duplicates(small: np.ndarray) -> np.ndarray:
    """Say which pictures are equal or nearly equal, as they are or mirrored.

    Parameters
    ----------
    small : uint8 ``[N, 16, 16]``
        Of :func:`shrink_images`.

    Returns
    -------
    int64 ``[N]``
        The number of the group that a picture belongs to; most are alone in theirs. A chain of pictures, each nearly
        equal to the next, is one group, as frames of a video may be.
    """
    rows, copy = np.unique(small.reshape(len(small), -1), axis=0, return_inverse=True)
    copy = copy.reshape(-1)
    waves = dctn(rows.reshape(-1, SIDE, SIDE).astype(np.float32), axes=(1, 2), norm="ortho")
    waves[:, 0, 0] = 0
    lengths = np.linalg.norm(waves, axis=(1, 2))
    known = np.flatnonzero(lengths >= _FLAT * SIDE)
    if len(known) < 2:
        return copy.astype(np.int64)
    waves = waves[known] / lengths[known, None, None]
    mirrored = waves * (-1.0) ** np.arange(SIDE, dtype=np.float32)  # in a mirror, odd waves change their sign
    pairs = np.concatenate(list(_find_pairs(waves.reshape(len(known), -1), mirrored.reshape(len(known), -1))))
    first, second = known[pairs].T
    graph = coo_array((np.ones(len(first), dtype=bool), (first, second)), shape=(len(rows), len(rows)))
    return connected_components(graph, directed=False)[1].astype(np.int64)[copy]


def _find_pairs(hashes: np.ndarray, mirrored: np.ndarray) -> Iterable[np.ndarray]:
    """Pairs ``[P, 2]`` of near hashes ``[N, D]``; of many that are near to one, the nearest."""
    sample = hashes[:: max(1, len(hashes) // 10_000)].astype(np.float64)
    _, directions = np.linalg.eigh(np.cov(sample, rowvar=False))
    directions = directions[:, -_DIRECTIONS:].astype(np.float32)
    # A projection brings no two points farther apart, so that all near ones are found in it.
    tree = cKDTree(hashes @ directions)
    for asked in (hashes, mirrored):
        for start in range(0, len(asked), _ROWS):
            block = asked[start : start + _ROWS]
            nearest = tree.query(block @ directions, _NEIGHBOURS, distance_upper_bound=NEAR)[1]
            one, place = np.nonzero(nearest < len(hashes))
            other = nearest[one, place]
            near = np.linalg.norm(block[one] - hashes[other], axis=1) <= NEAR
            yield np.stack([one[near] + start, other[near]], axis=1)


def describe_doubts(faces: FaceDataset, groups: np.ndarray, sides: np.ndarray | None, what: str = "parts") -> list[str]:
    """Say in plain lines which pictures are there more than once, and who and what is on both sides of a division.

    Parameters
    ----------
    faces : FaceDataset
    groups : int64 ``[N]``
        Of :func:`group_duplicates`.
    sides : array ``[N]``, optional
        The part or fold of each face; without it nothing is said of sides.
    what : str
        What the sides are.

    Returns
    -------
    list of str
        One or more.
    """
    lines = []
    alike = np.bincount(groups)[groups] > 1
    if not alike.any():
        lines.append(f"No duplicates: none of the {len(faces):,} pictures is there twice, equal or nearly equal.")
    else:
        across = np.zeros(len(faces), dtype=bool) if sides is None else _differ(groups, sides)
        told = f"Duplicates: {alike.sum():,} of {len(faces):,} pictures are the same picture as another, or nearly so"
        if sides is not None:
            told += f"; {f'{across.sum():,}' if across.any() else 'none'} of them lie across {what}"
        picked = np.flatnonzero(across if across.any() else alike)
        group = np.flatnonzero(groups == groups[picked[0]])
        other = group[sides[group] != sides[group[0]]][0] if sides is not None and across.any() else group[1]
        told += f", for example {str(faces.names[group[0]])!r} and {str(faces.names[other])!r}."
        labels = _differ(groups, faces.labels)
        lines.append(told + (f" {labels.sum():,} have a copy with another label." if labels.any() else ""))
        if across.any():
            lines.append(f"Pictures seen in training are recognised from memory, so a score across these {what} is too good.")
    if sides is not None and faces.identities is not None:
        shared = np.unique(faces.identities[_differ(faces.identities, sides)])
        if len(shared):
            people = len(np.unique(faces.identities))
            lines.append(f"{len(shared):,} of {people:,} people are in more than one of the {what}.")
    return lines


def _differ(groups: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Whether a face's group holds more than one value: bool ``[N]``."""
    _, codes = np.unique(values, return_inverse=True)
    _, groups = np.unique(groups, return_inverse=True)
    low, high = np.full(len(groups), len(codes)), np.full(len(groups), -1)
    np.minimum.at(low, groups, codes)
    np.maximum.at(high, groups, codes)
    return (low < high)[groups]

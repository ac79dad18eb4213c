"""From aligned faces to what is said of them: certainties, disagreement, and the rendered faces that lie nearest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ..datasets import facsynth
from ..datasets.base import FaceDataset
from ..errors import DataError
from ..labels import BASIC
from ..models import FaceModel
from ..training import extract_features
from ..training.checkpoint import load_checkpoint
from ..training.features import cache_outputs
from .methods import METHODS, Method, average, find_members, load_calibration, load_readers

__all__ = ["NEIGHBOUR_METHOD", "FaceReading", "Neighbour", "PhotoReader", "Voice", "embed_rendered", "find_nearest"]

#: In whose features neighbours are sought: its loss draws faces of one word together, and it never learned who is who.
NEIGHBOUR_METHOD = next(method for method in METHODS if method.name == "DLP-CNN" and method.dataset == "facsynth")
#: Rendered faces that are shown for a face.
_NEIGHBOURS = 5


@dataclass(frozen=True)
class Voice:
    """What one method says of a face.

    Attributes
    ----------
    method : Method
    certainty : float64 ``[7]``
        Of each word of ``labels.BASIC``; calibrated, sums to 1.
    votes : int
        How many of its trainings say its word.
    """

    method: Method
    certainty: np.ndarray
    votes: int

    @property
    def word(self) -> str:
        """The likeliest."""
        return BASIC[int(self.certainty.argmax())]


@dataclass(frozen=True)
class Neighbour:
    """A rendered face that lies near.

    Attributes
    ----------
    image : uint8 ``[100, 100, 3]``
    word : str
        The emotion that it was rendered for.
    distance : float
        Euclidean, between features.
    """

    image: np.ndarray
    word: str
    distance: float


@dataclass(frozen=True)
class FaceReading:
    """What is said of one face.

    Attributes
    ----------
    image : uint8 ``[100, 100, 3]``
        What the networks saw.
    voices : list of Voice
    neighbours : list of Neighbour
        Nearest first; empty where the rendered faces are not at hand.
    """

    image: np.ndarray
    voices: list[Voice]
    neighbours: list[Neighbour]

    @property
    def words(self) -> dict[str, int]:
        """How many methods say each word, the most frequent first."""
        said = [voice.word for voice in self.voices]
        return dict(sorted(((word, said.count(word)) for word in dict.fromkeys(said)), key=lambda item: -item[1]))

    @property
    def overlap(self) -> float:
        """Share of their certainty that two methods give to the same words, on average: 1 where all say the same."""
        pairs = list(combinations([voice.certainty for voice in self.voices], 2))
        return float(np.mean([np.minimum(a, b).sum() for a, b in pairs])) if pairs else 1.0


class PhotoReader:
    """The networks, loaded once for any number of photographs.

    Parameters
    ----------
    say : callable
        Told in one line each what is left out because it is not here.

    Raises
    ------
    DataError
        If what ships is damaged.
    """

    def __init__(self, say: Callable[[str], None] = lambda text: None) -> None:
        self.calibration = load_calibration()
        self.readers = load_readers(self.calibration["methods"], say)
        self.rendered: FaceDataset | None = None
        if NEIGHBOUR_METHOD not in self.readers:
            say("the rendered faces that lie nearest: the network that compares is not here")
            return
        try:
            facsynth.find_root()
        except DataError:
            say("the rendered faces that lie nearest: FACSynth (data/facsynth of the book's repository) is not here")
            return
        self.rendered = facsynth.load("basic", split="train")
        self.network, self.features = embed_rendered(self.rendered)

    def read(self, images: np.ndarray) -> list[FaceReading]:
        """Read aligned faces uint8 ``[N, 100, 100, 3]``."""
        if not len(images):
            return []
        voices: list[list[Voice]] = [[] for _ in images]
        for method, ask in self.readers.items():
            scores = ask(images)
            certainty = average(scores, self.calibration["methods"][method.key].temperature)
            votes = (scores.argmax(-1) == certainty.argmax(-1)).sum(0)
            for own, values, count in zip(voices, certainty, votes.tolist(), strict=True):
                own.append(Voice(method, values, count))
        near = self._find_neighbours(images)
        return [FaceReading(*parts) for parts in zip(images, voices, near, strict=True)]

    def _find_neighbours(self, images: np.ndarray) -> list[list[Neighbour]]:
        rendered = self.rendered
        if rendered is None:
            return [[] for _ in images]
        order, distances = find_nearest(extract_features(self.network, images), self.features, _NEIGHBOURS)
        return [
            [
                Neighbour(rendered.images[i], rendered.classes[rendered.labels[i]], d)
                for i, d in zip(row.tolist(), far.tolist(), strict=True)
            ]
            for row, far in zip(order, distances, strict=True)
        ]


def embed_rendered(faces: FaceDataset) -> tuple[FaceModel, np.ndarray]:
    """The network that compares, and its features ``[N, D]`` of the rendered faces; kept in the cache."""
    network, _ = load_checkpoint(find_members(NEIGHBOUR_METHOD)[0])
    return network, cache_outputs(network.embed, network, faces, name="features", batch_size=256).inputs


def find_nearest(features: np.ndarray, known: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Find what lies nearest to each row.

    Parameters
    ----------
    features : float ``[N, D]``
    known : float ``[M, D]``
    count : int
        At most ``M``.

    Returns
    -------
    int64 ``[N, count]``
        Positions in ``known``, the nearest first.
    float ``[N, count]``
        Euclidean distances.
    """
    from sklearn.neighbors import NearestNeighbors

    distances, order = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(known).kneighbors(features)
    return order, distances

"""FACSynth for the tests of the papers: a few faces, read once. Reading all takes longer than a smoke run on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from fer_utils.datasets.base import FaceDataset
from fer_utils.experiments.faces import limit_per_class, load_role

#: So many faces of each class and part are kept, and of so many people, the first of each part, all that they show.
FACES, PEOPLE = 60, 60


@cache
def _read(role: str, options: str) -> FaceDataset:
    faces = load_role("facsynth", role, **json.loads(options)).replace(votes=None)
    names, kept = limit_per_class(faces, FACES).names, np.zeros(len(faces), dtype=bool)
    for part in np.unique(faces.split):
        kept |= np.isin(faces.identities, np.unique(faces.identities[faces.split == part])[:PEOPLE])
    return faces.subset(kept | np.isin(faces.names, names))


def load_few(count: int | None = None) -> Callable[..., FaceDataset]:
    """What to put in the place of ``load_role``: these faces, or the first ``count`` of each class and part; without votes."""
    assert count is None or count <= FACES

    def load(dataset: str, role: str = "basic", root: str | None = None, **options: Any) -> FaceDataset:
        assert dataset == "facsynth" and root is None
        return limit_per_class(_read(role, json.dumps(options, sort_keys=True)), count)

    return load

"""What faces hold once they are loaded: a result is tied to that, and not to the code that reads files."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd

from ..datasets.base import FaceDataset
from .faces import fingerprint_faces, load_role

__all__ = ["describe_contents", "find_contents", "hold_the_same"]

#: What a dataset may know of its faces, in arrays and in tables; floating-point landmarks are apart, see :func:`describe_contents`.
_ARRAYS = ("images", "labels", "names", "split", "identities", "distributions", "masks")
_TABLES = ("attributes", "votes", "truth")
#: Landmarks are computed, so their last digits may depend on the processor.
_CLOSE = 1e-6


def describe_contents(faces: FaceDataset) -> dict[str, Any]:
    """Digest all that is known of faces.

    Parameters
    ----------
    faces : FaceDataset

    Returns
    -------
    dict
        ``contents``: SHA-256 of names, classes, pixels, labels, parts, people, masks, votes and what else there is; ``points``: a mean of
        all coordinates of landmarks that changes when one moves or two change places, or None; ``decoder``: the version of Pillow,
        whose JPEG decoder is part of it.
    """
    digest = hashlib.sha256("\n".join([faces.name, *faces.classes]).encode(errors="surrogateescape"))
    for field in _ARRAYS:
        values = getattr(faces, field)
        if values is not None:
            _add(digest, field, values)
    for field in _TABLES:
        table = getattr(faces, field)
        if table is not None:
            for column in table.columns:
                _add(digest, f"{field} {column}", table[column].to_numpy())
    marks = [values.ravel() for values in (faces.landmarks, faces.landmarks_dense) if values is not None]
    points = None
    if marks:
        known = np.nan_to_num(np.concatenate(marks).astype(float))
        points = float(np.average(known, weights=1 + np.arange(len(known)) % 9973)) if len(known) else 0.0
    return {"contents": digest.hexdigest(), "points": points, "decoder": version("pillow")}


def _add(digest: Any, field: str, values: np.ndarray) -> None:
    """Add an array under its name; text as text, whatever its width."""
    digest.update(f"\n{field} {values.shape}\n".encode())
    if values.dtype.kind in "biuf":
        digest.update(np.ascontiguousarray(values).data)
    else:
        texts = ["" if missing else str(value) for value, missing in zip(values.tolist(), pd.isna(values).tolist(), strict=True)]
        digest.update("\n".join(texts).encode(errors="surrogateescape"))


def find_contents(dataset: str, loaded: Mapping[str, Any], root: str | None = None) -> dict[str, Any]:
    """Load the faces of a run once more: their fingerprint, and what they hold.

    Parameters
    ----------
    dataset : str
        The run's.
    loaded : dict
        ``role`` and ``options``, as the run noted them.
    root : str, optional
        Where the dataset's copy lies.

    Raises
    ------
    ValueError, DataError
        As :func:`~fer_utils.experiments.faces.load_role`.
    """
    other, _, role = loaded["role"].rpartition(" ")  # "facsynth lab" are faces that stand in for the dataset's own
    dataset, root = other or dataset, None if other else root
    if not dataset.startswith("facsynth"):
        faces = load_role(dataset, role, root, **loaded["options"])
        return {**fingerprint_faces(dataset, faces), **describe_contents(faces)}
    files = fingerprint_faces(dataset, role=role, options=loaded["options"])
    return {**files, **_find_rendered(dataset, role, json.dumps(loaded["options"], sort_keys=True), files["sha256"])}


@cache
def _find_rendered(dataset: str, role: str, options: str, files: str) -> dict[str, Any]:
    """What rendered faces hold: of the same files always the same."""
    return describe_contents(load_role(dataset, role, **json.loads(options)))


def hold_the_same(kept: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    """Whether two descriptions are of the same faces; true where they cannot be compared, as another decoder read the pictures.

    Parameters
    ----------
    kept, here : dict
        Of :func:`describe_contents`.
    """
    if kept["decoder"] != here["decoder"]:
        return True
    points = (kept["points"], here["points"])
    close = points[0] == points[1] if None in points else math.isclose(*points, rel_tol=_CLOSE)
    return kept["contents"] == here["contents"] and close

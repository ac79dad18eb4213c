"""Which faces an experiment meets: roles of a dataset, such as the wild, the compound and the lab faces, and a checksum of each.

An experiment asks for a role; which images play it depends on the dataset key. So ``dlp-cnn/table-5`` runs on ``facsynth`` and on ``rafdb``
without knowing either.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..datasets import catalog, facsynth
from ..datasets.base import FaceDataset
from ..labels import BASIC
from ..splits import kfold, subject_kfold

__all__ = ["find_apex_options", "find_more_options", "find_roles", "fingerprint_faces", "keep_classes", "limit_per_class", "load_role"]

#: Datasets that play several roles; any other key of the catalogue plays one, ``lab`` if its faces are posed and ``basic`` if not.
_FAMILIES: Mapping[str, Mapping[str, str]] = {
    "facsynth": {"basic": "facsynth-basic", "compound": "facsynth-compound", "lab": "facsynth-lab"},
    "rafdb": {"basic": "rafdb-basic", "compound": "rafdb-compound", "lab": "ckplus", "lab-small": "jaffe", "mmi": "mmi", "film": "sfew"},
}
#: Parts of a dataset whose owners define none: as many times more faces to train as RAF-DB has.
_FOLDS = 5
#: Roles that sequences play.
_SEQUENCES = ("facsynth-lab", "ckplus")
#: Roles with further test faces.
_WITH_MORE = ("facsynth-basic", "facsynth-compound")


def find_roles(dataset: str) -> dict[str, str]:
    """The roles that a dataset plays, and the catalogue's key for each.

    Raises
    ------
    ValueError
        For an unknown dataset; the message lists the keys.
    """
    if dataset in _FAMILIES:
        return dict(_FAMILIES[dataset])
    known = {entry.key: entry for entry in catalog.entries() if entry.vocabulary is not None}
    if dataset not in known:
        raise ValueError(f"unknown dataset {dataset!r}; expected one of {', '.join([*_FAMILIES, *known])}")
    return {"lab" if known[dataset].environment == "lab" else "basic": dataset}


def load_role(dataset: str, role: str = "basic", root: str | os.PathLike[str] | None = None, **options: Any) -> FaceDataset:
    """Load the faces of a role.

    Parameters
    ----------
    dataset : str
        ``facsynth``, ``rafdb`` (with CK+, JAFFE, MMI and SFEW 2.0 as its lab and film faces) or a key of the catalogue.
    role : str
        ``basic``: the basic emotions, in the order of ``labels.BASIC``, with the owners' parts; where they define none, a fifth is the
        test part, always the same, stratified, and of other people where those are known. Others as their loader gives them:
        ``compound``, ``lab``, ``lab-small``, ``mmi``, ``film``.
    root : path, optional
        Where the dataset's copy lies; below the data root by default. The lab and film faces of ``rafdb`` are looked for there in any case.
    **options
        For the loader.

    Raises
    ------
    ValueError
        For an unknown dataset or a role that it does not play.
    DataError
        As the loaders.
    """
    roles = find_roles(dataset)
    if role not in roles:
        raise ValueError(f"{dataset} has no {role} faces; it has {', '.join(roles)}")
    entry = catalog.find(roles[role])
    main = catalog.find(next(iter(roles.values()))).module
    if entry.module == "muxspace":
        options = {"size": 100, **options}
    faces = entry.load(root if entry.module == main else None, **options)
    return _as_basic(faces) if role == "basic" else faces


def _as_basic(faces: FaceDataset) -> FaceDataset:
    """Only the basic emotions, in the book's order, with a train and a test part."""
    if faces.classes != BASIC:
        faces = keep_classes(faces, BASIC)
    if (faces.split == "none").all():
        # where people are known, nobody is on both sides
        test = (kfold if faces.identities is None else subject_kfold)(faces, _FOLDS)[0].test
        parts = np.full(len(faces), "train", dtype="<U5")
        parts[test] = "test"
        faces = faces.replace(split=parts)
    return faces


def find_apex_options(dataset: str, role: str) -> dict[str, Any]:
    """What a loader of sequences is told, to give the last frame of each one of the six basic emotions; nothing for single pictures.

    Parameters
    ----------
    dataset, role : str
        As :func:`load_role`.
    """
    return {"frames": "apex1", "classes": 6} if find_roles(dataset).get(role) in _SEQUENCES else {}


def find_more_options(dataset: str, role: str) -> dict[str, Any]:
    """What the loader of FACSynth's wild faces is told, to give all test faces that there are; nothing for other faces.

    Parameters
    ----------
    dataset, role : str
        As :func:`load_role`.
    """
    return {"more": True} if find_roles(dataset).get(role) in _WITH_MORE else {}


def keep_classes(faces: FaceDataset, classes: tuple[str, ...]) -> FaceDataset:
    """Only the faces of some classes, which the labels then count into; a class may be without a face.

    Parameters
    ----------
    faces : FaceDataset
    classes : tuple of str
    """
    place = np.array([classes.index(name) if name in classes else -1 for name in faces.classes])
    faces = faces.subset(place[faces.labels] >= 0)
    return faces.replace(labels=place[faces.labels], classes=classes)


def limit_per_class(faces: FaceDataset, count: int | None) -> FaceDataset:
    """Only the first faces of each class and part, in their order: what a smoke test takes.

    Parameters
    ----------
    faces : FaceDataset
    count : int, optional
        How many; all, if it is None.
    """
    if count is None:
        return faces
    groups = np.stack([faces.labels, np.unique(faces.split, return_inverse=True)[1]], 1)
    few = [np.flatnonzero((groups == group).all(1))[:count] for group in np.unique(groups, axis=0)]
    return faces.subset(np.sort(np.concatenate(few)))


def fingerprint_faces(
    dataset: str, faces: FaceDataset | None = None, role: str | None = None, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What changes when the faces do.

    Parameters
    ----------
    dataset : str
    faces : FaceDataset, optional
        Not needed for ``facsynth``, whose files have checksums.
    role : str, optional
        Of ``facsynth``, only the files that such a load reads; by default all.
    options : dict, optional
        What the loader is told, see :func:`load_role`.

    Returns
    -------
    dict
        ``sha256``: of FACSynth's checksums; of another dataset's file names, labels, classes and parts. With ``faces``, also ``name`` and
        ``count``; and of another dataset than FACSynth, ``pixels``: SHA-256 of all its images, which names do not tell.

    Raises
    ------
    ValueError
        For a role that the dataset does not play, or another dataset than FACSynth without its faces.
    DataError
        If FACSynth is not there.
    """
    if dataset.startswith("facsynth"):
        digest = facsynth.checksum(_list_folders(dataset, role, options or {}))
    elif faces is None:
        raise ValueError(f"the faces of {dataset} are needed for their checksum")
    else:
        parts = [faces.name, *faces.classes, *faces.names.tolist(), *faces.split.tolist()]
        digest = hashlib.sha256("\n".join(parts).encode(errors="surrogateescape") + faces.labels.tobytes()).hexdigest()
    known: dict[str, Any] = {} if faces is None else {"name": faces.name, "count": len(faces)}
    if faces is not None and not dataset.startswith("facsynth"):
        known["pixels"] = hashlib.sha256(np.ascontiguousarray(faces.images).data).hexdigest()
    return {**known, "sha256": digest}


def _list_folders(dataset: str, role: str | None, options: Mapping[str, Any]) -> list[str]:
    """FACSynth's folders that a load of a role reads; without a role all."""
    if role is None:
        return [""]
    roles = find_roles(dataset)
    if role not in roles:
        raise ValueError(f"{dataset} has no {role} faces; it has {', '.join(roles)}")
    return facsynth.list_folders(roles[role].removeprefix("facsynth-"), more=bool(options.get("more")))

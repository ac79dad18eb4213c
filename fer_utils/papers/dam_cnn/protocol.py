"""On which faces the paper trains and tests (Xie, Hu & Wu 2019, sections 4.1.1 and 4.1.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch

from ...augment import augment_jaffe
from ...datasets.base import FaceDataset
from ...experiments.faces import find_roles
from ...splits import Split, kfold, predefined, subject_kfold

__all__ = ["POSED", "PROTOCOLS", "FaceSet", "Protocol", "augment_faces", "find_sets", "split_faces", "split_set"]


@dataclass(frozen=True)
class Protocol:
    """How a dataset is read and split.

    Attributes
    ----------
    folds : int, optional
        None: the owners' parts.
    part : str
        The part of the owners' to test on.
    options : dict
        For the loader. SFEW's, TFEID's and BAUM-2i's images are brought to one size there.
    """

    folds: int | None = None
    part: str = "test"
    options: Mapping[str, Any] = field(default_factory=dict)


#: By the catalogue's key, with the classes of Table 4. FER2013's validation part is tested on too, by the same
#: networks.
PROTOCOLS: Mapping[str, Protocol] = {
    "ckplus": Protocol(10, options={"frames": "apex3", "classes": 6}),
    "jaffe": Protocol(10, options={"classes": 6}),
    "tfeid": Protocol(5, options={"classes": 7, "size": 224}),
    "baum2i": Protocol(7, options={"classes": 7, "size": 224}),
    "sfew": Protocol(part="val", options={"size": 224}),
    "fer2013": Protocol(),
}


#: Roles of posed faces, by folds of people: small sets, each fold of which is a training of its own.
POSED = ("lab", "lab-small", "tfeid")


@dataclass(frozen=True)
class FaceSet:
    """A set of faces as the paper's tables name it.

    Attributes
    ----------
    role : str
        As ``published.yaml`` has it: ``lab`` is CK+ or FACSynth's stand-in, ``basic`` are wild faces that the paper has
        not.
    source : str
        The role by which the dataset gives these faces.
    protocol : Protocol
    also : dict of str to str
        Further parts that the same networks are asked about, by role.
    """

    role: str
    source: str
    protocol: Protocol
    also: Mapping[str, str] = field(default_factory=dict)


#: Role and protocol by the catalogue's key; where it is none of these, ``basic`` faces are split as their owners say.
_ROLES: Mapping[str, tuple[str, str]] = {
    "ckplus": ("lab", "ckplus"), "facsynth-lab": ("lab", "ckplus"), "jaffe": ("lab-small", "jaffe"), "sfew": ("film", "sfew"),
    **{key: (key, key) for key in ("tfeid", "baum2i", "fer2013")},
}
_ALSO = {"fer2013": {"fer2013-val": "val"}}


def find_sets(dataset: str) -> dict[str, FaceSet]:
    """The sets of faces that a dataset gives, by the role that the paper's tables know them by.

    Raises
    ------
    ValueError
        As :func:`~fer_utils.experiments.faces.find_roles`.
    """
    found = {}
    for source, key in find_roles(dataset).items():
        if key in _ROLES:
            role, name = _ROLES[key]
            found[role] = FaceSet(role, source, PROTOCOLS[name], _ALSO.get(key, {}))
        elif source == "basic":
            found[source] = FaceSet(source, source, Protocol())
    return found


def split_set(faces: FaceDataset, protocol: Protocol, folds: int | None = None) -> list[Split]:
    """Split faces by a protocol, by people where they are known.

    Whether its folds are of people the paper says of BAUM-2i alone ("the PPI protocol"). Of single images, the last
    three frames of one sequence of CK+, and five versions of one picture of JAFFE, would lie on both sides; so here the
    folds are of people wherever a dataset knows them.

    Parameters
    ----------
    faces : FaceDataset
    protocol : Protocol
    folds : int, optional
        At most so many.

    Raises
    ------
    ValueError
        As :mod:`fer_utils.splits`.
    """
    if protocol.folds is None:
        return predefined(faces, protocol.part)
    return (kfold if faces.identities is None else subject_kfold)(faces, min(protocol.folds, folds or protocol.folds))


def split_faces(faces: FaceDataset, dataset: str) -> list[Split]:
    """Split faces as the paper does, see :func:`split_set`.

    Parameters
    ----------
    faces : FaceDataset
    dataset : str
        A key of :data:`PROTOCOLS`.

    Raises
    ------
    ValueError
        For a dataset that the paper has no protocol for, or as :mod:`fer_utils.splits`.
    """
    if dataset not in PROTOCOLS:
        raise ValueError(f"the paper has no protocol for {dataset!r}; expected one of {', '.join(PROTOCOLS)}")
    return split_set(faces, PROTOCOLS[dataset])


def augment_faces(train: FaceDataset, seed: int = 0) -> FaceDataset:
    """Make five faces of each, by :func:`~fer_utils.augment.augment_jaffe`, as the paper does of JAFFE's (4.1.1).

    It does so before it splits them; here only training faces are given, so that no version of a test face is trained
    on. Neutral faces, which 1,065 = 5 x 213 counts although the table has six classes, take no part.

    Parameters
    ----------
    train : FaceDataset
    seed : int

    Returns
    -------
    FaceDataset
        ``[5 * N]``, the five of a face one after the other; marks, masks and votes are left out, as they would have to
        be turned too.
    """
    images = torch.tensor(train.images)
    colours = images.ndim == 4
    planes = images.permute(0, 3, 1, 2) if colours else images
    many = augment_jaffe(planes, torch.Generator().manual_seed(seed))
    rows = np.repeat(np.arange(len(train)), 5)
    names = np.array([f"{name} {version}" for name in train.names for version in range(5)])
    attributes: pd.DataFrame | None = None if train.attributes is None else train.attributes.iloc[rows].reset_index(drop=True)
    return FaceDataset(
        train.name, (many.permute(0, 2, 3, 1) if colours else many).contiguous().numpy(), train.labels[rows], train.classes, names,
        train.split[rows], identities=None if train.identities is None else train.identities[rows], attributes=attributes,
    )

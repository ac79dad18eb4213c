"""JAFFE, the Japanese Female Facial Expression database (Lyons et al. 1998): 213 grey pictures of ten women.

A file such as ``KA.AN1.39.tiff`` names the subject, the expression with the number of the take, and a serial number. ``NE`` means
neutral; ``NA`` is a subject. Access is asked for from the owners (https://zenodo.org/records/3451524).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from ..errors import DataError
from ..labels import JAFFE
from .base import FaceDataset
from .images import load_images
from .layouts import Face, choose_faces, make_dataset, open_source, pick_classes, scan_names
from .source import Source, default_root

__all__ = ["SUBJECTS", "load"]

#: The initials of the ten subjects; a position here is an identity.
SUBJECTS = ("KA", "KL", "KM", "KR", "MK", "NA", "NM", "TM", "UY", "YM")

_SIZE = 256
_NAME = re.compile(rf"({'|'.join(SUBJECTS)})\.({'|'.join(map(str, JAFFE.codes))})\d+\.\d+")
_EXPECTED = f"a name like KA.AN1.39.tiff, of subject {', '.join(SUBJECTS)} and expression {', '.join(map(str, JAFFE.codes))}"
_LAYOUT = (
    "a folder with files like KA.AN1.39.tiff, or with jaffedbase.zip; JAFFE is not public: ask its owners for access at "
    "https://zenodo.org/records/3451524"
)


def load(
    root: str | os.PathLike[str] | None = None, *, classes: int | Sequence[str] = 7, transform: Callable[[Image.Image], Any] | None = None
) -> FaceDataset:
    """Read JAFFE.

    Parameters
    ----------
    root : path, optional
        The folder that holds the pictures, at any depth, or the owners' ``jaffedbase.zip``; ``jaffe`` in
        :func:`~fer_utils.files.data_root` by default.
    classes : {6, 7} or sequence of str
        The 6 basic emotions (183 pictures), or 7 with neutral (213). Or names, in the order that the labels shall have.
    transform : callable, optional
        See :class:`~fer_utils.datasets.base.FaceDataset`.

    Returns
    -------
    FaceDataset
        Grey images of 256x256 pixels, sorted by path; ``identities`` are positions in :data:`SUBJECTS`.

    Raises
    ------
    DataError
        If the folder is missing, a picture has another name, comes twice, is damaged, or is of another size.
    ValueError
        For unknown ``classes``.
    """
    wanted = pick_classes(classes, JAFFE.classes)
    path = default_root(root, "jaffe")
    source = Source.find(path, "jaffedbase", "jaffe") or open_source(path, _LAYOUT)
    found: dict[str, Face] = {}
    for member, match in scan_names(source, _NAME, _EXPECTED, _LAYOUT):
        if match[0] in found:
            raise DataError.at(source.where(member), f"{match[0]} comes twice", "one picture of a name")
        found[match[0]] = Face(member, JAFFE.decode(match[2]), subject=match[1])
    faces = choose_faces(found.values(), wanted, source.path, "picture", _LAYOUT)
    images = load_images(source, [face.member for face in faces], mode="L", size=(_SIZE, _SIZE))
    return make_dataset(
        "JAFFE", images, faces, wanted, names=np.array([face.name for face in faces]),
        identities=np.array([SUBJECTS.index(face.subject) for face in faces]), transform=transform,
    )

"""TFEID, the Taiwanese Facial Expression Image Database: 40 people, eight classes, two intensities.

In a file name such as ``f01_dfh_ag.jpg`` the last part is the class (``ag dg fg hg ng sg pg cg``, maybe with digits after it) and the
first the subject. The DAM-CNN paper (Xie, Hu & Wu 2019), which cites the owners' page, uses 580 pictures of seven classes. Access is asked
for from the owners.

Not documented, and assumed: pictures lie in class folders or flat, at any depth, and one below a folder ``high`` or ``slight`` has that
intensity.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from ..errors import DataError
from ..labels import TFEID
from .base import FaceDataset
from .layouts import Face, choose_faces, make_dataset, open_source, pick_classes, resize_images, scan_names
from .source import default_root

__all__ = ["load"]

_INTENSITIES = ("high", "slight")
_NAME = re.compile(rf"([^_]+)_(?:.*_)?({'|'.join(map(str, TFEID.codes))})\d*", re.IGNORECASE)
_EXPECTED = f"a name like f01_dfh_ag.jpg: a subject first, and last a class of {', '.join(map(str, TFEID.codes))}"
_LAYOUT = (
    "a folder (or a .zip of it) with files like f01_dfh_ag.jpg; TFEID is not public: ask its owners for access, on the page that the "
    "DAM-CNN paper cites"
)


def load(
    root: str | os.PathLike[str] | None = None,
    *,
    classes: int | Sequence[str] = 7,
    size: int | None = None,
    mode: str = "RGB",
    transform: Callable[[Image.Image], Any] | None = None,
) -> FaceDataset:
    """Read TFEID.

    Parameters
    ----------
    root : path, optional
        The folder that holds the pictures, or a zip archive of it; ``tfeid`` in :func:`~fer_utils.files.data_root` by
        default.
    classes : {6, 7, 8} or sequence of str
        The 6 basic emotions; 7 with neutral, as in the papers; 8 with contempt too. Or names, in the order that the labels shall
        have.
    size : int, optional
        Side to which the images are resized; without it all must be of one size.
    mode : {"RGB", "L"}
        Colour or grey.
    transform : callable, optional
        See :class:`~fer_utils.datasets.base.FaceDataset`.

    Returns
    -------
    FaceDataset
        Sorted by path; ``identities`` number the subjects in alphabetical order; ``truth`` has ``name`` and ``intensity``:
        ``"high"``, ``"slight"``, or ``"unknown"`` where no folder says it.

    Raises
    ------
    DataError
        If the folder is missing, a picture has another name, comes twice, or is damaged.
    ValueError
        For unknown ``classes``, ``size`` or ``mode``.
    """
    wanted = pick_classes(classes, TFEID.classes)
    source = open_source(default_root(root, "tfeid"), _LAYOUT)
    found: dict[tuple[str, str], Face] = {}
    for member, match in scan_names(source, _NAME, _EXPECTED, _LAYOUT):
        key = match[0], _find_intensity(member)
        if key in found:
            raise DataError.at(source.where(member), f"{match[0]} comes twice", "one picture of a name and intensity")
        found[key] = Face(member, TFEID.decode(match[2].lower()), subject=match[1].lower())
    faces = choose_faces(found.values(), wanted, source.path, "picture", _LAYOUT)
    names = [face.name for face in faces]
    return make_dataset(
        "TFEID", resize_images(source, [face.member for face in faces], size, mode), faces, wanted, names=np.array(names),
        identities=np.unique([face.subject for face in faces], return_inverse=True)[1],
        truth=pd.DataFrame({"name": names, "intensity": [_find_intensity(face.member) for face in faces]}), transform=transform,
    )


def _find_intensity(member: str) -> str:
    folders = member.lower().split("/")[:-1]
    return next((word for word in _INTENSITIES if word in folders), "unknown")

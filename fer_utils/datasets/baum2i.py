"""BAUM-2i (Erdem, Turan & Aydin 2015): stills of the film clips of BAUM-2, in eight classes.

The DAM-CNN paper (Xie, Hu & Wu 2019) uses the 998 stills of the six basic emotions and neutral. Access is asked for from the authors.

The owners' layout is not public, so this one is assumed: a folder for each class, named by the emotion in any case, as noun or adjective.
A file name that begins with ``S<digits>_`` is taken to name the subject. The genders that the owners list are not read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from ..labels import BAUM2I
from .base import FaceDataset
from .layouts import choose_faces, make_dataset, open_source, pick_classes, resize_images, scan_classes
from .source import default_root

__all__ = ["load"]

_SUBJECT = re.compile(r"[Ss](\d{1,18})_", re.ASCII)
_LAYOUT = (
    f"a folder (or a .zip of it) with the folders {', '.join(map(str, BAUM2I.codes))}; BAUM-2i is not public: ask its authors for access, "
    "see Erdem et al. 2015"
)


def load(
    root: str | os.PathLike[str] | None = None,
    *,
    classes: int | Sequence[str] = 7,
    size: int | None = None,
    mode: str = "RGB",
    transform: Callable[[Image.Image], Any] | None = None,
) -> FaceDataset:
    """Read BAUM-2i.

    Parameters
    ----------
    root : path, optional
        The folder that holds the class folders, or a zip archive of it; ``baum2i`` in
        :func:`~fer_utils.files.data_root` by default.
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
        Sorted by path; ``identities`` are the subjects' numbers where every file name has one. ``names`` are paths, since files of
        two classes may share a name.

    Raises
    ------
    DataError
        If the folder is missing, an image lies in no class, comes twice, or is damaged.
    ValueError
        For unknown ``classes``, ``size`` or ``mode``.
    """
    wanted = pick_classes(classes, BAUM2I.classes)
    source = open_source(default_root(root, "baum2i"), _LAYOUT)
    faces = choose_faces(scan_classes(source, BAUM2I.classes, _LAYOUT), wanted, source.path, "image", _LAYOUT)
    people = [_SUBJECT.match(face.name) for face in faces]
    identities = np.array([int(match[1]) for match in people if match]) if all(people) else None
    images = resize_images(source, [face.member for face in faces], size, mode)
    return make_dataset("BAUM-2i", images, faces, wanted, identities=identities, transform=transform)

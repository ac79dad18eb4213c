"""SFEW 2.0, Static Facial Expressions in the Wild (Dhall et al. 2011): frames of films, in the layout that its owners hand out.

``Train/`` and ``Val/`` hold a folder for each class, of frames of 720x576 pixels; ``Train_Aligned_Faces/`` and
``Val_Aligned_Faces/`` hold the faces that the owners found in them, cut out. The labels of ``Test/`` were not given out, so that it is
not read. The papers count 958 and 436 frames (train and val), 891 and 431 aligned faces, or 847 and 409. Access is asked for from the
owners (see the paper).

Not documented, and assumed: the aligned folders lie beside or within ``Train`` and ``Val``, may be called ``..._new``, and ``Train`` and
``Val`` may hold one archive for each class.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import DataError
from ..labels import SFEW
from .base import FaceDataset
from .layouts import Parts, make_dataset, resize_images, scan_classes
from .source import Source, find_root

__all__ = ["load"]

_PARTS = {"train": "Train", "val": "Val"}
_ALIGNED = "_Aligned_Faces"
_LAYOUT = (
    f"a folder with Train and Val, or Train{_ALIGNED} and Val{_ALIGNED}, each a folder or a .zip with the folders "
    f"{', '.join(map(str, SFEW.codes))}; SFEW is not public: ask its owners for access, see Dhall et al. 2011"
)


def load(
    root: str | os.PathLike[str] | None = None,
    *,
    split: str | None = None,
    aligned: bool = True,
    size: int | None = None,
    mode: str = "RGB",
    transform: Callable[[Image.Image], Any] | None = None,
) -> FaceDataset:
    """Read SFEW 2.0.

    Parameters
    ----------
    root : path, optional
        The folder that holds ``Train`` and ``Val`` or their aligned faces, zipped or unzipped; ``sfew`` in
        :func:`~fer_utils.files.data_root` by default.
    split : {"train", "val"}, optional
        Only this part, the only one that must then be there.
    aligned : bool
        The owners' aligned faces, or whole frames.
    size : int, optional
        Side to which the images are resized; without it all must be of one size.
    mode : {"RGB", "L"}
        Colour or grey.
    transform : callable, optional
        See :class:`~fer_utils.datasets.base.FaceDataset`.

    Returns
    -------
    FaceDataset
        Seven classes, in the owners' order; train before val, each sorted by path. Nothing says who is shown.

    Raises
    ------
    DataError
        If a folder is missing, an image lies in no class, comes twice, or is damaged.
    ValueError
        For an unknown ``split``, ``size`` or ``mode``.
    """
    if split is not None and split not in _PARTS:
        raise ValueError(f"split must be 'train', 'val' or None (the labels of test are not public), got {split!r}")
    folder = find_root(root, "sfew", _LAYOUT)
    parts = {part: _open_part(folder, word, aligned) for part, word in _PARTS.items() if split in (None, part)}
    source = Parts(folder, parts)
    faces = scan_classes(source, SFEW.classes, _LAYOUT)
    first: dict[str, str] = {}
    for face in faces:
        other = first.setdefault(face.name, face.member)
        if other != face.member:
            raise DataError.at(source.where(face.member), f"comes twice, also as {source.where(other)}", "one label and one part an image")
    images = resize_images(source, [face.member for face in faces], size, mode)
    return make_dataset("SFEW 2.0", images, faces, SFEW.classes, names=np.array(list(first)), transform=transform)


def _open_part(folder: Path, word: str, aligned: bool) -> Source:
    if aligned:
        stems = (f"{word}{_ALIGNED}", f"{word}{_ALIGNED}_new")
        return Source.find(folder / word, *stems) or Source.require(folder, *stems, expected=_LAYOUT)
    part = Source.require(folder, word, expected=_LAYOUT)
    zipped = [str(code) for code in SFEW.codes if f"{code}.zip" in part]
    return Parts(part.path, {code: Source(part.path / f"{code}.zip") for code in zipped}) if zipped else part

"""ExpW, Expression in-the-Wild (Zhang et al. 2018), in the layout that its owners hand out.

Photographs in ``image/origin`` and one line a face in ``label.lst``: ``name face_id top left right bottom confidence label``. Mind
the order of the box, and that a photograph can show several faces. The owners pack the photographs as ``origin.7z`` in parts:
unpack it, or pack it again as ``origin.zip``. The dataset is free for research:
http://mmlab.ie.cuhk.edu.hk/projects/socialrelation/index.html.

We assume that ``right`` and ``bottom`` are the first pixels outside a face, and that photographs which the list does not name
are no mistake, since not every one has a labelled face.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from ..errors import DataError
from ..labels import EXPW
from .base import FaceDataset
from .images import load_images, resize_square
from .source import MAX_COORDINATE, Source, find_root, parse_float, parse_int, read_text

__all__ = ["load"]

_COLUMNS = ("name", "face_id", "top", "left", "right", "bottom", "confidence", "label")
_LAYOUT = (
    "a folder with image/origin/*.jpg (or origin.zip) and label.lst (or label/label.lst); "
    "ask for ExpW at http://mmlab.ie.cuhk.edu.hk/projects/socialrelation/index.html"
)


def load(
    root: str | os.PathLike[str] | None = None,
    *,
    size: int = 100,
    min_side: int = 0,
    transform: Callable[[Image.Image], Any] | None = None,
) -> FaceDataset:
    """Read the labelled faces of ExpW.

    Parameters
    ----------
    root : path, optional
        The folder that holds ``image/origin`` and ``label.lst``; ``expw`` in :func:`~fer_utils.files.data_root` by
        default.
    size : int
        Side of the faces: each box is cut out, as far as it lies in the photograph, and scaled to a square.
    min_side : int
        Leave out faces whose box, as listed, is narrower or lower. Li et al. 2021, section 4.1, keep the 41,748 faces of
        100 and more, which they scale to 100x100.
    transform : callable, optional
        See :class:`~fer_utils.datasets.base.FaceDataset`.

    Returns
    -------
    FaceDataset
        RGB images in the order of the list, with names ``<photograph>#<face_id>``; a line that says the same as an earlier one
        is taken once. ``truth`` has the box in pixels of the photograph (``top``, ``left``, ``right``, ``bottom``) and the
        detector's ``confidence``. The owners define no split.

    Raises
    ------
    DataError
        If a file is missing, damaged, or not as the owners describe it; also when the images are decoded, if a box lies
        outside its photograph.
    ValueError
        For a ``size`` below 1 or a negative ``min_side``.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    if min_side < 0:
        raise ValueError(f"min_side must be at least 0, got {min_side}")
    folder = find_root(root, "expw", _LAYOUT)
    path = next((p for p in (folder / "label.lst", folder / "label" / "label.lst") if os.path.exists(p)), folder / "label.lst")
    listed = _read_list(path)
    source = Source.require(folder / "image", "origin", expected=_LAYOUT)
    absent = next((face for face in listed if face.photograph not in source), None)
    if absent is not None:
        raise DataError.at(source.where(absent.photograph), "not found", f"an image, because {path}, line {absent.line}, names it")
    faces = [face for face in listed if min(face.right - face.left, face.bottom - face.top) >= min_side]
    boxes = np.array([(face.top, face.left, face.right, face.bottom) for face in faces], dtype=np.int64).reshape(-1, 4)
    images = load_images(
        source, [face.photograph for face in faces], size=(size, size),
        finish=partial(_cut, faces=faces, path=path, source=source, size=size),
        recipe=f"box lanczos {size} {hashlib.sha256(boxes.tobytes()).hexdigest()}", upright=False,
    )
    truth = pd.DataFrame(boxes, columns=list(_COLUMNS[2:6]))
    truth["confidence"] = np.array([face.confidence for face in faces], dtype=np.float32)
    return FaceDataset(
        name="ExpW", images=images, labels=np.array([face.label for face in faces], dtype=np.int64), classes=EXPW.classes,
        names=np.array([face.name for face in faces], dtype=np.str_), split=np.full(len(faces), "none"), truth=truth, transform=transform,
    )


@dataclass(frozen=True)
class _Face:
    line: int
    name: str
    photograph: str
    top: int
    left: int
    right: int
    bottom: int
    confidence: float
    label: int


def _cut(image: np.ndarray, i: int, faces: Sequence[_Face], path: Path, source: Source, size: int) -> np.ndarray:
    face = faces[i]
    cut = image[max(face.top, 0) : max(face.bottom, 0), max(face.left, 0) : max(face.right, 0)]
    if cut.size == 0:
        picture = f"{image.shape[1]}x{image.shape[0]} pixels of {source.where(face.photograph)}"
        raise DataError.at(path, f"a box outside the {picture}", "a box that meets its photograph", line=face.line)
    return resize_square(cut, size)


def _read_list(path: Path) -> list[_Face]:
    expected = f"lines '{' '.join(_COLUMNS)}', the box in whole pixels, the label {EXPW.codes[0]} to {EXPW.codes[-1]}"
    faces: dict[str, _Face] = {}
    texts: dict[str, list[str]] = {}
    for line, text in enumerate(read_text(path, expected).splitlines(), 1):
        columns = text.split()
        if not columns:
            continue
        if len(columns) != len(_COLUMNS):
            raise DataError.at(path, f"{len(columns)} columns in {text!r}", expected, line=line)
        photograph, number, *numbers, confidence, code = columns
        try:
            box = [parse_int(column) for column in (number, *numbers)][1:]
            certainty = parse_float(confidence)
            if not abs(certainty) <= MAX_COORDINATE:  # nan is none of both
                raise ValueError(confidence)
        except ValueError as error:
            raise DataError.at(path, f"not a number in {text!r}", expected, line=line) from error
        try:
            label = EXPW.index(parse_int(code))
        except ValueError as error:
            raise DataError.at(path, f"label {code!r}", expected, line=line) from error
        top, left, right, bottom = box
        if bottom <= top or right <= left or max(map(abs, box)) >= 2**31:
            raise DataError.at(path, f"box top {top}, left {left}, right {right}, bottom {bottom}", "a box with an area", line=line)
        if "/" in photograph or "\\" in photograph:
            raise DataError.at(path, f"image name {photograph!r}", "a file name without a folder", line=line)
        name = f"{photograph}#{number}"
        if name not in faces:
            faces[name], texts[name] = _Face(line, name, photograph, top, left, right, bottom, certainty, label), columns
        elif texts[name] != columns:
            raise DataError.at(path, f"{name} is listed twice, first on line {faces[name].line}", "one line a face", line=line)
    if not faces:
        raise DataError.at(path, "no labels", expected)
    return list(faces.values())

"""CelebA (Liu et al. 2015): faces with forty attributes and no emotions, which teach where eyes and mouth are.

The files are those of ``torchvision.datasets.CelebA``: ``img_align_celeba`` (or its zip archive), ``list_attr_celeba.txt`` and
``list_eval_partition.txt``; ``identity_CelebA.txt`` and ``list_landmarks_align_celeba.txt`` are read where they are there. They may
lie in one folder, as torchvision has them, or in ``Img``, ``Anno`` and ``Eval``, as the owners do. Kaggle's copy has the tables as
``.csv``, each with a header, and no ``identity_CelebA``. CelebA is free for research: http://mmlab.ie.cuhk.edu.hk/projects/CelebA.html.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from ..errors import DataError
from .base import FaceDataset
from .images import load_images, resize_square
from .layouts import describe_folder, find_folders, name_copy
from .source import Source, find_root, read_text

__all__ = ["ATTRIBUTES", "PARTS", "load", "mark_part"]

#: Width and height of the aligned images.
WIDTH, HEIGHT = 178, 218

ATTRIBUTES = (
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips", "Big_Nose", "Black_Hair",
    "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses", "Goatee", "Gray_Hair",
    "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache", "Narrow_Eyes", "No_Beard", "Oval_Face",
    "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks", "Sideburns", "Smiling", "Straight_Hair", "Wavy_Hair",
    "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick", "Wearing_Necklace", "Wearing_Necktie", "Young",
)

#: The attributes of each part of the face (Zhang et al. 2020, Table 1).
PARTS = {
    "eyes": ("Bushy_Eyebrows", "Arched_Eyebrows", "Narrow_Eyes", "Eyeglasses"),
    "mouth": ("Big_Lips", "Mouth_Slightly_Open", "Smiling"),
}

#: First row of the square in the middle.
_TOP = (HEIGHT - WIDTH) // 2
_SPLITS = ("train", "val", "test")
_ATTRIBUTES = "list_attr_celeba.txt"
_POINTS = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
_LAYOUT = (
    "a folder with img_align_celeba (or .zip), list_attr_celeba.txt and list_eval_partition.txt (or both as .csv); "
    "get CelebA at http://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
)


def load(
    root: str | os.PathLike[str] | None = None,
    *,
    split: str | None = None,
    size: int | None = None,
    transform: Callable[[Image.Image], Any] | None = None,
) -> FaceDataset:
    """Read CelebA's aligned faces.

    Parameters
    ----------
    root : path, optional
        The folder of the files, or the one that holds it as ``celeba``, as torchvision is given it; ``celeba`` in
        :func:`~fer_utils.files.data_root` by default.
    split : {"train", "val", "test"}, optional
        Only this part.
    size : int, optional
        Side of the square of 178x178 from the middle of the image, scaled; ``None`` for the whole image.
    transform : callable, optional
        See :class:`~fer_utils.datasets.base.FaceDataset`.

    Returns
    -------
    FaceDataset
        RGB images of 178x218 (or ``size``) in the order of the lists, all of the one class ``face``. ``attributes`` has the
        columns ``ATTRIBUTES``, true or false; see :func:`mark_part`. ``landmarks`` and ``identities`` where the owners' files
        are there.

    Raises
    ------
    DataError
        If a file is missing, damaged, or not as the owners write it; if the lists do not name the same images in one order, or
        an image is not listed.
    ValueError
        For an unknown ``split`` or a ``size`` below 1.
    """
    if split not in (None, *_SPLITS):
        raise ValueError(f"split must be 'train', 'val', 'test' or None, got {split!r}")
    if size is not None and size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    folder = find_root(root, "celeba", _LAYOUT)
    places = (folder, folder / "celeba", *find_folders(folder))
    folder = next((place for place in places if os.path.exists(_find_file(place, "Anno", _ATTRIBUTES))), folder)
    attributes = _find_file(folder, "Anno", _ATTRIBUTES)
    if not os.path.exists(attributes):
        raise DataError.at(attributes, f"not found: {describe_folder(folder)}", _LAYOUT)

    names, values = _read_list(attributes, ATTRIBUTES, (-1, 1))
    parts = _read_others(_find_file(folder, "Eval", "list_eval_partition.txt"), 1, names, attributes, (0, 1, 2))
    people = _find_file(folder, "Anno", "identity_CelebA.txt")
    identities = _read_others(people, 1, names, attributes)[:, 0] if os.path.exists(people) else None
    marks = _find_file(folder, "Anno", "list_landmarks_align_celeba.txt")
    points = None
    if os.path.exists(marks):
        columns = [f"{point}_{axis}" for point in _POINTS for axis in "xy"]
        points = _read_others(marks, columns, names, attributes).reshape(-1, len(_POINTS), 2).astype(np.float64)

    source = Source.find(folder, "img_align_celeba")
    if source is None:
        source = Source.require(folder / "Img", "img_align_celeba", expected=_LAYOUT)
    absent = next((name for name in names if name not in source), None)
    if absent is not None:
        raise DataError.at(source.where(absent), "not found", f"an image, because {attributes} names it")
    unlisted = set(source.names) - set(names)
    if unlisted:
        raise DataError.at(source.where(min(unlisted)), f"not in {attributes}", "only images that the list names")

    keep = np.flatnonzero(parts[:, 0] == _SPLITS.index(split)) if split is not None else np.arange(len(names))
    members = [names[i] for i in keep]
    if size is None:
        images = load_images(source, members, size=(HEIGHT, WIDTH))
    else:
        finish = partial(_cut_middle, source=source, members=members, size=size)
        images = load_images(source, members, size=(size, size), finish=finish, recipe=f"middle lanczos {size}")
        points = None if points is None else (points - np.array([0, _TOP]) + 0.5) * (size / WIDTH) - 0.5
    lacks = {} if identities is not None else {people.name: "people"}
    return FaceDataset(
        name=name_copy("CelebA", "Kaggle's copy: tables as .csv" if attributes.suffix == ".csv" else "", lacks), images=images,
        labels=np.zeros(len(keep), dtype=np.int64), classes=("face",), names=np.array(members, dtype=np.str_),
        split=np.array(_SPLITS)[parts[keep, 0]], identities=None if identities is None else identities[keep],
        landmarks=None if points is None else points[keep], attributes=pd.DataFrame(values[keep] > 0, columns=list(ATTRIBUTES)),
        transform=transform,
    )


def _cut_middle(image: np.ndarray, i: int, source: Source, members: Sequence[str], size: int) -> np.ndarray:
    if image.shape[:2] != (HEIGHT, WIDTH):
        raise DataError.at(source.where(members[i]), f"{image.shape[1]}x{image.shape[0]} pixels", f"{WIDTH}x{HEIGHT} pixels")
    return resize_square(image[_TOP : _TOP + WIDTH], size)


def mark_part(faces: FaceDataset, part: str) -> np.ndarray:
    """Tell on which faces a part shows one of its attributes: the labels that the attention maps of WS-LGAN are trained by.

    Parameters
    ----------
    faces : FaceDataset
        With the columns of ``PARTS[part]`` in ``attributes``.
    part : {"eyes", "mouth"}

    Returns
    -------
    bool ``[N]``
        True where any attribute of ``PARTS[part]`` is (Zhang et al. 2020, section III and Table 1).

    Raises
    ------
    ValueError
        For an unknown ``part``, or a dataset without these attributes.
    """
    if part not in PARTS:
        raise ValueError(f"part must be 'eyes' or 'mouth', got {part!r}")
    if faces.attributes is None or not set(PARTS[part]) <= set(faces.attributes.columns):
        raise ValueError(f"{faces.name} has no attributes {', '.join(PARTS[part])}")
    return faces.attributes[list(PARTS[part])].to_numpy(dtype=bool).any(axis=1)


def _find_file(folder: Path, subfolder: str, name: str) -> Path:
    """A table in a folder or its subfolder, as the owners write it or as .csv; where it should be, if it is not there."""
    found = [place / file for file in (name, f"{Path(name).stem}.csv") for place in (folder, folder / subfolder)]
    return next((path for path in found if os.path.exists(path)), found[0])


def _read_list(path: Path, columns: int | Sequence[str], allowed: Sequence[int] | None = None) -> tuple[list[str], np.ndarray]:
    """Image names and whole numbers ``[N, columns]``.

    Of the owners' files, named columns stand below a line with the number of images; with commas, all stand below a header.
    """
    width = columns if isinstance(columns, int) else len(columns)
    text = read_text(path, "a table of images")
    lines = text.splitlines() or [""]
    commas = "," in lines[0]
    if commas and allowed == (-1, 1) and "-1" not in text:
        allowed = (0, 1)  # some copies write attributes so
    span = "" if allowed is None else f", each {' or '.join(map(str, allowed))}"
    expected = f"lines '<image name>' and {width} whole numbers{span}"
    count, first, own, wide = None, 0, list(range(width + 1)), width + 1
    if commas:
        header = [column.strip(' "') for column in lines[0].split(",")]
        wanted = ["image_id", *(("partition",) if columns == 1 and "partition" in header else header[-1:] if columns == 1 else columns)]
        if not set(wanted) <= set(header) or len(set(header)) != len(header):
            missing = next((name for name in wanted if name not in header), "each column once")
            raise DataError.at(path, f"header {lines[0][:80]!r}", f"image_id and {width} columns, with {missing}", line=1)
        first, own, wide = 1, [header.index(name) for name in wanted], len(header)
    elif not isinstance(columns, int):
        count, first = lines[0].strip(), 2
        if not (count.isascii() and count.isdigit()):
            raise DataError.at(path, f"{count[:40]!r}", "the number of images", line=1)
        if len(lines) < 2 or lines[1].split() != list(columns):
            raise DataError.at(path, "other columns", " ".join(columns), line=2)
    rows: dict[str, list[int]] = {}
    for line, text in enumerate(lines[first:], first + 1):
        if not text.strip():
            continue
        cells = [cell.strip(' "') for cell in text.split(",")] if commas else text.split()
        if len(cells) != wide:
            raise DataError.at(path, f"{len(cells)} columns", f"{wide}: {expected}", line=line)
        name, *values = (cells[i] for i in own)
        if name in rows:
            raise DataError.at(path, f"{name} is listed twice", "one line an image", line=line)
        try:
            numbers = [int(value) for value in values]
        except ValueError as error:
            raise DataError.at(path, f"not a whole number ({error})", expected, line=line) from error
        if allowed is None and max(map(abs, numbers)) >= 2**31:
            raise DataError.at(path, f"value {max(numbers, key=abs)}", f"{expected} below 2^31", line=line)
        if allowed is not None and not set(numbers) <= set(allowed):
            raise DataError.at(path, f"value {next(n for n in numbers if n not in allowed)}", expected, line=line)
        rows[name] = numbers
    if count is not None and len(rows) != int(count):
        raise DataError.at(path, f"{len(rows)} lines of images", f"{count}, as its first line says", line=1)
    if not rows:
        raise DataError.at(path, "no images", expected)
    return list(rows), np.array(list(rows.values()), dtype=np.int64)


def _read_others(
    path: Path, columns: int | Sequence[str], names: Sequence[str], leader: Path, allowed: Sequence[int] | None = None
) -> np.ndarray:
    """As :func:`_read_list`, but of the images that ``leader`` names, in its order."""
    found, values = _read_list(path, columns, allowed)
    if list(found) != list(names):
        differs = next((i for i, (a, b) in enumerate(zip(found, names, strict=False)) if a != b), min(len(found), len(names)))
        got, want = (column[differs] if differs < len(column) else "no image" for column in (found, names))
        raise DataError.at(path, f"image {differs + 1} is {got}", f"{want}, as in {leader}")
    return values

"""Extended Cohn-Kanade, CK+ (Lucey et al. 2010), in the layout that its owners hand out, or as Kaggle's copies have it.

Access is asked for from the owners (http://www.jeffcohn.net/Resources/). FACSynth's lab set ships in the same layout.

Two copies of faces of 48x48 that somebody cut out go around: ``CK+48``, folders ``anger`` to ``surprise`` with the last three
frames of each sequence under the owners' names; and the table ``ckextended.csv``, a frame of each, which does not say who is shown.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from ..errors import DataError
from ..labels import CKPLUS, FER2013, Vocabulary
from ..preprocess import align_face, similarity_transform, warp_points
from .base import FaceDataset
from .images import load_images, resize_square
from .layouts import (
    Face,
    choose_faces,
    describe_folder,
    find_folders,
    list_images,
    make_dataset,
    name_copy,
    pick_classes,
    read_word,
    resize_images,
)
from .pixels import parse_pixels, read_table
from .sequences import FRAMES, Frame, choose_frames, list_frames, make_sequence
from .source import Source, default_root, parse_numbers

__all__ = ["five_points", "load"]

#: Seven are, with CK+, the six and contempt.
_LEFT_OUT = {6: ("neutral", "contempt"), 7: ("neutral",), 8: ()}
_SEQUENCE = re.compile(r"(S\d+)/(\d+)/\1_\2_(\d+)(.*)")
_IMAGES = ("cohn-kanade-images", "extended-cohn-kanade-images")
_EMOTIONS = ("Emotion", "Emotion_labels")
_CUT = re.compile(r"(S\d+)_(\d+)_(\d+)")
_TABLE = "ckextended.csv"
#: Codes of the table; what it calls parts is the uploader's own, with frames of one person in several.
_EXTENDED = Vocabulary(_TABLE, (*FER2013.classes, "contempt"), tuple(range(8)))
_USAGES = dict.fromkeys(("", "Training", "PublicTest", "PrivateTest"), "none")
_EMOTION_FILES = "files like S005/001/S005_001_00000011_emotion.txt"
_BORDER = 40
_MARKS = 68
_LAYOUT = (
    "a folder with cohn-kanade-images, Emotion and Landmarks, each a folder or a .zip, of files like S005/001/S005_001_00000011.png; "
    "or Kaggle's CK+48 (anger/S010_004_00000017.png) or ckextended.csv; "
    "CK+ is not public: ask its owners for access at http://www.jeffcohn.net/Resources/"
)


def load(
    root: str | os.PathLike[str] | None = None,
    *,
    frames: str = "apex3",
    classes: int | Sequence[str] = 7,
    align: int | None = 100,
    need_landmarks: bool = True,
    facs: bool = True,
    transform: Callable[[Image.Image], Any] | None = None,
) -> FaceDataset:
    """Read the labelled sequences of CK+.

    Parameters
    ----------
    root : path, optional
        The folder that holds ``cohn-kanade-images``, ``Landmarks``, ``Emotion`` and ``FACS``, zipped or unzipped, or one of
        the copies; ``ckplus`` in :func:`~fer_utils.files.data_root` by default.
    frames : {"apex1", "apex3", "onset", "all"}
        Of each sequence the last frame, the last three, only the first, or every frame. A first frame is neutral, any other
        has the label of its sequence (in ``"all"``, however faint the expression still is).
    classes : {6, 7, 8} or sequence of str
        6 basic emotions; 7 with contempt; 8 with neutral too. Or names, in the order that the labels shall have:
        ``labels.BASIC`` gives the 6 and neutral. With neutral the first frame of each sequence of the other classes is
        added (all first frames, if neutral is alone); ``"onset"`` adds neutral to 6 or 7.
    align : int, optional
        Side of the faces aligned by five points derived from the 68; ``None`` for the frames as they are, which must then be
        of one size (those of CK+ are not). Faces that somebody else cut out are scaled to it.
    need_landmarks : bool
        Fail where faces cannot be aligned, because the owners' landmarks are not there. Without, as for counting and looking, the
        frames of such a copy are cut to their middle square.
    facs : bool
        Read the action units into ``truth``, where the owners' folder is there.
    transform : callable, optional
        See :class:`~fer_utils.datasets.base.FaceDataset`.

    Returns
    -------
    FaceDataset
        Grey images sorted by name; ``identities`` are the subjects' numbers; ``landmarks_dense`` has 68 points. ``truth``
        has ``name``, ``sequence``, ``frame``, ``facs_coded`` and ``au_<n>``: 0 absent, 0.2 to 1 for the intensities A to E,
        NaN for present with unknown intensity, and NaN in every frame but the last, since only that is coded. Copies have no
        landmarks and no ``truth``, ``ckextended.csv`` no ``identities`` either; ``name`` says so.

    Raises
    ------
    DataError
        If a file is missing, damaged, or not as the owners describe it; or a copy lacks what is asked for.
    ValueError
        For unknown ``frames`` or ``classes``.
    """
    if frames not in FRAMES:
        raise ValueError(f"frames must be one of {', '.join(FRAMES)}, got {frames!r}")
    wanted = pick_classes(classes, CKPLUS.classes, onset=frames == "onset", left_out=_LEFT_OUT)
    base = default_root(root, "ckplus")
    folder = next((place for place in find_folders(base) if _holds(place)), None)
    if folder is None:
        return _load_copy(base, frames, wanted, align, transform)
    images = Source.require(folder, *_IMAGES, expected=_LAYOUT)
    emotions = Source.require(folder, *_EMOTIONS, expected=_LAYOUT)
    chosen = choose_frames(_read_sequences(images, emotions), frames, wanted, emotions.path, _EMOTION_FILES)
    marks_source = Source.find(folder, "Landmarks")
    if marks_source is None and need_landmarks and align is not None:
        expected = "the owners' landmarks, a folder or a .zip, by which faces are aligned; without them load with align=None"
        raise DataError.at(folder / "Landmarks", "not found", expected)
    members = [frame.member for frame in chosen]
    marks = None if marks_source is None else _read_marks(marks_source, chosen)
    if align is None:
        pictures = load_images(images, members, mode="L", hint=" as the first frame; frames of several sizes must be aligned")
    elif marks is None:
        pictures = load_images(images, members, mode="L", size=(align, align), finish=partial(_cut, size=align), recipe=f"middle {align}")
    else:
        five = five_points(marks)
        pictures = load_images(
            images, members, mode="L", size=(align, align), finish=partial(_align, points=five, size=align),
            recipe=f"align {align} {hashlib.sha256(five.tobytes()).hexdigest()}",
        )
        marks = np.stack([warp_points(m, similarity_transform(five_points(m), align)) for m in marks])
    truth = _read_facs(folder, chosen) if facs else None
    lacks = {"Landmarks": "landmarks or alignment"} if marks is None else {}
    lacks |= {"FACS": "action units"} if facs and truth is None else {}
    return make_dataset(
        name_copy("CK+", "", lacks), pictures, chosen, wanted, names=np.array([frame.name for frame in chosen]),
        identities=np.array([int(frame.subject[1:]) for frame in chosen]), landmarks=None if marks is None else five_points(marks),
        landmarks_dense=marks, truth=truth, transform=transform,
    )


def _read_marks(source: Source, chosen: Sequence[Frame]) -> np.ndarray:
    """68 points of each frame."""
    expected = f"{_MARKS} lines 'x y'"
    marks = np.empty((len(chosen), _MARKS, 2))
    for i, frame in enumerate(chosen):
        member = _beside(frame, "landmarks")
        where = source.where(member)
        marks[i] = np.reshape(parse_numbers(source.text(member, expected), where, (2,) * _MARKS, expected), (_MARKS, 2))
        if np.ptp(marks[i], axis=0).min() < 1e-3:
            raise DataError.at(where, "points without extent", expected)
    return marks


def _holds(place: Path) -> bool:
    """Whether the owners' pictures lie here."""
    return any((place / f"{name}{ending}").exists() for name in _IMAGES for ending in ("", ".zip"))


# -- copies ---------------------------------------------------------------------------------------------------------------


def _load_copy(
    base: Path, frames: str, wanted: tuple[str, ...], align: int | None, transform: Callable[[Image.Image], Any] | None
) -> FaceDataset:
    """Read faces that somebody cut out: CK+48 or ckextended.csv."""
    tables = [base] if base.is_file() and base.suffix == ".csv" else [place / _TABLE for place in find_folders(base)]
    table = next((path for path in tables if path.is_file()), None)
    if table is not None:
        return _load_table(table, frames, wanted, align, transform)
    path = next((path for path in (base, Path(f"{base}.zip")) if path.exists()), None)
    if path is None:
        raise DataError.at(base, "no such folder", _LAYOUT)
    source = Source(path, (base.name, base.stem))
    if not any(_CUT.fullmatch(Path(name).stem) for name in source.names):
        raise DataError.at(path, describe_folder(path), _LAYOUT)
    expected = "files like anger/S010_004_00000017.png"
    faces: dict[str, Face] = {}
    for member in list_images(source, _LAYOUT):
        *folders, name = member.split("/")
        match, emotion = _CUT.fullmatch(name.rsplit(".", 1)[0]), read_word(folders[-1]) if folders else ""
        if not match or emotion not in CKPLUS.classes:
            raise DataError.at(source.where(member), "unexpected file", f"{expected}; classes {', '.join(CKPLUS.classes)}")
        if name in faces:
            raise DataError.at(source.where(member), f"comes twice, first as {faces[name].member}", "one picture of a frame")
        faces[name] = Face(member, emotion, subject=match[1])
    if "neutral" in wanted or frames in ("onset", "all"):
        problem = "a copy of the last three frames of each sequence"
        raise DataError.at(path, problem, "whole sequences, in the owners' cohn-kanade-images, for first frames or all of them")
    last: dict[str, list[str]] = {}
    for name in sorted(faces):
        last.setdefault(name.rsplit("_", 1)[0], []).append(name)
    taken = [faces[name] for names in last.values() for name in names[-FRAMES[frames] :]]
    chosen = choose_faces(taken, wanted, path, "picture", expected)
    known = {"names": np.array([face.name for face in chosen]), "identities": np.array([int(face.subject[1:]) for face in chosen])}
    title = name_copy("CK+", "Kaggle's CK+48: cut-out faces", {"Landmarks": "landmarks", "FACS": "action units"})
    return make_dataset(
        title, resize_images(source, [face.member for face in chosen], align, "L"), chosen, wanted, transform=transform, **known
    )


def _load_table(
    table: Path, frames: str, wanted: tuple[str, ...], align: int | None, transform: Callable[[Image.Image], Any] | None
) -> FaceDataset:
    if frames == "all":
        raise DataError.at(table, "a copy of one frame of each sequence", f"whole sequences, in the owners' {_IMAGES[0]}, for all frames")
    rows = read_table(table, _EXTENDED, _USAGES)
    shown = [_EXTENDED.classes[label] for label in rows.labels]
    keep = [i for i, emotion in enumerate(shown) if emotion in (("neutral",) if frames == "onset" else wanted)]
    if not keep:
        raise DataError.at(table, f"no picture of {', '.join(wanted)}", _LAYOUT)
    images = parse_pixels(rows, keep)
    if align is not None:
        images = np.stack([resize_square(image, align) for image in images])
    lacks = {_IMAGES[0]: "people, landmarks or action units"}
    title = name_copy("CK+", f"{table.name}: cut-out faces, a frame of each sequence", lacks)
    return FaceDataset(
        name=title, images=images, labels=np.array([wanted.index(shown[i]) for i in keep], dtype=np.int64), classes=wanted,
        names=np.array([f"{table.name}#{rows.lines[i]}" for i in keep], dtype=np.str_),
        split=np.array([rows.split[i] for i in keep], dtype=np.str_), transform=transform,
    )


def five_points(marks: np.ndarray) -> np.ndarray:
    """Eye centres, nose tip and mouth corners ``[..., 5, 2]`` from 68 points ``[..., 68, 2]``, in the points' unit."""
    eyes = [marks[..., 36:42, :].mean(-2), marks[..., 42:48, :].mean(-2)]
    return np.stack([*eyes, *(marks[..., i, :] for i in (30, 48, 54))], axis=-2)


def _read_sequences(images: Source, emotions: Source) -> list[list[Frame]]:
    """List the frames of each labelled sequence, up to the one that the emotion file names."""
    by_sequence: dict[tuple[str, str], list[int]] = {}
    digits: dict[tuple[str, str], int] = {}
    for name in images.names:
        match = _SEQUENCE.fullmatch(name)
        if match and match[4] == ".png":
            by_sequence.setdefault((match[1], match[2]), []).append(int(match[3]))
            digits[match[1], match[2]] = len(match[3])
    expected = f"one number, {CKPLUS.codes[0]} to {CKPLUS.codes[-1]}"
    sequences = []
    seen = set()
    for name in emotions.names:
        match = _SEQUENCE.fullmatch(name)
        if not match or match[4] != "_emotion.txt":
            raise DataError.at(emotions.where(name), "unexpected file", _EMOTION_FILES)
        where, key, apex = emotions.where(name), (match[1], match[2]), int(match[3])
        (code,) = parse_numbers(emotions.text(name, expected), where, (1,), expected)
        if code not in CKPLUS.codes:
            raise DataError.at(where, f"label {code:g}", expected, line=1)
        if key in seen:
            raise DataError.at(where, f"a second label of sequence {key[0]}_{key[1]}", "one emotion file a sequence")
        seen.add(key)
        numbers = sorted(n for n in by_sequence.get(key, ()) if n <= apex)
        folder = f"{key[0]}/{key[1]}/{key[0]}_{key[1]}_"
        if not numbers or numbers[-1] != apex:
            raise DataError.at(images.where(f"{folder}{match[3]}.png"), "not found", f"an image, because {where} labels it")
        members = {n: f"{folder}{n:0{digits[key]}d}.png" for n in numbers}
        sequences.append(make_sequence(images, members, key[0], "_".join(key), CKPLUS.decode(int(code))))
    return sequences


def _beside(frame: Frame, what: str) -> str:
    """The text file of a frame, which goes by the name of its image."""
    return f"{frame.member.removesuffix('.png')}_{what}.txt"


def _cut(frame: np.ndarray, i: int, size: int) -> np.ndarray:
    """The middle square of a frame whose face nobody marked."""
    height, width = frame.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return resize_square(frame[top : top + side, left : left + side], size)


def _align(frame: np.ndarray, i: int, points: np.ndarray, size: int) -> np.ndarray:
    """Align a grey frame whose border goes on outside it; a large face is shrunk first, so that no detail aliases."""
    image = np.pad(frame, _BORDER, mode="edge")
    five = points[i] + _BORDER
    factor = int(1 / similarity_transform(five, size).scale)
    if factor > 1:
        image = np.asarray(Image.fromarray(image).reduce(factor))
        five = (five + 0.5) / factor - 0.5
    return align_face(image, five, size)


def _read_facs(folder: Path, chosen: Sequence[Frame]) -> pd.DataFrame | None:
    """Make the truth table of some frames, or None where there are no FACS files."""
    source = Source.find(folder, "FACS", "FACS_labels")
    if source is None:
        return None
    expected = "lines of an action unit and its intensity, 0 to 5"
    coded: dict[int, dict[int, float]] = {}
    for i, frame in enumerate(chosen):
        member = _beside(frame, "facs")
        if frame.last and member in source:
            where, units = source.where(member), {}
            text = source.text(member, expected)
            numbers = parse_numbers(text, where, (2,) * sum(bool(line.strip()) for line in text.splitlines()), expected)
            for unit, intensity in zip(numbers[::2], numbers[1::2], strict=True):
                if unit != int(unit) or unit < 1 or not 0 <= intensity <= 5:
                    raise DataError.at(where, f"unit {unit:g} of intensity {intensity:g}", expected)
                units[int(unit)] = intensity / 5 if intensity else np.nan
            coded[i] = units
    table = list_frames(chosen, [frame.name for frame in chosen])
    table["facs_coded"] = [i in coded for i in range(len(chosen))]
    for unit in sorted({unit for units in coded.values() for unit in units}):
        table[f"au_{unit}"] = np.array([coded[i].get(unit, 0.0) if i in coded else np.nan for i in range(len(chosen))], dtype=np.float32)
    return table

"""What datasets share that are folders of pictures: class folders, file names that tell a class, several folders as one."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..errors import DataError, printable
from ..labels import ADJECTIVES
from .base import FaceDataset
from .decoding import SUFFIXES, name_picture
from .images import PendingImages, load_images, resize_square
from .source import Source, is_junk

__all__ = [
    "SPLITS", "Face", "Parts", "choose_faces", "describe_folder", "find_folders", "list_images", "make_dataset", "name_copy",
    "open_source", "pick_classes", "read_word", "resize_images", "scan_classes", "scan_names", "scan_parts",
]

# Files of data beside the pictures are often as many as these; they are not looked into.
_NO_PICTURES = (".txt", ".csv", ".json", ".xml", ".npy", ".pts")
#: Names of parts, and what we call them.
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "testing": "test"}
#: Classes that 6, 7 and 8 leave out.
_LEFT_OUT = {6: ("neutral", "contempt"), 7: ("contempt",), 8: ()}


@dataclass(frozen=True)
class Face:
    """One picture of a folder, and what its place or its line in a table says.

    Attributes
    ----------
    member : str
        Path within the source.
    emotion : str
        Class name.
    split : str
        ``"train"``, ``"val"``, ``"test"`` or ``"none"``.
    subject : str
        Who is shown; empty where nothing says it.
    """

    member: str
    emotion: str
    split: str = "none"
    subject: str = ""

    @property
    def name(self) -> str:
        """File name without folder."""
        return self.member.rsplit("/", 1)[-1]


F = TypeVar("F", bound=Face)


def open_source(path: Path, layout: str) -> Source:
    """Open a folder, or the zip archive of that name. Raises ``DataError`` if neither is there.

    Parameters
    ----------
    path : Path
    layout : str
        What was expected, for the error.
    """
    for found in (path, path.with_name(f"{path.name}.zip")) if path.name else (path,):
        if os.path.exists(found):
            # an archive of train and test may go by the name of one of them
            return Source(found, [stem for stem in (path.name, path.stem) if stem.lower() not in SPLITS] or [""])
    raise DataError.at(path, "no such folder, and no .zip of that name", layout)


def _check_name(source: Source, member: str) -> None:
    try:
        member.encode()
    except UnicodeEncodeError as error:  # such a name can be neither printed nor stored, so that no error could tell of it later
        raise DataError.at(source.where(member), "a name that is not UTF-8", "file names in UTF-8") from error


def find_folders(root: Path) -> list[Path]:
    """A folder and those in it, by name, in which a copy may lie one deeper; none if it is no folder."""
    if not root.is_dir():
        return []
    return [root, *sorted(path for path in root.iterdir() if path.is_dir() and not is_junk(path.name))]


def describe_folder(path: Path) -> str:
    """What a folder or archive that no loader knows looks like, in a few words, for errors."""
    if not os.path.exists(path):
        return "not found"
    if path.is_dir():
        names = sorted(entry.name + "/" * entry.is_dir() for entry in os.scandir(path) if not entry.name.startswith("."))
    else:
        names = Source(path).names
    shown = ", ".join(name if len(name) <= 60 else f"{name[:57]}..." for name in names[:6])
    return f"an unknown layout, with {shown or 'nothing'}{f' and {len(names) - 6} more' if len(names) > 6 else ''}"


def name_copy(title: str, copy: str, lacks: dict[str, str] | None = None) -> str:
    """Name a dataset after the copy that was read: what it is, and which file is missing for what it does not tell.

    The name stands in what is printed and in the error of an experiment that needs what is not there.

    Parameters
    ----------
    title : str
        Of the dataset.
    copy : str
        Such as ``"Kaggle's copy: aligned pictures"``; empty for the owners' own layout.
    lacks : dict of str to str, optional
        File or folder, and what is unknown without it.
    """
    said = [copy] * bool(copy) + [f"without {file} no {what}" for file, what in (lacks or {}).items()]
    return f"{title} ({'; '.join(said)})" if said else title


def list_images(source: Source, layout: str, suffixes: tuple[str, ...] = SUFFIXES) -> list[str]:
    """List the pictures of a source, sorted.

    Parameters
    ----------
    source : Source
    layout : str
        What the source should look like, for errors.
    suffixes : tuple of str
        What the name of a picture may end in, in lower case.

    Returns
    -------
    list of str
        Paths within the source.

    Raises
    ------
    DataError
        If there is none, or one has a name that is not UTF-8.

    Warns
    -----
    UserWarning
        If other files are pictures by their first bytes.
    """
    members = [name for name in source.names if name.lower().endswith(suffixes)]
    for member in members:
        _check_name(source, member)
    _warn_of_others(source, suffixes)
    if not members:
        raise DataError.at(source.path, "no images", layout)
    return members


def _warn_of_others(source: Source, suffixes: tuple[str, ...]) -> None:
    """Say which pictures are left out because of their names: an iPhone's ``.heic``, or no ending at all."""
    others = [name for name in source.names if not name.lower().endswith((*suffixes, *_NO_PICTURES))]
    found = [(name, kind) for name in others if (kind := name_picture(source.read_start(name)))]
    if found:
        name, kind = found[0]
        number = "a picture is" if len(found) == 1 else f"{len(found)} pictures are"
        text = f"{number} left out, first {source.where(name)} ({kind}); give each an ending such as .jpg, or save it as JPEG or PNG"
        warnings.warn(printable(f"{source.path}: {text}"), stacklevel=3)


def scan_classes(source: Source, known: Sequence[str], layout: str) -> list[Face]:
    """Read the labels of pictures off their folders.

    Parameters
    ----------
    source : Source
        With pictures in ``<class>/`` or ``<train, val or test>/<class>/``.
    known : sequence of str
        The class names there are.
    layout : str
        What the source should look like, for errors.

    Returns
    -------
    list of Face
        Sorted by path.

    Raises
    ------
    DataError
        If a picture lies in no class, in an unknown one, outside the parts although there are some, or twice in one class.
    """
    faces, seen = [], set()
    for member in list_images(source, layout):
        *folders, name = member.split("/")
        split = SPLITS.get(folders[0].lower(), "none") if folders else "none"
        if split != "none":
            del folders[0]
        if len(folders) != 1:
            raise DataError.at(source.where(member), "an image in no class folder", layout)
        emotion = read_word(folders[0])
        if emotion not in known:
            raise DataError.at(source.where(member), f"class {folders[0]!r}", f"one of {', '.join(known)}")
        if (split, emotion, name) in seen:
            raise DataError.at(source.where(member), f"comes twice, as {emotion} in two folders", "one folder a class")
        seen.add((split, emotion, name))
        faces.append(Face(member, emotion, split))
    loose = next((face for face in faces if face.split == "none"), None)
    if loose is not None and any(face.split != "none" for face in faces):
        raise DataError.at(source.where(loose.member), "in no part, though others are", layout)
    return faces


def scan_parts(source: Source, parts: dict[str, str], expected: str) -> list[tuple[str, str, str]]:
    """Find pictures in ``<part>/<class>/``, wherever those lie.

    Parameters
    ----------
    source : Source
        Other pictures are left alone, but not below a part.
    parts : dict of str to str
        Names of parts in lower case, and what we call them.
    expected : str
        What the path of a picture looks like, for errors.

    Returns
    -------
    list of (str, str, str)
        Path within the source, part as we call it, and name of the class folder, sorted by path; empty if there is no part.

    Raises
    ------
    DataError
        If a file lies elsewhere in a part, or there are two such trees.
    """
    found = []
    above: str | None = None
    for member in source.names:
        *folders, name = member.split("/")
        place = next((i for i, folder in enumerate(folders) if folder.lower() in parts), None)
        if place is None:
            continue
        if place != len(folders) - 2 or not name.lower().endswith(SUFFIXES):
            raise DataError.at(source.where(member), "unexpected file", expected)
        _check_name(source, member)
        prefix = "/".join(folders[:place])
        if above not in (None, prefix):
            raise DataError.at(source.path, f"two copies, in {above or 'the folder itself'} and in {prefix}", "one of them")
        above = prefix
        found.append((member, parts[folders[place].lower()], folders[-1]))
    return found


def scan_names(source: Source, pattern: re.Pattern[str], expected: str, layout: str) -> Iterator[tuple[str, re.Match[str]]]:
    """Go through pictures whose names say what they show.

    Parameters
    ----------
    source : Source
        With pictures at any depth.
    pattern : re.Pattern
        What the whole of a file name matches, without its ending.
    expected, layout : str
        What a name, and the source, should look like, for errors.

    Yields
    ------
    (str, re.Match)
        Path within the source, and the match, in the order of the paths.

    Raises
    ------
    DataError
        If there is no picture, or one has another name.
    """
    for member in list_images(source, layout):
        match = pattern.fullmatch(member.rsplit("/", 1)[-1].rsplit(".", 1)[0])
        if not match:
            raise DataError.at(source.where(member), "unknown name", expected)
        yield member, match


def choose_faces(faces: Iterable[F], wanted: Sequence[str], where: object, what: str, layout: str) -> list[F]:
    """Take the faces of some classes. Raises ``DataError`` if there is none.

    Parameters
    ----------
    faces : iterable of Face
    wanted : sequence of str
        Class names.
    where, what, layout
        For the error: folder or file, what is missing (``"images"``), and what was expected.
    """
    chosen = [face for face in faces if face.emotion in wanted]
    if not chosen:
        raise DataError.at(where, f"no {what} of {', '.join(wanted)}", layout)
    return chosen


def make_dataset(title: str, images: PendingImages, faces: Sequence[Face], classes: Sequence[str], **known: Any) -> FaceDataset:
    """Put a dataset together.

    Parameters
    ----------
    title : str
    images : PendingImages
        Of the faces, in their order.
    faces : sequence of Face
    classes : sequence of str
        With the emotion of every face.
    **known
        Other fields of :class:`~fer_utils.datasets.base.FaceDataset`. ``names`` are paths by default.
    """
    known = {"names": np.array([face.member for face in faces], dtype=np.str_)} | known
    return FaceDataset(
        name=title, images=images, labels=np.array([classes.index(face.emotion) for face in faces], dtype=np.int64), classes=tuple(classes),
        split=np.array([face.split for face in faces], dtype=np.str_), **known,
    )


def pick_classes(
    classes: int | Sequence[str], offered: Sequence[str], *, onset: bool = False, left_out: dict[int, tuple[str, ...]] = _LEFT_OUT
) -> tuple[str, ...]:
    """Choose classes by number or by name.

    Parameters
    ----------
    classes : {6, 7, 8} or sequence of str
        The 6 basic emotions; 7 with neutral; 8 with contempt too. Or names, in the order that the labels shall have.
    offered : sequence of str
        What the dataset has.
    onset : bool
        Only first frames of sequences are asked for, which are neutral: a number then adds neutral.
    left_out : dict of int to tuple of str
        Which classes each number leaves out, where a dataset counts otherwise.

    Returns
    -------
    tuple of str

    Raises
    ------
    ValueError
        For a number or a name that the dataset does not offer, or names without neutral with ``onset``.
    """
    if isinstance(classes, int):
        chosen = tuple(name for name in offered if name not in left_out.get(classes, offered))
        if len(chosen) != classes:
            raise ValueError(f"classes must be {', '.join(str(n) for n in left_out if n <= len(offered))} or names, got {classes}")
        return (*chosen, "neutral") if onset and "neutral" not in chosen else chosen
    if isinstance(classes, str) or not classes or len(set(classes)) != len(classes) or set(classes) - set(offered):
        raise ValueError(f"classes must be different names of {', '.join(offered)}, got {classes!r}")
    if onset and "neutral" not in classes:
        raise ValueError(f"first frames are neutral: classes must have neutral with frames='onset', got {classes!r}")
    return tuple(classes)


def resize_images(source: Source, members: Sequence[str], size: int | None, mode: str) -> PendingImages:
    """Prepare pictures, resized to squares where ``size`` is given.

    Parameters
    ----------
    source : Source
    members : sequence of str
        Paths within the source.
    size : int, optional
        Side in pixels; without it all pictures must be of one size.
    mode : {"RGB", "L"}

    Returns
    -------
    PendingImages
        See :func:`~fer_utils.datasets.images.load_images`.

    Raises
    ------
    ValueError
        For a ``size`` below 1 or another ``mode``.
    """
    if mode not in ("RGB", "L"):
        raise ValueError(f"mode must be 'RGB' or 'L', got {mode!r}")
    if size is None:
        return load_images(source, members, mode=mode, hint=" as the first image; pass size to resize them all")
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    return load_images(source, members, mode=mode, size=(size, size), finish=partial(_resize, size=size), recipe=f"lanczos {size}")


def _resize(image: np.ndarray, _: int, size: int) -> np.ndarray:
    return resize_square(image, size)


class Parts(Source):
    """Several sources as one; the files of each lie below the name of its part.

    Parameters
    ----------
    path : Path
        The folder that holds them, for errors.
    parts : dict of str to Source
    """

    def __init__(self, path: Path, parts: dict[str, Source]) -> None:
        self.path, self._parts = path, parts

    @cached_property
    def names(self) -> list[str]:
        """Paths of the files, sorted, each below its part."""
        return sorted(f"{part}/{name}" for part, source in self._parts.items() for name in source.names)

    def __contains__(self, name: str) -> bool:
        part, _, rest = name.partition("/")
        return part in self._parts and rest in self._parts[part]

    def where(self, name: str) -> str:
        """How errors call a file."""
        part, _, rest = name.partition("/")
        return self._parts[part].where(rest) if part in self._parts else str(self.path / name)

    def files(self, names: Sequence[str]) -> list[Path]:
        """The files on disk behind some names, part by part."""
        inside: dict[str, list[str]] = {}
        for name in names:
            part, _, rest = name.partition("/")
            inside.setdefault(part, []).append(rest)
        return [file for part, rests in inside.items() for file in self._parts[part].files(rests)]

    def read_start(self, name: str) -> bytes:
        """The first bytes of a file; none of one that cannot be read."""
        part, _, rest = name.partition("/")
        return self._parts[part].read_start(rest)

    def read(self, name: str, expected: str = "a readable file") -> bytes:
        """As :meth:`Source.read`, of ``<part>/<path>``."""
        if name not in self:
            raise DataError.at(self.where(name), "not found", expected)
        part, _, rest = name.partition("/")
        return self._parts[part].read(rest, expected)


def read_word(word: str) -> str:
    """The noun of an emotion in any case, as noun or adjective; other words in lower case."""
    word = word.strip().lower()
    return ADJECTIVES.get(word, word)

"""What the book's networks say of faces in any photograph, and how far to trust it: ``ferbook read``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..errors import DataError
from .methods import METHODS, Calibration, Method, load_calibration
from .page import ReadPhoto, shrink_photo, write_page
from .photographs import FoundFace, crop_face, find_faces, list_photographs, take_frame
from .reader import FaceReading, PhotoReader

__all__ = [
    "METHODS",
    "Calibration",
    "FaceReading",
    "FoundFace",
    "Method",
    "PhotoReader",
    "ReadPhoto",
    "crop_face",
    "find_faces",
    "list_photographs",
    "load_calibration",
    "read_photographs",
    "take_frame",
    "write_page",
]


def read_photographs(photo: Path | None, camera: int | None, out: Path, say: Callable[[str], None]) -> list[ReadPhoto]:
    """Read a photograph, a folder of them or one frame of a camera, and write the page.

    Parameters
    ----------
    photo : Path or None
        A photograph, or a folder or zip archive of photographs.
    camera : int or None
        Looked through where there is no ``photo``.
    out : Path
        The page.
    say : callable
        Told in one line each what is left out, what could not be read, and how many faces there are.

    Returns
    -------
    list of ReadPhoto
        What stands on the page.

    Raises
    ------
    DataError
        If there is no photograph, or nothing of it can be read.
    ModuleNotFoundError
        If the extra ``detect`` is not installed.
    """
    pictures = [("camera", take_frame(camera or 0))] if photo is None else list_photographs(photo)
    reader: PhotoReader | None = None
    notes: list[str] = []
    photos = []

    def note(text: str) -> None:
        notes.append(text)
        say(f"left out: {text}")

    for name, picture in pictures:
        if isinstance(picture, DataError):
            say(f"left out: {picture}")
            photos.append(ReadPhoto(name, np.empty((0, 0, 3), np.uint8), problem=str(picture)))
            continue
        faces = find_faces(picture)
        if faces and reader is None:  # a picture without faces asks no network
            reader = PhotoReader(note)
        crops = np.array([crop_face(picture, face) for face in faces], dtype=np.uint8)
        readings = reader.read(crops) if reader is not None else []
        size = (picture.shape[1], picture.shape[0])
        photos.append(ReadPhoto(name, shrink_photo(picture), list(zip(faces, readings, strict=True)), size=size))
        say(f"{name}: {len(faces)} face{'' if len(faces) == 1 else 's'}")
    if all(one.problem for one in photos):
        raise DataError.at(
            photo, f"none of the pictures in it can be read ({len(photos)} tried), first {photos[0].problem}", "photographs"
        )
    write_page(photos, load_calibration(), notes, out)
    return photos

"""Any photograph: decoded, searched for faces however they are turned, and each cropped as the networks know them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
from PIL import Image

from ..datasets.decoding import decode_image
from ..datasets.layouts import list_images
from ..datasets.source import MAX_MEMBER_BYTES, Source
from ..detect import detect_faces
from ..errors import DataError
from ..files import read_regular
from ..preprocess import align_face, similarity_transform

__all__ = ["FoundFace", "crop_face", "find_faces", "list_photographs", "take_frame"]

#: Of what one page can hold.
MOST = 300
_LAYOUT = "a photograph, or a folder (or a .zip of it) of photographs"
# The detector looks for faces of 20 pixels and more in pictures whose longer side is within these.
_SMALLEST, _SHORTEST, _LONGEST = 20, 640, 1280
#: MTCNN finds a face that is turned by 20 degrees; between these it sees any.
_ANGLES = range(0, 360, 45)
#: Its own 0.7 is for pictures known to hold a face; here many hold none, and each is looked at eight times.
_CERTAIN = 0.95
#: Share of the smaller of two squares above which both are one face.
_SAME = 0.4


@dataclass(frozen=True)
class FoundFace:
    """A face in a photograph.

    Attributes
    ----------
    points : float32 ``[5, 2]``
        Eyes, nose tip and mouth corners, as they are in the face once it is upright.
    corners : float64 ``[4, 2]``
        Of the square that the networks see, in the photograph, clockwise from the face's top left.
    certainty : float
        The detector's, that this is a face.
    """

    points: np.ndarray
    corners: np.ndarray
    certainty: float

    @property
    def side(self) -> float:
        """Of the square, in pixels of the photograph."""
        return float(np.linalg.norm(self.corners[1] - self.corners[0]))

    @property
    def turn(self) -> float:
        """How far the face is turned in the picture, in degrees from -180 to 180, clockwise."""
        right, down = self.corners[1] - self.corners[0]
        return float(np.degrees(np.arctan2(down, right)))


def list_photographs(path: Path) -> Iterator[tuple[str, np.ndarray | DataError]]:
    """Decode a photograph, or each of a folder or zip archive.

    Parameters
    ----------
    path : Path

    Yields
    ------
    str
        Name.
    uint8 ``[H, W, 3]`` or DataError
        The picture; of a folder, why one could not be read.

    Raises
    ------
    DataError
        If there is nothing, the only photograph cannot be read, or there are more than a page can hold.
    """
    if not path.exists():
        raise DataError.at(path, "not found", _LAYOUT)
    if path.is_file() and path.suffix.lower() != ".zip":
        try:
            content = read_regular(path, MAX_MEMBER_BYTES)
        except OSError as error:
            raise DataError.at(path, f"cannot be read ({error.strerror or error})", _LAYOUT) from error
        yield path.name, decode_image(content, path, "RGB")
        return
    source = Source(path, (path.stem,))
    with warnings.catch_warnings(record=True) as others:
        warnings.simplefilter("always")
        members = list_images(source, _LAYOUT)
    for other in others:  # pictures that are left out because of their names
        yield path.name, DataError(str(other.message))
    if len(members) > MOST:
        raise DataError.at(path, f"{len(members):,} pictures", f"at most {MOST}, which one page can hold")
    for member in members:
        try:
            yield member, decode_image(source.read(member, "a photograph"), source.where(member), "RGB")
        except DataError as error:
            yield member, error


def take_frame(camera: int = 0) -> np.ndarray:
    """Take one picture with a camera of this machine: uint8 ``[H, W, 3]``.

    Raises
    ------
    DataError
        If there is no such camera, or it gives no picture.
    ModuleNotFoundError
        If the extra ``detect`` is not installed.
    """
    try:
        cv2 = import_module("cv2")
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "a camera needs the extra 'detect' (cv2 is missing): pip install 'fer-utils[detect]'"
        ) from None
    device = cv2.VideoCapture(camera)
    try:
        frame = None
        for _ in range(10):  # the first are dark: a camera finds its exposure in them
            taken, picture = device.read()
            frame = picture if taken else frame
    finally:
        device.release()
    if frame is None:
        raise DataError.at(
            f"camera {camera}", "gives no picture", "a camera that OpenCV can open, and that nothing else uses"
        )
    return np.ascontiguousarray(frame[..., ::-1])


def find_faces(image: np.ndarray) -> list[FoundFace]:
    """Find the faces of a photograph, upright or turned by any angle, in reading order: by rows, then from the left.

    Parameters
    ----------
    image : uint8 ``[H, W, 3]``

    Raises
    ------
    ModuleNotFoundError
        If the extra ``detect`` is not installed.
    """
    height, width = image.shape[:2]
    longest = max(height, width)
    scale = min(max(longest, _SHORTEST), _LONGEST) / longest
    size = max(round(width * scale), _SMALLEST), max(round(height * scale), _SMALLEST)
    seen = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
    found: list[FoundFace] = []
    for angle in _ANGLES:
        turned = seen.rotate(angle, Image.Resampling.BICUBIC, expand=True)
        _, scores, points = detect_faces(np.asarray(turned), "mtcnn", min_size=_SMALLEST, min_score=_CERTAIN)
        assert points is not None
        for five, score in zip(points, scores.tolist(), strict=True):
            back = _turn_back(five, angle, turned.size, size) * (width / size[0], height / size[1])
            face = _place(back.astype(np.float32), score)
            if face is not None:
                found.append(face)
    kept: list[FoundFace] = []
    for face in sorted(found, key=lambda face: -face.certainty):
        if all(_share(face, other) <= _SAME for other in kept):
            kept.append(face)
    return _sort(kept)


def _turn_back(points: np.ndarray, angle: float, turned: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Points of a picture that Pillow turned by an angle, in the picture as it was; both turn about their middles."""
    x, y = (points - np.array(turned) / 2).T
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return np.stack([cosine * x - sine * y, sine * x + cosine * y], axis=1) + np.array(size) / 2


def _place(points: np.ndarray, score: float) -> FoundFace | None:
    """The face of five points; None where no square fits them."""
    if not np.isfinite(points).all() or np.ptp(points, axis=0).max() < 1:
        return None
    corners = similarity_transform(points).inverse(np.array([[0, 0], [100, 0], [100, 100], [0, 100]], dtype=float))
    return FoundFace(points, corners, score)


def _share(a: FoundFace, b: FoundFace) -> float:
    """How much of the smaller of two faces lies in the other, by upright squares about their middles."""
    gap = np.abs(a.corners.mean(0) - b.corners.mean(0))
    smaller = min(a.side, b.side)
    return float(np.clip((a.side + b.side) / 2 - gap, 0, smaller).prod() / smaller**2)


def _sort(faces: list[FoundFace]) -> list[FoundFace]:
    rows: list[list[FoundFace]] = []
    for face in sorted(faces, key=lambda face: face.corners[:, 1].mean()):
        middle = face.corners[:, 1].mean()
        if rows and middle - rows[-1][0].corners[:, 1].mean() < max(rows[-1][0].side, face.side) / 2:
            rows[-1].append(face)
        else:
            rows.append([face])
    return [face for row in rows for face in sorted(row, key=lambda face: face.corners[:, 0].mean())]


def crop_face(image: np.ndarray, face: FoundFace, size: int = 100) -> np.ndarray:
    """Cut a face out, upright, as FACSynth's are: uint8 ``[size, size, 3]``.

    A large face is made smaller first, by averages: alignment alone would pick single pixels out of it.

    Parameters
    ----------
    image : uint8 ``[H, W, 3]``
    face : FoundFace
        In pixels of ``image``.
    size : int
        Side of the result.
    """
    margin = face.side / 4
    low = np.maximum(np.floor(face.corners.min(0) - margin), 0).astype(int)
    high = np.minimum(np.ceil(face.corners.max(0) + margin), image.shape[1::-1]).astype(int)
    low, high = np.minimum(low, high - 1), np.maximum(high, low + 1)
    part, points = Image.fromarray(image[low[1] : high[1], low[0] : high[0]]), face.points - low
    if face.side > size:
        smaller = np.maximum(np.rint(np.array(part.size) * size / face.side), 1).astype(int)
        points = points * (smaller / part.size)
        part = part.resize((int(smaller[0]), int(smaller[1])), Image.Resampling.LANCZOS)
    return align_face(np.asarray(part), points, size)

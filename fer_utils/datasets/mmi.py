"""MMI (Pantic et al. 2005; Valstar & Pantic 2010): posed expressions that run from neutral to the apex and back.

``Sessions/<number>/`` holds a video such as ``S001-001.avi``, or its frames as images; ``S001-001.xml`` with
``<Metatag Name="Emotion" Value="6"/>`` (1 anger, 2 disgust, 3 fear, 4 happiness, 5 sadness, 6 surprise); and ``session.xml`` with the
subject and the view. Access is asked for from the owners (https://mmifacedb.eu).

Not documented, and assumed: the apex is in the middle of a sequence, as papers do it, and its first frame is neutral. Sessions without an
emotion tag (coded in action units only), with a code above 6 (other displays), or with a single picture (stills) are left out. A subject is
the ``ID`` of a ``<Subject>``, or else the ``S001`` of a file name. A view of 0 is frontal, 1 a profile, and 2 both side by side, by a
mirror.
"""

from __future__ import annotations

import os
import re
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import DataError
from ..labels import MMI
from .base import FaceDataset
from .decoding import SUFFIXES
from .layouts import list_images, make_dataset, pick_classes, resize_images
from .sequences import FRAMES, Frame, choose_frames, list_frames, make_sequence
from .source import Source, find_root

__all__ = ["load"]

_VIDEO_FRAME = re.compile(r"(.*\.avi)#(\d+)", re.IGNORECASE | re.DOTALL)
_NUMBER = re.compile(r"(?<![0-9])([0-9]{1,18})\D*$")
_SUBJECT = re.compile(r"[Ss]?0*(\d{1,18})", re.ASCII)
_LAYOUT = (
    "a folder with Sessions (a folder or a .zip), and in it folders like 1767 with session.xml, S001-001.xml and S001-001.avi (or its "
    "frames as images); MMI is not public: ask its owners for access at https://mmifacedb.eu"
)


def load(
    root: str | os.PathLike[str] | None = None,
    *,
    frames: str = "apex3",
    classes: int | Sequence[str] = 6,
    size: int | None = None,
    mode: str = "RGB",
    transform: Callable[[Image.Image], Any] | None = None,
) -> FaceDataset:
    """Read the sequences that are labelled with one of the six basic emotions.

    Parameters
    ----------
    root : path, optional
        The folder that holds ``Sessions``, zipped or unzipped; ``mmi`` in :func:`~fer_utils.files.data_root` by default.
    frames : {"apex1", "apex3", "onset"}
        Of each sequence the middle frame, the middle three, or only the first, which is neutral.
    classes : {6, 7} or sequence of str
        The 6 basic emotions; 7 with neutral. Or names, in the order that the labels shall have. With neutral the first frame of
        each sequence of the other classes is added (all first frames, if neutral is alone); ``"onset"`` adds neutral to 6.
    size : int, optional
        Side to which the images are resized; without it all must be of one size.
    mode : {"RGB", "L"}
        Colour or grey.
    transform : callable, optional
        See :class:`~fer_utils.datasets.base.FaceDataset`.

    Returns
    -------
    FaceDataset
        Sorted by session and frame; ``identities`` are the subjects' numbers. ``names`` are like ``1767_S001-001.avi#35``, which is
        frame 35 of a video, from 0. ``truth`` has ``name``, ``sequence`` (the session), ``frame`` and ``view`` (-1 where nothing
        says it): ``faces.subset(faces.truth["view"] == 0)`` takes the frontal ones.

    Raises
    ------
    DataError
        If the folder is missing, or a session is damaged, has no frames or subject, or has fewer than four frames.
    ImportError
        If there is a video and OpenCV is not installed.
    ValueError
        For unknown ``frames``, ``classes``, ``size`` or ``mode``.
    """
    offered = [name for name in FRAMES if name != "all"]
    if frames not in offered:
        raise ValueError(f"frames must be one of {', '.join(offered)}, got {frames!r}")
    wanted = pick_classes(classes, (*MMI.classes, "neutral"), onset=frames == "onset")
    source = _Sessions.require(find_root(root, "mmi", _LAYOUT), "Sessions", expected=_LAYOUT)
    for member in list_images(source, _LAYOUT, (*SUFFIXES, ".avi")):
        if "/" not in member:
            raise DataError.at(source.where(member), "an image or a video in no session", "a folder a session")
    sessions: dict[str, list[str]] = {}
    for name in source.names:
        sessions.setdefault(name.partition("/")[0], []).append(name)
    views: dict[str, int] = {}
    sequences = []
    for session in sorted(sessions, key=lambda text: (len(text), text)):
        sequence, views[session] = _read_session(source, session, sessions[session])
        if sequence:
            middle = len(sequence) // 2
            sequences.append(sequence[: middle + 1 + FRAMES[frames] // 2])
    chosen = choose_frames(sequences, frames, wanted, source.path, _LAYOUT)
    names = [f"{frame.sequence}_{frame.name}" for frame in chosen]
    truth = list_frames(chosen, names)
    truth["view"] = [views[frame.sequence] for frame in chosen]
    return make_dataset(
        "MMI", resize_images(source, [frame.member for frame in chosen], size, mode), chosen, wanted, names=np.array(names),
        identities=np.array([int(frame.subject) for frame in chosen]), truth=truth, transform=transform,
    )


class _Sessions(Source):
    """The sessions, of whose videos single frames can be read as images: ``1767/S001-001.avi#35``."""

    def __contains__(self, name: str) -> bool:
        return super().__contains__(_split(name)[0])

    def where(self, name: str) -> str:
        video, frame = _split(name)
        return super().where(video) + ("" if frame is None else f"#{frame}")

    def files(self, names: Sequence[str]) -> list[Path]:
        return super().files([_split(name)[0] for name in names])

    def read(self, name: str, expected: str = "a readable file") -> bytes:
        video, frame = _split(name)
        if frame is None:
            return super().read(name, expected)
        with self.open_video(video) as (cv2, capture):
            # Jumping to a frame is inexact in most codecs, so go there step by step.
            found = all(capture.grab() for _ in range(frame + 1))
            found, image = capture.retrieve() if found else (False, None)
            if not found:
                raise DataError.at(self.where(name), "this frame cannot be decoded", "a whole video")
            return cv2.imencode(".bmp", image)[1].tobytes()

    @contextmanager
    def open_video(self, name: str) -> Iterator[tuple[Any, Any]]:
        """Open a video: OpenCV, and its reader, which takes only files."""
        try:
            import cv2
        except ImportError as error:
            raise ImportError(f"{self.where(name)}: to read a video, install OpenCV: pip install opencv-python-headless") from error
        with tempfile.TemporaryDirectory() as folder:
            path = self.files([name])[0]
            if self._zipped:
                path = Path(folder) / "video.avi"
                path.write_bytes(self.read(name, "a video"))
            capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
            try:
                if not capture.isOpened():
                    raise DataError.at(self.where(name), "cannot be opened as a video", "a whole video")
                yield cv2, capture
            finally:
                capture.release()


def _split(name: str) -> tuple[str, int | None]:
    match = _VIDEO_FRAME.fullmatch(name)
    return (match[1], int(match[2])) if match else (name, None)


def _read_session(source: _Sessions, session: str, names: Sequence[str]) -> tuple[list[Frame], int]:
    """Make the frames of one session, none if it is not of the six emotions, and its view."""
    found: dict[str, tuple[str, str]] = {}
    for name in names:
        for key, value in _read_tags(source, name) if name.lower().endswith(".xml") else ():
            if found.setdefault(key, (value, name))[0] != value and key != "view":  # several tracks may have several views
                raise DataError.at(source.where(name), f"{key} {value!r}", f"{key} {found[key][0]!r}, as {found[key][1]} says")
    if "emotion" not in found:
        return [], -1
    code, name = found["emotion"]
    if not re.fullmatch(r"0*[1-9]\d{0,8}", code, re.ASCII):
        raise DataError.at(source.where(name), f"emotion {code!r}", f"a code from {MMI.codes[0]} to {MMI.codes[-1]}, or one above")
    if int(code) not in MMI.codes:
        return [], -1
    view, name = found.get("view", ("-1", ""))
    if not re.fullmatch(r"-?\d{1,9}", view, re.ASCII):
        raise DataError.at(source.where(name), f"view {view!r}", "a whole number")
    members = _list_frames(source, session, names)
    if len(members) == 1:
        return [], -1
    first = members[min(members)]
    subject, name = found.get("subject", (first.rsplit("/", 1)[-1].split("-")[0], first))
    match = _SUBJECT.fullmatch(subject)
    if not match:
        raise DataError.at(source.where(name), f"subject {subject!r}", "a number, as <Subject ID> or in a name like S001-001")
    return make_sequence(source, members, match[1], session, MMI.decode(int(code))), int(view)


def _read_tags(source: Source, name: str) -> Iterator[tuple[str, str]]:
    """What an XML file says of the emotion, the subject and the view, in whatever case its tags are."""
    data = source.read(name, "an XML file")
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        line = error.position[0] if isinstance(error, ElementTree.ParseError) else None
        raise DataError.at(source.where(name), f"cannot be read as XML ({error})", "an XML file", line=line) from error
    for element in root.iter():
        tag = element.tag.rpartition("}")[2].lower()
        values = {key.lower(): value.strip() for key, value in element.attrib.items()}
        if tag == "metatag" and values.get("name", "").lower() == "emotion":
            yield "emotion", values.get("value", "")
        elif tag == "subject" and "id" in values:
            yield "subject", values["id"]
        elif tag == "track" and "view" in values:
            yield "view", values["view"]


def _list_frames(source: _Sessions, session: str, names: Sequence[str]) -> dict[int, str]:
    """Paths of the frames by number: the images of a session, or else its one video."""
    frames: dict[int, str] = {}
    for name in names:
        if name.lower().endswith(SUFFIXES):
            match = _NUMBER.search(name.rsplit("/", 1)[-1].rsplit(".", 1)[0])
            if not match:
                raise DataError.at(source.where(name), "an image without a number", "frames like S001-001_0035.png")
            if int(match[1]) in frames:
                raise DataError.at(source.where(name), f"frame {int(match[1])} comes twice", "one image a frame")
            frames[int(match[1])] = name
    if frames:
        return frames
    videos = [name for name in names if name.lower().endswith(".avi")]
    if len(videos) != 1:
        raise DataError.at(source.path / session, f"no images of frames, and {len(videos)} videos", "frames as images, or one .avi")
    with source.open_video(videos[0]) as (cv2, capture):
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    if count < 1:
        raise DataError.at(source.where(videos[0]), "a video without frames", "a whole video")
    return {number: f"{videos[0]}#{number}" for number in range(count)}

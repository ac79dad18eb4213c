"""One HTML page of readings, with everything in it: it asks nothing of any other file or machine."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from PIL import Image

from ..errors import DataError
from ..files import replace_whole
from ..labels import BASIC
from ..plotting.style import EMOTION_COLOURS
from .methods import Calibration
from .photographs import FoundFace
from .reader import FaceReading

__all__ = ["ReadPhoto", "write_page"]

_TEMPLATE = Path(__file__).with_name("page.html")
_WIDEST = 1000
#: Squares below this hold less than the networks were trained on.
_SMALL = 60
_DATASETS = {"facsynth": "rendered faces", "muxspace": "photographs"}


@dataclass(frozen=True)
class ReadPhoto:
    """A photograph and what was read in it.

    Attributes
    ----------
    name : str
    image : uint8 ``[h, w, 3]``
        As large as the page shows it, see :func:`shrink_photo`; empty where it could not be read.
    faces : list of (FoundFace, FaceReading)
    problem : str
        Why it could not be read.
    size : (int, int), optional
        Width and height of the whole photograph, in whose pixels the faces lie, where ``image`` is smaller.
    """

    name: str
    image: np.ndarray
    faces: Sequence[tuple[FoundFace, FaceReading]] = field(default_factory=list)
    problem: str = ""
    size: tuple[int, int] | None = None


def shrink_photo(image: np.ndarray) -> np.ndarray:
    """A photograph ``[H, W, 3]`` no larger than the page shows it: hundreds may be on one page."""
    small = Image.fromarray(image)
    small.thumbnail((_WIDEST, _WIDEST), Image.Resampling.LANCZOS)
    return np.asarray(small)


def write_page(photos: Sequence[ReadPhoto], calibration: Mapping[str, Any], notes: Sequence[str], out: Path) -> None:
    """Write the page, as a whole or not at all.

    Parameters
    ----------
    photos : sequence of ReadPhoto
    calibration : mapping
        Of :func:`~fer_utils.reading.methods.load_calibration`.
    notes : sequence of str
        What was left out, and why.
    out : Path

    Raises
    ------
    DataError
        If it cannot be written.
    """
    text = render_page(photos, calibration, notes)
    try:
        with replace_whole(out) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError.at(
            out, f"cannot be written ({error.strerror})", "an .html file in a folder that is there"
        ) from error


def render_page(photos: Sequence[ReadPhoto], calibration: Mapping[str, Any], notes: Sequence[str]) -> str:
    """The page as text; whatever comes from a file's name is escaped."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["percent"] = _format_share
    environment.filters["fine"] = lambda share: f"{100 * share:.1f}\u202f%"
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    spoke = {voice.method for photo in photos for _, reading in photo.faces for voice in reading.voices}
    heard = {method.key for method in spoke}
    measured = {key: own for key, own in calibration["methods"].items() if key in heard or not heard}
    return template.render(
        zip=zip,
        titles=_DATASETS,
        reach={dataset: _reach(dataset, measured) for dataset in _DATASETS},
        photos=[_show_photo(photo) for photo in photos],
        count=sum(len(photo.faces) for photo in photos),
        words=BASIC,
        colours=EMOTION_COLOURS,
        notes=notes,
        agreement=calibration["agreement"],
        methods=[
            dict(zip(("name", "trained"), key.split(" on "), strict=True), measured=measured)
            for key, measured in calibration["methods"].items()
            if not heard or key in heard
        ],
        far=calibration["distances"],
    )


def _format_share(share: float) -> str:
    """Whole percents; no method is ever sure."""
    text = ">99" if share > 0.99 else "<1" if share < 0.01 else f"{100 * share:.0f}"
    return f"{text}\u202f%"


def _reach(dataset: str, measured: Mapping[str, Calibration]) -> str:
    """How many test photographs the methods that were trained on a dataset give the label's word; "" if there are none."""
    shares = [own.tests["muxspace"].accuracy for key, own in measured.items() if key.endswith(f" on {dataset}")]
    if not shares:
        return ""
    most = _format_share(max(shares))
    return most if len(shares) == 1 else f"{100 * min(shares):.0f} to {most}"


def _show_photo(photo: ReadPhoto) -> dict[str, Any]:
    name = photo.name.encode(errors="surrogateescape").decode(errors="replace")
    shown: dict[str, Any] = {
        "name": name,
        "problem": photo.problem,
        "faces": [_show_face(face, reading) for face, reading in photo.faces],
    }
    if not photo.problem:
        width, height = photo.size or (photo.image.shape[1], photo.image.shape[0])
        shown |= {"width": width, "height": height, "picture": _embed(Image.fromarray(shrink_photo(photo.image)))}
    return shown


def _show_face(face: FoundFace, reading: FaceReading) -> dict[str, Any]:
    words = list(reading.words.items())
    first = [word for word, count in words if count == words[0][1]]
    groups = [
        {"dataset": dataset, "voices": [voice for voice in reading.voices if voice.method.dataset == dataset]}
        for dataset in _DATASETS
    ]
    return {
        "image": _embed(Image.fromarray(reading.image)),
        "corners": " ".join(f"{x:.1f},{y:.1f}" for x, y in face.corners),
        "corner": face.corners.min(0).round(1).tolist(),
        "side": face.side,
        "turn": face.turn,
        "small": face.side < _SMALL,
        "words": words,
        "first": first,
        "most": words[0][1],
        "methods": len(reading.voices),
        "overlap": reading.overlap,
        "groups": [group for group in groups if group["voices"]],
        "neighbours": [
            {"image": _embed(Image.fromarray(near.image)), "word": near.word, "distance": near.distance}
            for near in reading.neighbours
        ],
    }


def _embed(image: Image.Image) -> str:
    """A picture as an address that holds it; without the photograph's own notes of place and time."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"

"""Figures that a reader moves, without a server or a network: frames under a slider, and faces to name."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from .faces import contact_sheet

__all__ = ["Interactive", "ask_faces", "show_frames"]

_PAGES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined)


@dataclass(frozen=True)
class Interactive:
    """What a cell shows: HTML where it is shown, else a picture.

    Attributes
    ----------
    html : str
        A fragment without links to other files.
    png : bytes
        One of the frames, or the faces.
    """

    html: str
    png: bytes

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/html": self.html, "image/png": base64.b64encode(self.png).decode(), "text/plain": "<Interactive>"}


def show_frames(figures: Mapping[str, Figure], label: str, alt: str | Mapping[str, str], start: str | None = None) -> Interactive:
    """Put figures under a slider, one at a time; on paper they stand side by side. The figures are closed.

    Parameters
    ----------
    figures : mapping of str to matplotlib Figure
        The name of a frame, such as ``"0.01"``, and the frame. All of one size, in the order of the slider.
    label : str
        What the slider changes, such as ``"share of spammers"``; plain text.
    alt : str or mapping of str to str
        Alternative text of every frame, to which its name is added, or one text a frame.
    start : str, optional
        The frame at which the slider stands before it is moved, and which stands in for it as a picture; the first by default.

    Returns
    -------
    Interactive

    Raises
    ------
    ValueError
        If there are fewer than two frames, a frame has another size or no alternative text, or none is called ``start``.
    """
    if len(figures) < 2:
        raise ValueError(f"a slider needs two frames or more, not {len(figures)}")
    alts = {name: f"{alt} {label}: {name}." for name in figures} if isinstance(alt, str) else alt
    if missing := [name for name in figures if not alts.get(name)]:
        raise ValueError(f"no alternative text for the frames {missing}")
    names = list(figures)
    if start is not None and start not in names:
        raise ValueError(f"start must be one of the frames {names}, not {start!r}")
    pictures = {name: _draw(figure) for name, figure in figures.items()}
    if len({picture.size for picture in pictures.values()}) > 1:
        raise ValueError(f"frames of one size expected: { {name: picture.size for name, picture in pictures.items()} }")
    frames = [{"name": name, "alt": alts[name], "source": _embed(picture)} for name, picture in pictures.items()]
    place = 0 if start is None else names.index(start)
    still = pictures[names[place]]
    page = _PAGES.get_template("frames.html").render(
        frames=frames, label=label, start=place, width=still.width, height=still.height
    )
    return Interactive(page, _encode(still, "PNG"))


def ask_faces(
    images: Sequence[np.ndarray] | np.ndarray, truth: Sequence[int], shares: np.ndarray, words: Sequence[str],
) -> Interactive:
    """Let a reader name faces, and then see what each was rendered as and how a crowd voted.

    Parameters
    ----------
    images : sequence of uint8 ``[H, W]`` or ``[H, W, 3]``, N of them
    truth : sequence of int, N of them
        Positions in ``words``.
    shares : array ``[N, K]``
        The share of the crowd that chose each word; every row sums to 1.
    words : sequence of str, K of them

    Returns
    -------
    Interactive

    Raises
    ------
    ValueError
        If the numbers of faces or words differ, or a row of ``shares`` does not sum to 1.
    """
    shares = np.asarray(shares, dtype=float)
    if shares.shape != (len(images), len(words)) or len(truth) != len(images):
        counts = f"{len(images)} faces, {len(truth)} truths and {len(words)} words"
        raise ValueError(f"{counts}, but shares of shape {shares.shape}")
    if not np.allclose(shares.sum(1), 1, atol=0.01):
        raise ValueError("every row of shares must sum to 1")
    faces = []
    for place, (image, kind, share) in enumerate(zip(images, truth, shares, strict=True)):
        picture = Image.fromarray(np.asarray(image))
        faces.append({
            "place": place, "alt": f"Face {place + 1}, to be named", "source": _embed(picture), "size": picture.size,
            "truth": int(kind), "crowd": set(np.flatnonzero(share == share.max())), "shares": share.tolist(),
        })
    page = _PAGES.get_template("quiz.html").render(faces=faces, words=words)
    titles = [str(place + 1) for place in range(len(faces))]
    return Interactive(page, _encode(_draw(contact_sheet(images, columns=min(len(faces), 5), titles=titles)), "PNG"))


def _draw(figure: Figure) -> Image.Image:
    """A figure's pixels, uncropped: a tight box would differ from frame to frame."""
    with io.BytesIO() as file, mpl.rc_context({"savefig.bbox": "standard"}):
        figure.savefig(file, format="png")
        plt.close(figure)
        return Image.open(file).convert("RGB")


def _embed(picture: Image.Image) -> str:
    return "data:image/webp;base64," + base64.b64encode(_encode(picture, "WEBP")).decode()


def _encode(picture: Image.Image, kind: str) -> bytes:
    """Without loss: letters and thin lines suffer first."""
    with io.BytesIO() as file:
        picture.save(file, kind, lossless=True) if kind == "WEBP" else picture.save(file, kind, optimize=True)
        return file.getvalue()

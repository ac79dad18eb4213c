"""Oulu-CASIA NIR&VIS (Zhao et al. 2011): 480 sequences of 80 people, six posed emotions, from neutral to the peak.

Files lie as in ``PreProcess_Img/VL_Acropped/Strong/P001/Anger/000.jpeg`` (the owners' cropped faces) and
``OriginalImg/VL/Strong/P001/Anger/000.jpeg``, for visible (``VL``) and near-infrared (``NI``) light and for three illuminations. The
last three frames of the 480 sequences of one camera and illumination make the 1,440 images of the papers. Access is asked for from the
owners (University of Oulu).

Not documented, and assumed: the upper folder may also be called ``PreProcess`` or be left out, or be a zip archive, and the first frame of
a sequence is neutral.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from ..errors import DataError
from ..labels import OULU_CASIA
from .base import FaceDataset
from .layouts import list_images, make_dataset, pick_classes, resize_images
from .sequences import FRAMES, Frame, choose_frames, list_frames, make_sequence
from .source import Source, find_root

__all__ = ["load"]

_LIGHTS = ("VL", "NI")
_ILLUMINATIONS = ("Strong", "Weak", "Dark")
_FRAME = re.compile(r"P(\d{1,18})/([^/]+)/(\d{1,18})\.jpe?g", re.IGNORECASE | re.ASCII)
_LAYOUT = (
    "a folder with PreProcess_Img/VL_Acropped or OriginalImg/VL, and in it files like Strong/P001/Anger/000.jpeg; Oulu-CASIA is not "
    "public: ask its owners for access, see Zhao et al. 2011"
)


def load(
    root: str | os.PathLike[str] | None = None,
    *,
    frames: str = "apex3",
    classes: int | Sequence[str] = 6,
    light: str = "VL",
    illumination: str = "Strong",
    cropped: bool = True,
    size: int | None = None,
    mode: str = "RGB",
    transform: Callable[[Image.Image], Any] | None = None,
) -> FaceDataset:
    """Read the sequences of one camera under one illumination.

    Parameters
    ----------
    root : path, optional
        The folder that holds ``PreProcess_Img`` or ``OriginalImg``, zipped or unzipped; ``oulu_casia`` in
        :func:`~fer_utils.files.data_root` by default.
    frames : {"apex1", "apex3", "onset", "all"}
        Of each sequence the last frame, the last three, only the first, or every frame. A first frame is neutral, any other has the
        label of its sequence (in ``"all"``, however faint the expression still is).
    classes : {6, 7} or sequence of str
        The 6 basic emotions; 7 with neutral. Or names, in the order that the labels shall have. With neutral the first frame of
        each sequence of the other classes is added (all first frames, if neutral is alone); ``"onset"`` adds neutral to 6.
    light : {"VL", "NI"}
        Visible or near-infrared.
    illumination : {"Strong", "Weak", "Dark"}
    cropped : bool
        The owners' cropped faces, or whole frames.
    size : int, optional
        Side to which the images are resized; without it all must be of one size.
    mode : {"RGB", "L"}
        Colour or grey.
    transform : callable, optional
        See :class:`~fer_utils.datasets.base.FaceDataset`.

    Returns
    -------
    FaceDataset
        Sorted by subject, emotion and frame; ``identities`` are the subjects' numbers. Files of two sequences share a name, so that
        ``names`` are like ``P001_Anger_000.jpeg``. ``truth`` has ``name``, ``sequence`` and ``frame``.

    Raises
    ------
    DataError
        If the folder is missing, a picture lies in no sequence, comes twice, or is damaged, or a sequence has fewer than four frames.
    ValueError
        For an unknown choice.
    """
    choices = (("frames", FRAMES, frames), ("light", _LIGHTS, light), ("illumination", _ILLUMINATIONS, illumination))
    for name, offered, got in choices:
        if got not in offered:
            raise ValueError(f"{name} must be one of {', '.join(offered)}, got {got!r}")
    wanted = pick_classes(classes, (*OULU_CASIA.classes, "neutral"), onset=frames == "onset")
    folder = find_root(root, "oulu_casia", _LAYOUT)
    stems = ("PreProcess_Img", "PreProcess") if cropped else ("OriginalImg",)
    source = Source.find(folder, *stems) or Source(folder)
    prefix = f"{light}{'_Acropped' if cropped else ''}/{illumination}/"
    chosen = choose_frames(_read_sequences(source, prefix), frames, wanted, source.path / prefix, _LAYOUT)
    names = [frame.member.removeprefix(prefix).replace("/", "_") for frame in chosen]
    return make_dataset(
        f"Oulu-CASIA {light} {illumination}", resize_images(source, [frame.member for frame in chosen], size, mode), chosen, wanted,
        names=np.array(names), identities=np.array([int(frame.subject) for frame in chosen]), truth=list_frames(chosen, names),
        transform=transform,
    )


def _read_sequences(source: Source, prefix: str) -> list[list[Frame]]:
    """List the frames of each sequence below a folder."""
    found: dict[tuple[str, str], dict[int, str]] = {}
    for member in list_images(source, _LAYOUT):
        if not member.startswith(prefix):
            continue
        match = _FRAME.fullmatch(member.removeprefix(prefix))
        if not match:
            raise DataError.at(source.where(member), "an image in no sequence", "files like P001/Anger/000.jpeg")
        if match[2] not in OULU_CASIA.codes:
            raise DataError.at(source.where(member), f"label {match[2]!r}", f"a folder of {', '.join(map(str, OULU_CASIA.codes))}")
        sequence, number = found.setdefault((match[1], match[2]), {}), int(match[3])
        if number in sequence:
            raise DataError.at(source.where(member), f"frame {number} comes twice", "one image a frame")
        sequence[number] = member
    return [
        make_sequence(source, members, subject, f"P{subject}_{code}", OULU_CASIA.decode(code)) for (subject, code), members in found.items()
    ]

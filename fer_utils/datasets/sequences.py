"""Sequences that start neutral and end at the apex: what CK+, MMI and Oulu-CASIA share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from ..errors import DataError
from .layouts import Face, choose_faces
from .source import Source

__all__ = ["FRAMES", "Frame", "choose_frames", "list_frames", "make_sequence"]

#: How many of the last frames each choice takes. The first comes along where neutral is wanted; ``"all"`` takes every frame.
FRAMES = {"apex1": 1, "apex3": 3, "onset": 0, "all": 0}


@dataclass(frozen=True, kw_only=True)
class Frame(Face):
    """One frame of a labelled sequence; its class is neutral for the first.

    Attributes
    ----------
    sequence : str
    number : int
        Its place in the sequence.
    last : bool
        Whether it is the sequence's last.
    """

    sequence: str
    number: int
    last: bool


def make_sequence(source: Source, members: dict[int, str], subject: str, name: str, emotion: str) -> list[Frame]:
    """Order the frames of one sequence whose first is neutral.

    Parameters
    ----------
    source : Source
    members : dict of int to str
        Path of each frame by its number.
    subject, name, emotion : str
        Who is shown, the sequence, and the class name.

    Returns
    -------
    list of Frame

    Raises
    ------
    DataError
        If there are fewer than four frames.
    """
    last = max(members)
    if len(members) < 4:
        problem = f"the last of a sequence of {len(members)} frames"
        raise DataError.at(source.where(members[last]), problem, "a first frame and three of the apex")
    emotions = ["neutral", *[emotion] * (len(members) - 1)]
    return [
        Frame(members[n], shown, subject=subject, sequence=name, number=n, last=n == last)
        for n, shown in zip(sorted(members), emotions, strict=True)
    ]


def choose_frames(
    sequences: Sequence[Sequence[Frame]], frames: str, classes: Sequence[str], where: object, expected: str
) -> list[Frame]:
    """Take those frames of some sequences that are of the wanted classes.

    Parameters
    ----------
    sequences : sequence of sequences of Frame
        From the neutral frame to the last wanted one of the apex.
    frames : {"apex1", "apex3", "onset", "all"}
        As for CK+: the first frame counts as neutral, which it gives only where that is wanted.
    classes : sequence of str
        Class names. If neutral is alone, every first frame is taken, else those of sequences of the other classes.
    where, expected : object, str
        The source and what should be in it, for errors.

    Returns
    -------
    list of Frame

    Raises
    ------
    DataError
        If there is no such frame.
    """
    shown = [sequence for sequence in sequences if sequence[-1].emotion in classes or tuple(classes) == ("neutral",)]
    return choose_faces((frame for sequence in shown for frame in _pick(sequence, frames)), classes, where, "sequence", expected)


def list_frames(frames: Sequence[Frame], names: Sequence[str]) -> pd.DataFrame:
    """Start the truth of some frames: ``name``, ``sequence`` and ``frame``, its number.

    Parameters
    ----------
    frames : sequence of Frame
    names : sequence of str
        Of the images, in the same order.
    """
    return pd.DataFrame({"name": names, "sequence": [frame.sequence for frame in frames], "frame": [frame.number for frame in frames]})


def _pick(sequence: Sequence[Frame], frames: str) -> list[Frame]:
    if frames == "all":
        return list(sequence)
    return [sequence[0], *sequence[len(sequence) - FRAMES[frames] :]]

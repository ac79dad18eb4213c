"""The emotion vocabularies: which classes there are, and the code and order that each dataset's owner gives them.

Emotions are nouns throughout the book. Every owner's order stands here once; nothing else may hard-code one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "ADJECTIVES", "AFFECTNET", "AU_NAMES", "BASIC", "BAUM2I", "CKPLUS", "COMPOUND", "COMPOUND_12", "EXPW", "FER2013", "FERPLUS",
    "JAFFE", "MMI", "MUXSPACE", "OULU_CASIA", "RAFDB", "RAFDB_COMPOUND", "SFEW", "TFEID", "Vocabulary",
]

#: The seven basic classes, in RAF-DB's order (Li & Deng 2019), which is the book's.
BASIC = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")

#: RAF-DB's eleven compound classes, in its order (Li & Deng 2019, Table VIII, rows a to k).
COMPOUND = (
    "happily surprised", "happily disgusted", "sadly fearful", "sadly angry", "sadly surprised", "sadly disgusted",
    "fearfully angry", "fearfully surprised", "angrily surprised", "angrily disgusted", "disgustedly surprised",
)

#: Adjectives that people write for the nouns.
ADJECTIVES = {
    "angry": "anger", "disgusted": "disgust", "fearful": "fear", "happy": "happiness", "sad": "sadness", "surprised": "surprise",
    "contemptuous": "contempt",
}

#: The twelve compounds that the RAF-DB paper names; the last one is too rare in RAF-DB to be evaluated.
COMPOUND_12 = (*COMPOUND, "fearfully disgusted")

#: The two basic emotions that each compound class mixes; the second is the dominant noun of its name.
COMPOUND_PARTS = {
    "happily surprised": ("happiness", "surprise"),
    "happily disgusted": ("happiness", "disgust"),
    "sadly fearful": ("sadness", "fear"),
    "sadly angry": ("sadness", "anger"),
    "sadly surprised": ("sadness", "surprise"),
    "sadly disgusted": ("sadness", "disgust"),
    "fearfully angry": ("fear", "anger"),
    "fearfully surprised": ("fear", "surprise"),
    "angrily surprised": ("anger", "surprise"),
    "angrily disgusted": ("anger", "disgust"),
    "disgustedly surprised": ("disgust", "surprise"),
    "fearfully disgusted": ("fear", "disgust"),
}


@dataclass(frozen=True)
class Vocabulary:
    """The classes of one dataset and the codes that its owner's files use.

    Attributes
    ----------
    name : str
        The dataset.
    classes : tuple of str
        Class names in the owner's order; an index into it is a label of a ``FaceDataset``.
    codes : tuple of int or tuple of str
        What the owner's files hold for each class.

    Raises
    ------
    ValueError
        If classes and codes do not pair one to one.
    """

    name: str
    classes: tuple[str, ...]
    codes: tuple[int, ...] | tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.classes) != len(self.codes) or len(set(self.codes)) != len(self.codes) or len(set(self.classes)) != len(self.classes):
            raise ValueError(f"{self.name}: classes and codes must pair one to one, got {self.classes} and {self.codes}")

    def __len__(self) -> int:
        return len(self.classes)

    def encode(self, emotion: str) -> int | str:
        """The owner's code of a class name. Raises ``ValueError`` for a class the dataset does not have."""
        if emotion not in self.classes:
            raise ValueError(f"{self.name} has no class {emotion!r}; expected one of {', '.join(self.classes)}")
        return self.codes[self.classes.index(emotion)]

    def decode(self, code: int | str) -> str:
        """The class name of an owner's code. Raises ``ValueError`` for a code outside the vocabulary."""
        return self.classes[self.index(code)]

    def index(self, code: int | str) -> int:
        """The position of an owner's code in ``classes``. Raises ``ValueError`` for a code outside the vocabulary."""
        if code not in self.codes:
            raise ValueError(f"{code!r} is not a label of {self.name}; expected one of {_span(self.codes)}")
        return self.codes.index(code)


def _span(codes: Sequence[int | str]) -> str:
    whole = [c for c in codes if isinstance(c, int)]
    if len(whole) == len(codes) and whole == list(range(whole[0], whole[0] + len(whole))):
        return f"{whole[0]} to {whole[-1]}"
    return ", ".join(map(str, codes))


RAFDB = Vocabulary("RAF-DB basic", BASIC, tuple(range(1, 8)))
RAFDB_COMPOUND = Vocabulary("RAF-DB compound", COMPOUND, tuple(range(1, 12)))
CKPLUS = Vocabulary("CK+", ("neutral", "anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise"), tuple(range(8)))
FER2013 = Vocabulary("FER2013", ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"), tuple(range(7)))
FERPLUS = Vocabulary(
    "FER+", ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"), tuple(range(8))
)
MUXSPACE = Vocabulary(
    "muxspace", (*BASIC, "contempt"), ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral", "contempt")
)
JAFFE = Vocabulary(
    "JAFFE", ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"), ("AN", "DI", "FE", "HA", "NE", "SA", "SU")
)
#: Folder names; SFEW's order of classes is that of the folders.
SFEW = Vocabulary("SFEW 2.0", FER2013.classes, ("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral"))
#: Codes of the emotion tag in a session's XML file.
MMI = Vocabulary("MMI", ("anger", "disgust", "fear", "happiness", "sadness", "surprise"), tuple(range(1, 7)))
OULU_CASIA = Vocabulary("Oulu-CASIA", MMI.classes, ("Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise"))
#: The last part of a file name.
TFEID = Vocabulary(
    "TFEID", ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise", "contempt"),
    ("ag", "dg", "fg", "hg", "ng", "sg", "pg", "cg"),
)
BAUM2I = Vocabulary(
    "BAUM-2i", ("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"),
    ("Anger", "Contempt", "Disgust", "Fear", "Happiness", "Neutral", "Sadness", "Surprise"),
)
EXPW = Vocabulary("ExpW", FER2013.classes, tuple(range(7)))
AFFECTNET = Vocabulary(
    "AffectNet", ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt"), tuple(range(8))
)

#: Facial action units that the book speaks of (Ekman, Friesen & Hager 2002).
AU_NAMES = {
    1: "inner brow raiser", 2: "outer brow raiser", 4: "brow lowerer", 5: "upper lid raiser", 6: "cheek raiser", 7: "lid tightener",
    9: "nose wrinkler", 10: "upper lip raiser", 11: "nasolabial deepener", 12: "lip corner puller", 14: "dimpler",
    15: "lip corner depressor", 16: "lower lip depressor", 17: "chin raiser", 18: "lip pucker", 20: "lip stretcher",
    22: "lip funneler", 23: "lip tightener", 24: "lip pressor", 25: "lips part", 26: "jaw drop", 27: "mouth stretch", 43: "eyes closed",
}

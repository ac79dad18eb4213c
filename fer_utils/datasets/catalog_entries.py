"""The facts of the catalogue, one entry a dataset.

Published counts come from the five papers and from the owners' own descriptions; each names its source.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..labels import (
    AFFECTNET,
    BAUM2I,
    CKPLUS,
    EXPW,
    FER2013,
    FERPLUS,
    JAFFE,
    MMI,
    MUXSPACE,
    OULU_CASIA,
    RAFDB,
    RAFDB_COMPOUND,
    SFEW,
    TFEID,
    Vocabulary,
)
from .entry import UNDIVIDED, Entry, Published

__all__ = ["ENTRIES"]


def _count(vocabulary: Vocabulary | Sequence[str], *counts: int) -> dict[str, int]:
    classes = vocabulary.classes if isinstance(vocabulary, Vocabulary) else vocabulary
    return dict(zip(classes, counts, strict=True))


_RAFDB_TEST = _count(RAFDB, 329, 74, 160, 1185, 478, 162, 680)
_COMPOUND_TEST = _count(RAFDB_COMPOUND, 135, 47, 22, 33, 18, 141, 33, 116, 38, 174, 35)
_CKPLUS = _count(CKPLUS.classes[1:], 45, 18, 59, 25, 69, 28, 83)
_RAFDB_APPLY = "ask the owners: http://www.whdeng.cn/raf/model1.html"
_ASK = "agreement with the owners; see the paper"
_CARD = "the data card beside the faces"
#: Pictures that may be found in several sizes are counted and shown in one.
_SIZED = {"size": 100}

#: In the order of the book's table.
ENTRIES = (
    Entry(
        "rafdb-basic", "RAF-DB, basic classes", "rafdb/basic", "web", "research only", _RAFDB_APPLY,
        ("dlp-cnn: crowd labels, Tables V to VII", "ws-lgan: Tables 6, 7", "lban-il: Tables 1 to 5"), "rafdb", options={"subset": "basic"},
        published=(
            Published(
                "whole", "the owners' ReadMe; the test part also Li & Deng 2019, Table VII", 15339, {"train": 12271, "test": 3068},
                {"train": _count(RAFDB, 1290, 281, 717, 4772, 1982, 705, 2524), "test": _RAFDB_TEST},
            ),
        ),
        parts=("train", "test"), instead=tuple(f"rafdb/{name}" for name in ("raf-basic", "EmoLabel", "DATASET", "train")),
        vocabulary=RAFDB,
    ),
    Entry(
        "rafdb-compound", "RAF-DB, compound classes", "rafdb/compound", "web", "research only", _RAFDB_APPLY,
        ("dlp-cnn: Tables V, VI, VIII", "lban-il: Table 3"), "rafdb", options={"subset": "compound"},
        published=(
            Published("whole", "the owners' ReadMe; the test part Li & Deng 2019, Table VIII", 3954, {"train": 3162, "test": 792},
                      {"test": _COMPOUND_TEST}),
        ),
        parts=("train", "test"),
        vocabulary=RAFDB_COMPOUND,
    ),
    Entry(
        "fer2013", "FER2013", "fer2013", "web", "the contest's rules",
        "account at https://www.kaggle.com/c/challenges-in-representation-learning-facial-expression-recognition-challenge",
        ("dam-cnn: Tables 2, 4, 10", "lban-il: Tables 1, 2, 6", "daf-cnn: Tables 1, 2", "ws-lgan: pre-training"), "fer2013",
        published=(
            Published(
                "whole", "Li et al. 2021, 4.1; test classes as commonly reported, which Zhou et al. 2022, Fig. 2, agrees with", 35887,
                {"train": 28709, "val": 3589, "test": 3589}, {"test": _count(FER2013, 491, 55, 528, 879, 594, 416, 626)},
            ),
        ),
        parts=("train", "val", "test"),
        vocabulary=FER2013,
    ),
    Entry(
        "ferplus", "FER+", "ferplus", "web", "the repository's licence for the votes, the contest's rules for the pictures",
        "git clone https://github.com/microsoft/FERPlus, beside FER2013", ("none of the five; for label distributions",),
        "fer2013", "load_ferplus", parts=("train", "val", "test"), beside=("fer2013",),
        instead=("ferplus/FER2013Train", "fer2013/FER2013Train"),
        note="how many images stay depends on how the votes are counted, and no paper of the book prints it",
        vocabulary=FERPLUS,
    ),
    Entry(
        "sfew", "SFEW 2.0", "sfew", "film", "research only", f"{_ASK} (Dhall et al. 2011)",
        ("dlp-cnn: Table IX", "dam-cnn: Tables 2 to 4, 10, 11", "lban-il: Table 5", "daf-cnn: Table 3"), "sfew", options=_SIZED,
        published=(
            Published(
                "aligned faces", "Zhou et al. 2022, 4.1; the classes are those that fit its Fig. 3", 1322, {"train": 891, "val": 431},
                {"val": _count(SFEW, 77, 23, 46, 72, 73, 56, 84)},
            ),
            Published("frames", "Li et al. 2021, 4.1", 1394, {"train": 958, "val": 436}),
            Published("faces that Viola and Jones's detector finds", "Xie et al. 2019, 4.1.1", 1256, {"train": 847, "val": 409}),
        ),
        parts=("train", "val"), note="the labels of the 372 test images are not public; compare scores only where counts agree",
        vocabulary=SFEW,
    ),
    Entry(
        "ckplus", "CK+", "ckplus", "lab", "research only", f"{_ASK} (Lucey et al. 2010)",
        ("dlp-cnn: Fig. 6, Tables V, IX", "dam-cnn: Tables 2, 4 to 6, 11", "ws-lgan: Tables 2, 3, 8 to 10"), "ckplus",
        options={"frames": "apex1"}, lenient={"need_landmarks": False},
        published=(
            Published("labelled sequences, one frame of each", "the ReadMe of the distribution", 327, classes={UNDIVIDED: _CKPLUS}),
        ),
        note="papers take three frames of each, with or without contempt: 981 or 927",
        vocabulary=CKPLUS,
    ),
    Entry(
        "jaffe", "JAFFE", "jaffe", "lab", "research only", "request to the owners (Lyons et al. 1998)",
        ("dlp-cnn: Table V", "dam-cnn: Tables 2, 4, 7, 8, 11"), "jaffe",
        published=(
            Published("whole", "file names of the distribution; Li & Deng 2019, Table I, for the total", 213,
                      classes={UNDIVIDED: _count(JAFFE, 30, 29, 32, 31, 30, 31, 30)}),
        ),
        vocabulary=JAFFE,
    ),
    Entry(
        "mmi", "MMI", "mmi", "lab", "research only; account and agreement", "account with the owners (Pantic et al. 2005)",
        ("dlp-cnn: Table IX",), "mmi", options=_SIZED,
        note="Li & Deng 2019, V-D, use 528 peak frames, three a sequence, and do not say of which sequences",
        vocabulary=MMI,
    ),
    Entry(
        "oulu_casia", "Oulu-CASIA", "oulu_casia", "lab", "research only", f"{_ASK} (Zhao et al. 2011)", ("ws-lgan: Tables 4, 5",),
        "oulu_casia", options=_SIZED,
        published=(
            Published("last three frames of each of 480 sequences", "Zhang et al. 2020, IV-A", 1440,
                      classes={UNDIVIDED: _count(OULU_CASIA, *(240,) * 6)}),
        ),
        vocabulary=OULU_CASIA,
    ),
    Entry(
        "tfeid", "TFEID", "tfeid", "lab", "research only", "request to the owners, by the page that Xie et al. 2019 cite",
        ("dam-cnn: Tables 2, 4, 9",), "tfeid", options=_SIZED,
        published=(Published("seven classes, without contempt", "Xie et al. 2019, 4.1.1", 580),),
        vocabulary=TFEID,
    ),
    Entry(
        "baum2i", "BAUM-2i", "baum2i", "film", "research only", "request to the authors (Erdem et al. 2015)", ("dam-cnn: Tables 2, 4, 10",),
        "baum2i", options=_SIZED, published=(Published("seven classes, without contempt", "Xie et al. 2019, 4.1.1", 998),),
        vocabulary=BAUM2I,
    ),
    Entry(
        "expw", "ExpW", "expw", "web", "research only", "the owners' page (Zhang et al. 2018)", ("lban-il: Table 7",), "expw",
        published=(
            Published("whole", "Li et al. 2021, 4.1", 91793),
            Published("faces of 100 pixels and more", "Li et al. 2021, 4.1, in the order of the owners' labels", 41748,
                      classes={UNDIVIDED: _count(EXPW, 2280, 1950, 627, 12453, 6158, 3924, 14356)}),
        ),
        note="a picture's name repeats, once for each face in it",
        vocabulary=EXPW,
    ),
    Entry(
        "affectnet", "AffectNet", "affectnet", "web", "research only", "request by a research group (Mollahosseini et al. 2019)",
        ("none of the five; Li & Deng 2019, Table I, names it",), "affectnet",
        published=(
            Published("newer copy", "users of the 2021 release", parts={"val": 3999}),
            Published("older copy", "users of the first release", parts={"val": 4000}),
        ),
        parts=("train", "val"), note="the training part differs between releases",
        vocabulary=AFFECTNET,
    ),
    Entry(
        "celeba", "CelebA", "celeba", "web", "research only, not commercial", "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
        ("ws-lgan: attention maps of eyes and mouth",), "celeba", published=(Published("whole", "Zhang et al. 2020, IV-A", 202599),),
        parts=("train", "val", "test"), note="has facial attributes, no expressions but smiling",
    ),
    Entry(
        "muxspace", "muxspace/facial_expressions", "muxspace", "web", "Apache-2.0",
        "git clone https://github.com/muxspace/facial_expressions", ("none of the five; every method is measured on it",), "muxspace",
        published=(
            Published("whole clone", "data/README.md of the book", 13682),
            Published("reduced copy", "the README of the reduced copy", 4900,
                      classes={UNDIVIDED: _count(MUXSPACE, 294, 17, 166, 2000, 214, 202, 2000, 7)}),
        ),
        vocabulary=MUXSPACE,
    ),
    Entry(
        "facsynth-basic", "FACSynth, basic classes", "facsynth/raf/basic", "rendered", "CC BY 4.0", "ships with the book",
        ("all five: stand-in for the datasets in the wild",), "facsynth", options={"subset": "basic"},
        published=(
            Published("whole", _CARD, 9204, {"train": 6136, "test": 3068},
                      {"train": _count(RAFDB, 645, 141, 359, 2386, 991, 352, 1262), "test": _RAFDB_TEST}),
        ),
        parts=("train", "test"),
        vocabulary=RAFDB,
    ),
    Entry(
        "facsynth-compound", "FACSynth, compound classes", "facsynth/raf/compound", "rendered", "CC BY 4.0", "ships with the book",
        ("dlp-cnn, lban-il: stand-in for RAF-DB's compound classes",), "facsynth", options={"subset": "compound"},
        published=(Published("whole", _CARD, 3954, {"train": 3162, "test": 792}, {"test": _COMPOUND_TEST}),), parts=("train", "test"),
        vocabulary=RAFDB_COMPOUND,
    ),
    Entry(
        "facsynth-lab", "FACSynth, posed sequences", "facsynth/ckplus", "rendered", "CC BY 4.0", "ships with the book",
        ("dlp-cnn, dam-cnn, ws-lgan: stand-in for CK+",), "facsynth", options={"subset": "lab", "frames": "apex1"},
        published=(Published("one frame of each sequence", _CARD, 327, classes={UNDIVIDED: _CKPLUS}),),
        vocabulary=CKPLUS,
    ),
)

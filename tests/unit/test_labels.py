"""The vocabularies against the class counts that the owners and the papers print, each in its owner's order."""

from __future__ import annotations

import pytest

from fer_utils.facsynth.sets import BASIC_COUNTS, COMPOUND_TEST, LAB_COUNTS
from fer_utils.labels import (
    AU_NAMES,
    BASIC,
    CKPLUS,
    COMPOUND,
    COMPOUND_12,
    COMPOUND_PARTS,
    FER2013,
    FERPLUS,
    MUXSPACE,
    RAFDB,
    RAFDB_COMPOUND,
    Vocabulary,
)

# Owners' README and Li & Deng 2019, Table VII: (code, class, training images, test images).
RAFDB_PUBLISHED = [
    (1, "surprise", 1290, 329), (2, "fear", 281, 74), (3, "disgust", 717, 160), (4, "happiness", 4772, 1185),
    (5, "sadness", 1982, 478), (6, "anger", 705, 162), (7, "neutral", 2524, 680),
]
# CK+ ReadMe: code, class, labelled sequences.
CKPLUS_PUBLISHED = [
    (1, "anger", 45), (2, "contempt", 18), (3, "disgust", 59), (4, "fear", 25), (5, "happiness", 69), (6, "sadness", 28),
    (7, "surprise", 83),
]
# FER2013: code, class, PrivateTest images.
FER2013_PUBLISHED = [
    (0, "anger", 491), (1, "disgust", 55), (2, "fear", 528), (3, "happiness", 879), (4, "sadness", 594),
    (5, "surprise", 416), (6, "neutral", 626),
]


def test_rafdb_order() -> None:
    assert [(code, name) for code, name, *_ in RAFDB_PUBLISHED] == list(zip(RAFDB.codes, RAFDB.classes, strict=True))
    assert (sum(row[2] for row in RAFDB_PUBLISHED), sum(row[3] for row in RAFDB_PUBLISHED)) == (12271, 3068)
    assert tuple(row[3] for row in RAFDB_PUBLISHED) == BASIC_COUNTS["test"]
    assert RAFDB.classes == BASIC


def test_rafdb_compound_order() -> None:
    # Li & Deng 2019, Table VIII, rows a to k.
    published = dict(zip("abcdefghijk", (135, 47, 22, 33, 18, 141, 33, 116, 38, 174, 35), strict=True))
    assert sum(published.values()) == 792
    assert tuple(published.values()) == COMPOUND_TEST
    assert RAFDB_COMPOUND.decode(1) == "happily surprised" and RAFDB_COMPOUND.decode(11) == "disgustedly surprised"
    assert COMPOUND_12[:11] == COMPOUND == RAFDB_COMPOUND.classes
    assert set(COMPOUND_PARTS) == set(COMPOUND_12)
    assert all(set(parts) <= set(BASIC) for parts in COMPOUND_PARTS.values())


def test_ckplus_order() -> None:
    assert CKPLUS.decode(0) == "neutral"
    assert [(CKPLUS.encode(name), name, n) for _, name, n in CKPLUS_PUBLISHED] == CKPLUS_PUBLISHED
    assert {name: n for _, name, n in CKPLUS_PUBLISHED} == LAB_COUNTS
    assert sum(LAB_COUNTS.values()) == 327 and 327 - LAB_COUNTS["contempt"] == 309


def test_fer2013_order() -> None:
    assert [(code, name) for code, name, _ in FER2013_PUBLISHED] == list(zip(FER2013.codes, FER2013.classes, strict=True))
    assert sum(n for *_, n in FER2013_PUBLISHED) == 3589


def test_ferplus_and_muxspace() -> None:
    assert FERPLUS.classes == ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
    assert MUXSPACE.codes == MUXSPACE.classes == (*BASIC, "contempt")


@pytest.mark.parametrize("vocabulary", [RAFDB, RAFDB_COMPOUND, CKPLUS, FER2013, FERPLUS, MUXSPACE], ids=lambda v: v.name)
def test_encode_and_decode_are_inverse(vocabulary: Vocabulary) -> None:
    assert [vocabulary.decode(vocabulary.encode(name)) for name in vocabulary.classes] == list(vocabulary.classes)
    assert [vocabulary.index(code) for code in vocabulary.codes] == list(range(len(vocabulary)))


def test_unknown_codes_and_names() -> None:
    with pytest.raises(ValueError, match="RAF-DB basic; expected one of 1 to 7"):
        RAFDB.decode(0)
    with pytest.raises(ValueError, match="no class 'contempt'"):
        RAFDB.encode("contempt")
    with pytest.raises(ValueError, match="one to one"):
        Vocabulary("twice", ("a", "a"), (1, 2))


def test_action_units() -> None:
    assert list(AU_NAMES) == sorted(AU_NAMES)
    assert AU_NAMES[12] == "lip corner puller"

"""The catalogue of datasets: its counts, and what its check finds in whole and damaged copies."""

from __future__ import annotations

import inspect
import shutil
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from conftest import put, write_ckplus

from fer_utils.datasets import DataError, FaceDataset, catalog
from fer_utils.datasets.catalog import Finding, Published, check, entries, find, is_here
from fer_utils.facsynth.sets import BASIC_COUNTS, COMPOUND_TEST, COMPOUND_TRAIN_TOTAL, LAB_COUNTS
from fer_utils.labels import CKPLUS, EXPW, FER2013, JAFFE, MUXSPACE, OULU_CASIA, RAFDB, RAFDB_COMPOUND, SFEW, Vocabulary

README = Path(__file__).resolve().parents[2] / "data" / "README.md"

# Counts in the order in which their source prints them, each with the name that its source gives the class.
SAID = [
    ("rafdb-basic", "train", RAFDB, [
        ("surprise", 1290), ("fear", 281), ("disgust", 717), ("happiness", 4772), ("sadness", 1982), ("anger", 705), ("neutral", 2524),
    ]),
    ("rafdb-basic", "test", RAFDB, [
        ("surprise", 329), ("fear", 74), ("disgust", 160), ("happiness", 1185), ("sadness", 478), ("anger", 162), ("neutral", 680),
    ]),
    ("rafdb-compound", "test", RAFDB_COMPOUND, [
        ("happily surprised", 135), ("happily disgusted", 47), ("sadly fearful", 22), ("sadly angry", 33), ("sadly surprised", 18),
        ("sadly disgusted", 141), ("fearfully angry", 33), ("fearfully surprised", 116), ("angrily surprised", 38),
        ("angrily disgusted", 174), ("disgustedly surprised", 35),
    ]),
    ("fer2013", "test", FER2013, [
        ("anger", 491), ("disgust", 55), ("fear", 528), ("happiness", 879), ("sadness", 594), ("surprise", 416), ("neutral", 626),
    ]),
    ("sfew", "val", SFEW, [
        ("anger", 77), ("disgust", 23), ("fear", 46), ("happiness", 72), ("sadness", 73), ("surprise", 56), ("neutral", 84),
    ]),
    ("ckplus", "none", CKPLUS, [
        ("anger", 45), ("contempt", 18), ("disgust", 59), ("fear", 25), ("happiness", 69), ("sadness", 28), ("surprise", 83),
    ]),
    ("jaffe", "none", JAFFE, [
        ("anger", 30), ("disgust", 29), ("fear", 32), ("happiness", 31), ("neutral", 30), ("sadness", 31), ("surprise", 30),
    ]),
    ("oulu_casia", "none", OULU_CASIA, [
        ("anger", 240), ("disgust", 240), ("fear", 240), ("happiness", 240), ("sadness", 240), ("surprise", 240),
    ]),
    ("expw", "none", EXPW, [
        ("anger", 2280), ("disgust", 1950), ("fear", 627), ("happiness", 12453), ("sadness", 6158), ("surprise", 3924), ("neutral", 14356),
    ]),
]


@pytest.mark.parametrize(("key", "part", "vocabulary", "said"), SAID, ids=[f"{row[0]} {row[1]}" for row in SAID])
def test_counts_are_in_the_order_of_the_vocabulary(key: str, part: str, vocabulary: Vocabulary, said: list[tuple[str, int]]) -> None:
    (counts,) = [p.classes[part] for p in find(key).published if part in p.classes]
    assert list(counts.items()) == said
    in_order = [name for name in vocabulary.classes if name in dict(said)]
    assert in_order == [name for name, _ in said]
    assert set(vocabulary.classes) - set(in_order) <= {"neutral"}  # CK+ has no neutral sequence


def test_keys_and_folders() -> None:
    keys = [entry.key for entry in entries()]
    assert keys == [
        "rafdb-basic", "rafdb-compound", "fer2013", "ferplus", "sfew", "ckplus", "jaffe", "mmi", "oulu_casia", "tfeid", "baum2i", "expw",
        "affectnet", "celeba", "muxspace", "facsynth-basic", "facsynth-compound", "facsynth-lab",
    ]
    assert len({entry.folder for entry in entries()}) == len(keys)
    text = README.read_text(encoding="utf-8")
    assert [entry.key for entry in entries() if f"`{entry.folder.split('/')[0]}" not in text] == []
    assert {entry.environment for entry in entries()} == {"lab", "film", "web", "rendered"}
    with pytest.raises(ValueError, match=r"unknown dataset 'imagenet'; expected one of rafdb-basic, .*facsynth-lab"):
        find("imagenet")


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.key)
def test_entries_say_what_a_reader_needs(entry: catalog.Entry) -> None:
    assert entry.terms and entry.apply and entry.needed_by
    loader = getattr(import_module(f"fer_utils.datasets.{entry.module}"), entry.function)
    options = dict(entry.options) if entry.module == "facsynth" else {"root": None, **entry.options}
    inspect.signature(loader).bind(**options)
    for published in entry.published:
        assert published.copy and published.source
        assert set(published.parts) <= set(entry.parts)
        assert set(published.classes) <= {*entry.parts, *(["none"] if not entry.parts else [])}


def test_rendered_faces_are_those_that_were_planned() -> None:
    basic, compound, lab = (find(f"facsynth-{name}").published[0] for name in ("basic", "compound", "lab"))
    for part in ("train", "test"):
        assert tuple(basic.classes[part].values()) == BASIC_COUNTS[part]
        assert basic.parts[part] == sum(BASIC_COUNTS[part])
    assert tuple(compound.classes["test"].values()) == COMPOUND_TEST and compound.parts["train"] == COMPOUND_TRAIN_TOTAL
    assert lab.classes["none"] == LAB_COUNTS


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"total": 9, "classes": {"none": {"anger": 8}}}, "classes of none sum to 8, not 9"),
        ({"parts": {"train": 9}, "classes": {"train": {"anger": 8}}}, "classes of train sum to 8, not 9"),
        ({"total": 9, "parts": {"train": 8, "test": 2}}, "parts sum to 10, more than 9"),
    ],
)
def test_counts_that_cannot_be(changes: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Published("odd", "nobody", **changes)


# -- what is here ---------------------------------------------------------------------------------------------------------


def test_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_DATA", str(tmp_path))
    monkeypatch.setattr(catalog, "package_data", lambda: tmp_path / "package")
    assert not any(is_here(entry) for entry in entries())
    (tmp_path / "rafdb" / "basic").mkdir(parents=True)
    assert not is_here(find("rafdb-basic")), "an empty folder is nothing"
    put(tmp_path, "rafdb/basic/EmoLabel/list_patition_label.txt", "")
    assert is_here(find("rafdb-basic")) and not is_here(find("rafdb-compound"))
    put(tmp_path, "jaffe.zip", "")
    assert is_here(find("jaffe"))
    put(tmp_path, "ferplus/fer2013new.csv", "")
    assert not is_here(find("ferplus")), "FER+ has no pictures of its own"
    put(tmp_path, "fer2013/fer2013.csv", "")
    assert is_here(find("ferplus"))
    assert not is_here(find("rafdb-compound"))
    (tmp_path / "rafdb").rename(tmp_path / "before")
    put(tmp_path, "rafdb/DATASET/train/1/train_00001_aligned.jpg", "")
    assert is_here(find("rafdb-basic")) and not is_here(find("rafdb-compound")), "Kaggle's copy"
    put(tmp_path, "package/facsynth/ckplus/truth.parquet", "")
    assert is_here(find("facsynth-lab")) and not is_here(find("facsynth-basic"))


# -- checking copies ------------------------------------------------------------------------------------------------------

MINIATURE = Published(
    "miniature", "conftest", 5, {"train": 3, "test": 2},
    {"test": {name: 2 * (name == "happiness") for name in RAFDB.classes}, "train": {"surprise": 1, "sadness": 1, "neutral": 1}},
)


def test_a_copy_is_named_and_counted_without_what_it_lacks(tmp_path: Path) -> None:
    write_ckplus(tmp_path)
    shutil.rmtree(tmp_path / "Landmarks")
    said: list[str] = []
    assert check(find("ckplus"), tmp_path, say=said.append)[0].found == 3
    assert said == ["read as CK+ (without Landmarks no landmarks or alignment)"]
    with pytest.raises(DataError, match="Landmarks: not found"):
        find("ckplus").load(tmp_path)  # as experiments do


def test_a_whole_copy(rafdb_tree: Path) -> None:
    findings = check(replace(find("rafdb-basic"), published=(MINIATURE,)), rafdb_tree)
    assert all(finding.agrees for finding in findings)
    assert findings[0] == Finding("faces", 5, 5, "miniature", "conftest")
    by_name = {finding.what: (finding.expected, finding.found) for finding in findings}
    assert (by_name["train"], by_name["test"]) == ((3, 3), (2, 2))
    assert (by_name["train, surprise"], by_name["test, happiness"], by_name["train, anger"]) == ((1, 1), (2, 2), (0, 0))
    assert len(findings) == 1 + 2 * (1 + 7)


def test_a_copy_with_another_label(rafdb_tree: Path) -> None:
    path = rafdb_tree / "basic" / "EmoLabel" / "list_patition_label.txt"
    path.write_text(path.read_text().replace("train_00001.jpg 5", "train_00001.jpg 6"))
    findings = check(replace(find("rafdb-basic"), published=(MINIATURE,)), rafdb_tree)
    wrong = [(finding.what, finding.expected, finding.found) for finding in findings if not finding.agrees]
    assert sorted(wrong) == [("train, anger", 0, 1), ("train, sadness", 1, 0)]


def test_nothing_published(rafdb_tree: Path) -> None:
    findings = check(replace(find("rafdb-basic"), published=()), rafdb_tree)
    assert all(finding.agrees and finding.expected is None and not finding.copy for finding in findings)
    assert findings[0].found == 5 and len(findings) == 17


def test_options_reach_the_loader(ckplus_tree: Path) -> None:
    assert check(find("ckplus"), ckplus_tree)[0].found == 3
    assert check(find("ckplus"), ckplus_tree, frames="apex3")[0].found == 9


def test_every_image_is_decoded_even_where_a_decoded_copy_is_kept(tmp_path: Path, muxspace_tree: Path, monkeypatch) -> None:
    monkeypatch.setattr("fer_utils.datasets.images._MANY", 1)
    monkeypatch.setenv("FER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("fer_utils.datasets.images._stamp", lambda path: (0,))  # bits that rot on a disk change no time of a file
    entry = find("muxspace")
    path = muxspace_tree / "images" / "Cy_0001.jpg"
    kept = entry.load(muxspace_tree).images
    path.write_bytes(bytes(path.stat().st_size))
    assert np.array_equal(entry.load(muxspace_tree).images, kept), "the kept copy hides the damage"
    with pytest.raises(DataError, match=r"Cy_0001\.jpg: cannot be decoded"):
        check(entry, muxspace_tree)


def test_facsynth_takes_no_root(facsynth_tree: Path) -> None:
    assert check(find("facsynth-lab"))[0] == Finding("faces", 327, 3, "one frame of each sequence", "the data card beside the faces")
    with pytest.raises(ValueError, match=r"FACSynth, posed sequences is found below the folder of \$FER_DATA"):
        check(find("facsynth-lab"), facsynth_tree)


def toy(monkeypatch: pytest.MonkeyPatch, key: str, vocabulary: Vocabulary, *counts: int) -> catalog.Entry:
    """The entry with a loader that gives so many faces of each class."""
    labels = np.repeat(np.arange(len(counts)), counts)
    faces = FaceDataset(
        name="toy", images=np.zeros((len(labels), 1, 1), np.uint8), labels=labels, classes=vocabulary.classes,
        names=np.arange(len(labels)).astype(str), split=np.full(len(labels), "none"),
    )
    module = ModuleType("fer_utils.datasets.toy")
    module.load = lambda root=None: faces  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fer_utils.datasets.toy", module)
    return replace(find(key), module="toy")


REDUCED = (294, 17, 166, 2000, 214, 202, 2000, 7)


@pytest.mark.parametrize(
    ("counts", "copy", "wrong"),
    [
        (REDUCED, "reduced copy", []),
        ((368, 21, 208, 5690, 268, 252, 6866, 9), "whole clone", []),
        ((294, 17, 166, 2000, 214, 202, 1999, 7), "reduced copy", ["faces", "neutral"]),
        ((294, 18, 165, 2000, 214, 202, 2000, 7), "reduced copy", ["fear", "disgust"]),
        ((368, 21, 208, 5690, 268, 252, 6865, 9), "whole clone", ["faces"]),
    ],
)
def test_either_copy_of_muxspace(monkeypatch: pytest.MonkeyPatch, counts: tuple[int, ...], copy: str, wrong: list[str]) -> None:
    findings = check(toy(monkeypatch, "muxspace", MUXSPACE, *counts))
    assert {finding.copy for finding in findings if finding.expected is not None} == {copy}
    assert [finding.what for finding in findings if not finding.agrees] == wrong

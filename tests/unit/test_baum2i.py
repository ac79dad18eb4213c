"""The layout assumed for BAUM-2i, whole and broken."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import image_bytes, pack, put
from test_folder import DAMAGES, damage

from fer_utils.datasets import DataError, baum2i
from fer_utils.labels import BAUM2I

MEMBERS = ("Anger/S001_003.png", "Contempt/S002_001.png", "Happiness/S012_001.png", "Neutral/S001_001.png")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for i, member in enumerate(MEMBERS):
        put(tmp_path / "baum2i", member, image_bytes(i, (48, 60), kind="PNG"))
    put(tmp_path / "baum2i", "genders.txt", "words")
    return tmp_path / "baum2i"


def test_load(tree: Path, zipped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_DATA", str(tree.parent))
    if zipped:
        pack(tree)
    faces = baum2i.load()
    assert faces.name == "BAUM-2i" and faces.classes == tuple(name for name in BAUM2I.classes if name != "contempt")
    assert faces.names.tolist() == [MEMBERS[0], *MEMBERS[2:]] and faces.identities.tolist() == [1, 12, 1]
    assert [faces.classes[i] for i in faces.labels] == ["anger", "happiness", "neutral"]
    assert faces.images.shape == (3, 60, 48, 3) and baum2i.load(size=20, mode="L").images.shape == (3, 20, 20)


def test_classes_and_subjects(tree: Path) -> None:
    assert baum2i.load(tree, classes=8).class_counts()["contempt"] == 1 and len(baum2i.load(tree, classes=6)) == 2
    put(tree, "anger/still.png", image_bytes(7, (48, 60), kind="PNG"))
    assert baum2i.load(tree).identities is None and baum2i.load(tree).class_counts()["anger"] == 2
    with pytest.raises(DataError, match="no image of fear"):
        baum2i.load(tree, classes=["fear"])
    with pytest.raises(ValueError, match="classes must be"):
        baum2i.load(tree, classes=5)


PLACES = {
    "image in no class": ("S009_001.png", r"baum2i/S009_001\.png: an image in no class folder"),
    "unknown label": ("Boredom/S009_001.png", r"S009_001\.png: class 'Boredom'; expected one of anger"),
    "duplicate id": ("angry/S001_003.png", r"S001_003\.png: comes twice, as anger in two folders"),
    "another size": ("Sadness/S001_003.png", r"Sadness/S001_003\.png: 100x100 pixels; expected 48x60 pixels.*pass size"),
}


@pytest.mark.parametrize("case", ["missing folder", *DAMAGES, *PLACES])
def test_bad_input(tree: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if case == "missing folder":
        tree.rename(tree.with_name("away"))
        words = "baum2i: no such folder.*ask its authors"
    elif case in PLACES:
        name, words = PLACES[case]
        put(tree, name, image_bytes(0, kind="PNG"))
    else:
        words = damage(case, tree / MEMBERS[2], tree, monkeypatch)
    with pytest.raises(DataError, match=words):
        _ = baum2i.load(tree).images

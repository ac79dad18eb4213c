"""JAFFE's layout: loose and zipped, whole and broken."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import image_bytes, pack, put
from test_folder import DAMAGES, damage

from fer_utils.datasets import DataError, jaffe
from fer_utils.labels import JAFFE

NAMES = ("KA.AN1.39.tiff", "KA.NE2.27.tiff", "NA.NE1.199.tiff", "NA.SU3.204.tiff", "YM.HA1.52.tiff")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for i, name in enumerate(NAMES):
        put(tmp_path / "jaffe", f"jaffedbase/{name}", image_bytes(i, (256, 256), "L", "TIFF"))
    put(tmp_path / "jaffe", "jaffedbase/README", "words")
    return tmp_path / "jaffe"


def test_load(tree: Path, zipped: bool) -> None:
    if zipped:
        pack(tree / "jaffedbase")
    faces = jaffe.load(tree)
    assert faces.name == "JAFFE" and faces.classes == JAFFE.classes and faces.names.tolist() == list(NAMES)
    assert [faces.classes[i] for i in faces.labels] == ["anger", "neutral", "neutral", "surprise", "happiness"]
    assert faces.identities.tolist() == [0, 0, 5, 5, 9] and set(faces.split) == {"none"}
    assert faces.images.shape == (5, 256, 256)


def test_loose_files_and_a_zip_of_the_folder(tree: Path) -> None:
    for path in (tree / "jaffedbase").iterdir():
        path.rename(tree / path.name)
    (tree / "jaffedbase").rmdir()
    assert len(jaffe.load(tree)) == 5
    pack(tree)
    assert len(jaffe.load(tree).images) == 5


def test_classes(tree: Path) -> None:
    six = jaffe.load(tree, classes=6)
    assert "neutral" not in six.classes and len(six) == 3
    assert jaffe.load(tree, classes=["neutral", "anger"]).labels.tolist() == [1, 0, 0]
    with pytest.raises(ValueError, match="classes must be 6, 7 or names"):
        jaffe.load(tree, classes=8)
    with pytest.raises(DataError, match="no picture of fear"):
        jaffe.load(tree, classes=["fear"])


def test_default_root(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_DATA", str(tree.parent))
    assert len(jaffe.load()) == 5


NAMED = {
    "unknown name": ("face.tiff", r"face\.tiff: unknown name; expected a name like KA\.AN1"),
    "unknown label": ("KA.XX1.39.tiff", r"KA\.XX1\.39\.tiff: unknown name"),
    "unknown subject": ("ZZ.AN1.39.tiff", r"ZZ\.AN1\.39\.tiff: unknown name"),
    "duplicate id": ("KA.AN1.39.tif", r"KA\.AN1\.39\.tiff: KA\.AN1\.39 comes twice"),
    "another size": ("KA.AN2.40.tiff", r"KA\.AN2\.40\.tiff: 100x100 pixels; expected 256x256 pixels"),
}


@pytest.mark.parametrize("case", ["missing folder", "no images", *DAMAGES, *NAMED])
def test_bad_input(tree: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if case == "missing folder":
        tree.rename(tree.with_name("away"))
        words = "jaffe: no such folder.*ask its owners"
    elif case == "no images":
        for name in NAMES:
            (tree / "jaffedbase" / name).unlink()
        words = "jaffedbase: no images"
    elif case in NAMED:
        name, words = NAMED[case]
        put(tree, f"jaffedbase/{name}", image_bytes(0, (100, 100), "L", "TIFF"))
    else:
        words = damage(case, tree / "jaffedbase" / NAMES[2], tree / "jaffedbase", monkeypatch)
    with pytest.raises(DataError, match=words):
        _ = jaffe.load(tree).images

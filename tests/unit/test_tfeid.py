"""TFEID's layouts: in class folders and flat, whole and broken."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import image_bytes, pack, put
from test_folder import DAMAGES, damage

from fer_utils.datasets import DataError, tfeid
from fer_utils.labels import TFEID

MEMBERS = (
    "high/anger/f01_dfh_ag.jpg", "high/contempt/m10_dfh_cg2.jpg", "high/neutral/f01_ng.jpg", "slight/anger/f01_dfh_ag.jpg",
    "slight/surprise/m02_dfs_PG1.jpg",
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for i, member in enumerate(MEMBERS):
        put(tmp_path / "tfeid", member, image_bytes(i, (48, 60)))
    put(tmp_path / "tfeid", "high/list.xls", "words")
    return tmp_path / "tfeid"


def test_load(tree: Path, zipped: bool) -> None:
    if zipped:
        pack(tree)
    faces = tfeid.load(tree)
    assert faces.name == "TFEID" and faces.classes == TFEID.classes[:7]
    assert [faces.classes[i] for i in faces.labels] == ["anger", "neutral", "anger", "surprise"]
    assert faces.names.tolist() == ["f01_dfh_ag.jpg", "f01_ng.jpg", "f01_dfh_ag.jpg", "m02_dfs_PG1.jpg"]
    assert faces.identities.tolist() == [0, 0, 0, 1] and faces.truth["intensity"].tolist() == ["high", "high", "slight", "slight"]
    assert faces.images.shape == (4, 60, 48, 3) and tfeid.load(tree, size=20, mode="L").images.shape == (4, 20, 20)


def test_classes(tree: Path) -> None:
    eight = tfeid.load(tree, classes=8)
    assert eight.class_counts()["contempt"] == 1 and eight.identities.tolist() == [0, 2, 0, 0, 1]
    assert len(tfeid.load(tree, classes=6)) == 3
    with pytest.raises(DataError, match="no picture of fear"):
        tfeid.load(tree, classes=["fear"])
    with pytest.raises(ValueError, match="classes must be 6, 7, 8"):
        tfeid.load(tree, classes=5)


def test_flat(tmp_path: Path) -> None:
    put(tmp_path, "f01_dfh_ag.jpg", image_bytes(0))
    faces = tfeid.load(tmp_path)
    assert faces.truth["intensity"].tolist() == ["unknown"] and faces.labels.tolist() == [0]


NAMED = {
    "unknown name": ("high/anger/portrait.jpg", r"portrait\.jpg: unknown name; expected a name like f01"),
    "unknown label": ("high/anger/f01_dfh_xg.jpg", r"f01_dfh_xg\.jpg: unknown name"),
    "no subject": ("high/anger/ag.jpg", r"ag\.jpg: unknown name"),
    "duplicate id": ("high/f01_dfh_ag.png", r"high/f01_dfh_ag\.png: f01_dfh_ag comes twice"),
    "another size": ("slight/f03_dfs_ag.jpg", r"f03_dfs_ag\.jpg: 100x100 pixels; expected 48x60 pixels.*pass size"),
}


@pytest.mark.parametrize("case", ["missing folder", *DAMAGES, *NAMED])
def test_bad_input(tree: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if case == "missing folder":
        tree.rename(tree.with_name("away"))
        words = "tfeid: no such folder.*ask its owners"
    elif case in NAMED:
        name, words = NAMED[case]
        put(tree, name, image_bytes(0))
    else:
        words = damage(case, tree / MEMBERS[3], tree, monkeypatch)
    with pytest.raises(DataError, match=words):
        _ = tfeid.load(tree).images

"""Oulu-CASIA's layouts: cropped faces and whole frames, whole and broken."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import image_bytes, pack, put
from test_folder import DAMAGES, damage

from fer_utils.datasets import DataError, oulu_casia
from fer_utils.labels import OULU_CASIA

SEQUENCES = {("P001", "Anger"): 6, ("P001", "Surprise"): 4, ("P080", "Disgust"): 5}
CROPPED = "PreProcess_Img/VL_Acropped/Strong"


def write_oulu(root: Path, *folders: str, size: tuple[int, int] = (40, 40)) -> Path:
    """A miniature: each sequence in each of ``folders``, every image another."""
    for seed, folder in enumerate(folders):
        for number, ((subject, emotion), count) in enumerate(SEQUENCES.items()):
            for frame in range(count):
                data = image_bytes(seed * 1000 + number * 100 + frame, size)
                put(root, f"{folder}/{subject}/{emotion}/{frame:03d}.jpeg", data)
    put(root, f"{folders[0]}/P001/Anger/Thumbs.db", "words")
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_oulu(tmp_path / "oulu_casia", CROPPED, "PreProcess_Img/NI_Acropped/Dark", "OriginalImg/VL/Weak")


def test_last_three_frames(tree: Path, zipped: bool) -> None:
    if zipped:
        pack(tree / "PreProcess_Img")
    faces = oulu_casia.load(tree)
    assert faces.name == "Oulu-CASIA VL Strong" and faces.classes == OULU_CASIA.classes
    assert faces.names.tolist()[:4] == ["P001_Anger_003.jpeg", "P001_Anger_004.jpeg", "P001_Anger_005.jpeg", "P001_Surprise_001.jpeg"]
    assert [faces.classes[i] for i in faces.labels[::3]] == ["anger", "surprise", "disgust"]
    assert faces.identities.tolist() == [1] * 6 + [80] * 3 and set(faces.split) == {"none"}
    assert faces.truth["sequence"].tolist()[::3] == ["P001_Anger", "P001_Surprise", "P080_Disgust"]
    assert faces.truth["frame"].tolist() == [3, 4, 5, 1, 2, 3, 2, 3, 4]
    assert faces.images.shape == (9, 40, 40, 3) and oulu_casia.load(tree, size=20, mode="L").images.shape == (9, 20, 20)


@pytest.mark.parametrize(("frames", "count"), [("apex1", 3), ("apex3", 9), ("onset", 3), ("all", 6 + 4 + 5 - 3)])
def test_frames(tree: Path, frames: str, count: int) -> None:
    faces = oulu_casia.load(tree, frames=frames)
    assert len(faces) == count and ("neutral" in faces.classes) == (frames == "onset")
    if frames == "onset":
        assert {faces.classes[i] for i in faces.labels} == {"neutral"} and set(faces.truth["frame"]) == {0}


def test_classes(tree: Path) -> None:
    seven = oulu_casia.load(tree, frames="apex1", classes=7)
    assert seven.classes == (*OULU_CASIA.classes, "neutral") and seven.class_counts()["neutral"] == 3
    two = oulu_casia.load(tree, classes=["neutral", "disgust"])
    assert two.labels.tolist() == [0, 1, 1, 1] and set(two.identities) == {80}
    assert len(oulu_casia.load(tree, frames="onset", classes=["neutral"])) == 3
    with pytest.raises(DataError, match="VL_Acropped/Strong: no sequence of fear"):
        oulu_casia.load(tree, classes=["fear"])


def test_cameras_and_frames(tree: Path, tmp_path: Path) -> None:
    strong, dark = oulu_casia.load(tree), oulu_casia.load(tree, light="NI", illumination="Dark")
    whole = oulu_casia.load(tree, illumination="Weak", cropped=False)
    assert len(strong) == len(dark) == len(whole) == 9
    assert (strong.images != dark.images).any() and (dark.images != whole.images).any()
    with pytest.raises(DataError, match="NI_Acropped/Weak: no sequence"):
        oulu_casia.load(tree, light="NI", illumination="Weak")
    assert len(oulu_casia.load(write_oulu(tmp_path / "bare", "VL_Acropped/Strong")).images) == 9


@pytest.mark.parametrize("options", [{"frames": "apex2"}, {"light": "UV"}, {"illumination": "strong"}, {"classes": 8}, {"classes": "fear"},
                                     {"frames": "onset", "classes": ["fear"]}, {"size": 0}, {"mode": "BGR"}])
def test_bad_arguments(tree: Path, options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        oulu_casia.load(tree, **options)


PLACES = {
    "image in no sequence": ("P001/000.jpeg", r"P001/000\.jpeg: an image in no sequence; expected files like P001/Anger"),
    "unknown name": ("P001/Anger/first.jpeg", r"first\.jpeg: an image in no sequence"),
    "unknown label": ("P001/Boredom/000.jpeg", r"Boredom/000\.jpeg: label 'Boredom'; expected a folder of Anger"),
    "duplicate id": ("P001/Anger/0003.jpeg", r"Anger/003\.jpeg: frame 3 comes twice"),
    "short sequence": ("P002/Anger/000.jpeg", r"P002/Anger/000\.jpeg: the last of a sequence of 1 frames"),
    "another size": ("P001/Anger/009.jpeg", r"Anger/009\.jpeg: 100x100 pixels; expected 40x40 pixels.*pass size"),
}


@pytest.mark.parametrize("case", ["missing folder", "no images", *DAMAGES, *PLACES])
def test_bad_input(tree: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if case == "missing folder":
        tree.rename(tree.with_name("away"))
        words = "oulu_casia: no such folder.*ask its owners"
    elif case == "no images":
        for path in tree.rglob("*.jpeg"):
            path.unlink()
        words = "PreProcess_Img: no images"
    elif case in PLACES:
        name, words = PLACES[case]
        put(tree / CROPPED, name, image_bytes(0))
    else:
        words = damage(case, tree / CROPPED / "P001" / "Surprise" / "002.jpeg", tree / "PreProcess_Img", monkeypatch)
    with pytest.raises(DataError, match=words):
        _ = oulu_casia.load(tree).images

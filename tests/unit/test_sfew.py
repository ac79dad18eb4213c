"""SFEW's layouts: whole frames and aligned faces, zipped and unzipped, whole and broken."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import image_bytes, pack, put
from test_folder import DAMAGES, damage

from fer_utils.datasets import DataError, sfew
from fer_utils.labels import SFEW

FACES = {
    "Train": {"Angry": ["A_0001_1.png", "A_0001_2.png"], "Happy": ["B_0002_1.png"]},
    "Val": {"Sad": ["C_0003_1.png"], "Angry": ["C_0009_1.png"]},
}
ALIGNED = "Train_Aligned_Faces"


def write_sfew(root: Path, ending: str = "", size: tuple[int, int] = (72, 58)) -> Path:
    """A miniature SFEW."""
    for word, classes in FACES.items():
        for i, (name, files) in enumerate(classes.items()):
            for j, file in enumerate(files):
                put(root, f"{word}{ending}/{name}/{file}", image_bytes(10 * i + j, size, kind="PNG"))
        put(root, f"{word}{ending}/ReadMe.txt", "words")
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_sfew(tmp_path / "sfew", "_Aligned_Faces", (36, 45))


def test_aligned(tree: Path, zipped: bool) -> None:
    if zipped:
        for word in FACES:
            pack(tree / f"{word}_Aligned_Faces")
    faces = sfew.load(tree)
    assert faces.name == "SFEW 2.0" and faces.classes == SFEW.classes
    assert faces.names.tolist() == ["A_0001_1.png", "A_0001_2.png", "B_0002_1.png", "C_0009_1.png", "C_0003_1.png"]
    assert [faces.classes[i] for i in faces.labels] == ["anger", "anger", "happiness", "anger", "sadness"]
    assert faces.split.tolist() == ["train"] * 3 + ["val"] * 2 and faces.identities is None
    assert faces.images.shape == (5, 45, 36, 3)
    assert sfew.load(tree, size=24, mode="L").images.shape == (5, 24, 24)


def test_split(tree: Path) -> None:
    faces = sfew.load(tree, split="val")
    assert set(faces.split) == {"val"} and (faces.images == sfew.load(tree).images[3:]).all()
    for path in sorted((tree / ALIGNED).rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (tree / ALIGNED).rmdir()
    assert len(sfew.load(tree, split="val")) == 2
    with pytest.raises(DataError, match=r"Train_Aligned_Faces: not found, neither as a folder nor as a \.zip.*ask its owners"):
        sfew.load(tree)


def test_frames(tmp_path: Path, zipped: bool) -> None:
    root = write_sfew(tmp_path)
    put(root, "Test/0001.png", image_bytes(0))
    if zipped:
        for word in FACES:
            pack(root / word)
    assert sfew.load(root, aligned=False).images.shape == (5, 58, 72, 3)


def test_archives_of_classes(tmp_path: Path) -> None:
    root = write_sfew(tmp_path)
    for word, classes in FACES.items():
        for name in classes:
            pack(root / word / name)
    faces = sfew.load(root, aligned=False)
    assert faces.names.tolist()[3:] == ["C_0009_1.png", "C_0003_1.png"] and faces.images.shape == (5, 58, 72, 3)


@pytest.mark.parametrize("ending", ["", "_new"])
def test_aligned_faces_within_the_parts(tree: Path, ending: str) -> None:
    for word in FACES:
        (tree / word).mkdir()
        (tree / f"{word}_Aligned_Faces").rename(tree / word / f"{word}_Aligned_Faces{ending}")
    assert len(sfew.load(tree).images) == 5


def test_bad_arguments(tree: Path) -> None:
    for options in ({"split": "test"}, {"size": 0}, {"mode": "BGR"}):
        with pytest.raises(ValueError, match=next(iter(options))):
            sfew.load(tree, **options)


PLACES = {
    "image in no class": ("D_0001_1.png", r"Train_Aligned_Faces/D_0001_1\.png: an image in no class folder"),
    "unknown label": ("Cross/D_0001_1.png", r"Cross/D_0001_1\.png: class 'Cross'; expected one of anger"),
    "duplicate id in another class": ("Sad/A_0001_1.png", r"Sad/A_0001_1\.png: comes twice, also as .*Angry/A_0001_1\.png"),
    "duplicate id in another part": ("Sad/C_0003_1.png", r"Sad/C_0003_1\.png: comes twice"),
    "duplicate id in one class": ("anger/A_0001_1.png", r"A_0001_1\.png: comes twice, as anger in two folders"),
    "another size": ("Sad/D_0001_1.png", r"D_0001_1\.png: 100x100 pixels; expected 36x45 pixels as the first image; pass size"),
}


@pytest.mark.parametrize("case", ["missing folder", *DAMAGES, *PLACES])
def test_bad_input(tree: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if case == "missing folder":
        tree.rename(tree.with_name("away"))
        words = "sfew: no such folder.*ask its owners"
    elif case in PLACES:
        name, words = PLACES[case]
        put(tree, f"{ALIGNED}/{name}", image_bytes(0, kind="PNG"))
    else:
        words = damage(case, tree / ALIGNED / "Angry" / "A_0001_2.png", tree / ALIGNED, monkeypatch)
    with pytest.raises(DataError, match=words):
        _ = sfew.load(tree).images

"""RAF-DB's layout: zipped and unzipped, whole and broken."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import LISTED, drop, edit, fill, five_marks, image_bytes, pack, put, tamper, write_rafdb
from test_folder import DAMAGES, damage

from fer_utils.datasets import DataError, rafdb
from fer_utils.labels import BASIC, COMPOUND
from fer_utils.papers.dlp_cnn import baselines
from fer_utils.preprocess import TEMPLATE_5, similarity_transform, warp_points
from fer_utils.splits import predefined


def test_basic(rafdb_tree: Path) -> None:
    faces = rafdb.load(rafdb_tree)
    assert faces.name == "RAF-DB basic" and faces.classes == BASIC
    assert faces.names.tolist() == list(LISTED["basic"]) and (faces.labels + 1).tolist() == list(LISTED["basic"].values())
    assert faces.split.tolist() == ["train"] * 3 + ["test"] * 2
    assert faces.images.shape == (5, 100, 100, 3) and faces.landmarks_dense.shape == (5, 37, 2)
    assert faces.distributions.shape == (5, 7) and faces.distributions[0, 0] == np.float32(0.5)
    assert faces.attributes.iloc[1].tolist() == ["female", "Asian", "4-19"]
    assert faces.identities is None and faces.votes is None


def test_compound(rafdb_tree: Path) -> None:
    faces = rafdb.load(rafdb_tree, "compound", transform=np.asarray)
    assert faces.classes == COMPOUND and faces.labels.tolist() == [10, 0, 2]
    assert isinstance(faces[0][0], np.ndarray)


def test_landmarks_are_carried_into_aligned_pixels(rafdb_tree: Path) -> None:
    aligned, original = rafdb.load(rafdb_tree), rafdb.load(rafdb_tree, aligned=False)
    assert original.images.shape == (5, 128, 128, 3)
    np.testing.assert_allclose(original.landmarks[0], five_marks(0), atol=0.01)
    for five, dense, want5, want37 in zip(
        original.landmarks, original.landmarks_dense, aligned.landmarks, aligned.landmarks_dense, strict=True
    ):
        transform = similarity_transform(five)
        np.testing.assert_allclose(want5, warp_points(five, transform), atol=1e-3)
        np.testing.assert_allclose(want37, warp_points(dense, transform), atol=1e-3)
    assert np.abs(aligned.landmarks - TEMPLATE_5).max() < 5


def test_split_and_less(rafdb_tree: Path) -> None:
    test = rafdb.load(rafdb_tree, split="test", landmarks=False)
    assert set(test.split) == {"test"} and test.landmarks is None and test.attributes is None
    assert np.array_equal(test.images, rafdb.load(rafdb_tree).test.images)


def test_optional_files_and_the_other_list_name(tmp_path: Path) -> None:
    base = write_rafdb(tmp_path) / "basic"
    labels = base / "EmoLabel"
    (labels / "list_patition_label.txt").rename(labels / "list_partition_label.txt")
    (labels / "distribution_basic.txt").unlink()
    for path in (base / "Annotation" / "auto").iterdir():
        path.unlink()
    (base / "Annotation" / "auto").rmdir()
    faces = rafdb.load(tmp_path)
    assert faces.distributions is None and faces.landmarks_dense is None and faces.landmarks is not None


def test_partial(tmp_path: Path) -> None:
    write_rafdb(tmp_path, originals=2)
    with pytest.raises(DataError, match=r"train_00003\.jpg: not found"):
        rafdb.load(tmp_path, aligned=False)
    assert rafdb.load(tmp_path, aligned=False, partial=True).names.tolist() == ["train_00001.jpg", "train_00002.jpg"]


def test_default_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_DATA", str(tmp_path))
    with pytest.raises(DataError) as caught:
        rafdb.load()
    message = str(caught.value)
    assert str(tmp_path / "rafdb" / "basic") in message and "Image/aligned.zip" in message and "whdeng.cn/raf/model1.html" in message
    write_rafdb(tmp_path / "rafdb")
    assert len(rafdb.load()) == 5


def test_bad_arguments(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="subset must be"):
        rafdb.load(tmp_path, "both")
    with pytest.raises(ValueError, match="split must be"):
        rafdb.load(tmp_path, split="val")


def swap(old: str, new: str) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        assert old.encode() in data
        return data.replace(old.encode(), new.encode(), 1)

    return change


LIST, SHARES = ("EmoLabel", "list_patition_label.txt"), ("EmoLabel", "distribution_basic.txt")
ALIGNED, MANUAL = ("Image/aligned", "train_00002_aligned.jpg"), ("Annotation/manual", "train_00002_manu_attri.txt")
AUTO = ("Annotation/auto", "train_00002_auto_attri.txt")
BAD = {
    "label too large": (LIST, swap("train_00002.jpg 1", "train_00002.jpg 8"), "line 2: label '8'"),
    "label zero": (LIST, swap("train_00002.jpg 1", "train_00002.jpg 0"), "line 2: label '0'.*1 to 7"),
    "label not a number": (LIST, swap("train_00002.jpg 1", "train_00002.jpg joy"), "line 2: label 'joy'"),
    "label missing": (LIST, swap("train_00002.jpg 1", "train_00002.jpg"), "line 2: 1 columns"),
    "column too many": (LIST, swap("train_00002.jpg 1", "train_00002.jpg 1 1"), "line 2: 3 columns"),
    "listed twice": (LIST, swap("train_00002", "train_00001"), "line 2: train_00001.jpg is listed twice"),
    "climbing name": (LIST, swap("train_00002.jpg", "../train_00002.jpg"), "line 2: image name"),
    "neither train nor test": (LIST, swap("train_00002.jpg", "val_00002.jpg"), "line 2: image name 'val_00002.jpg'"),
    "list empty": (LIST, lambda _: b"", "empty"),
    "list blank": (LIST, lambda _: b"\n\n", "no labels"),
    "list absent": (LIST, lambda _: None, "not found"),
    "list binary": (LIST, lambda _: b"\xff\xfe\xfa", "not a text file"),
    "image absent": (ALIGNED, lambda _: None, "not found; expected an image, because the list of labels names train_00002.jpg"),
    "image unlisted": (("Image/aligned", "train_00009_aligned.jpg"), lambda _: image_bytes(0), "not in the list of labels"),
    "image empty": (ALIGNED, lambda _: b"", "empty file"),
    "image cut": (ALIGNED, lambda data: data[: len(data) // 2], "cannot be decoded"),
    "image is text": (ALIGNED, lambda _: b"words", "cannot be decoded"),
    "image too small": (ALIGNED, lambda _: image_bytes(0, (90, 100)), "90x100 pixels; expected 100x100 pixels"),
    "landmarks absent": (MANUAL, lambda _: None, "not found"),
    "landmarks short": (MANUAL, lambda data: data[:-2], "7 lines"),
    "landmarks empty": (MANUAL, lambda _: b"", "empty file"),
    "landmark not a number": (MANUAL, lambda data: b"x" + data, "line 1: not a number"),
    "landmark not finite": (MANUAL, lambda data: b"nan" + data[data.index(data.split()[1]) - 1 :], "line 1: not finite"),
    "landmarks coincide": (MANUAL, lambda _: b"5 5\n" * 5 + b"0\n0\n0\n", "five times the same point"),
    "gender unknown": (MANUAL, lambda data: b"\n".join([*data.split(b"\n")[:5], b"7", b"0", b"0"]), "line 6: code 7"),
    "age fraction": (MANUAL, lambda data: data[:-2] + b"1.5\n", "line 8: code 1.5"),
    "dense short": (AUTO, lambda data: data[: data.rindex(b"\n", 0, -1) + 1], "36 lines"),
    "dense wide": (AUTO, lambda data: b"1 " + data, "line 1: 3 columns"),
    "shares short": (SHARES, swap("train_00002.jpg 0.5 ", "train_00002.jpg "), "line 2"),
    "shares sum": (SHARES, swap("train_00002.jpg 0.5", "train_00002.jpg 0.9"), "line 2.*sum to 1"),
    "shares negative": (SHARES, swap("train_00002.jpg 0.5 0.1", "train_00002.jpg 0.7 -0.1"), "line 2"),
    "shares not numbers": (SHARES, swap("train_00002.jpg 0.5", "train_00002.jpg half"), "line 2: not a number"),
    "shares missing": (SHARES, swap("train_00002.jpg", "train_00042.jpg"), "no line for train_00002.jpg"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(rafdb_tree: Path, case: str) -> None:
    (folder, name), change, words = BAD[case]
    tamper(rafdb_tree / "basic", folder, name, change)
    with pytest.raises(DataError, match=f"{name}.*{words}".replace(".", r"\.").replace(r"\.*", ".*")):
        _ = rafdb.load(rafdb_tree).images


def test_pictures_absent(rafdb_tree: Path) -> None:
    base = rafdb_tree / "basic" / "Image/aligned"
    (base if base.exists() else base.with_suffix(".zip")).rename(rafdb_tree / "away")
    with pytest.raises(DataError, match=f"{base.name}: not found, neither as a folder nor as a .zip"):
        rafdb.load(rafdb_tree)


def test_broken_archive(tmp_path: Path) -> None:
    write_rafdb(tmp_path, zipped=True)
    path = tmp_path / "basic" / "Image" / "aligned.zip"
    put(path.parent, path.name, path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"aligned\.zip: cannot be read as a zip archive"):
        rafdb.load(tmp_path)


def test_originals_of_several_sizes(rafdb_tree: Path) -> None:
    tamper(rafdb_tree / "basic", "Image/original", "train_00002.jpg", lambda _: image_bytes(0, (64, 64)))
    with pytest.raises(DataError, match=r"train_00002\.jpg: 64x64 pixels; expected 128x128 pixels as the first image.*load the aligned"):
        _ = rafdb.load(rafdb_tree, aligned=False).images


@pytest.mark.parametrize("case", [case for case in DAMAGES if case != "path not UTF-8"])
def test_bad_input_of_any_layout(tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rafdb(tmp_path / "rafdb")
    folder = tmp_path / "rafdb" / "basic/Image/aligned"
    words = damage(case, folder / "train_00002_aligned.jpg", folder, monkeypatch)
    with pytest.raises(DataError, match=words):
        _ = rafdb.load(tmp_path / "rafdb").images


# -- copies ---------------------------------------------------------------------------------------------------------------


def write_kaggle(root: Path, parts: tuple[str, str] = ("train", "test"), inner: str = "DATASET/", words: bool = False) -> Path:
    """A face of each class and part, in folders of the owners' numbers, with the tables of labels above."""
    for part, said in zip(parts, ("train", "test"), strict=True):
        lines = ["image,label"]
        for code, word in enumerate(BASIC, 1):
            name = f"{said}_{code:05d}_aligned.jpg"
            put(root, f"{inner}{part}/{word if words else code}/{name}", image_bytes(code))
            lines.append(f"{name},{code}")
        put(root, f"{said}_labels.csv", "\n".join([*lines, ""]))
    return root


@pytest.mark.parametrize(("parts", "inner", "words"), [(("train", "test"), "DATASET/", False), (("train", "valid"), "", True)])
@pytest.mark.parametrize("given", ["above", "itself", "zip"])
def test_kaggle(tmp_path: Path, parts: tuple[str, str], inner: str, words: bool, given: str) -> None:
    root = write_kaggle(tmp_path / "rafdb", parts, inner, words)
    if given == "zip":
        pack(root)
    faces = rafdb.load(root / inner if given == "itself" else root)
    assert faces.names.tolist() == [f"{part}_{code:05d}.jpg" for part in ("train", "test") for code in range(1, 8)]
    assert faces.split.tolist() == ["train"] * 7 + ["test"] * 7 and faces.labels.tolist() == list(range(7)) * 2
    assert faces.classes == BASIC and faces.images.shape == (14, 100, 100, 3) and faces.landmarks is None
    assert "Kaggle's copy: aligned pictures; without Annotation/manual and auto no landmarks" in faces.name
    assert rafdb.load(root, split="test").names.tolist() == faces.names.tolist()[7:]


def test_a_copy_with_all_three_parts_keeps_them(tmp_path: Path) -> None:
    root = write_kaggle(tmp_path, inner="")
    put(root, "val/3/train_00099_aligned.jpg", image_bytes(9))
    assert rafdb.load(root).split.tolist() == ["train"] * 7 + ["val"] + ["test"] * 7


@pytest.mark.parametrize("place", ["rafdb/raf-basic", "rafdb/basic", "rafdb"])
def test_as_reproductions_have_it(tmp_path: Path, place: str) -> None:
    base = write_rafdb(tmp_path / "whole") / "basic"
    for part in ("Annotation", "Image/original"):
        shutil.rmtree(base / part)
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    base.rename(tmp_path / place)
    for root in {tmp_path / "rafdb", tmp_path / place}:
        faces = rafdb.load(root)
        assert faces.names.tolist() == list(LISTED["basic"]) and faces.landmarks is None and faces.attributes is None
        assert faces.name == "RAF-DB basic (without Annotation/manual and auto no landmarks or attributes)"
    if place != "rafdb":  # else nothing says which subset it is
        with pytest.raises(DataError, match=r"compound/Image/aligned\.zip"):
            rafdb.load(tmp_path / place, "compound")


def test_an_experiment_says_which_file_it_misses(tmp_path: Path) -> None:
    faces = rafdb.load(write_kaggle(tmp_path))
    with pytest.raises(ValueError, match=r"without Annotation/manual and auto no landmarks.*has no landmarks of the shape"):
        baselines._describe(faces, predefined(faces)[0], "shape")


COPIES = {
    "class from zero": (fill("DATASET/test/0/test_00009_aligned.jpg", b"x"), "class '0'.*numbers from 0 may mean any order"),
    "class unknown": (fill("DATASET/test/bored/test_00009_aligned.jpg", b"x"), "class 'bored'"),
    "image without a class": (fill("DATASET/test/test_00009_aligned.jpg", b"x"), "unexpected file"),
    "image in the other part": (fill("DATASET/train/1/test_00009_aligned.jpg", b"x"), "in the train part.*its name begins with"),
    "image twice": (fill("DATASET/train/2/train_00001_aligned.jpg", b"x"), "comes twice, first as DATASET/train/1"),
    "label of another class": (edit("train_labels.csv", "3_aligned.jpg,3", "3_aligned.jpg,4"), "disgust, by its folder; .* happiness"),
    "label out of range": (edit("test_labels.csv", "00003_aligned.jpg,3", "00003_aligned.jpg,9"), "test_labels.csv, line 4"),
    "image listed but absent": (drop("DATASET/train/3/train_00003_aligned.jpg"), "no train_00003_aligned.jpg"),
    "two copies": (fill("copy/train/1/train_00009_aligned.jpg", b"x"), "two copies, in DATASET and in copy"),
    "image too small": (fill("DATASET/train/3/train_00003_aligned.jpg", image_bytes(0, (75, 75))), "75x75 pixels; expected 100x100"),
}


@pytest.mark.parametrize("case", COPIES)
def test_bad_input_of_a_copy(tmp_path: Path, case: str) -> None:
    change, words = COPIES[case]
    change(write_kaggle(tmp_path))
    with pytest.raises(DataError, match=words):
        _ = rafdb.load(tmp_path).images


def test_a_copy_that_no_loader_knows_is_described(tmp_path: Path) -> None:
    for name in ("rafdb.h5", "notes.txt", *(f"part{i}/a.txt" for i in range(6))):
        put(tmp_path, name, "x")
    with pytest.raises(DataError, match=r"an unknown layout, with notes\.txt, part0/, .* and 2 more; expected .*basic/Image"):
        rafdb.load(tmp_path)
    with pytest.raises(DataError, match=r"copy of the aligned pictures alone; expected .*basic/Image/original\.zip"):
        rafdb.load(write_kaggle(tmp_path / "copy"), aligned=False)

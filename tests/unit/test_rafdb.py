"""RAF-DB's layout: zipped and unzipped, whole and broken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import LISTED, five_marks, image_bytes, put, tamper, write_rafdb
from test_folder import DAMAGES, damage

from fer_utils.datasets import DataError, rafdb
from fer_utils.labels import BASIC, COMPOUND
from fer_utils.preprocess import TEMPLATE_5, similarity_transform, warp_points


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


def edit(old: str, new: str) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        assert old.encode() in data
        return data.replace(old.encode(), new.encode(), 1)

    return change


LIST, SHARES = ("EmoLabel", "list_patition_label.txt"), ("EmoLabel", "distribution_basic.txt")
ALIGNED, MANUAL = ("Image/aligned", "train_00002_aligned.jpg"), ("Annotation/manual", "train_00002_manu_attri.txt")
AUTO = ("Annotation/auto", "train_00002_auto_attri.txt")
BAD = {
    "label too large": (LIST, edit("train_00002.jpg 1", "train_00002.jpg 8"), "line 2: label '8'"),
    "label zero": (LIST, edit("train_00002.jpg 1", "train_00002.jpg 0"), "line 2: label '0'.*1 to 7"),
    "label not a number": (LIST, edit("train_00002.jpg 1", "train_00002.jpg joy"), "line 2: label 'joy'"),
    "label missing": (LIST, edit("train_00002.jpg 1", "train_00002.jpg"), "line 2: 1 columns"),
    "column too many": (LIST, edit("train_00002.jpg 1", "train_00002.jpg 1 1"), "line 2: 3 columns"),
    "listed twice": (LIST, edit("train_00002", "train_00001"), "line 2: train_00001.jpg is listed twice"),
    "climbing name": (LIST, edit("train_00002.jpg", "../train_00002.jpg"), "line 2: image name"),
    "neither train nor test": (LIST, edit("train_00002.jpg", "val_00002.jpg"), "line 2: image name 'val_00002.jpg'"),
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
    "landmark too large": (MANUAL, lambda data: b"21474836" + data[len(data.split()[0]) :], "line 1: too large"),
    "landmark in full-width digits": (MANUAL, lambda data: "\uff15".encode() + data, "line 1: not a number"),
    "landmark with a line below": (MANUAL, lambda data: b"1_" + data, "line 1: not a number"),
    "landmarks coincide": (MANUAL, lambda _: b"5 5\n" * 5 + b"0\n0\n0\n", "five times the same point"),
    "gender unknown": (MANUAL, lambda data: b"\n".join([*data.split(b"\n")[:5], b"7", b"0", b"0"]), "line 6: code 7"),
    "age fraction": (MANUAL, lambda data: data[:-2] + b"1.5\n", "line 8: code 1.5"),
    "dense short": (AUTO, lambda data: data[: data.rindex(b"\n", 0, -1) + 1], "36 lines"),
    "dense wide": (AUTO, lambda data: b"1 " + data, "line 1: 3 columns"),
    "shares short": (SHARES, edit("train_00002.jpg 0.5 ", "train_00002.jpg "), "line 2"),
    "shares sum": (SHARES, edit("train_00002.jpg 0.5", "train_00002.jpg 0.9"), "line 2.*sum to 1"),
    "shares negative": (SHARES, edit("train_00002.jpg 0.5 0.1", "train_00002.jpg 0.7 -0.1"), "line 2"),
    "shares not numbers": (SHARES, edit("train_00002.jpg 0.5", "train_00002.jpg half"), "line 2: not a number"),
    "shares missing": (SHARES, edit("train_00002.jpg", "train_00042.jpg"), "no line for train_00002.jpg"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(rafdb_tree: Path, case: str) -> None:
    (folder, name), change, words = BAD[case]
    tamper(rafdb_tree / "basic", folder, name, change)
    with pytest.raises(DataError, match=f"{name}.*{words}".replace(".", r"\.").replace(r"\.*", ".*")):
        _ = rafdb.load(rafdb_tree).images


@pytest.mark.parametrize("folder", ["Image/aligned", "Annotation/manual"])
def test_whole_part_absent(rafdb_tree: Path, folder: str) -> None:
    base = rafdb_tree / "basic" / folder
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

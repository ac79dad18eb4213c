"""AffectNet's two layouts, the files of 2021 and the older lists, whole and broken."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import drop, edit, fill, image_bytes, pack, put
from PIL import Image

from fer_utils.datasets import DataError, affectnet
from fer_utils.datasets.ckplus import five_points
from fer_utils.datasets.images import resize_square
from fer_utils.labels import AFFECTNET

FACES = {  # part, number: label, valence, arousal
    ("train", 0): (1, 0.75, 0.25), ("train", 3): (7, -0.5, 0.5), ("train", 12): (0, 0.0, 0.0), ("val", 0): (4, -2.0, -2.0),
}
HEADER = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
LISTED = {  # part, picture: box, label, valence, arousal
    ("training", "1/a.jpg"): ((20, 10, 50, 50), 1, 0.75, 0.25), ("training", "1/b.JPG"): ((60, 70, 50, 50), 6, -0.5, 0.5),
    ("training", "2/c.png"): ((10, 20, 30, 60), 7, -0.25, 0.5), ("training", "2/none.jpg"): (("NULL",) * 4, 10, -2, -2),
    ("validation", "2/d.jpg"): ((-10, -5, 50, 50), 4, -2, -2),
}


def picture(width: int, height: int) -> np.ndarray:
    """Red is the column, green the row."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, 0 * x], axis=-1).astype(np.uint8)


def picture_bytes(width: int, height: int) -> bytes:
    """Without loss, whatever the file is called."""
    buffer = io.BytesIO()
    Image.fromarray(picture(width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def marks(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(20, 80, (68, 2)).round(2)


def npy(value: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(value))
    return buffer.getvalue()


def write_files(root: Path) -> Path:
    """Labels and affect as text, as the owners have them; one label as a number."""
    for i, ((part, number), (label, valence, arousal)) in enumerate(FACES.items()):
        put(root, f"{part}_set/images/{number}.jpg", picture_bytes(224, 224))
        stem = f"{part}_set/annotations/{number}"
        put(root, f"{stem}_exp.npy", npy(label if number == 12 else str(label)))
        put(root, f"{stem}_val.npy", npy(str(valence)))
        put(root, f"{stem}_aro.npy", npy(str(arousal)))
        put(root, f"{stem}_lnd.npy", npy(marks(i).ravel()))
    return root


def write_lists(root: Path) -> Path:
    for name in ("training", "validation"):
        lines = [HEADER] if name == "training" else []
        for i, ((part, image), (box, *values)) in enumerate(LISTED.items()):
            if part == name:
                points = ";".join(map(str, marks(i).ravel()))
                lines.append(",".join(map(str, (image, *box, points, *values))))
        put(root, f"{name}.csv", "\n".join([*lines, ""]))
    for _, image in LISTED:
        put(root, f"Manually_Annotated_Images/{image}", picture_bytes(120, 130))
    return root


def write(root: Path, layout: str) -> Path:
    if layout.startswith("lists"):
        write_lists(root)
        if layout == "lists-zip":
            pack(root / "Manually_Annotated_Images")
    else:
        write_files(root)
        if layout == "files-zip":
            pack(root)
    return root


@pytest.mark.parametrize("layout", ["files", "files-zip"])
def test_files(tmp_path: Path, layout: str) -> None:
    root = write(tmp_path / "affectnet", layout)
    faces = affectnet.load(root, size=224)
    assert faces.name == "AffectNet" and faces.classes == AFFECTNET.classes
    assert faces.names.tolist() == [f"{part}_set/images/{number}.jpg" for part, number in FACES]
    assert [faces.classes[label] for label in faces.labels] == ["happiness", "contempt", "neutral", "fear"]
    assert faces.split.tolist() == ["train"] * 3 + ["val"]
    assert faces.truth["valence"].tolist()[:3] == [0.75, -0.5, 0.0] and faces.truth["arousal"].tolist()[:3] == [0.25, 0.5, 0.0]
    assert np.isnan(faces.truth.iloc[3].to_numpy()).all()
    assert np.array_equal(faces.images[0], picture(224, 224))
    np.testing.assert_allclose(faces.landmarks_dense[1], marks(1), atol=1e-4)
    np.testing.assert_allclose(faces.landmarks, five_points(faces.landmarks_dense), atol=1e-4)


def test_files_scaled(tmp_path: Path) -> None:
    faces = affectnet.load(write_files(tmp_path), size=56, transform=np.asarray)
    assert faces[0][0].shape == (56, 56, 3)
    np.testing.assert_allclose(faces.landmarks_dense[0], (marks(0) + 0.5) / 4 - 0.5, atol=1e-4)


@pytest.mark.parametrize("layout", ["lists", "lists-zip"])
def test_lists(tmp_path: Path, layout: str) -> None:
    faces = pickle.loads(pickle.dumps(affectnet.load(write(tmp_path / "affectnet", layout), size=50)))
    assert faces.names.tolist() == ["1/a.jpg", "1/b.JPG", "2/c.png", "2/d.jpg"]  # none.jpg is no emotion
    assert [faces.classes[label] for label in faces.labels] == ["happiness", "anger", "contempt", "fear"]
    assert faces.split.tolist() == ["train"] * 3 + ["val"]
    assert faces.truth["valence"].tolist()[:3] == [0.75, -0.5, -0.25] and np.isnan(faces.truth["valence"][3])
    np.testing.assert_array_equal(faces.images[0], picture(120, 130)[10:60, 20:70])  # a box of 50x50 needs no scaling
    np.testing.assert_allclose(faces.landmarks_dense[0], marks(0) - [20, 10], atol=1e-4)
    np.testing.assert_array_equal(faces.images[3, 5:, 10:], picture(120, 130)[:45, :40])  # beyond the border
    assert np.array_equal(faces.images[3, 0], faces.images[3, 5]) and np.array_equal(faces.images[3, :, 0], faces.images[3, :, 10])
    np.testing.assert_allclose(faces.landmarks_dense[3], marks(4) - [-10, -5], atol=1e-4)
    np.testing.assert_allclose(faces.landmarks_dense[2], (marks(2) - [10, 20] + 0.5) * [50 / 30, 50 / 60] - 0.5, atol=1e-4)


@pytest.mark.parametrize("layout", ["files", "lists"])
def test_less(tmp_path: Path, layout: str) -> None:
    root = write(tmp_path, layout)
    seven = affectnet.load(root, classes=7, landmarks=False)
    assert seven.classes == AFFECTNET.classes[:7] and len(seven) == 3 and seven.landmarks is seven.landmarks_dense is None
    val = affectnet.load(root, split="val")
    assert val.split.tolist() == ["val"] and val.images.shape == (1, 100, 100, 3)


def test_lists_in_the_owners_folders(tmp_path: Path) -> None:
    root = write_lists(tmp_path)
    (root / "Manually_Annotated").mkdir()
    (root / "Manually_Annotated_file_lists").mkdir()
    (root / "Manually_Annotated_Images").rename(root / "Manually_Annotated" / "Manually_Annotated_Images")
    for name in ("training.csv", "validation.csv"):
        (root / name).rename(root / "Manually_Annotated_file_lists" / name)
    assert len(affectnet.load(root).images) == 4


def test_one_list_alone(tmp_path: Path) -> None:
    root = write_lists(tmp_path)
    (root / "training.csv").unlink()
    assert affectnet.load(root).names.tolist() == ["2/d.jpg"]  # the pictures of the other are no mistake
    with pytest.raises(DataError, match=r"training\.csv: not found"):
        affectnet.load(root, split="train")


def test_files_without_landmarks_may_have_any_size(tmp_path: Path) -> None:
    root = write_files(tmp_path)
    put(root, "train_set/images/0.jpg", picture_bytes(100, 90))
    assert affectnet.load(root, landmarks=False).images.shape == (4, 100, 100, 3)
    with pytest.raises(DataError, match=r"0\.jpg: 100x90 pixels, to which the landmarks do not belong; expected 224x224"):
        _ = affectnet.load(root).images


def test_default_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"affectnet: not found.*train_set.*training\.csv.*mohammadmahoor"):
        affectnet.load()
    write_files(tmp_path / "affectnet")
    assert len(affectnet.load()) == 4


def test_bad_arguments(tmp_path: Path) -> None:
    for words, wrong in (("split", {"split": "test"}), ("classes", {"classes": 6}), ("size", {"size": 0})):
        with pytest.raises(ValueError, match=words):
            affectnet.load(tmp_path, **wrong)


# -- bad input ------------------------------------------------------------------------------------------------------------


def link(name: str, target: str) -> Callable[[Path], object]:
    def change(root: Path) -> None:
        put(root.parent, "outside.jpg", image_bytes(0))
        (root / name).symlink_to(target)

    return change


def add_member(archive: str, name: str) -> Callable[[Path], object]:
    def change(root: Path) -> None:
        with zipfile.ZipFile(root.parent / archive, "a") as file:
            file.writestr(name, image_bytes(0))

    return change


def cut(archive: str) -> Callable[[Path], object]:
    return lambda root: put(root.parent, archive, (root.parent / archive).read_bytes()[:-100])


def huge_header() -> bytes:
    """A header that promises far more than there is."""
    return npy(np.zeros(2)).replace(b"'shape': (2,), }        ", b"'shape': (2000000000,), }")


EXP, LND, IMAGE = "train_set/annotations/3_exp.npy", "train_set/annotations/3_lnd.npy", "train_set/images/3.jpg"
VAL, TRAINING, LISTED_IMAGE = "train_set/annotations/3_val.npy", "training.csv", "Manually_Annotated_Images/1/b.JPG"
ODD = os.fsdecode(b"caf" + bytes([0xE9])) + ".jpg"
BAD: dict[str, dict[str, tuple[Callable[[Path], object], str]]] = {
    "files": {
        "no images": (lambda root: [path.unlink() for path in root.rglob("*.*")], "no images"),
        "label file missing": (drop(EXP), r"3_exp\.npy: not found; expected the label of train_set/images/3\.jpg"),
        "valence missing": (drop(VAL), r"3_val\.npy: not found"),
        "landmarks missing": (drop(LND), r"3_lnd\.npy: not found"),
        "image listed but absent": (drop(IMAGE), r"3\.jpg: not found.*3_exp\.npy is there"),
        "image unlisted": (fill("val_set/images/9.jpg", b"x"), r"val_set/annotations/9_exp\.npy: not found"),
        "truncated image": (fill(IMAGE, image_bytes(0, (224, 224))[:-300]), r"3\.jpg: cannot be decoded"),
        "zero-byte image": (fill(IMAGE, b""), r"3\.jpg: empty file"),
        "zero-byte label": (fill(EXP, b""), r"3_exp\.npy: empty file"),
        "label truncated": (fill(EXP, npy("7")[:-2]), r"3_exp\.npy: cannot be read as \.npy"),
        "label is text": (fill(EXP, b"7"), r"3_exp\.npy: cannot be read as \.npy"),
        "label pickled": (fill(EXP, npy(np.array([{"a": 1}], dtype=object))), r"3_exp\.npy: cannot be read as \.npy .*allow_pickle"),
        "label out of range": (fill(EXP, npy("8")), r"3_exp\.npy: label 8; expected 0 to 7"),
        "label a fraction": (fill(EXP, npy(1.5)), r"3_exp\.npy: label 1\.5"),
        "label not a number": (fill(EXP, npy("joy")), r"3_exp\.npy: cannot be read"),
        "label not finite": (fill(EXP, npy(np.nan)), r"3_exp\.npy: a number that is not finite"),
        "wrong column count": (fill(LND, npy(np.zeros(135))), r"3_lnd\.npy: 135 numbers; expected 136"),
        "landmarks promise too much": (fill(LND, huge_header()), r"3_lnd\.npy: cannot be read as \.npy"),
        "valence out of range": (fill(VAL, npy("1.5")), r"3_val\.npy: valence or arousal 1\.5; expected -1 to 1"),
        "duplicate id": (fill("train_set/images/03.jpg", b"x"), r"03\.jpg: unexpected file"),
        "unexpected file": (fill("train_set/images/readme.txt", b"x"), r"readme\.txt: unexpected file"),
        "name not UTF-8": (fill(f"train_set/images/{ODD}", b"x"), "unexpected file"),
        "link leaving the folder": (link("train_set/images/9.jpg", "../../../outside.jpg"), r"9\.jpg: a link that leaves"),
        "link to itself": (link("train_set/images/9.jpg", "9.jpg"), r"9\.jpg"),
    },
    "files-zip": {
        "archive climbing out": (add_member("affectnet.zip", "../train_set/images/9.jpg"), r"affectnet\.zip!\.\./.*unsafe member name"),
        "archive truncated": (cut("affectnet.zip"), r"affectnet\.zip: cannot be read as a zip archive"),
        "image unlisted": (add_member("affectnet.zip", "affectnet/val_set/images/9.jpg"), r"9_exp\.npy: not found"),
    },
    "lists": {
        "label file missing": (lambda root: [drop(TRAINING)(root), drop("validation.csv")(root)], "no images.*training.csv"),
        "label file empty": (fill(TRAINING, b""), r"training\.csv: empty file"),
        "label file header alone": (lambda root: [drop("validation.csv")(root), put(root, TRAINING, HEADER)], "no faces with an emotion"),
        "label file not UTF-8": (fill(TRAINING, b"caf\xe9/1.jpg\n"), r"training\.csv: not a text file"),
        "other header": (edit(TRAINING, "face_x", "x"), r"training\.csv, line 1: header 'subDirectory_filePath,x"),
        "column missing": (edit(TRAINING, "60,70,50,50", "60,70,50"), r"training\.csv, line 3: 8 columns"),
        "column too many": (edit(TRAINING, "60,70,50,50", "60,70,50,50,1"), r"training\.csv, line 3: 10 columns"),
        "label out of range": (edit(TRAINING, ",6,-0.5", ",11,-0.5"), r"training\.csv, line 3: expression '11'; expected 0 to 10"),
        "label not a number": (edit(TRAINING, ",6,-0.5", ",bored,-0.5"), r"training\.csv, line 3: expression 'bored'"),
        "valence out of range": (edit(TRAINING, ",6,-0.5", ",6,-1.5"), r"training\.csv, line 3: valence or arousal -1\.5"),
        "valence not finite": (edit(TRAINING, ",6,-0.5", ",6,nan"), r"training\.csv, line 3: valence or arousal nan"),
        "box not a number": (edit(TRAINING, "60,70,50,50", "NULL,70,50,50"), r"training\.csv, line 3: not a number"),
        "box of no width": (edit(TRAINING, "60,70,50,50", "60,70,0,50"), r"training\.csv, line 3: a face at x 60, y 70 of 0x50"),
        "box huge": (edit(TRAINING, "60,70,50,50", "60,70,50000,50000"), r"training\.csv, line 3: a face at x 60, y 70 of 50000x50000"),
        "box outside the image": (
            edit(TRAINING, "60,70,50,50", "120,70,50,50"), r"training\.csv, line 3: a face at x 120.*in a picture of 120x130",
        ),
        "landmark too many": (edit(TRAINING, "20,10,50,50,", "20,10,50,50,1;"), r"training\.csv, line 2: 137 coordinates"),
        "landmark not a number": (edit(TRAINING, ";", ";x"), r"training\.csv, line 2: not a number"),
        "landmark not finite": (edit(TRAINING, f"50,50,{marks(0)[0, 0]};", "50,50,inf;"), r"training\.csv, line 2: a coordinate"),
        "duplicate id": (edit(TRAINING, "1/b.JPG", "1/a.jpg"), r"training\.csv, line 3: 1/a\.jpg is listed twice"),
        "in both lists": (edit("validation.csv", "2/d.jpg", "1/a.jpg"), r"validation\.csv, line 1: 1/a\.jpg is listed twice"),
        "name climbing out": (edit(TRAINING, "1/b.JPG", "../training.csv"), r"not found.*training\.csv, line 3, names it"),
        "image listed but absent": (drop(LISTED_IMAGE), r"1/b\.JPG: not found.*training\.csv, line 3, names it"),
        "image unlisted": (fill("Manually_Annotated_Images/2/z.jpg", b"x"), r"2/z\.jpg: not in .*training\.csv or .*validation\.csv"),
        "images missing": (
            lambda root: (root / "Manually_Annotated_Images").rename(root / "away"), "Manually_Annotated_Images: not found, neither",
        ),
        "truncated image": (fill(LISTED_IMAGE, image_bytes(0)[:-300]), r"b\.JPG: cannot be decoded"),
        "zero-byte image": (fill(LISTED_IMAGE, b""), r"b\.JPG: empty file"),
        "name not UTF-8": (fill(f"Manually_Annotated_Images/2/{ODD}", b"x"), r"not in .*training\.csv"),
        "link leaving the folder": (link("Manually_Annotated_Images/2/z.jpg", "../../../outside.jpg"), r"z\.jpg: a link that leaves"),
        "link to itself": (link("Manually_Annotated_Images/2/z.jpg", "z.jpg"), r"z\.jpg"),
    },
    "lists-zip": {
        "archive climbing out": (add_member("affectnet/Manually_Annotated_Images.zip", "../z.jpg"), "z.jpg: unsafe member name"),
        "archive truncated": (cut("affectnet/Manually_Annotated_Images.zip"), "cannot be read as a zip archive"),
        "image unlisted": (add_member("affectnet/Manually_Annotated_Images.zip", "2/z.jpg"), r"2/z\.jpg: not in .*training\.csv"),
    },
}


@pytest.mark.parametrize(("layout", "case"), [pytest.param(a, b, id=f"{a}-{b}") for a in BAD for b in BAD[a]])
def test_bad_input(tmp_path: Path, layout: str, case: str) -> None:
    root = write(tmp_path / "affectnet", layout)
    change, words = BAD[layout][case]
    change(root)
    with pytest.raises(DataError, match=words):
        _ = affectnet.load(root).images


@pytest.mark.parametrize(("layout", "name"), [("files", "3_exp.npy"), ("lists", "training.csv")], ids=["files", "lists"])
def test_bad_input_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, name: str) -> None:
    root = write(tmp_path, layout)
    read = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match=f"{name}: cannot be read .*Permission denied"):
        affectnet.load(root)


# -- copies ---------------------------------------------------------------------------------------------------------------


def rewrite(root: Path, change: Callable[[list[str]], list[str]], mark: str = ",", header: bool = True) -> Path:
    """Write both lists anew, each row changed."""
    for name in ("training.csv", "validation.csv"):
        rows = [line.split(",") for line in (root / name).read_text().splitlines() if not line.startswith("sub")]
        rows = [*([HEADER.split(",")] if header else []), *rows]
        put(root, name, "\n".join(mark.join(change(row)) for row in rows) + "\n")
    return root


def quote_marks(row: list[str]) -> list[str]:
    return [f'"{cell}"' if ";" in cell else cell for cell in row]


@pytest.mark.parametrize(
    ("change", "mark", "header"),
    [
        (lambda row: ["" if row[0].startswith("sub") else "7", *row], ",", True),  # row numbers
        (lambda row: [*row[::-1]], ",", True), (quote_marks, ";", True), (lambda row: row, "\t", False),
        (lambda row: [row[0].replace("/", "\\"), *row[1:]], ",", True),
        (lambda row: [cell.upper() if row[0].startswith("sub") else cell for cell in row], ",", True),
    ],
    ids=["numbered", "reversed", "semicolons", "tabs", "backslashes", "capitals"],
)
def test_lists_of_copies(tmp_path: Path, change: Callable[[list[str]], list[str]], mark: str, header: bool) -> None:
    whole = affectnet.load(write_lists(tmp_path / "whole"), size=50)
    faces = affectnet.load(rewrite(write_lists(tmp_path / "copy"), change, mark, header), size=50)
    assert faces.names.tolist() == whole.names.tolist() and faces.labels.tolist() == whole.labels.tolist()
    assert faces.truth.equals(whole.truth) and np.array_equal(faces.images, whole.images) and faces.name == whole.name == "AffectNet"
    np.testing.assert_array_equal(faces.landmarks_dense, whole.landmarks_dense)


def test_a_list_without_boxes_and_points(tmp_path: Path) -> None:
    root = rewrite(write_lists(tmp_path), lambda row: [row[0], row[6]])
    (root / "Manually_Annotated_Images").rename(root / "images")
    for old, new in (("training", "Train"), ("validation", "valid")):
        (root / f"{old}.csv").rename(root / f"{new}.csv")
    faces = affectnet.load(root, size=50)
    assert faces.labels.tolist() == [1, 6, 7, 4] and faces.split.tolist() == ["train"] * 3 + ["val"]
    assert np.isnan(faces.truth.to_numpy()).all() and faces.landmarks is None
    assert np.array_equal(faces.images[0], resize_square(picture(120, 130), 50))  # the whole picture
    assert faces.name == "AffectNet (without facial_landmarks and face_x in Train.csv and valid.csv no landmarks)"


@pytest.mark.parametrize("inner", ["", "archive/"])
def test_labels_in_one_table(tmp_path: Path, inner: str) -> None:
    rows = ["0,anger/a.jpg,surprise,0.8", "1,contempt/b.png,contempt,0.9"]
    put(tmp_path, f"{inner}labels.csv", "\n".join([",pth,label,relFCs", *rows]))
    for row in rows:
        put(tmp_path, f"{inner}{row.split(',')[1]}", picture_bytes(96, 96))
    faces = affectnet.load(tmp_path, size=96)
    assert [faces.classes[label] for label in faces.labels] == ["surprise", "contempt"] and set(faces.split) == {"none"}
    assert np.array_equal(faces.images[1], picture(96, 96))
    assert affectnet.load(tmp_path, classes=7).names.tolist() == ["anger/a.jpg"]


def test_files_without_points_or_affect(tmp_path: Path) -> None:
    root = write_files(tmp_path / "affectnet" / "inner")
    for path in [*root.rglob("*_lnd.npy"), *root.rglob("*_aro.npy")]:
        path.unlink()
    faces = affectnet.load(tmp_path / "affectnet", size=50)
    assert faces.labels.tolist() == [label for label, *_ in FACES.values()] and faces.landmarks is None
    assert faces.truth["arousal"].isna().all() and faces.truth["valence"].tolist()[:2] == [0.75, -0.5]
    assert faces.name == "AffectNet (without annotations/*_lnd.npy no landmarks)"


def test_a_copy_that_no_loader_knows_is_described(tmp_path: Path) -> None:
    put(tmp_path, "YOLO_format/train/images/a.png", picture_bytes(9, 9))
    with pytest.raises(DataError, match=r"no images: an unknown layout, with YOLO_format/; expected .*class folders"):
        affectnet.load(tmp_path)
    put(tmp_path, "labels.csv", "pth,label\nanger/a.jpg,bored\n")
    with pytest.raises(DataError, match=r"labels\.csv, line 2: expression 'bored'"):
        affectnet.load(tmp_path)

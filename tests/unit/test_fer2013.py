"""FER2013 as a table and as folders, and the votes of FER+: whole and broken."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import drop, edit, fill, image_bytes, pack, put
from PIL import Image

from fer_utils.datasets import DataError, fer2013
from fer_utils.datasets.layouts import SPLITS
from fer_utils.labels import BASIC, FER2013, FERPLUS

ROWS = [(0, "Training"), (3, "Training"), (6, "PublicTest"), (4, "PublicTest"), (1, "PrivateTest"), (5, "PrivateTest")]
HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
VOTES = [
    ("fer0000000.png", (0, 0, 0, 1, 6, 3, 0, 0, 0, 0)),  # anger: 6 of the 9 that are not single
    ("fer0000001.png", (0, 5, 5, 0, 0, 0, 0, 0, 0, 0)),  # a tie: no majority, two classes in proportion
    ("", (0, 0, 0, 0, 0, 0, 0, 0, 0, 10)),
    ("fer0000002.png", (2, 0, 0, 0, 0, 0, 0, 8, 0, 0)),  # contempt
    ("fer0000004.png", (3, 0, 0, 0, 0, 0, 0, 0, 7, 0)),  # unknown
    ("fer0000005.png", (0, 0, 10, 0, 0, 0, 0, 0, 0, 0)),
]
FILES = {
    "train/angry/Training_1.jpg": ("anger", "train"), "train/happy/im0.png": ("happiness", "train"),
    "test/Neutral/PublicTest_5.jpg": ("neutral", "val"), "test/sad/PrivateTest_7.jpg": ("sadness", "test"),
    "validation/DISGUST/im0.png": ("disgust", "val"),
}


def pixels(i: int) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 256, (48, 48), dtype=np.uint8)


def row_text(i: int) -> str:
    return " ".join(map(str, pixels(i).ravel()))


def write_table(root: Path) -> Path:
    lines = [f"{label},{row_text(i)},{usage}" for i, (label, usage) in enumerate(ROWS)]
    put(root, "fer2013.csv", "\n".join(["emotion,pixels,Usage", *lines, ""]))
    return root


def write_votes(root: Path) -> Path:
    lines = [f"{usage},{name},{','.join(map(str, votes))}" for (_, usage), (name, votes) in zip(ROWS, VOTES, strict=True)]
    put(root, "fer2013new.csv", "\n".join([HEADER, *lines, ""]))
    return root


def write_folders(root: Path) -> Path:
    for i, name in enumerate(FILES):
        put(root, name, image_bytes(i, (48, 48), "L", "PNG" if name.endswith("png") else "JPEG"))
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_votes(write_table(tmp_path / "fer2013"))


def test_table(tree: Path) -> None:
    faces = fer2013.load(tree)
    assert faces.name == "FER2013" and faces.classes == FER2013.classes
    assert faces.images.shape == (6, 48, 48) and all(np.array_equal(image, pixels(i)) for i, image in enumerate(faces.images))
    assert faces.labels.tolist() == [label for label, _ in ROWS]
    assert faces.split.tolist() == ["train", "train", "val", "val", "test", "test"]
    assert faces.names[0] == "fer2013.csv#2" and faces.votes is None and faces.distributions is None


def test_split_and_transform(tree: Path) -> None:
    val = fer2013.load(tree, split="val", transform=np.asarray)
    assert val.names.tolist() == ["fer2013.csv#4", "fer2013.csv#5"] and np.array_equal(val[1][0], pixels(3)) and val[1][1] == 4


def test_columns_in_another_order(tmp_path: Path) -> None:
    lines = [f'{label}, {usage},"{row_text(i)}"' for i, (label, usage) in enumerate(ROWS)]
    put(tmp_path, "icml_face_data.csv", "\r\n".join(["emotion, Usage, pixels", *lines]))
    assert np.array_equal(fer2013.load(tmp_path).images[5], pixels(5))


@pytest.mark.parametrize("extreme", [0, 9, 10, 99, 100, 255])
def test_pixels_of_any_width(tmp_path: Path, extreme: int) -> None:
    values = np.array([0, 7, 10, 42, 99, 100, 199, 255, extreme] * 256)
    rows = [f"0,{blank.join(map(str, values))},Training" for blank in (" ", "  ")]
    put(tmp_path, "fer2013.csv", "\n".join(["emotion,pixels,Usage", *rows]))
    for image in fer2013.load(tmp_path).images:
        assert np.array_equal(image.ravel(), values)


def test_many_rows(tmp_path: Path) -> None:
    lines = [f"{i % 7},{row_text(i)},Training" for i in range(40)]
    lines[20] = lines[20].replace(" ", "  ", 1)  # one row that the fast way does not take
    put(tmp_path, "fer2013.csv", "\n".join(["emotion,pixels,Usage", *lines]))
    assert all(np.array_equal(image, pixels(i)) for i, image in enumerate(fer2013.load(tmp_path).images))


@pytest.mark.parametrize("zipped", [False, True], ids=["folders", "zip"])
def test_folders(tmp_path: Path, zipped: bool) -> None:
    root = write_folders(tmp_path / "fer2013")
    put(root, "README.md", "about")
    if zipped:
        pack(root)
    faces = fer2013.load(root)
    found = {name: (faces.classes[label], part) for name, label, part in zip(faces.names, faces.labels, faces.split, strict=True)}
    assert found == FILES and faces.names.tolist() == sorted(FILES) and faces.images.shape == (5, 48, 48)
    assert fer2013.load(root, split="test").names.tolist() == ["test/sad/PrivateTest_7.jpg"]


def test_ferplus_majority(tree: Path) -> None:
    faces = fer2013.load_ferplus(tree)
    assert faces.name == "FER+" and faces.classes == FERPLUS.classes
    assert faces.names.tolist() == ["fer0000000.png", "fer0000002.png", "fer0000005.png"]
    assert [faces.classes[label] for label in faces.labels] == ["anger", "contempt", "surprise"]
    assert faces.split.tolist() == ["train", "val", "test"]
    assert np.array_equal(faces.images, [pixels(i) for i in (0, 3, 5)])  # by row, whatever the number in the name
    share = dict(zip(BASIC, faces.distributions[0].tolist(), strict=True))
    assert share["anger"] == pytest.approx(6 / 9) and share["disgust"] == pytest.approx(3 / 9) and share["sadness"] == 0
    assert faces.distributions[1].tolist() == [0, 0, 0, 0, 0, 0, 1]  # contempt is left out
    first = faces.votes[faces.votes["task"] == "fer0000000.png"]
    assert sorted(first["label"]) == [3, *[4] * 6, *[5] * 3] and faces.votes["worker"].is_unique and len(faces.votes) == 30
    assert fer2013.load_ferplus(tree, classes=7).names.tolist() == ["fer0000000.png", "fer0000005.png"]
    assert fer2013.load_ferplus(tree, split="val").names.tolist() == ["fer0000002.png"]


def test_ferplus_probability(tree: Path) -> None:
    faces = fer2013.load_ferplus(tree, mode="probability")
    assert faces.names.tolist() == ["fer0000000.png", "fer0000001.png", "fer0000002.png", "fer0000005.png"]
    share = dict(zip(BASIC, faces.distributions[1].tolist(), strict=True))
    assert share["happiness"] == share["surprise"] == 0.5 and faces.classes[faces.labels[1]] == "happiness"


@pytest.mark.parametrize(
    ("votes", "majority", "leading"),
    [
        ((10, 0, 0, 0, 0, 0, 0, 0, 0, 0), {0: 10}, {0: 10}),
        ((4, 1, 1, 1, 1, 1, 1, 0, 0, 0), {0: 4}, {0: 4}),  # single votes count as none
        ((5, 3, 2, 0, 0, 0, 0, 0, 0, 0), {}, {0: 5, 1: 3}),  # half is no majority; 8 of 10 are enough
        ((6, 2, 2, 0, 0, 0, 0, 0, 0, 0), {0: 6, 1: 2, 2: 2}, {0: 6, 1: 2, 2: 2}),
        ((4, 2, 2, 2, 0, 0, 0, 0, 0, 0), {}, {}),  # four leading classes
        ((4, 0, 0, 0, 0, 0, 0, 0, 4, 2), {}, {}),  # 4 of 10
        ((6, 0, 0, 0, 0, 0, 0, 0, 4, 0), {0: 6}, {0: 6}),  # unknown is next
        ((3, 3, 0, 0, 0, 0, 0, 0, 3, 0), {}, {0: 3, 1: 3}),  # unknown ties
        ((4, 0, 0, 0, 0, 0, 0, 0, 6, 0), {}, {}),
        ((1, 1, 1, 1, 1, 1, 1, 1, 1, 1), {}, {}),
    ],
)
def test_ferplus_rules(votes: tuple[int, ...], majority: dict[int, int], leading: dict[int, int]) -> None:
    for count, want in ((fer2013._count_majority, majority), (fer2013._count_leading, leading)):
        got = count(np.array([votes]))[0]
        assert {i: n for i, n in enumerate(got.tolist()) if n} == want, count.__name__


def test_ferplus_contempt_alone(tmp_path: Path) -> None:
    root = write_votes(write_table(tmp_path))
    text = (root / "fer2013new.csv").read_text()
    put(root, "fer2013new.csv", text.replace("2,0,0,0,0,0,0,8,0,0", "0,0,0,0,0,0,0,10,0,0"))
    faces = fer2013.load_ferplus(root)
    assert np.isnan(faces.distributions[1]).all() and np.allclose(faces.distributions[[0, 2]].sum(axis=1), 1)


def test_ferplus_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_DATA", str(tmp_path))
    write_table(tmp_path / "fer2013")
    with pytest.raises(DataError, match=r"fer2013new\.csv: not found.*github\.com/microsoft/FERPlus"):
        fer2013.load_ferplus()
    write_votes(tmp_path / "ferplus")
    assert len(fer2013.load_ferplus()) == len(fer2013.load_ferplus(tmp_path / "fer2013", votes=tmp_path / "ferplus")) == 3


def test_default_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"fer2013: not found.*fer2013\.csv.*Kaggle"):
        fer2013.load()
    write_table(tmp_path / "fer2013")
    assert len(fer2013.load()) == 6


def test_bad_arguments(tree: Path) -> None:
    with pytest.raises(ValueError, match="split must be"):
        fer2013.load(tree, split="PublicTest")
    with pytest.raises(ValueError, match="split must be"):
        fer2013.load_ferplus(tree, split="dev")
    with pytest.raises(ValueError, match="mode must be"):
        fer2013.load_ferplus(tree, mode="soft")
    with pytest.raises(ValueError, match="classes must be"):
        fer2013.load_ferplus(tree, classes=6)


# -- bad input ------------------------------------------------------------------------------------------------------------


def link(name: str, target: str) -> Callable[[Path], object]:
    def change(root: Path) -> None:
        put(root.parent, "outside.png", image_bytes(0, (48, 48), "L", "PNG"))
        (root / name).symlink_to(target)

    return change


def add_member(name: str) -> Callable[[Path], object]:
    def change(root: Path) -> None:
        with zipfile.ZipFile(root / "fer2013.zip", "a") as archive:
            archive.writestr(name, image_bytes(0, (48, 48), "L", "PNG"))

    return change


def cut(name: str) -> Callable[[Path], object]:
    return lambda root: put(root, name, (root / name).read_bytes()[:-200])


CSV, NEW = "fer2013.csv", "fer2013new.csv"
BAD = {
    "table": {
        "label file missing": (lambda root: (drop(CSV)(root), drop(NEW)(root)), "no images.*fer2013.csv"),
        "zero bytes": (fill(CSV, b""), r"fer2013\.csv: empty file"),
        "byte order mark alone": (fill(CSV, b"\xef\xbb\xbf"), r"fer2013\.csv, line 1: header ''"),
        "header alone": (fill(CSV, b"emotion,pixels,Usage\n"), "no rows"),
        "other header": (edit(CSV, "emotion,", "label,"), "line 1: header 'label,pixels,Usage'"),
        "wrong column count": (edit(CSV, ",PublicTest", ",PublicTest,1"), "line 4: 4 columns"),
        "label out of range": (edit(CSV, "\n3,", "\n7,"), "line 3: emotion '7'.*0 to 6"),
        "label not a number": (edit(CSV, "\n3,", "\nhappy,"), "line 3: emotion 'happy'"),
        "unknown usage": (edit(CSV, "PublicTest", "Validation"), "line 4: usage 'Validation'.*PublicTest"),
        "not UTF-8": (fill(CSV, b"emotion,pixels,Usage\n\xff\xfe"), r"fer2013\.csv: not a text file"),
        "pixel missing": (edit(CSV, row_text(2), row_text(2).rsplit(" ", 1)[0]), "line 4: 2303 pixels.*2304"),
        "pixel too many": (edit(CSV, row_text(2), f"{row_text(2)} 0"), "line 4: 2305 pixels"),
        "pixels shifted to the next row": (
            lambda root: (edit(CSV, row_text(2), row_text(2).rsplit(" ", 1)[0])(root), edit(CSV, row_text(3), f"0 {row_text(3)}")(root)),
            "line 4: 2303 pixels",
        ),
        "pixel too large": (edit(CSV, row_text(2), f"256 {row_text(2).split(' ', 1)[1]}"), "line 4: pixel '256'.*0 to 255"),
        "pixel negative": (edit(CSV, row_text(2), f"-1 {row_text(2).split(' ', 1)[1]}"), "line 4: pixel '-1'"),
        "pixel a fraction": (edit(CSV, row_text(2), f"1.5 {row_text(2).split(' ', 1)[1]}"), r"line 4: pixel '1\.5'"),
        "pixel no digit": (edit(CSV, row_text(2), f"１ {row_text(2).split(' ', 1)[1]}"), "line 4: pixel '１'"),
        "truncated": (cut(CSV), "line 7: 2 columns"),
    },
    "ferplus": {
        "label file missing": (drop(NEW), r"fer2013new\.csv: not found"),
        "table missing": (drop(CSV), r"fer2013\.csv: not found.*row by row"),
        "zero bytes": (fill(NEW, b""), r"fer2013new\.csv: empty file"),
        "other header": (edit(NEW, "neutral,happiness", "happiness,neutral"), r"fer2013new\.csv, line 1: header"),
        "wrong column count": (edit(NEW, ",10,0,0,0,0,0,0,0\n", ",10,0,0,0,0,0,0\n"), "line 7: 11 columns"),
        "vote out of range": (edit(NEW, "1,6,3", "1,-6,3"), "line 2: votes"),
        "vote not a number": (edit(NEW, "1,6,3", "1,six,3"), "line 2: votes"),
        "duplicate id": (edit(NEW, "fer0000002", "fer0000000"), "line 5: fer0000000.png is listed twice"),
        "usage differs": (edit(NEW, "PublicTest,fer0000002", "PrivateTest,fer0000002"), "line 5: usage 'PrivateTest'.*line 5, of the val"),
        "row missing": (edit(NEW, "PrivateTest,fer0000005.png,0,0,10,0,0,0,0,0,0,0\n", ""), "5 rows; expected 6, as in .*fer2013.csv"),
        "row too many": (edit(NEW, "PrivateTest,fer0000005", "PrivateTest,,0,0,0,0,0,0,0,0,0,10\nPrivateTest,fer0000005"), "7 rows"),
        "not UTF-8": (fill(NEW, b"\xff\xfe"), r"fer2013new\.csv: not a text file"),
    },
    "folders": {
        "no images": (lambda root: [drop(name)(root) for name in FILES], "no images.*fer2013.csv"),
        "unknown class": (fill("train/bored/1.png", b"x"), "bored/1.png: unexpected file.*angry"),
        "image without a class": (fill("train/1.png", b"x"), "train/1.png: unexpected file"),
        "no image file": (fill("train/angry/labels.txt", b"x"), "labels.txt: unexpected file"),
        "truncated image": (fill("train/happy/im0.png", image_bytes(0, (48, 48), "L", "JPEG")[:-40]), "im0.png: cannot be decoded"),
        "zero bytes": (fill("train/happy/im0.png", b""), "im0.png: empty file"),
        "wrong size": (fill("train/happy/im0.png", image_bytes(0, (50, 48), "L", "PNG")), "im0.png: 50x48 pixels; expected 48x48"),
        "name not UTF-8": (fill(f"train/happy/{os.fsdecode(b'caf' + bytes([0xE9]))}.png", b"x"), "a name that is not UTF-8"),
        "link leaving the folder": (link("train/happy/9.png", "../../../outside.png"), "9.png: a link that leaves the folder"),
        "link to itself": (link("train/happy/9.png", "9.png"), r"9\.png"),
    },
    "zip": {
        "archive climbing out": (add_member("../train/happy/9.png"), r"fer2013\.zip!\.\./train/happy/9\.png: unsafe member name"),
        "duplicate id": (add_member("fer2013/train/happy/im0.png"), "im0.png: comes twice"),
        "truncated archive": (cut("fer2013.zip"), "cannot be read as a zip archive"),
        "zero bytes": (fill("fer2013.zip", b""), r"fer2013\.zip: cannot be read as a zip archive"),
    },
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("layout", "case"), [pytest.param(a, b, id=f"{a}-{b}") for a in BAD for b in BAD[a]])
def test_bad_input(tmp_path: Path, layout: str, case: str) -> None:
    root = tmp_path / "fer2013"
    if layout in ("table", "ferplus"):
        write_votes(write_table(root))
    else:
        write_folders(root)
    if layout == "zip":
        pack(root)
    else:
        root.mkdir(exist_ok=True)
    change, words = BAD[layout][case]
    change(tmp_path if layout == "zip" else root)
    with pytest.raises(DataError, match=words):
        _ = (fer2013.load_ferplus if layout == "ferplus" else fer2013.load)(root).images


@pytest.mark.parametrize("name", [CSV, NEW])
def test_bad_input_unreadable(tree: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    read = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match=f"{name}: cannot be read .Permission denied"):
        fer2013.load_ferplus(tree)


# -- copies ---------------------------------------------------------------------------------------------------------------

PLAIN = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
ADJECTIVES = ("angry", "disgusted", "fearful", "happy", "neutral", "sad", "surprised")
PICTURE = image_bytes(0, (48, 48), "L", "PNG")


@pytest.mark.parametrize(
    ("inner", "parts", "words", "splits"),
    [
        ("", ("train", "test"), ADJECTIVES, {"train": 7, "test": 7}),
        ("images/", ("train", "validation"), PLAIN, {"train": 7, "val": 7}),
        ("", ("Training", "PublicTest", "PrivateTest"), PLAIN, {"train": 7, "val": 7, "test": 7}),
        ("archive/fer2013/", ("train", "test"), PLAIN, {"train": 7, "test": 7}),
    ],
)
@pytest.mark.parametrize("zipped", [False, True], ids=["folders", "zip"])
def test_folders_of_copies(
    tmp_path: Path, inner: str, parts: tuple[str, ...], words: tuple[str, ...], splits: dict[str, int], zipped: bool
) -> None:
    root = tmp_path / "fer2013"
    for part in parts:
        for word in words:
            put(root, f"{inner}{part}/{word}/im0.png", PICTURE)
    if zipped:
        pack(root)
    faces = fer2013.load(root)
    assert dict(zip(*np.unique(faces.split, return_counts=True), strict=True)) == splits
    assert set(faces.class_counts().values()) == {len(parts)} and faces.images.shape == (7 * len(parts), 48, 48)
    nouns = dict(zip(words, ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"), strict=True))
    assert [faces.classes[label] for label in faces.labels] == [nouns[name.split("/")[-2]] for name in faces.names]
    assert faces.name == f"FER2013 (pictures in {' and '.join(sorted(f'{inner}{part}' for part in parts))})"


@pytest.mark.parametrize("place", ["fer2013/fer2013.csv", "fer2013", "archive/fer2013", "data.csv"])
def test_table_in_other_places(tmp_path: Path, place: str) -> None:
    table = (write_table(tmp_path / "whole") / CSV).read_bytes()
    put(tmp_path / "root", place, table)
    faces = fer2013.load(tmp_path / "root" / (place if place == "data.csv" else ""))
    assert faces.labels.tolist() == [label for label, _ in ROWS] and faces.name == "FER2013"


def test_the_contests_training_table_alone(tmp_path: Path) -> None:
    put(tmp_path, "train.csv", "\n".join(["emotion,pixels", *(f"{label},{row_text(i)}" for i, (label, _) in enumerate(ROWS))]))
    put(tmp_path, "test.csv", f"pixels\n{row_text(0)}\n")
    faces = fer2013.load(tmp_path)
    assert faces.split.tolist() == ["train"] * 6 and np.array_equal(faces.images[5], pixels(5))
    assert faces.name == "FER2013 (the contest's train.csv: the training part alone)"
    with pytest.raises(DataError, match=r"train\.csv: no images of the test part"):
        fer2013.load(tmp_path, split="test")


def test_a_column_of_row_numbers(tmp_path: Path) -> None:
    lines = [f"{i},{label},{row_text(i)},{usage}" for i, (label, usage) in enumerate(ROWS)]
    put(tmp_path, CSV, "\n".join([",emotion,pixels,usage", *lines]))
    assert fer2013.load(tmp_path).labels.tolist() == [label for label, _ in ROWS]


def test_a_copy_that_no_loader_knows_is_described(tmp_path: Path) -> None:
    put(tmp_path, "fer2013.tar.gz", "x")
    with pytest.raises(DataError, match=r"no images: an unknown layout, with fer2013\.tar\.gz; expected .*unpacked"):
        fer2013.load(tmp_path)
    put(tmp_path, "train/3/im0.png", PICTURE)
    with pytest.raises(DataError, match=r"class '3'.*numbers do not say which emotion"):
        fer2013.load(tmp_path)


def write_script(root: Path) -> Path:
    """What FER+'s own script writes; the names go on from part to part."""
    for i, ((_, usage), (name, votes)) in enumerate(zip(ROWS, VOTES, strict=True)):
        part = {"Training": "Train", "PublicTest": "Valid", "PrivateTest": "Test"}[usage]
        path = root / f"FER2013{part}" / "label.csv"
        if name:
            put(root, f"FER2013{part}/{name}", image_bytes(i, (48, 48), "L", "PNG"))
            rest = path.read_text() if path.exists() else ""
            put(path.parent, path.name, f'{rest}{name},"(0, 0, 48, 48)",{",".join(map(str, votes))}\n')
    return root


@pytest.mark.parametrize("place", ["fer2013", "ferplus", "ferplus/data"])
def test_ferplus_as_its_script_writes_it(tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    table = fer2013.load_ferplus(tree)
    drop(CSV)(tree)
    monkeypatch.setenv("FER_DATA", str(tmp_path / "data"))
    write_script(tmp_path / "data" / place)
    faces = fer2013.load_ferplus()
    assert [name.split("/")[1] for name in faces.names] == table.names.tolist()
    assert faces.labels.tolist() == table.labels.tolist() and faces.split.tolist() == table.split.tolist()
    assert np.array_equal(faces.distributions, table.distributions) and faces.votes["label"].tolist() == table.votes["label"].tolist()
    assert np.array_equal(faces.images[0], np.asarray(Image.open(tmp_path / "data" / place / faces.names[0])))
    assert faces.name == "FER+ (as its own script writes it, FER2013Train, FER2013Valid, FER2013Test)"
    assert fer2013.load_ferplus(split="test", mode="probability").names.tolist() == ["FER2013Test/fer0000005.png"]


SCRIPT = {
    "label file missing": (drop("FER2013Valid/label.csv"), r"FER2013Valid/label\.csv: not found"),
    "wrong column count": (edit("FER2013Train/label.csv", ",0,0\n", ",0\n"), "label.csv, line 1"),
    "vote not a number": (edit("FER2013Train/label.csv", ",6,3", ",6,x"), "label.csv, line 1"),
    "quote not closed": (edit("FER2013Train/label.csv", ')"', ")"), "label.csv, line 1: .* cannot be read"),
    "box of a part": (edit("FER2013Train/label.csv", "(0, 0, 48", "(0, 9, 48"), r"line 1: a box '\(0, 9"),
    "duplicate id": (edit("FER2013Train/label.csv", "fer0000001", "fer0000000"), "line 2: fer0000000.png is listed twice"),
    "image listed but absent": (drop("FER2013Test/fer0000005.png"), r"fer0000005\.png: not found.*label\.csv, line 2, names it"),
    "image unlisted": (fill("FER2013Test/fer0000009.png", b"x"), r"fer0000009\.png: not in .*label\.csv"),
    "image truncated": (fill("FER2013Test/fer0000005.png", PICTURE[:90]), "cannot be decoded"),
}


@pytest.mark.parametrize("case", SCRIPT)
def test_bad_input_of_the_script(tmp_path: Path, case: str) -> None:
    change, words = SCRIPT[case]
    change(write_script(tmp_path))
    with pytest.raises(DataError, match=words):
        _ = fer2013.load_ferplus(tmp_path).images


def test_folders_are_called_as_anywhere():
    assert fer2013._FOLDERS.items() >= SPLITS.items()

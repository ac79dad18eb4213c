"""ExpW's layout: photographs in a folder or a zip archive and one line a face, whole and broken."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import image_bytes, pack, put, tamper
from PIL import Image

from fer_utils.datasets import DataError, expw
from fer_utils.labels import EXPW

LIST = "label.lst"
LINES = [  # name face_id top left right bottom confidence label
    "angry_actor_1.jpg 0 10 5 25 30 95.2 0", "angry_actor_1.jpg 1 20 30 70 60 81 6", "happy_girl_2.jpg 0 -5 -10 10 15 60.5 3",
]


def photograph(width: int = 80, height: int = 60) -> np.ndarray:
    """Red is the column, green the row."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, 0 * x], axis=-1).astype(np.uint8)


def photograph_bytes() -> bytes:
    """Without loss, whatever the file is called."""
    buffer = io.BytesIO()
    Image.fromarray(photograph()).save(buffer, "PNG")
    return buffer.getvalue()


def write_expw(root: Path, *, zipped: bool = False) -> Path:
    for name in ("angry_actor_1.jpg", "happy_girl_2.jpg", "nobody_3.jpg"):
        put(root, f"image/origin/{name}", photograph_bytes())
    put(root, LIST, "\n".join([*LINES, ""]))
    if zipped:
        pack(root / "image" / "origin")
    return root


@pytest.fixture
def tree(tmp_path: Path, zipped: bool) -> Path:
    return write_expw(tmp_path / "expw", zipped=zipped)


def test_load(tree: Path) -> None:
    faces = pickle.loads(pickle.dumps(expw.load(tree, size=20)))
    assert faces.name == "ExpW" and faces.classes == EXPW.classes and set(faces.split) == {"none"}
    assert faces.names.tolist() == ["angry_actor_1.jpg#0", "angry_actor_1.jpg#1", "happy_girl_2.jpg#0"]
    assert [faces.classes[label] for label in faces.labels] == ["anger", "neutral", "happiness"]
    assert faces.images.shape == (3, 20, 20, 3)
    np.testing.assert_array_equal(faces.images[0], photograph()[10:30, 5:25])  # the box of 20x20 needs no scaling
    np.testing.assert_allclose(faces.images[1, [0, -1], [0, -1], :2], [[30, 20], [69, 59]], atol=1)
    assert faces.truth.columns.tolist() == ["top", "left", "right", "bottom", "confidence"]
    assert faces.truth.iloc[2, :4].tolist() == [-5, -10, 10, 15] and faces.truth["confidence"][0] == np.float32(95.2)


def test_box_beyond_the_border(tree: Path) -> None:
    part = Image.fromarray(photograph()[:15, :10]).resize((20, 20), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(expw.load(tree, size=20).images[2], np.asarray(part))


def test_min_side(tree: Path) -> None:
    assert expw.load(tree, min_side=20).names.tolist() == [line.rsplit(" ", 6)[0].replace(" ", "#") for line in LINES]
    assert expw.load(tree, min_side=21).names.tolist() == ["angry_actor_1.jpg#1"]  # 40x40
    assert len(expw.load(tree, min_side=41)) == 0
    assert expw.load(tree).images.shape == (3, 100, 100, 3) and expw.load(tree, transform=np.asarray)[0][0].shape == (100, 100, 3)


def test_line_said_twice(tree: Path) -> None:
    put(tree, LIST, "\n".join([*LINES, LINES[0].replace(" ", "  ")]))
    assert len(expw.load(tree)) == 3


def test_default_root_and_the_other_place_of_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"expw: no such folder.*label\.lst.*socialrelation"):
        expw.load()
    root = write_expw(tmp_path / "expw")
    put(root, "label/label.lst", (root / LIST).read_bytes())
    (root / LIST).unlink()
    assert len(expw.load()) == 3


def test_bad_arguments(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="size"):
        expw.load(tmp_path, size=0)
    with pytest.raises(ValueError, match="min_side"):
        expw.load(tmp_path, min_side=-1)


# -- bad input ------------------------------------------------------------------------------------------------------------


def line(number: int, text: str) -> Callable[[Path], object]:
    return lambda root: put(root, LIST, "\n".join([*LINES[: number - 1], text, *LINES[number:]]))


def picture(name: str, change: Callable[[bytes], bytes | None]) -> Callable[[Path], object]:
    return lambda root: tamper(root, "image/origin", name, change)


def link(name: str, target: str) -> Callable[[Path], object]:
    def change(root: Path) -> None:
        put(root, "outside.jpg", image_bytes(0))
        (root / "image" / "origin" / name).symlink_to(target)

    return change


def add_member(name: str) -> Callable[[Path], object]:
    def change(root: Path) -> None:
        with zipfile.ZipFile(root / "image" / "origin.zip", "a") as archive:
            archive.writestr(name, image_bytes(0))

    return change


FIRST = "angry_actor_1.jpg"
BOTH: dict[str, tuple[Callable[[Path], object], str]] = {
    "label file missing": (lambda root: (root / LIST).unlink(), r"label\.lst: not found"),
    "label file empty": (lambda root: put(root, LIST, b""), r"label\.lst: empty file"),
    "label file blank": (lambda root: put(root, LIST, b"\n \n"), r"label\.lst: no labels"),
    "label file not UTF-8": (lambda root: put(root, LIST, b"caf\xe9.jpg 0 10 5 25 30 95.2 0\n"), r"label\.lst: not a text file"),
    "label file a folder": (lambda root: ((root / LIST).unlink(), (root / LIST).mkdir()), r"label\.lst: cannot be read"),
    "images missing": (lambda root: (root / "image").rename(root / "away"), "origin: not found, neither"),
    "image listed but absent": (picture(FIRST, lambda _: None), r"angry_actor_1\.jpg: not found.*label\.lst, line 1, names it"),
    "truncated image": (picture(FIRST, lambda _: image_bytes(1)[:-200]), r"angry_actor_1\.jpg: cannot be decoded"),
    "zero-byte image": (picture(FIRST, lambda _: b""), r"angry_actor_1\.jpg: empty file"),
    "image is text": (picture(FIRST, lambda _: b"words"), r"angry_actor_1\.jpg: cannot be decoded"),
    "column missing": (line(2, f"{FIRST} 1 20 30 70 60 6"), "line 2: 7 columns"),
    "column too many": (line(2, f"{FIRST} 1 20 30 70 60 81 6 1"), "line 2: 9 columns"),
    "label out of range": (line(2, f"{FIRST} 1 20 30 70 60 81 7"), "line 2: label '7'.*0 to 6"),
    "label negative": (line(2, f"{FIRST} 1 20 30 70 60 81 -1"), "line 2: label '-1'"),
    "label not a number": (line(2, f"{FIRST} 1 20 30 70 60 81 happy"), "line 2: label 'happy'"),
    "box not a number": (line(2, f"{FIRST} 1 20 x 70 60 81 6"), "line 2: not a number"),
    "box a fraction": (line(2, f"{FIRST} 1 20.5 30 70 60 81 6"), "line 2: not a number"),
    "box huge": (line(2, f"{FIRST} 1 20 30 {10**30} 60 81 6"), "line 2: box top 20, left 30"),
    "confidence not finite": (line(2, f"{FIRST} 1 20 30 70 60 nan 6"), "line 2: not a number"),
    "box of no width": (line(2, f"{FIRST} 1 20 70 70 60 81 6"), "line 2: box top 20, left 70, right 70.*an area"),
    "box upside down": (line(2, f"{FIRST} 1 60 30 70 20 81 6"), "line 2: box top 60"),
    "box outside the image": (line(2, f"{FIRST} 1 20 80 120 60 81 6"), r"label\.lst, line 2: a box outside the 80x60 pixels of .*actor_1"),
    "box above the image": (line(2, f"{FIRST} 1 -20 30 70 0 81 6"), r"label\.lst, line 2: a box outside the 80x60"),
    "duplicate id": (line(2, f"{FIRST} 0 20 30 70 60 81 6"), "line 2: angry_actor_1.jpg#0 is listed twice, first on line 1"),
    "name climbing out": (line(2, f"../{FIRST} 1 20 30 70 60 81 6"), "line 2: image name"),
}
BAD = {
    "folders": {
        **BOTH,
        "link leaving the folder": (link("9.jpg", "../../outside.jpg"), r"9\.jpg: a link that leaves the folder"),
        "link to itself": (link("9.jpg", "9.jpg"), r"9\.jpg"),
    },
    "zips": {
        **BOTH,
        "archive climbing out": (add_member("../9.jpg"), r"origin\.zip!\.\./9\.jpg: unsafe member name"),
        "archive truncated": (
            lambda root: put(root, "image/origin.zip", (root / "image/origin.zip").read_bytes()[:-100]), "cannot be read as a zip",
        ),
        "member twice": (add_member(f"origin/{FIRST}"), r"angry_actor_1\.jpg: comes twice"),
    },
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("layout", "case"), [pytest.param(a, b, id=f"{a}-{b}") for a in BAD for b in BAD[a]])
def test_bad_input(tmp_path: Path, layout: str, case: str) -> None:
    root = write_expw(tmp_path / "expw", zipped=layout == "zips")
    change, words = BAD[layout][case]
    change(root)
    with pytest.raises(DataError, match=words):
        _ = expw.load(root).images


def test_photograph_without_a_line_is_no_mistake(tree: Path) -> None:
    tamper(tree, "image/origin", "nobody_4.jpg", lambda _: b"never read")
    assert expw.load(tree).images.shape[0] == 3


def test_name_not_utf8(tmp_path: Path) -> None:
    root = write_expw(tmp_path)
    put(root, f"image/origin/{os.fsdecode(b'caf' + bytes([0xE9]))}.jpg", b"never read")
    assert len(expw.load(root)) == 3


def test_bad_input_unreadable(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match=r"label\.lst: cannot be read .Permission denied"):
        expw.load(tree)

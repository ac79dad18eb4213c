"""CelebA's layout: lists and aligned images in a folder or a zip archive, whole and broken."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import drop, edit, fill, image_bytes, pack, put, tamper
from PIL import Image

from fer_utils.datasets import DataError, FaceDataset, celeba

NAMES = ("000001.jpg", "000002.jpg", "000003.jpg", "000004.jpg")
SHOWN = (("Smiling", "Young"), ("Eyeglasses",), ("Male",), ("Big_Lips", "Narrow_Eyes"))
PARTITION = (0, 0, 1, 2)
PEOPLE = (2880, 12, 2880, 7)
POINTS = (69, 109, 106, 113, 77, 142, 73, 152, 108, 154)
ATTRS, PARTS, IDENTITY, MARKS = "list_attr_celeba.txt", "list_eval_partition.txt", "identity_CelebA.txt", "list_landmarks_align_celeba.txt"


def face() -> np.ndarray:
    """Red is the column, green the row."""
    y, x = np.mgrid[:218, :178]
    return np.stack([x, y, 0 * x], axis=-1).astype(np.uint8)


def write_celeba(root: Path, *, zipped: bool = False) -> Path:
    buffer = io.BytesIO()
    Image.fromarray(face()).save(buffer, "PNG")
    for name in NAMES:
        put(root, f"img_align_celeba/{name}", buffer.getvalue())
    flags = [" ".join(" 1" if attribute in shown else "-1" for attribute in celeba.ATTRIBUTES) for shown in SHOWN]
    table(root, ATTRS, [str(len(NAMES)), " ".join(celeba.ATTRIBUTES)], flags)
    table(root, PARTS, [], map(str, PARTITION))
    table(root, IDENTITY, [], map(str, PEOPLE))
    columns = [f"{point}_{axis}" for point in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy"]
    table(root, MARKS, [str(len(NAMES)), " ".join(columns)], ["  ".join(map(str, POINTS))] * len(NAMES))
    if zipped:
        pack(root / "img_align_celeba")
    return root


def table(root: Path, name: str, head: list[str], rows: object) -> None:
    put(root, name, "\n".join([*head, *(f"{image} {row}" for image, row in zip(NAMES, rows, strict=True)), ""]))


@pytest.fixture
def tree(tmp_path: Path, zipped: bool) -> Path:
    return write_celeba(tmp_path / "celeba", zipped=zipped)


def test_load(tree: Path) -> None:
    faces = celeba.load(tree)
    assert faces.name == "CelebA" and faces.classes == ("face",) and faces.labels.tolist() == [0] * 4
    assert faces.names.tolist() == list(NAMES) and faces.split.tolist() == ["train", "train", "val", "test"]
    assert np.array_equal(faces.images[0], face()) and faces.images.shape == (4, 218, 178, 3)
    assert faces.identities.tolist() == list(PEOPLE)
    assert faces.landmarks.reshape(4, -1)[2].tolist() == list(POINTS)
    assert faces.attributes.columns.tolist() == list(celeba.ATTRIBUTES) and (faces.attributes.dtypes == "bool").all()
    assert [tuple(faces.attributes.columns[row]) for row in faces.attributes.to_numpy()] == [
        tuple(name for name in celeba.ATTRIBUTES if name in shown) for shown in SHOWN
    ]


def test_attributes_are_forty() -> None:
    assert len(celeba.ATTRIBUTES) == len(set(celeba.ATTRIBUTES)) == 40
    assert {name for names in celeba.PARTS.values() for name in names} < set(celeba.ATTRIBUTES)


def test_mark_part(tree: Path) -> None:
    faces = celeba.load(tree)
    assert celeba.mark_part(faces, "eyes").tolist() == [False, True, False, True]
    assert celeba.mark_part(faces, "mouth").tolist() == [True, False, False, True]
    assert celeba.mark_part(faces.test, "mouth").tolist() == [True]
    with pytest.raises(ValueError, match="part must be"):
        celeba.mark_part(faces, "nose")
    with pytest.raises(ValueError, match="CelebA has no attributes Bushy_Eyebrows"):
        celeba.mark_part(faces.replace(attributes=None), "eyes")


def test_split(tree: Path) -> None:
    faces = celeba.load(tree, split="test")
    assert faces.names.tolist() == [NAMES[3]] and faces.identities.tolist() == [7] and faces.attributes["Big_Lips"].tolist() == [True]
    assert isinstance(faces, FaceDataset) and faces.landmarks.shape == (1, 5, 2)


def test_size(tree: Path) -> None:
    whole, half = celeba.load(tree, size=178), pickle.loads(pickle.dumps(celeba.load(tree, size=89, transform=np.asarray)))
    assert np.array_equal(whole.images[0], face()[20:198])
    np.testing.assert_allclose(whole.landmarks, celeba.load(tree).landmarks - [0, 20])
    assert half[0][0].shape == (89, 89, 3)
    x, y = np.rint(half.landmarks[0, 2]).astype(int)
    # the pixel of the face that a point of the small image stands on
    assert abs(int(half.images[0, y, x, 0]) - 77) <= 1 and abs(int(half.images[0, y, x, 1]) - 142) <= 1


def test_optional_files(tree: Path) -> None:
    (tree / IDENTITY).unlink()
    (tree / MARKS).unlink()
    faces = celeba.load(tree, size=50)
    assert faces.identities is None and faces.landmarks is None


def test_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"celeba: no such folder.*list_attr_celeba\.txt.*CelebA\.html"):
        celeba.load()
    root = write_celeba(tmp_path / "celeba")
    assert len(celeba.load()) == len(celeba.load(tmp_path)) == 4  # as torchvision takes it
    for folder, names in (("Anno", (ATTRS, IDENTITY, MARKS)), ("Eval", (PARTS,)), ("Img", ("img_align_celeba",))):
        (root / folder).mkdir()
        for name in names:
            (root / name).rename(root / folder / name)
    faces = celeba.load()  # as the owners have it
    assert faces.identities is not None and faces.landmarks is not None and len(faces.images) == 4


def test_bad_arguments(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="split must be"):
        celeba.load(tmp_path, split="valid")
    with pytest.raises(ValueError, match="size"):
        celeba.load(tmp_path, size=0)


# -- bad input ------------------------------------------------------------------------------------------------------------


def picture(name: str, change: Callable[[bytes], bytes | None]) -> Callable[[Path], object]:
    return lambda root: tamper(root, "img_align_celeba", name, change)


def link(name: str, target: str) -> Callable[[Path], object]:
    def change(root: Path) -> None:
        put(root, "outside.jpg", image_bytes(0))
        (root / "img_align_celeba" / name).symlink_to(target)

    return change


def add_member(name: str) -> Callable[[Path], object]:
    def change(root: Path) -> None:
        with zipfile.ZipFile(root / "img_align_celeba.zip", "a") as archive:
            archive.writestr(name, image_bytes(0))

    return change


SECOND = "000002.jpg"
BOTH: dict[str, tuple[Callable[[Path], object], str]] = {
    "label file missing": (lambda root: (root / ATTRS).unlink(), f"{ATTRS}: not found"),
    "partition file missing": (lambda root: (root / PARTS).unlink(), f"{PARTS}: not found"),
    "label file empty": (fill(ATTRS, b""), f"{ATTRS}: empty file"),
    "label file blank": (fill(ATTRS, b"\xef\xbb\xbf"), f"{ATTRS}, line 1: ''"),
    "label file header alone": (fill(ATTRS, f"0\n{' '.join(celeba.ATTRIBUTES)}\n".encode()), "no images"),
    "label file not UTF-8": (fill(ATTRS, b"4\n\xff\xfe\n"), f"{ATTRS}: not a text file"),
    "label file without count": (edit(ATTRS, "4\n", ""), f"{ATTRS}, line 1: '5_o_Clock_Shadow.*the number of images"),
    "count differs": (edit(ATTRS, "4\n", "5\n"), f"{ATTRS}, line 1: 4 lines of images; expected 5"),
    "attribute name missing": (edit(ATTRS, " Young", ""), f"{ATTRS}, line 2: other columns"),
    "column missing": (edit(ATTRS, f"{SECOND} -1", SECOND), f"{ATTRS}, line 4: 40 columns; expected 41"),
    "column too many": (edit(PARTS, f"{SECOND} 0", f"{SECOND} 0 0"), f"{PARTS}, line 2: 3 columns"),
    "label out of range": (edit(ATTRS, f"{SECOND} -1", f"{SECOND} 0"), f"{ATTRS}, line 4: value 0; .*-1 or 1"),
    "label not a number": (edit(ATTRS, f"{SECOND} -1", f"{SECOND} no"), f"{ATTRS}, line 4: not a whole number"),
    "part out of range": (edit(PARTS, f"{SECOND} 0", f"{SECOND} 3"), f"{PARTS}, line 2: value 3; .*0 or 1 or 2"),
    "identity huge": (edit(IDENTITY, f"{SECOND} 12", f"{SECOND} {10**30}"), f"{IDENTITY}, line 2: value 1000"),
    "landmark a fraction": (edit(MARKS, f"{SECOND} 69", f"{SECOND} 69.5"), f"{MARKS}, line 4: not a whole number"),
    "landmark missing": (edit(MARKS, f"{SECOND} 69", SECOND), f"{MARKS}, line 4: 10 columns"),
    "duplicate id": (edit(ATTRS, SECOND, "000001.jpg"), f"{ATTRS}, line 4: 000001.jpg is listed twice"),
    "lists of other images": (edit(PARTS, SECOND, "000009.jpg"), f"{PARTS}: image 2 is 000009.jpg; expected 000002.jpg, as in .*{ATTRS}"),
    "list shorter": (edit(PARTS, "000004.jpg 2\n", ""), f"{PARTS}: image 4 is no image; expected 000004.jpg"),
    "image listed but absent": (picture(SECOND, lambda _: None), f"{SECOND}: not found.*because .*{ATTRS} names it"),
    "image unlisted": (picture("000009.jpg", lambda _: image_bytes(0)), f"000009.jpg: not in .*{ATTRS}"),
    "images missing": (lambda root: [p.rename(root / "away") for p in root.glob("img*")], "img_align_celeba: not found, neither"),
    "truncated image": (picture(SECOND, lambda _: image_bytes(1, (178, 218))[:-200]), f"{SECOND}: cannot be decoded"),
    "zero-byte image": (picture(SECOND, lambda _: b""), f"{SECOND}: empty file"),
    "image of another size": (picture(SECOND, lambda _: image_bytes(1, (178, 178))), f"{SECOND}: 178x178 pixels; expected 178x218"),
}
BAD = {
    "folders": {
        **BOTH,
        "link leaving the folder": (link("000005.jpg", "../outside.jpg"), "000005.jpg: a link that leaves the folder"),
        "link to itself": (link("000005.jpg", "000005.jpg"), "000005.jpg"),
        "name not UTF-8": (fill(f"img_align_celeba/{os.fsdecode(b'caf' + bytes([0xE9]))}.jpg", b"x"), f"not in .*{ATTRS}"),
    },
    "zips": {
        **BOTH,
        "archive climbing out": (add_member("../000005.jpg"), r"celeba\.zip!\.\./000005\.jpg: unsafe member name"),
        "archive truncated": (
            lambda root: put(root, "img_align_celeba.zip", (root / "img_align_celeba.zip").read_bytes()[:-100]),
            "cannot be read as a zip",
        ),
    },
}


@pytest.mark.parametrize(("layout", "case"), [pytest.param(a, b, id=f"{a}-{b}") for a in BAD for b in BAD[a]])
def test_bad_input(tmp_path: Path, layout: str, case: str) -> None:
    root = write_celeba(tmp_path / "celeba", zipped=layout == "zips")
    change, words = BAD[layout][case]
    change(root)
    with pytest.raises(DataError, match=words):
        _ = celeba.load(root).images


def test_bad_input_size_of_a_cut_image(tree: Path) -> None:
    tamper(tree, "img_align_celeba", SECOND, lambda _: image_bytes(1, (178, 178)))
    with pytest.raises(DataError, match=f"{SECOND}: 178x178 pixels; expected 178x218"):
        _ = celeba.load(tree, size=48).images


@pytest.mark.parametrize("name", [ATTRS, PARTS, IDENTITY, MARKS])
def test_bad_input_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    root = write_celeba(tmp_path)
    read = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match=f"{name}: cannot be read .Permission denied"):
        celeba.load(root)


# -- copies ---------------------------------------------------------------------------------------------------------------


def write_kaggle(root: Path, *, binary: bool = False, numbered: bool = False) -> Path:
    """The tables with commas and headers, the pictures one folder deeper, and no table of people."""
    off = "0" if binary else "-1"
    rows = [[name, *("1" if one in shown else off for one in celeba.ATTRIBUTES)] for name, shown in zip(NAMES, SHOWN, strict=True)]
    header = ["image_id", *celeba.ATTRIBUTES]
    if numbered:
        header, rows = ["", *header], [[str(i), *row] for i, row in enumerate(rows)]
    put(root, "list_attr_celeba.csv", "\n".join(",".join(row) for row in (header, *rows)))
    put(root, "list_eval_partition.csv", "\n".join(["image_id,partition", *(f"{n},{p}" for n, p in zip(NAMES, PARTITION, strict=True))]))
    columns = [f"{point}_{axis}" for point in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy"]
    marks = [["image_id", *columns], *([name, *map(str, POINTS)] for name in NAMES)]
    put(root, "list_landmarks_align_celeba.csv", "\n".join(map(",".join, marks)))
    buffer = io.BytesIO()
    Image.fromarray(face()).save(buffer, "PNG")
    for name in NAMES:
        put(root, f"img_align_celeba/img_align_celeba/{name}", buffer.getvalue())
    return root


@pytest.mark.parametrize("options", [{}, {"binary": True}, {"numbered": True}], ids=str)
@pytest.mark.parametrize("inner", ["", "archive"])
def test_kaggle(tmp_path: Path, options: dict, inner: str) -> None:
    write_kaggle(tmp_path / "data" / inner, **options)
    faces, ours = celeba.load(tmp_path / "data"), celeba.load(write_celeba(tmp_path / "ours"))
    assert faces.names.tolist() == list(NAMES) and faces.split.tolist() == ours.split.tolist()
    assert faces.attributes.equals(ours.attributes) and np.array_equal(faces.landmarks, ours.landmarks)
    assert np.array_equal(faces.images, ours.images) and faces.identities is None
    assert faces.name == "CelebA (Kaggle's copy: tables as .csv; without identity_CelebA.txt no people)" and ours.name == "CelebA"


KAGGLE = {
    "header of another kind": (edit("list_attr_celeba.csv", "Smiling", "Frowning"), r"list_attr_celeba\.csv, line 1: .*, with Smiling"),
    "label out of range": (edit("list_attr_celeba.csv", f"{SECOND},-1", f"{SECOND},0"), r"list_attr_celeba\.csv, line 3: value 0"),
    "column missing": (edit("list_eval_partition.csv", f"{SECOND},0", SECOND), r"list_eval_partition\.csv, line 3: 1 columns"),
    "part out of range": (edit("list_eval_partition.csv", f"{SECOND},0", f"{SECOND},3"), "line 3: value 3"),
    "duplicate id": (edit("list_attr_celeba.csv", SECOND, NAMES[0]), "line 3: 000001.jpg is listed twice"),
    "image listed but absent": (drop(f"img_align_celeba/img_align_celeba/{SECOND}"), f"{SECOND}: not found"),
    "label file missing": (drop("list_attr_celeba.csv"), r"celeba\.txt: not found: an unknown layout, with .*list_eval"),
}


@pytest.mark.parametrize("case", KAGGLE)
def test_bad_input_of_kaggles_copy(tmp_path: Path, case: str) -> None:
    change, words = KAGGLE[case]
    change(write_kaggle(tmp_path))
    with pytest.raises(DataError, match=words):
        celeba.load(tmp_path)

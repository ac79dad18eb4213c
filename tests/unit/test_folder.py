"""Any folder of faces, whole and broken; and the damage that every loader of such folders must name."""

from __future__ import annotations

import os
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import image_bytes, pack, put
from PIL import Image

from fer_utils.datasets import DataError, fer2013, folder, layouts
from fer_utils.labels import BASIC

#: What can happen to any picture of any dataset; see :func:`damage`.
DAMAGES = (
    "truncated image", "zero-byte file", "image is text", "path not UTF-8", "unreadable file", "link that leaves", "link that loops",
    "archive that climbs out", "archive cut",
)


def damage(case: str, path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Damage the picture at ``path``, or the ``folder`` (read as a source) above it; return the error to expect, as a pattern."""
    whole = path.read_bytes()
    if case == "truncated image":
        path.write_bytes(whole[: len(whole) // 2])
        return f"{path.name}: cannot be decoded"
    if case == "zero-byte file":
        path.write_bytes(b"")
        return f"{path.name}: empty file"
    if case == "image is text":
        path.write_bytes(b"words")
        return f"{path.name}: cannot be decoded"
    if case == "path not UTF-8":
        Path(os.fsdecode(os.fsencode(path.parent) + b"/\xff" + os.fsencode(path.suffix))).write_bytes(whole)
        return r"\\udcff\.\w+: a name that is not UTF-8"
    if case == "unreadable file":
        read_bytes = Path.read_bytes

        def refuse(self: Path) -> bytes:
            if self.name == path.name:
                raise PermissionError(13, "Permission denied")
            return read_bytes(self)

        monkeypatch.setattr(Path, "read_bytes", refuse)  # the mode of a file does not stop root
        return f"{path.name}: cannot be read .*Permission denied"
    if case in ("link that leaves", "link that loops"):
        outside = put(folder.parent, "outside" + path.suffix, whole)
        path.unlink()
        path.symlink_to(outside if case == "link that leaves" else path.name)
        return f"{path.name}: a link that {'leaves the folder' if case == 'link that leaves' else 'leads in a circle'}"
    archive = pack(folder)
    if case == "archive cut":
        archive.write_bytes(archive.read_bytes()[:-100])
        return rf"{archive.name}: cannot be read as a zip archive"
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(f"../evil{path.suffix}", whole)
    return rf"{archive.name}!\.\./evil\.\w+: unsafe member name"


def write_tree(root: Path) -> Path:
    """Three parts, classes in several spellings, one file name in all of them, and files that are no pictures."""
    members = ("train/Angry/a.jpg", "train/Angry/a.png", "train/HAPPY/a.jpg", "Validation/happiness/a.jpg", "test/sad/a.JPG")
    for i, member in enumerate(members):
        put(root, member, image_bytes(i, (40, 40), kind="PNG" if member.endswith("png") else "JPEG"))
    for junk in ("train/Angry/notes.txt", "train/.DS_Store", "README.md", "test/Thumbs.db"):
        put(root, junk, "words")
    return root


HEADER = "image,label,split,subject\n"


def write_table(root: Path, lines: str = HEADER + "a.jpg,Happy,train,Eve\nsub/b.jpg,anger,Test,Bob\nc.jpg,SAD,val,Bob\n") -> Path:
    """Pictures named by a table, and one that is not."""
    for i, member in enumerate(["a.jpg", "sub/b.jpg", "c.jpg", "unlisted.jpg"]):
        put(root, member, image_bytes(i, (40, 40)))
    put(root, "labels.csv", lines)
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "photos")


def test_class_folders(tree: Path, zipped: bool) -> None:
    if zipped:
        pack(tree)
    faces = folder.load(tree)
    assert faces.name == "photos" and faces.classes == BASIC
    assert faces.names.tolist() == [
        "Validation/happiness/a.jpg", "test/sad/a.JPG", "train/Angry/a.jpg", "train/Angry/a.png", "train/HAPPY/a.jpg"
    ]
    assert [faces.classes[i] for i in faces.labels] == ["happiness", "sadness", "anger", "anger", "happiness"]
    assert faces.split.tolist() == ["val", "test", "train", "train", "train"] and faces.identities is None
    assert faces.images.shape == (5, 40, 40, 3) and len(np.unique(faces.images.reshape(5, -1), axis=0)) == 5
    if zipped:
        assert len(folder.load(tree.with_suffix(".zip"))) == 5


def test_without_parts(tmp_path: Path) -> None:
    for name in ("surprised/1.jpg", "contempt/1.jpg"):
        put(tmp_path, name, image_bytes(0, (30, 30)))
    faces = folder.load(tmp_path)
    assert set(faces.split) == {"none"} and faces.classes == (*BASIC, "contempt") and faces.labels.tolist() == [7, 0]


def test_classes_and_split(tree: Path) -> None:
    faces = folder.load(tree, classes=["sadness", "Happy"], split="train")
    assert faces.classes == ("sadness", "happiness") and faces.labels.tolist() == [1]
    with pytest.raises(DataError, match="no image of fear in the val part"):
        folder.load(tree, classes=["fear"], split="val")
    put(tree, "train/Bored/b.jpg", image_bytes(7, (40, 40)))
    with pytest.raises(DataError, match=r"Bored/b\.jpg: class 'Bored'; expected one of surprise"):
        folder.load(tree)
    assert folder.load(tree, classes=["anger", "bored"]).class_counts() == {"anger": 2, "bored": 1}


def test_sizes(tree: Path) -> None:
    put(tree, "train/HAPPY/a.jpg", image_bytes(9, (50, 40)))
    with pytest.raises(DataError, match=r"HAPPY/a\.jpg: 50x40 pixels; expected 40x40 pixels as the first image; pass size"):
        _ = folder.load(tree).images
    assert folder.load(tree, size=24).images.shape == (5, 24, 24, 3)
    assert folder.load(tree, size=24, mode="L").images.shape == (5, 24, 24)


def test_resized_images_are_averaged(tmp_path: Path) -> None:
    put(tmp_path, "fear/a.png", b"")
    Image.fromarray((np.indices((32, 48)).sum(0) % 2 * 200).astype(np.uint8)).save(tmp_path / "fear/a.png")  # a chessboard of pixels
    images = folder.load(tmp_path, size=12, mode="L").images
    assert images.shape == (1, 12, 12) and 90 <= images.min() <= images.max() <= 110


def test_table(tmp_path: Path, zipped: bool) -> None:
    root = write_table(tmp_path / "photos")
    if zipped:
        pack(root)
    faces = folder.load(root, csv="labels.csv")
    assert faces.names.tolist() == ["a.jpg", "sub/b.jpg", "c.jpg"] and faces.split.tolist() == ["train", "test", "val"]
    assert [faces.classes[i] for i in faces.labels] == ["happiness", "anger", "sadness"] and faces.identities.tolist() == [1, 0, 0]
    assert faces.images.shape == (3, 40, 40, 3)
    assert folder.load(root, csv="labels.csv", split="val").names.tolist() == ["c.jpg"]


def test_short_table(tmp_path: Path) -> None:
    root = write_table(tmp_path / "photos", '"label","image"\r\nfear,"a.jpg"\r\n\r\n')
    faces = folder.load(root, csv="labels.csv")
    assert faces.class_counts()["fear"] == 1 and set(faces.split) == {"none"} and faces.identities is None


def test_parts_are_one_source(tmp_path: Path, zipped: bool) -> None:
    put(tmp_path, "one/a.txt", "first")
    put(tmp_path, "two/a.txt", "second")
    if zipped:
        pack(tmp_path / "two")
    whole = layouts.Parts(tmp_path, {name: layouts.open_source(tmp_path / name, "") for name in ("one", "two")})
    assert whole.names == ["one/a.txt", "two/a.txt"] and [whole.text(name) for name in whole.names] == ["first", "second"]
    assert "one/a.txt" in whole and "one/b.txt" not in whole and "three/a.txt" not in whole
    assert [path.name for path in whole.files(whole.names)] == ["a.txt", "two.zip" if zipped else "a.txt"]
    for name in ("one/b.txt", "three/a.txt"):
        with pytest.raises(DataError, match=f"{name}: not found"):
            whole.read(name)


def test_pick_classes() -> None:
    offered = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise", "contempt")
    assert layouts.pick_classes(6, offered) == ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
    assert layouts.pick_classes(7, offered) == offered[:7] and layouts.pick_classes(8, offered) == offered
    assert layouts.pick_classes(6, offered, onset=True)[-1] == "neutral"
    assert layouts.pick_classes(("fear", "anger"), offered) == ("fear", "anger")
    for wrong in (8, 5, "fear", [], ["fear", "fear"], ["joy"]):
        with pytest.raises(ValueError, match="classes must be"):
            layouts.pick_classes(wrong, offered[:7])
    with pytest.raises(ValueError, match="first frames are neutral"):
        layouts.pick_classes(["fear"], offered, onset=True)


@pytest.mark.parametrize("options", [{"split": "dev"}, {"classes": "fear"}, {"classes": []}, {"classes": ["sad", "sadness"]},
                                     {"classes": [""]}, {"size": 0}, {"mode": "BGR"}])
def test_bad_arguments(tree: Path, options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))) as caught:
        folder.load(tree, **options)
    assert not isinstance(caught.value, DataError)


PLACES = {
    "image in no class": ("train/b.jpg", r"train/b\.jpg: an image in no class folder"),
    "image too deep": ("train/Angry/more/b.jpg", r"more/b\.jpg: an image in no class folder"),
    "image in the root": ("b.jpg", r"photos/b\.jpg: an image in no class folder"),
    "unknown label": ("train/Cross/b.jpg", r"Cross/b\.jpg: class 'Cross'; expected one of"),
    "image in no part": ("Angry/b.jpg", r"Angry/b\.jpg: in no part, though others are"),
    "duplicate id": ("train/anger/a.jpg", r"anger/a\.jpg: comes twice, as anger in two folders"),
}


@pytest.mark.parametrize("case", ["missing folder", "no images", "folder that loops", *DAMAGES, *PLACES])
def test_bad_input(tree: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if case == "missing folder":
        tree.rename(tree.with_name("away"))
        words = r"photos: no such folder, and no \.zip of that name; expected a folder"
    elif case == "no images":
        for path in tree.rglob("a.*"):
            path.unlink()
        words = "photos: no images"
    elif case == "folder that loops":
        (tree / "train" / "Angry" / "up").symlink_to(tree)
        words = "Angry/up: a link that leads in a circle"
    elif case in PLACES:
        name, words = PLACES[case]
        put(tree, name, image_bytes(5, (40, 40)))
    else:
        words = damage(case, tree / "Validation" / "happiness" / "a.jpg", tree, monkeypatch)
    with pytest.raises(DataError, match=words):
        _ = folder.load(tree).images


TABLES = {
    "column missing": ("image,split\na.jpg,train\n", "line 1: header 'image,split' without the columns image and label"),
    "column twice": ("image,label,Label\na.jpg,fear,fear\n", "line 1: header .* with two columns label"),
    "columns parted in two ways": ("image;label,split\na.jpg;fear,train\n", "line 1: header"),
    "column too few": (HEADER + "a.jpg,fear,train\n", "line 2: 3 columns; expected 4"),
    "column too many": ("image,label\na.jpg,fear\nc.jpg,fear,x\n", "line 3: 3 columns; expected 2"),
    "unknown label": (HEADER + "a.jpg,cross,train,Eve\n", "line 2: label 'cross'"),
    "unknown split": (HEADER + "a.jpg,fear,dev,Eve\n", "line 2: split 'dev'"),
    "subject empty": (HEADER + "a.jpg,fear,train,\n", "line 2: no subject"),
    "image absent": (HEADER + "a.jpg,fear,train,Eve\nz.jpg,fear,train,Eve\n", r"line 3: image 'z\.jpg' is not in"),
    "image climbs out": (HEADER + "../a.jpg,fear,train,Eve\n", r"line 2: image '\.\./a\.jpg' is not in"),
    "image twice": (HEADER + "a.jpg,fear,train,Eve\na.jpg,anger,test,Eve\n", r"line 3: a\.jpg is listed twice"),
    "image in two spellings": (HEADER + "c.jpg,fear,train,Eve\n./C.JPG,fear,train,Eve\n", r"line 3: c\.jpg is listed twice"),
    "quote open": (HEADER + 'c.jpg,fear,train,Eve\n"a.jpg,fear,train,Eve\nsub/b.jpg,fear,train,Eve\n', "line 3: cannot be read"),
    "no lines": (HEADER, "no labels"),
    "blank": ("\n", "line 1: header"),
    "empty": ("", "empty file"),
    "mark alone": ("\ufeff", "line 1: header"),
}


@pytest.mark.parametrize("case", TABLES)
def test_bad_input_in_a_table(tmp_path: Path, case: str) -> None:
    text, words = TABLES[case]
    root = write_table(tmp_path / "photos", text)
    with pytest.raises(DataError, match=rf"labels\.csv.*{words}"):
        folder.load(root, csv="labels.csv")


SPELLINGS = {
    "semicolons": "image;label\nsub/b.jpg;fear\n",
    "tabs": "image\tlabel\nsub/b.jpg\tfear\n",
    "bars and blanks": "image | label\nsub/b.jpg | fear\n",
    "capitals": "Image,LABEL,Split\nsub/b.jpg,FEAR,Train\n",
    "quotes and semicolons": '"image";"label";"note"\r\n"sub/b.jpg";"fear";"two\r\nlines; and a mark"\r\n;;\r\n',
    "old Mac": "image,label\rsub/b.jpg,fear\r",
    "backslashes": "image,label\nsub\\b.jpg,fear\n",
    "letters of Windows": "image,label\n.\\SUB\\B.JPG,fear\n",
    "from here": "image,label\n./sub/../sub//b.jpg,fear\n",
    "index": ",image,label\n0,sub/b.jpg,fear\n",
    "named index": "Unnamed: 0,label,image\n0,fear,sub/b.jpg\n",
    "columns without a name": "image,label,,\nsub/b.jpg,fear,,\n",
    "more columns": "age,image,valence,label\n30,sub/b.jpg,0.5,fear\n",
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("case", SPELLINGS)
def test_spellings_of_a_table(tmp_path: Path, case: str, encoding: str) -> None:
    root = write_table(tmp_path / "photos", SPELLINGS[case])
    (root / "labels.csv").write_bytes(SPELLINGS[case].encode(encoding))
    faces = folder.load(root, csv="labels.csv")
    assert faces.names.tolist() == ["sub/b.jpg"] and faces.class_counts()["fear"] == 1 and set(faces.split) <= {"none", "train"}


@pytest.mark.parametrize("forms", [("NFD", "NFC"), ("NFC", "NFD")])
def test_accents_in_two_forms(tmp_path: Path, forms: tuple[str, str], zipped: bool) -> None:
    name, listed = (unicodedata.normalize(form, "caf\u00e9.jpg") for form in forms)
    put(tmp_path, f"photos/{name}", image_bytes(0))
    put(tmp_path, "photos/labels.csv", f"image,label\n{listed},fear\n")
    if zipped:
        pack(tmp_path / "photos")
    assert folder.load(tmp_path / "photos", csv="labels.csv").names.tolist() == [name]


def test_the_exact_spelling_counts_first(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", image_bytes(0))
    put(tmp_path, "A.jpg", image_bytes(1))
    put(tmp_path, "labels.csv", "image,label\nA.jpg,fear\na.jpg,anger\n")
    if len(list(tmp_path.iterdir())) < 3:
        pytest.skip("capital and small letters are one file here")
    faces = folder.load(tmp_path, csv="labels.csv")
    assert faces.names.tolist() == ["A.jpg", "a.jpg"]
    put(tmp_path, "labels.csv", "image,label\nA.JPG,fear\n")
    with pytest.raises(DataError, match=r"line 2: image 'A\.JPG' may be A\.jpg or a\.jpg"):
        folder.load(tmp_path, csv="labels.csv")


DEBRIS = (
    ".ipynb_checkpoints/0-checkpoint.jpg", "@eaDir/0.jpg/SYNOPHOTO_THUMB_M.jpg", ".thumbnails/0.png", "thumbs.db", "THUMBS.DB",
    "Desktop.ini", "._0.jpg", ".0.jpg.part.png", "__MACOSX/0.jpg", "#recycle/0.jpg", "$RECYCLE.BIN/0.jpg",
)


@pytest.mark.parametrize("place", ["", "train/", "train/angry/"])
def test_what_programs_leave_is_passed_over(tmp_path: Path, place: str, zipped: bool) -> None:
    for part in ("train", "test"):
        put(tmp_path, f"photos/{part}/angry/0.png", image_bytes(0, (48, 48), "L", "PNG"))
    for extra in DEBRIS:
        put(tmp_path, f"photos/{place}{extra}", image_bytes(1, (48, 48)))
    if not zipped:
        (tmp_path / "photos" / place / ".git").symlink_to(tmp_path)  # nobody looks where it leads
    else:
        pack(tmp_path / "photos")
    for load in (folder.load, fer2013.load):
        assert load(tmp_path / "photos").names.tolist() == ["test/angry/0.png", "train/angry/0.png"]


class _Unmarked(zipfile.ZipInfo):
    """A member whose name is UTF-8 though nothing says so, as a Mac writes it."""

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:
        return self.filename.encode(), self.flag_bits & ~0x800


def test_archives_made_on_other_systems(tmp_path: Path) -> None:
    accent, picture = unicodedata.normalize("NFD", "\u00e9.png"), image_bytes(0, (48, 48), kind="PNG")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("photos\\train\\", b"")  # as .NET wrote them
        for part in ("train", "test"):
            archive.writestr(f"photos\\{part}\\Angry\\0.png", picture)
        archive.writestr(_Unmarked(f"photos/train/Angry/{accent}"), picture)
    faces = folder.load(tmp_path / "photos.zip")
    assert faces.names.tolist() == ["test/Angry/0.png", "train/Angry/0.png", f"train/Angry/{accent}"] and len(faces.images) == 3


def test_an_archive_named_as_one_of_its_parts(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "train.zip", "w") as archive:
        for part in ("train", "test"):
            archive.writestr(f"{part}/angry/0.png", image_bytes(0, kind="PNG"))
    assert folder.load(tmp_path / "train.zip").split.tolist() == ["test", "train"]


def test_table_absent_or_binary(tree: Path) -> None:
    with pytest.raises(DataError, match=r"labels\.csv: not found"):
        folder.load(tree, csv="labels.csv")
    put(tree, "labels.csv", b"\xff\xfe\xfa")
    with pytest.raises(DataError, match=r"labels\.csv: not a text file"):
        folder.load(tree, csv="labels.csv")

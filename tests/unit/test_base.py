"""The dataset container, and reading from folders and archives that may be broken or hostile."""

from __future__ import annotations

import io
import os
import pickle
import stat
import zipfile
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import image_bytes, pack, put
from PIL import Image

from fer_utils import files
from fer_utils.datasets import folder
from fer_utils.datasets.base import FaceDataset
from fer_utils.datasets.images import load_images
from fer_utils.datasets.source import Source, parse_numbers, read_text
from fer_utils.errors import DataError
from fer_utils.files import cache_root, data_root


@pytest.fixture
def faces() -> FaceDataset:
    rng = np.random.default_rng(0)
    names = np.array([f"{i}.jpg" for i in range(6)])
    return FaceDataset(
        name="toy", images=rng.integers(0, 256, (6, 8, 10, 3), dtype=np.uint8),
        labels=np.array([0, 1, 1, 0, 1, 1]), classes=("a", "b", "c"),
        names=names, split=np.array(["train"] * 4 + ["test"] * 2), identities=np.arange(6), landmarks=rng.random((6, 5, 2)),
        attributes=pd.DataFrame({"age": list("uvwxyz")}), masks=np.zeros((6, 8, 10), np.uint8),
        votes=pd.DataFrame({"task": np.repeat(names, 2), "worker": [0, 1] * 6, "label": 1}), truth=pd.DataFrame({"au_1": np.arange(6.0)}),
    )


def test_joined_faces_follow_each_other(faces: FaceDataset) -> None:
    second = faces.replace(name="other", names=np.array([f"more{i}.jpg" for i in range(6)]), votes=faces.votes.assign(
        task=np.repeat([f"more{i}.jpg" for i in range(6)], 2)))
    both = faces.join(second)
    assert len(both) == 12 and both.name == "toy" and both.names.tolist() == faces.names.tolist() + second.names.tolist()
    assert np.array_equal(both.images, np.concatenate([faces.images, second.images])) and len(both.votes) == 24
    assert both.subset([7]).attributes["age"].tolist() == ["v"] and both.subset([7]).votes["task"].unique().tolist() == ["more1.jpg"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"classes": ("a", "b", "d")}, "other classes"), ({"landmarks": None}, "only one of toy and toy has landmarks"),
     ({}, "both have an image")],
)
def test_only_faces_of_one_kind_are_joined(faces: FaceDataset, changes: dict, message: str) -> None:
    names = np.array([f"more{i}.jpg" for i in range(6)]) if changes else faces.names
    with pytest.raises(ValueError, match=message):
        faces.join(faces.replace(names=names, **changes))


def test_joined_images_wait_until_they_are_read(tmp_path: Path) -> None:
    for i in range(5):
        put(tmp_path, f"{'first' if i < 3 else 'second'}/{i}.png", image_bytes(i, (6, 6), kind="PNG"))
    first, second = (load_images(Source(tmp_path / name), sorted(Source(tmp_path / name).names)) for name in ("first", "second"))
    both, pictures = first.join(second), np.concatenate([first.load(), second.load()])
    assert both.shape == (5, 6, 6, 3) and np.array_equal(both.one(3), pictures[3])
    for chosen in ([4, 0, 3], [2, 1], [3, 4], [0, 1, 2, 3, 4]):
        assert np.array_equal(both.take(np.array(chosen)).load(), pictures[chosen])
    assert np.array_equal(pickle.loads(pickle.dumps(both)).load(), pictures)
    with pytest.raises(ValueError, match="one shape"):
        first.join(load_images(Source(tmp_path / "second"), ["3.png"], mode="L"))


# -- FaceDataset ----------------------------------------------------------------------------------------------------------


def test_acts_like_a_torchvision_dataset(faces: FaceDataset) -> None:
    image, label = faces[1]
    assert isinstance(image, Image.Image) and image.size == (10, 8) and label == 1 and isinstance(label, int)
    assert np.array_equal(image, faces.images[1])
    assert len(list(iter(faces))) == len(faces) == 6
    sizes = replace(faces, transform=lambda image: image.size)
    assert sizes[0] == ((10, 8), 0) and sizes.test[0] == ((10, 8), 1)
    assert faces.labels.dtype == np.int64
    with pytest.raises(IndexError):
        faces[6]


@pytest.mark.parametrize("index", [slice(0, 3), [0, 1], np.array([0, 1]), "0", 1.0], ids=["slice", "list", "array", "text", "float"])
def test_one_face_at_a_time(faces: FaceDataset, index: object) -> None:
    assert faces[np.int64(1)][1] == faces[-5][1] == 1
    with pytest.raises(TypeError, match=rf"faces\[i\] takes one position, got {type(index).__name__}; faces\.subset\(\.\.\.\)"):
        faces[index]


def test_torch_loader_takes_it(faces: FaceDataset) -> None:
    data = pytest.importorskip("torch.utils.data")
    batches = list(data.DataLoader(replace(faces, transform=lambda image: np.array(image)), batch_size=4))
    assert [tuple(images.shape) for images, _ in batches] == [(4, 8, 10, 3), (2, 8, 10, 3)]


def test_subset_takes_everything_along(faces: FaceDataset) -> None:
    part = faces.subset([4, 0])
    assert part.names.tolist() == ["4.jpg", "0.jpg"] and part.truth["au_1"].tolist() == [4.0, 0.0]
    assert part.attributes["age"].tolist() == ["y", "u"] and part.masks.shape == (2, 8, 10)
    assert set(part.votes["task"]) == {"4.jpg", "0.jpg"} and len(part.votes) == 4
    assert np.array_equal(part.landmarks, faces.landmarks[[4, 0]])
    assert faces.subset(faces.labels == 1).names.tolist() == faces.subset([1, 2, 4, 5]).names.tolist()
    assert faces.subset(slice(2, None)).names.tolist() == faces.names[2:].tolist()
    assert len(faces.subset([])) == len(faces.subset(np.zeros(6, bool))) == 0


@pytest.mark.parametrize("index", [[6], np.ones(5, bool), [[0, 1]], 3], ids=["out of range", "short mask", "two axes", "one number"])
def test_bad_subset(faces: FaceDataset, index: object) -> None:
    with pytest.raises(IndexError):
        faces.subset(index)


def test_splits_and_counts(faces: FaceDataset) -> None:
    assert len(faces.train) == 4 and len(faces.test) == 2
    assert faces.class_counts() == {"a": 2, "b": 4, "c": 0}
    with pytest.raises(ValueError, match="no test part"):
        faces.train.test  # noqa: B018


def test_repr_and_pickle(faces: FaceDataset) -> None:
    text = repr(faces)
    assert "toy: 6 RGB images of 10x8 (2 test, 4 train)" in text and "b 4" in text and "votes" in text
    assert repr(pickle.loads(pickle.dumps(faces))) == text


def test_immutable(faces: FaceDataset) -> None:
    with pytest.raises(FrozenInstanceError):
        faces.name = "other"
    with pytest.raises(ValueError, match="read-only"):
        faces.labels[0] = 1


def test_callers_array_stays_writable() -> None:
    labels = np.zeros(2, np.int64)
    FaceDataset("x", np.zeros((2, 4, 4), np.uint8), labels, ("a",), np.array(["p", "q"]), np.array(["none", "none"]))
    labels[0] = 1


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("images", np.zeros((6, 8, 10)), "uint8"),
        ("images", np.zeros((6, 8, 10, 4), np.uint8), "uint8"),
        ("labels", np.zeros(5), "labels"),
        ("labels", np.full(6, 3), "0 to 2, got 3"),
        ("labels", np.full(6, -1), "0 to 2, got -1"),
        ("landmarks", np.zeros((6, 4, 2)), r"\[6, 5, 2\]"),
        ("landmarks_dense", np.zeros((6, 37, 3)), r"\[6, any, 2\]"),
        ("masks", np.zeros((6, 4, 4)), "masks"),
        ("distributions", np.zeros((6, 8)), "distributions"),
        ("truth", pd.DataFrame({"a": [1]}), "truth must have 6 rows"),
        ("votes", pd.DataFrame({"task": []}), "votes must have the columns"),
        ("names", np.array(["a"]), "names"),
    ],
)
def test_fields_are_checked(faces: FaceDataset, field: str, value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(faces, **{field: value})


# -- places and text ------------------------------------------------------------------------------------------------------


def test_data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_DATA", str(tmp_path))
    assert data_root() == tmp_path
    monkeypatch.delenv("FER_DATA")
    monkeypatch.setattr(files, "package_data", lambda: tmp_path)
    assert data_root() == tmp_path
    monkeypatch.setattr(files, "package_data", lambda: tmp_path / "absent")
    monkeypatch.chdir(tmp_path)
    assert data_root() == tmp_path / "data"


def test_error_names_file_line_and_expectation() -> None:
    error = DataError.at("list.txt", "label 9", "1 to 7", line=3)
    assert isinstance(error, ValueError) and str(error) == "list.txt, line 3: label 9; expected 1 to 7"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_parse_numbers() -> None:
    assert parse_numbers("1 2\r\n\n3\t4\n5", "f", (2, 2, 1), "") == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("text", "words"),
    [("1 2\n3\n", "line 2: 1 columns"), ("1 2\n", "1 lines"), ("1 2\n3 4\n5 6\n", "3 lines"), ("1 2\n3 x\n", "line 2: not a number"),
     ("1 nan\n3 4\n", "line 1: not finite"), ("1 2\n3 inf\n", "line 2: not finite")],
)
def test_parse_numbers_refuses(text: str, words: str) -> None:
    with pytest.raises(DataError, match=f"f.txt.*{words}"):
        parse_numbers(text, "f.txt", (2, 2), "two lines 'x y'")


@pytest.mark.parametrize("data", [None, b"", b"\xff\xfe\x00"], ids=["absent", "empty", "not text"])
def test_read_text_refuses(tmp_path: Path, data: bytes | None) -> None:
    if data is not None:
        put(tmp_path, "f.txt", data)
    with pytest.raises(DataError, match=r"f\.txt.*expected words"):
        read_text(tmp_path / "f.txt", "words")


# -- sources --------------------------------------------------------------------------------------------------------------


def write_zip(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize("top", ["", "box/", "crate/"])
@pytest.mark.parametrize("packed", [None, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["folder", "stored", "deflated"])
def test_source_reads(tmp_path: Path, top: str, packed: int | None) -> None:
    files = {f"{top}a.txt": b"one", f"{top}sub/b.txt": "zw\u00f6lf".encode(), f"{top}.DS_Store": b"x", f"{top}Thumbs.db": b"x"}
    if packed is None:
        for name, data in files.items():
            put(tmp_path / "box", name, data)
    else:
        write_zip(tmp_path / "box.zip", files, packed)
    source = Source.find(tmp_path, "box", "crate")
    assert source.names == ["a.txt", "sub/b.txt"] and "a.txt" in source
    assert source.read("a.txt") == b"one" and source.text("sub/b.txt") == "zw\u00f6lf"
    assert "a.txt" in source.where("a.txt") and Path(source.where("a.txt").split("!")[0]).exists()
    with pytest.raises(DataError, match=r"c\.txt: not found; expected a poem"):
        source.read("c.txt", "a poem")


def test_source_find(tmp_path: Path) -> None:
    assert Source.find(tmp_path, "box") is None
    with pytest.raises(DataError, match=r"box: not found.*expected a box"):
        Source.require(tmp_path, "box", expected="a box")


@pytest.mark.parametrize("name", ["../evil.txt", "box/../../evil.txt", "/etc/evil.txt", "C:/evil.txt", "..\\evil.txt"])
def test_archive_members_stay_inside(tmp_path: Path, name: str) -> None:
    path = write_zip(tmp_path / "box.zip", {"good.txt": b"x", name: b"x"})
    with pytest.raises(DataError, match=r"box\.zip!.*evil\.txt: unsafe member name"):
        Source(path)


def test_archive_link(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("link.txt")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "box.zip", "w") as archive:
        archive.writestr(info, "/etc/hosts")
    with pytest.raises(DataError, match=r"link\.txt: member is a link"):
        Source(tmp_path / "box.zip")


def test_archive_bomb(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "box.zip", {"bomb.txt": bytes(4 * 2**20)})
    with pytest.raises(DataError, match=r"bomb\.txt: unpacks to 4194304 bytes.*no decompression bomb"):
        Source(path)


def test_archive_that_lies_about_sizes(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "box.zip", {"bomb.txt": bytes(4 * 2**20)})
    data = path.read_bytes().replace((4 * 2**20).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"bomb\.txt: cannot be read \(truncated or damaged\)"):
        Source(path).read("bomb.txt")


def test_archive_member_twice(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "box.zip", {"a.txt": b"1", "box/a.txt": b"2"})
    with pytest.raises(DataError, match=r"a\.txt: comes twice"):
        Source(path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_archive(tmp_path: Path, share: float) -> None:
    path = write_zip(tmp_path / "box.zip", {f"{i}.txt": os.urandom(50) for i in range(20)})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DataError, match=r"box\.zip: cannot be read as a zip archive"):
        Source(path)


def test_damaged_members(tmp_path: Path) -> None:
    """Whatever byte is flipped, the answer is the true content or a DataError that names the archive."""
    content = os.urandom(40)
    path = write_zip(tmp_path / "box.zip", {"a.txt": content})
    whole = path.read_bytes()
    for i in range(len(whole)):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 0xFF]) + whole[i + 1 :])
        try:
            source = Source(path)
            assert all(source.read(name) == content for name in source.names)
        except DataError as error:
            assert "box.zip" in str(error)


def test_encrypted_member(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "box.zip", {"a.txt": b"x"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="encrypted"):
        Source(path)


def test_folder_links(tmp_path: Path) -> None:
    put(tmp_path, "outside.txt", "x")
    put(tmp_path / "box", "a.txt", "x")
    (tmp_path / "box" / "inner.txt").symlink_to(tmp_path / "box" / "a.txt")
    assert Source(tmp_path / "box").names == ["a.txt", "inner.txt"]
    (tmp_path / "box" / "evil.txt").symlink_to(tmp_path / "outside.txt")
    with pytest.raises(DataError, match=r"evil\.txt: a link that leaves the folder"):
        Source(tmp_path / "box")


def test_link_to_itself(tmp_path: Path) -> None:
    put(tmp_path / "box", "a.txt", "x")
    (tmp_path / "box" / "loop.txt").symlink_to(tmp_path / "box" / "loop.txt")
    with pytest.raises(DataError, match=r"loop\.txt: a link that leads in a circle"):
        Source(tmp_path / "box")


def test_linked_root_is_fine(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere", "a.txt", "x")
    (tmp_path / "box").symlink_to(tmp_path / "elsewhere")
    assert Source.find(tmp_path, "box").read("a.txt") == b"x"


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path / "box", "a.txt", "x")
    source = Source(tmp_path / "box")

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    for read in (lambda: source.read("a.txt"), lambda: read_text(path, "words")):
        with pytest.raises(DataError, match=r"a\.txt: cannot be read .*Permission denied"):
            read()


# -- images ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def box(tmp_path: Path) -> tuple[Source, list[str]]:
    """A folder of 150 grey pictures, each of one value."""
    names = [f"{i}.png" for i in range(150)]
    for i, name in enumerate(names):
        buffer = io.BytesIO()
        Image.fromarray(np.full((5, 6), i, np.uint8)).save(buffer, "PNG")
        put(tmp_path / "box", name, buffer.getvalue())
    return Source(tmp_path / "box"), names


def test_load_images(box: tuple[Source, list[str]]) -> None:
    source, names = box
    images = load_images(source, names, mode="L").load()
    assert images.shape == (150, 5, 6) and images[:, 0, 0].tolist() == list(range(150))
    small = load_images(source, names[:2], mode="L", size=(2, 2), finish=lambda image, i: image[:2, :2] + i)
    assert small.shape == (2, 2, 2) and small.load()[:, 0, 0].tolist() == [0, 2]
    assert load_images(source, [], size=(5, 6)).load().shape == (0, 5, 6, 3)
    put(source.path, "90.png", image_bytes(0, (7, 5), "L", "PNG"))
    with pytest.raises(DataError, match=r"90\.png: 7x5 pixels; expected 6x5 pixels, friend"):
        load_images(source, names, mode="L", hint=", friend").load()


def waiting(source: Source, names: list[str], **options) -> FaceDataset:
    split = np.where(np.arange(len(names)) % 2, "test", "train")
    images = load_images(source, names, mode="L", **options)
    return FaceDataset(name="toy", images=images, labels=np.zeros(len(names), np.int64), classes=("a",), names=names, split=split)


def test_images_wait_until_asked_for(box: tuple[Source, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    source, names = box
    read: list[str] = []
    plain = Source.read
    monkeypatch.setattr(Source, "read", lambda self, name, expected="": read.append(name) or plain(self, name, expected))
    faces = waiting(source, names, size=(5, 6))
    assert len(faces) == 150 and "6x5" in repr(faces) and len(faces.test) == 75 and faces.class_counts() == {"a": 150} and not read
    assert np.asarray(faces.test[1][0])[0, 0] == 3 and read == ["3.png"]
    assert faces.test.images[:, 0, 0].tolist() == list(range(1, 150, 2)) and set(read) == set(names[1::2])
    assert faces.replace(name="other").images[:, 0, 0].tolist() == list(range(150))
    assert len(read) == 151, "a picture that one subset decoded is not read again by another"
    assert not faces.images.flags.writeable and faces.images is faces.images


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_images_go_on_waiting_in_another_process(box: tuple[Source, list[str]], tmp_path: Path, packed: bool) -> None:
    source, names = box
    if packed:
        source = Source(write_zip(tmp_path / "packed.zip", {name: source.read(name) for name in names}))
    faces = waiting(source, names, size=(5, 6)).test
    first = np.asarray(faces[0][0])  # an archive is open now
    copy = pickle.loads(pickle.dumps(faces))
    assert np.array_equal(copy[0][0], first) and not copy.__dict__["images"]._store._parts, "not decoded on the way"
    assert copy.images[:, 0, 0].tolist() == faces.images[:, 0, 0].tolist() == list(range(1, 150, 2))
    assert pickle.loads(pickle.dumps(faces)).__dict__["images"].tolist() == faces.images.tolist(), "what was decoded stays so"


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_resized_images_wait_too(tmp_path: Path, packed: bool) -> None:
    for i in range(3):
        put(tmp_path / "toy" / "anger", f"{i}.png", image_bytes(i, (30, 20), kind="PNG"))
    faces = folder.load(pack(tmp_path / "toy") if packed else tmp_path / "toy", size=12)
    copy = pickle.loads(pickle.dumps(faces))
    assert np.array_equal(copy.images, faces.images) and copy.images.shape == (3, 12, 12, 3)


def test_a_damaged_image_is_named_when_asked_for(box: tuple[Source, list[str]]) -> None:
    source, names = box
    put(source.path, "7.png", (source.path / "7.png").read_bytes()[:40])
    faces = waiting(source, names)
    with pytest.raises(DataError, match=r"7\.png: cannot be decoded"):
        _ = faces.images
    assert faces[8][1] == 0


# -- the cache of decoded images -----------------------------------------------------------------------------------------


@pytest.fixture
def cached(box: tuple[Source, list[str]], monkeypatch: pytest.MonkeyPatch) -> tuple[Source, list[str]]:
    monkeypatch.setattr("fer_utils.datasets.images._MANY", 100)
    return box


def kept() -> list[Path]:
    return sorted(cache_root().glob("*"))


def test_many_images_are_kept_decoded(cached: tuple[Source, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    source, names = cached
    first = waiting(source, names).images
    assert [path.suffix for path in kept()] == [".npy"]
    with monkeypatch.context() as patch:
        patch.setattr("fer_utils.datasets.images._Store._decode_all", lambda *_: pytest.fail("decoded again"))
        again = waiting(source, names)
        assert np.array_equal(again.images, first) and not again.images.flags.writeable


def test_a_changed_file_is_decoded_anew(cached: tuple[Source, list[str]]) -> None:
    source, names = cached
    assert waiting(source, names).images[3, 0, 0] == 3
    put(source.path, "3.png", (source.path / "4.png").read_bytes())
    assert waiting(source, names).images[3, 0, 0] == 4 and len(kept()) == 2


def test_a_file_of_the_same_size_and_time_is_decoded_anew(cached: tuple[Source, list[str]]) -> None:
    source, names = cached
    assert waiting(source, names).images[3, 0, 0] == 3
    path = source.path / "3.png"
    before = path.stat()
    data = (source.path / "4.png").read_bytes()
    put(source.path, "3.png", data + b"\0" * (before.st_size - len(data)))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert waiting(source, names).images[3, 0, 0] == 4


@pytest.mark.parametrize("change", ["images.DECODER", "PIL.__version__"])
def test_another_decoder_takes_up_no_cached_copy(
    cached: tuple[Source, list[str]], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    source, names = cached
    _ = waiting(source, names).images
    monkeypatch.setattr(f"fer_utils.datasets.{change}" if change.startswith("images") else change, "another")
    _ = waiting(source, names).images
    assert len(kept()) == 2


def test_a_kill_while_writing_leaves_no_cached_copy(cached: tuple[Source, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    source, names = cached

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            _ = waiting(source, names).images
    assert not [path for path in kept() if path.suffix == ".npy"]
    assert waiting(source, names).images[9, 0, 0] == 9


DAMAGES = {
    "cut": lambda data: data[:300], "other": lambda data: b"words", "empty": lambda data: b"",
    "header": lambda data: data.replace(b"{", b"[", 1), "short": lambda data: data[:9], "longer": lambda data: data + b"x",
    "one bit": lambda data: data[:1000] + bytes([data[1000] ^ 1]) + data[1001:],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_cached_copy_is_replaced(cached: tuple[Source, list[str]], damage) -> None:
    source, names = cached
    _ = waiting(source, names).images
    (path,) = kept()
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert waiting(source, names).images[:, 0, 0].tolist() == list(range(150)) and path.read_bytes() == whole


def test_no_cache_where_none_is_wanted_or_possible(
    cached: tuple[Source, list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source, names = cached
    monkeypatch.setenv("FER_CACHE", "")
    assert cache_root() is None and waiting(source, names).images.shape == (150, 5, 6)
    put(tmp_path, "file", "x")
    monkeypatch.setenv("FER_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="decoded images are not kept"):
        _ = waiting(source, names).images

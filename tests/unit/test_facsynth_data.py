"""The shipped faces: the loader on a miniature, and the data themselves where they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import LISTED, MORE, put, tamper, write_sums

from fer_utils.datasets import DataError, FaceDataset, facsynth
from fer_utils.facsynth.sets import BASIC_COUNTS, COMPOUND_TEST, COMPOUND_TRAIN_TOTAL, LAB_COUNTS
from fer_utils.files import package_data

SHIPPED = package_data() / "facsynth"
needs_data = pytest.mark.skipif(not (SHIPPED / "SHA256SUMS").exists(), reason="the faces have not been rendered")


# -- the loader -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subset", ["basic", "compound"])
def test_wild_sets(facsynth_tree: Path, subset: str) -> None:
    faces = facsynth.load(subset, masks=True)
    count = len(LISTED[subset])
    assert faces.name == f"FACSynth {subset}" and len(faces) == count
    assert faces.truth["name"].tolist() == faces.names.tolist()
    assert faces.identities.tolist() == list(range(100, 100 + count))
    assert len(faces.votes) == 3 * count and faces.masks[:, 0, 0].tolist() == list(range(count))
    assert faces.landmarks is not None and faces.landmarks_dense is not None and faces.attributes is not None
    test = facsynth.load(subset, split="test")
    assert set(test.votes["task"]) == set(test.names) and test.masks is None
    assert test.truth["au_12"].tolist() == faces.test.truth["au_12"].tolist()


@pytest.mark.parametrize("subset", ["basic", "compound"])
def test_more_wild_faces(facsynth_tree: Path, subset: str) -> None:
    few, faces = facsynth.load(subset, masks=True), facsynth.load(subset, masks=True, more=True)
    assert faces.names.tolist() == [*LISTED[subset], *MORE[subset]] and len(faces.votes) == 3 * len(faces)
    assert (faces.images[: len(few)] == few.images).all() and faces.train.names.tolist() == few.train.names.tolist()
    assert faces.truth["name"].tolist() == faces.names.tolist() and len(faces.masks) == len(faces)


def test_lab_set(facsynth_tree: Path) -> None:
    faces = facsynth.load("lab", masks=True)
    assert faces.name == "FACSynth lab" and len(faces) == 9 and faces.votes is None
    assert faces.truth["name"].tolist() == faces.names.tolist()
    assert (faces.masks[:, 0, 0] == (faces.truth["identity"] - 100) % 7).all()
    assert len(facsynth.load("lab", frames="all", classes=8, align=None)) == 12


def test_sample_of_originals(facsynth_tree: Path) -> None:
    faces = facsynth.load("basic", aligned=False)
    assert faces.images.shape == (2, 128, 128, 3) and len(faces.truth) == 2


def test_annotators(facsynth_tree: Path) -> None:
    assert facsynth.load_annotators().columns.tolist() == ["worker", "reliability", "reliable"]


@pytest.mark.parametrize(
    ("subset", "options"),
    [("wild", {}), ("basic", {"split": "val"}), ("lab", {"split": "train"}), ("basic", {"masks": True, "aligned": False}),
     ("lab", {"masks": True, "align": 48})],
)
def test_bad_arguments(facsynth_tree: Path, subset: str, options: dict) -> None:
    with pytest.raises(ValueError, match=r"subset|split|masks"):
        facsynth.load(subset, **options)


MASKS = {
    "names are one word": ({"names": np.array("a"), "masks": np.zeros((1, 100, 100), np.uint8)}, "masks uint8"),
    "masks are one number": ({"names": np.array(["a"]), "masks": np.uint8(3)}, "masks uint8"),
    "other size": ({"names": np.array(["a"]), "masks": np.zeros((1, 50, 50), np.uint8)}, "masks uint8"),
    "unknown code": ({"names": np.array(["a"]), "masks": np.full((1, 100, 100), 200, np.uint8)}, "a mask with the code 200"),
    "no masks": ({"names": np.array(["a"])}, "cannot be read"),
}


@pytest.mark.parametrize("case", MASKS)
def test_bad_input_masks(facsynth_tree: Path, case: str) -> None:
    arrays, words = MASKS[case]
    np.savez(facsynth_tree / "raf/basic/masks.npz", **arrays)
    write_sums(facsynth_tree)
    with pytest.raises(DataError, match=rf"masks\.npz: {words}.*expected an \.npz of names"):
        facsynth.load("basic", masks=True)


@pytest.mark.parametrize("name", ["raf/basic/.ipynb_checkpoints/truth.parquet", "raf/@eaDir/x.jpg", "raf/basic/Image/thumbs.db"])
def test_what_programs_leave_needs_no_checksum(facsynth_tree: Path, name: str) -> None:
    put(facsynth_tree, name, "x")
    assert len(facsynth.load("basic")) == 5


def test_changed_file(facsynth_tree: Path) -> None:
    tamper(facsynth_tree, "raf/basic/EmoLabel", "list_patition_label.txt", lambda data: data.replace(b" 5", b" 6"))
    with pytest.raises(DataError, match=r"list_patition_label\.txt: its SHA-256 is .*get the file again"):
        facsynth.load("basic")
    assert len(facsynth.load("compound")) == 3


def test_each_file_is_checked_once(facsynth_tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facsynth.load("basic")
    monkeypatch.setattr(facsynth, "_digest", lambda path: pytest.fail(f"{path} read twice"))
    facsynth.load("basic")


@pytest.mark.parametrize("name", ["raf/basic/truth.parquet", "raf/basic/Image/aligned.zip"])
def test_absent_file(facsynth_tree: Path, name: str) -> None:
    (facsynth_tree / name).unlink()
    with pytest.raises(DataError, match=f"{Path(name).name}: cannot be read"):
        facsynth.load("basic")


def test_unlisted_file(facsynth_tree: Path) -> None:
    put(facsynth_tree, "raf/basic/more.txt", "x")
    with pytest.raises(DataError, match=r"more\.txt: not in SHA256SUMS"):
        facsynth.load("basic")


@pytest.mark.parametrize("line", ["abc  raf/basic/truth.parquet\n", f"{'0' * 64}  ../raf/x\n", f"{'0' * 64}  /raf/x\n", f"{'0' * 64}\n"])
def test_bad_sums(facsynth_tree: Path, line: str) -> None:
    put(facsynth_tree, "SHA256SUMS", line)
    with pytest.raises(DataError, match="SHA256SUMS, line 1"):
        facsynth.load("basic")


def test_sums_without_the_set(facsynth_tree: Path) -> None:
    put(facsynth_tree, "SHA256SUMS", f"{'0' * 64}  README.md\n")
    with pytest.raises(DataError, match="SHA256SUMS: no file of raf/basic"):
        facsynth.load("basic")


def _less_truth(root: Path) -> str:
    path = root / "raf/basic/truth.parquet"
    pd.read_parquet(path).iloc[1:].to_parquet(path)
    return r"truth\.parquet: no row of"


def _twice(root: Path) -> str:
    path = root / "raf/basic/truth.parquet"
    table = pd.read_parquet(path)
    pd.concat([table, table.iloc[:1]]).to_parquet(path)
    return r"truth\.parquet: .* comes twice"


def _no_columns(root: Path) -> str:
    pd.DataFrame({"task": ["a"]}).to_parquet(root / "raf/basic/votes.parquet")
    return r"votes\.parquet: columns task; expected"


def _not_parquet(root: Path) -> str:
    put(root, "raf/basic/votes.parquet", "words")
    return r"votes\.parquet: cannot be read"


def _not_masks(root: Path) -> str:
    put(root, "raf/basic/masks.npz", "words")
    return r"masks\.npz: cannot be read"


def _small_masks(root: Path) -> str:
    np.savez(root / "raf/basic/masks.npz", names=["a"], masks=np.zeros((1, 50, 50), np.uint8))
    return r"masks\.npz: masks uint8 \(1, 50, 50\)"


@pytest.mark.parametrize("damage", [_less_truth, _twice, _no_columns, _not_parquet, _not_masks, _small_masks])
def test_bad_tables(facsynth_tree: Path, damage) -> None:
    words = damage(facsynth_tree)
    write_sums(facsynth_tree)
    with pytest.raises(DataError, match=words):
        facsynth.load("basic", masks=True)


def test_data_elsewhere(facsynth_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``$FER_DATA`` may hold only the gated sets: the shipped faces are found beside the package."""
    monkeypatch.setenv("FER_DATA", str(tmp_path / "gated"))
    monkeypatch.setattr(facsynth, "package_data", lambda: tmp_path)
    assert facsynth.find_root() == facsynth_tree
    monkeypatch.setattr(facsynth, "package_data", lambda: tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"SHA256SUMS: not found .*gated.*nowhere.*git clone .*FER_DATA"):
        facsynth.load("basic")


# -- the data -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped() -> dict[str, FaceDataset]:
    """The three shipped sets with masks; the lab set with its neutral frames."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FER_DATA", raising=False)
        return {
            "basic": facsynth.load("basic", masks=True), "compound": facsynth.load("compound", masks=True),
            "lab": facsynth.load("lab", masks=True, classes=8),
        }


@needs_data
def test_shipped_sums_and_size() -> None:
    facsynth.verify(SHIPPED)
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) <= 110e6


@needs_data
def test_shipped_counts(shipped: dict[str, FaceDataset]) -> None:
    for split, counts in BASIC_COUNTS.items():
        assert tuple(getattr(shipped["basic"], split).class_counts().values()) == counts
    assert tuple(shipped["compound"].test.class_counts().values()) == COMPOUND_TEST
    assert len(shipped["compound"].train) == COMPOUND_TRAIN_TOTAL
    lab = shipped["lab"].class_counts()
    assert lab.pop("neutral") == sum(LAB_COUNTS.values())
    assert lab == {emotion: 3 * count for emotion, count in LAB_COUNTS.items()}


@needs_data
def test_shipped_identities(shipped: dict[str, FaceDataset]) -> None:
    wild = [shipped["basic"], shipped["compound"]]
    train, test = (np.concatenate([getattr(faces, split).identities for faces in wild]) for split in ("train", "test"))
    assert not set(train) & set(test)
    assert len(set(shipped["lab"].identities)) == 123


@needs_data
@pytest.mark.parametrize("subset", ["basic", "compound"])
def test_shipped_votes(shipped: dict[str, FaceDataset], subset: str) -> None:
    faces = shipped[subset]
    counts = faces.votes.groupby("task").size()
    assert set(counts.index) == set(faces.names) and 35 <= counts.mean() <= 45
    assert not faces.votes.duplicated(["task", "worker"]).any()
    assert faces.votes["label"].between(1, 7).all() and faces.votes["worker"].between(0, 314).all()
    assert set(faces.votes["worker"]) <= set(facsynth.load_annotators()["worker"])
    np.testing.assert_allclose(faces.distributions.sum(1), 1, atol=0.01)


@needs_data
@pytest.mark.parametrize("subset", ["basic", "compound", "lab"])
def test_shipped_truth_and_masks(shipped: dict[str, FaceDataset], subset: str) -> None:
    faces = shipped[subset]
    assert faces.masks.dtype == np.uint8 and faces.masks.max() <= 6
    units = faces.truth.filter(regex=r"^au_\d+$")
    assert units.shape[1] >= 20 and units.min().min() >= 0 and units.max().max() <= 1
    assert (faces.images.reshape(len(faces), -1).std(1) > 3).all()
    inside = ((faces.landmarks > 0) & (faces.landmarks < 100)).all(axis=(1, 2))
    assert inside.mean() > 0.99
    beside = faces.truth["misaligned"]
    assert (beside == 0).all() if subset == "lab" else (beside.between(0.01, 15).all() and 1 < beside.mean() < 4)

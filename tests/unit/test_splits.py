"""Splits: nobody on both sides, everybody tested once, classes spread, seeds that count."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version
from sklearn.model_selection import StratifiedGroupKFold

from fer_utils.datasets import DataError, FaceDataset, facsynth
from fer_utils.splits import (
    Split,
    _stratify,
    kfold,
    leave_one_subject_out,
    predefined,
    subject_kfold,
    validation_split,
)

SEEDS = st.integers(0, 2**32 - 1)
FOLDS = st.integers(2, 6)
LIKE_OURS = pytest.mark.skipif(Version(sklearn.__version__) < Version("1.8"), reason="older versions of scikit-learn deal otherwise")


def make_faces(labels, people=None, split="none", name: str = "toy") -> FaceDataset:
    """Faces of one pixel."""
    labels = np.asarray(labels, dtype=np.int64)
    n = len(labels)
    return FaceDataset(
        name=name, images=np.zeros((n, 1, 1), np.uint8), labels=labels, classes=tuple(f"class {k}" for k in range(labels.max() + 1)),
        names=np.array([f"{i:05d}.png" for i in range(n)]), split=np.broadcast_to(np.asarray(split, dtype=np.str_), n),
        identities=None if people is None else np.asarray(people),
    )


def make_lab(subjects: int, classes: int = 6, frames: int = 3) -> FaceDataset:
    """Everybody shows every class in so many frames, as in Oulu-CASIA."""
    labels = np.tile(np.repeat(np.arange(classes), frames), subjects)
    return make_faces(labels, np.repeat(np.arange(subjects), classes * frames))


@st.composite
def crowds(draw: st.DrawFn, folds: int) -> FaceDataset:
    """People with any mix of classes, each class shown by at least as many people as folds; numbers with gaps, in any order."""
    classes = draw(st.integers(1, 4))
    people = draw(st.integers(folds, 14))
    table = draw(st.lists(st.lists(st.integers(0, 4), min_size=classes, max_size=classes), min_size=people, max_size=people))
    counts = np.array(table)
    for k in range(classes):
        counts[np.arange(k, k + folds) % people, k] += 1
    pairs = np.array([(who, k) for who in range(people) for k in range(classes) for _ in range(counts[who, k])])
    pairs = np.random.default_rng(draw(SEEDS)).permutation(pairs)
    return make_faces(pairs[:, 1], pairs[:, 0] * 7 + 3)


def counts_by_fold(faces: FaceDataset, splits: list[Split]) -> np.ndarray:
    """Test faces of each fold and class ``[folds, K]``."""
    return np.array([np.bincount(faces.labels[split.test], minlength=len(faces.classes)) for split in splits])


def assert_tested_once(faces: FaceDataset, splits: list[Split]) -> None:
    assert np.sort(np.concatenate([split.test for split in splits])).tolist() == list(range(len(faces)))
    for split in splits:
        assert np.sort(np.concatenate([split.train, split.test])).tolist() == list(range(len(faces)))
        assert split.train.dtype == split.test.dtype == np.int64


def assert_people_apart(faces: FaceDataset, splits: list[Split]) -> None:
    assert faces.identities is not None
    for split in splits:
        assert not set(faces.identities[split.train].tolist()) & set(faces.identities[split.test].tolist())


def same(one: list[Split], other: list[Split]) -> bool:
    return all(np.array_equal(a.test, b.test) and np.array_equal(a.train, b.train) for a, b in zip(one, other, strict=True))


# -- what holds for every dataset -----------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.data(), FOLDS, SEEDS)
def test_subject_folds(data: st.DataObject, folds: int, seed: int) -> None:
    faces = data.draw(crowds(folds))
    splits = subject_kfold(faces, folds, seed)
    assert len(splits) == folds
    assert_tested_once(faces, splits)
    assert_people_apart(faces, splits)
    assert same(splits, subject_kfold(faces, folds, seed))


@settings(max_examples=60, deadline=None)
@given(st.data(), FOLDS, SEEDS)
def test_folds_keep_class_shares_to_one_image(data: st.DataObject, folds: int, seed: int) -> None:
    faces = data.draw(crowds(folds))
    splits = kfold(faces, folds, seed)
    assert_tested_once(faces, splits)
    assert np.ptp(counts_by_fold(faces, splits), axis=0).max() <= 1
    assert same(splits, kfold(faces, folds, seed))


FIXED = {  # a seed, and the people of each of three folds
    0: [[1, 7, 8], [0, 4, 5, 6], [2, 3, 9]],
    1: [[3, 8, 9], [1, 4, 6], [0, 2, 5, 7]],
}


@pytest.mark.parametrize("seed", FIXED)
def test_a_seed_deals_the_same_people_with_every_version(seed: int) -> None:
    shown = [(who, k) for who in range(10) for k in range(4) for _ in range((3 * who + 5 * k) % 4)]
    people, labels = np.array(shown).T
    faces = make_faces(labels, people)
    dealt = [sorted(set(people[split.test].tolist())) for split in subject_kfold(faces, 3, seed)]
    assert dealt == FIXED[seed]


@LIKE_OURS
@settings(max_examples=100, deadline=None)
@given(st.data(), FOLDS, SEEDS)
def test_people_are_dealt_as_scikit_learn_does(data: st.DataObject, folds: int, seed: int) -> None:
    faces = data.draw(crowds(folds))
    assert_dealt_as_scikit_learn_does(faces, folds, seed)


@LIKE_OURS
@pytest.mark.parametrize(("subset", "folds"), [("lab", 5), ("lab", 10), ("basic", 10)])
def test_shipped_people_are_dealt_as_scikit_learn_does(subset: str, folds: int) -> None:
    faces = facsynth.load(subset)
    for seed in range(3):
        assert_dealt_as_scikit_learn_does(faces if subset == "lab" else faces.train, folds, seed)


def assert_dealt_as_scikit_learn_does(faces: FaceDataset, folds: int, seed: int) -> None:
    theirs = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class with fewer faces than folds
        expected = [test.tolist() for _, test in theirs.split(faces.labels, faces.labels, faces.identities)]
    assert [test.tolist() for test in _stratify(faces.labels, faces.identities, folds, seed)] == expected


@settings(max_examples=60, deadline=None)
@given(st.data(), FOLDS, SEEDS)
def test_class_shares_when_a_person_shows_one_class(data: st.DataObject, folds: int, seed: int) -> None:
    # Whoever goes to the emptiest fold leaves folds that differ by no more than the largest person.
    sizes = data.draw(st.lists(st.lists(st.integers(1, 9), min_size=folds, max_size=12), min_size=1, max_size=4))
    owners = [(k, size) for k, people in enumerate(sizes) for size in people]
    faces = make_faces(
        np.concatenate([np.full(size, k) for k, size in owners]),
        np.concatenate([np.full(size, who) for who, (_, size) in enumerate(owners)]),
    )
    splits = subject_kfold(faces, folds, seed)
    assert_people_apart(faces, splits)
    assert (np.ptp(counts_by_fold(faces, splits), axis=0) <= [max(people) for people in sizes]).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 12), st.integers(1, 6), st.integers(1, 3), FOLDS, SEEDS)
def test_class_shares_when_people_are_alike(more: int, classes: int, frames: int, folds: int, seed: int) -> None:
    faces = make_lab(folds + more, classes, frames)
    counts = counts_by_fold(faces, subject_kfold(faces, folds, seed))
    assert np.ptp(counts, axis=0).max() <= frames


@settings(max_examples=60, deadline=None)
@given(st.data(), FOLDS, SEEDS)
def test_leave_one_subject_out(data: st.DataObject, folds: int, seed: int) -> None:
    faces = data.draw(crowds(folds))
    splits = leave_one_subject_out(faces)
    assert_tested_once(faces, splits)
    assert_people_apart(faces, splits)
    assert faces.identities is not None
    assert [set(faces.identities[split.test].tolist()) for split in splits] == [{who} for who in np.unique(faces.identities).tolist()]
    assert {split.seed for split in splits} == {None}


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from([0.1, 0.15, 0.2, 0.25, 1 / 3, 0.5, 0.7]), SEEDS, st.booleans())
def test_validation(data: st.DataObject, share: float, seed: int, known: bool) -> None:
    faces = make_lab(data.draw(st.integers(20, 40)), data.draw(st.integers(1, 4)), 2)
    if not known:
        faces = make_faces(faces.labels)
    split = validation_split(faces, share, seed)
    assert_tested_once(faces, [split, Split(split.test, split.train, "swapped", None, faces.names)])
    if known:
        assert_people_apart(faces, [split])
    counts = np.bincount(faces.labels[split.test], minlength=len(faces.classes))
    wanted = share * np.bincount(faces.labels)
    # Of 20 parts at most, each within one unit of its share; a unit is the two frames of a person, or a face.
    assert (np.abs(counts - wanted) <= (2 if known else 1) * 14).all()
    if known and len(np.unique(faces.identities)) % 20 == 0:
        assert np.allclose(counts, wanted) or share == 1 / 3
    again = validation_split(faces, share, seed)
    assert np.array_equal(split.test, again.test)


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: kfold(make_lab(20), 10, seed),
        lambda seed: subject_kfold(make_lab(20), 10, seed),
        lambda seed: [validation_split(make_lab(20), 0.1, seed)],
        lambda seed: [validation_split(make_faces(make_lab(20).labels), 0.1, seed)],
    ],
    ids=["kfold", "subject_kfold", "validation by person", "validation by image"],
)
def test_another_seed_another_split(make: Callable[[int], list[Split]]) -> None:
    assert same(make(1), make(1))
    assert [split.seed for split in make(4)] == [4] * len(make(4))
    assert not any(same(make(0), make(seed)) for seed in range(1, 5))


def test_the_largest_person_is_not_always_validation() -> None:
    faces = make_faces([0] * 30 + [0, 1] * 20, [0] * 30 + list(range(1, 41)))
    tested = [0 in validation_split(faces, 0.5, seed).test for seed in range(16)]
    assert any(tested) and not all(tested)


def test_a_small_class_may_be_missing_from_validation() -> None:
    faces = make_faces([0] * 40 + [1] * 2)
    assert len(validation_split(faces, 0.1, 0).test) in (4, 5)


# -- parts of the owners --------------------------------------------------------------------------------------------------


def test_predefined() -> None:
    faces = make_faces([0, 1, 0, 1, 0], split=["test", "train", "val", "train", "test"])
    (split,) = predefined(faces)
    assert (split.train.tolist(), split.test.tolist(), split.name, split.seed) == ([1, 3], [0, 4], "predefined test", None)
    assert predefined(faces, "val")[0].test.tolist() == [2]
    with pytest.raises(ValueError, match="toy has no test part; its parts are train, val"):
        predefined(faces.subset(faces.split != "test"))
    with pytest.raises(ValueError, match="toy has no train part; its parts are none"):
        predefined(make_faces([0, 1]))


# -- wrong arguments ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: kfold(make_faces([0] * 9), 1), "at least 2 folds, got 1"),
        (lambda: kfold(make_faces([0] * 9 + [1] * 4), 5), r"5 folds of toy, but class 1 has 4 images"),
        (lambda: kfold(make_faces([0, 0]), 3), "3 folds of toy, which has 2 images"),
        (lambda: subject_kfold(make_faces([0] * 9), 3), "toy does not say who is shown"),
        (lambda: subject_kfold(make_faces([0] * 9, [0, 1, 2] * 3), 4), "4 folds of toy, which has 3 people"),
        (lambda: subject_kfold(make_faces([0] * 9 + [1] * 9, [*range(9), *[1] * 9]), 4), "4 folds of toy, but class 1 has 1 people"),
        (lambda: leave_one_subject_out(make_faces([0] * 9)), "needs identities"),
        (lambda: leave_one_subject_out(make_faces([0] * 9, [4] * 9)), "shows 1 person"),
        (lambda: validation_split(make_faces([0] * 9), 0.0), "share must be between"),
        (lambda: validation_split(make_faces([0] * 9), 0.01), r"share must be between 1/20 and 19/20, got 0\.01"),
        (lambda: validation_split(make_faces([0] * 9), 1.0), r"got 1\.0"),
        (lambda: validation_split(make_faces([0] * 9), float("nan")), "got nan"),
        (lambda: validation_split(make_faces([0] * 9), 0.1), "1 of 10 parts, but there are 9 images"),
        (lambda: validation_split(make_faces([0] * 90, [0, 1, 2] * 30), 0.25), "1 of 4 parts, but there are 3 people"),
        (lambda: validation_split(make_faces([0] * 9, split=["train"] * 8 + ["test"]), 0.5), "toy holds a test part"),
    ],
)
def test_wrong_arguments(call: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


NAMES = np.array(["a.png", "b.png", "c.png"])


@pytest.mark.parametrize(
    ("train", "test", "names", "words"),
    [
        ([0, 1], [1, 2], NAMES, "1 faces come twice"),
        ([0, 0], [1], NAMES, "1 faces come twice"),
        ([], [1], NAMES, "train must be a list of at least one"),
        ([0], [], NAMES, "test must be a list of at least one"),
        ([[0]], [1], NAMES, "train must be a list"),
        ([0], [3], NAMES, "0 to 2, got 3 to 3"),
        ([-1], [1], NAMES, "0 to 2, got -1"),
        ([0], [1], np.array(["a.png", "b.png", "a.png"]), r"a\.png comes 2 times"),
    ],
)
def test_impossible_splits(train: list, test: list, names: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Split(np.array(train), np.array(test), "odd", 0, names)


def test_a_split_cannot_be_written_to() -> None:
    split = Split(np.array([0]), np.array([1]), "two of three", 0, NAMES)
    with pytest.raises(ValueError, match="read-only"):
        split.train[0] = 2
    assert repr(split) == "Split two of three: 1 to train, 1 to test, of 3; seed 0"


# -- on disk --------------------------------------------------------------------------------------------------------------


def test_save_and_load(tmp_path: Path) -> None:
    faces = make_lab(12, 2, 1)
    split = subject_kfold(faces, 4, seed=3)[1]
    split.save(tmp_path / "split.json")
    assert [path.name for path in tmp_path.iterdir()] == ["split.json"]
    back = Split.load(tmp_path / "split.json", faces)
    assert same([split], [back]) and (back.name, back.seed) == ("subject_kfold 2/4", 3)

    order = np.random.default_rng(0).permutation(len(faces))
    shuffled = faces.subset(order)
    moved = Split.load(tmp_path / "split.json", shuffled)
    assert shuffled.names[moved.test].tolist() == faces.names[split.test].tolist()
    assert shuffled.names[moved.train].tolist() == faces.names[split.train].tolist()


def test_faces_left_out_stay_out(tmp_path: Path) -> None:
    faces = make_faces([0] * 5, split=["train", "train", "val", "test", "test"])
    predefined(faces)[0].save(tmp_path / "split.json")
    back = Split.load(tmp_path / "split.json", faces)
    assert (back.train.tolist(), back.test.tolist(), back.seed) == ([0, 1], [3, 4], None)


def test_a_split_of_other_images(tmp_path: Path) -> None:
    faces = make_faces([0] * 10)
    kfold(faces, 2)[0].save(tmp_path / "split.json")
    with pytest.raises(DataError, match=r"split\.json: 00009\.png is not in toy; expected the 10 images"):
        Split.load(tmp_path / "split.json", faces.subset(range(9)))
    with pytest.raises(DataError, match=r"split\.json: 00010\.png is only in bigger; expected the 10 images"):
        Split.load(tmp_path / "split.json", make_faces([0] * 11, name="bigger"))


WHOLE = {"name": "toy", "seed": 1, "train": ["00000.png"], "test": ["00001.png"], "unused": []}
BROKEN = {
    "no json": ("{\n'", "line 2: no JSON"),
    "empty": ("", "empty file"),
    "a list": ("[]", "something is missing"),
    "no seed": (json.dumps({k: v for k, v in WHOLE.items() if k != "seed"}), "something is missing"),
    "no name": (json.dumps({**WHOLE, "name": None}), "something is missing"),
    "seed is text": (json.dumps({**WHOLE, "seed": "1"}), "another type"),
    "no part": (json.dumps({k: v for k, v in WHOLE.items() if k != "unused"}), "something is missing"),
    "numbers for names": (json.dumps({**WHOLE, "train": [0]}), "another type"),
    "empty part": (json.dumps({**WHOLE, "train": []}), "an empty part"),
    "an image in two parts": (json.dumps({**WHOLE, "unused": ["00000.png"]}), "comes twice"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files(tmp_path: Path, case: str) -> None:
    text, words = BROKEN[case]
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(DataError, match=f"split.json.*{words}"):
        Split.load(tmp_path / "split.json", make_faces([0, 0]))


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"split\.json: not found"):
        Split.load(tmp_path / "split.json", make_faces([0, 0]))


def test_a_failed_save_leaves_nothing(tmp_path: Path) -> None:
    split = Split(np.array([0]), np.array([1]), "odd", 0, NAMES)
    (tmp_path / "split.json").mkdir()
    with pytest.raises(OSError):
        split.save(tmp_path / "split.json")
    assert [path.name for path in tmp_path.iterdir()] == ["split.json"]

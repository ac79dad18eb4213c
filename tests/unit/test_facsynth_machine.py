"""The machine that faces are measured with: chunks, a limit to what it learns from, Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_utils.datasets import DataError, FaceDataset, folder
from fer_utils.datasets.streaming import stream_images
from fer_utils.facsynth import machine, report
from fer_utils.labels import BASIC
from fer_utils.splits import Split, kfold


def bars(each: int, split: str = "none", classes: tuple[str, ...] = BASIC, seed: int = 0) -> FaceDataset:
    """Noise with a bar; its place tells the class."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(classes)), each)
    images = rng.integers(0, 60, (len(labels), 100, 100), dtype=np.uint8)
    for image, k in zip(images, labels, strict=True):
        image[10 * k + 10 : 10 * k + 20, 20:80] = 220
    names = np.array([f"{split}{i}.png" for i in range(len(labels))])
    return FaceDataset(name="bars", images=images, labels=labels, classes=classes, names=names, split=np.full(len(labels), split))


def write(faces: FaceDataset, root: Path) -> Path:
    for image, name, label in zip(faces.images, faces.names, faces.labels, strict=True):
        path = root / faces.classes[label] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return root


# -- chunks ---------------------------------------------------------------------------------------------------------------


def test_images_come_in_chunks_and_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr("fer_utils.datasets.streaming._CHUNK", 4)
    monkeypatch.setattr("fer_utils.datasets.images._MANY", 1)
    monkeypatch.setenv("FER_CACHE", str(tmp_path / "cache"))
    faces = folder.load(write(bars(2), tmp_path / "faces"), mode="L", transform=lambda image: 1 / 0)
    wanted = np.array([9, 3, 4, 0, 13, 1])
    parts = list(stream_images(faces, wanted))
    assert [len(at) for at, _ in parts] == [4, 2] and np.array_equal(np.concatenate([at for at, _ in parts]), wanted)
    assert not (tmp_path / "cache").exists(), "nothing is kept decoded"
    assert np.array_equal(np.concatenate([images for _, images in parts]), faces.images[wanted])
    assert list(stream_images(faces, np.array([], dtype=np.int64))) == []


def test_large_images_come_in_small_chunks(monkeypatch):
    monkeypatch.setattr("fer_utils.datasets.streaming._BYTES", 25_000)
    assert [len(at) for at, _ in stream_images(bars(1))] == [2, 2, 2, 1]


def test_damage_ends_the_stream(tmp_path):
    root = write(bars(1), tmp_path / "faces")
    next(root.glob("fear/*.png")).write_bytes(b"")
    with pytest.raises(DataError, match=r"fear.none1\.png"):
        list(stream_images(folder.load(root, mode="L")))


@pytest.mark.parametrize("chunk", [3, 256])
def test_chunks_change_no_prediction(monkeypatch, chunk):
    monkeypatch.setattr("fer_utils.datasets.streaming._CHUNK", chunk)
    faces = bars(6)
    names = np.array(faces.classes, dtype=object)[faces.labels]
    (first, *others) = kfold(faces, 3)
    assert (machine.predict_splits(faces, [first, *others], names) == names).all()
    alone = machine.predict_splits(faces, [first], names)
    expected = machine.svm_predictions(faces.images[first.train], names[first.train], faces.images[first.test])
    assert np.array_equal(alone[first.test], expected) and all(guess is None for guess in alone[first.train])


def test_of_many_faces_some_are_learned_from_and_all_are_tested(monkeypatch):
    monkeypatch.setattr(machine, "MOST", 20)
    fitted, seen = [], []

    class Counted(machine.LinearSVC):
        def fit(self, X, y):
            fitted.append(len(y))
            return super().fit(X, y)

    monkeypatch.setattr(machine, "LinearSVC", Counted)
    faces = bars(10)
    names = np.array(faces.classes, dtype=object)[faces.labels]
    guess = machine.predict_splits(faces, kfold(faces, 5), names, lambda at, images: seen.extend(at.tolist()))
    assert (guess == names).all() and len(fitted) == 5 and sum(fitted) == 4 * 25 and sorted(seen) == list(range(70))


def test_rare_classes_are_learned_whole():
    names = np.repeat(np.array(["often", "rare", "seldom"], dtype=object), [100, 3, 10])
    drawn = machine._draw_evenly(names, 33)
    counts = dict(zip(*np.unique(names[drawn], return_counts=True), strict=True))
    assert counts == {"often": 20, "rare": 3, "seldom": 10} and (np.diff(drawn) > 0).all()
    assert np.array_equal(machine._draw_evenly(names, 113), np.arange(113))


def test_a_failing_fit_fails():
    with pytest.raises(ZeroDivisionError):
        machine._run_apart(lambda: 1 / 0)
    assert machine._run_apart(threading.current_thread) is not threading.main_thread()


def test_ctrl_c_is_heard_while_a_library_computes(tmp_path):
    code = """
import ctypes, signal
from fer_utils.facsynth.machine import _run_apart
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits that it is ignored
sleep = ctypes.CDLL(None).sleep                  # C code that hears no signal meant for Python
_run_apart(lambda: (print("begun", flush=True), sleep(30)))
"""
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ.copy())
    assert child.stdout.readline() == b"begun\n"
    begun = time.monotonic()
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=20)
    assert time.monotonic() - begun < 10 and child.returncode != 0 and b"KeyboardInterrupt" in said


# -- what is said ---------------------------------------------------------------------------------------------------------


def test_given_parts_are_used():
    train, test, val = bars(4, "train"), bars(3, "test", seed=1), bars(1, "val", seed=2)
    turned = test.replace(labels=(test.labels + 1) % 7)  # what is shown as one class in train is another in test
    (line,), doubts = report.examine_faces(train.join(turned).join(val), "mine")
    assert line.faces == "mine, test" and line.count == 21 and line.value == 0
    assert doubts[0] == "Parts: learned from train (28 faces), tested on test (21); not used: val (7)."
    assert "nothing says who is shown" in doubts[1] and "train and test" in doubts[1]
    (line,), doubts = report.examine_faces(train.join(val), "mine")
    assert line.faces == "mine, val" and line.value == 1 and "not used" not in doubts[0]


def test_parts_that_cannot_be_used_are_named():
    (line,), doubts = report.examine_faces(bars(5, "train"), "mine")
    assert line.faces == "mine, 5 folds" and line.count == 35
    assert doubts[0].startswith("Parts: only train (35), so 5 folds")


def test_a_class_that_train_lacks_is_named():
    train = bars(3, "train")
    faces = train.subset(train.labels != 1).join(bars(2, "test", seed=1))
    (line,), doubts = report.examine_faces(faces, "mine")
    assert line.recalls["fear"] == 0 and "The train part has no fear: the test part's cannot be recognised." in doubts
    with pytest.raises(ValueError, match="train part shows only anger"):
        report.examine_faces(train.subset(train.labels == 5).join(bars(2, "test")), "mine")


def test_classes_left_out_are_named():
    faces = bars(5, classes=(*BASIC, "contempt"))
    (line,), doubts = report.examine_faces(faces, "mine")
    assert line.count == 35 and doubts[0].startswith("Left out of 40 faces: contempt (5).")
    with pytest.raises(ValueError, match="no face of surprise"):
        report.examine_faces(faces.subset(faces.labels == 7), "mine")
    assert not any("Left out" in doubt for doubt in report.examine_faces(bars(5), "mine")[1])


def test_people_are_kept_apart_where_they_are_known():
    faces = bars(6)
    people = np.arange(len(faces)) % 6
    doubts = report.examine_faces(faces.replace(identities=people), "mine")[1]
    assert "People: 6 are told apart, and nobody is in two folds." in doubts
    assert any("nothing says who is shown" in doubt and "two folds" in doubt for doubt in report.examine_faces(faces, "mine")[1])
    parts = faces.replace(identities=people, split=np.array(["train", "train", "test"] * 14))
    doubts = report.examine_faces(parts, "mine")[1]
    assert not any("nothing says" in doubt or "people are in more" in doubt for doubt in doubts)
    parts = parts.replace(identities=np.where(people == 2, 0, people))
    assert "1 of 5 people are in more than one of the parts." in report.examine_faces(parts, "mine")[1]


def test_copies_across_folds_are_counted():
    coarse = np.random.default_rng(0).integers(0, 256, (35, 5, 5), dtype=np.uint8)
    faces = bars(5).replace(images=coarse.repeat(20, axis=1).repeat(20, axis=2))
    twice = faces.join(faces.replace(names=np.char.add("again", faces.names)))
    doubts = report.examine_faces(twice, "mine")[1]
    told = next(doubt for doubt in doubts if doubt.startswith("Duplicates"))
    assert "70 of 70 pictures" in told and "across folds" in told
    splits = kfold(twice, 5)
    fold = np.empty(70)
    for number, split in enumerate(splits):
        fold[split.test] = number
    assert f"{2 * (fold[:35] != fold[35:]).sum()} of them lie across folds" in told


def test_a_limit_to_what_is_learned_is_said(monkeypatch):
    monkeypatch.setattr(report, "MOST", 20)
    doubts = report.examine_faces(bars(5), "mine")[1]
    assert "The machine learns from 20 of 28 training faces, all of the rarer classes first." in doubts


def test_the_network_sees_what_the_machine_is_tested_on(monkeypatch):
    class Network:
        def __init__(self, weights, crop):
            pass

        def predict(self, images):
            return np.full(len(images), "fear", dtype=object)

    monkeypatch.setattr(report, "_Network", Network)
    _, line = report.examine_faces(bars(4, "train").join(bars(2, "test", seed=1)), "mine", Path("w"))[0]
    assert line.faces == "mine, test" and line.count == 14 and line.value == pytest.approx(1 / 7)
    assert report.examine_faces(bars(5), "mine", Path("w"))[0][1].faces == "mine"


def test_a_long_name_does_not_run_into_its_number():
    (line,) = report.measure_faces(bars(5), "a folder with quite a long name")
    assert "name, 5 folds    35  " in report.format_report([line])


NAMES = {
    ("S010_004_00000017.png", "S010_004_00000018.png", "S011_001_00000009.png"): [0, 0, 1],
    ("anger/s010_004_00000017.jpg", "fear/S010_001_00000003_flipped.png", "fear/S009_001_00000003.png"): [1, 1, 0],
    ("KA.AN1.39.tiff", "KL.AN1.167.png", "KA.FE2.46.tiff"): [0, 1, 0],
    ("S010_004_00000017.png", "me.png", "S011_001_00000009.png"): None,
    ("S1.png", "S2.png", "S3.png"): None,
}


@pytest.mark.parametrize("names", NAMES)
def test_people_are_read_off_names(names):
    faces = bars(1).subset([0, 1, 2]).replace(names=np.array(names))
    found, expected = folder.name_people(faces).identities, NAMES[names]
    assert found is None if expected is None else found.tolist() == expected
    known = faces.replace(identities=np.array([5, 6, 7]))
    assert folder.name_people(known) is known


def test_people_who_are_too_few_are_not_kept_apart():
    faces = bars(6)
    everybody = np.arange(len(faces))
    assert report.has_people_to_part(faces.replace(identities=everybody))
    assert not report.has_people_to_part(faces.replace(identities=everybody % 4))
    assert report.has_people_to_part(faces.replace(identities=everybody % 4, split=np.full(len(faces), "train")))


def test_splits_need_not_test_every_face():
    faces = bars(4)
    split = Split(np.arange(0, 28, 2), np.array([1, 9, 17]), "some", None, faces.names)
    names = np.array(faces.classes, dtype=object)[faces.labels]
    guess = machine.predict_splits(faces, [split], names)
    assert np.array_equal(np.flatnonzero([g is not None for g in guess]), [1, 9, 17])

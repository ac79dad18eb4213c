"""CK+'s layout: zipped and unzipped, whole and broken."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from conftest import SEQUENCES, edit, image_bytes, lab_marks, pack, put, tamper, write_ckplus
from PIL import Image
from test_folder import DAMAGES, damage

from fer_utils.datasets import DataError, ckplus
from fer_utils.labels import BASIC, CKPLUS
from fer_utils.preprocess import TEMPLATE_5


def test_last_three_frames(ckplus_tree: Path) -> None:
    faces = ckplus.load(ckplus_tree)
    want = [f"{s}_{t}_{n:08d}.png" for (s, t), (*_, apex) in SEQUENCES.items() for n in range(apex - 2, apex + 1)]
    assert faces.names.tolist() == want
    assert faces.images.shape == (9, 100, 100) and faces.landmarks_dense.shape == (9, 68, 2)
    assert [faces.classes[i] for i in faces.labels[::3]] == [emotion for emotion, *_ in SEQUENCES.values()]
    assert faces.identities.tolist() == [5] * 3 + [10] * 6
    assert set(faces.split) == {"none"} and faces.classes == CKPLUS.classes[1:]
    np.testing.assert_allclose(faces.landmarks.mean(0), TEMPLATE_5, atol=1.5)


@pytest.mark.parametrize(("frames", "count"), [("apex1", 3), ("apex3", 9), ("onset", 3), ("all", 11 + 14 + 5 - 3)])
def test_frames(ckplus_tree: Path, frames: str, count: int) -> None:
    faces = ckplus.load(ckplus_tree, frames=frames)
    assert len(faces) == count
    assert ("neutral" in faces.classes) == (frames == "onset")
    if frames == "onset":
        assert {faces.classes[i] for i in faces.labels} == {"neutral"}
        assert all(name.endswith("_00000001.png") for name in faces.names)


def test_classes(ckplus_tree: Path) -> None:
    assert ckplus.load(ckplus_tree, frames="apex1", classes=6).class_counts()["disgust"] == 1
    assert "contempt" not in ckplus.load(ckplus_tree, classes=6).classes
    eight = ckplus.load(ckplus_tree, classes=8)
    assert eight.classes == CKPLUS.classes and eight.class_counts()["neutral"] == 3 and len(eight) == 12
    ours = ckplus.load(ckplus_tree, classes=BASIC)
    assert ours.classes == BASIC and len(ours) == 8 and ours.class_counts()["neutral"] == 2  # no first frame of a contempt sequence
    assert len(ckplus.load(ckplus_tree, frames="onset", classes=6)) == 2
    assert len(ckplus.load(ckplus_tree, frames="onset", classes=["neutral"])) == 3
    assert len(ckplus.load(ckplus_tree, frames="all", classes=8)) == 30


def test_raw_frames(ckplus_tree: Path) -> None:
    faces = ckplus.load(ckplus_tree, frames="apex1", align=None)
    assert faces.images.shape == (3, 128, 128)
    np.testing.assert_allclose(faces.landmarks_dense[0], lab_marks(0, 11), atol=1e-3)
    tamper(ckplus_tree, "cohn-kanade-images", "S010/002/S010_002_00000014.png", lambda _: image_bytes(0, (128, 130), "L", "PNG"))
    with pytest.raises(DataError, match=r"S010_002_00000014\.png: 128x130 pixels; expected 128x128 pixels.*must be aligned"):
        _ = ckplus.load(ckplus_tree, frames="apex1", align=None).images
    assert pickle.loads(pickle.dumps(ckplus.load(ckplus_tree, frames="apex1", align=48))).images.shape == (3, 48, 48)


def test_large_colour_frames_are_aligned_alike(tmp_path: Path) -> None:
    """A face five times as large, in colour, gives nearly the same aligned picture."""
    write_ckplus(tmp_path)
    small = ckplus.load(tmp_path, frames="apex1")
    before = small.images
    stem = "S005/001/S005_001_00000011"
    rows = "\n".join(f"{x:.7e} {y:.7e}" for x, y in (lab_marks(0, 11) + 0.5) * 5 - 0.5)
    tamper(tmp_path, "Landmarks", f"{stem}_landmarks.txt", lambda _: rows.encode())
    tamper(tmp_path, "cohn-kanade-images", f"{stem}.png", lambda _: _grown(tmp_path))
    large = ckplus.load(tmp_path, frames="apex1")
    np.testing.assert_allclose(large.landmarks_dense[0], small.landmarks_dense[0], atol=0.7)
    assert np.abs(large.images[0].astype(int) - before[0])[20:80, 20:80].mean() < 3


def _grown(root: Path) -> bytes:
    small = Image.open(io.BytesIO(image_bytes(11, (128, 128), "L", "PNG")))
    buffer = io.BytesIO()
    small.convert("RGB").resize((640, 640), Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()


def test_facs(ckplus_tree: Path) -> None:
    truth = ckplus.load(ckplus_tree).truth
    assert truth["facs_coded"].tolist() == [False, False, True] * 3
    coded = truth[truth["facs_coded"]]
    assert coded["au_4"].tolist() == pytest.approx([0.6] * 3)
    assert np.isnan(coded["au_10"].iloc[0]) and coded["au_10"].iloc[1] == 0
    assert truth.loc[~truth["facs_coded"], "au_4"].isna().all()
    assert ckplus.load(ckplus_tree, facs=False).truth is None


def test_owners_archive_names(tmp_path: Path) -> None:
    write_ckplus(tmp_path, zipped=True)
    for old, new in (("cohn-kanade-images", "extended-cohn-kanade-images"), ("Emotion", "Emotion_labels"), ("FACS", "FACS_labels")):
        (tmp_path / f"{old}.zip").rename(tmp_path / f"{new}.zip")
    faces = ckplus.load(tmp_path)
    assert len(faces) == 9 and "au_4" in faces.truth


@pytest.mark.parametrize("options", [{"frames": "apex2"}, {"classes": 5}, {"classes": ["joy"]}, {"classes": "anger"}, {"classes": []},
                                     {"frames": "onset", "classes": ["anger"]}])
def test_bad_arguments(tmp_path: Path, options: dict) -> None:
    with pytest.raises(ValueError, match=r"frames|classes"):
        ckplus.load(tmp_path, **options)


def test_default_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"ckplus: no such folder.*cohn-kanade-images.*ask its owners"):
        ckplus.load()


APEX = "S010/002/S010_002_00000014"
IMAGE, MARKS = ("cohn-kanade-images", f"{APEX}.png"), ("Landmarks", f"{APEX}_landmarks.txt")
EMOTION, FACS = ("Emotion", f"{APEX}_emotion.txt"), ("FACS", f"{APEX}_facs.txt")
BAD = {
    "image absent": (IMAGE, lambda _: None, "not found; expected an image, because"),
    "image empty": (IMAGE, lambda _: b"", "empty file"),
    "image cut": (IMAGE, lambda data: data[: len(data) // 2], "cannot be decoded"),
    "image is text": (IMAGE, lambda _: b"words", "cannot be decoded"),
    "landmarks absent": (MARKS, lambda _: None, "not found"),
    "landmarks short": (MARKS, lambda data: data[: data.rindex(b"\n", 0, -1)], "67 lines"),
    "landmarks wide": (MARKS, lambda data: b"1 " + data, "line 1: 3 columns"),
    "landmarks not numbers": (MARKS, lambda data: b"x" + data.lstrip(), "line 1: not a number"),
    "landmarks coincide": (MARKS, lambda _: b"3 3\n" * 68, "points without extent"),
    "label too large": (EMOTION, lambda _: b"8.0\n", "line 1: label 8"),
    "label fraction": (EMOTION, lambda _: b"1.5\n", "line 1: label 1.5"),
    "label twice": (EMOTION, lambda _: b"1\n1\n", "2 lines"),
    "label empty": (EMOTION, lambda _: b"", "empty file"),
    "label word": (EMOTION, lambda _: b"joy", "line 1: not a number"),
    "second label": (("Emotion", "S010/002/S010_002_00000013_emotion.txt"), lambda _: b"7\n", ""),
    "stray file": (("Emotion", "S010/002/notes.txt"), lambda _: b"7\n", "unexpected file"),
    "intensity too large": (FACS, lambda _: b"4 6\n", "unit 4 of intensity 6"),
    "unit fraction": (FACS, lambda _: b"4.5 1\n", "unit 4.5"),
    "facs column": (FACS, lambda _: b"4\n", "line 1: 1 columns"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(ckplus_tree: Path, case: str) -> None:
    (folder, name), change, words = BAD[case]
    tamper(ckplus_tree, folder, name, change)
    place = r"S010_002_0000001[34]_emotion\.txt" if case == "second label" else Path(name).name
    with pytest.raises(DataError, match=f"{place}.*{words}"):
        _ = ckplus.load(ckplus_tree).images


def test_short_sequence(ckplus_tree: Path) -> None:
    for number in (1, 2):
        tamper(ckplus_tree, "cohn-kanade-images", f"S010/004/S010_004_{number:08d}.png", lambda _: None)
    with pytest.raises(DataError, match=r"S010_004_00000005\.png: the last of a sequence of 3 frames"):
        ckplus.load(ckplus_tree)


def test_no_sequence_of_the_classes(ckplus_tree: Path) -> None:
    with pytest.raises(DataError, match="no sequence of fear"):
        ckplus.load(ckplus_tree, classes=["fear"])


@pytest.mark.parametrize("case", [case for case in DAMAGES if case != "path not UTF-8"])
def test_bad_input_of_any_layout(tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_ckplus(tmp_path / "ckplus")
    folder = tmp_path / "ckplus" / "cohn-kanade-images"
    words = damage(case, folder / "S005/001/S005_001_00000011.png", folder, monkeypatch)
    with pytest.raises(DataError, match=words):
        _ = ckplus.load(tmp_path / "ckplus").images


# -- copies ---------------------------------------------------------------------------------------------------------------

WORDS = ("anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise")


def write_cut(root: Path, inner: str = "CK+48") -> Path:
    """Three frames of 48x48 of a sequence of each class, each of another person."""
    for k, word in enumerate(WORDS):
        for frame in (15, 16, 17):
            put(root, f"{inner}/{word}/S{k + 1:03d}_004_{frame:08d}.png", image_bytes(3 * k + frame, (48, 48), "L", "PNG"))
    return root


@pytest.mark.parametrize("inner", ["CK+48", ".", "archive/CK+48"])
@pytest.mark.parametrize("packed", [False, True])
def test_cut_out_faces(tmp_path: Path, inner: str, packed: bool) -> None:
    root = write_cut(tmp_path / "ckplus", inner)
    if packed:
        pack(root)
    faces = ckplus.load(root, align=None)
    assert faces.images.shape == (21, 48, 48) and faces.classes == CKPLUS.classes[1:]
    assert faces.labels.tolist() == [i for i in range(7) for _ in range(3)] and (faces.identities == faces.labels + 1).all()
    assert faces.landmarks is None and faces.truth is None
    assert faces.name == "CK+ (Kaggle's CK+48: cut-out faces; without Landmarks no landmarks; without FACS no action units)"
    large = ckplus.load(root, frames="apex1", classes=6)
    assert large.images.shape == (6, 100, 100) and all(name.endswith("17.png") for name in large.names)


@pytest.mark.parametrize("options", [{"frames": "onset"}, {"frames": "all"}, {"classes": 8}, {"classes": BASIC}])
def test_cut_out_faces_have_no_first_frames(tmp_path: Path, options: dict) -> None:
    with pytest.raises(DataError, match="last three frames of each sequence; expected whole sequences, in the owners' cohn-kanade-images"):
        ckplus.load(write_cut(tmp_path), **options)


CUT = {
    "class unknown": ("CK+48/bored/S009_004_00000017.png", "unexpected file"),
    "name of another kind": ("CK+48/anger/17.png", "unexpected file"),
    "image twice": ("CK+48/fear/S001_004_00000017.png", "S001_004_00000017.png: comes twice, first as CK.48/anger"),
    "image truncated": ("CK+48/anger/S001_004_00000017.png", "cannot be decoded"),
}


@pytest.mark.parametrize("case", CUT)
def test_bad_input_of_cut_out_faces(tmp_path: Path, case: str) -> None:
    name, words = CUT[case]
    put(write_cut(tmp_path), name, image_bytes(0, (48, 48), "L", "PNG")[:80])
    with pytest.raises(DataError, match=words):
        _ = ckplus.load(tmp_path).images


def write_extended(root: Path) -> Path:
    rows = [f"{code},{' '.join([str(10 * code)] * 2304)},{usage}" for code in range(8) for usage in ("Training", "PrivateTest")]
    put(root, "ckextended.csv", "\n".join(["emotion,pixels,Usage", *rows, ""]))
    return root


def test_extended_table(tmp_path: Path) -> None:
    faces = ckplus.load(write_extended(tmp_path))
    shown = [faces.classes[label] for label in faces.labels[::2]]
    assert shown == ["anger", "disgust", "fear", "happiness", "sadness", "surprise", "contempt"]  # neutral, code 6, is not asked for
    assert faces.images[:, 0, 0].tolist() == [10 * code for code in (0, 1, 2, 3, 4, 5, 7) for _ in range(2)]
    assert faces.images.shape == (14, 100, 100) and set(faces.split) == {"none"} and faces.identities is None
    assert "ckextended.csv: cut-out faces, a frame of each sequence; without cohn-kanade-images no people" in faces.name
    assert ckplus.load(tmp_path, align=None).images.shape[1:] == (48, 48)
    assert ckplus.load(tmp_path, classes=8).class_counts()["neutral"] == 2
    assert ckplus.load(tmp_path, frames="onset").class_counts()["neutral"] == len(ckplus.load(tmp_path, frames="onset")) == 2
    with pytest.raises(DataError, match=r"ckextended\.csv: a copy of one frame .* in the owners' cohn-kanade-images"):
        ckplus.load(tmp_path, frames="all")
    edit("ckextended.csv", "\n7,", "\n8,")(tmp_path)
    with pytest.raises(DataError, match=r"ckextended\.csv, line 16: emotion '8'; expected 0 to 7"):
        ckplus.load(tmp_path)


def test_without_landmarks(ckplus_tree: Path) -> None:
    place = ckplus_tree / "Landmarks"
    (place if place.exists() else place.with_suffix(".zip")).rename(ckplus_tree / "away")
    with pytest.raises(DataError, match=r"Landmarks: not found; expected the owners' landmarks, .* by which faces are aligned"):
        ckplus.load(ckplus_tree)
    raw = ckplus.load(ckplus_tree, align=None)
    assert raw.images.shape == (9, 128, 128) and raw.landmarks is None and raw.landmarks_dense is None
    assert raw.name == "CK+ (without Landmarks no landmarks or alignment)" and "au_4" in raw.truth
    tamper(ckplus_tree, "cohn-kanade-images", "S010/002/S010_002_00000014.png", lambda _: image_bytes(0, (128, 160), "L", "PNG"))
    assert pickle.loads(pickle.dumps(ckplus.load(ckplus_tree, need_landmarks=False))).images.shape == (9, 100, 100)


def test_a_copy_that_no_loader_knows_is_described(tmp_path: Path) -> None:
    put(tmp_path, "faces/a.h5", "x")
    with pytest.raises(DataError, match=r"an unknown layout, with faces/; expected .*CK\+48.*ckextended\.csv"):
        ckplus.load(tmp_path)

"""MMI's layout: frames as images and as videos, whole and broken."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import image_bytes, pack, put, tamper
from test_folder import DAMAGES, damage

from fer_utils.datasets import DataError, mmi
from fer_utils.labels import MMI

SESSIONS = {"7": ("S001-007", 6, 9, "0"), "12": ("S001-012", 1, 6, "2"), "130": ("S021-003", 4, 4, "0")}  # stem, code, frames, view


def tags(code: object) -> str:
    metatags = f'<Metatag Name="Emotion" Value="{code}"/>\n<Metatag Name="Kind" Value="x"/>'
    return f'<?xml version="1.0"?>\n<ActionUnits>\n{metatags}\n</ActionUnits>\n'


def write_session(root: Path, session: str, stem: str, code: object, view: str) -> Path:
    """The XML files of one session."""
    put(root, f"Sessions/{session}/{stem}.xml", tags(code))
    put(root, f"Sessions/{session}/{stem}-oao_aucs.xml", '<ActionUnits><ActionUnit Number="12"/></ActionUnits>')
    track = f'<track view="{view}" filename="{stem}.avi"/>'
    put(root, f"Sessions/{session}/session.xml", f'<session><subject id="{int(stem[1:4])}"/>{track}</session>')
    return root / "Sessions" / session


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "mmi"
    for number, (session, (stem, code, count, view)) in enumerate(SESSIONS.items()):
        write_session(root, session, stem, code, view)
        for frame in range(count):
            put(root, f"Sessions/{session}/{stem}_{frame:04d}.png", image_bytes(number * 100 + frame, (40, 30), kind="PNG"))
    still = write_session(root, "500", "S030-001", 2, "0")
    put(still, "S030-001.jpg", image_bytes(1))
    put(write_session(root, "501", "S030-002", 8, "0"), "S030-002.avi", "another display, never opened")
    put(root, "Sessions/502/S031-001-oao_aucs.xml", "<ActionUnits/>")
    return root


def test_middle_frames(tree: Path, zipped: bool) -> None:
    if zipped:
        pack(tree / "Sessions")
    faces = mmi.load(tree)
    assert faces.name == "MMI" and faces.classes == MMI.classes
    assert faces.truth["frame"].tolist() == [3, 4, 5, 2, 3, 4, 1, 2, 3]
    assert faces.truth["sequence"].tolist()[::3] == ["7", "12", "130"] and faces.truth["view"].tolist()[::3] == [0, 2, 0]
    assert [faces.classes[i] for i in faces.labels[::3]] == ["surprise", "anger", "happiness"]
    assert faces.identities.tolist() == [1] * 6 + [21] * 3 and set(faces.split) == {"none"}
    assert faces.names[0] == "7_S001-007_0003.png" and len(set(faces.names)) == 9
    assert faces.images.shape == (9, 30, 40, 3) and mmi.load(tree, size=20, mode="L").images.shape == (9, 20, 20)
    assert len(faces.subset(faces.truth["view"] == 0)) == 6


def test_frames_and_classes(tree: Path) -> None:
    assert mmi.load(tree, frames="apex1").truth["frame"].tolist() == [4, 3, 2]
    onset = mmi.load(tree, frames="onset")
    assert onset.truth["frame"].tolist() == [0, 0, 0] and {onset.classes[i] for i in onset.labels} == {"neutral"}
    seven = mmi.load(tree, frames="apex1", classes=7)
    assert seven.classes == (*MMI.classes, "neutral") and seven.truth["frame"].tolist() == [0, 4, 0, 3, 0, 2]
    assert mmi.load(tree, classes=["neutral", "anger"]).labels.tolist() == [0, 1, 1, 1]
    with pytest.raises(DataError, match="Sessions: no sequence of fear"):
        mmi.load(tree, classes=["fear"])


def test_subject_of_a_file_name(tree: Path) -> None:
    tamper(tree, "Sessions", "130/session.xml", lambda _: None)
    faces = mmi.load(tree)
    assert set(faces.identities[6:]) == {21} and set(faces.truth["view"][6:]) == {-1}


def test_tags_in_any_case(tree: Path) -> None:
    tamper(tree, "Sessions", "7/S001-007.xml", lambda data: data.replace(b"Metatag", b"METATAG").replace(b"Name=", b"name="))
    tamper(tree, "Sessions", "7/session.xml", lambda _: b'<Session xmlns="urn:x"><Subject ID="S044"/></Session>')
    assert mmi.load(tree, frames="apex1").identities.tolist() == [44, 1, 21]


@pytest.mark.parametrize("options", [{"frames": "all"}, {"classes": 8}, {"frames": "onset", "classes": ["fear"]}, {"size": 0},
                                     {"mode": "BGR"}])
def test_bad_arguments(tree: Path, options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        mmi.load(tree, **options)


def write_video(path: Path, count: int) -> Path:
    """A video whose frames are ever brighter."""
    cv2 = pytest.importorskip("cv2")
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
    for frame in range(count):
        writer.write(np.full((48, 64, 3), (0, 0, 20 * frame), np.uint8))  # blue, green, red
    writer.release()
    return path


def test_videos(tmp_path: Path, zipped: bool) -> None:
    write_video(write_session(tmp_path, "3", "S002-003", 5, "0") / "S002-003.avi", 9)
    if zipped:
        pack(tmp_path / "Sessions")
    faces = mmi.load(tmp_path)
    assert faces.names.tolist() == [f"3_S002-003.avi#{n}" for n in (3, 4, 5)] and faces.identities.tolist() == [2] * 3
    assert faces.images.shape == (3, 48, 64, 3)
    red, green, blue = faces.images.mean((1, 2)).T
    np.testing.assert_allclose(red, [60, 80, 100], atol=4)
    assert max(green.max(), blue.max()) < 6
    assert mmi.load(tmp_path, frames="onset").images.max() < 6


def test_without_opencv(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert len(mmi.load(tree).images) == 9  # images need no OpenCV
    put(write_session(tree, "600", "S040-001", 2, "0"), "S040-001.avi", "any")
    with pytest.raises(ImportError, match=r"S040-001\.avi: to read a video, install OpenCV: pip install opencv-python-headless"):
        mmi.load(tree)


@pytest.mark.parametrize("case", ["cut", "empty", "text", "short", "frame lost"])
def test_bad_input_in_a_video(tmp_path: Path, case: str) -> None:
    path = write_video(write_session(tmp_path, "3", "S002-003", 5, "0") / "S002-003.avi", 2 if case == "short" else 9)
    whole = path.read_bytes()
    start = whole.index(b"movi")
    changed = {"cut": whole[: start // 2], "empty": b"", "text": b"words", "short": whole, "frame lost": _lose_frames(whole)}[case]
    path.write_bytes(changed)
    words = {"short": r"#1: the last of a sequence of 2 frames", "frame lost": r"#\d: this frame cannot be decoded"}
    with pytest.raises(DataError, match=rf"S002-003\.avi{words.get(case, ': cannot be opened as a video')}"):
        _ = mmi.load(tmp_path).images


def _lose_frames(video: bytes) -> bytes:
    """Everything after the second frame, but not what the header says of the length."""
    third = [i for i in range(len(video)) if video[i : i + 4] == b"00dc"][2]
    return video[:third]


EMOTION, SESSION = "7/S001-007.xml", "7/session.xml"
FILES = {
    "unknown label": (EMOTION, tags("joy"), r"S001-007\.xml: emotion 'joy'; expected a code from 1 to 6"),
    "label zero": (EMOTION, tags(0), r"S001-007\.xml: emotion '0'"),
    "label fraction": (EMOTION, tags(1.5), r"S001-007\.xml: emotion '1\.5'"),
    "label missing": (EMOTION, tags(""), r"S001-007\.xml: emotion ''"),
    "two labels": ("7/z.xml", tags(1), r"z\.xml: emotion '1'; expected emotion '6', as 7/S001-007\.xml says"),
    "xml cut": (EMOTION, tags(6)[:60], r"S001-007\.xml, line 3: cannot be read as XML"),
    "xml empty": (EMOTION, "", r"S001-007\.xml: empty file"),
    "xml in an unknown encoding": (EMOTION, '<?xml version="1.0" encoding="nonsense"?><a/>', r"S001-007\.xml.*cannot be read as XML"),
    "subject unknown": (SESSION, '<session><subject id="Eve"/></session>', r"session\.xml: subject 'Eve'; expected a number"),
    "view unknown": (SESSION, '<session><subject id="1"/><track view="front"/></session>', r"session\.xml: view 'front'"),
    "unknown name": ("7/face.png", image_bytes(0), r"7/face\.png: an image without a number"),
    "duplicate id": ("7/S001-007_3.png", image_bytes(0), r"S001-007_3\.png: frame 3 comes twice"),
    "image in no session": ("S001-007_0003.png", image_bytes(0), r"Sessions/S001-007_0003\.png: an image or a video in no session"),
    "another size": ("7/S001-007_0004.png", image_bytes(0), r"S001-007_0004\.png: 100x100 pixels; expected 40x30 pixels.*pass size"),
    "no frames": ("600/S040-001.xml", tags(2), r"Sessions/600: no images of frames, and 0 videos"),
    "two videos": ("501/S030-002.xml", tags(2), r"Sessions/501: no images of frames, and 2 videos"),
}


@pytest.mark.parametrize("case", ["missing folder", "no sessions", "short sequence", *DAMAGES, *FILES])
def test_bad_input(tree: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if case == "missing folder":
        tree.rename(tree.with_name("away"))
        words = "mmi: no such folder.*ask its owners"
    elif case == "no sessions":
        (tree / "Sessions").rename(tree / "away")
        words = r"Sessions: not found, neither as a folder nor as a \.zip"
    elif case == "short sequence":
        (tree / "Sessions" / "130" / "S021-003_0000.png").unlink()
        words = r"S021-003_0003\.png: the last of a sequence of 3 frames"
    elif case in FILES:
        if case == "two videos":
            put(tree, "Sessions/501/S030-003.avi", "words")
        name, data, words = FILES[case]
        put(tree / "Sessions", name, data)
    else:
        words = damage(case, tree / "Sessions" / "7" / "S001-007_0004.png", tree / "Sessions", monkeypatch)
    with pytest.raises(DataError, match=words):
        _ = mmi.load(tree).images

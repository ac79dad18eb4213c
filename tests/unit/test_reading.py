"""Reading photographs. The only people here are rendered."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import image_bytes, pack, put
from PIL import Image
from typer.testing import CliRunner

from fer_utils import reading
from fer_utils.cli import app
from fer_utils.datasets import facsynth
from fer_utils.datasets.base import FaceDataset
from fer_utils.errors import DataError
from fer_utils.labels import BASIC
from fer_utils.preprocess import TEMPLATE_5, align_face
from fer_utils.reading import (
    FoundFace,
    PhotoReader,
    ReadPhoto,
    crop_face,
    find_faces,
    load_calibration,
    methods,
    photographs,
)
from fer_utils.reading.calibrate import expected_calibration_error, find_temperature
from fer_utils.reading.methods import METHODS, average, find_members, load_readers
from fer_utils.reading.page import render_page
from fer_utils.reading.reader import NEIGHBOUR_METHOD

pytestmark = pytest.mark.usefixtures("one_thread")
PAGE_NAME = "page.html"


def run(*args: object):
    return CliRunner().invoke(app, ["read", *map(str, args)])


def need_detector() -> None:
    for module in ("mtcnn", "lz4"):
        if find_spec(module) is None:
            pytest.skip(f"needs the extra 'detect': no {module}")


@pytest.fixture(scope="module")
def renders() -> np.ndarray:
    """Unaligned pictures of rendered people, uint8 ``[40, 128, 128, 3]``."""
    return facsynth.load("basic", aligned=False).images


@pytest.fixture(scope="module")
def known() -> FaceDataset:
    """A few of the rendered training faces: all 6,136 would take their time."""
    return facsynth.load("basic", split="train").subset(np.arange(60))


@pytest.fixture(scope="module")
def reader(known: FaceDataset) -> PhotoReader:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(facsynth, "load", lambda subset, split: known)
        return PhotoReader()


def placed(left: float, top: float, side: float) -> FoundFace:
    """A face that stands upright in a picture."""
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * side + (left, top)
    return FoundFace((TEMPLATE_5 * side / 100 + (left, top)).astype(np.float32), corners, 0.99)


# -- finding -------------------------------------------------------------------------------------------------


def test_several_faces_tiny_and_turned_are_found(renders: np.ndarray) -> None:
    need_detector()
    scene = Image.new("RGB", (640, 400), (118, 128, 138))
    for number, side, turn, place in (
        (0, 150, 0, (10, 10)),
        (4, 150, 90, (200, 10)),
        (28, 150, 180, (400, 10)),
        (16, 150, -35, (10, 190)),
        (22, 28, 0, (420, 280)),
    ):
        own = Image.fromarray(renders[number]).resize((side, side)).convert("RGBA")
        own = own.rotate(-turn, Image.Resampling.BICUBIC, expand=True)
        scene.paste(own, place, own)
    found = find_faces(np.asarray(scene))
    assert len(found) == 5
    # in reading order: three in the first row, two in the second
    assert [round(face.turn / 15) * 15 % 360 for face in found] == pytest.approx([0, 90, 180, 325, 0], abs=15)
    assert found[-1].side < 35
    # upright as cropped: the eyes of each lie on the template
    assert all(np.abs(np.linalg.norm(face.points[0] - face.points[1]) / face.side - 0.37) < 0.08 for face in found)


@pytest.mark.parametrize("angle", photographs._ANGLES)
def test_points_are_turned_back(angle: int) -> None:
    seen = np.zeros((60, 90), np.uint8)
    seen[10:13, 70:73] = 255  # about (71.5, 11.5)
    turned = Image.fromarray(seen).rotate(angle, Image.Resampling.BICUBIC, expand=True)
    pixels = np.asarray(turned).astype(float)
    rows, columns = np.indices(pixels.shape) + 0.5
    middle = np.array([[(columns * pixels).sum(), (rows * pixels).sum()]]) / pixels.sum()
    assert photographs._turn_back(middle, angle, turned.size, (90, 60))[0] == pytest.approx([71.5, 11.5], abs=0.6)


def test_a_face_is_cropped_where_it_lies(renders: np.ndarray) -> None:
    image, face = renders[0], placed(14, 10, 100)
    assert np.array_equal(crop_face(image, face), align_face(image, face.points, 100))
    # partly outside: as alignment has it, black there, without an error
    assert not crop_face(image, placed(-60, -60, 100))[:40, :40].any()


def test_a_large_face_is_averaged_not_sampled() -> None:
    stripes = np.zeros((900, 900, 3), np.uint8)
    stripes[:, ::2] = 255
    face = placed(50, 50, 800)
    assert (align_face(stripes, face.points, 100) == 255).all()  # alignment alone picks every eighth column
    assert crop_face(stripes, face).mean() == pytest.approx(127.5, abs=5)


# -- certainty -----------------------------------------------------------------------------------------------


def test_calibration_error_by_hand() -> None:
    # bins (0.6, 0.67] and (0.87, 0.93]: gaps of 0.63 - 0.5 and 0.9 - 1, two faces each
    certainty, right = np.array([0.63, 0.63, 0.9, 0.9]), np.array([True, False, True, True])
    assert expected_calibration_error(certainty, right) == pytest.approx((0.13 + 0.1) / 2)
    assert expected_calibration_error(np.ones(3), np.ones(3, bool)) == 0


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature_is_found(temperature: float) -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 3, (1, 4000, 7))
    labels = np.array([rng.choice(7, p=p) for p in average(scores, temperature)])
    assert find_temperature(scores, labels) == pytest.approx(temperature, rel=0.1)


def test_several_trainings_share_their_certainty() -> None:
    scores = np.log([[[0.9, 0.1]], [[0.2, 0.8]]])
    assert average(scores, 1.0) == pytest.approx(np.array([[0.55, 0.45]]))


def test_what_ships_was_calibrated_as_it_is() -> None:
    said: list[str] = []
    readers = load_readers(load_calibration()["methods"], said.append)  # compares all checksums
    assert tuple(readers) == METHODS and not said, "run 'python -m fer_utils.reading.calibrate' again"


def test_another_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = next(method for method in METHODS if not method.trainings)
    copy = put(tmp_path, methods.CLASSIFIER.name, methods.CLASSIFIER.read_bytes() + b" ")
    monkeypatch.setattr(methods, "METHODS", (own,))
    monkeypatch.setattr(methods, "CLASSIFIER", copy)
    with pytest.raises(DataError, match=re.escape(f"{copy}: is not the file that was calibrated")):
        load_readers(load_calibration()["methods"], print)


def test_rendered_people_nobody_has_seen(reader: PhotoReader) -> None:
    faces = facsynth.load("basic", split="test").subset(np.arange(0, 3000, 100))
    readings = reader.read(faces.images)
    words = np.array([[voice.word for voice in one.voices] for one in readings])
    right = words == np.array(BASIC)[faces.labels][:, None]
    by_method = dict(zip([voice.method.key for voice in readings[0].voices], right.mean(0), strict=True))
    assert all(share >= 0.7 for key, share in by_method.items() if "facsynth" in key), by_method
    for one in readings:
        for voice in one.voices:
            assert voice.certainty.sum() == pytest.approx(1) and 0 <= voice.votes <= max(voice.method.trainings, 1)
        assert sum(one.words.values()) == 7 and 0 < one.overlap <= 1


def test_a_training_face_is_its_own_neighbour(reader: PhotoReader, known: FaceDataset) -> None:
    (one,) = reader.read(known.images[7:8])
    assert len(one.neighbours) == 5 and np.array_equal(one.neighbours[0].image, known.images[7])
    assert one.neighbours[0].word == known.classes[known.labels[7]]
    distances = [near.distance for near in one.neighbours]
    assert distances[0] == pytest.approx(0, abs=1e-2) and distances == sorted(distances)


def test_a_wheel_alone_reads_with_the_face_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, renders: np.ndarray
) -> None:
    monkeypatch.setenv("FER_DATA", str(tmp_path))
    for module in ("fer_utils.experiments.ledger", "fer_utils.datasets.facsynth"):
        monkeypatch.setattr(f"{module}.package_data", lambda: tmp_path / "none")
    said: list[str] = []
    (one,) = PhotoReader(said.append).read(renders[:1, 14:114, 14:114])
    assert [voice.method.name for voice in one.voices] == ["face network"] and not one.neighbours
    assert len(said) == 2 and "6 of 7 methods" in said[0] and "rendered faces" in said[1]
    text = render_page([ReadPhoto("x", renders[0], [(placed(14, 14, 100), one)])], load_calibration(), said)
    assert "The only method says" in text and all(line.replace("'", "&#39;") in text for line in said)


# -- the page ------------------------------------------------------------------------------------------------


class Elements(HTMLParser):
    """What a page holds: addresses, text and whether tags close what they open."""

    OPEN = frozenset({"meta", "img", "br", "polygon"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.text: list[str] = []
        self.stack: list[str] = []
        self.tags: list[str] = []
        self.feed(page)
        assert not self.stack

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [
            value or "" for name, value in attrs if name in ("src", "href", "srcset", "poster", "action", "data")
        ]
        if tag not in self.OPEN:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if "body" in self.stack and data.strip():
            self.text.append(data.strip())


def test_the_page_is_whole_and_asks_for_nothing(reader: PhotoReader, renders: np.ndarray, tmp_path: Path) -> None:
    face = placed(14, 10, 100)
    photos = [ReadPhoto("<b>a&b.jpg", renders[0], [(face, one) for one in reader.read(renders[:2, 14:114, 14:114])])]
    photos.append(ReadPhoto("empty\udcff.jpg", renders[3]))
    photos.append(ReadPhoto("broken.jpg", renders[0, :0], problem="no picture"))
    out = tmp_path / PAGE_NAME
    reading.write_page(photos, reader.calibration, [], out)
    page = out.read_text(encoding="utf-8")
    elements = Elements(page)
    assert elements.text[0] == "What this page cannot say:", "the limits are the first line"
    assert elements.text[1].startswith("what anyone feels")
    assert elements.addresses and all(address.startswith("data:image/jpeg;base64,") for address in elements.addresses)
    assert not re.search(r"https?://|url\(|@import|<script|<link", page)
    assert "default-src 'none'" in page
    # two photographs, two faces, five neighbours each
    assert elements.tags.count("img") == 2 + 2 + 10 and elements.tags.count("article") == 2
    text = " ".join(elements.text)
    assert "<b>a&b.jpg" in text and "No face was found" in text and "Could not be read: no picture" in text
    assert "calibration error" in text and "3,068" in text
    assert [path.name for path in tmp_path.iterdir()] == [PAGE_NAME]


@pytest.mark.parametrize(("share", "text"), [(1.0, ">99"), (0.951, "95"), (0.004, "<1"), (0.0, "<1")])
def test_nothing_is_ever_certain(share: float, text: str) -> None:
    from fer_utils.reading.page import _format_share

    assert _format_share(share).rstrip("\u202f%") == text


def test_the_photograph_keeps_no_place_and_no_time(tmp_path: Path) -> None:
    notes = Image.Exif()
    notes[0x9003], notes[0x010F] = "2026:01:01 10:00:00", "SECRETCAMERA"
    path = tmp_path / "x.jpg"
    Image.new("RGB", (60, 60), (90, 90, 90)).save(path, exif=notes)
    assert b"SECRETCAMERA" in path.read_bytes()
    ((name, image),) = photographs.list_photographs(path)
    page = render_page([ReadPhoto(name, image)], load_calibration(), [])
    (held,) = [base64.b64decode(data) for data in re.findall(r"base64,([^\"]+)", page)]
    assert b"SECRETCAMERA" not in held and b"Exif" not in held


# -- the command ---------------------------------------------------------------------------------------------


def test_a_picture_without_faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_detector()
    monkeypatch.setattr(reading, "PhotoReader", None)  # nobody is asked about nothing
    put(tmp_path, "none.png", image_bytes(3, (160, 120), kind="PNG"))
    result = run(tmp_path / "none.png", "--out", tmp_path / PAGE_NAME)
    assert result.exit_code == 0 and "0 faces in 1 photograph" in result.output
    assert "No face was found" in (tmp_path / PAGE_NAME).read_text(encoding="utf-8")


@pytest.fixture
def nothing_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "find_faces", lambda image: [])


@pytest.mark.usefixtures("nothing_found")
@pytest.mark.parametrize("zipped", [False, True], ids=["folder", "zip"])
def test_a_folder_is_read_whole_though_a_picture_is_broken(tmp_path: Path, zipped: bool) -> None:
    folder = tmp_path / "album"
    for name, content in (
        ("b.jpg", image_bytes(1)),
        ("sub/a.png", image_bytes(2, kind="PNG")),
        ("c.jpg", b"no picture"),
        ("d.txt", b""),
    ):
        put(folder, name, content)
    result = run(pack(folder) if zipped else folder, "--out", tmp_path / PAGE_NAME)
    assert result.exit_code == 0 and "0 faces in 3 photographs" in result.output and "c.jpg" in result.output
    text = " ".join(Elements((tmp_path / PAGE_NAME).read_text(encoding="utf-8")).text)
    assert all(name in text for name in ("b.jpg", "sub/a.png", "c.jpg")) and "Could not be read" in text


@pytest.mark.usefixtures("nothing_found")
@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda root: root / "none.jpg", "none.jpg: not found"),
        (lambda root: put(root, "x.jpg", b"<html>"), "x.jpg: "),
        (lambda root: put(root, "all/x.jpg", b"").parent, "none of the pictures in it can be read"),
        (lambda root: put(root, "text/x.txt", b"").parent, "no images"),
    ],
    ids=["missing", "no picture", "only broken ones", "folder without pictures"],
)
def test_nothing_to_read_is_one_line(tmp_path: Path, make, named: str) -> None:
    result = run(make(tmp_path), "--out", tmp_path / PAGE_NAME)
    lines = [line for line in result.output.splitlines() if not line.startswith("left out:")]
    assert result.exit_code == 1 and len(lines) == 1 and lines[0].startswith("ferbook: ") and named in lines[0]
    assert not (tmp_path / PAGE_NAME).exists()


def test_too_many_pictures_for_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photographs, "MOST", 2)
    for number in range(3):
        put(tmp_path, f"{number}.jpg", b"")
    with pytest.raises(DataError, match="3 pictures; expected at most 2"):
        list(photographs.list_photographs(tmp_path))


@pytest.mark.parametrize(
    "args",
    [
        ("--out", "page.html"),
        ("x.jpg", "--camera", "0", "--out", "page.html"),
        ("x.jpg", "--out", "x.jpg"),
        ("x.jpg", "--out", "none/p.html"),
    ],
    ids=["nothing", "both", "no page", "no folder"],
)
def test_unusable_arguments_are_one_line(
    args: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*args)
    assert result.exit_code == 1 and result.output.count("\n") == 1 and "expected" in result.output
    assert not list(tmp_path.iterdir())


class Camera:
    """In place of OpenCV's: dark at first, or without a picture at all."""

    def __init__(self, frames: int) -> None:
        self.left, self.released = frames, False

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.left -= 1
        return (
            (False, None) if self.left < 0 else (True, np.full((48, 64, 3), (10, 20, 200 - self.left), np.uint8))
        )  # BGR

    def release(self) -> None:
        self.released = True


@pytest.mark.usefixtures("nothing_found")
@pytest.mark.parametrize("frames", [10, 0])
def test_one_frame_of_a_camera(frames: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    camera = Camera(frames)
    monkeypatch.setitem(__import__("sys").modules, "cv2", SimpleNamespace(VideoCapture=lambda number: camera))
    result = run("--camera", 0, "--out", tmp_path / PAGE_NAME)
    assert camera.released
    if frames:
        assert result.exit_code == 0 and "0 faces in 1 photograph" in result.output
        camera.left = frames
        assert photographs.take_frame()[0, 0].tolist() == [200, 20, 10]  # RGB, of the last frame
    else:
        assert result.exit_code == 1 and "camera 0: gives no picture" in result.output
        assert not (tmp_path / PAGE_NAME).exists()


def test_without_the_extra_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    result = run("--camera", 0, "--out", tmp_path / PAGE_NAME)
    assert result.exit_code == 1 and result.output.count("\n") == 1 and "fer-utils[detect]" in result.output


def test_neighbours_come_from_files_that_ship() -> None:
    assert all(path.is_file() for path in find_members(NEIGHBOUR_METHOD))

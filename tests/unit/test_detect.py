"""Detectors: a drawn face is found where it was drawn; no photograph is needed."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from fer_utils import detect
from fer_utils.preprocess import TEMPLATE_5, align_face

FACES = ((40, 60, 150), (260, 120, 100))  # left, top, side of two drawn faces


def drawn_face(side: int) -> Image.Image:
    """A face of ellipses whose five points lie on the template."""
    scale = side / 100
    image = Image.new("RGB", (side, side), (70, 90, 110))
    draw = ImageDraw.Draw(image)

    def ellipse(x: float, y: float, width: float, height: float, colour: tuple[int, int, int]) -> None:
        draw.ellipse([(x - width) * scale, (y - height) * scale, (x + width) * scale, (y + height) * scale], fill=colour)

    ellipse(50, 52, 37, 50, (50, 35, 25))  # hair
    ellipse(50, 58, 32, 44, (224, 172, 140))
    for x in (31.5, 68.5):
        ellipse(x, 36, 9, 5, (170, 115, 90))
        ellipse(x, 37, 7, 3.5, (240, 240, 240))
        ellipse(x, 37, 3, 3.4, (40, 30, 30))
        draw.rectangle([(x - 9) * scale, 26 * scale, (x + 9) * scale, 29 * scale], fill=(60, 40, 30))
        ellipse(50 + (x - 50) / 5, 60, 2, 1.5, (120, 70, 60))
    ellipse(50, 77.5, 15, 4.5, (165, 60, 60))
    ellipse(50, 77, 12, 1, (90, 30, 30))
    return image.filter(ImageFilter.GaussianBlur(0.75 * scale))


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    image = Image.new("RGB", (400, 300), (90, 100, 120))
    for left, top, side in FACES:
        image.paste(drawn_face(side), (left, top))
    return np.asarray(image)


def need(*modules: str) -> None:
    # Not importorskip: importing mtcnn asks for TensorFlow, which we do without.
    for module in modules:
        if find_spec(module) is None:
            pytest.skip(f"needs the extra 'detect': no {module}")


@pytest.fixture(params=detect.METHODS)
def method(request: pytest.FixtureRequest) -> str:
    need(*{"viola-jones": ("cv2",), "mtcnn": ("mtcnn", "lz4")}[request.param])
    return request.param


@pytest.fixture
def mtcnn() -> None:
    need("mtcnn", "lz4")


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    shared = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0).prod()
    return float(shared / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared))


# -- with the extra -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grey", [False, True], ids=["rgb", "grey"])
def test_both_faces_are_found(scene: np.ndarray, method: str, grey: bool) -> None:
    found = detect.detect_faces(np.asarray(Image.fromarray(scene).convert("L")) if grey else scene, method)
    assert found.boxes.shape == (2, 4) and found.scores.shape == (2,)
    assert found.boxes.dtype == found.scores.dtype == np.float32
    assert found.scores[0] >= found.scores[1]
    order = np.argsort(found.boxes[:, 0])
    for k, (left, top, side) in zip(order, FACES, strict=True):
        assert overlap(found.boxes[k], np.array([left + 0.15 * side, top + 0.1 * side, left + 0.85 * side, top + side])) > 0.6
    if method == "viola-jones":
        assert found.points is None
        return
    assert found.points.shape == (2, 5, 2) and found.points.dtype == np.float32
    for k, (left, top, side) in zip(order, FACES, strict=True):
        errors = np.linalg.norm(found.points[k] - (TEMPLATE_5 * side / 100 + (left, top)), axis=1)
        assert errors.max() < 0.06 * side, errors
        aligned = align_face(scene, found.points[k])
        assert np.abs(aligned.astype(float) - np.asarray(drawn_face(100)))[20:90, 20:80].mean() < 15


def test_limits_are_kept(scene: np.ndarray, method: str) -> None:
    scores = detect.detect_faces(scene, method).scores
    assert len(detect.detect_faces(scene, method, min_score=float(scores.mean())).boxes) == 1
    large = detect.detect_faces(scene, method, min_size=120).boxes
    assert len(large) == 1 and overlap(large[0], np.array([62, 75, 167, 210])) > 0.5
    none = detect.detect_faces(np.full((60, 80, 3), 127, dtype=np.uint8), method)
    assert none.boxes.shape == (0, 4) and none.scores.shape == (0,) and (none.points is None or none.points.shape == (0, 5, 2))
    assert len(detect.detect_faces(np.zeros((5, 7), dtype=np.uint8), method).boxes) == 0, "smaller than any face"


@pytest.mark.usefixtures("mtcnn")
@pytest.mark.parametrize("scale", [0.85, 1, 1.3])
@pytest.mark.parametrize("face", FACES)
def test_points_from_a_loose_or_tight_box(scene: np.ndarray, face: tuple[int, int, int], scale: float) -> None:
    left, top, side = face
    centre, half = np.array([left + side / 2, top + 0.55 * side]), 0.45 * side * scale
    points = detect.find_landmarks(scene, np.concatenate([centre - half, centre + half]))
    assert points.shape == (5, 2) and points.dtype == np.float32
    assert np.linalg.norm(points - (TEMPLATE_5 * side / 100 + (left, top)), axis=1).max() < 0.06 * side


@pytest.mark.usefixtures("mtcnn")
def test_points_of_a_face_that_fills_the_image() -> None:
    points = detect.find_landmarks(np.asarray(drawn_face(48)), np.array([-3, -3, 51, 51]))
    assert np.linalg.norm(points - TEMPLATE_5 * 0.48, axis=1).max() < 4


# -- without --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "gone"), [("viola-jones", "cv2"), ("mtcnn", "mtcnn"), ("mtcnn", "lz4")])
def test_a_missing_package_is_one_clear_error(monkeypatch: pytest.MonkeyPatch, scene: np.ndarray, method: str, gone: str) -> None:
    detect._cascade.cache_clear()
    detect._weights.cache_clear()
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.setattr(detect, "find_spec", lambda name: None if name == gone else sys.modules[__name__].__spec__)
    with pytest.raises(ModuleNotFoundError, match=rf"the extra 'detect' \({gone} is missing\): pip install 'fer-utils\[detect\]'"):
        detect.detect_faces(scene, method)


def test_an_opencv_without_cascades_is_named(monkeypatch: pytest.MonkeyPatch, scene: np.ndarray) -> None:
    detect._cascade.cache_clear()
    new = type(sys)("cv2")
    new.__version__ = "5.0.0"
    monkeypatch.setitem(sys.modules, "cv2", new)
    with pytest.raises(ModuleNotFoundError, match=r"'detect' \(OpenCV below 5 \(this is 5\.0\.0\) is missing\)"):
        detect.detect_faces(scene)


def test_wrong_arguments(scene: np.ndarray) -> None:
    for image in (scene / 255, scene[..., :2], scene[0, 0], scene[:0]):
        with pytest.raises(ValueError, match="an image is uint8"):
            detect.detect_faces(image)
    with pytest.raises(ValueError, match="viola-jones, mtcnn; got 'hog'"):
        detect.detect_faces(scene, "hog")
    with pytest.raises(ValueError, match="at least 12 pixels"):
        detect.detect_faces(scene, min_size=11)
    for box in ([0, 0, 0, 5], [5, 5, 1, 9], [0, 0, np.nan, 5], [0, 0, 5]):
        with pytest.raises(ValueError, match="a box is four finite numbers"):
            detect.find_landmarks(scene, np.array(box))


def test_overlapping_boxes_are_suppressed() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10], [2, 2, 6, 6]], dtype=float)
    scores = np.array([0.8, 0.9, 0.3, 0.7])
    assert detect._suppress(boxes, scores, 0.5).tolist() == [1, 3, 2]  # 0 shares 90 of 110 with 1; 3 shares 16 of 100
    assert detect._suppress(boxes, scores, 0.5, smaller=True).tolist() == [1, 2]  # 3 lies wholly inside 1
    assert detect._suppress(boxes, scores, 0.9).tolist() == [1, 0, 3, 2]
    assert detect._suppress(boxes[:0], scores[:0], 0.5).tolist() == []


def test_boxes_move_by_shares_of_their_sides() -> None:
    box = np.array([[10, 20, 30, 60]], dtype=float)
    np.testing.assert_allclose(detect._shift(box, np.array([[0.1, 0.2, -0.1, 0.5]])), [[12, 28, 28, 80]])
    np.testing.assert_allclose(detect._square(box), [[0, 20, 40, 60]])
    np.testing.assert_allclose(detect._square(np.array([[3.2, 3.2, 3.3, 3.3]])), [[3, 3, 4, 4]])
    shares = np.array([[0, 1, 0.5, 0, 1, 0, 0, 0.5, 1, 1]])
    np.testing.assert_allclose(detect._place(box, shares), [[[10, 20], [30, 20], [20, 40], [10, 60], [30, 60]]])

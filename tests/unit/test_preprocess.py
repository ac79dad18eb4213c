"""Alignment: what is a similarity away from the template comes back onto it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_utils.preprocess import TEMPLATE_5, align_face, align_faces, similarity_transform, warp_points

angles, scales, shifts = st.floats(-3.1, 3.1), st.floats(0.2, 6), st.floats(-200, 200)


def moved(angle: float, scale: float, x: float, y: float) -> np.ndarray:
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return TEMPLATE_5.astype(np.float64) @ turn.T + (x, y)


@settings(deadline=None, max_examples=50)
@given(angles, scales, shifts, shifts, st.sampled_from([48, 100, 224]))
def test_similarity_of_the_template_comes_back(angle: float, scale: float, x: float, y: float, size: int) -> None:
    points = moved(angle, scale, x, y)
    transform = similarity_transform(points, size)
    np.testing.assert_allclose(warp_points(points, transform), TEMPLATE_5 * (size / 100), atol=1e-3)
    assert transform.scale == pytest.approx(size / 100 / scale)


@settings(deadline=None, max_examples=25)
@given(angles, scales, shifts, shifts)
def test_no_similarity_fits_better(angle: float, scale: float, x: float, y: float) -> None:
    points = moved(angle, scale, x, y) + np.random.default_rng(0).normal(0, scale, (5, 2))
    best = similarity_transform(points)
    error = np.square(best(points) - TEMPLATE_5).sum()
    for delta in np.eye(4) * 1e-3:
        worse = type(best)(scale=best.scale * (1 + delta[0]), rotation=best.rotation + delta[1], translation=best.translation + delta[2:])
        assert np.square(worse(points) - TEMPLATE_5).sum() >= error - 1e-9


def test_warp_points_keeps_shape_and_type() -> None:
    out = warp_points(np.zeros((3, 68, 2)), similarity_transform(TEMPLATE_5))
    assert out.shape == (3, 68, 2) and out.dtype == np.float32


@pytest.mark.parametrize("size", [48, 96, 100, 224])
@pytest.mark.parametrize("shape", [(240, 240), (200, 300, 3), (400, 210)])
def test_aligned_pixels_lie_on_the_template(shape: tuple[int, ...], size: int) -> None:
    points = np.round(moved(0.3, 1.4, 40, 20))
    image = np.zeros(shape, dtype=np.uint8)
    for x, y in points.astype(int):
        image[y - 4 : y + 5, x - 4 : x + 5] = 255
    aligned = align_face(image, points, size)
    assert aligned.shape == (size, size, *shape[2:]) and aligned.dtype == np.uint8
    flat = aligned if len(shape) == 2 else aligned[..., 0]
    reach = round(0.1 * size)
    for x, y in warp_points(points, similarity_transform(points, size)):
        ys, xs = np.mgrid[int(y) - reach : int(y) + reach + 2, int(x) - reach : int(x) + reach + 2]
        cut = flat[ys, xs].astype(float)
        assert np.hypot((cut * xs).sum() / cut.sum() - x, (cut * ys).sum() / cut.sum() - y) < 0.003 * size


def test_a_mask_keeps_its_codes_and_follows_the_picture() -> None:
    mask = np.zeros((200, 200), dtype=np.uint8)
    mask[60:140, 50:120] = 6
    points = moved(0.3, 1.4, 40, 20)
    near, smooth = align_face(mask, points, smooth=False), align_face(mask * 40, points)
    assert set(np.unique(near)) == {0, 6}
    assert np.mean((near == 6) == (smooth > 120)) > 0.995


def test_a_batch_is_aligned_face_by_face() -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((120, 90, 3), (100, 140, 3))]
    points = np.stack([moved(0.2, 0.9, 3, 5), moved(-0.1, 1.1, 8, 0)])
    aligned = align_faces(images, points, 48)
    assert aligned.shape == (2, 48, 48, 3) and aligned.dtype == np.uint8
    for i in range(2):
        np.testing.assert_array_equal(aligned[i], align_face(images[i], points[i], 48))
    stacked = np.stack([images[0][..., 0], images[0][..., 1]])
    assert align_faces(stacked, points).shape == (2, 100, 100)
    for wrong in (points[:1], points[:, :4]):
        with pytest.raises(ValueError, match="needs five"):
            align_faces(images, wrong)
    with pytest.raises(ValueError, match="at least one"):
        align_faces([], points[:0])


def test_identity_alignment_changes_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (100, 100), dtype=np.uint8)
    inner = np.s_[2:-2, 2:-2]
    assert np.abs(align_face(image, TEMPLATE_5)[inner].astype(int) - image[inner]).max() <= 1


@pytest.mark.parametrize("bad", [np.zeros((4, 2)), np.full((5, 2), np.nan), np.ones((5, 2))], ids=["four", "nan", "one point"])
def test_bad_points(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="alignment needs five"):
        similarity_transform(bad)

"""Alignment: what is a similarity away from the template comes back onto it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_utils.preprocess import TEMPLATE_5, align_face, similarity_transform, warp_points

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


@pytest.mark.parametrize("channels", [(), (3,)])
def test_aligned_pixels_lie_on_the_template(channels: tuple[int, ...]) -> None:
    points = np.round(moved(0.3, 1.4, 40, 20))
    image = np.zeros((240, 240, *channels), dtype=np.uint8)
    for x, y in points.astype(int):
        image[y - 2 : y + 3, x - 2 : x + 3] = 255
    aligned = align_face(image, points)
    assert aligned.shape == (100, 100, *channels) and aligned.dtype == np.uint8
    flat = aligned if not channels else aligned[..., 0]
    for x, y in warp_points(points, similarity_transform(points)):
        cut = flat[int(y) - 5 : int(y) + 7, int(x) - 5 : int(x) + 7].astype(float)
        ys, xs = np.mgrid[int(y) - 5 : int(y) + 7, int(x) - 5 : int(x) + 7]
        assert np.hypot((cut * xs).sum() / cut.sum() - x, (cut * ys).sum() / cut.sum() - y) < 0.3


def test_identity_alignment_changes_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (100, 100), dtype=np.uint8)
    inner = np.s_[2:-2, 2:-2]
    assert np.abs(align_face(image, TEMPLATE_5)[inner].astype(int) - image[inner]).max() <= 1


@pytest.mark.parametrize("bad", [np.zeros((4, 2)), np.full((5, 2), np.nan), np.ones((5, 2))], ids=["four", "nan", "one point"])
def test_bad_points(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="alignment needs five"):
        similarity_transform(bad)

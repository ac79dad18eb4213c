"""Pictures of two-dimensional features."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from fer_utils.plotting.embeddings import draw_descent, show_embeddings

mpl.use("Agg")
POINTS = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
COLOURS = ("#0072B2", "#D55E00")


@pytest.fixture
def axes():
    yield plt.subplots()[1]
    plt.close("all")


def test_each_class_has_its_colour_and_shape(axes):
    show_embeddings(axes, torch.tensor(POINTS), torch.tensor([0, 1, 1]), COLOURS, title="toy")
    first, second = axes.collections
    assert np.array_equal(first.get_offsets(), POINTS[:1]) and np.array_equal(second.get_offsets(), POINTS[1:])
    for drawn, colour in zip((first, second), COLOURS, strict=True):
        assert np.allclose(drawn.get_facecolor()[0, :3], to_rgb(colour))
    assert not np.array_equal(first.get_paths()[0].vertices, second.get_paths()[0].vertices)
    assert axes.get_title(loc="left") == "toy" or axes.get_title() == "toy"


def test_centres_lie_above_the_points(axes):
    show_embeddings(axes, POINTS, [0, 1, 1], COLOURS, centres=POINTS[:2])
    assert np.array_equal(axes.collections[-1].get_offsets(), POINTS[:2])
    assert axes.collections[-1].get_zorder() > axes.collections[0].get_zorder()


def test_arrows_point_down_the_gradient(axes):
    gradients = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, -4.0]])
    draw_descent(axes, POINTS, gradients, scale=0.5)
    (arrows,) = axes.collections
    assert np.array_equal(arrows.U, [-0.5, 0, 0]) and np.array_equal(arrows.V, [0, 0, 2])
    assert np.array_equal(arrows.get_offsets(), POINTS)
    assert arrows.scale == 1, "lengths are in units of the axes"


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda axes: show_embeddings(axes, POINTS[:, :1], [0, 1, 1], COLOURS), r"points must be \[N, 2\], got \[3, 1\]"),
        (lambda axes: show_embeddings(axes, POINTS, [0, 1], COLOURS), "labels must be 3 numbers, 0 to 1"),
        (lambda axes: show_embeddings(axes, POINTS, [0, 1, 2], COLOURS), "each with a colour"),
        (lambda axes: show_embeddings(axes, POINTS, [0, 1, 1], COLOURS, centres=POINTS), "centres must be 2, one a colour, got 3"),
        (lambda axes: draw_descent(axes, POINTS, POINTS[:2]), r"gradients must be one a point, \[3, 2\], got \[2, 2\]"),
    ],
)
def test_bad_input(axes, draw, message):
    with pytest.raises(ValueError, match=message):
        draw(axes)

"""Pictures of a training."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from fer_utils.plotting.curves import show_curves
from fer_utils.training import History

mpl.use("Agg")


@pytest.fixture
def axes():
    yield plt.figure().add_subplot()
    plt.close("all")


def make_history(**parts) -> History:
    return History({name: np.asarray(part, np.float32) for name, part in parts.items()}, (), None, 1.0, "float32")


def test_every_part_is_a_curve_of_means(axes):
    loss = np.arange(600.0)
    show_curves(axes, make_history(loss=loss, metric=np.ones(600)), "t")
    first, second = axes.lines
    assert (first.get_label(), second.get_label(), axes.get_title()) == ("loss", "metric", "t")
    np.testing.assert_allclose(first.get_xdata(), np.arange(10, 601, 10))
    np.testing.assert_allclose(first.get_ydata(), loss.reshape(60, 10).mean(1))
    assert first.get_linestyle() != second.get_linestyle() and first.get_color() != second.get_color()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["loss", "metric"]


def test_a_short_training_is_drawn_step_by_step(axes):
    show_curves(axes, make_history(loss=[3, 2, 1]))
    assert axes.lines[0].get_ydata().tolist() == [3, 2, 1] and axes.get_legend() is None
    with pytest.raises(ValueError, match="no steps has no curve"):
        show_curves(axes, make_history(loss=[]))

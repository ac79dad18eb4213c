"""Pictures of confusion matrices."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from fer_utils.plotting.confusions import show_confusions

mpl.use("Agg")


@pytest.fixture
def axes():
    yield plt.figure().add_subplot()
    plt.close("all")


def test_rows_are_shares_of_the_truth(axes):
    show_confusions(axes, [[3, 1], [0, 4]], ["a", "b"], "t")
    np.testing.assert_allclose(axes.images[0].get_array(), [[75, 25], [0, 100]])
    written = {text.get_position(): text.get_text() for text in axes.texts}
    assert written == {(0, 0): "75", (1, 0): "25", (0, 1): "0", (1, 1): "100"}  # position is (answer, truth)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert axes.get_title() == "t"


def test_numbers_read_on_their_shade(axes):
    show_confusions(axes, [[9, 1], [1, 9]], ["a", "b"])
    assert {text.get_text(): text.get_color() for text in axes.texts} == {"90": "white", "10": "black"}


def test_a_class_without_faces_has_no_numbers(axes):
    show_confusions(axes, [[2, 0], [0, 0]], ["a", "b"])
    assert [text.get_text() for text in axes.texts] == ["100", "0"]


@pytest.mark.parametrize("counts", [[[1, 2]], [[1, 2], [3, -1]], [[1, 2], [3, np.nan]]])
def test_wrong_matrix(axes, counts):
    with pytest.raises(ValueError, match=r"must be \[2, 2\]"):
        show_confusions(axes, counts, ["a", "b"])

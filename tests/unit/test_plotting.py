import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from fer_utils.labels import BASIC
from fer_utils.plotting.faces import contact_sheet, show_face
from fer_utils.plotting.style import EMOTION_COLOURS, use_style

mpl.use("Agg")


@pytest.fixture(autouse=True)
def clean():
    use_style()
    yield
    plt.close("all")


def test_every_emotion_has_its_own_colour():
    assert {*BASIC, "contempt"} == set(EMOTION_COLOURS)
    assert len(set(EMOTION_COLOURS.values())) == 8


def test_sheet_has_one_axes_a_face():
    images = np.zeros((5, 10, 10), dtype=np.uint8)
    figure = contact_sheet(images, columns=3, rows=["a", "b"], titles=list("vwxyz"))
    assert len(figure.axes) == 6 and sum(bool(axes.images) for axes in figure.axes) == 5
    assert [axes.get_title() for axes in figure.axes[:5]] == list("vwxyz")


@pytest.mark.parametrize(("options", "message"), [({"rows": ["a"]}, "1 row names for 2"), ({"titles": ["a"]}, "1 titles for 5")])
def test_wrong_names(options, message):
    with pytest.raises(ValueError, match=message):
        contact_sheet(np.zeros((5, 10, 10), dtype=np.uint8), columns=3, **options)


def test_no_faces():
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([])


def test_points_are_drawn():
    axes = plt.figure().add_subplot()
    show_face(axes, np.zeros((10, 10, 3), dtype=np.uint8), np.array([[1, 2], [3, 4]]))
    np.testing.assert_array_equal(axes.collections[0].get_offsets(), [[1, 2], [3, 4]])

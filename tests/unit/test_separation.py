import numpy as np
import pytest

from fer_utils.separation import compute_separation, find_shares_of_ratio


def draw(apart=2.0, count=60):
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 4
    return rng.normal(size=(count, 5)) + apart * np.eye(4, 5)[labels], labels


def test_a_ratio_by_hand():
    """Two classes on a line, 10 apart and 1 wide to either side; three at the corners of a triangle."""
    value, each = compute_separation(np.array([[-1.0], [1.0], [9.0], [11.0]]), np.array([0, 0, 1, 1]))
    assert value == pytest.approx(10) and each.mean() == pytest.approx(10)
    corners = np.array([[0.0, 0.0], [6.0, 0.0], [0.0, 8.0]])
    faces = np.concatenate([corners + np.array([0, 1]), corners - np.array([0, 1])])
    assert compute_separation(faces, np.arange(6) % 3)[0] == pytest.approx(np.sqrt((36 + 64 + 100) / 3))


def test_units_order_and_frequent_classes_play_no_part():
    features, labels = draw()
    value = compute_separation(features, labels)[0]
    turned = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))[0]
    assert compute_separation(7 * features @ turned + 3, labels)[0] == pytest.approx(value)
    often = np.concatenate([np.arange(60), *[np.flatnonzero(labels == 2)] * 5])
    assert compute_separation(features[often], labels[often])[0] == pytest.approx(value)
    assert compute_separation(*draw(0.0))[0] < 0.6 < 1.1 < value < compute_separation(*draw(4.0))[0]


def test_what_each_face_adds_is_what_leaving_it_out_changes():
    features, labels = draw()
    value, each = compute_separation(features, labels)
    without = np.array([compute_separation(np.delete(features, i, 0), np.delete(labels, i))[0] for i in range(60)])
    np.testing.assert_allclose(each - value, 59 * (without.mean() - without), atol=1e-9)


def test_a_class_of_a_single_face_is_left_out():
    features, labels = draw()
    value, each = compute_separation(np.concatenate([[[9.0] * 5], features]), np.concatenate([[7], labels]))
    assert value == compute_separation(features, labels)[0] and np.isnan(each[0]) and not np.isnan(each[1:]).any()


def test_a_quotient_of_sums():
    rng = np.random.default_rng(0)
    above, below = rng.random((2, 30))
    value, each = find_shares_of_ratio(above, below)
    without = np.array([np.delete(above, i).sum() / np.delete(below, i).sum() for i in range(30)])
    assert value == pytest.approx(above.sum() / below.sum())
    np.testing.assert_allclose(each - value, 29 * (without.mean() - without), atol=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: compute_separation(np.zeros((3, 2)), np.array([0, 1, 1])),
            r"two classes of two faces or more, got 3 faces, of \[1, 2\]",
        ),
        (lambda: compute_separation(np.zeros((3, 2)), np.zeros(4, int)), r"a label a face and two classes"),
        (
            lambda: compute_separation(np.array([[0.0], [0], [1], [1]]), np.array([0, 0, 1, 1])),
            r"expected classes of some width",
        ),
        (
            lambda: find_shares_of_ratio(np.ones(3), np.array([0, 0, 1.0])),
            r"none of which is all of the denominator, got 3",
        ),
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()

"""How features lie about class centres, on cases that can be worked out by hand; the toy of Fig. 1."""

import numpy as np
import pytest
import torch

from fer_utils.papers.lban_il.figures import draw_points, find_means, measure_geometry, train_toy
from fer_utils.papers.lban_il.objective import LOSSES
from fer_utils.papers.lban_il.recipe import LBANIL, Toy
from fer_utils.training.features import compute_named

pytestmark = pytest.mark.usefixtures("one_thread")


def test_geometry_by_hand():
    """Centres at 0, 4 and 12 of a line."""
    centres = np.array([[0.0, 0.0], [4.0, 0.0], [12.0, 0.0]])
    features = np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 0.0], [12.0, 5.0]])
    found = measure_geometry(features, np.array([0, 0, 0, 2]), centres)
    np.testing.assert_allclose(found["silhouette"][:3], [(3 - 1) / 3, (1 - 3) / 3, 1])
    np.testing.assert_allclose(found["silhouette"][3], (np.hypot(8, 5) - 5) / np.hypot(8, 5))
    np.testing.assert_allclose(found["spread"], [1 / 8, 3 / 8, 0, 5 / 10])
    np.testing.assert_allclose(found["centre distance"], [4, 4, 4, 8])
    np.testing.assert_allclose(found["length"], [1, 3, 0, 13])


def test_what_does_not_change_with_the_size_of_features():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(30, 5)), np.arange(30) % 3
    small, large = (measure_geometry(k * features, labels, find_means(k * features, labels, 3)) for k in (1, 10))
    for name, factor in {"silhouette": 1, "spread": 1, "centre distance": 10, "length": 10}.items():
        np.testing.assert_allclose(large[name], factor * small[name])


def test_means_of_classes():
    features = np.array([[0.0, 2.0], [2.0, 4.0], [5.0, 5.0]])
    np.testing.assert_array_equal(find_means(features, np.array([0, 0, 1]), 2), [[1, 3], [5, 5]])


def test_the_toys_points_are_the_same_for_every_loss_and_seed():
    (first, test), (again, _) = draw_points(Toy()), draw_points(Toy())
    np.testing.assert_array_equal(first.inputs, again.inputs)
    assert len(first) == len(test) == 600 and first.inputs.shape[1] == 8
    assert not np.isin(test.inputs[:, 0], first.inputs[:, 0]).any()
    np.testing.assert_array_equal(np.bincount(first.labels), [200, 200, 200])


def test_the_toy_learns_and_center_loss_gathers_it():
    recipe, losses = Toy(steps=150), LBANIL().at("smoke")
    train, test = draw_points(recipe)
    spreads = {}
    for loss in LOSSES[:2]:
        models = [train_toy(loss, seed, recipe, losses) for seed in (3, 3, 4)]
        weights = [model.classifier.weight for model in models]
        assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
        known, features = (compute_named(models[0], part.inputs, "features") for part in (train, test))
        guess = compute_named(models[0], test.inputs, "scores").argmax(1)
        assert features.shape == (600, 2) and (guess == test.labels).mean() > 0.6, "chance is a third"
        spreads[loss] = measure_geometry(features, test.labels, find_means(known, train.labels, 3))["spread"].mean()
    assert spreads["Center loss"] < spreads["Softmax loss"]

"""The Keras objective against the torch losses, which have their own tests against the paper's equations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fer_utils import losses
from fer_utils.papers.daf_cnn.backend import keras
from fer_utils.papers.daf_cnn.model import build_daf_cnn
from fer_utils.papers.daf_cnn.objective import JointSupervision, TripletCenterLoss, make_objective
from fer_utils.papers.daf_cnn.recipe import DAFCNN, DAFCNNSmallSet

CLASSES, SIZE = 7, 16
SMALL = {"input_size": 24, "width": 0.0625, "pools": 2, "embedding_size": SIZE}


def numpy_of(tensor):
    return keras.ops.convert_to_numpy(tensor)


def draw(count=40, seed=0, spread=3.0):
    rng = np.random.default_rng(seed)
    return (spread * rng.normal(size=(count, SIZE))).astype("float32"), rng.integers(0, CLASSES, count)


def make_pair(**options):
    """The same loss in both, with the same centres."""
    ours, theirs = TripletCenterLoss(CLASSES, SIZE, **options), losses.TripletCenterLoss(CLASSES, SIZE, **options)
    centres = np.random.default_rng(9).normal(size=(CLASSES, SIZE)).astype("float32")
    ours.centres.assign(centres)
    theirs.centres.copy_(torch.tensor(centres))
    return ours, theirs


# -- the triplet-centre loss ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["corrected", "printed"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_it_has_the_numbers_of_the_torch_loss(rule, reduction):
    """Losses and centres of ten steps in training, to a relative 1e-6 (the printed rule moves centres far)."""
    ours, theirs = make_pair(centre_rule=rule, reduction=reduction, margin=13.0)
    for step in range(10):
        embeddings, labels = draw(seed=step)
        found, wanted = ours(embeddings, labels, training=True), theirs(torch.tensor(embeddings), torch.tensor(labels))
        np.testing.assert_allclose(numpy_of(found), wanted.numpy(), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(numpy_of(ours.centres), theirs.centres.numpy(), rtol=1e-5, atol=1e-6)
    assert float(wanted) > 0


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="gradients are asked of torch")
def test_it_has_the_gradient_of_the_torch_loss():
    ours, theirs = make_pair(reduction="sum")
    embeddings, labels = draw()
    first, second = (torch.tensor(embeddings, requires_grad=True) for _ in range(2))
    ours(first, torch.tensor(labels), training=True).backward()
    theirs(second, torch.tensor(labels)).backward()
    np.testing.assert_allclose(first.grad.numpy(), second.grad.numpy(), atol=1e-5)
    assert first.grad.abs().max() > 1


def test_outside_training_the_centres_stay():
    ours, _ = make_pair()
    before = numpy_of(ours.centres).copy()
    ours(*draw())
    np.testing.assert_array_equal(numpy_of(ours.centres), before)
    assert not ours.trainable_variables and len(ours.variables) == 1


def test_ties_absent_classes_and_samples_that_are_not_finite():
    """Two centres equally near: the lower class is the nearest other; a class without a sample keeps its centre; so does one of a NaN."""
    ours, theirs = make_pair()
    ours.centres.assign(np.eye(CLASSES, SIZE))
    theirs.centres.copy_(torch.eye(CLASSES, SIZE))
    embeddings, labels = np.zeros((3, SIZE), "float32"), np.array([0, 0, 3])
    embeddings[2] = np.nan
    ours(embeddings, labels, training=True), theirs(torch.tensor(embeddings), torch.tensor(labels))
    np.testing.assert_allclose(numpy_of(ours.centres), theirs.centres.numpy(), atol=1e-7)
    moved = np.any(numpy_of(ours.centres) != np.eye(CLASSES, SIZE), axis=1)
    assert moved.tolist() == [True, True, False, False, False, False, False], "class 1 is disturbed, class 3 has only the NaN"


def test_the_first_centres_are_small_and_of_the_seed():
    first, same, other = (numpy_of(TripletCenterLoss(7, 4000, seed=seed).centres) for seed in (1, 1, 2))
    assert first.std() == pytest.approx(0.01, rel=0.02) and abs(first.mean()) < 2e-4
    assert np.array_equal(first, same) and not np.array_equal(first, other)


def test_the_printed_rule_drives_centres_away_from_their_classes():
    """Eq. 12 as it stands against its negative, on fixed embeddings whose classes are apart: the loss ends at 0, or grows for ever."""
    labels = np.arange(70) % CLASSES
    embeddings = 6 * np.eye(CLASSES, SIZE, dtype="float32")[labels] + 0.1 * draw(70)[0]
    curves = {}
    for rule in ("corrected", "printed"):
        loss = TripletCenterLoss(CLASSES, SIZE, centre_rule=rule, margin=11.0)
        curves[rule] = [float(numpy_of(loss(embeddings, labels, training=True))) for _ in range(60)]
        own = np.linalg.norm(embeddings - numpy_of(loss.centres)[labels], axis=1).mean()
        assert own < 5 if rule == "corrected" else own > 1e9, "6.1 at the start, and as far as the margin needs"
    assert curves["corrected"][0] == pytest.approx(curves["printed"][0]) and curves["corrected"][-1] < 0.05 * curves["corrected"][0]
    assert curves["printed"][-1] > 1e15 * curves["printed"][0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TripletCenterLoss(1, 3), r"at least 2 classes and 1 dimension, got num_classes=1"),
        (lambda: TripletCenterLoss(7, 3, margin=0), r"margin and init_std must be positive, got 0 and 0\.01"),
        (lambda: TripletCenterLoss(7, 3, alpha=2), r"alpha must be above 0 and at most 1, got 2"),
        (lambda: TripletCenterLoss(7, 3, centre_rule="wrong"), r"centre_rule must be one of 'corrected', 'printed', got 'wrong'"),
        (lambda: TripletCenterLoss(7, 3, reduction="max"), r"reduction must be one of 'mean', 'sum', got 'max'"),
        (lambda: TripletCenterLoss(7, 3)(np.zeros((2, 4), "float32"), np.zeros(2, int)), r"embeddings must be \[B, 3\].* got \[2, 4\]"),
        (lambda: TripletCenterLoss(7, 3)(np.zeros((2, 3), "float32"), np.zeros((2, 1), int)), r"labels must be \[B\], .* got \[2, 1\]"),
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# -- eq. 13 ---------------------------------------------------------------------------------------------------------------


def test_the_joint_loss_is_the_sum_of_its_parts():
    recipe = replace(DAFCNNSmallSet(), weight=0.5, softmax_weight=0.25)
    model = make_objective(build_daf_cnn(**SMALL), recipe, seed=4)
    assert (model.metric_loss.margin, model.metric_loss.reduction, model.weight) == (13.0, "sum", 0.5)
    model.compile("adam", metrics=["accuracy"])
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 255, (12, 24, 24, 1), dtype=np.uint8), rng.integers(0, 7, 12)
    found = model(images)
    scores = torch.tensor(numpy_of(found["scores"]))
    cross = float(torch.nn.functional.cross_entropy(scores, torch.tensor(labels)))
    theirs = losses.TripletCenterLoss(CLASSES, SIZE, margin=13.0, reduction="sum").eval()
    theirs.centres.copy_(torch.tensor(numpy_of(model.metric_loss.centres)))
    distant = float(theirs(torch.tensor(numpy_of(found["embedding"])), torch.tensor(labels)))
    logs = model.evaluate(images, labels, verbose=0, return_dict=True)
    assert logs["softmax_loss"] == pytest.approx(cross, rel=1e-5) and logs["tc_loss"] == pytest.approx(distant, rel=1e-5)
    assert logs["loss"] == pytest.approx(0.25 * cross + 0.5 * distant, rel=1e-5)
    assert logs["accuracy"] == pytest.approx((scores.argmax(1).numpy() == labels).mean())


def test_softmax_alone_has_no_centres():
    model = make_objective(build_daf_cnn(**SMALL), DAFCNN(), metric=False)
    assert model.metric_loss is None and model.weight == 0
    assert not any("centre" in variable.path for variable in model.variables)


@pytest.mark.parametrize("metric", [True, False])
def test_a_saved_model_is_the_same(tmp_path, metric):
    model = make_objective(build_daf_cnn(**SMALL), DAFCNN(), metric=metric, seed=4)
    model.compile("adam", metrics=["accuracy"])
    images, labels = np.random.default_rng(0).integers(0, 255, (14, 24, 24, 1), dtype=np.uint8), np.arange(14) % 7
    model.fit(images, labels, batch_size=7, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.evaluate(images, labels, verbose=0) == model.evaluate(images, labels, verbose=0)
    for first, second in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)
    for first, second in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(numpy_of(first), numpy_of(second))


def test_without_softmax_the_nearest_centre_decides():
    model = JointSupervision(build_daf_cnn(**SMALL), TripletCenterLoss(CLASSES, SIZE, init_std=1), 1, softmax_weight=0)
    images = np.random.default_rng(0).integers(0, 255, (5, 24, 24, 1), dtype=np.uint8)
    found, own = model.predict(images, verbose=0), model.network.predict(images, verbose=0)
    np.testing.assert_array_equal(found["embedding"], own["embedding"])
    distances = np.linalg.norm(found["embedding"][:, None] - numpy_of(model.metric_loss.centres), axis=2)
    np.testing.assert_allclose(found["scores"], -(distances**2) / 2, rtol=1e-5)
    np.testing.assert_allclose(found["softmax"].sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda n: JointSupervision(keras.Sequential([keras.layers.Dense(7)])), r"the network gives no 'embedding'; expected a dict with"),
        (lambda n: JointSupervision(n, None, softmax_weight=0), r"weights from 0 of which one counts, got .*softmax_weight=0"),
        (lambda n: JointSupervision(n, TripletCenterLoss(7, SIZE), -1), r"weights from 0 of which one counts, got weight=-1"),
        (lambda n: JointSupervision(n, TripletCenterLoss(7, 5), 1), r"the centres must have the embedding's 16 dimensions, got 5"),
    ],
)
def test_what_does_not_belong_together_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(build_daf_cnn(**SMALL))

"""Compile and fit on a toy, and a training that is killed."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fer_utils.errors import DataError
from fer_utils.papers.daf_cnn.backend import keras
from fer_utils.papers.daf_cnn.model import copy_layers
from fer_utils.papers.daf_cnn.objective import make_objective
from fer_utils.papers.daf_cnn.recipe import DAFCNN, VARIANTS, DAFCNNSmallSet
from fer_utils.papers.daf_cnn.training import DrawnBatches, build_network, prepare_faces, train
from fer_utils.training import Balanced

#: What the test below runs, and another process until it is killed: weights come back after each epoch but the first.
PATIENCE = {"patience": 1, "min_delta": 1.0, "epochs": 4}


def make(toy, seed=0, metric=True, **changes):
    recipe = toy.recipe(**changes)
    return make_objective(build_network(recipe, seed=seed), recipe, metric=metric, seed=seed), recipe


@pytest.mark.parametrize("row", ["DAF-CNN_NOatt&tcl", "DAF-CNN"])
def test_it_learns_and_ends_with_the_best_weights(toy, row):
    attention, metric = VARIANTS[row]
    model, recipe = make(toy, metric=metric, epochs=6, attention="cascaded" if attention else None)
    validation = toy.faces(21, seed=1)
    found = train(model, toy.faces(98), validation, recipe)
    assert len(found.logs) == 6 and found.logs[-1]["loss"] < 0.7 * found.logs[0]["loss"]
    assert ("tc_loss" in found.logs[0]) == metric
    best = max(log["val_accuracy"] for log in found.logs)
    assert found.plateau.best == best > 0.6
    assert model.evaluate(*validation, verbose=0, return_dict=True)["accuracy"] == pytest.approx(best)
    assert found.plateau.rates == pytest.approx([0.005] * 6)


def test_the_smoke_profile_runs(toy):
    recipe = DAFCNN().at("smoke")
    model = make_objective(build_network(recipe), recipe)
    found = train(model, toy.faces(42), toy.faces(14, seed=1), recipe)
    assert len(found.logs) == 2
    measured = {"loss", "softmax_loss", "tc_loss", "accuracy"}
    assert set(found.logs[0]) == {*measured, *(f"val_{name}" for name in measured)}
    assert all(np.isfinite(list(log.values())).all() for log in found.logs)


def test_the_second_stage(toy):
    """Another set of classes: all but the softmax is taken over; with the triplet-centre loss alone the centres tell classes apart."""
    model, _ = make(toy)
    recipe = replace(DAFCNNSmallSet(), **{name: getattr(toy.recipe(), name) for name in vars(toy.recipe()) if name != "weight"},
                     softmax_weight=0.0)
    network = build_network(recipe, 6, seed=1)
    copy_layers(model.network, network)
    images, labels = toy.faces(98)
    kept = labels < 6
    second = make_objective(network, replace(recipe, margin=13.0))
    before = network.get_layer("scores").get_weights()[0].copy()
    train(second, (images[kept], labels[kept]), (images[kept], labels[kept]), replace(recipe, epochs=10))
    np.testing.assert_array_equal(network.get_layer("scores").get_weights()[0], before, "no loss reaches it")
    assert (second.predict(images[kept], verbose=0)["scores"].argmax(1) == labels[kept]).mean() > 0.5


def test_a_killed_training_ends_with_the_same_weights(toy, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        script = tmp_path / "killed.py"
        script.write_text(f"""
import os, signal, sys
sys.path[:0] = {[str(Path(__file__).parents[2])]!r}
import torch
torch.set_num_threads(1)
from papers.daf_cnn import conftest as toy
from fer_utils.papers.daf_cnn.objective import make_objective
from fer_utils.papers.daf_cnn.training import DrawnBatches, build_network, train
drawn = DrawnBatches.__getitem__
def draw(self, number):
    if self.epoch == 2 and number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return drawn(self, number)
DrawnBatches.__getitem__ = draw
recipe = toy.toy_recipe(**{PATIENCE!r})
model = make_objective(build_network(recipe), recipe)
train(model, toy.toy_faces(56), toy.toy_faces(21, 1), recipe, checkpoint={str(tmp_path / "state")!r})
""")
        done = subprocess.run([sys.executable, script], capture_output=True, text=True)
        assert done.returncode == -9, done.stderr
        faces, validation, checkpoint = toy.faces(56), toy.faces(21, 1), tmp_path / "state"
        (whole, recipe), (resumed, _) = make(toy, **PATIENCE), make(toy, **PATIENCE)
        started = len(checkpoint.read_bytes())
        wanted = train(whole, faces, validation, recipe)
        found = train(resumed, faces, validation, recipe, checkpoint=checkpoint)
        assert started and found.logs == wanted.logs and len(found.logs) == 4
        assert found.plateau.reloads == wanted.plateau.reloads == [1, 2, 3]
        for first, second in zip(whole.get_weights(), resumed.get_weights(), strict=True):
            np.testing.assert_array_equal(first, second)

        again, _ = make(toy, **PATIENCE)
        assert train(again, faces, validation, recipe, checkpoint=checkpoint).logs == wanted.logs, "there is nothing left to do"
        np.testing.assert_array_equal(again.get_weights()[0], whole.get_weights()[0])
        with pytest.raises(DataError, match=r"of another training \(seed was 0 and is now 1\)"):
            train(make(toy, **PATIENCE)[0], faces, validation, recipe, seed=1, checkpoint=checkpoint)
        with pytest.raises(DataError, match=r"of another training \(weights at the start was "):
            train(make(toy, seed=1, **PATIENCE)[0], faces, validation, recipe, checkpoint=checkpoint)
    finally:
        torch.set_num_threads(threads)


# -- batches --------------------------------------------------------------------------------------------------------------


def test_batches_are_of_the_seed_and_their_number(toy):
    images, labels = np.arange(70)[:, None, None, None], np.arange(70) % 7
    batches = DrawnBatches(images, labels, 16, images_per_batch=30, seed=1)
    assert batches.num_batches == 2, "70 images have two batches, of whatever size"
    assert DrawnBatches(images, labels, 16, images_per_batch=128).num_batches == 1
    drawn = []
    for epoch in range(5):
        batches.epoch = epoch
        for number in range(2):
            found, of = batches[number]
            assert len(found) == 16 and np.array_equal(found.ravel() % 7, of)
            drawn += found.ravel().tolist()
    assert sorted(drawn[:70]) == list(range(70)), "all, before one comes again"
    other = DrawnBatches(images, labels, 16, images_per_batch=30, seed=1)
    other.epoch = 4
    assert other[1][0].ravel().tolist() == drawn[-16:]
    assert DrawnBatches(images, labels, 16, seed=2)[0][0].ravel().tolist() != drawn[:16]


def test_fit_takes_each_batch_once(toy):
    """Keras looks at a batch before it begins; the epochs are those of the training all the same."""
    batches, taken = DrawnBatches(*toy.faces(28), 7), []
    model, _ = make(toy, metric=False)
    model.compile("adam")

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, number, logs=None):
            taken.append((batches.epoch, number))

    model.fit(batches, epochs=3, initial_epoch=1, shuffle=False, verbose=0, callbacks=[batches.follow(), Watch()])
    assert taken == [(epoch, number) for epoch in (1, 2) for number in range(4)]


def test_a_sampler_of_the_book_can_be_used(toy):
    labels = np.array([0] * 60 + [1] * 4)
    batches = DrawnBatches(np.zeros((64, 2, 2, 1)), labels, 64, sampler=Balanced())
    assert 15 < (batches[0][1] == 1).sum() < 49


# -- faces and labels -----------------------------------------------------------------------------------------------------


def test_faces_are_brought_to_the_network(toy):
    images = np.random.default_rng(0).integers(0, 255, (3, 40, 40, 3), dtype=np.uint8)
    found = prepare_faces(images, toy.recipe())
    assert found.shape == (3, 27, 27, 1) and found.dtype == np.uint8
    assert prepare_faces(images[..., 0], replace(toy.recipe(), in_channels=3)).shape == (3, 27, 27, 3)


@pytest.mark.parametrize("profile", ["smoke", "book", "paper"])
def test_recipes_give_networks_that_fit(profile):
    for base in (DAFCNN(), DAFCNNSmallSet()):
        recipe = base.at(profile)
        assert recipe.input_size / 2**recipe.pools == 6 and recipe.image_size * 8 == recipe.input_size * 9
    network = build_network(replace(recipe, width=0.01))
    assert network.get_layer("spatial_attention").input.shape[1:3] == (6, 6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda toy: train(make(toy)[0], (toy.faces(7)[0], np.full(7, 7)), toy.faces(7), toy.recipe()),
         r"the training labels must be 0 to 6, at least one, got \[7\]"),
        (lambda toy: train(make(toy)[0], toy.faces(7), toy.faces(0), toy.recipe()),
         r"the validation labels must be 0 to 6, at least one, got \[\]"),
        (lambda toy: DrawnBatches(np.zeros((3, 1)), np.zeros(2), 1), r"expected images with one label each, at least one, got 3 and 2"),
        (lambda toy: DrawnBatches(np.zeros((3, 1)), np.zeros(3), 0), r"must be at least 1, got 0 and None"),
    ],
)
def test_what_does_not_fit_is_named(toy, call, message):
    with pytest.raises(ValueError, match=message):
        call(toy)

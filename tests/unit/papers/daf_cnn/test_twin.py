"""The network in Keras and its twin in PyTorch: the same scores, and the same losses on the way."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from fer_utils.losses import TripletCenterLoss
from fer_utils.papers.daf_cnn.backend import keras
from fer_utils.papers.daf_cnn.objective import make_objective
from fer_utils.papers.daf_cnn.recipe import DAFCNN
from fer_utils.papers.daf_cnn.training import build_network, compute_layers
from fer_utils.papers.daf_cnn.twin import make_twin, make_twin_optimizer, prepare_twin

RECIPE = replace(DAFCNN().at("smoke"), embedding_size=16)


@pytest.mark.parametrize(
    "switched",
    [
        {},
        {"attention": None},
        {"attention": "parallel", "net_output": "sigmoid"},
        {"pool_over": "width", "pools": 3, "in_channels": 3},
    ],
)
def test_the_same_weights_give_the_same_scores(switched):
    recipe = replace(RECIPE, **switched)
    network, rng = build_network(recipe, seed=1), np.random.default_rng(0)
    for weight in network.weights:  # what starts as 0 or 1 would not show an error
        if len(weight.shape) == 1:
            weight.assign(keras.ops.convert_to_numpy(weight) + 0.1 * rng.random(weight.shape))
    images = rng.integers(0, 255, (5, 27, 27, recipe.in_channels), dtype=np.uint8)
    with torch.inference_mode():
        found = make_twin(network, recipe)(prepare_twin(images, recipe))
    names = ["embedding", "scores", *(("channel_attention", "spatial_attention") if recipe.attention else ())]
    wanted = compute_layers(network, images, names)
    for name in names:
        theirs = found[name].numpy()
        theirs = theirs.transpose(0, 2, 3, 1) if theirs.ndim == 4 else theirs
        assert np.ptp(wanted[name]) > 1e-3
        np.testing.assert_allclose(theirs, wanted[name], atol=1e-5, err_msg=name)


#: Adam's first step is about a gradient's sign: where it is about 0, the place of the epsilon decides, which differs.
@pytest.mark.parametrize(("adam", "tolerance"), [(False, 1e-4), (True, 5e-3)])
def test_the_same_steps_give_the_same_losses(adam, tolerance):
    """Three steps on eq. 13; nothing is dropped, and each image is its own mirror image, as what is mirrored is drawn.

    The twin computes in double precision: eighteen normalised layers make 5e-4 of what PyTorch rounds in single
    precision in three steps.
    """
    recipe = replace(RECIPE, dropout=0.0, image_size=RECIPE.input_size)
    rng = np.random.default_rng(0)
    half = rng.integers(0, 255, (14, 24, 12, 1), dtype=np.uint8)
    images, labels = np.concatenate([half, half[:, :, ::-1]], 2), np.arange(14) % 7
    network = build_network(recipe, seed=1)
    model, twin = make_objective(network, recipe), make_twin(network, recipe).train().double()
    loss = TripletCenterLoss(7, 16, margin=recipe.margin, alpha=recipe.centre_rate, reduction="sum")
    loss.centres.copy_(torch.tensor(keras.ops.convert_to_numpy(model.metric_loss.centres)))
    optimizer = make_twin_optimizer(twin, recipe) if adam else torch.optim.SGD(twin.parameters(), 0.01)
    loss = loss.double()
    model.compile(keras.optimizers.Adam(recipe.learning_rate) if adam else keras.optimizers.SGD(0.01))
    wanted = model.fit(images, labels, batch_size=14, epochs=3, shuffle=False, verbose=0).history
    drawn, own, found = prepare_twin(images, recipe).double(), torch.tensor(labels), []
    for _ in range(3):
        outputs = twin(drawn)
        total = cross_entropy(outputs["scores"], own) + recipe.weight * loss(outputs["embedding"], own)
        found.append(float(total.detach()))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    assert found[0] == pytest.approx(wanted["loss"][0], rel=1e-5), "of the same weights"
    np.testing.assert_allclose(found, wanted["loss"], rtol=tolerance)
    assert abs(found[0] - found[2]) > 0.01, "the steps did something"
    if not adam:
        np.testing.assert_allclose(
            loss.centres.numpy(), keras.ops.convert_to_numpy(model.metric_loss.centres), atol=1e-4
        )

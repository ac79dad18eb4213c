"""Training LBAN: the settings are the paper's, each loss trains the same network, ten crops are averaged, a killed run goes on."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch

from fer_utils.augment import ten_crop
from fer_utils.experiments import load_published
from fer_utils.losses import CenterLoss, IslandLoss, IsletsLoss
from fer_utils.papers.lban_il.networks import build_network, make_settings, predict_ten_crops, score_ten_crops
from fer_utils.papers.lban_il.objective import LOSSES, CrossEntropyWithCentres, make_objective
from fer_utils.papers.lban_il.recipe import LBANIL
from fer_utils.training import CrossEntropy, fit, predict, predict_scores

from .toys import TINY, make_faces

pytestmark = pytest.mark.usefixtures("one_thread")

PARTS = {"loss", "cross-entropy", "metric", "centre distance", "centre length", "log penalty"}


def train(loss="Islets loss", recipe=TINY, row="LBAN", **options):
    faces = make_faces().train
    model = build_network(row, recipe, 0)
    objective = make_objective(loss, model, recipe, 0)
    history = fit(model, faces, make_settings(recipe, len(faces), 0), objective=objective, progress=False, **options)
    return model, objective, history


def weights(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# -- settings -------------------------------------------------------------------------------------------------------------


def test_the_papers_profile_is_the_papers():
    recipe = LBANIL().at("paper")
    training, network, crops = (load_published("lban-il").item(item).rows for item in ("section-4-2", "section-2", "section-4-1"))
    named = {
        "momentum": recipe.momentum, "batch": recipe.batch_size, "weight decay": recipe.weight_decay, "learning rate": recipe.learning_rate,
        "factor of a step": recipe.gamma, "epochs between steps": recipe.drop_every, "epoch of the first step": recipe.first_drop,
        "dropout": recipe.dropout, "lambda": recipe.weight, "lambda 1": recipe.lambda1, "lambda 2": recipe.lambda2,
    }
    assert named == {row: value for row, (value,) in training.items()}
    assert (recipe.sparsity, recipe.features) == (network["sparsity level"][0], network["features"][0])
    assert (recipe.input_size, recipe.crops) == (crops["side of the crops, pixels"][0], crops["crops of a test image"][0])
    assert recipe.folds == crops["groups of the cross-validation"][3]
    with torch.device("meta"):
        model = build_network("LBAN", recipe, 0)
    assert (model.input_size, model.embedding_size, model.settings["width"]) == (80, 128, 1.0)


def test_the_learning_rate_falls_from_the_20th_epoch_every_five():
    settings = make_settings(LBANIL(), 12_271, seed=5)
    epoch = 12_271 / 64
    assert (settings.steps, settings.seed) == (round(100 * epoch), 5) and len(settings.milestones) == 16
    rates = [settings.learning_rate_at(round(number * epoch)) for number in (0, 19, 20, 24, 25, 99)]
    np.testing.assert_allclose(rates, 0.001 * 0.9 ** np.array([0, 0, 1, 1, 2, 16]))
    assert settings.weight_decay == settings.last_weight_decay == 0.05
    with pytest.raises(ValueError, match="an epoch needs at least 1 training face, got 0"):
        make_settings(LBANIL(), 0, seed=0)


@pytest.mark.parametrize("profile", ["smoke", "book"])
def test_a_profile_can_be_built(profile):
    recipe = LBANIL().at(profile)
    assert make_settings(recipe, 500, 0).steps >= 1
    assert build_network("LBAN", recipe, 0, 11).num_classes == 11
    assert build_network("LBAN", recipe, 0, sparsity=0.9).settings["sparsity"] == 0.9


def test_unknown_names():
    with pytest.raises(ValueError, match=r"unknown row 'LBAN-IL'; expected one of LBAN, LBCNN, LBC, SC \+ STD Conv"):
        build_network("LBAN-IL", TINY, 0)
    with pytest.raises(ValueError, match="unknown loss 'islets'; expected one of Softmax loss, Center loss, Island loss, Islets loss"):
        make_objective("islets", build_network("LBAN", TINY, 0), TINY, 0)
    with pytest.raises(ValueError, match=r"centre_rule must be one of 'corrected', 'printed', got 'eq\. 4'"):
        make_objective("Islets loss", build_network("LBAN", TINY, 0), TINY, 0, centre_rule="eq. 4")


# -- the four losses ------------------------------------------------------------------------------------------------------


def test_losses_have_the_recipes_weights_and_centres_start_alike():
    model = build_network("LBAN", TINY, 0)
    assert isinstance(make_objective("Softmax loss", model, TINY, 0), CrossEntropy)
    made = [make_objective(loss, model, TINY, 4) for loss in LOSSES[1:]]
    losses = [objective.metric.loss for objective in made]
    assert [type(loss) for loss in losses] == [CenterLoss, IslandLoss, IsletsLoss] and {objective.weight for objective in made} == {0.006}
    for paper in ({"recipe": LBANIL()}, {"recipe": TINY, "weight": 0.6}):
        assert {make_objective(loss, model, seed=4, **paper).weight for loss in LOSSES[1:]} == {0.6}
    assert all(torch.equal(loss.centres, losses[0].centres) for loss in losses)
    assert {(loss.alpha, loss.reduction) for loss in losses} == {(0.5, "mean")} and losses[0].centres.std() == pytest.approx(0.01, rel=0.1)
    assert (losses[1].lambda1, losses[2].lambda1, losses[2].lambda2) == (0.2, 0.2, 0.9)
    printed = make_objective("Islets loss", model, replace(TINY, reduction="sum"), 4, centre_std=2.0, centre_rule="printed").metric.loss
    assert (printed.centre_rule, printed.reduction) == ("printed", "sum") and printed.centres.std() == pytest.approx(2, rel=0.1)


def test_the_places_of_the_centres_are_recorded():
    model = build_network("LBAN", TINY, 0)
    objective = make_objective("Islets loss", model, TINY, 0, centre_std=0.5)
    centres = objective.metric.loss.centres.clone()
    batch = {"labels": torch.arange(7), "indices": torch.arange(7)}
    parts = objective({"features": torch.randn(7, 128), "scores": torch.randn(7, 7)}, batch)
    distances = torch.cdist(centres, centres)
    assert parts.keys() == PARTS and float(parts["centre distance"]) == pytest.approx(float(distances.sum()) / 42)
    assert float(parts["log penalty"]) == pytest.approx(-float(distances.sum()) / 2, rel=1e-5)
    assert float(parts["centre length"]) == pytest.approx(float(centres.norm(dim=1).mean()))
    torch.testing.assert_close(parts["loss"], parts["cross-entropy"] + TINY.weight * parts["metric"])
    assert CrossEntropyWithCentres(CenterLoss(7, 128), 0.0)({"scores": torch.randn(7, 7)}, batch).keys() == {"loss"}


def test_every_loss_trains_the_same_network():
    """Sixteen epochs of four batches: all start alike, and in the end the classes are no longer guessed."""
    start, ends = weights(build_network("LBAN", TINY, 0)), {}
    for loss in LOSSES:
        model, objective, history = train(loss, replace(TINY, epochs=16, first_drop=12))
        assert history.losses.shape == (64,) and set(history.parts) == ({"loss"} if loss == "Softmax loss" else PARTS)
        soft = history.parts["loss" if loss == "Softmax loss" else "cross-entropy"]
        assert np.isfinite(history.losses).all() and soft[-4:].mean() < soft[:4].mean()
        ends[loss] = weights(model)
        assert all(torch.equal(start[name], ends[loss][name]) for name in start if name.endswith("filters"))
        if loss != "Softmax loss":
            assert not torch.equal(objective.metric.loss.centres, make_objective(loss, model, TINY, 0).metric.loss.centres)
    assert len({end["classifier.weight"].numpy().tobytes() for end in ends.values()}) == 4


@pytest.mark.parametrize("row", ["LBC", "SC + STD Conv", "neither", "VGG19", "ResNet18"])
def test_rows_of_the_tables_train_too(row):
    losses = train(row=row, recipe=replace(TINY, epochs=2))[2].losses
    assert np.isfinite(losses).all()


def test_half_of_the_bits_are_enough():
    model, _, history = train(recipe=replace(TINY, epochs=1, precision="bfloat16"))
    assert history.precision == "bfloat16" and np.isfinite(history.losses).all()
    assert {value.dtype for name, value in model.state_dict().items() if name.endswith("filters")} == {torch.int8}


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path, stop_after):
    ends = []
    for stops in ([], [1, 9]):
        for stop in [*stops, None]:
            stop_after(stop)
            with pytest.raises(InterruptedError) if stop else nullcontext():
                model, objective, history = train(checkpoint=tmp_path / f"{len(stops)}.safetensors", checkpoint_seconds=0)
        ends.append((weights(model), weights(objective), history))
    (model, objective, history), (resumed, resumed_objective, resumed_history) = ends
    assert same(model, resumed) and same(objective, resumed_objective)
    assert all(np.array_equal(history.parts[name], resumed_history.parts[name]) for name in PARTS)


# -- ten crops ------------------------------------------------------------------------------------------------------------


def test_ten_crops_are_averaged():
    model, faces = build_network("LBAN", TINY, 0).train(), make_faces().test
    model(torch.rand(16, 3, 24, 24))  # statistics
    model.eval()
    scores = score_ten_crops(model, faces, batch_size=5)
    crops = ten_crop(torch.tensor(faces.images).permute(0, 3, 1, 2), 24) / 255
    with torch.inference_mode():
        expected = torch.stack([model(crops[:, i]) for i in range(10)]).mean(0).numpy()
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(predict_ten_crops(model, faces.images), scores.argmax(1))
    assert not np.allclose(scores, predict_scores(model, faces)), "one crop says something else"
    mirrored = score_ten_crops(model, faces.images[:, :, ::-1].copy())
    np.testing.assert_allclose(mirrored, scores, rtol=1e-4, atol=1e-4, err_msg="a face and its mirror image are the same to them")
    with pytest.raises(ValueError, match="there are no images"):
        score_ten_crops(model, faces.images[:0])


def test_a_smoke_training_learns_clear_classes():
    recipe = replace(TINY, epochs=50, first_drop=40, drop_every=5, width=0.1, batch_size=28)
    model, _, history = train("Softmax loss", recipe)
    test = make_faces().test
    assert history.losses.shape == (100,)
    for guess in (predict(model, test), predict_ten_crops(model, test)):
        assert (guess == test.labels).mean() > 0.5, "chance is 0.14"

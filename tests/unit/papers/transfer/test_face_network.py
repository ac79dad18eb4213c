import numpy as np
import pytest
import torch

from fer_utils.datasets.base import FaceDataset
from fer_utils.experiments import RunContext, find_experiment, load_published, read_ledger, run_experiment
from fer_utils.experiments.recipe import Profile
from fer_utils.labels import BASIC
from fer_utils.models.face_network import STAGES, load_face_network
from fer_utils.papers.transfer import experiments
from fer_utils.papers.transfer.experiments import measure_frozen, measure_random, measure_trained
from fer_utils.papers.transfer.model import build_upper_stages, cut_after, predict_maps
from fer_utils.papers.transfer.recipe import FineTuned, FineTunedLab, Frozen
from fer_utils.training import fit

from ..shipped import load_few

ID = "transfer/face-network"
ITEM = load_published("transfer").item("face-network")
ROLES = ("basic", "compound", "lab")
FROZEN, TUNED = Frozen().at("smoke"), FineTuned().at("smoke")


def toy_faces():
    """Classes differ in where a face is bright, so that maps of any sensible filters tell them apart."""
    rng = np.random.default_rng(0)
    labels = np.arange(63) % 7
    images = rng.integers(0, 60, (63, 40, 40), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 3)
        image[13 * row : 13 * row + 13, 13 * column : 13 * column + 13] += 180
    names, split = np.array([f"{i:02d}.png" for i in range(63)]), np.where(np.arange(63) // 7 % 3 == 2, "test", "train")
    return FaceDataset("toy", images, labels, BASIC, names, split, identities=np.arange(63))


@pytest.fixture
def context(tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "_load_faces", lambda *_: toy_faces())
    return RunContext(ID, Profile.SMOKE, "facsynth", 3, tmp_path, data=str(tmp_path))


# -- the parts of the network ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["stage_32", "stage_128", "stage_out"])
def test_upper_stages_go_on_where_the_frozen_ones_end(stage):
    images = torch.rand(2, 3, 150, 150)
    network = load_face_network(4, seed=1)
    upper = build_upper_stages(stage, 4, 1, pretrained=True).eval()
    with torch.inference_mode():
        maps = network.compute_stages(images)
        torch.testing.assert_close(upper.compute_outputs(maps[stage])["features"], maps["descriptor"])
        guess = network(images).argmax(1).numpy()
        flat = cut_after(network, stage).embed(images)
    np.testing.assert_array_equal(predict_maps(upper, maps[stage].numpy(), batch_size=1), guess)
    torch.testing.assert_close(flat, maps[stage].flatten(1))


def test_two_starts_share_the_last_layer_alone():
    known, drawn = (build_upper_stages("stage_128", 7, 5, pretrained=pretrained).state_dict() for pretrained in (True, False))
    assert known.keys() == drawn.keys() and sum(key.startswith("body.stage_256") for key in known) == 12
    equal = {key.split(".")[0] for key, value in known.items() if value.ndim > 1 and torch.equal(value, drawn[key])}
    assert equal == {"classifier"}


# -- one run --------------------------------------------------------------------------------------------------------------


def test_frozen_maps_tell_clear_classes_apart(context):
    for measure, name in ((measure_frozen, "8x8x128"), (measure_random, "random 8x8x128")):
        scores = measure(context, "basic", FROZEN)
        assert [score.row for score in scores] == [f"SVM on {name}", f"LDA on {name}"]
        assert all(score.metrics["mean diagonal"] == 1 for score in scores)
        assert scores[0].series["C"][0] in FROZEN.C


def test_the_random_network_is_drawn_from_the_seed(context, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(experiments, "_classify", lambda name, features, *_: seen.append(features))
    for seed in (3, 3, 4):
        measure_random(RunContext(ID, Profile.SMOKE, "facsynth", seed, tmp_path), "basic", FROZEN)
    np.testing.assert_array_equal(seen[0], seen[1])
    assert not np.allclose(seen[0], seen[2])


def test_training_sees_training_faces_and_their_mirror_images_alone(context, monkeypatch):
    given = []
    monkeypatch.setattr(experiments, "fit", lambda model, data, settings, **options: (given.append((data, settings)),
                                                                                     fit(model, data, settings, **options)))
    (score,) = measure_trained(context, "fine-tuned", "basic", TUNED)
    ((samples, settings),) = given
    train = toy_faces().train
    stages = load_face_network().compute_stages
    images = torch.nn.functional.interpolate(
        torch.tensor(train.images[:2, None]).float(), (150, 150), mode="bilinear", antialias=True
    ).round().expand(-1, 3, -1, -1) / 255
    with torch.inference_mode():
        for start, seen in ((0, images), (len(train), images.flip(-1))):
            expected = stages(seen)["stage_128"]
            torch.testing.assert_close(torch.tensor(samples.inputs[start : start + 2]), expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(samples.labels, np.tile(train.labels, 2))
    assert settings.seed == 3 and settings.steps == TUNED.steps
    assert score.row == "fine-tuned" and len(score.guess) == len(toy_faces().test)


# -- the experiment -------------------------------------------------------------------------------------------------------


def test_what_is_drawn_runs_once_a_seed():
    runs = find_experiment(ID).plan("book", "facsynth")
    seeds = {name: [run.seed for run in runs if run.name == name] for name in dict.fromkeys(run.name for run in runs)}
    named = {f"{row} {role}" for row in ("frozen", "random", "fine-tuned") for role in ROLES}
    assert set(seeds) == named | {"upper stages from random weights basic"}
    assert all(found == ([None] if name.startswith("frozen") else list(range(10))) for name, found in seeds.items())
    assert {run.name.split()[-1] for run in find_experiment(ID).plan("book", "muxspace")} == {"basic"}


def test_a_profile_changes_the_size_alone():
    for recipe in (Frozen(), FineTuned(), FineTunedLab()):
        assert recipe.at("paper") == recipe.at("book") == recipe and recipe.stage in STAGES
    assert 0 < min(FineTuned().milestones) <= max(FineTuned().milestones) < 1


def test_smoke_measures_every_row_on_every_role(tmp_path, monkeypatch):
    monkeypatch.setattr("fer_utils.experiments.context.load_role", load_few(8))  # experiments take no more of them
    monkeypatch.setattr("fer_utils.experiments.tie.find_contents", lambda *_: {})  # that of all faces is another
    assert run_experiment(ID, "smoke", "facsynth", data=tmp_path) == 10
    assert run_experiment(ID, "smoke", "facsynth", data=tmp_path) == 0
    found = read_ledger(ID, "smoke", "facsynth", tmp_path)
    assert set(found["row"]) == set(ITEM.rows) - set(find_experiment(ID).omits)
    everywhere = set(found["row"]) - {"upper stages from random weights"}
    assert {(row, role) for row in everywhere for role in ROLES} <= set(zip(found["row"], found["role"], strict=True))


def test_nothing_is_said_to_be_published():
    assert all(value is None for _, _, value in ITEM.cells()) and ITEM.notes

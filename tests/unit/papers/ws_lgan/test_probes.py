"""What the experiments measure, on faces small enough to check it by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from fer_utils.experiments import RunContext
from fer_utils.experiments.recipe import Profile
from fer_utils.experiments.scores import describe_score
from fer_utils.labels import BASIC
from fer_utils.papers.ws_lgan import attribute_networks, cost, figures, kept, networks, tables
from fer_utils.papers.ws_lgan.figures import choose_threshold, compute_unit, list_conditions, score_places
from fer_utils.papers.ws_lgan.kept import Kept, load_kept, load_rendered, measure_separation, save_kept
from fer_utils.papers.ws_lgan.networks import build_attribute_network, build_network
from fer_utils.papers.ws_lgan.recipe import Generator, Looking, Recognition, Timing
from fer_utils.training import fit, predict

from .test_networks import STAGE_1, STAGE_2, faces, same

pytestmark = pytest.mark.usefixtures("one_thread")
LOOKING = Looking().at("smoke")
RECOGNITION = replace(STAGE_2, pretraining_steps=4, lab_steps=3)


def make_context(folder, id="ws-lgan/table-8", dataset="facsynth", seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    return RunContext(id, Profile.SMOKE, dataset, seed, folder, data=str(folder))


def posed(count=28, people=7):
    """Lab faces: as the wild ones, a few people who show all classes, without a test part."""
    found = faces(count, seed=3)
    return found.replace(identities=np.arange(count) // 7 % people, split=np.full(count, "none"), name="lab")


def known(count=28):
    """Faces of 16x16 whose eyes are above and whose mouths are below; of the last of seven both are covered."""
    masks = np.ones((count, 16, 16), dtype=np.uint8)
    seen = np.arange(count) % 7 < 6
    masks[seen, 2:6, 2:14], masks[seen, 10:14, 4:12] = 3, 5
    truth = pd.DataFrame({
        "yaw": np.resize([0.0, -20.0, 45.0, 14.9], count), "light": np.resize(["soft", "back"], count),
        "occlusion": np.resize(["none", "sunglasses", "mask"], count),
    })
    split = np.where(np.arange(count) % 2, "test", "train")
    return faces(count).replace(masks=masks, truth=truth, split=split)


# -- where maps lie ---------------------------------------------------------------------------------------------------


def test_maps_that_are_the_truth_get_one():
    some = known()
    truth = (some.masks == 3).astype(np.float32)
    score = score_places("eyes map", "basic", truth, some, "eyes", 0.5, LOOKING)
    own = {name: value for name, value in score.metrics.items() if name.startswith("eyes")}
    assert set(own.values()) == {1.0}
    assert (score.metrics["mouth pointing"], score.metrics["mouth IoU"]) == (0, 0), "eyes are not the mouth"
    assert np.isnan(score.values["eyes IoU"]).sum() == 4, "what is covered plays no part"
    assert score.series["threshold"] == [0.5] and len(score.series["eyes IoU by threshold"]) == len(LOOKING.grid)
    describe_score(score)


def test_overlap_is_kept_face_by_face_and_by_condition():
    some, rng = known(), np.random.default_rng(0)
    maps = rng.random((28, 4, 4)).astype(np.float32)
    score = score_places("mouth map", "basic", maps, some, "mouth", 0.4, LOOKING)
    for name, found in score.values.items():
        assert score.metrics[name] == pytest.approx(np.nanmean(found))
    for what in ("pointing", "IoU"):
        for kinds in ("yaw", "occlusion", "light"):
            names = [name for name in score.values if name.startswith(f"mouth {what}, {kinds}")]
            parts = np.stack([score.values[name] for name in names])
            assert (np.isfinite(parts).sum(0) == np.isfinite(score.values[f"mouth {what}"])).all(), "each face once"
    short = score_places("eyes map", "basic", maps, some, "eyes", 0.4, LOOKING, by_condition=False)
    assert not any("," in name for name in short.metrics)


def test_conditions_are_those_of_the_truth():
    found = dict(list_conditions(known(), LOOKING))
    assert list(found) == [
        "yaw 0 to 15", "yaw 15 to 30", "yaw from 30", "occlusion mask", "occlusion none", "occlusion sunglasses",
        "light back", "light soft",
    ]
    assert [rows[:4].tolist() for name, rows in found.items() if name.startswith("yaw")] == [
        [True, False, False, True], [False, True, False, False], [False, False, True, False]
    ]


def test_the_threshold_is_the_one_that_fits():
    regions = known().masks == 5
    maps = np.where(regions, 0.75, 0.35).astype(np.float32)
    assert choose_threshold(maps, regions, (0.1, 0.3, 0.5, 0.8)) == 0.5
    assert choose_threshold(maps[:1], regions, (0.3, 0.4, 0.8)) == 0.4


def test_places_are_chosen_on_training_people_alone(tmp_path, monkeypatch):
    """Test faces turned upside down change what templates get, not what they are."""
    some = known(56)
    turned = np.array(some.masks)
    turned[some.split == "test"] = turned[some.split == "test", ::-1]
    looking, found = replace(LOOKING, validation=0.5), []
    for masks in (some.masks, turned):
        seen = some.replace(masks=masks)
        monkeypatch.setattr(figures, "load_rendered", lambda context, role, images, seen=seen: (role, seen))
        scores = figures.measure_places(make_context(tmp_path), looking)
        found.append({(score.row, score.role): score for score in scores})
    upright, upside_down = found
    eyes, chance = upright["eyes template", "basic"], upright["chance", "basic"]
    assert eyes.metrics["eyes pointing"] == eyes.metrics["eyes IoU"] == 1 and eyes.metrics["mouth pointing"] == 0
    assert chance.metrics["mouth pointing"] == chance.metrics["mouth IoU"] == 32 / 256
    assert upside_down["eyes template", "basic"].metrics["eyes pointing"] == 0
    assert eyes.series["threshold"] == upside_down["eyes template", "basic"].series["threshold"]


def test_moved_faces_take_their_regions_along():
    some = known(56)
    moved = figures.move_faces(some, 3, seed=4)
    again = figures.move_faces(some, 3, seed=4)
    assert np.array_equal(moved.images, again.images) and np.array_equal(moved.masks, again.masks)
    assert not np.array_equal(moved.masks, figures.move_faces(some, 3, seed=5).masks)
    steps = np.random.default_rng(4).integers(-3, 4, (56, 2))
    assert len(np.unique(steps, axis=0)) > 20
    for k, (down, right) in enumerate(steps):
        inner = slice(3, -3), slice(3, -3)
        for whole, found in ((some.images, moved.images), (some.masks, moved.masks)):
            assert np.array_equal(np.roll(whole[k], (down, right), (0, 1))[inner], found[k][inner])
    full = some.replace(masks=np.ones_like(some.masks))
    shares = figures.move_faces(full, 3, seed=4).masks.mean((1, 2))
    size = some.masks.shape[1]
    np.testing.assert_allclose(shares, np.prod(1 - np.abs(steps) / size, axis=1), err_msg="what comes in belongs to no region")
    assert np.array_equal(figures.move_faces(some, 0).images, some.images)


def test_a_template_misses_faces_that_were_moved(tmp_path, monkeypatch):
    some = known(56)
    monkeypatch.setattr(figures, "load_rendered", lambda context, role, images: (role, some))
    found = figures.measure_places(make_context(tmp_path), replace(LOOKING, validation=0.5, reach=6))
    scores = {(score.row, score.role): score.metrics["eyes IoU"] for score in found if "template" in score.row}
    assert scores["eyes template, moved", "basic"] < 0.8 < scores["eyes template", "basic"] == 1


def test_a_mean_map_is_one_for_all(tmp_path, monkeypatch):
    some, branches = known(56), tuple(build_attribute_network(STAGE_1, seed) for seed in (1, 2))
    monkeypatch.setattr(figures, "load_rendered", lambda context, role, images: (role, some))
    monkeypatch.setattr(figures, "load_branches", lambda context: branches)
    looking = replace(LOOKING, validation=0.5)
    scores = {(s.row, s.role): s for s in figures.measure_maps(make_context(tmp_path), looking, STAGE_1)}
    assert {row for row, _ in scores} == {
        f"{before}{part} map{behind}" for part in ("eyes", "mouth")
        for before, behind in (("", ""), ("mean ", ""), ("", " of yes"), ("", ", moved"))
    }
    assert len(np.unique(scores["mean eyes map", "basic"].values["eyes pointing"][:6])) == 1
    maps = kept.compute_maps(branches, "predicted", some.test)[:, 0]
    (at,) = scores["eyes map", "basic"].series["threshold"]
    again = score_places("eyes map", "basic", maps, some.test, "eyes", at, looking)
    assert again.metrics == scores["eyes map", "basic"].metrics


def test_rendered_faces_stand_in_under_another_name(tmp_path, monkeypatch):
    for module in ("fer_utils.experiments.context", "fer_utils.papers.ws_lgan.kept"):
        monkeypatch.setattr(f"{module}.load_role", lambda *args, **options: known())
    own, other = (make_context(tmp_path / dataset, dataset=dataset) for dataset in ("facsynth", "rafdb"))
    assert [load_rendered(context, "basic", None)[0] for context in (own, other)] == ["basic", "facsynth basic"]
    assert [context.loaded[0]["role"] for context in (own, other)] == ["basic", "facsynth basic"]
    assert own.loaded[0]["sha256"] == other.loaded[0]["sha256"] and other.loaded[0]["options"]["masks"]


# -- attributes -------------------------------------------------------------------------------------------------------


def test_a_dropped_attribute_reaches_the_draw(tmp_path, monkeypatch):
    some, asked = known(56), []
    branches, other = tuple(build_attribute_network(STAGE_1, k) for k in (1, 2)), build_attribute_network(STAGE_1, 9)
    monkeypatch.setattr(figures, "load_rendered", lambda context, role, images: (role, some))
    monkeypatch.setattr(figures, "load_branches", lambda context: branches)
    monkeypatch.setattr(figures, "draw_task", lambda *args, without: asked.append((args[1], without)))
    monkeypatch.setattr(figures, "train_attribute_network", lambda *args, **options: (other, None))
    looking = replace(LOOKING, validation=0.5)
    found = {}
    for dropped in (None, "Smiling"):
        scores = figures.measure_dropped(make_context(tmp_path), "mouth", dropped, "a row", looking, STAGE_1)
        found[dropped] = {score.role: score.metrics for score in scores}
    assert asked == [("mouth", ("Smiling",))]
    assert set(found[None]) == {"basic", "lab"} and found[None] != found["Smiling"]


def test_tested_people_do_not_teach(tmp_path, monkeypatch):
    """In all three sets of FACSynth, whose numbers of people are the same."""
    wild, compound, lab = (faces(280, seed=seed) for seed in range(3))
    people = {"basic": np.arange(280), "compound": np.arange(280) + 140, "lab": np.arange(280) + 270}
    sets = {}
    for name, some in (("basic", wild), ("compound", compound), ("lab", lab)):
        sets[name] = some.replace(name=name, truth=some.truth.assign(identity=people[name]))
    monkeypatch.setattr(RunContext, "load_faces", lambda self, role, **options: sets[role])
    recipe = replace(STAGE_1, images=40, validation=8)
    task = attribute_networks.draw_task(make_context(tmp_path), "mouth", recipe, 0)
    taught = set(task.train.identities) | set(task.validation.identities)
    tested = set(people["lab"])
    for name in ("basic", "compound"):
        tested |= set(people[name][sets[name].split == "test"])
    assert taught and not taught & tested


# -- the unit ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def unit(monkeypatch):
    """A network whose unit says something, on faces whose occlusion is known."""
    torch.manual_seed(0)
    model, some = build_network("WS-LGAN", STAGE_2, STAGE_1, 0).eval(), known(56)
    with torch.no_grad():
        for matrix in model.unit.select:
            matrix.weight.normal_(std=3)
        model.classifier.weight.normal_()
    monkeypatch.setattr(figures, "load_faces", lambda *args: some)
    monkeypatch.setattr(RunContext, "load_network", lambda *args: model)
    return model, some


def test_the_unit_says_what_the_network_says(unit, tmp_path):
    model, some = unit
    weights = compute_unit(model, some.test)[1]
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-5)
    scores = {score.row: score for score in figures.measure_unit(make_context(tmp_path), LOOKING)}
    np.testing.assert_array_equal(scores["own weights"].guess, predict(model, some.test.images))
    assert {"nothing covered", "eyes covered", "mouth covered", *BASIC} <= set(scores)
    covered = some.test.truth["occlusion"].to_numpy() == "mask"
    row = scores["mouth covered"]
    np.testing.assert_array_equal(row.guess, scores["own weights"].guess[covered])
    np.testing.assert_allclose(row.values["eyes weight"], weights[covered, 0].mean(1), rtol=1e-6)
    assert sum(row.metrics[f"{branch} weight"] for branch in model.branches) == pytest.approx(1, rel=1e-5)


def test_nobody_gets_its_own_weights(unit, tmp_path, monkeypatch):
    model, some = unit
    given = []
    real = figures._classify
    monkeypatch.setattr(figures, "_classify", lambda *args: given.append(args[2]) or real(*args))
    figures.measure_unit(make_context(tmp_path), LOOKING)
    own, others, mean = given
    rows = {row.tobytes(): i for i, row in enumerate(own)}
    taken = [rows[row.tobytes()] for row in others]
    assert sorted(taken) == list(range(len(own))) and not any(i == k for i, k in enumerate(taken))
    np.testing.assert_allclose(mean[0], compute_unit(model, some.train)[1].mean(0), rtol=1e-6)
    assert (mean == mean[:1]).all()


# -- separation -------------------------------------------------------------------------------------------------------


def test_separation_by_hand():
    features = np.array([[0.0], [1.0], [10.0], [12.0], [0.5]])
    labels, people = np.array([0, 0, 1, 1, 0]), np.array([0, 1, 2, 3, 0])
    found = measure_separation(features, labels, people)
    assert found[0] == pytest.approx(11 / 1), "the second frame of a person is not counted"
    assert found[1] == pytest.approx(((9 + 11) / 2) / ((1 + 0.5) / 2))
    assert found[2] == pytest.approx(((10 + 9 + 9.5) / 3) / 2)
    alone = measure_separation(features[:3], labels[:3], people[:3])
    assert np.isnan(alone[2]) and np.isfinite(alone[:2]).all()


def test_separation_of_noise_is_one_and_of_clear_classes_more():
    rng = np.random.default_rng(0)
    labels = np.arange(600) % 3
    noise = rng.normal(size=(600, 8))
    assert np.nanmean(measure_separation(noise, labels)) == pytest.approx(1, abs=0.02)
    assert np.nanmean(measure_separation(noise + 20 * np.eye(8)[labels], labels)) > 5


# -- trainings --------------------------------------------------------------------------------------------------------


@pytest.fixture
def toys(monkeypatch):
    """Toy faces in both roles, and an untrained generator."""
    monkeypatch.setattr(tables, "load_faces", lambda context, role, images: posed() if role == "lab" else faces(56))
    branches = tuple(build_attribute_network(STAGE_1, k) for k in (1, 2))
    monkeypatch.setattr(tables, "load_branches", lambda context: branches)


def measure(folder, row="WS-LGAN"):
    context = make_context(folder)
    return context, tables.measure_network(context, row, ["basic", "lab"], RECOGNITION, STAGE_1, None)


def test_folds_start_from_the_wild_network_and_test_strangers(toys, tmp_path, monkeypatch):
    calls = []
    real = tables.train_network

    def train(model, data, method, recipe, seed, **options):
        calls.append((model.state_dict()["body.0.weight"].clone(), len(data), recipe.steps, options["pretraining"]))
        history = real(model, data, method, recipe, seed, **options)
        calls[-1] += (model.state_dict()["body.0.weight"].clone(),)
        return history

    monkeypatch.setattr(tables, "train_network", train)
    context, scores = measure(tmp_path)
    wild, *folds = calls
    assert wild[1:4] == (14 * 42, RECOGNITION.steps, True) and len(folds) == RECOGNITION.folds
    assert all(torch.equal(start, wild[4]) and not fresh for start, _, _, fresh, _ in folds)
    assert sum(count for _, count, _, _, _ in folds) == 14 * 28 * (len(folds) - 1), "a face trains in all but its own"
    assert {steps for _, _, steps, _, _ in folds} == {RECOGNITION.lab_steps}
    assert [(score.role, len(score.guess)) for score in scores] == [("basic", 14), ("lab", 28)]
    assert set(context.files) == {"WS-LGAN-0.npz", "WS-LGAN-0.safetensors"}


def test_what_a_run_leaves_can_be_scored_again(toys, tmp_path, monkeypatch):
    context, scores = measure(tmp_path, "WS-LGAN-WCL")
    for name, content in context.files.items():
        path = tmp_path / "checkpoints/smoke/facsynth/ws-lgan/table-10" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    reading = make_context(tmp_path, "ws-lgan/contrastive-features")
    kept_then = load_kept(reading, "WS-LGAN-WCL")
    assert [kept_then.guesses[score.role].tolist() for score in scores] == [score.guess.tolist() for score in scores]
    again = tables.measure_kept(reading, "WS-LGAN-WCL", ["basic", "lab"], RECOGNITION)
    assert [s.metrics for s in again] == [s.metrics for s in scores]
    apart = tables.measure_separations(reading, "WS-LGAN-WCL", ["basic", "lab"], RECOGNITION)
    for score in apart:
        assert set(score.metrics) == {f"{branch} separation" for branch in ("eyes", "mouth", "global")}
        describe_score(score)
    assert [read["file"] for read in reading.read] == ["WS-LGAN-WCL-0.npz"]


def test_untrained_maps_are_random(toys, tmp_path, monkeypatch):
    built = []
    real = tables.build_network
    monkeypatch.setattr(tables, "build_network", lambda *args, **given: built.append(real(*args, **given)) or built[-1])
    for row in ("WS-LGAN-Sum", "WS-LGAN-Sum, untrained AMG"):
        measure(tmp_path / row, row)
    trained, untrained = (model.generator.eyes.state_dict() for model in built)
    assert same(trained, build_attribute_network(STAGE_1, 1).state_dict()) and not same(trained, untrained)
    assert built[0].fusion == built[1].fusion == "sum"


def test_a_killed_run_goes_on_where_it_was(toys, tmp_path, monkeypatch, stop_after):
    """Once in each training: the wild one, and that of each fold."""
    monkeypatch.setattr(networks, "fit", lambda *args, **options: fit(*args, checkpoint_seconds=0, **options))
    context, expected = measure(tmp_path / "whole")
    stop_after(RECOGNITION.lab_steps - 1)
    for _ in range(1 + RECOGNITION.folds):
        with pytest.raises(InterruptedError):
            measure(tmp_path / "cut")
    again, found = measure(tmp_path / "cut")
    assert [s.guess.tolist() for s in found] == [s.guess.tolist() for s in expected]
    assert again.files["WS-LGAN-0.safetensors"] == context.files["WS-LGAN-0.safetensors"]


# -- cost -------------------------------------------------------------------------------------------------------------


def test_parts_add_up(tmp_path):
    recipe, timing = replace(STAGE_2, batch_size=8, precision="bfloat16"), Timing(trials=2, steps=1)
    scores = {score.row: score for score in cost.measure_cost(make_context(tmp_path), recipe, STAGE_1, timing)}
    count = {row: score.metrics["parameters"] for row, score in scores.items()}
    assert count["AMG"] == 2 * count["one branch of AMG"] and count["bilinear pooling"] == 0
    assert count["WS-LGAN"] == count["AMG"] + count["WS-LGAN on kept maps"]
    assert count["GFNet"] < count["WS-LGAN on kept maps"] and "training time" not in scores["AMG"].metrics
    for score in scores.values():
        describe_score(score)
        assert score.metrics["inference time"] > 0 and score.metrics["inference memory"] > 0
    assert scores["FE"].metrics["training memory"] > 2 * scores["FE"].metrics["inference memory"]


def test_recipes_change_the_size_alone():
    for recipe in (Looking(), Timing()):
        assert recipe.at("paper") == recipe.at("book") == recipe
    paper, book = Recognition(), Recognition().at("book")
    assert (book.learning_rate, book.pretraining_rate, book.folds) == (paper.learning_rate, paper.pretraining_rate, 10)
    assert Generator().at("book").tested is None


def test_kept_arrays_come_back(tmp_path):
    context = make_context(tmp_path)
    save_kept(context, "GFNet", Kept({"basic": np.arange(3, dtype=np.int8)}, {"lab": np.ones((3, 2), np.float16)}))
    path = tmp_path / "checkpoints/smoke/facsynth/ws-lgan/table-8/GFNet-0.npz"
    path.parent.mkdir(parents=True)
    path.write_bytes(context.files["GFNet-0.npz"])
    found = load_kept(make_context(tmp_path), "GFNet")
    assert list(found.guesses) == ["basic"] and list(found.separations) == ["lab"]
    assert found.guesses["basic"].tolist() == [0, 1, 2]

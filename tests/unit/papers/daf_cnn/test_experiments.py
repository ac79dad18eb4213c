"""The experiments: what is planned, what a small one gives, and all of them once at the smoke profile."""

import json
from dataclasses import replace
from types import SimpleNamespace

import conftest
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import silhouette_samples

from fer_utils.datasets.base import FaceDataset
from fer_utils.errors import DataError
from fer_utils.experiments import (
    RunContext,
    context,
    find_experiment,
    list_experiments,
    load_published,
    read_ledger,
    run_experiments,
)
from fer_utils.experiments.recipe import Profile
from fer_utils.labels import BASIC
from fer_utils.papers.daf_cnn import networks, places, probes, tables
from fer_utils.papers.daf_cnn.figures import draw_faces, score_embeddings
from fer_utils.papers.daf_cnn.networks import hold_back, train_network
from fer_utils.papers.daf_cnn.places import UNITS, cut_window, find_moved, look_at, score_maps
from fer_utils.papers.daf_cnn.probes import explain_weights, measure_rule
from fer_utils.papers.daf_cnn.recipe import DAFCNN, VARIANTS, CentreRules, DAFCNNSmallSet
from fer_utils.papers.daf_cnn.tables import GAPS, STAGES, measure_network, measure_second_stage, switch_gap
from fer_utils.papers.daf_cnn.training import DrawnBatches, build_network, compute_layers, prepare_faces
from fer_utils.splits import Split

from ..shipped import load_few

PAPER = load_published("daf-cnn")
IDS = [experiment.id for experiment in list_experiments() if experiment.id.startswith("daf-cnn/")]


def make_faces(toy, count=63, split=True, size=27):
    images, labels = toy.faces(count, size=size)
    names = np.array([f"{i:03d}.png" for i in range(count)])
    parts = np.where(np.arange(count) // 7 % 3 == 2, "test", "train") if split else np.full(count, "none")
    return FaceDataset("toy", images[..., 0], labels, BASIC, names, parts, identities=np.arange(count) // 2)


def make_recipe(toy, **changes):
    """Six faces of a class cannot be held back by the tenth."""
    return toy.recipe(validation=0.25, **changes)


def make_context(folder, seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    return RunContext("daf-cnn/table-1", Profile.SMOKE, "facsynth", seed, folder, data=str(folder))


@pytest.fixture
def wild(toy, monkeypatch):
    """Toy faces in the place of the large set."""
    for module in (networks, tables, probes, places):
        monkeypatch.setattr(module, "load_wild", lambda *_, **__: make_faces(toy))
    return make_faces(toy)


# -- plans -------------------------------------------------------------------------------------------------------------


def test_what_claims_compare_is_planned_by_its_name():
    planned = {id: {run.name for run in find_experiment(id).plan("book", "facsynth")} for id in IDS}
    for claim in PAPER.claims:
        for comparison in claim.comparisons:
            for _, cell in comparison.terms:
                known = planned[cell.item] | set(find_experiment(cell.item).omits)
                # one run of channel-attention gives several rows, which begin with its name
                row = cell.row.split()[0] if cell.item == "daf-cnn/channel-attention" else cell.row
                assert claim.not_attempted or row in known, (claim.id, cell)
    for name in ("gaps", "table-1", "section-3-2-3", "section-4-3-2", "attention-regions", "figure-4", "figure-5"):
        assert planned[f"daf-cnn/{name}"] == set(PAPER.item(name).rows)
    for name in ("table-2", "table-3"):
        assert planned[f"daf-cnn/{name}"] | set(find_experiment(f"daf-cnn/{name}").omits) == set(PAPER.item(name).rows)
    assert set(IDS) == {f"daf-cnn/{name}" for name in PAPER.items} - {
        f"daf-cnn/section-{name}" for name in ("3", "4-1", "4-2")
    }


def test_only_what_the_faces_allow_is_planned():
    only_facsynth, small = {"channel-attention", "attention-regions"}, {"section-4-3-2", "table-3", "figure-3"}
    everything = {id.split("/")[1] for id in IDS}
    expected = {
        "facsynth": everything,
        "muxspace": everything - only_facsynth - small,
        "rafdb": everything - only_facsynth,
        "ckplus": set(),
    }
    for dataset, wanted in expected.items():
        assert {id.split("/")[1] for id in IDS if find_experiment(id).plan("book", dataset)} == wanted
    names = {run.name for run in find_experiment("daf-cnn/table-3").plan("book", "rafdb")}
    assert names == {"DAF-CNN", "DAF-CNN, film"}, "SFEW is the paper's small set"


def test_a_network_is_trained_once():
    """Of what trains, no two runs of a seed have the same settings; all that reads names the experiment that trains."""
    seen = []
    for id in IDS:
        for run in find_experiment(id).plan("book", "facsynth"):
            if run.function.endswith(":measure_network"):
                settings = {name: value for name, value in run.kept_arguments.items() if name not in ("row", "keep")}
                seen.append(json.dumps([settings, run.seed], sort_keys=True))
    assert len(seen) == len(set(seen)) == 5 * 4 + 3 + 2 * len(GAPS)
    (whole,) = [run for run in find_experiment("daf-cnn/table-1").plan("book", "facsynth", 1) if run.name == "DAF-CNN"]
    assert whole.arguments["recipe"] == DAFCNN().at("book") and whole.arguments["metric"]


@pytest.mark.parametrize("profile", ["smoke", "book", "paper"])
def test_a_gap_changes_one_thing(profile):
    recipe = DAFCNN().at(profile)
    for gap in GAPS:
        switched = switch_gap(recipe, gap)
        changed = [name for name in vars(recipe) if getattr(recipe, name) != getattr(switched, name)]
        assert len(changed) == (0 if gap == "followed on the test faces" else 1)
    assert -(-recipe.input_size // 2 ** switch_gap(recipe, "maps of 3x3").pools) == 3
    with pytest.raises(ValueError, match=r"unknown gap 'six pools'; expected one of maps of 3x3, "):
        switch_gap(recipe, "six pools")


# -- one training ------------------------------------------------------------------------------------------------------


def test_people_held_back_are_not_learned_from(toy):
    faces = make_faces(toy)
    learned, watched = hold_back(faces.train, DAFCNN(validation=0.25))
    assert len(learned) + len(watched) == len(faces.train) and len(watched) >= 4
    assert not set(learned.identities) & set(watched.identities)


@pytest.mark.parametrize("followed", ["people held back", "test faces"])
def test_what_the_rate_follows(toy, wild, tmp_path, monkeypatch, followed):
    given, made = [], SimpleNamespace(model=None, logs=[], plateau=SimpleNamespace(rates=[], reloads=[]))
    monkeypatch.setattr(
        tables, "train_network", lambda _, learned, watched, recipe, **options: given.append((learned, watched)) or made
    )
    monkeypatch.setattr(tables, "guess_faces", lambda _, faces, recipe: faces.labels)
    (score,) = measure_network(make_context(tmp_path), "row", make_recipe(toy), followed=followed)
    ((learned, watched),) = given
    assert set(watched.names) == set(
        (wild.test if followed == "test faces" else hold_back(wild.train, make_recipe(toy))[1]).names
    )
    assert set(learned.names) == set(hold_back(wild.train, make_recipe(toy))[0].names)
    assert score.metrics["accuracy"] == 1 and len(score.truth) == len(wild.test)


def test_a_killed_run_gives_what_another_gives_and_leaves_a_network(toy, wild, tmp_path, monkeypatch):
    recipe = make_recipe(toy, epochs=3, dropout=0.2)
    drawn, calls = DrawnBatches.__getitem__, []

    def draw(self, number):
        calls.append(self.epoch)
        if self.epoch == 2 and len(calls) < 20:
            calls.extend([2] * 20)
            raise KeyboardInterrupt
        return drawn(self, number)

    whole, parts = make_context(tmp_path / "whole", 3), make_context(tmp_path / "parts", 3)
    arguments = {"row": "DAF-CNN", "recipe": recipe, "keep": True}
    (wanted,) = measure_network(whole, **arguments)
    monkeypatch.setattr(DrawnBatches, "__getitem__", draw)
    with pytest.raises(KeyboardInterrupt):
        measure_network(parts, **arguments)
    (found,) = measure_network(parts, **arguments)
    np.testing.assert_array_equal(found.guess, wanted.guess)
    assert found.series == wanted.series and len(found.series["held-back accuracy"]) == 3
    assert parts.files == whole.files and set(parts.files) == {"DAF-CNN-3.safetensors", "DAF-CNN-3.npz"}

    # the network that it left says the same, but for half precision
    for name, content in whole.files.items():
        conftest.put(whole.workdir, f"checkpoints/smoke/facsynth/daf-cnn/table-1/{name}", content)
    network = networks.load_network(whole, "DAF-CNN")
    assert (networks.guess_faces(network, wild.test, recipe) == wanted.guess).mean() > 0.9
    (kept,) = networks.measure_kept(whole, networks.TABLE, "DAF-CNN", "another", "basic", recipe)
    np.testing.assert_array_equal(kept.guess, wanted.guess)
    assert kept.row == "another" and {entry["file"] for entry in whole.read} == set(whole.files)
    with pytest.raises(DataError, match=r"not found.*ferbook reproduce daf-cnn/table-1"):
        networks.load_network(whole, "DAF-CNN_NOatt")


@pytest.mark.parametrize(
    "row", ["from scratch", "pre-trained with softmax, fine-tuned with TC loss in place of softmax"]
)
def test_the_second_stage_tests_everybody_once(toy, tmp_path, monkeypatch, row):
    """Each fold starts from the network of Table 1, but for the last layer, and nobody is learned from and tested."""
    recipe = replace(
        DAFCNNSmallSet(),
        **{name: value for name, value in vars(make_recipe(toy, epochs=1)).items() if name != "margin"},
        folds=3,
        softmax_weight=STAGES[row][2],
    )
    recipe = replace(recipe, images=None)
    faces, source = make_faces(toy, 56, split=False), build_network(recipe, seed=9)
    starts = []

    def train(context, learned, watched, recipe, *, start, checkpoint, **options):
        trained = train_network(context, learned, watched, recipe, start=start, checkpoint=checkpoint, **options)
        starts.append((start, checkpoint, set(learned.names) | set(watched.names)))
        return trained

    monkeypatch.setattr(tables, "load_small_set", lambda *_: faces)
    monkeypatch.setattr(tables, "load_network", lambda _, name: {"DAF-CNN_NOtcl": source}[name])
    monkeypatch.setattr(tables, "train_network", train)
    context = make_context(tmp_path)
    (score,) = measure_second_stage(context, row, "lab", STAGES[row][0], STAGES[row][1], recipe)
    assert len(score.guess) == 56 and score.row == row and score.role == "lab"
    assert [checkpoint for _, checkpoint, _ in starts] == ["training-0", "training-1", "training-2"]
    assert all((start is source) == (row != "from scratch") for start, _, _ in starts)
    assert sum(56 - len(names) for _, _, names in starts) == 56, "those who are not learned from are tested"
    (name,) = context.files
    assert name == f"{row.replace(' ', '-')}-0.npz"


# -- embeddings --------------------------------------------------------------------------------------------------------


def test_embeddings_are_scored_face_by_face(toy):
    faces = make_faces(toy)
    tight = 5 * np.eye(7)[faces.labels] + np.random.default_rng(0).normal(0, 0.1, (63, 7))
    loose = tight + np.random.default_rng(1).normal(0, 3, (63, 7))
    scores = [score_embeddings("row", faces, embeddings.astype(np.float32)) for embeddings in (tight, loose)]
    for metric in ("silhouette", "inter/intra ratio"):
        assert scores[0].metrics[metric] > 3 * scores[1].metrics[metric]
        assert all(np.mean(score.values[metric]) == pytest.approx(score.metrics[metric]) for score in scores)
    assert scores[0].metrics["silhouette"] == pytest.approx(silhouette_samples(tight, faces.labels).mean(), abs=1e-4)
    assert scores[0].metrics["silhouette"] > 0.9 and len(scores[0].people) == 63
    assert (
        draw_faces(faces, 10).tolist() == sorted(set(draw_faces(faces, 10).tolist()))
        and len(draw_faces(faces, 100)) == 63
    )


# -- probes ------------------------------------------------------------------------------------------------------------


def test_the_printed_rule_ends_in_no_number(toy, wild, tmp_path):
    found = {}
    for rule in ("corrected", "printed"):
        recipe = replace(
            CentreRules().at("smoke"), **vars(make_recipe(toy, epochs=60, centre_rule=rule, centre_rate=1.0))
        )
        found[rule] = measure_rule(make_context(tmp_path / rule), rule, recipe)
    steps, growth = (
        {rule: scores[0].metrics[name] for rule, scores in found.items()} for name in ("steps", "growth of the centres")
    )
    assert steps["corrected"] == 60 * (38 // 14) > steps["printed"] and growth["printed"] > 15 > 4 > growth["corrected"]
    said, nearest = found["corrected"][1:]
    assert nearest.row == "corrected, nearest centre" and nearest.metrics["accuracy"] > 0.6 < said.metrics["accuracy"]
    assert all(score.metrics["mean diagonal"] < 0.4 for score in found["printed"][1:])
    assert all(np.isfinite(list(score.metrics.values())).all() for scores in found.values() for score in scores)


def make_splits(count, folds=3):
    names = np.array([str(i) for i in range(count)])
    tests = [np.arange(count)[k::folds] for k in range(folds)]
    return [Split(np.setdiff1d(np.arange(count), test), test, "toy", None, names) for test in tests]


def test_what_explains_weights():
    rng = np.random.default_rng(0)
    light, expression = rng.normal(size=(600, 3)), np.eye(7)[rng.integers(0, 7, 600)]
    weights = 0.5 + light @ rng.normal(size=(3, 8)) + 0.1 * expression @ rng.normal(size=(7, 8))
    splits = make_splits(600)
    of_light, each = explain_weights(weights, light, splits)
    of_expression, _ = explain_weights(weights, expression, splits)
    assert 0.97 < of_light < 1 and abs(of_expression) < 0.05 and each.mean() == pytest.approx(of_light)
    assert explain_weights(weights, np.hstack([light, expression]), splits)[0] == pytest.approx(1)
    assert -0.05 < explain_weights(rng.normal(size=(600, 8)), light, splits)[0] < 0.02


def test_weights_are_explained_beside_what_they_are_computed_from(toy, wild, monkeypatch):
    faces, recipe, rng = wild.test, toy.recipe(), np.random.default_rng(0)
    maps, weights = rng.random((len(faces), 2, 3, 8)), rng.random((len(faces), 1, 1, 8))
    last = f"block{len(recipe.convolutions)}_convolution{recipe.convolutions[-1]}_relu"
    layers = {"channel_attention": weights, last: maps}
    monkeypatch.setattr(probes, "load_network", lambda *_: None)
    monkeypatch.setattr(probes, "ask_network", lambda network, faces, recipe, names: {name: layers[name] for name in names})
    monkeypatch.setattr(probes, "describe_factors", lambda faces: {"expression": np.eye(7)[faces.labels]})
    monkeypatch.setattr(probes, "subject_kfold", lambda faces, folds: make_splits(len(faces)))
    numbers = {"weights": weights[:, 0, 0], "means": maps.mean((1, 2)), "maxima": maps.max((1, 2))}
    scores = probes.measure_channels(None, recipe)
    pairs = zip(scores[::2], scores[1::2], strict=True)
    for (kind, each), (whole, explained) in zip(numbers.items(), pairs, strict=True):
        assert (whole.row, explained.row) == (f"{kind} over all faces", f"{kind} by expression")
        assert whole.metrics["variance"] == pytest.approx(each.var(0).mean())
        assert {whole.row, explained.row} <= set(PAPER.item("channel-attention").rows)


# -- places ------------------------------------------------------------------------------------------------------------


def make_masked():
    """Three faces: the mouth smiles; the brows rise but are covered, as the mouth is; nothing moves."""
    masks = np.zeros((3, 54, 54), np.uint8)
    masks[:, 40:46, 20:34], masks[:, 8:12, 10:44] = 5, 2
    masks[1] = 6
    truth = pd.DataFrame(np.zeros((3, 43)), columns=[f"au_{i}" for i in range(1, 44)])
    truth.loc[0, ["au_12", "au_1"]] = 0.9, 0.1
    truth.loc[1, "au_1"] = 0.9
    labels = np.array([BASIC.index(name) for name in ("happiness", "surprise", "neutral")])
    return FaceDataset(
        "masked",
        np.zeros((3, 54, 54), np.uint8),
        labels,
        BASIC,
        np.array(["a", "b", "c"]),
        np.full(3, "test"),
        identities=np.arange(3),
        masks=masks,
        truth=truth,
    )


def test_where_a_face_moves():
    faces, recipe = make_masked(), DAFCNN().at("book")
    moved = find_moved(faces)
    np.testing.assert_array_equal(moved[0], faces.masks[0] == 5)
    assert not moved[1:].any(), "what is covered is not seen, and a brow that moves by a trace does not count"
    window = cut_window(moved, recipe)
    assert window.shape == (3, 48, 48) and np.array_equal(window[0], moved[0, 3:51, 3:51])
    assert cut_window(np.zeros((1, 100, 100)), recipe).shape == (1, 88, 88)
    units = [unit for part in UNITS.values() for unit in part]
    assert len(units) == len(set(units))
    with pytest.raises(ValueError, match="does not know its action units"):
        find_moved(faces.replace(truth=None))


def test_a_map_of_the_truth_gets_everything():
    faces, recipe = make_masked(), DAFCNN().at("book")
    truth = cut_window(find_moved(faces), recipe).astype(np.float32)
    best, worst = (score_maps("row", maps, faces, recipe) for maps in (truth, 1 - truth))
    assert best.metrics == {"pointing": 1, "energy": 1, "overlap": 1}
    assert worst.metrics["pointing"] == worst.metrics["energy"] == 0
    assert all(np.isnan(each[1:]).all() for each in best.values.values())
    even = score_maps("row", np.ones((1, 6, 6), np.float32), faces, recipe)
    assert even.metrics["energy"] == pytest.approx(truth[0].mean())


def test_maps_are_the_network_s(toy):
    faces, recipe = make_faces(toy), replace(toy.recipe(), channels=(8, 16), dense=32)
    network = build_network(recipe, seed=1)
    wanted = compute_layers(network, prepare_faces(faces.images, recipe), ("spatial_attention",))["spatial_attention"][
        ..., 0
    ]
    np.testing.assert_allclose(look_at("spatial attention", network, faces, recipe), wanted, atol=1e-5)
    cam = look_at("Grad-CAM", network, faces, recipe)
    assert cam.shape == wanted.shape and cam.min() >= 0 and np.ptp(cam, axis=(1, 2)).max() > 0


# -- all of it ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_smoke_profile(tmp_path, monkeypatch):
    """On the shipped faces, a few of each class: every experiment, each from the files of the one before."""
    monkeypatch.setattr(context, "load_role", load_few(25))  # experiments take no more of them
    run_experiments(IDS, "smoke", "facsynth", data=tmp_path, seeds=1)
    ours = {id.split("/")[1]: read_ledger(id, "smoke", "facsynth", data=tmp_path) for id in IDS}

    def value(item, row, metric="accuracy", role="basic"):
        frame = ours[item]
        (found,) = frame.loc[(frame["row"] == row) & (frame["metric"] == metric) & (frame["role"] == role), "value"]
        return found

    for name, frame in ours.items():
        item = PAPER.item(name)
        rows = {item.confusion} if item.confusion else set(item.rows) - set(find_experiment(f"daf-cnn/{name}").omits)
        assert set(frame["row"]) == rows, name
    whole, best = value("table-1", "DAF-CNN"), "pre-trained with softmax, fine-tuned with TC loss"
    for item, row in (
        ("section-3-2-3", "cascaded"),
        ("gaps", "as settled"),
        ("table-2", "DAF-CNN"),
        ("figure-2", "DAF-CNN"),
    ):
        assert value(item, row) == whole
    for item in ("table-3", "figure-3"):
        assert value(item, "DAF-CNN", role="lab") == value("section-4-3-2", best, role="lab")
    assert all(-1 <= value(figure, row, "silhouette") <= 1 for figure in ("figure-4", "figure-5") for row in VARIANTS)
    assert value("step-time", "Keras", "step time", "") > 0
    assert value("channel-attention", "weights over all faces", "variance") > 0
    share = value("attention-regions", "anywhere", "pointing")
    assert 0 < share < 0.5 and value("attention-regions", "mean of training faces", "energy") > share
    with np.load(tmp_path / "checkpoints/smoke/facsynth/daf-cnn/figure-5/DAF-CNN-0.npz") as kept:
        assert kept["embedding"].dtype == np.float16 and len(kept["embedding"]) == len(kept["labels"])

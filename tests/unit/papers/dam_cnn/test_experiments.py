"""Every experiment at the smoke profile on FACSynth: its rows and metrics, what is kept, and that claims can be
judged."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest

from fer_utils.experiments import (
    LedgerReader,
    RunContext,
    find_experiment,
    judge_claim,
    list_experiments,
    load_published,
    run_experiments,
)
from fer_utils.experiments import context as context_module
from fer_utils.experiments.published import Cell
from fer_utils.experiments.recipe import Profile
from fer_utils.experiments.scores import unpack_values
from fer_utils.papers.dam_cnn import networks, probing, stages, tables
from fer_utils.papers.dam_cnn.figures import split_regions
from fer_utils.papers.dam_cnn.looks import (
    look_at_decoders,
    measure_neighbours,
    measure_silhouettes,
    spread_over_folds,
)
from fer_utils.papers.dam_cnn.networks import (
    PATHS,
    find_tested,
    load_looked,
    load_set,
    load_trunk_and_mask,
    name_paths,
    save_trunk_and_mask,
)
from fer_utils.papers.dam_cnn.protocol import find_sets
from fer_utils.papers.dam_cnn.recipe import Looks, StageOne, StageTwo, choose_recipes
from fer_utils.papers.dam_cnn.stages import build_serd_network, compute_salient, train_second

from ..shipped import load_few
from .toys import make_faces

pytestmark = pytest.mark.usefixtures("one_thread")

PAPER = load_published("dam-cnn")
IDS = [experiment.id for experiment in list_experiments() if experiment.id.startswith("dam-cnn/")]
FIRST, SECOND, LOOKS = StageOne().at("smoke"), StageTwo().at("smoke"), Looks().at("smoke")
#: No faces of ours play these roles.
ABSENT = {"lab-small", "tfeid", "baum2i", "fer2013", "fer2013-val", "film"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The folder in which all experiments were run, on a few faces of each class."""
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(context_module, "load_role", load_few())
        run_experiments(IDS, "smoke", "facsynth", data=folder)
    return folder


@pytest.fixture(scope="module")
def reader(data):
    return LedgerReader("smoke", "facsynth", data)


def measured(reader, item, row, role, metric):
    """What each run measured, where one did."""
    return [found.value for found in reader.measure(Cell(f"dam-cnn/{item}", row, role, metric))]


# -- rows and claims ---------------------------------------------------------------------------------------------------


def test_every_cell_of_every_claim_is_measured_or_said_not_to_be(reader):
    missing = set()
    for claim in PAPER.claims:
        for comparison in [] if claim.not_attempted else claim.comparisons:
            missing |= {cell for _, cell in comparison.terms if cell.role not in ABSENT and not reader.measure(cell)}
    assert not missing
    for item in ("table-6", "table-8", "table-9", "table-10"):
        id = f"dam-cnn/{item}"
        claims = [c for c in PAPER.claims if any(cell.item == id for p in c.comparisons for _, cell in p.terms)]
        assert all(claim.not_attempted for claim in claims) and f"dam-cnn/{item}" not in IDS, "audit only"


def test_rows_are_those_that_are_published(reader):
    for id in IDS:
        rows = set(PAPER.items[id.split("/")[1]].rows)
        confusion = PAPER.items[id.split("/")[1]].confusion
        assert {cell.row for cell in reader.list_cells(id)} <= ({confusion} if confusion else rows), id


def test_claims_on_parameters_need_no_faces(data):
    verdict = judge_claim("dam-cnn/paths-cost-parameters", "smoke", "facsynth", data)
    assert verdict.word == "reproduced"
    reader = LedgerReader("smoke", "facsynth", data)
    found = [measured(reader, "section-4-5", name_paths(n), "", "parameters")[0] for n in PATHS]
    assert [round(each, 1) for each in found] == [325.1, 427.9, 530.7, 633.5]
    convolutional = measured(reader, "section-4-5", "DAM-CNN, 5 paths, convolutional decoders", "", "parameters")[0]
    assert convolutional < 130


def test_a_network_is_trained_once(data):
    """Rows that several tables have are of the same predictions."""
    reader = LedgerReader("smoke", "facsynth", data)

    def guesses(item, row, role):
        return [found.guess.tolist() for found in reader.measure(Cell(f"dam-cnn/{item}", row, role, "accuracy"))]

    for role in ("basic", "lab"):
        assert guesses("table-2", "VGG-SERD", role) == guesses("table-4", "VGG-SERD", role)
        assert guesses("table-5", "DAM-CNN, 5 paths", role) == guesses("table-4", "DAM-CNN, 5 paths", role)
    assert guesses("table-3", "VGG-SERD", "basic") == guesses("table-4", "VGG-SERD", "basic")
    assert guesses("ceiling", "scaled", "basic") == guesses("table-4", "DAM-CNN, 2 paths", "basic")
    assert guesses("table-2", "VGG-Face", "basic") != guesses("table-2", "VGG-SERD", "basic")
    chosen = next(run for run in reader.ledger("dam-cnn/chosen-paths").runs)["outcomes"][-1]
    count = int(chosen["series"]["paths"][0])
    assert count in PATHS and chosen["row"] == "DAM-CNN, chosen paths"
    held = [measured(reader, "chosen-paths", name_paths(n), "held-back", "mean diagonal")[0] for n in PATHS]
    assert count == PATHS[int(np.argmax(held))]
    assert guesses("chosen-paths", "DAM-CNN, chosen paths", "basic") == guesses("table-4", name_paths(count), "basic")


def test_which_runs_are_planned():
    count = {id: len(find_experiment(id).plan("book", "facsynth")) for id in IDS}
    assert count["dam-cnn/table-4"] == 5 + 3 and count["dam-cnn/table-2"] == 2 * (5 + 3)
    assert count["dam-cnn/table-3"] == 3 * 5 and count["dam-cnn/table-7"] == 0
    assert count["dam-cnn/table-11"] == 5 + 5 and count["dam-cnn/section-4-3-2"] == 2 * 5
    for id in ("probes", "localisation", "figure-9", "section-4-3-2"):
        assert not find_experiment(f"dam-cnn/{id}").plan("book", "muxspace"), "regions and people are not known"
    assert len(find_experiment("dam-cnn/table-4").plan("book", "muxspace")) == 3
    roles = {run.arguments["role"] for run in find_experiment("dam-cnn/table-4").plan("paper", "rafdb")}
    assert roles == {"lab", "lab-small", "film", "basic"}
    for dataset in ("tfeid", "baum2i", "fer2013", "ckplus", "jaffe"):
        (run, *_) = find_experiment("dam-cnn/table-4").plan("paper", dataset)
        assert run.arguments["role"] == {"ckplus": "lab", "jaffe": "lab-small"}.get(dataset, dataset)


# -- numbers that follow from what is kept -----------------------------------------------------------------------------


def test_scores_follow_from_files(data, reader):
    folder = data / "checkpoints/smoke/facsynth/dam-cnn"
    with np.load(folder / "table-4/basic-0.npz") as file:
        mask, deletion = file["mask"].astype(float), file["deletion SERD mask"].astype(float)
        salient = file["silhouette salient"].astype(float)
    assert measured(reader, "regulariser", "VGG-SERD", "basic", "mean weight")[0] == pytest.approx(mask.mean(), abs=1e-6)
    area = (deletion[:, 1:] + deletion[:, :-1]).mean(1) / 2
    assert measured(reader, "localisation", "SERD mask", "basic", "deletion")[0] == pytest.approx(area.mean())
    assert measured(reader, "figure-6", "salient features", "basic", "silhouette")[0] == pytest.approx(salient.mean())
    with np.load(folder / "table-4/lab-0.npz") as file:
        fold, guess = file["fold"], file["guess VGG-SERD"]
    assert set(fold) == {0, 1} and (guess >= 0).all(), "every posed face is tested once"
    truth = reader.measure(Cell("dam-cnn/table-2", "VGG-SERD", "lab", "accuracy"))[0].truth
    rates = [(guess == truth)[fold == f].mean() for f in (0, 1)]
    assert measured(reader, "table-2", "VGG-SERD", "lab", "accuracy spread")[0] == pytest.approx(np.std(rates))


def test_regions_that_express_have_weights_of_their_own(reader):
    for role in ("basic", "lab"):
        rows = [f"VGG-SERD, {word} regions" for word in ("expressive", "other")]
        values = [measured(reader, "figure-9", row, role, "mean weight") for row in rows]
        assert all(-1 < found[0] < 1 for found in values) and values[0] != values[1]


def test_values_are_one_a_person(reader):
    (run, *_) = reader.ledger("dam-cnn/probes").runs
    score = run["outcomes"][0]
    found = unpack_values(score["values"]["identity"])
    assert np.isnan(found).sum() == len(found) / 2, "every second face is trained on"
    estimate = reader.estimate([PAPER.claim("suppresses-identity").comparisons[0]])[0]
    assert estimate.units == LOOKS.people and estimate.count == LOOKS.people


# -- the parts, by hand ------------------------------------------------------------------------------------------------


def test_accuracies_of_folds_and_their_spread():
    right, fold = np.array([1, 1, 0, 1, 0, 0], bool), np.array([0, 0, 0, 1, 1, 1])
    value, each = spread_over_folds(right, fold)
    assert value == pytest.approx((2 / 3 - 1 / 3) / 2) and each.mean() == pytest.approx(value)
    one_less = np.delete(right, 0), np.delete(fold, 0)
    assert (6 * value - 5 * spread_over_folds(*one_less)[0]) - each[0] == pytest.approx(
        np.mean([6 * value - 5 * spread_over_folds(np.delete(right, i), np.delete(fold, i))[0] for i in range(6)]) - value
    )


def test_neighbours_of_a_smooth_and_of_a_checkered_mask():
    smooth = np.tile(np.linspace(0, 1, 8), (8, 1))
    checkered = np.indices((8, 8)).sum(0) % 2
    found = measure_neighbours(np.stack([smooth, checkered, np.ones((8, 8))]))
    assert found[0] > 0.9 and found[1] == pytest.approx(-1) and np.isnan(found[2])


def test_clusters_that_part_have_silhouettes_near_1():
    labels = np.arange(12) % 3
    assert measure_silhouettes(10.0 * np.eye(3)[labels], labels).min() == pytest.approx(1)
    assert np.isnan(measure_silhouettes(np.zeros((4, 2)), np.zeros(4))).all()


def test_the_forehead_is_the_skin_above_the_brows():
    mask = np.ones((1, 6, 4), np.uint8)
    mask[0, 0], mask[0, 2, 1:3], mask[0, 3, 1], mask[0, 4, 2], mask[0, 5, 1] = 0, 2, 4, 5, 6
    expressive, other = split_regions(mask)
    assert expressive[0, 1].all() and expressive[0, 2].tolist() == [False, True, True, False] and expressive[0, 4, 2]
    assert other[0, 3].all() and not other[0, 0].any() and not other[0, 5, 1], "neither background nor what covers"
    assert not (expressive & other).any()


def test_decoders_that_draw_a_class_mean(tmp_path):
    """Of a network whose decoders say the same of every face: no spread, and the nearest face is one and the same."""
    faces = make_faces()
    network = build_serd_network(FIRST, 7, seed=1)
    salient = compute_salient(network, faces, FIRST)
    model, _ = train_second(network, faces, FIRST, SECOND, 2, 0, tmp_path / "second", salient=salient)
    for decoder in model.mpae.decoders:
        decoder.weight.data.zero_()
        decoder.bias.data.zero_()
    found = look_at_decoders(model, salient, faces.labels, salient, faces.labels, 0)
    assert np.allclose(found["spread"], 0) and len(np.unique(found["nearest"])) == 1
    half = model.mpae.ceiling.numpy() / 2
    distances = np.square(salient - half).sum((1, 2, 3))
    assert (found["nearest"] == distances.argmin()).all()
    assert np.allclose(found["floor"], 0), "targets are the faces of which the ceiling is"
    assert found["representation"].dtype == np.uint8 and found["representation"].shape == (28, SECOND.hidden)


def test_without_a_ceiling_a_part_is_out_of_reach(tmp_path):
    faces = make_faces()
    network = build_serd_network(FIRST, 7, seed=1)
    salient = 4 * compute_salient(network, faces, FIRST)
    model, _ = train_second(network, faces, FIRST, SECOND, 2, 0, tmp_path / "second", salient=salient, scaled=False)
    assert (model.mpae.ceiling == 1).all()
    found = look_at_decoders(model, salient, faces.labels, salient, faces.labels, 0)
    assert (found["floor"] > 0).all() and (found["error"] >= found["floor"] - 1e-6).all()


def test_what_is_left_of_stage_one_gives_the_same_features(tmp_path):
    faces = make_faces()
    context = RunContext("dam-cnn/table-4", Profile.SMOKE, "facsynth", 1, tmp_path, data=str(tmp_path))
    network, _ = networks.train_network(context, faces, FIRST, "first")
    save_trunk_and_mask(context, "basic trunk 0", network, FIRST)
    folder = tmp_path / "checkpoints/smoke/facsynth/dam-cnn/table-4"
    folder.mkdir(parents=True)
    for name, content in context.files.items():
        (folder / name).write_bytes(content)
    again = load_trunk_and_mask(context, "dam-cnn/table-4", "basic trunk 0", FIRST, 7)
    # convolutions of a network that was trained add up in another order
    np.testing.assert_allclose(compute_salient(again, faces, FIRST), compute_salient(network, faces, FIRST), atol=1e-4)
    assert sum(map(len, context.files.values())) < 5e6


# -- faces and plans ---------------------------------------------------------------------------------------------------


def test_people_who_are_looked_at_have_equally_many_faces(tmp_path, monkeypatch):
    monkeypatch.setattr(context_module, "load_role", load_few())
    context = RunContext("dam-cnn/probes", Profile.SMOKE, "facsynth", 0, tmp_path)
    looked = load_looked(context, "basic", LOOKS)
    assert np.unique(looked.identities, return_counts=True)[1].tolist() == [LOOKS.faces_each] * LOOKS.people
    assert (looked.split == "test").all()


def test_sets_go_by_the_papers_names():
    assert {role: (found.source, found.protocol.folds) for role, found in find_sets("facsynth").items()} == {
        "basic": ("basic", None), "lab": ("lab", 10),
    }
    assert list(find_sets("fer2013")["fer2013"].also) == ["fer2013-val"]
    faces = make_faces()
    parts = faces.replace(split=np.array(["train", "val", "test"])[np.arange(28) % 3])
    assert set(parts.split[find_tested("fer2013", parts, "fer2013")]) == {"val", "test"}
    guess = np.where(parts.split == "train", -1, parts.labels)
    scores = networks.score_set("fer2013", "row", "fer2013", parts, guess)
    assert [(score.role, len(score.guess)) for score in scores] == [("fer2013", 9), ("fer2013-val", 9)]
    assert not find_sets("rafdb")["lab-small"].also


def test_posed_faces_are_trained_on_for_fewer_steps():
    assert choose_recipes("book", "lab", "first")["first"].steps < choose_recipes("book", "basic", "first")["first"].steps
    assert choose_recipes("paper", "lab", "second")["second"].as_arguments() == StageTwo().as_arguments()
    assert set(choose_recipes("smoke", "basic", "first", "looks")) == {"first", "looks"}


def test_a_killed_run_goes_on_to_the_same_scores(tmp_path, monkeypatch, stop_after):
    faces = make_faces()
    parts = faces.replace(split=np.where(np.arange(28) < 14, "train", "test"))
    monkeypatch.setattr(tables, "load_set", lambda *_, **__: parts)
    monkeypatch.setattr(tables, "load_looked", lambda *_: parts.test)
    monkeypatch.setattr(tables, "list_across", lambda *_: [])
    second = replace(SECOND, steps=2)

    def run(name):
        context = RunContext("dam-cnn/table-4", Profile.SMOKE, "facsynth", 0, tmp_path / name)
        return context, tables.measure_paths(context, "basic", FIRST, second, LOOKS)

    whole, scores = run("whole")
    stop_after(2)
    with pytest.raises(InterruptedError):
        run("killed")
    stop_after(None)
    again, others = run("killed")
    assert [score.guess.tolist() for score in scores] == [score.guess.tolist() for score in others]
    assert whole.files == again.files


def test_the_papers_way_with_a_trunk_that_is_trained_whole(tmp_path, monkeypatch):
    """VGG-Face in miniature, without the weights that the reader has to bring: nothing is frozen."""
    monkeypatch.setattr(stages, "load_trunk", lambda *_, **__: None)
    monkeypatch.setattr(stages, "find_vgg_face", lambda: (tmp_path, "rgb"))
    faces = make_faces()
    parts = faces.replace(split=np.where(np.arange(28) < 14, "train", "test"))
    monkeypatch.setattr(tables, "load_set", lambda *_, **__: parts)
    monkeypatch.setattr(tables, "load_looked", lambda *_: parts.test)
    monkeypatch.setattr(tables, "list_across", lambda *_: [])
    first = StageOne(width=1 / 64, input_size=64, learning_rate=1e-3, steps=3)
    context = RunContext("dam-cnn/table-4", Profile.PAPER, "facsynth", 0, tmp_path / "run")
    scores = tables.measure_paths(context, "basic", first, SECOND, LOOKS)
    assert [score.row for score in scores] == ["VGG-SERD", *map(name_paths, PATHS)]
    assert all(len(score.guess) == 14 for score in scores)
    with np.load(io.BytesIO(context.files["basic-trunk-0-0.npz"])) as kept:
        assert "trunk.0.weight" in kept.files and "serd.attention.bias" in kept.files
    with np.load(io.BytesIO(context.files["basic-0.npz"])) as kept:
        assert kept["mask"].shape == (14, 2, 2) and kept["insertion Grad-CAM"].shape == (LOOKS.curves, LOOKS.points + 1)


def test_gender_needs_a_gender(tmp_path, monkeypatch):
    from fer_utils.papers.dam_cnn import variants

    faces = make_faces()
    parts = faces.replace(split=np.where(np.arange(28) < 14, "train", "test"))
    monkeypatch.setattr(variants, "load_set", lambda *_, **__: parts)
    context = RunContext("dam-cnn/section-4-3-2", Profile.SMOKE, "facsynth", 0, tmp_path)
    with pytest.raises(ValueError, match="toy does not say who is a woman or a man"):
        variants.measure_genders(context, "DAM-CNN-g", "basic", FIRST, SECOND, LOOKS)


def test_probes_tell_what_features_hold():
    import pandas as pd

    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(30), 4)
    half = people // 2 % 2
    truth = pd.DataFrame({"gender": half, "race": people % 3, "age": half, "yaw": rng.normal(size=120)})
    faces = make_faces(120).replace(identities=people, truth=truth)
    known = probing.ask_probes("row", faces, np.eye(30)[people])
    assert known.metrics["identity"] == 1
    noise = probing.ask_probes("row", faces, rng.normal(size=(120, 20)))
    assert noise.metrics["identity"] < 0.2 and abs(noise.metrics["gender"] - 0.5) < 0.2
    told = probing.ask_probes("row", faces, np.eye(2)[half])
    assert told.metrics["gender"] == pytest.approx(1) and told.metrics["identity"] <= 0.1
    assert np.isnan(told.values["gender"][np.isin(people, np.unique(people)[::2])]).all()


def test_faces_of_a_role(tmp_path):
    context = RunContext("dam-cnn/table-4", Profile.SMOKE, "facsynth", 0, tmp_path)
    faces = load_set(context, "lab", 8)
    assert len(faces.classes) == 6 and max(faces.class_counts().values()) == 8
    seven = networks.load_seven(context, "lab", 8)
    assert seven.classes[-1] == "neutral" and seven.class_counts()["neutral"] == 8

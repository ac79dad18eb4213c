import json
from dataclasses import replace

import conftest
import numpy as np
import pytest
import torch
from conftest import put, write_rafdb
from scipy.stats import spearmanr
from typer.testing import CliRunner

from fer_utils.cli import app
from fer_utils.datasets.base import FaceDataset
from fer_utils.errors import DataError
from fer_utils.experiments import RunContext, find_experiment, read_ledger, run_experiments
from fer_utils.experiments.published import load_published
from fer_utils.experiments.recipe import Profile
from fer_utils.files import package_data
from fer_utils.labels import BASIC
from fer_utils.losses import LocalityPreservingLoss
from fer_utils.papers.dlp_cnn import networks, objective, tables
from fer_utils.papers.dlp_cnn.figures import correlate_intensity
from fer_utils.papers.dlp_cnn.networks import METHODS, Trace, build_network, load_trace, save_trace, train_network
from fer_utils.papers.dlp_cnn.recipe import DLPCNN
from fer_utils.papers.dlp_cnn.tables import average_pieces
from fer_utils.training import WatchErrors, fit, load_checkpoint, predict

from ..shipped import load_few

IDS = [f"dlp-cnn/{item}" for item in ("table-6", "table-7", "table-8", "table-9", "section-5-c", "figure-8", "figure-9", "figure-10")]
CHECKPOINTS = package_data() / "checkpoints/book"
TINY = DLPCNN(
    input_size=24, width=0.05, vgg_depth=11, iterations=7, milestones=(4, 6), watch_every=2, trial_iterations=1, batch_size=8, neighbours=3
)


def faces(count=42, seed=0, size=26):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 7
    images = np.clip(rng.integers(0, 60, (count, size, size)) + 25 * labels[:, None, None], 0, 255).astype(np.uint8)
    names, split = np.array([f"{i:02d}.png" for i in range(count)]), np.where(np.arange(count) % 3 == 2, "test", "train")
    return FaceDataset("toy", images, labels, BASIC, names, split, identities=np.arange(count))


def make_context(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return RunContext("dlp-cnn/table-6", Profile.SMOKE, "facsynth", 0, folder, data=str(folder))


# -- plans ----------------------------------------------------------------------------------------------------------------


def test_figures_plan_every_published_row():
    """A row that is spelled otherwise would silently be left out of every comparison; tables are seen in the smoke test."""
    for figure in ("figure-8", "figure-9", "figure-10"):
        named = {row for run in find_experiment(f"dlp-cnn/{figure}").plan("book", "facsynth") for row in run.name.split(", ")}
        assert set(load_published("dlp-cnn").item(figure).rows) <= named


def test_only_what_the_faces_allow_is_planned():
    for dataset, planned in (("muxspace", {"table-6", "table-7", "section-5-c", "figure-8", "figure-10"}), ("ckplus", set())):
        assert {id.split("/")[1] for id in IDS if find_experiment(id).plan("book", dataset)} == planned


def test_the_papers_profile_is_the_papers():
    published = load_published("dlp-cnn").item("section-5-b").rows
    recipe = DLPCNN().at("paper")
    steps = (published["first step down, iteration"][0], published["second step down, iteration"][0])
    named = ("side of the input, pixels", "learning rate", "last iteration", "batch", "momentum")
    ours = (recipe.input_size, recipe.learning_rate, recipe.iterations, recipe.batch_size, recipe.momentum)
    assert ours == tuple(published[row][0] for row in named)
    assert recipe.milestones == steps
    assert recipe.weight_decay == published["weight decay, convolutions and first dense layer"][0]
    assert recipe.last_weight_decay == published["weight decay, second dense layer"][0]
    assert (recipe.neighbours, recipe.weight) == (published["neighbours k"][0], published["lambda"][0])
    assert recipe.gamma == 1 / published["factor of a step"][0]
    assert build_network("DLP-CNN", replace(recipe, input_size=16), 0).embedding_size == published["features"][0]


# -- one training ---------------------------------------------------------------------------------------------------------


def test_networks_of_one_architecture_start_alike_and_do_not_end_alike(tmp_path):
    start = [build_network(method, TINY, 3).state_dict() for method in ("baseDCNN", "center loss", "DLP-CNN")]
    assert all(torch.equal(start[0][key], other[key]) for other in start[1:] for key in other)
    assert not torch.equal(start[0]["classifier.weight"], build_network("DLP-CNN", TINY, 4).state_dict()["classifier.weight"])
    ends = [train_network(make_context(tmp_path / str(i)), faces(), method, TINY)[1].losses for i, method in enumerate(METHODS)]
    assert len({losses.tobytes() for losses in ends}) == len(METHODS)
    with pytest.raises(ValueError, match=r"unknown method 'softmax'; expected one of baseDCNN, center loss, DLP-CNN"):
        build_network("softmax", TINY, 0)


def test_lambda_and_k_reach_the_loss(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(objective, "LocalityPreservingLoss", lambda k, **options: made.append(k) or LocalityPreservingLoss(k, **options))
    runs = [
        train_network(make_context(tmp_path / f"{weight} {k}"), faces(), "DLP-CNN", TINY, weight=weight, neighbours=k)[1].losses
        for weight, k in ((0.003, 3), (0.5, 3), (0.5, 1), (0.0, 3))
    ]
    soft = train_network(make_context(tmp_path / "soft"), faces(), "baseDCNN", TINY)[1].losses
    assert made == [3, 3, 1, 3]
    assert len({losses.tobytes() for losses in runs}) == 4
    np.testing.assert_array_equal(runs[3], soft)


def test_watching_the_test_faces_changes_nothing(tmp_path):
    seldom, often = (
        train_network(make_context(tmp_path / str(every)), faces(), "DLP-CNN", replace(TINY, watch_every=every))
        for every in (100, 1)
    )
    assert (seldom[1].wrong.shape, often[1].wrong.shape) == ((1, 14), (7, 14))
    np.testing.assert_array_equal(seldom[1].losses, often[1].losses)
    assert all(torch.equal(value, often[0].state_dict()[key]) for key, value in seldom[0].state_dict().items())
    np.testing.assert_array_equal(often[1].wrong[-1], often[1].guess != faces().test.labels)


def test_a_killed_training_goes_on_with_its_curve(tmp_path, monkeypatch):
    whole, kept = train_network(make_context(tmp_path / "whole"), faces(), "DLP-CNN", TINY)
    real, calls = WatchErrors.after_step, []
    monkeypatch.setattr(networks, "fit", lambda *args, **options: fit(*args, checkpoint_seconds=0, **options))

    def stop(self, step, model, parts):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        real(self, step, model, parts)

    monkeypatch.setattr(WatchErrors, "after_step", stop)
    with pytest.raises(KeyboardInterrupt):
        train_network(make_context(tmp_path / "cut"), faces(), "DLP-CNN", TINY)
    model, trace = train_network(make_context(tmp_path / "cut"), faces(), "DLP-CNN", TINY)
    assert len(calls) == 6 + 2  # five steps were kept; the sixth, cut off, and the seventh are done now
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in whole.state_dict().items())
    np.testing.assert_array_equal(trace.wrong, kept.wrong)
    np.testing.assert_array_equal(trace.losses, kept.losses)


def test_training_does_not_see_the_test_part(tmp_path):
    first, second = faces(), faces()
    test = np.flatnonzero(second.split == "test")
    images = np.array(second.images)
    images[test] = 255 - images[test]
    second = second.replace(images=images)
    ends = [train_network(make_context(tmp_path / str(i)), one, "DLP-CNN", TINY)[0].state_dict() for i, one in enumerate((first, second))]
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


# -- what is kept ---------------------------------------------------------------------------------------------------------


def test_a_trace_is_read_as_it_was_written(tmp_path):
    rng = np.random.default_rng(0)
    guesses = {"mSVM basic": np.arange(3, dtype=np.int8)}
    trace = Trace(rng.integers(0, 7, 21).astype(np.int8), rng.random(9, np.float32), rng.random((5, 21)) < 0.5, guesses)
    here = make_context(tmp_path)
    save_trace(here, "center loss", trace)
    ((name, content),) = here.files.items()
    assert name == "center-loss-0.npz"
    path = put(tmp_path / "checkpoints/smoke/facsynth/dlp-cnn/table-6", name, content)
    found = load_trace(here, "dlp-cnn/table-6", "center loss")
    np.testing.assert_array_equal(found.guess, trace.guess)
    np.testing.assert_array_equal(found.wrong, trace.wrong)
    np.testing.assert_array_equal(found.guesses["mSVM basic"], [0, 1, 2])
    np.testing.assert_allclose(found.losses, trace.losses, rtol=1e-3)
    path.write_bytes(content[:200])
    with pytest.raises(DataError, match=r"center-loss-0\.npz.*cannot be read.*the arrays guess, losses, wrong"):
        load_trace(here, "dlp-cnn/table-6", "center loss")
    with pytest.raises(DataError, match=r"not found.*ferbook reproduce dlp-cnn/table-6"):
        load_trace(here, "dlp-cnn/table-6", "DLP-CNN")


@pytest.mark.parametrize("path", sorted(CHECKPOINTS.glob("*/dlp-cnn/*/*")), ids=lambda path: "-".join(path.parts[-4:]))
def test_kept_files_are_found_and_read(path, tmp_path):
    """Names and contents of files stay as they are: a trace is even written again byte by byte."""
    name, seed = path.stem.rsplit("-", 1)
    here = RunContext("dlp-cnn/table-6", Profile.BOOK, path.parts[-4], int(seed), tmp_path)
    id = f"dlp-cnn/{path.parent.name}"
    if path.suffix == ".safetensors":
        assert here.load_network(id, name.replace("center-loss", "center loss")).name == "base_dcnn"
    else:
        trace = load_trace(here, id, name)
        assert trace.wrong.shape[1] == len(trace.guess) and trace.losses.shape == (DLPCNN().at("book").iterations,)
        save_trace(here, name, trace)
        assert here.files[path.name] == path.read_bytes()


def test_pieces_of_a_curve():
    np.testing.assert_allclose(average_pieces(np.arange(10.0), 5), [0.5, 2.5, 4.5, 6.5, 8.5])
    assert average_pieces(np.array([1.0, 2.0]), 5) == [1.0, 2.0]


@pytest.mark.parametrize("digits", [8, 1])
def test_a_correlation_and_what_each_face_adds(digits):
    """The same as leaving out one face after the other, with and without ties."""
    rng = np.random.default_rng(0)
    strength = rng.random(300).round(digits)
    distances = (strength + rng.normal(0, 0.5, 300)).round(digits)
    value, each = correlate_intensity(distances, strength)
    rest = [spearmanr(np.delete(distances, i), np.delete(strength, i)).statistic for i in range(300)]
    np.testing.assert_allclose(each - each.mean(), 299 * (np.mean(rest) - np.array(rest)), atol=1e-9)
    assert value == pytest.approx(spearmanr(distances, strength).statistic) and each.mean() == pytest.approx(value)


def test_a_correlation_varies_as_its_pseudo_values_say():
    rng = np.random.default_rng(0)
    strength = rng.random(200)
    value, each = correlate_intensity(strength**3, strength)
    assert value == pytest.approx(1) and each == pytest.approx(np.ones(200))
    value, each = correlate_intensity(rng.random(200), strength)
    assert abs(value) < 0.2 and each.std(ddof=1) / np.sqrt(200) == pytest.approx(1 / np.sqrt(199), rel=0.25)
    with pytest.raises(ValueError, match="three faces that differ"):
        correlate_intensity(np.ones(5), strength[:5])


# -- all of it ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_smoke_profile(tmp_path, monkeypatch):
    """On the shipped faces, a few of each class: every experiment, each from the files of the one before."""
    monkeypatch.setattr("fer_utils.experiments.context.load_role", load_few(12))  # experiments take no more of them
    run_experiments(IDS, "smoke", "facsynth", data=tmp_path, seeds=1)
    table = read_ledger("dlp-cnn/table-6", "smoke", "facsynth", data=tmp_path)
    rows = {f"{prefix}{method}" for prefix in ("", "mSVM ", "LDA ") for method in METHODS}
    assert set(table["row"]) == rows
    planned = find_experiment("dlp-cnn/table-6")
    assert set(load_published("dlp-cnn").item("table-6").rows) - set(planned.omits) <= rows
    ours = {id: read_ledger(id, "smoke", "facsynth", data=tmp_path) for id in IDS}

    def value(id, row, metric, role="basic"):
        frame = ours[f"dlp-cnn/{id}"]
        (found,) = frame.loc[(frame["row"] == row) & (frame["metric"] == metric) & (frame["role"] == role), "value"]
        return found

    assert value("table-7", "mSVM DLP-CNN", "accuracy") == value("table-6", "mSVM DLP-CNN", "accuracy")
    assert value("table-8", "mSVM DLP-CNN", "accuracy", "compound") == value("table-6", "mSVM DLP-CNN", "accuracy", "compound")
    assert value("figure-8", "lambda 0", "accuracy") == value("table-6", "baseDCNN", "accuracy")
    assert value("figure-8", "k 20", "accuracy") == value("table-6", "DLP-CNN", "accuracy")
    assert value("figure-10", "DLP-CNN lambda 0.003", "accuracy") == value("table-6", "DLP-CNN", "accuracy")
    assert value("figure-10", "DLP-CNN lambda 0.03", "accuracy") == value("figure-8", "lambda 0.03", "accuracy")
    assert set(ours["dlp-cnn/table-9"]["role"]) == {"lab"}
    assert value("section-5-c", "DLP-CNN", "step time", "") > 0
    assert -1 <= value("figure-9", "DLP-CNN", "intensity correlation fear") <= 1
    model, provenance = load_checkpoint(tmp_path / "checkpoints/smoke/facsynth/dlp-cnn/table-6/DLP-CNN-0.safetensors")
    assert (model.name, provenance["method"], provenance["seed"]) == ("base_dcnn", "DLP-CNN", 0)
    assert predict(model, np.zeros((1, 100, 100), np.uint8)).shape == (1,)


@pytest.mark.slow
def test_a_dry_run_of_the_papers_profile(tmp_path, monkeypatch):
    """DLP-CNN at full size on a miniature RAF-DB, through the command, but for four iterations; all else is the paper's."""
    for subset, classes in (("basic", 7), ("compound", 11)):
        images = [(part, label) for part, count in (("train", 5), ("test", 1)) for label in range(1, classes + 1) for _ in range(count)]
        monkeypatch.setitem(conftest.LISTED, subset, {f"{part}_{i:05d}.jpg": label for i, (part, label) in enumerate(images)})
        write_rafdb(tmp_path / "rafdb", subset, originals=0)
    at, full = DLPCNN.at, DLPCNN()
    short = {"iterations": 4, "milestones": (1, 3), "watch_every": 2}
    monkeypatch.setattr(DLPCNN, "at", lambda recipe, profile: replace(at(recipe, profile), **short))
    monkeypatch.setattr(tables, "METHODS", {"DLP-CNN": "base_dcnn"})
    monkeypatch.setattr(tables, "_KEPT", ("DLP-CNN",))
    trained = []
    monkeypatch.setattr(networks, "fit", lambda *args, **options: trained.append(args) or fit(*args, **options))
    monkeypatch.setattr("fer_utils.experiments.ledger.default_data", lambda: tmp_path / "data")
    options = ["--profile", "paper", "--dataset", "rafdb", "--seeds", "1", "--root", str(tmp_path / "rafdb")]
    done = CliRunner().invoke(app, ["reproduce", "dlp-cnn/table-6", *options])
    assert done.exit_code == 0, done.output
    ((model, train, settings),) = trained
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(74.94e6, rel=1e-4)
    assert (model.input_size, model.embedding_size, len(train), settings.steps) == (90, 2000, 35, 4)
    (run,) = json.loads((tmp_path / "data/results/paper/rafdb/dlp-cnn/table-6.json").read_text())["runs"]
    assert run["arguments"]["recipe"] == json.loads(json.dumps({**full.as_arguments(), **short}))
    assert [(score["row"], len(score["guess"])) for score in run["outcomes"]] == [
        ("DLP-CNN", 7), ("mSVM DLP-CNN", 7), ("LDA DLP-CNN", 7), ("mSVM DLP-CNN", 11), ("LDA DLP-CNN", 11)
    ]
    assert len(run["outcomes"][0]["series"]["test error"]) == 2

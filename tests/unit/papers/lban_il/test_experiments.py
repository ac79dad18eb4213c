"""The experiments of Li et al. 2021: all of them at the smoke profile, on the shipped faces; and what they plan."""

import io
import json
from dataclasses import replace

import conftest
import numpy as np
import pytest
from conftest import write_rafdb

from fer_utils.experiments import (
    LedgerReader,
    context,
    find_experiment,
    list_experiments,
    load_published,
    run_experiments,
)
from fer_utils.experiments.published import Cell
from fer_utils.experiments.recipe import Profile
from fer_utils.experiments.registry import Setup
from fer_utils.experiments.verdicts import judge_claims
from fer_utils.papers.lban_il.model import count_learnable
from fer_utils.papers.lban_il.networks import build_network
from fer_utils.papers.lban_il.objective import LOSSES
from fer_utils.papers.lban_il.recipe import LBANIL
from fer_utils.papers.lban_il.traces import plan_recipe
from fer_utils.training import load_checkpoint

from ..shipped import load_few

PUBLISHED = load_published("lban-il")
OURS = [experiment.id for experiment in list_experiments() if experiment.id.startswith("lban-il/")]
TRAINED = ("table-1", "table-2", "table-3", "table-4", "table-5", "table-6", "table-7")
NAMES = {
    *TRAINED, "table-2-parameters", "section-4-5", "figure-1", "figure-4", "figure-5", "figure-6", "crops", "islets",
    "sparsity", "cost",
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Every experiment, one seed, each from the files of those before; DLP-CNN is made to know every answer."""
    data, load = tmp_path_factory.mktemp("data"), load_few(12)  # each run takes no more of them
    tests = {role: load("facsynth", role, more=True).test for role in ("basic", "compound")}
    buffer = io.BytesIO()
    np.savez(buffer, **{f"guess mSVM {role}": test.labels.astype(np.int8) for role, test in tests.items()})
    folder = data / "checkpoints/smoke/facsynth/dlp-cnn/table-6"
    folder.mkdir(parents=True)
    (folder / "DLP-CNN-0.npz").write_bytes(buffer.getvalue())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(context, "load_role", load)
        run_experiments(OURS, "smoke", "facsynth", data=data, seeds=1)
    return LedgerReader("smoke", "facsynth", data)


def value(results, item, row, metric, role="basic"):
    (found,) = results.measure(Cell(f"lban-il/{item}", row, role, metric))
    return found.value


def test_every_table_and_figure_is_registered():
    assert {id.split("/")[1] for id in OURS} == NAMES
    assert {f"lban-il/{name}" for name in ("section-4-5", "cost")} == {
        id for id in OURS if find_experiment(id).alone
    }


@pytest.mark.slow
def test_every_published_row_is_run_or_left_out_with_a_reason(results):
    for item in PUBLISHED.items.values():
        if item.id not in OURS:
            assert item.id.split("/")[1].startswith("section"), item.id
            continue
        named = {item.confusion} if item.confusion else set(item.rows)
        groups = {row for row in named if item.id.endswith("table-7") and int(row.partition("crop ")[2] or 0) > 2}
        ours = {cell.row for cell in results.list_cells(item.id)}
        assert named - set(find_experiment(item.id).omits) - groups <= ours, item.id
        assert not set(find_experiment(item.id).omits) & ours
    recipe = find_experiment("lban-il/table-7").plan("paper", "facsynth")[0].arguments["recipe"]
    assert recipe.folds == 10, "a smoke test makes two groups"


@pytest.mark.slow
def test_every_claim_is_judged_or_says_why_not(results):
    for verdict in judge_claims("lban-il", "smoke", "facsynth", results._data):
        claim = verdict.claim
        if claim.not_attempted:
            continue
        missing = [gap for gap in verdict.missing if not any(f"crop {k}" in gap for k in range(3, 11))]
        assert verdict.comparisons and not missing, claim.id
        # one seed says nothing of the spread over seeds; all else is known
        assert all(not np.isnan(estimate.test_error) for estimate in verdict.estimates), claim.id


@pytest.mark.slow
def test_weights_are_those_of_table_2(results):
    printed = PUBLISHED.item("table-2-parameters").rows
    ours = {row: value(results, "table-2-parameters", row, "parameters", "") for row in printed}
    off = {row: round(ours[row], 1) for row in printed if round(ours[row], 1) != printed[row][0]}
    assert off == {"ResNet18": 11.2, "ResNet18 + softmax": 11.2}, "printed is its count with 1,000 classes"
    words = {verdict.claim.id.split("/")[1]: verdict.word for verdict in judge_claims(
        "lban-il", "smoke", "facsynth", results._data, item="lban-il/table-2-parameters"
    )}  # fmt: skip
    assert words == {"fewer-weights": "reproduced", "skips-cost-weights": "reproduced"}


@pytest.mark.slow
def test_a_network_is_trained_once_and_read_by_the_other_tables(results):
    same = {
        ("table-4", "Islets loss"): [
            ("table-1", "LBSL + encoder-decoder"), ("table-2", "LBAN"), ("table-3", "LBAN-IL"), ("table-5", "LBAN-IL"),
            ("table-6", "LBAN-IL"), ("figure-4", "LBAN-IL"), ("figure-5", "Islets loss"),
            ("islets", "Islets loss, 0.01"), ("crops", "Islets loss, 10 crops"), ("sparsity", "fixed, 0.5"),
        ],
        ("table-2", "VGG19 + softmax"): [("table-3", "VGG (baseline 1)"), ("table-6", "VGG (baseline 1)")],
        ("table-2", "SC + STD Conv + SK CONN"): [("sparsity", "learned")],
    }  # fmt: skip
    for (item, row), others in same.items():
        (first,) = results.measure(Cell(f"lban-il/{item}", row, "basic", "accuracy"))
        for other, name in others:
            (found,) = results.measure(Cell(f"lban-il/{other}", name, "basic", "accuracy"))
            np.testing.assert_array_equal(found.guess, first.guess, err_msg=f"{other}, {name}")


@pytest.mark.slow
def test_rows_of_the_books_own_questions(results):
    assert value(results, "table-3", "DLP-CNN", "mean diagonal") == 1
    assert value(results, "table-3", "DLP-CNN", "mean diagonal", "compound") == 1
    assert value(results, "table-5", "DLP-CNN", "accuracy") == 1
    rows = {cell.row for cell in results.list_cells("lban-il/islets")}
    assert rows == {f"{loss}, {std}" for loss in LOSSES[2:] for std in ("0.001", "0.01")} | {
        *(f"{loss}, 0.01, lambda 0.6" for loss in LOSSES[2:]), "Islets loss, 0.01, eq. 4"
    }
    assert {cell.row for cell in results.list_cells("lban-il/sparsity")} == {
        *(f"fixed, {share}" for share in (0.1, 0.5, 0.9)), "learned", "learned, as many weights"
    }
    assert {cell.row for cell in results.list_cells("lban-il/crops")} == {
        f"{loss}, {crops}" for loss in LOSSES for crops in ("1 crop", "10 crops")
    }
    assert {"face network", "face network + softmax"} <= {cell.row for cell in results.list_cells("lban-il/table-2")}
    assert {cell.row for cell in results.list_cells("lban-il/cost")} == {"LBAN", "ResNet18"}
    smaller, larger = (value(results, "sparsity", row, "parameters", "") for row in ("fixed, 0.5", "learned"))
    equal = value(results, "sparsity", "learned, as many weights", "parameters", "")
    assert abs(equal - smaller) < 0.2 * (larger - smaller)


@pytest.mark.slow
def test_groups_together_are_all_faces(results):
    (whole,) = results.measure(Cell("lban-il/table-7", "Islets loss", "basic", "accuracy"))
    parts = [results.measure(Cell("lban-il/table-7", f"Islets loss, crop {k}", "basic", "accuracy"))[0] for k in (1, 2)]
    assert sum(len(part.guess) for part in parts) == len(whole.guess) == 7 * 24
    right = sum((part.guess == part.truth).sum() for part in parts)
    assert right == (whole.guess == whole.truth).sum()
    people = [set(part.units.tolist()) for part in parts]
    assert not people[0] & people[1]


# -- plans -------------------------------------------------------------------------------------------------------------


def test_only_what_the_faces_allow_is_planned():
    everywhere = {"table-2-parameters", "figure-1"}
    for dataset, missing in (("muxspace", {"figure-6"}), ("rafdb", {"figure-6"}), ("ckplus", NAMES - everywhere)):
        planned = {id.split("/")[1] for id in OURS if find_experiment(id).plan("paper", dataset)}
        assert planned == NAMES - missing
        book = {id.split("/")[1] for id in OURS if find_experiment(id).plan("book", dataset)}
        assert book == planned - {"table-7"}, "a tenth of the book's faces decides nothing"
    table = find_experiment("lban-il/table-3")
    roles = {
        dataset: {run.arguments.get("role", "basic") for run in table.plan("book", dataset)}
        for dataset in ("facsynth", "muxspace")
    }
    assert roles == {"facsynth": {"basic", "compound"}, "muxspace": {"basic"}}
    film = [run for run in find_experiment("lban-il/table-5").plan("paper", "rafdb") if run.name == "LBAN-IL film"]
    assert film and film[0].arguments["network"] == "LBAN" and film[0].arguments["loss"] == "Islets loss"


def test_no_network_is_trained_twice():
    planned = []
    for id in OURS:
        for run in find_experiment(id).plan("book", "facsynth"):
            if run.function.endswith(("measure_network", "measure_trained")):
                arguments = run.arguments
                planned.append((arguments.get("role"), arguments["network"], arguments["loss"], run.seed))
    assert len(planned) == len(set(planned)) == 3 * (4 + 3 + 7 + 3)


def test_the_papers_lambda_has_rows_of_its_own_where_the_recipes_is_another():
    """At the book's size the paper's keeps center and island loss from learning."""
    for profile, strong in (("book", {0.01}), ("paper", set())):
        plan = [run.arguments for run in find_experiment("lban-il/islets").plan(profile, "facsynth", 1) if "weight" in run.arguments]
        assert {run["centre_std"] for run in plan if run["row"].endswith("lambda 0.6")} == strong
        assert all((run["weight"] == 0.6) == (profile == "paper" or "lambda 0.6" in run["row"]) for run in plan)


@pytest.mark.parametrize(("dataset", "side"), [("rafdb", 80), ("expw", 80), ("fer2013", 40), ("ferplus", 40)])
def test_the_papers_profile_cuts_what_the_paper_cuts(dataset, side):
    recipe = plan_recipe(Setup(Profile.PAPER, dataset, (0,)))
    assert (recipe.input_size, recipe.image_size, recipe.width, recipe.crops) == (side, None, 1.0, 10)
    assert plan_recipe(Setup(Profile.BOOK, dataset, (0,))).input_size == 40
    published = PUBLISHED.item("section-4-1")
    column = [column.name for column in published.columns].index("FER2013" if side == 40 else "RAF-DB")
    assert published.rows["side of the crops, pixels"][column] == side
    assert build_network("LBAN", recipe, 0, width=0.05).input_size == side


@pytest.mark.slow
def test_a_dry_run_of_the_papers_profile(tmp_path, monkeypatch):
    """LBAN-IL at full size on a miniature RAF-DB, but for 10 steps of two faces; all else is the paper's."""
    listed = {f"train_{i:05d}.jpg": i % 7 + 1 for i in range(10)} | {f"test_{i:04d}.jpg": i + 1 for i in range(3)}
    monkeypatch.setitem(conftest.LISTED, "basic", listed)
    write_rafdb(tmp_path / "rafdb", "basic", originals=0)
    at, full, short = LBANIL.at, LBANIL(), {"epochs": 2, "batch_size": 2}
    monkeypatch.setattr(LBANIL, "at", lambda recipe, profile: replace(at(recipe, profile), **short))
    done = run_experiments(
        ["lban-il/table-4"], "paper", "rafdb", seeds=1, root=tmp_path / "rafdb", data=tmp_path / "data",
        wanted=lambda run: run.name == "Islets loss",
    )  # fmt: skip
    assert done == 1
    (run,) = json.loads((tmp_path / "data/results/paper/rafdb/lban-il/table-4.json").read_text())["runs"]
    assert run["arguments"]["recipe"] == json.loads(json.dumps({**full.as_arguments(), **short}))
    folder = tmp_path / "data/checkpoints/paper/rafdb/lban-il/table-4"
    model, provenance = load_checkpoint(folder / "Islets-loss-0.safetensors")
    assert count_learnable(model) == pytest.approx(19.8e6, rel=2e-3) and model.input_size == 80
    assert provenance["seed"] == 0
    with np.load(folder / "Islets-loss-0.npz") as arrays:
        assert arrays["log penalty"].shape == (10,) and arrays["guess"].shape == (3,)

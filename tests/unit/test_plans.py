"""Plans: what an experiment will be able to see, before it is run."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from fer_utils.cli import app
from fer_utils.experiments import LedgerReader, load_published, plans
from fer_utils.experiments.plans import plan_experiment, plan_path, save_plan
from fer_utils.experiments.published import Cell


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Test faces are not loaded to be counted."""
    counts = {"basic": 12_272, "compound": 3_168, "lab": 309, "lab-small": 30}
    monkeypatch.setattr(plans, "_count_faces", lambda dataset, role, root: counts[role])
    return counts


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """The plan of Table VI, from the book's own results as a pilot."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plans, "_count_faces", lambda dataset, role, root: 3_068)
        return plan_experiment("dlp-cnn/table-6")


def test_a_plan_has_a_line_a_comparison_that_can_be_run(table: pd.DataFrame) -> None:
    assert {"dlp-cnn/dlp-order", "dlp-cnn/disgust-hardest"} <= set(table["claim"])
    assert not table["comparison"].str.contains("AlexNet|VGG ").any()  # rows that are not run
    line = table[table["comparison"] == "mSVM DLP-CNN > mSVM center loss (mean diagonal, basic)"].iloc[0]
    assert line["paper"] == pytest.approx(1.33) and line["seeds"] == 10 and 0.1 < line["half_width"] < 5


def test_more_seeds_and_more_faces_narrow_an_interval(table: pd.DataFrame, counted: dict[str, int]) -> None:
    few, many = (plan_experiment("dlp-cnn/table-6", seeds=count)["half_width"] for count in (3, 30))
    assert (few > many).all()
    counted |= {"basic": 1_000, "compound": 100}
    fewer = plan_experiment("dlp-cnn/table-6", seeds=30)["half_width"]
    assert (fewer >= many).all() and (fewer > many).mean() > 0.8  # of a few comparisons the pilot's seeds hold all that varies


def test_the_seeds_that_are_needed_are_enough_and_one_less_is_not() -> None:
    table = plan_experiment("dlp-cnn/table-6")
    for line in table[table["seeds_needed"].notna() & (table["seeds_needed"] > 2)].itertuples():
        plans_of = [plan_experiment("dlp-cnn/table-6", seeds=int(line.seeds_needed) - lacking) for lacking in (0, 1)]
        enough, less = (plan.set_index("comparison")["half_width"][line.comparison] for plan in plans_of)
        assert enough < abs(line.paper) <= less
        break


def test_a_plan_of_what_the_pilot_had_says_what_the_pilot_found(counted: dict[str, int]) -> None:
    """With the pilot's own seeds and faces, the expected interval is as wide as the one that was measured; or wider, where few seeds
    agree better than their luck with single faces lets them expect."""
    claims = [claim for claim in load_published("dlp-cnn").claims if claim.id in ("dlp-cnn/dlp-order", "dlp-cnn/dlp-order-lda")]
    comparisons = [comparison for claim in claims for comparison in claim.comparisons]
    found = LedgerReader("book", "facsynth").estimate(comparisons)
    counted |= {"basic": found[0].count}
    table = plan_experiment("dlp-cnn/table-6", seeds=found[0].seeds).set_index("comparison")
    as_wide = []
    for comparison, estimate in zip(comparisons, found, strict=True):
        ratio = table["half_width"][str(comparison)] / (100 * (estimate.high - estimate.low) / 2)
        as_wide.append(estimate.seed_parts[0][0] >= estimate.both)
        assert ratio == pytest.approx(1, rel=0.02) if as_wide[-1] else ratio > 0.98
    assert any(as_wide)


def test_without_a_pilot_the_spread_is_assumed(tmp_path: Path) -> None:
    table = plan_experiment("dlp-cnn/table-6", data=tmp_path)
    assert set(table["spread"]) == {"assumed"} and table["half_width"].notna().all()
    line = table[table["comparison"] == "mSVM DLP-CNN > mSVM center loss (mean diagonal, basic)"].iloc[0]
    # t of nine degrees of freedom times 1.5 points over the root of ten seeds, and what 12,272 faces add
    assert 1.07 < line["half_width"] < 1.6


def test_a_saved_plan_says_what_is_printed(tmp_path: Path) -> None:
    shown = plan_experiment("dlp-cnn/table-6", data=tmp_path)
    path = save_plan(shown, "dlp-cnn/table-6", data=tmp_path)
    assert path == plan_path("dlp-cnn/table-6", "book", "facsynth", tmp_path)
    kept = json.loads(path.read_text())
    assert [line["comparison"] for line in kept["comparisons"]] == shown["comparison"].tolist()
    assert [line["half_width"] for line in kept["comparisons"]] == pytest.approx(shown["half_width"].tolist(), rel=1e-3)


def test_the_command_prints_a_plan_and_refuses_an_unknown_experiment() -> None:
    shown = CliRunner().invoke(app, ["plan", "dlp-cnn/table-6"])
    assert shown.exit_code == 0 and "seeds needed" in shown.output
    wrong = CliRunner().invoke(app, ["plan", "dlp-cnn/table-66"])
    assert wrong.exit_code == 1 and "unknown experiment" in wrong.stderr


@pytest.mark.parametrize(("row", "names", "found"), [
    ("VGG-SERD-reg1", {"VGG-SERD basic", "VGG-SERD-reg1 basic", "VGG-SERD lab"}, {"VGG-SERD-reg1 basic"}),
    ("DAM-CNN, 2 paths", {"paths basic", "paths lab"}, {"paths basic"}),
    ("VGG-SERD", {"paths basic", "paths lab"}, {"paths basic"}),  # one run scores all rows of a role
    ("Visual Attention", {"VGG-SERD basic", "VGG-Face basic"}, set()),
    ("DLP-CNN", {"DLP-CNN", "center loss"}, {"DLP-CNN"}),
    ("VGG19", {"DLP-CNN", "center loss"}, set()),
])
def test_a_row_is_planned_with_the_runs_that_are_named_for_it(row: str, names: set[str], found: set[str]) -> None:
    assert plans._guess_names(Cell("dam-cnn/table-4", row, "basic", "accuracy"), names) == found

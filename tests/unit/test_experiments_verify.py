"""Kept runs are executed again and compared; seeds are added until intervals are narrow."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import toy_experiments as toy
from toy_experiments import register
from typer.testing import CliRunner

from fer_utils.cli import app
from fer_utils.experiments import (
    ExperimentError,
    Ledger,
    Run,
    find_stale,
    ledger,
    registry,
    run_experiment,
    run_until_width,
    score_predictions,
    tie,
    verify_experiment,
    verifying,
)
from fer_utils.labels import BASIC

ID = "toy/table-1"
OTHER = {"fer_utils.losses.center": "1" * 12}


def measure(context, shift):
    """Predictions, numbers, a curve and a file; `shift` names a file whose content other code would add."""
    path = Path(shift)
    extra = float(path.read_text()) if path.is_file() else 0.0
    (context.workdir / "checkpoint").write_text("")
    draws = np.random.default_rng([3, context.seed])
    values = draws.random(7).astype(np.float16).astype(float)
    context.save_file(f"left-{context.seed}.txt", f"{extra}".encode())
    guess = draws.integers(0, 7, 7)
    guess[0] = (guess[0] + (extra > 1)) % 7
    return [score_predictions(
        "a", "basic", np.arange(7), guess, BASIC, metrics={"loss": values.mean() + extra}, values={"loss": values + extra},
        series={"curve": [*draws.random(3), float("nan")]},
    )]


@pytest.fixture
def kept(empty_registry, tmp_path):
    """Three kept runs: where they lie, and the file that changes what they measure."""
    shift = tmp_path / "shift.txt"
    register(ID, lambda setup: [Run("a", measure, {"shift": str(shift)}, seed) for seed in setup.seeds])
    assert run_experiment(ID, dataset="muxspace", data=tmp_path) == 3
    return Ledger(ID, "book", "muxspace", tmp_path).path, shift


@pytest.fixture
def other_code(monkeypatch):
    real = tie.describe_code
    for module in (tie, verifying):
        monkeypatch.setattr(module, "describe_code", lambda *args: {**real(*args), **OTHER})


def verify(tmp_path, **options):
    said = []
    return verify_experiment(ID, "book", "muxspace", data=tmp_path, say=said.append, **options), said


def read(tmp_path):
    return Ledger(ID, "book", "muxspace", tmp_path)


def test_a_run_that_comes_out_again_changes_nothing(kept, tmp_path):
    path, _ = kept
    before = path.read_bytes()
    same, said = verify(tmp_path, runs=2, draw=1)
    assert same and len(said) == 2 and all("came out again" in line for line in said) and path.read_bytes() == before
    assert [line.split(":")[1] for line in said] == [line.split(":")[1] for line in verify(tmp_path, runs=2, draw=1)[1]]
    assert len(verify(tmp_path, runs=9)[1]) == 3, "all, where there are fewer"


def test_it_renews_the_tie_of_all_runs_of_the_code(kept, tmp_path, other_code):
    before = read(tmp_path)
    assert len(find_stale(before, data=tmp_path)) == 3
    same, said = verify(tmp_path)
    assert same and said[-1] == f"{ID}: 3 runs of the same code are tied to the code that is here"
    after = read(tmp_path)
    assert find_stale(after, data=tmp_path) == {} and len(after.codes) == 1
    for old, new in zip(before.runs, after.runs, strict=True):
        assert new["renewed"]["was"] == old["tie"]["code"] != new["tie"]["code"]
        assert new["renewed"]["by"] in [run["key"] for run in after.runs]
        assert new["outcomes"] == old["outcomes"] and new["commit"] == old["commit"]
    assert run_experiment(ID, dataset="muxspace", data=tmp_path) == 0 and verify(tmp_path)[0]


def test_one_that_differs_makes_all_stale(kept, tmp_path):
    _, shift = kept
    shift.write_text("0.25")
    same, said = verify(tmp_path, draw=0)
    assert not same and said[0].startswith(f"{ID}: a, seed ")
    assert "a, basic: loss (metrics) by 0.25" in said[0] and "a, basic: loss (values) by 0.25" in said[0]
    assert said[1] == f"{ID}: 3 runs of the same code are stale now; 'ferbook reproduce {ID}' runs them again"
    problems = set(find_stale(read(tmp_path), data=tmp_path).values())
    assert len(problems) == 1 and problems.pop().startswith("gave another result when it was run again on 20")
    with pytest.raises(ValueError, match=r"no kept run of toy/table-1, profile book, on muxspace, can be run again as it was"):
        verify(tmp_path)
    assert run_experiment(ID, dataset="muxspace", data=tmp_path) == 3
    assert not any("failed" in run for run in read(tmp_path).runs) and verify(tmp_path)[0]


@pytest.mark.parametrize(("change", "text"), [
    ({"guess": "0" * 7}, "predictions"), ({"series": {"curve": [9.0, 0.0, 0.0, None]}}, r"curve \(series\) by [89]"),
    ({"series": {}}, r"curve \(series\) by inf"), ({"test_set": "0"}, "other test faces"),
    ({"values": {}}, r"loss \(values\) by inf"), ({}, None),
])
def test_what_is_compared(kept, tmp_path, change, text):
    score = read(tmp_path).runs[0]["outcomes"][0]
    found = [line for _, line in verifying._compare_scores(score, {**score, **change})]
    assert len(found) == (text is not None) and all(re.search(text, line) for line in found)


def test_only_the_file_differs(kept, tmp_path, monkeypatch):
    real = verifying.execute_run
    monkeypatch.setattr(verifying, "execute_run", lambda job: {**(found := real(job)), "files": dict.fromkeys(found["files"], b"other")})
    same, said = verify(tmp_path, draw=0)
    assert not same and said[0].endswith(".txt is another file")


def test_another_machine_marks_nothing(kept, tmp_path, monkeypatch):
    path, shift = kept
    shift.write_text("0.5")
    before = path.read_bytes()
    hardware = tie.find_hardware()
    monkeypatch.setattr(tie, "find_hardware", lambda: {**hardware, "cpu": "another"})
    same, said = verify(tmp_path)
    assert not same and ", here another): " in said[0] and said[1] == f"{ID}: nothing is concluded, as this machine is another one"
    assert path.read_bytes() == before


def test_it_takes_up_no_older_work(kept, tmp_path, monkeypatch):
    caches = []
    real = verifying.execute_run
    monkeypatch.setattr(verifying, "execute_run", lambda job: caches.append(job.workdir()) or real(job))
    monkeypatch.setenv("FER_CACHE", str(tmp_path / "mine"))
    files = sorted(tmp_path.rglob("*"))
    assert verify(tmp_path)[0]
    assert "ferbook-verify-" in str(caches[0]) and not caches[0].exists() and sorted(tmp_path.rglob("*")) == files
    assert verifying.os.environ["FER_CACHE"] == str(tmp_path / "mine")


def test_what_cannot_be_verified(kept, tmp_path):
    register("toy/time", [Run("a", toy.fail)], alone=True)
    with pytest.raises(ValueError, match="toy/time measures time"):
        verify_experiment("toy/time", "book", "muxspace", data=tmp_path)
    with pytest.raises(ValueError, match="runs must be 1 or more, got 0"):
        verify(tmp_path, runs=0)
    with pytest.raises(ValueError, match="no kept run of toy/table-1, profile smoke"):
        verify_experiment(ID, "smoke", "muxspace", data=tmp_path)
    kept_runs = json.loads(kept[0].read_text())["runs"]
    registry._REGISTRY.clear()
    register(ID, [Run("b", measure, {"shift": ""}, 0)])
    with pytest.raises(ValueError, match="no kept run"):
        verify(tmp_path)
    assert json.loads(kept[0].read_text())["runs"] == kept_runs


def test_a_run_that_fails_now(kept, tmp_path, monkeypatch):
    monkeypatch.setattr(verifying, "execute_run", toy.fail)
    with pytest.raises(ExperimentError, match=r"toy/table-1: a, seed .: RuntimeError: no luck"):
        verify(tmp_path)


def test_the_command(kept, tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "default_data", lambda: tmp_path)
    call = ["verify", ID, "--dataset", "muxspace", "--draw", "0"]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 0 and result.output.endswith("every run that was drawn came out again\n")
    kept[1].write_text("0.25")
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 1 and result.output.endswith("ferbook: some runs did not come out again\n")
    result = CliRunner().invoke(app, ["verify", "toy/table-9"])
    assert result.exit_code == 1 and result.output.startswith("ferbook: unknown experiment")


# -- until intervals are narrow -------------------------------------------------------------------------------------------


@pytest.fixture
def skills(empty_registry):
    def plan(setup):
        rows = {"mSVM Gabor": 0.9, "mSVM HOG": 0.75, "mSVM LBP": 0.6, "mSVM shape": 0.45}
        return [run for run in toy.plan_skills(setup, rows, 0.2, seeded=True) if run.arguments["role"] == "basic"]

    register("dlp-cnn/table-5", plan, seeds={"book": 1})


def count_seeds(tmp_path):
    return max(run["seed"] for run in Ledger("dlp-cnn/table-5", "book", "muxspace", tmp_path).runs) + 1


def test_seeds_are_added_until_intervals_are_narrow(skills, tmp_path):
    said = []
    done = run_until_width("dlp-cnn/table-5", 20, 9, dataset="muxspace", data=tmp_path, say=said.append)
    widths = [line for line in said if "the widest interval is" in line]
    assert count_seeds(tmp_path) == 1 + len(widths) and done == 4 * count_seeds(tmp_path) and 2 < count_seeds(tmp_path) < 9
    assert float(widths[-1].rpartition("+-")[2]) <= 20 < float(widths[-2].rpartition("+-")[2])
    assert run_until_width("dlp-cnn/table-5", 20, 9, dataset="muxspace", data=tmp_path) == 0
    assert run_until_width("dlp-cnn/table-5", 1e-3, 9, dataset="muxspace", data=tmp_path) == 4 * (9 - done // 4)


def test_it_stops_at_the_most_seeds(skills, tmp_path):
    assert run_until_width("dlp-cnn/table-5", 1e-3, 1, dataset="muxspace", data=tmp_path) == 4 and count_seeds(tmp_path) == 1
    with pytest.raises(ValueError, match="expected a width above 0 and a seed or more, got 0 and 3"):
        run_until_width("dlp-cnn/table-5", 0, 3, dataset="muxspace", data=tmp_path)
    register("dlp-cnn/table-8", lambda setup: [])
    with pytest.raises(ValueError, match="dlp-cnn/table-8: no claim can be measured on muxspace"):
        run_until_width("dlp-cnn/table-8", 1, 3, dataset="muxspace", data=tmp_path)


def test_the_options_go_together(skills, tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "default_data", lambda: tmp_path)
    item, on = "dlp-cnn/table-5", ("--dataset", "muxspace")
    result = CliRunner().invoke(app, ["reproduce", item, *on, "--until-width", "200", "--max-seeds", "2"])
    assert result.exit_code == 0 and "8 runs done" in result.output and "with 2 seeds, the widest interval is +-" in result.output
    for args in (["--until-width", "1"], ["--max-seeds", "2"], ["--until-width", "1", "--max-seeds", "2", "--seeds", "2"]):
        result = CliRunner().invoke(app, ["reproduce", item, *args])
        assert result.exit_code == 1 and result.output.startswith("ferbook: expected --until-width and --max-seeds together")

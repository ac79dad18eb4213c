import pytest
import toy_experiments as toy
from typer.testing import CliRunner

from fer_utils.cli import app
from fer_utils.experiments import Run, ledger, register_experiment


def run(*args):
    return CliRunner().invoke(app, args)


@pytest.fixture(autouse=True)
def home(empty_registry, monkeypatch, tmp_path):
    """Two experiments of seconds; results go to tmp_path."""
    monkeypatch.setattr(ledger, "default_data", lambda: tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    register_experiment("dlp-cnn/table-5")(toy.plan_skills)
    register_experiment("dlp-cnn/figure-6")(lambda setup: [Run("bad", toy.fail)] if setup.dataset == "facsynth" else [])
    return tmp_path


def test_reproduce_then_print(home):
    result = run("reproduce", "dlp-cnn/table-5", "--dataset", "muxspace")
    assert result.exit_code == 0, result.output
    assert "4 of 4 runs are missing" in result.output
    assert result.output.endswith("4 runs done; 'ferbook ledger --profile book --dataset muxspace' prints the results\n")
    assert (home / "results/book/muxspace/dlp-cnn/table-5.json").is_file()
    assert run("reproduce", "--all", "--dataset", "muxspace").output.count("0 of ") == 2
    printed = run("ledger", "dlp-cnn/table-5")
    assert printed.exit_code == 0, printed.output
    lines = [" ".join(line.split()) for line in printed.output.splitlines()]
    assert "dlp-cnn/table-5 on muxspace" in lines
    assert any(line.startswith("mSVM HOG basic mean diagonal 7") for line in lines)
    assert any(" and LBP than shape, on basic emotions in the wild reproduced 3 of 3 comparisons hold; " in line for line in lines)
    assert any("not attempted muxspace has no lab faces" in line for line in lines)
    assert not any("figure-10" in line or "lambda" in line for line in lines), "claims of other items"
    whole = run("ledger", "dlp-cnn").output
    assert "lambda" in whole and "comparisons hold" not in whole and "mSVM" not in whole, "values and reasons are an item's"
    assert ["dlp-cnn/table-5", "muxspace"] in [line.split()[:2] for line in whole.splitlines()]


def test_all_runs_the_rest_and_names_what_failed(home, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 1)  # each process of the cluster loads torch
    result = run("reproduce", "--all", "--profile", "smoke")
    assert result.exit_code == 1
    assert result.output.splitlines()[-1] == "ferbook: dlp-cnn/figure-6: bad: RuntimeError: no luck"
    assert (home / "results/smoke/facsynth/dlp-cnn/table-5.json").is_file()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("reproduce", "dlp-cnn/table-99"), "unknown experiment 'dlp-cnn/table-99'; expected one of dlp-cnn/table-5, dlp-cnn/figure-6"),
        (("reproduce", "dlp-cn/table-5"), "'dlp-cn/table-5': unknown paper 'dlp-cn'; expected one of "),
        (("ledger", "dlp-cn"), "unknown paper 'dlp-cn'; expected one of "),
        (("ledger", "dlp-cn/table-5"), "'dlp-cn/table-5': unknown paper 'dlp-cn'; expected one of "),
        (("ledger", "dlp-cnn/tabel-5"), "unknown experiment 'dlp-cnn/tabel-5'; expected one of dlp-cnn/table-5, dlp-cnn/figure-6"),
        (("ledger", "dlp-cnn/table-5"), "no results of dlp-cnn/table-5, profile book, on any dataset; 'ferbook reproduce' makes them"),
        (("reproduce",), "expected the ids of experiments, or --all"),
        (("reproduce", "dlp-cnn/table-5", "--all"), "expected the ids of experiments, or --all"),
        (("reproduce", "dlp-cnn/table-5", "--dataset", "imagenet"), "unknown dataset 'imagenet'; expected one of facsynth, rafdb"),
        (("reproduce", "dlp-cnn/table-5", "--workers", "2", "--scheduler", "tcp://127.0.0.1:9"), "workers are local processes"),
        (("ledger",), "no results of any experiment, profile book, on any dataset; 'ferbook reproduce' makes them"),
        (("ledger", "dlp-cnn", "--dataset", "muxspace", "--profile", "smoke"), "no results of dlp-cnn, profile smoke, on muxspace"),
    ],
)
def test_mistakes_are_one_line(args, message):
    result = run(*args)
    assert result.exit_code == 1 and result.output.count("\n") == 1 and result.output.startswith(f"ferbook: {message}")


def test_an_unknown_profile_is_refused():
    result = run("reproduce", "--all", "--profile", "huge")
    assert result.exit_code == 2 and "smoke" in result.output


def test_a_damaged_ledger_is_one_line(home):
    path = home / "results/book/facsynth/dlp-cnn/table-5.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    for command in (("ledger",), ("reproduce", "dlp-cnn/table-5")):
        result = run(*command)
        assert result.exit_code == 1 and result.output.count("\n") == 1 and "table-5.json: cannot be read" in result.output

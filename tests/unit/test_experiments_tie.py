"""A kept run is run again when the code, the faces or the files that made it are other ones now."""

import subprocess

import pytest
import toy_experiments as toy
from conftest import put
from toy_experiments import register
from typer.testing import CliRunner

from fer_utils.cli import app
from fer_utils.datasets import facsynth
from fer_utils.errors import DataError
from fer_utils.experiments import (
    Ledger,
    Run,
    Score,
    execution,
    find_stale,
    ledger,
    list_differences,
    read_ledger,
    run_experiment,
    run_experiments,
    running,
    tie,
)
from fer_utils.experiments.faces import fingerprint_faces

ID = "toy/table-1"
OTHER = {"fer_utils.losses.center": "1" * 12}


@pytest.fixture
def other_code(monkeypatch):
    """Makes the code that is here another one."""

    def change(changes=OTHER):
        real = execution.describe_code
        for module in (execution, tie):
            monkeypatch.setattr(module, "describe_code", lambda *args: {**real(*args), **changes})

    return change


def plan(setup):
    return toy.plan_skills(setup, {"mSVM HOG": 0.7}, 0.2, seeded=True)


def reproduce(tmp_path, seeds=None, id=ID):
    said = []
    done = run_experiment(id, dataset="muxspace", seeds=seeds, data=tmp_path, say=said.append)
    return done, said


def test_other_code_is_run_again_in_place(empty_registry, tmp_path, other_code, monkeypatch):
    register(ID, plan)
    assert reproduce(tmp_path, 2)[0] == 2
    before = Ledger(ID, "book", "muxspace", tmp_path)
    assert len(before.codes) == 1 and all(run["tie"]["code"] in before.codes and run["plan"] is None for run in before.runs)
    assert "toy_experiments" in next(iter(before.codes.values())) and find_stale(before, data=tmp_path) == {}
    other_code()
    why = "was made by other code: losses.center"
    assert set(find_stale(before, data=tmp_path).values()) == {why}
    with monkeypatch.context() as patch:  # cut off after one run: the other stays until it is run again
        real = running.execute_run
        patch.setattr(running, "execute_run", lambda job: real(job) if job.run.seed == 0 else (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            reproduce(tmp_path, 1)
    half = Ledger(ID, "book", "muxspace", tmp_path)
    assert len(half.runs) == 2 and len(half.codes) == 2 and list(find_stale(half, data=tmp_path)) == [half.runs[1]["key"]]
    done, said = reproduce(tmp_path, 1)  # whatever its seed
    assert done == 1 and f"{ID}: 'mSVM HOG basic', seed 1, {why}; it is run again" in said
    after = Ledger(ID, "book", "muxspace", tmp_path)
    assert [run["key"] for run in after.runs] == [run["key"] for run in before.runs] and len(after.codes) == 1
    assert after.codes != before.codes and reproduce(tmp_path, 2)[0] == 0


def test_a_plan_that_names_another_function(empty_registry, tmp_path):
    register(ID, [Run("a", left, {"content": "1"})])
    assert reproduce(tmp_path)[0] == 1
    register_again(ID, [Run("a", also_left, {"content": "1"})])
    done, said = reproduce(tmp_path)
    assert done == 1 and f"{ID}: 'a', seed None, was run with other arguments or by another function; taken out" in said
    assert [run["function"] for run in Ledger(ID, "book", "muxspace", tmp_path).runs] == ["test_experiments_tie:also_left"]


def register_again(id, runs, **options):
    from fer_utils.experiments import registry

    registry._REGISTRY.pop(id, None)
    register(id, runs, **options)


def left(context, content):
    context.save_file("left.txt", content.encode())
    return [Score("left", "", {"length": 1.0})]


def also_left(context, content):
    return left(context, content)


def read(context):
    text = context.find_file("toy/first", "left.txt").read_text()
    return [Score("read", "", {"number": float(text)})]


def test_another_upstream_file_is_read_again(empty_registry, tmp_path):
    register("toy/second", [Run("reader", read)], needs=("toy/first",))
    register("toy/first", [Run("writer", left, {"content": "1"})])
    ids = ["toy/second", "toy/first"]
    said = []
    assert run_experiments(ids, dataset="muxspace", data=tmp_path) == 2
    assert run_experiments(ids, dataset="muxspace", data=tmp_path) == 0
    (run,) = Ledger("toy/second", "book", "muxspace", tmp_path).runs
    assert [(file["id"], file["file"], len(file["sha256"])) for file in run["tie"]["files"]] == [("toy/first", "left.txt", 64)]
    register_again("toy/first", [Run("writer", left, {"content": "2"})])
    assert run_experiments(ids, dataset="muxspace", data=tmp_path, say=said.append) == 2, "upstream first, then what read it"
    assert "toy/second: 'reader', seed None, read another left.txt of toy/first than is here; it is run again" in said
    assert list(read_ledger("toy/second", dataset="muxspace", data=tmp_path)["value"]) == [2.0]
    (tmp_path / "checkpoints/book/muxspace/toy/first/left.txt").unlink()
    assert reproduce(tmp_path, id="toy/second")[0] == 0, "what is not here cannot be compared"


def test_a_role_of_the_shipped_faces_is_its_own_files(facsynth_tree):
    assert facsynth.list_folders("basic", more=True) == ["raf/basic", "more/basic"]

    def fingerprints():
        return [
            fingerprint_faces("facsynth", role=role, options=options)["sha256"]
            for role, options in (("basic", {}), ("basic", {"more": True}), ("compound", {"more": False}), ("lab", {"frames": "apex1"}))
        ]

    def list_changes(name):
        before, path = fingerprints(), facsynth_tree / "SHA256SUMS"
        lines = [line for line in path.read_text().splitlines() if not line.endswith(f"  {name}")]
        path.write_text("".join(f"{line}\n" for line in [*lines[::-1], f"{'0' * 64}  {name}"]))
        return [old != new for old, new in zip(before, fingerprints(), strict=True)]

    assert list_changes("README.md") == [False, False, False, False]
    assert list_changes("raf/basic/truth.parquet") == [True, True, False, False]
    assert list_changes("raf/basic2/truth.parquet") == [False, False, False, False]
    assert list_changes("more/basic/Image/aligned.zip") == [False, True, False, False]
    assert list_changes("ckplus/Emotion.zip") == [False, False, False, True]
    assert fingerprint_faces("facsynth-lab", role="basic") == fingerprint_faces("facsynth", role="lab")
    with pytest.raises(ValueError, match="facsynth has no film faces; it has basic, compound, lab"):
        fingerprint_faces("facsynth", role="film")
    with pytest.raises(DataError, match="the checksums of the shipped faces"):
        (facsynth_tree / "SHA256SUMS").write_text("")
        fingerprint_faces("facsynth", role="lab")


def test_versions_and_processors_are_told_apart_loosely(monkeypatch):
    versions = {"python": "3.11.7", "torch": "2.14.1+cpu", "numpy": "2.4.6", "pandas": "1.0"}
    run = {"versions": versions, "hardware": {"cpu": "A", "threads": 2}}
    monkeypatch.setattr(tie, "find_versions", lambda: {"python": "3.11.9", "torch": "2.14.1", "numpy": "2.4.6", "pandas": "3.1"})
    monkeypatch.setattr(tie, "find_hardware", lambda: {"cpu": "A", "threads": 2})
    assert list_differences(run) == []
    monkeypatch.setattr(tie, "find_versions", lambda: {"python": "3.12.0", "torch": "12.14.1"})
    monkeypatch.setattr(tie, "find_hardware", lambda: {"cpu": "B", "threads": 12})
    assert list_differences(run) == [
        "made with Python 3.11, here 3.12", "made with torch 2.14.1, here 12.14.1", "made with numpy 2.4.6, here none",
        "made with cpu A, here B", "made with threads 2, here 12",
    ]


def test_a_plan_counts_once_it_is_committed(empty_registry, tmp_path):
    data = tmp_path / "data"
    register(ID, plan)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    path = put(data, "plans/book/muxspace/toy/table-1.json", "{}")
    run_experiment(ID, dataset="muxspace", seeds=1, data=data)
    for words in (["add", "."], ["commit", "-q", "-m", "plan"]):
        subprocess.run([*git, *words], check=True)
    run_experiment(ID, dataset="muxspace", seeds=2, data=data)
    path.write_text("{ }")
    run_experiment(ID, dataset="muxspace", seeds=3, data=data)
    plans = [run["plan"] for run in Ledger(ID, "book", "muxspace", data).runs]
    assert plans[0] is None and plans[2] is None and plans[1]["sha256"].startswith("44136fa355b3678a") and len(plans[1]["date"]) >= 20


def test_stale_runs_are_listed(empty_registry, tmp_path, other_code, monkeypatch):
    def call(*args):
        result = CliRunner().invoke(app, ["ledger", "--stale", *args])
        return result.exit_code, result.output

    monkeypatch.setattr(ledger, "default_data", lambda: tmp_path)
    code, text = call()
    assert code == 1 and text == "ferbook: no results of any experiment, profile book, on any dataset\n"
    register(ID, plan)
    register("toy/table-2", [Run("a", left, {"content": "1"})])
    run_experiments([ID, "toy/table-2"], dataset="muxspace", data=tmp_path)
    assert call() == (0, "4 runs are tied to the code, the faces and the files that are here\n")
    monkeypatch.setattr(tie, "find_hardware", lambda: {"cpu": "another"})
    code, text = call("toy/table-2", "--dataset", "muxspace")
    assert code == 0 and "\n  a: may differ slightly: made with cpu " in text
    assert text.endswith("\n1 runs are tied to the code, the faces and the files that are here\n")
    other_code({**OTHER, "fer_utils.metrics": "2" * 12})
    code, text = call(ID)
    assert code == 1 and text.splitlines() == [
        f"{ID} on muxspace", "  mSVM HOG basic (seed 0, 1, 2): was made by other code: losses.center, metrics",
        "ferbook: 3 of 3 runs are stale; 'ferbook reproduce' runs them again",
    ]

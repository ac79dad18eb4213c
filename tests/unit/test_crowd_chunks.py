import shutil
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from crowd_votes import simulate
from typer.testing import CliRunner

from fer_utils.cli import app
from fer_utils.crowd import ReliabilityEM
from fer_utils.crowd.chunks import open_source
from fer_utils.errors import DataError


@pytest.fixture(scope="module")
def votes():
    return simulate(tasks=150, workers=20, votes=9, spammers=3)[0].sample(frac=1, random_state=0, ignore_index=True)


@pytest.fixture(scope="module")
def whole(votes):
    return ReliabilityEM().fit(votes)


def assert_same(model, whole, atol=1e-6):
    """The same fit, up to rounding, whatever the order of tasks and workers."""
    assert model.n_iter_ == whole.n_iter_
    np.testing.assert_allclose(model.alphas_[whole.alphas_.index], whole.alphas_, atol=atol)
    np.testing.assert_allclose(model.betas_[whole.betas_.index], whole.betas_, rtol=10 * atol)
    np.testing.assert_allclose(model.probas_.loc[whole.probas_.index], whole.probas_, atol=atol)
    np.testing.assert_allclose(model.loss_history_, whole.loss_history_, rtol=atol / 1000)
    assert model.labels_[whole.labels_.index].tolist() == whole.labels_.tolist()


@pytest.mark.parametrize("chunk_rows", [1, 100, 10**6])
def test_parquet_in_chunks(votes, whole, tmp_path, chunk_rows):
    votes.assign(more="x").to_parquet(tmp_path / "votes.parquet", row_group_size=97)
    with open_source(tmp_path / "votes.parquet", chunk_rows=chunk_rows) as source:
        sizes = list(source.map(lambda blocks, state: sum(len(block.workers) for block in blocks), _state(source)))
    assert len(sizes) == {1: 150, 100: 14, 10**6: 1}[chunk_rows] and sum(sizes) == len(votes)
    assert max(sizes) <= max(chunk_rows, 9)
    assert_same(ReliabilityEM().fit_file(tmp_path / "votes.parquet", chunk_rows=chunk_rows), whole)


def _state(source):
    from fer_utils.crowd.likelihood import State

    return State.start(np.zeros(len(source.tasks)))


def test_several_parquet_files_with_coded_columns(votes, whole, tmp_path):
    coded = votes.astype({"task": "category", "worker": "int16", "label": "int8"})
    for number in range(3):
        coded.iloc[number::3].to_parquet(tmp_path / f"part-{number}.parquet")
    assert_same(ReliabilityEM().fit_file(tmp_path, chunk_rows=200), whole)


def test_csv_keeps_its_text(votes, whole, tmp_path):
    votes.assign(task="00" + votes["task"].str[1:], worker=votes["worker"] + 100).to_csv(tmp_path / "votes.csv", index=False)
    model = ReliabilityEM(classes=[str(k) for k in range(1, 8)]).fit_file(tmp_path / "votes.csv", chunk_rows=300)
    assert model.betas_.index[0] == "00" + votes["task"][0][1:] and model.probas_.columns.tolist() == list("1234567")
    np.testing.assert_allclose(model.alphas_[[str(w + 100) for w in whole.alphas_.index]], whole.alphas_, atol=1e-6)
    assert model.labels_.tolist() == [str(k) for k in whole.labels_]


@pytest.mark.parametrize(
    ("options", "atol"),
    [
        ({"errors": "shares", "class_prior": "estimated", "prior": 2.0}, 1e-6),
        ({"init": "entropy", "m_step": "gradient", "tol": 1e-5}, 1e-4),  # whether a step helped can hang on the last digit
    ],
)
def test_every_option_works_in_chunks(votes, tmp_path, options, atol):
    votes.to_parquet(tmp_path / "votes.parquet")
    parts, whole = ReliabilityEM(**options).fit_file(tmp_path / "votes.parquet", chunk_rows=200), ReliabilityEM(**options).fit(votes)
    assert_same(parts, whole, atol)


def test_a_dask_cluster_finds_the_same(votes, whole, tmp_path):
    distributed = pytest.importorskip("distributed")
    votes.to_parquet(tmp_path / "votes.parquet")
    local = {"processes": False, "dashboard_address": "127.0.0.1:0", "protocol": "tcp", "host": "127.0.0.1"}
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, **local) as cluster:
        address = cluster.scheduler_address
        assert_same(ReliabilityEM().fit_file(tmp_path / "votes.parquet", chunk_rows=200, scheduler=address), whole)
        with distributed.Client(cluster, set_as_default=False) as client:
            assert_same(ReliabilityEM().fit_file(tmp_path / "votes.parquet", chunk_rows=500, scheduler=client), whole)
            assert client.status == "running", "a client that was handed over stays open"


def test_memory_holds_a_chunk_not_the_votes(tmp_path):
    votes = simulate(tasks=400, workers=600, votes=500)[0]
    votes.to_parquet(tmp_path / "votes.parquet", row_group_size=10_000)

    def peak(fit):
        tracemalloc.start()
        fit()
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    whole = peak(lambda: ReliabilityEM(tol=1e-3).fit(votes))
    parts = peak(lambda: ReliabilityEM(tol=1e-3).fit_file(tmp_path / "votes.parquet", chunk_rows=10_000))
    assert parts < whole / 4, (parts, whole)


# -- a fit that is killed -----------------------------------------------------------------------------------------------------


class Killed(Exception):
    pass


def kill_after(iteration):
    def on_step(step):
        if step.iteration == iteration:
            raise Killed

    return on_step


def test_a_killed_fit_goes_on(votes, tmp_path):
    path, scratch = tmp_path / "votes.parquet", tmp_path / "scratch"
    votes.to_parquet(path)
    straight = ReliabilityEM().fit_file(path, chunk_rows=200)
    with pytest.raises(Killed):
        ReliabilityEM().fit_file(path, chunk_rows=200, scratch=scratch, on_step=kill_after(3))
    assert (scratch / "state.npz").is_file()
    steps = []
    model = ReliabilityEM().fit_file(path, chunk_rows=200, scratch=scratch, on_step=steps.append)
    assert steps[0].iteration == 4
    np.testing.assert_array_equal(model.alphas_, straight.alphas_)
    np.testing.assert_array_equal(model.probas_, straight.probas_)
    assert model.loss_history_ == straight.loss_history_
    assert not scratch.exists()


@pytest.mark.parametrize("change", ["votes", "option", "chunk_rows"])
def test_another_fit_starts_anew(votes, tmp_path, change):
    path, scratch = tmp_path / "votes.parquet", tmp_path / "scratch"
    votes.to_parquet(path)
    with pytest.raises(Killed):
        ReliabilityEM().fit_file(path, chunk_rows=200, scratch=scratch, on_step=kill_after(3))
    if change == "votes":
        votes.iloc[:-1].to_parquet(path)
    steps = []
    model = ReliabilityEM(prior=2.0 if change == "option" else 1.0)
    model.fit_file(path, chunk_rows=300 if change == "chunk_rows" else 200, scratch=scratch, on_step=steps.append)
    assert steps[0].iteration == 1
    assert_same(model, ReliabilityEM(prior=model.prior).fit(pd.read_parquet(path)))


def test_a_kill_while_reading_leaves_nothing_that_misleads(votes, whole, tmp_path, monkeypatch):
    path, scratch = tmp_path / "votes.parquet", tmp_path / "scratch"
    votes.to_parquet(path)
    with monkeypatch.context() as patch:
        patch.setattr(np, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            ReliabilityEM().fit_file(path, chunk_rows=200, scratch=scratch)
    assert any(scratch.iterdir())
    assert_same(ReliabilityEM().fit_file(path, chunk_rows=200, scratch=scratch), whole)


def test_a_folder_of_somebody_else_is_left_alone(votes, tmp_path):
    votes.to_parquet(tmp_path / "votes.parquet")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match=r"mine: holds something else; expected an empty or new scratch folder"):
        ReliabilityEM().fit_file(tmp_path / "votes.parquet", scratch=mine)
    assert (mine / "thesis.txt").read_text() == "years of work"


# -- clear errors -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("votes.csv", None, r"votes.csv: not found; expected a .csv or .parquet table with the columns task, worker, label"),
        ("votes.txt", "task,worker,label\n", r"votes.txt: of another kind; expected a .csv or .parquet"),
        ("votes.csv", "", r"votes.csv: cannot be read"),
        ("votes.csv", "task,worker,label\n", r"votes.csv: no votes; expected"),
        ("votes.csv", "task,label\na,1\n", r"votes.csv: no columns 'worker' \(columns: task, label\)"),
        ("votes.csv", "task,worker,label\na,x,1\na,y\n", r"votes.csv: cannot be read \(.*Expected 3 columns, got 2"),
        ("votes.csv", "task,worker,label\na,x,1\na,y,\n", r"votes.csv: row 2 has no label; expected a task, a worker and a label"),
        ("votes.csv", "task,worker,label\na,x,1\na,y,1\n", r"votes.csv: every vote is for '1', .* expected the other .* after --classes"),
        ("votes.parquet", "no table", r"votes.parquet: cannot be read"),
    ],
)
def test_tables_that_are_none(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        ReliabilityEM().fit_file(tmp_path / name, scratch=tmp_path / "scratch")
    assert not (tmp_path / "scratch").exists()


def test_a_vote_for_no_class_is_the_fault_of_the_file(votes, tmp_path):
    votes.to_parquet(tmp_path / "votes.parquet")
    with pytest.raises(DataError, match=r"votes.parquet: label \d is no class; expected one of 1, 2"):
        ReliabilityEM(classes=[1, 2]).fit_file(tmp_path / "votes.parquet")


@pytest.mark.parametrize("text", ["NaN", "nan", "NA", "N/A", "null", "NULL", "None", "<NA>", '"NA"', " ", " nan "])
def test_what_programs_write_for_nothing_is_no_class(tmp_path, text):
    (tmp_path / "votes.csv").write_text(f"task,worker,label\na,x,1\na,y,{text}\nb,x,2\n")
    with pytest.raises(DataError, match=r"row 2 has no label; expected .* in each row .blanks and NaN, .* count as none"):
        ReliabilityEM().fit_file(tmp_path / "votes.csv")


def test_blanks_around_a_value_do_not_matter_in_a_csv(votes, whole, tmp_path):
    padded = votes.assign(label=votes["label"].map(lambda k: f" {k}" if k % 2 else f"{k} ")).astype(str)
    padded.assign(task=padded["task"] + "\t").to_csv(tmp_path / "votes.csv", index=False)
    model = ReliabilityEM().fit_file(tmp_path / "votes.csv")
    assert model.probas_.columns.tolist() == list("1234567") and sorted(model.betas_.index) == sorted(whole.betas_.index)
    padded.to_parquet(tmp_path / "votes.parquet")
    assert " 1" in ReliabilityEM().fit_file(tmp_path / "votes.parquet").probas_.columns


def test_a_missing_value_is_found_where_it_is(votes, tmp_path):
    votes.assign(label=votes["label"].where(votes.index != 1234).astype(float)).to_parquet(tmp_path / "votes.parquet", row_group_size=100)
    with pytest.raises(DataError, match="row 1235 has no label"):
        ReliabilityEM().fit_file(tmp_path / "votes.parquet")


@pytest.mark.parametrize(("scheduler", "message"), [("somewhere", "scheduler must be tcp://host:port, got 'somewhere'")])
def test_schedulers_that_are_none(votes, tmp_path, scheduler, message):
    votes.to_parquet(tmp_path / "votes.parquet")
    with pytest.raises(ValueError, match=message):
        ReliabilityEM().fit_file(tmp_path / "votes.parquet", scheduler=scheduler)


def test_without_dask_a_scheduler_says_what_to_install(votes, tmp_path, monkeypatch):
    votes.to_parquet(tmp_path / "votes.parquet")
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(ImportError, match=r"needs Dask .* pip install"):
        ReliabilityEM().fit_file(tmp_path / "votes.parquet", scheduler="tcp://127.0.0.1:1")


# -- ferbook crowd fit --------------------------------------------------------------------------------------------------------


def run(*arguments):
    return CliRunner().invoke(app, ["crowd", "fit", *map(str, arguments)])


def test_command(votes, whole, tmp_path):
    votes.to_csv(tmp_path / "votes.csv", index=False)
    done = run(tmp_path / "votes.csv", "--out", tmp_path / "labels.csv", "--workers", tmp_path / "workers.parquet", "--chunk-rows", 100)
    assert done.exit_code == 0, done.output
    assert "150 tasks labelled by 20 annotators" in done.output and "iteration 1: objective" in done.output
    labels = pd.read_csv(tmp_path / "labels.csv").set_index("task").loc[whole.labels_.index]
    assert labels.columns.tolist() == ["label", *(f"p_{k}" for k in range(1, 8)), "beta"]
    assert labels["label"].tolist() == whole.labels_.tolist()
    np.testing.assert_allclose(labels["beta"], whole.betas_, rtol=1e-5)
    np.testing.assert_allclose(labels.filter(like="p_"), whole.probas_, atol=1e-6)
    workers = pd.read_parquet(tmp_path / "workers.parquet")
    assert workers.columns.tolist() == ["worker", "alpha"]
    np.testing.assert_allclose(workers["alpha"], whole.alphas_, atol=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.csv", "votes.csv", "workers.parquet"]


def test_command_with_classes(votes, tmp_path):
    kept = votes[votes["label"] != 7]
    kept.to_parquet(tmp_path / "votes.parquet")
    done = run(tmp_path / "votes.parquet", "--out", tmp_path / "labels.parquet", "--classes", "1,2,3,4,5,6,7")
    assert done.exit_code == 0, done.output
    labels = pd.read_parquet(tmp_path / "labels.parquet")
    assert (labels["p_7"] > 0).any() and labels["label"].max() == 6
    expected = ReliabilityEM(classes=range(1, 8)).fit(kept)
    assert labels.set_index("task")["label"].loc[expected.labels_.index].tolist() == expected.labels_.tolist()


@pytest.mark.parametrize(
    ("out", "options", "message"),
    [
        ("labels.txt", (), "expected a .csv or .parquet file other than the votes, in a folder that is there"),
        ("nowhere/labels.csv", (), "expected a .csv or .parquet file other than the votes"),
        ("votes.csv", (), "cannot write"),
        ("labels.csv", ("--workers", "x.doc"), "cannot write x.doc"),
        ("labels.csv", ("--classes", "1,2,"), "is no class; expected one of 1, 2\n"),
        ("labels.csv", ("--classes", " , "), "--classes names none, got ' , '; expected names with commas between them"),
        ("labels.csv", ("--scheduler", "here"), "scheduler must be tcp://host:port, got 'here'"),
    ],
)
def test_command_refuses(votes, tmp_path, out, options, message):
    votes.to_csv(tmp_path / "votes.csv", index=False)
    before = (tmp_path / "votes.csv").read_bytes()
    done = run(tmp_path / "votes.csv", "--out", tmp_path / out, *options)
    assert done.exit_code == 1 and message in done.output and "Traceback" not in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["votes.csv"] and (tmp_path / "votes.csv").read_bytes() == before


def test_command_keeps_its_two_files_apart(votes, tmp_path, monkeypatch):
    votes.to_csv(tmp_path / "votes.csv", index=False)
    (tmp_path / "folder.csv").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ReliabilityEM, "fit_file", lambda *_, **__: pytest.fail("fitted"))
    for out, workers, message in (
        ("labels.csv", tmp_path / "labels.csv", "cannot write labels.csv twice; expected another file after --workers than after --out"),
        ("folder.csv", "workers.csv", "cannot write folder.csv; expected a .csv or .parquet file"),
        ("labels.csv", "folder.csv", "cannot write folder.csv; expected a .csv or .parquet file"),
    ):
        done = run("votes.csv", "--out", out, "--workers", workers)
        assert done.exit_code == 1 and message in done.output


def test_command_with_one_class_says_what_to_do(tmp_path):
    (tmp_path / "votes.csv").write_text("task,worker,label\na,x,1\na,y,1\n")
    done = run(tmp_path / "votes.csv", "--out", tmp_path / "labels.csv")
    assert done.exit_code == 1 and "votes.csv: every vote is for 1," in done.output and "--classes" in done.output
    assert run(tmp_path / "votes.csv", "--out", tmp_path / "labels.csv", "--classes", "1, 2").exit_code == 0


def test_command_goes_on_after_a_kill(votes, tmp_path, monkeypatch):
    votes.to_csv(tmp_path / "votes.csv", index=False)
    with monkeypatch.context() as patch:
        patch.setattr("fer_utils.cli.crowd._show", kill_after(2))
        assert isinstance(run(tmp_path / "votes.csv", "--out", tmp_path / "labels.csv").exception, Killed)
    assert not (tmp_path / "labels.csv").exists() and (tmp_path / "labels.csv.chunks").is_dir()
    done = run(tmp_path / "votes.csv", "--out", tmp_path / "labels.csv")
    assert done.exit_code == 0 and "iteration 3:" in done.output and "iteration 2:" not in done.output
    shutil.rmtree(tmp_path)

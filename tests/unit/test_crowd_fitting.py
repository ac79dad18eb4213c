import itertools
import shutil
from pathlib import Path

import pandas as pd
import pytest
from crowd_votes import simulate
from typer.testing import CliRunner

from fer_utils.cli import app
from fer_utils.crowd import ReliabilityEM
from fer_utils.crowd.fitting import _lock_folder, _read_checked, _write_checked, find_ties, fit_table
from fer_utils.crowd.tidying import Repeats
from fer_utils.errors import DataError


@pytest.fixture(scope="module")
def votes():
    return simulate(tasks=60, workers=12, votes=7)[0].sample(frac=1, random_state=0, ignore_index=True)


@pytest.fixture
def table(votes, tmp_path):
    votes.to_csv(tmp_path / "votes.csv", index=False)
    return tmp_path / "votes.csv"


class Killed(BaseException):
    pass


def kill_after(iteration):
    def on_step(step):
        if step.iteration == iteration:
            raise Killed

    return on_step


def fit(table, **options):
    """A fit in small chunks, and its first iteration."""
    steps = []
    model = fit_table(table, table.with_name("chunks"), chunk_rows=100, say=[].append, on_step=steps.append, **options)
    return model, steps[0].iteration


def start(table, **options):
    with pytest.raises(Killed):
        fit_table(table, table.with_name("chunks"), chunk_rows=100, say=[].append, on_step=kill_after(3), **options)
    return table.with_name("chunks")


def assert_same(model, other):
    pd.testing.assert_frame_equal(model.probas_, other.probas_)
    pd.testing.assert_series_equal(model.alphas_, other.alphas_)
    assert model.loss_history_ == other.loss_history_


def test_a_fit_to_a_table_is_a_fit_to_its_votes(table, votes):
    model, _ = fit(table)
    whole = ReliabilityEM().fit(votes)
    pd.testing.assert_frame_equal(model.probas_.loc[whole.probas_.index], whole.probas_, atol=1e-6)
    pd.testing.assert_series_equal(model.alphas_[whole.alphas_.index], whole.alphas_, atol=1e-6)
    assert [file.name for file in table.parent.iterdir()] == ["votes.csv"]


def test_a_killed_fit_goes_on(table):
    straight, _ = fit(table)
    start(table)
    model, first = fit(table)
    assert first == 4 and not table.with_name("chunks").exists()
    assert_same(model, straight)


def test_another_question_starts_anew(table):
    start(table)
    assert fit(table, repeats=Repeats.FIRST)[1] == 1
    start(table)
    table.write_text(table.read_text() + "more,0,1\n")
    model, first = fit(table)
    assert first == 1 and "more" in model.labels_.index


FILES = (
    "plan.json",
    "sums.json",
    "votes.parquet",
    "chunks/plan.json",
    "chunks/counts.npz",
    "chunks/task.parquet",
    "chunks/worker.parquet",
    "chunks/label.parquet",
    "chunks/state.npz",
    "chunks/chunk-000000.npy",
    "chunks/chunk-000003.npy",
)


def flip(path: Path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def truncate(path: Path):
    path.write_bytes(path.read_bytes()[:-7])


@pytest.fixture(scope="module")
def killed(votes, tmp_path_factory):
    """What a killed fit left, and what the fit would have come to."""
    folder = tmp_path_factory.mktemp("killed")
    votes.to_csv(folder / "votes.csv", index=False)
    straight, _ = fit(folder / "votes.csv")
    start(folder / "votes.csv")
    return folder, straight


@pytest.mark.parametrize(
    ("name", "damage"), [(name, flip) for name in FILES] + list(itertools.product(FILES[::4], (truncate, Path.unlink)))
)
def test_what_is_damaged_is_made_anew(killed, tmp_path, name, damage):
    folder, straight = killed
    shutil.copytree(folder / "chunks", tmp_path / "chunks")
    table = shutil.copy2(folder / "votes.csv", tmp_path / "votes.csv")
    plan = tmp_path / "chunks" / "plan.json"  # it names the table
    kept = _read_checked(plan)
    kept["asked"][0][0][0] = str(table)
    _write_checked(plan, kept)
    damage(tmp_path / "chunks" / name)
    model, first = fit(table)
    assert first == 1
    assert_same(model, straight)
    assert [file.name for file in tmp_path.iterdir()] == ["votes.csv"]


@pytest.mark.parametrize("rest", ["nothing", "half", "older"])
def test_other_leavings_of_fits(table, rest):
    straight, _ = fit(table)
    folder = table.with_name("chunks")
    folder.mkdir()
    if rest == "half":
        (folder / "votes.raw").write_bytes(b"123")
        (folder / "plan.json.0123456789ab.part").write_bytes(b"123")
    if rest == "older":  # the chunks lay in the folder itself
        (folder / ".ferbook-crowd").touch()
        (folder / "chunk-000000.npy").write_bytes(b"123")
    assert_same(fit(table)[0], straight)
    assert not folder.exists()


def test_a_folder_or_file_of_somebody_else_is_left_alone(table):
    folder = table.with_name("chunks")
    folder.write_text("years of work")
    with pytest.raises(
        DataError, match=r"chunks: holds something else; expected no such folder, or one that a fit left"
    ):
        fit(table)
    assert folder.read_text() == "years of work"
    folder.unlink()
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="holds something else"):
        fit(table)
    assert (folder / "thesis.txt").read_text() == "years of work"


def test_two_fits_of_one_output_are_one_too_many(table):
    pytest.importorskip("fcntl")
    straight, _ = fit(table)
    refused = []

    def again(step):
        if step.iteration == 2:
            with pytest.raises(
                DataError, match=r"chunks: another process is fitting there; expected one fit"
            ) as caught:
                fit(table)
            refused.append(caught)

    model = fit_table(table, table.with_name("chunks"), chunk_rows=100, say=print, on_step=again)
    assert len(refused) == 1
    assert_same(model, straight)
    assert [file.name for file in table.parent.iterdir()] == ["votes.csv"]


# -- ties ---------------------------------------------------------------------------------------------------------


def test_ties():
    probas = pd.DataFrame([[0.5, 0.5, 0], [0.2, 0.4, 0.4], [0.1, 0.4, 0.5], [1 / 3] * 3], index=list("abcd"))
    assert find_ties(probas).tolist() == ["a", "b", "d"]
    assert find_ties(probas.iloc[[0, 2], :2]).tolist() == ["a"]


# -- ferbook crowd fit --------------------------------------------------------------------------------------------


def run(folder, rows, *options, header="task,worker,label"):
    (folder / "v.csv").write_text("\n".join([header, *rows]) + "\n")
    arguments = ["crowd", "fit", str(folder / "v.csv"), "--out", str(folder / "o.csv"), *options]
    done = CliRunner().invoke(app, arguments)
    assert "Traceback" not in done.output
    return done, pd.read_csv(folder / "o.csv").set_index("task") if done.exit_code == 0 else None


def test_command_reports_ties(tmp_path):
    done, found = run(tmp_path, ["a,w1,sad", "a,w2,happy", "b,w1,sad", "b,w2,sad"])
    assert "note: 1 task is tied, 'a': the two most probable classes are equal" in done.stderr
    assert found.loc["a", "p_happy"] == pytest.approx(0.5, abs=1e-3)
    done, _ = run(tmp_path, ["a,w1,sad", "a,w2,sad", "b,w1,happy", "b,w2,happy"])
    assert "tied" not in done.output


def test_command_takes_spellings_as_one(tmp_path):
    rows = ["a,w1,1", "a,w2,1.0", "a,w3,1", "a,w4,1.0", "a,w5,2", "a,w6,2", "a,w7,2", "b,w5,2", "b,w6,2", "b,w7,2"]
    done, found = run(tmp_path, rows)
    assert "note: label 1 is written '1', '1.0': taken as one class" in done.stderr
    assert found.columns.tolist() == ["label", "p_1", "p_2", "beta"] and found["label"].tolist() == [1, 2]


def test_command_and_repeats(tmp_path):
    rows = [*["a,w1,1"] * 6, "a,w2,2", "a,w3,2", "a,w4,2", "b,w1,1", "b,w2,1", "b,w3,1", "c,w2,2", "c,w3,2", "c,w4,2"]
    done, found = run(tmp_path, rows)
    assert "note: 5 votes come again" in done.stderr and found["label"].tolist() == [1, 1, 2]
    done, found = run(tmp_path, rows, "--repeats", "first")
    assert "5 votes are left out" in done.stderr and found["label"].tolist() == [2, 1, 2]
    done, _ = run(tmp_path, rows, "--repeats", "error")
    assert done.exit_code == 1 and "v.csv: 5 votes come again" in done.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == ["o.csv", "v.csv"]


def test_command_writes_nothing_among_the_votes(tmp_path):
    (tmp_path / "votes").mkdir()
    pd.DataFrame({"task": ["a", "b"], "worker": [1, 1], "label": [1, 2]}).to_parquet(tmp_path / "votes" / "1.parquet")
    out = tmp_path / "votes" / "labels.parquet"
    done = CliRunner().invoke(app, ["crowd", "fit", str(tmp_path / "votes"), "--out", str(out)])
    assert (
        done.exit_code == 1 and "labels.parquet; expected a .csv or .parquet file other than the votes" in done.stderr
    )
    assert [file.name for file in (tmp_path / "votes").iterdir()] == ["1.parquet"]


def test_command_reads_a_column_a_worker(tmp_path):
    done, found = run(tmp_path, ["x.png;1;2;1", "y.png;2;2;"], header="Image;r1;r2;r3")
    assert "a column for each of 3 workers" in done.stderr and found["label"].tolist() == [1, 2]


def test_a_file_that_is_lost_in_a_fit_is_told_as_it_is(tmp_path):
    folder = tmp_path / "labels.csv.chunks"
    with pytest.raises(FileNotFoundError, match="gone"), _lock_folder(folder):
        raise FileNotFoundError("gone")

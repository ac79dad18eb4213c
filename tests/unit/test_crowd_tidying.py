import numpy as np
import pandas as pd
import pytest

from fer_utils.crowd import tidying
from fer_utils.crowd.tidying import Repeats, tidy_votes
from fer_utils.errors import DataError


def tidy(folder, rows, **options):
    (folder / "votes.csv").write_text("\n".join(["task,worker,label", *rows]) + "\n", encoding="utf-8")
    classes, notes = tidy_votes(folder / "votes.csv", folder / "tidied.parquet", **options)
    return pd.read_parquet(folder / "tidied.parquet"), classes, notes


def labels(folder, *spelled, **options):
    frame, classes, notes = tidy(folder, [f"t{n},w,{label}" for n, label in enumerate(spelled)], **options)
    return frame["label"].tolist(), classes, notes


# -- one spelling -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spelled", "kept", "classes"),
    [
        (["1", "1.0", "1.", "01", "+1", "1e0", "1.000e+00", "2"], [1] * 7 + [2], [1, 2]),
        (["9", "9.0", "10"], [9, 9, 10], [9, 10]),
        (["0", "-0", "0.0", "1"], [0, 0, 0, 1], [0, 1]),
        (["1.50", "1.5", "2"], [1.5, 1.5, 2.0], [1.5, 2.0]),
        (["1", "1.0", "unsure"], ["1", "1", "unsure"], ["1", "unsure"]),
        (["happy", "Happy", "happy", "HAPPY", "sad"], ["happy"] * 4 + ["sad"], ["happy", "sad"]),
        (["happiness", "happy", "happiness", "sad"], ["happiness"] * 3 + ["sad"], ["happiness", "sad"]),
        (["Surprised", "surprise", "fear"], ["Surprised", "Surprised", "fear"], ["Surprised", "fear"]),
        (["dégoût", "de\u0301gou\u0302t", "DÉGOÛT", "joie"], ["dégoût"] * 3 + ["joie"], ["dégoût", "joie"]),
        (["ａｎｇｅｒ", "anger", "anger", "１"], ["anger"] * 3 + ["１"], ["anger", "１"]),
        (["a  b", "a b", "a\u00a0b", "c"], ["a  b"] * 3 + ["c"], ["a  b", "c"]),
        (["STRASSE", "straße", "c"], ["STRASSE"] * 2 + ["c"], ["STRASSE", "c"]),
    ],
)
def test_labels_that_mean_one_class(tmp_path, spelled, kept, classes):
    found, order, notes = labels(tmp_path, *spelled)
    assert (found, order) == (kept, classes) and [type(a) for a in found] == [type(b) for b in kept]
    assert len(notes) == 1 and notes[0].endswith("taken as one class") and f"label {kept[0]!r} is written" in notes[0]


@pytest.mark.parametrize(
    "spelled", [["1_0", "10"], ["١", "x"], ["1,0", "10"], ["9007199254740993", "9007199254740992"], ["inf", "x"]]
)
def test_labels_that_do_not(tmp_path, spelled):
    found, _, notes = labels(tmp_path, *(f'"{label}"' for label in spelled))
    assert len(set(found)) == 2 and notes == []


def test_classes_name_the_classes(tmp_path):
    found, classes, notes = labels(tmp_path, "Happy", "HAPPY", "sad", classes=["sadness", "happiness", "anger"])
    assert (found, classes) == (["happiness", "happiness", "sadness"], ["sadness", "happiness", "anger"])
    assert notes == ["label 'happiness' is written 'Happy', 'HAPPY': taken as one class"]
    assert labels(tmp_path, "1.0", "2", classes=["1", "2", "3"])[:2] == ([1, 2], [1, 2, 3])
    with pytest.raises(DataError, match=r"votes.csv: label 4 is no class; expected one of 1, 2, 3"):
        labels(tmp_path, "1", "4", classes=["1", "2", "3"])


def test_classes_keep_apart_what_they_name_apart(tmp_path):
    assert labels(tmp_path, "A", "a", "a", classes=["A", "a"]) == (["A", "a", "a"], ["A", "a"], [])
    with pytest.raises(DataError, match=r"label 'á' is no class"):
        labels(tmp_path, "A", "a", "á", classes=["A", "a"])
    with pytest.raises(ValueError, match="classes must differ"):
        labels(tmp_path, "A", "a", classes=["A", "A"])


def test_many_spellings_are_told_in_few_lines(tmp_path):
    spelled = [way for n in range(20) for way in (f"x{n}", f"X{n}")] + [f"y{' ' * n}y" for n in range(1, 9)]
    _, classes, notes = labels(tmp_path, *spelled)
    assert len(classes) == 21 and len(notes) == 6 and notes[-1].startswith("16 more labels are written in several ways")


@pytest.mark.parametrize(
    ("spelled", "kept", "told"),
    [
        (["1", "2", "1.0"], [1, 2, 1], 1),
        (["1.0", "2.0"], [1, 2], 0),
        (["007", "7"], ["007", "7"], 0),
        (["1.5", "1.50"], ["1.5", "1.50"], 0),
        (["w1", "W1"], ["w1", "W1"], 0),
        (["é.png", "e\u0301.png"], ["é.png", "é.png"], 1),
        (["9" * 30, "1"], ["9" * 30, "1"], 0),
    ],
)
@pytest.mark.parametrize("column", ["task", "worker"])
def test_tasks_and_workers_are_the_same_only_by_name(tmp_path, column, spelled, kept, told):
    rows = [f"{name},x{n},{n % 2}" if column == "task" else f"x{n},{name},{n % 2}" for n, name in enumerate(spelled)]
    frame, _, notes = tidy(tmp_path, rows)
    assert frame[column].tolist() == kept and len(notes) == told
    assert all(note.endswith(f"taken as one {column}") for note in notes)


# -- repeated votes -----------------------------------------------------------------------------------------------

REPEATED = ["a,w1,happy", "a,w1,happiness", "b,w2,sad", "a,w1,Happy", "b,w2,happy", "b,w1,sad", "b,w2,sad", "c,w3,sad"]
TOLD = (
    "3 votes come again, from the same worker for the same class (first: worker 'w1' on task 'a'); "
    "1 time a worker votes for several classes on one task (first: worker 'w2' on task 'b')"
)


@pytest.fixture(params=[(1, 3), (2**21, 2**18)])
def piecewise(request, monkeypatch):
    """However few votes are compared and read at a time."""
    monkeypatch.setattr(tidying, "_RANGE", request.param[0])
    monkeypatch.setattr(tidying, "_BLOCK", request.param[1])


@pytest.mark.usefixtures("piecewise")
def test_repeated_votes_are_counted_and_all_kept(tmp_path):
    frame, _, notes = tidy(tmp_path, REPEATED)
    assert len(frame) == 8 and frame["worker"].tolist() == ["w1", "w1", "w2", "w1", "w2", "w1", "w2", "w3"]
    assert notes[-1] == f"{TOLD}: all votes count; --repeats first counts the first of each worker on a task"


@pytest.mark.usefixtures("piecewise")
def test_or_the_first_of_them(tmp_path):
    frame, _, notes = tidy(tmp_path, REPEATED, repeats=Repeats.FIRST)
    first = [("a", "w1", "happy"), ("b", "w2", "sad"), ("b", "w1", "sad"), ("c", "w3", "sad")]
    assert list(frame.itertuples(index=False, name=None)) == first
    assert notes[-1] == f"{TOLD}: the first of each worker on a task counts, 4 votes are left out"


@pytest.mark.usefixtures("piecewise")
def test_or_refused(tmp_path):
    with pytest.raises(DataError) as caught:
        tidy(tmp_path, REPEATED, repeats=Repeats.ERROR)
    expected = "one vote of each worker on a task; or --repeats keep, or first"
    assert str(caught.value) == f"{tmp_path / 'votes.csv'}: {TOLD}; expected {expected}"
    assert [file.name for file in tmp_path.iterdir()] == ["votes.csv"]
    assert len(tidy(tmp_path, REPEATED[-3:-2] + REPEATED[-1:] + ["c,w1,happy"], repeats=Repeats.ERROR)[0]) == 3


@pytest.mark.usefixtures("piecewise")
def test_repeats_are_counted_as_pandas_counts_them(tmp_path):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {name: rng.integers(0, size, 200) for name, size in (("task", 9), ("worker", 12), ("label", 3))}
    )
    frame, _, notes = tidy(
        tmp_path, [f"{t},{w},{k}" for t, w, k in table.itertuples(index=False)], repeats=Repeats.FIRST
    )
    first = table[~table.duplicated(["task", "worker"])]
    assert frame.to_numpy().tolist() == first.to_numpy().tolist()
    several = int((table.groupby(["task", "worker"])["label"].nunique() > 1).sum())
    assert f"{table.duplicated().sum()} votes come again" in notes[0] and f"{several} times a worker votes" in notes[0]
    assert f"{200 - len(first)} votes are left out" in notes[0]


def test_what_is_told_is_escaped_and_short(tmp_path):
    _, _, notes = tidy(tmp_path, ["a\x1b[2J,w,1", "a\x1b[2J,w,1", f"{'b' * 9000},w,2"])
    assert "'a\\x1b[2J'" in notes[0] and all(note.isprintable() and len(note) < 300 for note in notes)

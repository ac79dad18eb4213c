"""``benchmarks/gpu.py`` in miniature, without a GPU: its checks, its speeds, its runs, and what it does when one of them fails."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fer_utils.experiments import Run, read_ledger

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu.py"
#: What the script says that it needs; the package and the book depend on more.
NEEDED = {"torch", "numpy", "scipy", "scikit-learn", "pandas", "pillow", "pyarrow", "safetensors", "accelerate", "pyyaml", "tqdm"}
MODULES = {
    "scikit-image": "skimage", "opencv-python-headless": "cv2", "crowd-kit": "crowdkit", "umap-learn": "umap",
    "jupyter-book": "jupyter_book", "pytorch-metric-learning": "pytorch_metric_learning",
    "sphinx-exercise": "sphinx_exercise", "pytest-xdist": "xdist",
}


#: The script where packages are hidden, on a few faces: to read them all takes longer than everything else.
CHILD = """
import runpy, sys
sys.modules.update(dict.fromkeys({hidden!r}))
sys.path[:0] = {paths!r}
from fer_utils.experiments import context
from papers.shipped import load_few
context.load_role = load_few()
sys.argv[:] = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def script(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr(sys, "path", sys.path.copy())
    spec = importlib.util.spec_from_file_location("gpu_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_miniature_needs_few_packages_and_ends_with_0(tmp_path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = {text for group in (project["dependencies"], *project["optional-dependencies"].values()) for text in group}
    names = {text.split("[")[0].split(">")[0].split("=")[0] for text in asked} - NEEDED
    hidden = sorted(MODULES.get(name, name) for name in names)
    assert {"torchvision", "skimage", "matplotlib", "typer", "pytest"} <= set(hidden)
    code = CHILD.format(hidden=hidden, paths=[str(ROOT), str(ROOT / "tests" / "unit")])
    out, cache = tmp_path / "out", tmp_path / "cache"
    command = [sys.executable, "-c", code, str(SCRIPT), "--device", "cpu", "--minutes", "60", "--out", str(out)]
    environment = {**os.environ, "FER_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "base_dcnn, bfloat16: " in done.stdout and "no waiting: locality in a bank: ok" in done.stdout
    assert "left    vgg, float32: torchvision is missing" in done.stdout
    assert set(read_ledger("dlp-cnn/table-6", "smoke", "facsynth", out)["run"]) == {"baseDCNN", "center loss", "DLP-CNN"}


def test_a_failed_part_is_reported_and_the_others_go_on(script, monkeypatch, capsys):
    def fail(*rest):
        raise RuntimeError("no luck")

    did = []
    monkeypatch.setattr(script, "CHECKS", {"broken": fail, "sound": lambda device: did.append("check")})
    monkeypatch.setattr(script, "list_models", lambda: ["base_dcnn"])
    monkeypatch.setattr(script, "measure_speed", fail)
    monkeypatch.setattr(script, "run_table", lambda report: did.append("table"))
    assert script.main(["--device", "cpu"]) == 1 and did == ["check", "table"]
    printed = capsys.readouterr().out
    assert "FAILED  broken: RuntimeError: no luck" in printed
    assert "3 failed: broken, base_dcnn, float32, base_dcnn, bfloat16; 0 left" in printed
    monkeypatch.setattr(script, "CHECKS", {})
    monkeypatch.setattr(script, "measure_speed", lambda *given: "fast")
    assert script.main(["--device", "cpu"]) == 0


def test_a_run_begins_only_if_it_would_end_in_time(script, monkeypatch):
    class Report:
        seconds, spent, left = 100.0, 0.0, []

    report = Report()
    keeper = script.TimeKeeper(report, guess=50.0)
    run = Run("DLP-CNN", "module:function", seed=1)
    answers = []
    for report.spent in (0.0, 30.0, 60.0, 80.0):  # each took no more than 30 s, which is less than was guessed
        answers.append(keeper(run))
    assert answers == [True, True, True, False]
    assert report.left == ["dlp-cnn/table-6: DLP-CNN, seed 1: would take about 30 s"]
    assert not script.TimeKeeper(report, guess=50.0)(run), "there is no time for what is guessed"

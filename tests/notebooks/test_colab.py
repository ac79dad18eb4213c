"""The first cell of each notebook on Colab: from nothing, after a restart of the runtime, and after an installation that failed."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from pathlib import Path
from types import ModuleType

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))


def run_first_cell(path: Path, monkeypatch: pytest.MonkeyPatch, *, cloned: bool, installed: bool) -> list[str]:
    """Which commands it gives to the shell; what comes after its guard is not run."""
    cell = next(cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    guard = re.search(r'^if "google\.colab" in sys\.modules:\n(?:(?: .*)?\n)*', f"{cell.source}\n", re.MULTILINE)
    assert guard is not None, "no guard for Colab"
    code = re.sub(r"^( *)!(.*)$", r"\1commands.append('''\2''')", guard[0], flags=re.MULTILINE)
    commands: list[str] = []
    monkeypatch.delenv("FER_DATA", raising=False)
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    monkeypatch.setattr(os.path, "isdir", lambda name: cloned)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if installed else None)
    exec(code, {"os": os, "sys": sys, "importlib": importlib, "commands": commands})
    return commands


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_first_cell_sets_things_right_whenever_it_runs(path, monkeypatch):
    for cloned, installed, words in (
        (False, False, ["git", "pip"]), (True, True, []), (True, False, ["pip"]), (False, True, ["git"]),
    ):
        commands = run_first_cell(path, monkeypatch, cloned=cloned, installed=installed)
        assert [command.split()[0] for command in commands] == words
        assert os.environ["FER_DATA"] == "/content/fer-book/data"


def test_a_kernel_of_any_name_is_the_one_that_is_here():
    import yaml

    config = yaml.safe_load((NOTEBOOKS[0].parents[1] / "_config.yml").read_text(encoding="utf-8"))["sphinx"]["config"]
    ((pattern, name),) = config["nb_kernel_rgx_aliases"].items()
    assert name == "python3" and all(re.match(pattern, kernel) for kernel in ("python3", "conda-env-fer-py", ".venv"))

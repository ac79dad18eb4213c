"""The first cell of each notebook on Colab: from nothing, after a restart of the runtime, and after what failed half-way.

``.ci/colab.py`` executes whole notebooks so, each week; here it is only what the cell would do.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / ".ci"))

from release import PAGES, Release  # noqa: E402

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def run_first_cell(monkeypatch: pytest.MonkeyPatch, *, cloned: bool, installed: bool, works: bool = True) -> tuple[list[str], str]:
    """Which commands the cell gives to the shell, where they work or bring nothing, and where it then finds faces."""
    state, commands = {"git": cloned, "pip": installed}, []
    torch = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: True, get_device_name=lambda: "Tesla T4"))

    def order(command: str) -> None:
        commands.append(command)
        state[command.split()[0]] = works

    code = re.sub(r"^( *)!(.*)$", r"\1order('''\2''')", Release(ROOT).first_cell("a minute"), flags=re.MULTILINE)
    monkeypatch.setenv("FER_DATA", "")
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(os.path, "isdir", lambda name: state["git"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if state["pip"] else None)
    try:
        exec(code, {"order": order})
        return commands, os.environ["FER_DATA"]
    finally:
        monkeypatch.undo()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_begins_with_the_same_cell(path):
    release = Release(ROOT)
    assert release.write_into_notebook(path) == path.read_text(encoding="utf-8"), "python .ci/release.py writes it"
    cell = next(cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    top = release.first_cell("TIME")
    assert re.match(re.escape(top).replace("TIME", ".+"), cell.source)
    assert f"--branch v{release.version} {release.address} " in top


@pytest.mark.parametrize(
    ("cloned", "installed", "words"),
    [(False, False, ["rm", "git", "pip", "pip"]), (True, True, []), (True, False, ["pip", "pip"]), (False, True, ["rm", "git"])],
    ids=["from nothing", "after a restart", "after pip failed", "after the clone failed"],
)
def test_the_first_cell_sets_things_right_whenever_it_runs(cloned, installed, words, monkeypatch, capsys):
    commands, data = run_first_cell(monkeypatch, cloned=cloned, installed=installed)
    assert [command.split()[0] for command in commands] == words and data == "/content/fer-book/data"
    assert capsys.readouterr().out == "Runs on Tesla T4. On two CPU cores it takes a minute.\n"


def test_the_first_cell_stops_with_one_line(monkeypatch):
    with pytest.raises(SystemExit, match="The book did not arrive whole: run this cell again"):
        run_first_cell(monkeypatch, cloned=False, installed=False, works=False)
    with pytest.raises(SystemExit, match="The book did not arrive whole: run this cell again"):
        run_first_cell(monkeypatch, cloned=True, installed=False, works=False)


# -- one place for address and release ------------------------------------------------------------------------------------


def test_address_and_release_are_the_same_everywhere():
    changed = Release(ROOT).write(check=True)
    assert changed == [], "python .ci/release.py writes them"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]
    assert config == {"url": project["urls"]["Repository"], "branch": f"v{project['version']}"}, "what the rocket opens"


def test_another_address_and_release_reach_every_file(tmp_path):
    old = Release(ROOT)
    for path in old.pages():
        (tmp_path / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / path.relative_to(ROOT))
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    address = old.address.replace("/fer-book/", "/somebody/")
    project = project.replace(old.address, address).replace(f'\nversion = "{old.version}"', '\nversion = "9.8.7"')
    (tmp_path / "pyproject.toml").write_text(project, encoding="utf-8")
    new = Release(tmp_path)
    changed = {str(path.relative_to(tmp_path)) for path in new.write()}
    named = [pattern for pattern in PAGES if "*" not in pattern]
    assert changed >= {*named, "book/how_to_run.md", *(f"notebooks/{path.name}" for path in NOTEBOOKS)}
    texts = "\n".join(path.read_text(encoding="utf-8") for path in new.pages())
    assert old.address not in texts and f"v{old.version}" not in texts and f"--branch v9.8.7 {address}" in texts
    assert new.write(check=True) == []


def test_a_kernel_of_any_name_is_the_one_that_is_here():
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["sphinx"]["config"]
    ((pattern, name),) = config["nb_kernel_rgx_aliases"].items()
    assert name == "python3" and all(re.match(pattern, kernel) for kernel in ("python3", "conda-env-fer-py", ".venv"))

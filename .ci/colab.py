"""Execute the chapters as Colab would: ``python .ci/colab.py [CHAPTER ...]``.

A stand-in: ``google.colab`` can be imported, the folder is empty, the package is not installed. Each first cell clones this checkout at
the release's tag in place of the address, and pip builds and installs the package and what else it asks for from the index. Run it with a
Python that has what ``.ci/colab.txt`` lists. Prints the times of each chapter and which compared cells say something else than the
committed ones; ends with status 1 if a cell fails.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

sys.path.insert(0, str(Path(__file__).resolve().parent))
from release import ROOT, Release


def make_release(folder: Path, release: Release) -> None:
    """A bare repository that has this checkout, with what is not committed of tracked files, at the release's tag."""

    def git(*words: str, cwd: Path = ROOT) -> str:
        return subprocess.run(["git", *words], cwd=cwd, check=True, capture_output=True, text=True).stdout.strip()

    commit = git("stash", "create") or git("rev-parse", "HEAD")
    git("clone", "-q", "--bare", "--shared", "--no-tags", str(ROOT), str(folder))
    git("tag", "--force", release.tag, commit, cwd=folder)


def make_place(folder: Path, release: Release) -> dict[str, str]:
    """What stands in for Colab, and the environment that leads there."""
    for part in ("standin/google/colab", "bin", "site", "content"):
        (folder / part).mkdir(parents=True)
    (folder / "standin/google/colab/__init__.py").touch()
    (folder / "standin/sitecustomize.py").write_text("import google.colab\n")
    (folder / "bin/pip").write_text(f'#!/bin/sh\nexec {sys.executable} -m pip "$@"\n')
    (folder / "bin/pip").chmod(0o755)
    make_release(folder / "release.git", release)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FER_", "KERAS_", "MPL", "GIT_"))}
    return kept | {
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{folder / 'standin'}{os.pathsep}{folder / 'site'}",
        "PIP_TARGET": str(folder / "site"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "FER_CACHE": "",  # a session of Colab starts without one
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{folder / 'release.git'}.insteadOf",
        "GIT_CONFIG_VALUE_0": release.address,
    }


def show(cell: nbformat.NotebookNode) -> str:
    """What a cell printed and returned, as far as it is compared."""
    outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return "".join(output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in outputs)


def run_chapter(path: Path, folder: Path, environment: dict[str, str]) -> bool:
    """Execute a notebook in the empty folder, print a line, and say whether it came to its end."""
    for part in ("site", "content"):
        shutil.rmtree(folder / part)
        (folder / part).mkdir()
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    expected = {id(cell): show(cell) for cell in cells if "nbval-check-output" in cell.metadata.get("tags", [])}
    cells[0].source = cells[0].source.replace("/content", str(folder / "content"))
    ends: dict[int, float] = {}
    client = NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(folder / "content")}}, record_timing=False,
        on_cell_executed=lambda cell, cell_index, execute_reply: ends.setdefault(cell_index, time.monotonic()),
    )  # fmt: skip
    start, problem = time.monotonic(), ""
    try:
        client.execute(env=environment)
    except CellExecutionError as error:
        problem = f"FAILED: {error.ename}: {error.evalue}".splitlines()[0][:300]
    figures = [i for i, cell in enumerate(notebook.cells) if any("image/png" in o.get("data", {}) for o in cell.get("outputs", []))]
    first = notebook.cells.index(cells[0])
    marks = {"set-up": first, "first figure": figures[0] if figures else -1}
    times = [f"{name} {ends[i] - start:.0f} s" for name, i in marks.items() if i in ends]
    times.append(f"whole {time.monotonic() - start:.0f} s")
    other = [cell for cell in cells if id(cell) in expected and show(cell) != expected[id(cell)]]
    print(f"{path.stem}: {', '.join(times)}; {problem or 'ok'}; {len(other)} of {len(expected)} compared cells differ", flush=True)
    for cell in other if not problem else []:
        before, after = expected[id(cell)].splitlines(), show(cell).splitlines()
        lines = [f"    {a}\n  > {b}" for a, b in zip(before, after, strict=False) if a != b]
        print("\n".join(lines[:3] or [f"    {len(before)} lines\n  > {len(after)} lines"]), flush=True)
    return not problem


def main(names: list[str]) -> int:
    """Run the chapters of these numbers or names, or all."""
    if importlib.util.find_spec("fer_utils"):
        raise SystemExit("error: fer_utils is installed here; on Colab it is not, so take another environment")
    chapters = [path for path in sorted((ROOT / "notebooks").glob("*.ipynb")) if not names or path.stem.startswith(tuple(names))]
    if not chapters:
        raise SystemExit(f"error: no chapter begins with {', '.join(names)}")
    with tempfile.TemporaryDirectory() as folder:
        environment = make_place(Path(folder), Release(ROOT))
        ended = [run_chapter(path, Path(folder), environment) for path in chapters]
        return int(not all(ended))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

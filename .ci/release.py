"""Write the book's address and release, and the first cell of each notebook, wherever they stand.

``pyproject.toml`` is the one place where they are said. ``python .ci/release.py`` writes them into notebooks, settings and pages;
``--check`` only lists the files that would change, and ends with status 1 if there are any.
"""

import argparse
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
# settings and pages where they stand; in notebooks besides, in prose as in code
PAGES = (
    "README.md", "CITATION.cff", "LICENSE-DATA", "_config.yml", "fer_utils/__init__.py", "fer_utils/datasets/facsynth.py",
    "fer_utils/cli/faces.py", "book/**/*.md", "notebooks/*.ipynb",
)  # fmt: skip
TIME = re.compile(r"\*\*Time\*\*: (.*?)(?: \([^)]*\))? on two CPU cores")
GUARD = re.compile(r'^if "google\.colab" in sys\.modules:\n(?:(?: .*)?\n)*', re.MULTILINE)

# What sets things right on Colab; `{time}` is what the notebook's own box says.
FIRST_CELL = """\
import importlib.util
import os
import sys

if "google.colab" in sys.modules:
    # On Colab: faces and package of the book's release; Colab's torch stays.
    # Run this cell again after a restart, or if it was interrupted.
    home = "/content/{name}"
    needed = ["fer_utils", "mtcnn", "crowdkit", "lz4"]
    if not os.path.isdir(home):
        !rm -rf /content/part
        !git clone -q --depth 1 --branch {tag} {address} /content/part && mv /content/part {{home}}
    if os.path.isdir(home) and None in map(importlib.util.find_spec, needed):
        # the scikit-image that Colab has may be too old
        !pip install -q --no-deps mtcnn crowd-kit lz4 "{images}"
        !pip install -q --no-deps {{home}}
    if None in map(importlib.util.find_spec, needed) or not os.path.isdir(home):
        raise SystemExit("The book did not arrive whole: run this cell again.")
    os.environ["FER_DATA"] = f"{{home}}/data"
    import torch

    gpu = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if gpu else "the CPU, which will do"
    print(f"Runs on {{device}}. On two CPU cores it takes {time}.")
"""


class Release:
    """What ``pyproject.toml`` says, and the texts that hold it."""

    def __init__(self, root: Path) -> None:
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        self.root, self.version = root, project["version"]
        self.address = project["urls"]["Repository"]
        # pip is told not to look at what the package asks for: it would replace Colab's torch
        self.images = next(name for name in project["dependencies"] if name.startswith("scikit-image"))
        self.tag, self.name = f"v{self.version}", self.address.rpartition("/")[2]
        owner, repository = self.address.split("/")[-2:]
        name, number = re.escape(self.name), r"\d+(?:\.\w+)+"
        self.rules = [
            (re.compile(rf"https://github\.com/[\w.-]+/{name}\b"), self.address),
            (re.compile(rf"https://[\w-]+\.github\.io/{name}\b"), f"https://{owner}.github.io/{repository}"),
            (re.compile(rf"(?:(?<=--branch )|(?<=/{name}@)|(?<=^  branch: ))v{number}", re.MULTILINE), self.tag),
            (re.compile(rf'(?:(?<=\b[Vv]ersion )|(?<=^version: )|(?<=^__version__ = ")){number}', re.MULTILINE), self.version),
        ]

    def pages(self) -> list[Path]:
        """Every file in which they may stand."""
        return sorted({path for pattern in PAGES for path in self.root.glob(pattern)})

    def write_into(self, text: str) -> str:
        """The text with this address and release in it."""
        for pattern, value in self.rules:
            text = pattern.sub(value, text)
        return text

    def write_into_notebook(self, path: Path) -> str:
        """The notebook with this first cell, address and release; its outputs stay."""
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            cell.source = self.write_into(cell.source)
        cell = next((cell for cell in notebook.cells if cell.cell_type == "code"), None)
        time = TIME.search(" ".join(notebook.cells[0].source.split()))
        guard = GUARD.search(f"{cell.source}\n") if cell else None
        if not time or not guard:
            missing = "a first code cell that asks for google.colab" if time else "a box with '**Time**: ... on two CPU cores'"
            raise SystemExit(f"error: {path.name}: expected {missing}")
        top = self.first_cell(time[1])
        if not cell.source.startswith(top):
            # what else stood above the guard goes below it
            above = [line for line in cell.source[: guard.start()].splitlines() if line and line not in top.splitlines()]
            below = cell.source[guard.end() :].strip("\n")
            cell.source = top + "\n" + "\n".join([*above, *([""] if above else []), below])
        return nbformat.writes(notebook) + "\n"

    def first_cell(self, time: str) -> str:
        """What stands at the top of the first cell of each notebook."""
        return FIRST_CELL.format(name=self.name, tag=self.tag, address=self.address, images=self.images, time=time)

    def write(self, *, check: bool = False) -> list[Path]:
        """Write all files that differ, or only list them."""
        changed = []
        for path in self.pages():
            old = path.read_text(encoding="utf-8")
            new = self.write_into_notebook(path) if path.suffix == ".ipynb" else self.write_into(old)
            if new != old:
                changed.append(path)
                if not check:
                    path.write_text(new, encoding="utf-8")
        return changed


def main() -> None:
    """Write, or check; notebooks that changed are put in order as the other checks expect them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only list the files that would change")
    options = parser.parse_args()
    changed = Release(ROOT).write(check=options.check)
    print("\n".join(str(path.relative_to(ROOT)) for path in changed) or "address and release are the same everywhere")
    notebooks = [str(path) for path in changed if path.suffix == ".ipynb"]
    if options.check:
        sys.exit(bool(changed))
    if notebooks:
        subprocess.run([sys.executable, "-m", "ruff", "check", "-q", "--select", "I", "--fix", *notebooks], check=True)


if __name__ == "__main__":
    main()

"""Execute, several at a time, the chapters that Jupyter Book's cache lacks: it would take one after another.

Each goes through the client that the build itself uses, so the build then finds it in the cache. One that fails is not kept there:
the build executes it again, and says what is wrong. Usage: ``python .ci/execute.py BUILD_DIR JOBS``.
"""

import logging
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import nbformat
import yaml
from jupyter_cache import get_cache
from myst_nb.core.config import NbParserConfig
from myst_nb.core.execute import create_client

ROOT = Path(__file__).resolve().parent.parent


class Told(logging.LoggerAdapter):
    """The name of the chapter before each message; Sphinx's own words for a logger are dropped."""

    def process(self, msg, kwargs):
        return f"{self.extra['name']}: {msg}", {}


def count_cells(path: Path) -> int:
    """Code cells of a notebook: those with most tend to take longest, and are begun first."""
    return sum(cell.cell_type == "code" for cell in nbformat.read(path, as_version=4).cells)


def execute(path: Path, cache: Path, settings: dict) -> bool:
    """Whether the chapter is in the cache now; it is executed if it was not."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata["kernelspec"]["name"] = "python3"  # as _config.yml has it, whatever an editor called it
    config = NbParserConfig(
        execution_mode="cache", execution_cache_path=str(cache), execution_timeout=settings["timeout"],
        execution_in_temp=settings["run_in_temp"], execution_allow_errors=settings["allow_errors"],
    )
    with create_client(notebook, str(path), config, Told(logging.getLogger("chapters"), {"name": path.stem})) as client:
        return client.exec_metadata["succeeded"]


def main(build: Path, jobs: int, root: Path = ROOT) -> None:
    settings = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))["execute"]
    cache = (build / ".jupyter_cache").resolve()
    get_cache(cache).db  # noqa: B018 - made once, here, not by all workers at a time
    chapters = sorted((root / "notebooks").glob("*.ipynb"), key=count_cells, reverse=True)
    with ProcessPoolExecutor(jobs) as pool:
        list(pool.map(partial(execute, cache=cache, settings=settings), chapters))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

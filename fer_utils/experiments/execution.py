"""One run, executed wherever: what a process needs to know of it, and what the ledger keeps of it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .. import __version__
from ..files import cache_root, private_folder
from .code import describe_code
from .contents import find_contents
from .context import RunContext
from .ledger import default_data
from .recipe import Profile
from .registry import Run, check_scores
from .scores import describe_score

__all__ = ["Job", "execute_run"]

_PACKAGES = ("numpy", "scipy", "scikit-learn", "scikit-image", "pillow", "pandas", "torch", "torchvision", "keras")
#: What a processor can do in half precision, which decides how networks are computed on it.
_FLAGS = ("avx512_bf16", "amx_bf16", "amx_tile")
_PACKAGE = Path(__file__).resolve().parents[1]
#: Runs draw from torch's generator, which a process has once: a Dask worker of several threads takes them one after the other.
_ONE_RUN = threading.Lock()


@dataclass(frozen=True)
class Job:
    """A run with what it needs to be executed anywhere.

    Attributes
    ----------
    id, profile, dataset : str
        The experiment, and how it is run.
    run : Run
    root : str or None
        Where the dataset's copy lies.
    data : str or None
        The folder that holds ``results`` and ``checkpoints``; the book's by default.
    """

    id: str
    profile: str
    dataset: str
    run: Run
    root: str | None
    data: str | None

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.id}: {self.run.name}" + ("" if self.run.seed is None else f", seed {self.run.seed}")

    @property
    def key(self) -> str:
        """For Dask and for the folder of the run: another for other code and for another folder of results.

        So no checkpoint of older code is taken up, and two copies of the book that run the same at once stay out of each other's way.
        """
        code = describe_code(self.run.function, self.run.kept_arguments)
        home = self.data or os.fspath(default_data())
        parts = [self.id, self.profile, self.dataset, self.run.key, self.root, home, code]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]

    def workdir(self) -> Path:
        """The folder of the run; below the system's folder for temporary files where the cache is switched off."""
        root = cache_root()
        return (private_folder(f"fer-book-{os.getuid()}") if root is None else root) / "runs" / self.key


def execute_run(job: Job) -> dict[str, Any]:
    """Execute one run and describe it as the ledger keeps it.

    Returns
    -------
    dict
        ``key``, ``name``, ``seed``, ``function``, ``arguments``; ``outcomes`` (the scores); ``faces`` (what was loaded, with
        checksums); ``tie``: ``code`` (see :func:`~fer_utils.experiments.code.describe_code`) and ``files`` (those of other experiments
        that were read); ``commit`` (with ``-dirty`` if the package differs from it; None outside a repository), ``versions``, ``hardware``,
        ``wall_s``, ``peak_mb`` (memory of the process), ``date``; and ``files``, name to bytes, which the client writes.

    Raises
    ------
    DataError
        If the function returns no scores; and whatever it raises itself.
    """
    with _ONE_RUN:
        return _execute(job)


def _execute(job: Job) -> dict[str, Any]:
    run = job.run
    function = run.resolve()  # first, as what is not imported has no code, and no folder that depends on it
    workdir = job.workdir()
    workdir.mkdir(parents=True, exist_ok=True)
    code = describe_code(run.function, run.kept_arguments)
    context = RunContext(job.id, Profile(job.profile), job.dataset, run.seed, workdir, job.root, job.data)
    started, peak = time.perf_counter(), _PeakMemory()
    scores = check_scores(function(context, **run.arguments), run)
    wall = time.perf_counter() - started
    for loaded in context.loaded:
        if "contents" not in loaded:
            with suppress(ValueError):  # another dataset's faces under a name of the paper's
                loaded |= find_contents(job.dataset, loaded, job.root)
    return {
        "key": run.key, "name": run.name, "seed": run.seed, "function": run.function, "arguments": run.kept_arguments,
        "outcomes": [describe_score(score) for score in scores], "faces": context.loaded,
        "tie": {"code": code, "files": context.read}, "commit": find_commit(), "versions": find_versions(), "hardware": find_hardware(),
        "wall_s": round(wall, 3), "peak_mb": peak.read(), "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": context.files,
    }


class _PeakMemory:
    """Peak memory of this process since the object was made (since the process began, where the kernel does not let us start anew)."""

    def __init__(self) -> None:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")

    def read(self) -> float:
        """Peak in MB."""
        with suppress(OSError, StopIteration):
            lines = Path("/proc/self/status").read_text().splitlines()
            return round(int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024, 1)
        import resource  # not on Windows

        size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return round(size / (2**20 if sys.platform == "darwin" else 1024), 1)


@cache
def find_commit() -> str | None:
    """The commit of the package's code; None outside a repository, and in one that does not hold it, such as around a ``.venv``."""
    try:
        ask_git(_PACKAGE, "ls-files", "--error-unmatch", "--", str(_PACKAGE / "__init__.py"))
        head = ask_git(_PACKAGE, "rev-parse", "HEAD")
        return head + ("-dirty" if ask_git(_PACKAGE, "status", "--porcelain", "--", str(_PACKAGE)) else "")
    except (OSError, subprocess.SubprocessError):
        return None


def ask_git(folder: Path, *words: str) -> str:
    """What git says in a folder of a checkout, which may belong to another user: it is the one whose code runs here.

    Raises
    ------
    OSError, subprocess.SubprocessError
        Without git, outside a repository, or if the command fails.
    """
    command = ["git", "-C", str(folder), "-c", f"safe.directory={folder.parent}", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()


@cache
def find_versions() -> dict[str, str]:
    """Versions of Python and of the packages that are here, by name."""
    found = {"fer-utils": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def find_hardware() -> dict[str, Any]:
    """The machine: ``cpu``, ``cores``, ``system``, ``flags`` (half precision); with torch ``threads``, and ``gpu`` if there is one."""
    cpu, flags = platform.processor() or platform.machine(), []
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        known = {name: next((line for line in lines if line.startswith(name)), "").partition(":")[2] for name in ("model name", "flags")}
        cpu, flags = known["model name"].strip() or cpu, [flag for flag in _FLAGS if flag in known["flags"].split()]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found: dict[str, Any] = {"cpu": cpu, "cores": cores, "system": f"{platform.system()} {platform.machine()}", "flags": flags}
    torch = sys.modules.get("torch")
    if torch is not None:
        found["threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            found["gpu"] = torch.cuda.get_device_name()
    return found

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
from .context import RunContext
from .recipe import Profile
from .registry import Run, check_scores
from .scores import describe_score

__all__ = ["Job", "execute_run"]

_PACKAGES = ("numpy", "scipy", "scikit-learn", "scikit-image", "pandas", "torch", "torchvision", "keras")
_PACKAGE = Path(__file__).resolve().parents[1]
#: Runs draw from torch's generator, which a process has once: a Dask worker of several threads takes them one after the other.
_ONE_RUN = threading.Lock()


@dataclass(frozen=True)
class Job:
    """A run with what it needs to be executed anywhere."""

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
        """For Dask and for the folder of the run: another for other code, so that no checkpoint of older code is taken up."""
        parts = [self.id, self.profile, self.dataset, self.run.key, self.root, _source_hash()]
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
        checksums); ``commit`` (with ``-dirty`` if the package differs from it; None outside a repository), ``versions``, ``hardware``,
        ``wall_s``, ``peak_mb`` (memory of the process), ``date``; and ``files``, name to bytes, which the client writes.

    Raises
    ------
    DataError
        If the function returns no scores; and whatever it raises itself.
    """
    with _ONE_RUN:
        return _execute(job)


def _execute(job: Job) -> dict[str, Any]:
    workdir = job.workdir()
    workdir.mkdir(parents=True, exist_ok=True)
    run = job.run
    context = RunContext(job.id, Profile(job.profile), job.dataset, run.seed, workdir, job.root, job.data)
    started, peak = time.perf_counter(), _PeakMemory()
    scores = check_scores(run.resolve()(context, **run.arguments), run)
    wall = time.perf_counter() - started
    return {
        "key": run.key, "name": run.name, "seed": run.seed, "function": run.function, "arguments": run.kept_arguments,
        "outcomes": [describe_score(score) for score in scores], "faces": context.loaded, "commit": _commit(),
        "versions": _versions(), "hardware": _hardware(), "wall_s": round(wall, 3), "peak_mb": peak.read(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"), "files": context.files,
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
def _source_hash() -> str:
    """Changes with the package's code."""
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        digest.update(path.relative_to(_PACKAGE).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


@cache
def _commit() -> str | None:
    """The commit of the package's code; None outside a repository, and in one that does not hold it, such as around a ``.venv``."""
    try:
        _git("ls-files", "--error-unmatch", "--", str(_PACKAGE / "__init__.py"))
        head = _git("rev-parse", "HEAD")
        return head + ("-dirty" if _git("status", "--porcelain", "--", str(_PACKAGE)) else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*words: str) -> str:
    done = subprocess.run(["git", "-C", str(_PACKAGE), *words], capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.strip()


@cache
def _versions() -> dict[str, str]:
    found = {"fer-utils": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _hardware() -> dict[str, Any]:
    cpu = platform.processor() or platform.machine()
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line for line in lines if line.startswith("model name")).partition(":")[2].strip()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found: dict[str, Any] = {"cpu": cpu, "cores": cores, "system": f"{platform.system()} {platform.machine()}"}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found

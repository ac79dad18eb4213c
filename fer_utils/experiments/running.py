"""Running experiments: what is missing, here or through Dask, into the ledger.

The client alone writes. A run that ends is entered at once, under a temporary name that is then renamed; so whatever is killed, the
client or a worker, the ledger holds whole runs, each once, and a second call runs only what is missing. Dask gives the work of a dead
worker to another; a run that keeps checkpoints in its folder goes on from there.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import DataError
from ..files import cache_root, replace_whole
from .faces import fingerprint_faces, load_role
from .ledger import Ledger, checkpoint_folder, describe_outcome, ledger_path
from .recipe import Profile
from .registry import Experiment, Run, Task, check_outcomes, find_experiment

__all__ = ["ExperimentError", "execute_run", "run_experiment", "run_experiments"]

_PACKAGES = ("numpy", "scipy", "scikit-learn", "scikit-image", "pandas", "torch", "torchvision", "keras")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
#: How long a scheduler may take to answer.
TIMEOUT_S = 20
_PACKAGE = Path(__file__).resolve().parents[1]
#: Runs draw from torch's generator, which a process has once: a Dask worker of several threads takes them one after the other.
_ONE_RUN = threading.Lock()


class ExperimentError(RuntimeError):
    """Some runs failed; the others are in the ledger. The message names the runs that failed, and why."""


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
        return (Path(tempfile.gettempdir()) / "fer-book" if root is None else root) / "runs" / self.key


# -- one run, wherever ----------------------------------------------------------------------------------------------------


def execute_run(job: Job) -> dict[str, Any]:
    """Execute one run and describe it as the ledger keeps it.

    Returns
    -------
    dict
        ``key``, ``name``, ``seed``, ``function``, ``arguments``; ``outcomes``; ``faces`` (what was loaded, with checksums); ``commit``
        (with ``-dirty`` if the package differs from it; None outside a repository), ``versions``, ``hardware``, ``wall_s``, ``peak_mb``
        (memory of the process), ``date``; and ``files``, name to bytes, which the client writes.

    Raises
    ------
    DataError
        If the function returns no outcomes; and whatever it raises itself.
    """
    with _ONE_RUN:
        return _execute(job)


def _execute(job: Job) -> dict[str, Any]:
    workdir = job.workdir()
    workdir.mkdir(parents=True, exist_ok=True)
    run = job.run
    task = Task(job.id, Profile(job.profile), job.dataset, run.seed, workdir, job.root, job.data)
    started, peak = time.perf_counter(), _PeakMemory()
    result = check_outcomes(run.resolve()(task, **run.arguments), run)
    wall = time.perf_counter() - started
    return {
        "key": run.key, "name": run.name, "seed": run.seed, "function": run.function, "arguments": run.arguments,
        "outcomes": [describe_outcome(outcome) for outcome in result.outcomes], "faces": task.loaded, "commit": _commit(),
        "versions": _versions(), "hardware": _hardware(), "wall_s": round(wall, 3), "peak_mb": peak.read(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"), "files": dict(result.files),
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
    """The commit of the package's code."""
    try:
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


# -- what is missing ------------------------------------------------------------------------------------------------------


def run_experiment(id: str, profile: str = "book", dataset: str = "facsynth", **options: Any) -> int:
    """Run what is missing of one experiment; see :func:`run_experiments`."""
    return run_experiments([id], profile, dataset, **options)


def run_experiments(
    ids: Sequence[str], profile: str = "book", dataset: str = "facsynth", *, seeds: int | None = None,
    root: str | os.PathLike[str] | None = None, scheduler: str | None = None, workers: int | None = None, data: Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> int:
    """Run what the ledger does not hold yet.

    A kept run counts as missing if its arguments, or the faces it was measured on, have changed. Runs of a name, or with arguments, that
    no plan has any more are taken out, whatever their seed: a row holds runs of one recipe only.

    Parameters
    ----------
    ids : sequence of str
        Experiments, ``<paper>/<item>``. Those that another one needs come first.
    profile : {"smoke", "book", "paper"}
    dataset : str
        As :func:`~fer_utils.experiments.faces.load_role`.
    seeds : int, optional
        Training seeds; by default as many as the experiment asks for.
    root : path, optional
        Where the dataset's copy lies.
    scheduler : str, optional
        Address of a running Dask scheduler, ``tcp://host:port``. Its workers need this package and, at the same places, the faces.
    workers : int, optional
        Local processes; by default the runs follow each other in this one.
    data : Path, optional
        The folder that holds ``results`` and ``checkpoints``; the book's by default.
    say : callable
        Told what is going on.

    Returns
    -------
    int
        How many runs were executed.

    Raises
    ------
    ValueError
        For an unknown experiment, profile, dataset, or a scheduler and workers at once; if Dask is asked for and not installed.
    DataError
        If a ledger is damaged, or another process writes it.
    OSError
        If no scheduler answers.
    ExperimentError
        At the end, if runs failed.
    """
    if scheduler is not None and workers is not None:
        raise ValueError("workers are local processes; leave them out where a scheduler is given")
    place = None if root is None else os.fspath(Path(root).expanduser().absolute())
    home = None if data is None else os.fspath(Path(data).absolute())
    done, failed = 0, {}
    with _open_pool(scheduler, workers) as execute:
        for wave in _order([find_experiment(id) for id in dict.fromkeys(ids)]):
            count, problems = _run_wave(wave, Profile(profile), dataset, seeds, place, home, execute, say)
            done, failed = done + count, failed | problems
    if failed:
        raise ExperimentError("; ".join(f"{name}: {problem}" for name, problem in failed.items()))
    return done


def _order(experiments: Sequence[Experiment]) -> Iterator[list[Experiment]]:
    """Experiments in waves: each needs only what earlier waves hold."""
    known = {experiment.id: experiment for experiment in experiments}
    sorter = TopologicalSorter({e.id: [need for need in e.needs if need in known] for e in experiments})
    try:
        sorter.prepare()
    except CycleError as error:
        raise ValueError(f"experiments need each other: {', '.join(error.args[1])}") from None
    while sorter.is_active():
        ready = sorter.get_ready()
        yield [known[id] for id in known if id in ready]
        sorter.done(*ready)


_Execute = Callable[[list[Job]], Iterator[tuple[Job, Any]]]


def _run_wave(
    wave: Sequence[Experiment], profile: Profile, dataset: str, seeds: int | None, root: str | None, data: str | None, execute: _Execute,
    say: Callable[[str], None],
) -> tuple[int, dict[str, str]]:
    """Run what is missing of some experiments, side by side; return how many runs were entered, and what failed."""
    home = Path(data) if data else None
    done, failed = 0, {}
    with _lock([ledger_path(e.id, profile, dataset, home) for e in wave]):
        ledgers, jobs = {}, []
        for experiment in wave:
            ledger = ledgers[experiment.id] = Ledger(experiment.id, profile, dataset, home)
            ledger.path.parent.mkdir(parents=True, exist_ok=True)  # where it cannot be written, before anything is run
            runs = experiment.plan(profile, dataset, seeds)
            dropped = _drop_stale(ledger, runs, root, say)
            missing = [run for run in runs if run.key not in ledger]
            if dropped and not missing:
                ledger.save()
            say(f"{experiment.id}: {len(missing)} of {len(runs)} runs are missing")
            jobs += [Job(experiment.id, profile, dataset, run, root, data) for run in missing]
        alone = [job for job in jobs if job.id in {e.id for e in wave if e.alone}]
        for job, found in chain(execute([job for job in jobs if job not in alone]), *(execute([job]) for job in alone)):
            if isinstance(found, BaseException):
                failed[job.name] = f"{type(found).__name__}: {found}"
                say(f"{job.name}: failed, {failed[job.name]}")
                continue
            _enter(ledgers[job.id], job, found, home)
            done += 1
            say(f"{job.name}: {found['wall_s']:.1f} s")
    return done, failed


def _enter(ledger: Ledger, job: Job, entry: dict[str, Any], data: Path | None) -> None:
    """Write a run's files, then the run; then clear its folder."""
    files = entry.pop("files")
    folder = checkpoint_folder(job.id, job.profile, job.dataset, data)
    for name, content in files.items():
        if Path(name).name != name:
            raise ValueError(f"{job.name}: a file must have a plain name, got {name!r}")
        folder.mkdir(parents=True, exist_ok=True)
        with replace_whole(folder / name, sync=True) as partial:
            partial.write_bytes(content)
    if files:
        entry["files"] = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    ledger.add(entry)
    ledger.save()
    shutil.rmtree(job.workdir(), ignore_errors=True)


def _drop_stale(ledger: Ledger, runs: Sequence[Run], root: str | None, say: Callable[[str], None]) -> list[str]:
    """Take out runs on other faces than those that are here, and those that no plan has; on disk, the next :meth:`Ledger.save` does."""
    planned: dict[str, list[Any]] = {}
    for run in runs:
        planned.setdefault(run.name, []).append(run.arguments)
    now: dict[str, str | None] = {}
    stale = []
    for run in ledger.runs:
        if run["arguments"] not in planned.get(run["name"], []):
            why = "was run with other arguments" if run["name"] in planned else "is no longer planned"
            say(f"{ledger.id}: {run['name']!r}, seed {run['seed']}, {why}; taken out")
            stale.append(run["key"])
            continue
        for faces in run["faces"]:
            known = json.dumps([faces["role"], faces["options"]])
            if known not in now:
                now[known] = _present(ledger.dataset, faces, root)
            if now[known] not in (None, faces["sha256"]):
                say(f"{ledger.id}: {run['name']!r} was measured on other faces; it is run again")
                stale.append(run["key"])
                break
    ledger.drop(stale)
    return stale


def _present(dataset: str, faces: dict[str, Any], root: str | None) -> str | None:
    """The checksum of the faces that are here; None if they are not."""
    try:
        if dataset.startswith("facsynth"):
            return fingerprint_faces(dataset)["sha256"]
        return fingerprint_faces(dataset, load_role(dataset, faces["role"], root, **faces["options"]))["sha256"]
    except (ValueError, ImportError):  # a DataError, or too few faces to split
        return None


@contextmanager
def _lock(paths: Sequence[Path]) -> Iterator[None]:
    """Keep other processes on this machine from writing the same ledgers; the system lets go of it when this process ends, however."""
    try:
        import fcntl
    except ModuleNotFoundError:  # not on Windows
        yield
        return
    folder = Path(tempfile.gettempdir()) / f"fer-book-locks-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    held = []
    try:
        for path in sorted(paths):
            file = (folder / hashlib.sha256(os.fspath(path.absolute()).encode()).hexdigest()[:24]).open("w")
            held.append(file)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise DataError.at(path, "another process is running this experiment", "one at a time") from None
        yield
    finally:
        for file in held:
            file.close()


# -- here or through Dask -------------------------------------------------------------------------------------------------


def _execute_here(jobs: list[Job]) -> Iterator[tuple[Job, Any]]:
    for job in jobs:
        try:
            found: Any = execute_run(job)
        except Exception as error:  # whatever a run raises is reported with its name; the others go on
            found = error
        yield job, found


@contextmanager
def _open_pool(scheduler: str | None, workers: int | None) -> Iterator[_Execute]:
    """A function that executes jobs and yields each with its entry, or with the exception that it ended in."""
    if scheduler is None and workers is None:
        yield _execute_here
        return
    try:
        import dask
        from dask.distributed import Client, LocalCluster, as_completed
    except ModuleNotFoundError as error:
        raise ValueError(f"running in parallel needs Dask ({error.name} is missing): pip install 'dask[distributed]'") from None

    def execute(jobs: list[Job]) -> Iterator[tuple[Job, Any]]:
        futures = {client.submit(execute_run, job, key=f"ferbook-{job.key}", pure=False): job for job in jobs}
        for future in as_completed(list(futures)):
            job = futures.pop(future)
            if future.cancelled():
                yield job, RuntimeError("the scheduler lost it; run it again")
            else:
                error = future.exception()
                yield job, future.result() if error is None else error
            future.release()

    if scheduler is not None:
        with Client(scheduler, timeout=TIMEOUT_S) as client:
            yield execute
        return
    count = workers or 1
    threads = str(max(1, (os.cpu_count() or 1) // count))
    # a run may keep its worker busy for hours, and may use the memory that there is
    with dask.config.set({"distributed.scheduler.worker-ttl": None}), LocalCluster(
        n_workers=count, threads_per_worker=1, dashboard_address=None, memory_limit=0, env=dict.fromkeys(_THREADS, threads)
    ) as cluster, Client(cluster) as client:
        yield execute

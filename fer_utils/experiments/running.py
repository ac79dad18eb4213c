"""Running experiments: what is missing, here or through Dask, into the ledger.

The client alone writes. A run that ends is entered at once, under a temporary name that is then renamed; so whatever is killed, the
client or a worker, the ledger holds whole runs, each once, and a second call runs only what is missing. Dask gives the work of a dead
worker to another; a run that keeps checkpoints in its folder goes on from there.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from itertools import chain
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..files import replace_whole
from .execution import Job, execute_run
from .ledger import Ledger, checkpoint_folder, ledger_path
from .recipe import Profile
from .registry import Experiment, Run, find_experiment
from .tie import find_plan, find_stale

__all__ = ["ExperimentError", "run_experiment", "run_experiments", "run_until_width"]

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
#: How long a scheduler may take to answer.
TIMEOUT_S = 20


class ExperimentError(RuntimeError):
    """Some runs failed; the others are in the ledger. The message names the runs that failed, and why."""


# -- what is missing ------------------------------------------------------------------------------------------------------


def run_experiment(id: str, profile: str = "book", dataset: str = "facsynth", **options: Any) -> int:
    """Run what is missing of one experiment.

    Parameters
    ----------
    id : str
        ``dlp-cnn/table-6``.
    profile, dataset : str
    **options
        As of :func:`run_experiments`.

    Returns
    -------
    int
        How many runs were executed.

    Raises
    ------
    ValueError, DataError, ExperimentError
        As :func:`run_experiments`.
    """
    return run_experiments([id], profile, dataset, **options)


def run_until_width(
    id: str, points: float, max_seeds: int, profile: str = "book", dataset: str = "facsynth", *,
    say: Callable[[str], None] = lambda text: None, **options: Any,
) -> int:
    """Run an experiment with one seed more at a time, until its claims' intervals are narrow: only widths count, never signs.

    Parameters
    ----------
    id : str
    points : float
        The largest half-width of a 95 % interval, in the unit of the published item.
    max_seeds : int
        Seeds after which it stops in any case.
    profile, dataset, say, **options
        As :func:`run_experiments`.

    Returns
    -------
    int
        How many runs were executed.

    Raises
    ------
    ValueError
        If a number is not above 0, or if no claim of the item can be measured.
    DataError, ExperimentError
        As :func:`run_experiments`.
    """
    if not points > 0 or max_seeds < 1:
        raise ValueError(f"expected a width above 0 and a seed or more, got {points:g} and {max_seeds}")
    seeds = min(max(2, find_experiment(id).seeds[Profile(profile)]), max_seeds)  # one seed says nothing of the spread over seeds
    done = 0
    while True:
        done += run_experiment(id, profile, dataset, seeds=seeds, say=say, **options)
        width = _find_width(id, profile, dataset, options.get("data"))
        say(f"{id}: with {seeds} seeds, the widest interval is +-{width:.2g}")
        if width <= points or seeds >= max_seeds:
            return done
        seeds += 1


def _find_width(id: str, profile: str, dataset: str, data: Path | None) -> float:
    """The largest half-width among the claims of an item; infinite where an error is not known."""
    from .verdicts import judge_claims  # not needed to run

    widths: list[float] = []
    for verdict in judge_claims(id.split("/")[0], profile, dataset, data, item=id):
        if verdict.estimates:  # else its rows are not run here, and more seeds would not help
            table = verdict.table()
            halves = (table["high"] - table["low"]) / 2
            widths += [half if estimate.known else math.inf for half, estimate in zip(halves, verdict.estimates, strict=True)]
    if not widths:
        raise ValueError(f"{id}: no claim can be measured on {dataset}; expected one whose interval can get narrower")
    return max(math.inf if math.isnan(width) else width for width in widths)


def run_experiments(
    ids: Sequence[str], profile: str = "book", dataset: str = "facsynth", *, seeds: int | None = None,
    root: str | os.PathLike[str] | None = None, scheduler: str | None = None, workers: int | None = None, data: Path | None = None,
    wanted: Callable[[Run], bool] = lambda run: True, say: Callable[[str], None] = lambda text: None,
) -> int:
    """Run what the ledger does not hold yet.

    A kept run counts as missing, too, if the code that made it, the faces it was measured on or the files that it read have changed; it is
    replaced when it has been run again. Runs of a name, with arguments or by a function that no plan has any more are taken out, whatever
    their seed: a row holds runs of one recipe only.

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
        Whoever reaches such an address can run code there: keep it on a network of your own.
    workers : int, optional
        Local processes; by default the runs follow each other in this one.
    data : Path, optional
        The folder that holds ``results`` and ``checkpoints``; the book's by default.
    wanted : callable
        Asked for each missing run, just before it would begin in this process, whether it shall. One that shall not stays missing.
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
            count, problems = _run_wave(wave, Profile(profile), dataset, seeds, place, home, execute, wanted, say)
            done, failed = done + count, failed | problems
    if failed:
        raise ExperimentError(_tell_causes(failed))
    return done


def _tell_causes(failed: Mapping[str, str]) -> str:
    """A line for each cause, with the first runs that it ended."""
    runs: dict[str, list[str]] = {}
    for name, problem in failed.items():
        runs.setdefault(problem, []).append(name)
    more = {problem: f" and {len(names) - 3} more" if len(names) > 3 else "" for problem, names in runs.items()}
    return "\n".join(f"{', '.join(names[:3])}{more[problem]}: {problem}" for problem, names in runs.items())


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


_Execute = Callable[[Iterable[Job]], Iterator[tuple[Job, Any]]]


def _run_wave(
    wave: Sequence[Experiment], profile: Profile, dataset: str, seeds: int | None, root: str | None, data: str | None, execute: _Execute,
    wanted: Callable[[Run], bool], say: Callable[[str], None],
) -> tuple[int, dict[str, str]]:
    """Run what is missing of some experiments, side by side; return how many runs were entered, and what failed."""
    home = Path(data) if data else None
    done, failed = 0, {}
    with lock_ledgers([ledger_path(e.id, profile, dataset, home) for e in wave]):
        ledgers, plans, jobs = {}, {}, []
        for experiment in wave:
            ledger = ledgers[experiment.id] = Ledger(experiment.id, profile, dataset, home)
            ledger.path.parent.mkdir(parents=True, exist_ok=True)  # where it cannot be written, before anything is run
            runs = experiment.plan(profile, dataset, seeds)
            missing, dropped = _find_missing(ledger, runs, root, home, say)
            if dropped and not missing:
                ledger.save()
            plans[experiment.id] = find_plan(experiment.id, profile, dataset, home)  # as it was before the runs
            say(f"{experiment.id}: {len(missing)} of {len({run.key for run in (*runs, *missing)})} runs are missing")
            jobs += [Job(experiment.id, profile, dataset, run, root, data) for run in missing]
        alone = [job for job in jobs if job.id in {e.id for e in wave if e.alone}]
        together = (job for job in jobs if job not in alone and wanted(job.run))
        for job, found in chain(execute(together), chain.from_iterable(execute([job]) for job in alone if wanted(job.run))):
            if not isinstance(found, BaseException):
                try:
                    _enter(ledgers[job.id], job, {**found, "plan": plans[job.id]}, home)
                except ValueError as error:  # it drew what another seed drew
                    found = error
            if isinstance(found, BaseException):
                failed[job.name] = f"{type(found).__name__}: {found}"
                new = list(failed.values()).count(failed[job.name]) == 1
                say(f"{job.name}: failed, {failed[job.name] if new else 'as another run did'}")
                continue
            done += 1
            say(f"{job.name}: {found['wall_s']:.1f} s")
    return done, failed


def checksum_files(files: Mapping[str, bytes]) -> dict[str, str]:
    """SHA-256 of the files that a run leaves, by name."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def _enter(ledger: Ledger, job: Job, entry: dict[str, Any], data: Path | None) -> None:
    """Write a run's files, then the run, in the place of a stale one; then clear its folder."""
    files = entry.pop("files")
    if files:
        entry["files"] = checksum_files(files)
    ledger.drop([entry["key"]])
    ledger.add(entry)
    folder = checkpoint_folder(job.id, job.profile, job.dataset, data)
    for name, content in files.items():
        folder.mkdir(parents=True, exist_ok=True)
        with replace_whole(folder / name, sync=True) as partial:
            partial.write_bytes(content)
    ledger.save()
    shutil.rmtree(job.workdir(), ignore_errors=True)


def _find_missing(
    ledger: Ledger, runs: Sequence[Run], root: str | None, data: Path | None, say: Callable[[str], None]
) -> tuple[list[Run], bool]:
    """What has to be run, and whether runs that no plan has were taken out; on disk, the next :meth:`Ledger.save` does that.

    Missing is what is planned and not kept, and what is kept and not tied to what is here any more, whatever its seed.
    """
    stale = find_stale(ledger, root, data)
    unplanned, again = [], []
    for kept in ledger.runs:
        alike = find_alike(runs, kept)
        if alike is None:
            named = any(run.name == kept["name"] for run in runs)
            why = "was run with other arguments or by another function" if named else "is no longer planned"
            say(f"{ledger.id}: {kept['name']!r}, seed {kept['seed']}, {why}; taken out")
            unplanned.append(kept["key"])
        elif kept["key"] in stale:
            say(f"{ledger.id}: {kept['name']!r}, seed {kept['seed']}, {stale[kept['key']]}; it is run again")
            again.append(alike)
    ledger.drop(unplanned)
    known = {run.key for run in again}
    return [run for run in runs if run.key not in ledger and run.key not in known] + again, bool(unplanned)


def find_alike(runs: Iterable[Run], kept: Mapping[str, Any]) -> Run | None:
    """A kept run as it is planned now, whatever its seed; None if no plan has it."""
    same = (run for run in runs if (run.name, run.function) == (kept["name"], kept["function"]) and run.kept_arguments == kept["arguments"])
    return next((replace(run, seed=kept["seed"]) for run in same), None)


@contextmanager
def lock_ledgers(paths: Sequence[Path]) -> Iterator[None]:
    """Keep other processes on this machine from writing the same ledgers; the system lets go of it when this process ends, however."""
    try:
        import fcntl
    except ModuleNotFoundError:  # not on Windows
        yield
        return
    held = []
    try:
        for path in sorted(paths):
            # beside what it locks, so whoever may write the ledger may lock it and nobody else; never through a link, never emptied
            path.parent.mkdir(parents=True, exist_ok=True)
            place = path.with_name(f".{path.stem}.lock")
            try:
                file = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise DataError.at(place, f"cannot be opened ({error.strerror})", "a plain file, or none") from error
            held.append(file)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise DataError.at(path, "another process is running this experiment", "one at a time") from None
        yield
    finally:
        for file in held:
            os.close(file)


# -- here or through Dask -------------------------------------------------------------------------------------------------


def _execute_here(jobs: Iterable[Job]) -> Iterator[tuple[Job, Any]]:
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

    def execute(jobs: Iterable[Job]) -> Iterator[tuple[Job, Any]]:
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
    settings = {
        "distributed.scheduler.worker-ttl": None,  # a run may keep its worker busy for hours
        # in the place of Dask's own, which also has each tensor's memory given back to the system: a training took twice as long
        "distributed.nanny.pre-spawn-environ": dict.fromkeys(_THREADS, threads),
    }
    # a run may use the memory that there is
    with dask.config.set(settings), LocalCluster(
        n_workers=count, threads_per_worker=1, dashboard_address=None, memory_limit=0,
        security=True,  # certificates of its own: a port of this machine is open to everybody on it, and would run whatever it is sent
    ) as cluster, Client(cluster) as client:
        yield execute

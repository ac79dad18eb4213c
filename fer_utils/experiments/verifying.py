"""Whether kept runs come out again: some are drawn, executed by the code that is here, and compared digit by digit.

Code may change without changing a number. A run that comes out the same shows it, for all runs of its ledger that the same code made: they
are then tied to the code that is here. One that does not, on a like machine, makes all of them stale. Nothing else is written.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from .code import describe_code
from .execution import Job, execute_run, find_commit
from .ledger import Ledger, ledger_path, part_outcomes
from .recipe import Profile
from .registry import find_experiment
from .running import ExperimentError, checksum_files, find_alike, lock_ledgers
from .scores import unpack_labels, unpack_values
from .tie import find_stale, list_differences

__all__ = ["verify_experiment"]


def verify_experiment(
    id: str, profile: str = "book", dataset: str = "facsynth", *, root: str | os.PathLike[str] | None = None, data: Path | None = None,
    runs: int = 1, draw: int | None = None, say: Callable[[str], None] = lambda text: None,
) -> bool:
    """Execute kept runs of an experiment again and compare all that they gave: metrics, predictions, values, curves and files.

    Runs on other faces or files than those that are here are not drawn; ``reproduce`` makes them anew.

    Parameters
    ----------
    id, profile, dataset, root, data, say
        As :func:`~fer_utils.experiments.running.run_experiments`.
    runs : int
        How many; all, if there are fewer.
    draw : int, optional
        Which: the seed of the draw. By default it is another one each time.

    Returns
    -------
    bool
        Whether all came out again.

    Raises
    ------
    ValueError
        For an unknown experiment, profile or dataset, an experiment that measures time, or one without a run that could be executed again.
    DataError
        If the ledger is damaged, or another process writes it.
    ExperimentError
        If a run fails.
    """
    experiment = find_experiment(id)
    if experiment.alone:
        raise ValueError(f"{id} measures time, which does not come out twice")
    if runs < 1:
        raise ValueError(f"runs must be 1 or more, got {runs}")
    place = None if root is None else os.fspath(Path(root).expanduser().absolute())
    planned = experiment.plan(profile, dataset)
    with lock_ledgers([ledger_path(id, profile, dataset, data)]):
        ledger = Ledger(id, profile, dataset, data)
        stale = find_stale(ledger, place, data, code=False)
        known = {run["key"]: run for run in ledger.runs if run["key"] not in stale}
        candidates = [run for run in (find_alike(planned, kept) for kept in known.values()) if run is not None]
        if not candidates:
            raise ValueError(f"no kept run of {id}, profile {profile}, on {dataset}, can be run again as it was; 'ferbook reproduce {id}'")
        order = np.random.default_rng(draw).permutation(len(candidates))[:runs]
        found: dict[str, list[tuple[str, list[str]]]] = {}
        for run in (candidates[k] for k in order):
            differences = _execute_again(Job(id, Profile(profile), dataset, run, place, data and os.fspath(data)), known[run.key], say)
            found.setdefault(known[run.key]["tie"]["code"], []).append((run.key, differences))
        changed = [_conclude(ledger, code, results, say) for code, results in found.items()]
        if any(changed):
            ledger.save()
    return not any(differences for results in found.values() for _, differences in results)


def _execute_again(job: Job, kept: Mapping[str, Any], say: Callable[[str], None]) -> list[str]:
    """What differs, largest first; nothing, if it came out again."""
    with _private_cache():
        try:
            fresh = execute_run(job)
        except Exception as error:  # whatever a run raises
            raise ExperimentError(f"{job.name}: {type(error).__name__}: {error}") from error
    differences = _compare(kept, fresh)
    elsewhere = "; ".join(list_differences(kept))
    if not differences:
        say(f"{job.name}: came out again, {fresh['wall_s']:.1f} s")
    else:
        say(f"{job.name}: differs{f' ({elsewhere})' if elsewhere else ''}: {'; '.join(differences[:3])}")
    return differences


@contextmanager
def _private_cache() -> Iterator[None]:
    """No folder of an unfinished run, and nothing that other code has computed, is taken up."""
    before = os.environ.get("FER_CACHE")
    with tempfile.TemporaryDirectory(prefix="ferbook-verify-") as folder:
        os.environ["FER_CACHE"] = folder
        try:
            yield
        finally:
            os.environ.pop("FER_CACHE")
            if before is not None:
                os.environ["FER_CACHE"] = before


def _conclude(ledger: Ledger, code: str, results: Sequence[tuple[str, list[str]]], say: Callable[[str], None]) -> bool:
    """Renew or mark the runs that a code made, by what came of some of them; return whether anything was noted."""
    group = [run for run in ledger.runs if run["tie"]["code"] == code]
    bad = [key for key, differences in results if differences]
    stamp = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "by": (bad or [results[0][0]])[0], "commit": find_commit()}
    if bad:
        if not any(list_differences(run) == [] for run in group if run["key"] in bad):
            say(f"{ledger.id}: nothing is concluded, as this machine is another one")
            return False
        for run in group:
            ledger.note(run["key"], {"failed": stamp})
        say(f"{ledger.id}: {len(group)} runs of the same code are stale now; 'ferbook reproduce {ledger.id}' runs them again")
        return True
    here = {run["key"]: describe_code(run["function"], run["arguments"]) for run in group}
    renewed = [key for key, modules in here.items() if modules != ledger.codes[code]]
    for key in renewed:
        ledger.note(key, {"renewed": {**stamp, "was": code}}, here[key])
    if renewed:
        say(f"{ledger.id}: {len(renewed)} runs of the same code are tied to the code that is here")
    return bool(renewed)


# -- what differs ---------------------------------------------------------------------------------------------------------


def _compare(kept: Mapping[str, Any], fresh: Mapping[str, Any]) -> list[str]:
    """What differs between a kept run and one that was executed just now, largest first."""
    scores, _ = part_outcomes(fresh["outcomes"])
    found: list[tuple[float, str]] = []
    for old, new in zip_longest(kept["outcomes"], scores):
        if old is None or new is None or (old["row"], old["faces"]) != (new["row"], new["faces"]):
            return ["it has other rows"]
        place = f"{old['row']}, {old['faces']}: " if old["faces"] else f"{old['row']}: "
        found += [(size, place + text) for size, text in _compare_scores(old, new)]
    files = checksum_files(fresh["files"])
    found += [(0.0, f"{name} is another file") for name in sorted({**kept.get("files", {}), **files})
              if kept.get("files", {}).get(name) != files.get(name)]
    return [text for _, text in sorted(found, key=lambda pair: -pair[0])]


def _compare_scores(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[float, str]]:
    """Size and words of each difference."""
    if old == new:
        return
    if old.get("test_set") != new.get("test_set"):
        yield np.inf, "other test faces"
        return
    if old.get("guess") != new.get("guess"):
        guesses = [unpack_labels(score.get("guess", "")) for score in (old, new)]
        count = int((guesses[0] != guesses[1]).sum()) if len(guesses[0]) == len(guesses[1]) else max(map(len, guesses))
        yield float(count), f"{count} predictions"
    for kind, read in (("metrics", lambda value: [value]), ("values", unpack_values), ("series", lambda value: value)):
        for name in {**old.get(kind, {}), **new.get(kind, {})}:
            numbers = [np.array(read(score[kind][name]) if name in score.get(kind, {}) else [], dtype=float) for score in (old, new)]
            if np.array_equal(*numbers, equal_nan=True):
                continue
            same = len(numbers[0]) == len(numbers[1])
            size = float(np.nanmax(np.abs(numbers[0] - numbers[1]), initial=0)) if same else np.inf
            yield size, f"{name} ({kind}) by {size:.3g}"

"""What can be run: experiments by ``<paper>/<table or figure>``, the independent runs that each consists of, and what a run gives back."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets.base import FaceDataset
from ..discovery import import_parts, list_papers
from ..errors import DataError
from ..metrics import compute_metric, count_confusions
from .faces import find_roles, fingerprint_faces, load_role
from .ledger import find_checkpoint
from .recipe import Profile

__all__ = [
    "Experiment", "Outcome", "Result", "Run", "Setup", "Task", "find_experiment", "list_experiments", "register_experiment",
    "score_faces", "score_outcome",
]

#: Training seeds, where an experiment does not say otherwise.
SEEDS: Mapping[Profile, int] = {Profile.SMOKE: 1, Profile.BOOK: 3, Profile.PAPER: 3}


# -- what a run gives back ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Outcome:
    """One row of a table on one test set, from one run.

    Attributes
    ----------
    row : str
        As the published item names it, such as ``"mSVM Gabor"``.
    faces : str
        The role of the test set: ``basic``, ``compound``, ``lab``, ``lab-small``; empty where faces play no part.
    metrics : dict of str to float
        Rates in ``[0, 1]``, times in the item's unit.
    classes : tuple of str
        For outcomes with predictions; see :func:`score_outcome`.
    truth, guess : int ``[N]``, optional
        Positions in ``classes``. Runs on the same test set in the same order can be compared image by image.
    people : int ``[N]``, optional
        Who is shown.
    errors : dict of str to float
        Standard errors from the choice of the test faces, for metrics that do not follow from the predictions.
    series : dict of str to list of float
        Curves.
    """

    row: str
    faces: str
    metrics: Mapping[str, float]
    classes: tuple[str, ...] = ()
    truth: Any = None
    guess: Any = None
    people: Any = None
    errors: Mapping[str, float] = field(default_factory=dict)
    series: Mapping[str, Sequence[float]] = field(default_factory=dict)


def score_outcome(
    row: str, faces: str, truth: Any, guess: Any, classes: Sequence[str], people: Any = None, *, metrics: Mapping[str, float] | None = None,
    errors: Mapping[str, float] | None = None, series: Mapping[str, Sequence[float]] | None = None,
) -> Outcome:
    """Make an outcome of predictions: accuracy and mean diagonal are measured here, recalls whenever they are asked for.

    Parameters
    ----------
    row, faces
        See :class:`Outcome`.
    truth, guess : int ``[N]``
        Positions in ``classes``.
    classes : sequence of str
    people : int ``[N]``, optional
        ``identities`` of the test faces: intervals are then over people.
    metrics, errors, series : dict, optional
        Further ones.

    Raises
    ------
    ValueError
        As :func:`~fer_utils.metrics.count_confusions`.
    """
    counts = count_confusions(truth, guess, range(len(classes)))
    own = {name: float(compute_metric(name, counts, classes)) for name in ("accuracy", "mean diagonal")}
    whole = {**own, **(metrics or {})}
    return Outcome(row, faces, whole, tuple(classes), np.asarray(truth), np.asarray(guess), people, errors or {}, series or {})


@dataclass(frozen=True, eq=False)
class Result:
    """Outcomes of a run, with small files to keep.

    Attributes
    ----------
    outcomes : sequence of Outcome
    files : dict of str to bytes
        File name to content, such as a checkpoint below 5 MB; written to ``data/checkpoints/<profile>/<dataset>/<paper>/<item>``.
    """

    outcomes: Sequence[Outcome]
    files: Mapping[str, bytes] = field(default_factory=dict)


def score_faces(row: str, role: str, faces: FaceDataset, guess: Any, **kept: Any) -> Outcome:
    """Make an outcome of the predictions for a role's faces; intervals are over people where they are known.

    Parameters
    ----------
    row, role : str
    faces : FaceDataset
    guess : int ``[N]``
        Positions in its classes; below 0 for a face that no fold tested, which is left out.
    **kept
        ``metrics``, ``errors`` and ``series``, see :func:`score_outcome`.
    """
    guess = np.asarray(guess)
    tested = guess >= 0
    people = None if faces.identities is None else faces.identities[tested]
    return score_outcome(row, role, faces.labels[tested], guess[tested], faces.classes, people=people, **kept)


# -- what is run ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Task:
    """What a run's function is given, before its own arguments.

    Attributes
    ----------
    id : str
        The experiment.
    profile : Profile
    dataset : str
    seed : int or None
        None for a run in which nothing is drawn.
    workdir : Path
        A folder of this run alone, for checkpoints: whoever runs it again after a kill finds what was written. Removed once the result
        is kept.
    root : str, optional
        Where the dataset's copy lies.
    data : str, optional
        The folder that holds ``results`` and ``checkpoints``.
    """

    id: str
    profile: Profile
    dataset: str
    seed: int | None
    workdir: Path
    root: str | None = None
    data: str | None = None
    loaded: list[dict[str, Any]] = field(default_factory=list)

    def load(self, role: str = "basic", **options: Any) -> FaceDataset:
        """Load faces by their role, as :func:`~fer_utils.experiments.faces.load_role`; the result is tied to them by a checksum.

        If the folder of this run holds work on other faces, it is emptied.
        """
        faces = load_role(self.dataset, role, self.root, **options)
        found = {"role": role, "options": options, **fingerprint_faces(self.dataset, faces)}
        text = json.dumps(found, sort_keys=True)
        note = self.workdir / f"faces-{role}-{hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:8]}.json"
        if note.is_file() and note.read_text() != text:
            shutil.rmtree(self.workdir)
        self.workdir.mkdir(parents=True, exist_ok=True)
        note.write_text(text)
        if found not in self.loaded:
            self.loaded.append(found)
        return faces

    def find_checkpoint(self, id: str, name: str) -> Path:
        """A file that a run of another experiment left, at this profile and on this dataset. Raises ``DataError`` if it is not there."""
        return find_checkpoint(id, name, self.profile, self.dataset, Path(self.data) if self.data else None)


@dataclass(frozen=True)
class Run:
    """One independent piece of work.

    Attributes
    ----------
    name : str
        Unlike any other of the experiment, for the same seed.
    function : callable or str
        ``function(task, **arguments)`` returns outcomes or a :class:`Result`. It must be a function of a module; kept as ``module:name``.
    arguments : dict
        What JSON can hold (tuples arrive as lists): kept with the result, so the recipe belongs here.
    seed : int or None
        None where nothing is drawn: the run has no spread over seeds.
    """

    name: str
    function: Any
    arguments: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None

    def __post_init__(self) -> None:
        if callable(self.function):
            path = f"{self.function.__module__}:{self.function.__qualname__}"
            if "<" in path:
                raise ValueError(f"run {self.name!r}: {path} cannot be found by another process; expected a function of a module")
            object.__setattr__(self, "function", path)
        try:
            text = json.dumps(self.arguments, sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"run {self.name!r}: arguments must be what JSON can hold ({error})") from None
        object.__setattr__(self, "arguments", json.loads(text))

    @property
    def key(self) -> str:
        """Changes with the name, the seed and the arguments."""
        return hashlib.sha256(json.dumps([self.name, self.seed, self.arguments], sort_keys=True).encode()).hexdigest()[:16]

    def resolve(self) -> Callable[..., Any]:
        """The function itself."""
        module, _, name = self.function.partition(":")
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        return found


@dataclass(frozen=True)
class Setup:
    """For whom an experiment plans its runs.

    Attributes
    ----------
    profile : Profile
    dataset : str
    seeds : tuple of int
    asked : bool
        Whether somebody asked for this many seeds; else an experiment may run some of its rows with fewer.
    """

    profile: Profile
    dataset: str
    seeds: tuple[int, ...]
    asked: bool = False

    @property
    def roles(self) -> tuple[str, ...]:
        """The faces that the dataset has; see :func:`~fer_utils.experiments.faces.load_role`."""
        return tuple(find_roles(self.dataset))


@dataclass(frozen=True)
class Experiment:
    """A published table or figure, run again.

    Attributes
    ----------
    id : str
        ``<paper>/<item>``.
    plan_runs : callable
        Takes a :class:`Setup`, returns runs; none where the dataset has not the faces.
    seeds : dict of Profile to int
        How many training seeds, unless asked for otherwise.
    needs : tuple of str
        Experiments that have to be run before, because this one reads their checkpoints.
    omits : dict of str to str
        Rows of the published item that are not run, and why.
    alone : bool
        Whether its runs measure time, so that no other run of ours may be going on beside them.
    """

    id: str
    plan_runs: Callable[[Setup], Iterable[Run]]
    seeds: Mapping[Profile, int] = field(default_factory=lambda: dict(SEEDS))
    needs: tuple[str, ...] = ()
    omits: Mapping[str, str] = field(default_factory=dict)
    alone: bool = False

    def plan(self, profile: str, dataset: str, seeds: int | None = None) -> list[Run]:
        """The runs of a profile on a dataset.

        Raises
        ------
        ValueError
            For an unknown profile or dataset, fewer than one seed, or two runs of one name and seed.
        """
        chosen = Profile(profile)
        find_roles(dataset)
        count = self.seeds.get(chosen, SEEDS[chosen]) if seeds is None else seeds
        if count < 1:
            raise ValueError(f"{self.id}: seeds must be 1 or more, got {count}")
        runs = list(self.plan_runs(Setup(chosen, dataset, tuple(range(count)), asked=seeds is not None)))
        seen = set()
        for run in runs:
            if (run.name, run.seed) in seen:
                raise ValueError(f"{self.id}: two runs are named {run.name!r} with the seed {run.seed}")
            seen.add((run.name, run.seed))
        return runs


_REGISTRY: dict[str, Experiment] = {}


def register_experiment(
    id: str, *, seeds: Mapping[str, int] | None = None, needs: Sequence[str] = (), omits: Mapping[str, str] | None = None,
    alone: bool = False,
) -> Callable[[Callable[[Setup], Iterable[Run]]], Callable[[Setup], Iterable[Run]]]:
    """Decorate a function that plans the runs of an experiment.

    Parameters
    ----------
    id : str
        ``<paper>/<item>``, as in ``fer_utils.published``.
    seeds, needs, omits, alone
        See :class:`Experiment`.

    Raises
    ------
    ValueError
        For an id without a paper and an item, or one that another function has.

    Examples
    --------
    >>> @register_experiment("dlp-cnn/table-5", omits={"LDA shape": "why not"})  # doctest: +SKIP
    ... def plan_table_5(setup):
    ...     return [Run(name, measure_descriptor, {"descriptor": name}) for name in ("LBP", "HOG", "Gabor")]
    """
    if id.count("/") != 1 or not all(id.split("/")):
        raise ValueError(f"an experiment is called <paper>/<item>, got {id!r}")

    def register(plan: Callable[[Setup], Iterable[Run]]) -> Callable[[Setup], Iterable[Run]]:
        known = _REGISTRY.get(id)
        if known is not None and (known.plan_runs.__module__, known.plan_runs.__qualname__) != (plan.__module__, plan.__qualname__):
            raise ValueError(f"{id} is registered twice: {known.plan_runs.__qualname__} and {plan.__qualname__}")
        counts = {**SEEDS, **{Profile(name): count for name, count in (seeds or {}).items()}}
        _REGISTRY[id] = Experiment(id, plan, counts, tuple(needs), dict(omits or {}), alone)
        return plan

    return register


def list_experiments(paper: str | None = None) -> list[Experiment]:
    """All experiments, or a paper's, by paper and then in the order they are registered in."""
    for name in list_papers():
        import_parts(name)
    found = [e for e in _REGISTRY.values() if paper in (None, e.id.split("/")[0])]
    return sorted(found, key=lambda e: e.id.split("/")[0])


def find_experiment(id: str) -> Experiment:
    """The experiment of an id. Raises ``ValueError``, which lists the ids, for an unknown one."""
    known = {experiment.id: experiment for experiment in list_experiments()}
    if id not in known:
        raise ValueError(f"unknown experiment {id!r}; expected one of {', '.join(known) or 'none, as none is registered'}")
    return known[id]


def check_outcomes(result: Any, run: Run) -> Result:
    """A run's return value as a :class:`Result`. Raises ``DataError`` if it is something else."""
    whole = result if isinstance(result, Result) else Result(result) if isinstance(result, Sequence) else None
    if whole is None or not whole.outcomes or not all(isinstance(outcome, Outcome) for outcome in whole.outcomes):
        raise DataError.at(run.function, f"returned {type(result).__name__}", "a list of one or more Outcome, or a Result")
    return whole

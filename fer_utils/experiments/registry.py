"""What can be run: experiments by ``<paper>/<table or figure>``, and the independent runs that each consists of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from ..discovery import find_owner, import_parts, list_papers
from ..errors import DataError
from .faces import find_roles
from .recipe import Profile, Recipe
from .scores import Score

__all__ = ["Experiment", "Run", "Setup", "find_experiment", "list_experiments", "register_experiment"]

#: Training seeds, where an experiment does not say otherwise.
SEEDS: Mapping[Profile, int] = {Profile.SMOKE: 1, Profile.BOOK: 3, Profile.PAPER: 3}


@dataclass(frozen=True)
class Run:
    """One independent piece of work.

    Attributes
    ----------
    name : str
        Unlike any other of the experiment, for the same seed.
    function : callable or str
        ``function(context, **arguments)`` takes a :class:`~fer_utils.experiments.context.RunContext` and returns a list of
        :class:`~fer_utils.experiments.scores.Score`. It must be a function of a module; kept as ``module:name``.
    arguments : dict
        Recipes, which arrive as they are, and what JSON can hold (tuples arrive as lists). They are kept with the result, a recipe as
        its fields.
    seed : int or None
        None where nothing is drawn: the run has no spread over seeds.

    Raises
    ------
    ValueError
        For a function that another process cannot find, or arguments that are neither recipes nor what JSON can hold.
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
            plain = json.loads(json.dumps(_describe(self.arguments), sort_keys=True, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ValueError(f"run {self.name!r}: arguments must be recipes or what JSON can hold ({error})") from None
        given = {name: value if isinstance(value, Recipe) else plain[name] for name, value in self.arguments.items()}
        object.__setattr__(self, "arguments", given)

    @property
    def kept_arguments(self) -> dict[str, Any]:
        """The arguments as the ledger keeps them: what JSON holds, a recipe as its fields."""
        return json.loads(json.dumps(_describe(self.arguments), sort_keys=True))

    @property
    def key(self) -> str:
        """Changes with the name, the seed, the arguments and the function."""
        return make_key(self.name, self.seed, self.kept_arguments, self.function)

    def resolve(self) -> Callable[..., Any]:
        """The function itself."""
        module, _, name = self.function.partition(":")
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        return found


def make_key(name: str, seed: int | None, arguments: Mapping[str, Any], function: str) -> str:
    """The key of a run, from what the ledger keeps of it; 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps([name, seed, arguments, function], sort_keys=True).encode()).hexdigest()[:16]


def _describe(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.as_arguments() if isinstance(value, Recipe) else value for name, value in arguments.items()}


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

        Parameters
        ----------
        profile : str
        dataset : str
        seeds : int, optional
            How many; by default as many as the experiment wants at this profile.

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
        ``<paper>/<item>``, as in the paper's ``published.yaml``.
    seeds, needs, omits, alone
        See :class:`Experiment`.

    Raises
    ------
    ValueError
        For an id without a paper and an item, one that another function has, or one of another paper than the function's folder.

    Examples
    --------
    >>> @register_experiment("dlp-cnn/table-5", omits={"LDA shape": "why not"})  # doctest: +SKIP
    ... def plan_table_5(setup):
    ...     return [Run(name, measure_descriptor, {"descriptor": name}) for name in ("LBP", "HOG", "Gabor")]
    """
    if id.count("/") != 1 or not all(id.split("/")):
        raise ValueError(f"an experiment is called <paper>/<item>, got {id!r}")

    def register(plan: Callable[[Setup], Iterable[Run]]) -> Callable[[Setup], Iterable[Run]]:
        owner = find_owner(plan.__module__)
        if owner not in (None, id.split("/")[0]):
            raise ValueError(f"{id} is registered in {plan.__module__}; expected {owner}/<item>, as the folder is named")
        known = _REGISTRY.get(id)
        if known is not None and (known.plan_runs.__module__, known.plan_runs.__qualname__) != (plan.__module__, plan.__qualname__):
            raise ValueError(f"{id} is registered twice: {known.plan_runs.__qualname__} and {plan.__qualname__}")
        counts = {**SEEDS, **{Profile(name): count for name, count in (seeds or {}).items()}}
        _REGISTRY[id] = Experiment(id, plan, counts, tuple(needs), dict(omits or {}), alone)
        return plan

    return register


def list_experiments() -> list[Experiment]:
    """All experiments, by paper and then in the order they are registered in.

    Returns
    -------
    list of Experiment

    Raises
    ------
    DataError
        If a paper's folder is broken; see :mod:`fer_utils.discovery`.
    """
    for name in list_papers():
        import_parts(name)
    return sorted(_REGISTRY.values(), key=lambda e: e.id.split("/")[0])


def find_experiment(id: str) -> Experiment:
    """The experiment of an id.

    Parameters
    ----------
    id : str
        ``dlp-cnn/table-6``.

    Returns
    -------
    Experiment

    Raises
    ------
    ValueError
        For an unknown paper, which lists the papers, or an item that is not run, which lists those of the paper.
    DataError
        If a paper's folder is broken.
    """
    known = {experiment.id: experiment for experiment in list_experiments()}
    if id in known:
        return known[id]
    paper = id.split("/")[0]
    papers = sorted({*list_papers(), *(name.split("/")[0] for name in known)})
    if paper not in papers:
        raise ValueError(f"{id!r}: unknown paper {paper!r}; expected one of {', '.join(papers) or 'none, as there is none'}")
    own = [name for name in known if name.split("/")[0] == paper]
    raise ValueError(f"unknown experiment {id!r}; expected one of {', '.join(own) or 'none, as none is registered'}")


def check_scores(scores: Any, run: Run) -> list[Score]:
    """A run's return value, if it is scores. Raises ``DataError`` if it is something else."""
    if not isinstance(scores, Sequence) or not scores or not all(isinstance(score, Score) for score in scores):
        raise DataError.at(run.function, f"returned {type(scores).__name__}", "a list of one or more Score")
    return list(scores)

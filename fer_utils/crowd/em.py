"""Who in the crowd can be relied on, and what the faces show: the EM reliability estimate (Li & Deng 2019, section III-A4, Algorithm 1).

Annotator ``i`` names face ``j`` rightly with probability ``sigmoid(alpha_i * beta_j)``: ``alpha`` is the annotator's reliability,
``beta`` the face's clarity. The true labels are hidden; the E-step weighs them by their posterior, the M-step moves ``alpha`` and
``beta`` uphill. The paper leaves the following open; :class:`ReliabilityEM` settles it so:

- *Wrong votes.* The paper gives the probability of the right label alone. What remains is spread over the other ``K - 1`` classes:
  evenly, or in proportion to how often each is voted for.
- *Where the search starts.* Algorithm 1 starts ``beta`` at the entropy of the votes, yet calls ``1 / beta`` the difficulty: a disputed
  face would start as a clear one, a unanimous face at 0, where everybody is right half the time. The text says "image j's entropy",
  which is a sum over classes; the formula sums over annotators, and so grows with their number. Here ``beta`` starts at the log odds
  that a vote agrees with the majority. The majority label itself needs no start: with ``alpha = 1`` the first E-step ranks the classes
  by their votes.
- *E-step.* As printed, a product over annotators of each one's posterior, which does not sum to 1 over the classes and counts their
  prior once for each vote; here the product is divided by its sum, and the prior counts once. With equal priors the second makes no
  difference.
- *No maximum.* The more a unanimous face's ``beta`` grows, the likelier its votes, without end; likewise an annotator's ``alpha`` who
  is always right. Gaussian priors, ``log beta ~ N(0, s^2)`` and ``alpha ~ N(e, (e s)^2)``, end that. With ``s = 1`` they are GLAD's,
  ``N(1, 1)`` for both, where its typical ``beta`` of ``e`` is taken as 1. The paper says that it left them out: with an ``s`` of
  :data:`FLAT` they come close to plain likelihood.
- *Scale and sign.* ``alpha * c`` and ``beta / c`` give the same probabilities for any ``c``. The sign is fixed by ``beta > 0``, the
  scale by the priors, however flat: after each step the likeliest ``c`` is taken. Where faces far outnumber annotators, that puts the
  mean of ``log beta`` at 0, and ``alpha`` is the annotator's log odds of being right on a face of middling clarity.
- *How to climb, and when to stop.* Any step that raises the objective will do. Here each iteration takes Newton steps in each
  ``log beta`` and one in each ``alpha``, all of them checked, and ends when the objective gains less than ``tol`` of its size.

An ``alpha`` of 0 means right half the time, not guessing: among ``K`` classes who guesses has ``alpha * beta = -log(K - 1)``.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from .chunks import CHUNK_ROWS, Held, Source, open_source
from .votes import Block, code_arrays, encode_votes

__all__ = ["FLAT", "ReliabilityEM", "Step"]

#: Priors of this width, in ``beta`` a factor of 20,000, settle little but what the votes leave open.
FLAT = 10.0

#: Where the prior on ``alpha`` has its centre: GLAD's 1, times its typical clarity, which is 1 here.
CENTRE = float(np.e)

#: No face starts with a clarity below this: from 0 there is no way up in ``log beta``.
LOWEST_START = 0.01

#: Steps in beta for each step in alpha: beta's are local to a face, alpha's need a pass over all votes.
_BETA_STEPS = 2
#: A Newton step moves alpha and log beta by no more than this.
_REACH = 1.0
#: Below this share of the objective a loss is rounding.
_ROUNDING = 1e-12
#: A curvature in log beta below this share of what it would be were the labels known is not trusted.
_FLATTEST = 0.1

_CHOICES = {"init": ("agreement", "entropy", "summed entropy", "prior"), "m_step": ("newton", "gradient"),
            "errors": ("uniform", "shares"), "class_prior": ("uniform", "estimated")}


class Step(NamedTuple):
    """Where the fit stands after one iteration.

    Attributes
    ----------
    iteration : int
        From 1.
    objective : float
        As in ``loss_history_``.
    alphas : float ``[R]``
        Reliabilities, in the order of ``alphas_``.
    change : float
        The largest change of a reliability since the iteration before; infinite at first.
    """

    iteration: int
    objective: float
    alphas: np.ndarray
    change: float


# -- the model, for one block of votes ------------------------------------------------------------------------------------


class _Rules(NamedTuple):
    """What all blocks share during one pass."""

    alphas: np.ndarray  # [R]
    log_priors: np.ndarray  # [K]
    log_errors: np.ndarray  # [K, K]: from a true class (row), the log share of each wrong label; 0 on the diagonal
    precision: float  # of the priors: 1 / s^2
    m_step: str
    init: str


class _Expectation(NamedTuple):
    evidence: np.ndarray  # [N]: log p(votes of the task)
    posterior: np.ndarray  # [N, K]
    spread: np.ndarray  # [N]: variance of the summed alpha * beta of the votes for the true class, under the posterior
    residual: np.ndarray  # [V]: posterior probability that the vote is right, less the model's
    curvature: np.ndarray  # [V]


class _State(NamedTuple):
    """A chunk's clarities while they are sought."""

    log_betas: np.ndarray  # [N]; NaN where the search has yet to begin
    reach: np.ndarray  # [N]: how far a step may go; it shrinks where steps did not help

    @classmethod
    def start(cls, log_betas: np.ndarray) -> _State:
        return cls(log_betas, np.full(len(log_betas), _REACH))


class _Sweep(NamedTuple):
    """What one pass over a chunk gives."""

    before: float  # objective on entry
    after: float  # objective after the steps in beta
    state: _State
    gradient: np.ndarray  # [R], in alpha
    curvature: np.ndarray  # [R]
    mass: np.ndarray  # [K]: expected number of tasks of each class


def _expect(block: Block, log_betas: np.ndarray, reliability: np.ndarray, rules: _Rules) -> _Expectation:
    """The E-step. ``reliability`` is ``[V]``: the alpha of each vote's author."""
    n, k = block.tally.shape
    z = reliability * np.repeat(np.exp(log_betas), block.counts)
    e = np.exp(-np.abs(z))
    log_wrong = np.log1p(e) + np.maximum(z, 0)  # -log(1 - p)
    p = 0.5 + np.copysign(0.5 * (1 - e) / (1 + e), z)
    # log p(y) + sum over votes of log p where the vote is y, else log(1 - p) + log share; and log p - log(1 - p) = z.
    right = np.bincount(block.cells, z, minlength=n * k).reshape(n, k)
    joint = right + block.tally @ rules.log_errors.T + rules.log_priors
    top = joint.max(axis=1, keepdims=True)
    posterior = np.exp(joint - top)
    total = posterior.sum(axis=1, keepdims=True)
    posterior /= total
    evidence = (np.log(total) + top)[:, 0] - np.add.reduceat(log_wrong, block.starts)
    spread = (posterior * (right - (posterior * right).sum(axis=1, keepdims=True)) ** 2).sum(axis=1)
    return _Expectation(evidence, posterior, spread, posterior.ravel()[block.cells] - p, e / (1 + e) ** 2)


def _step_betas(block: Block, now: _Expectation, reliability: np.ndarray, state: _State, rules: _Rules) -> np.ndarray:
    """The M-step in beta: where each task's ``log beta`` would go, ``[N]``."""
    log_betas, reach = state
    betas = np.exp(log_betas)
    slope = betas * np.add.reduceat(now.residual * reliability, block.starts)
    gradient = slope - rules.precision * log_betas
    if rules.m_step == "newton":
        known = betas**2 * np.add.reduceat(now.curvature * reliability**2, block.starts) + rules.precision
        # The likelihood's own curvature, which counts that the label is not known, where it is not too flat to trust.
        curvature = np.maximum(known - now.spread - slope, _FLATTEST * known)
        return log_betas + np.clip(gradient / curvature, -reach, reach)
    return np.log(np.maximum(betas + reach * gradient / betas / block.counts, betas / 10))


def _penalised(now: _Expectation, log_betas: np.ndarray, rules: _Rules) -> np.ndarray:
    return now.evidence - 0.5 * rules.precision * log_betas**2


def _first_betas(block: Block, init: str) -> np.ndarray:
    """Where ``log beta`` starts, ``[N]``."""
    if init == "prior":
        return np.zeros(len(block.counts))
    if init == "agreement":
        most = block.tally.max(axis=1)
        betas = np.log((most + 1) / (block.counts - most + 1))
        return np.log(np.maximum(betas, 0.1))
    shares = block.tally / block.counts[:, None]
    # over annotators, as printed, every vote adds its label's term; over classes every class does
    weights = block.tally if init == "summed entropy" else shares > 0
    betas = -(weights * shares * np.log(np.where(shares > 0, shares, 1))).sum(axis=1)
    return np.log(np.maximum(betas, LOWEST_START))


def _sweep_block(block: Block, state: _State, rules: _Rules) -> _Sweep:
    if (fresh := np.isnan(state.log_betas)).any():
        state = state._replace(log_betas=np.where(fresh, _first_betas(block, rules.init), state.log_betas))
    reliability = rules.alphas[block.workers]
    now = _expect(block, state.log_betas, reliability, rules)
    value = _penalised(now, state.log_betas, rules)
    before = value.sum()
    for _ in range(_BETA_STEPS):
        moved = _step_betas(block, now, reliability, state, rules)
        then = _expect(block, moved, reliability, rules)
        gained = _penalised(then, moved, rules)
        worse = ~(gained >= value)
        reach = np.where(worse, state.reach / 4, np.minimum(state.reach * 2, _REACH))
        if worse.any():  # a task whose step did not help stays where it was
            moved, gained = np.where(worse, state.log_betas, moved), np.where(worse, value, gained)
            votes = np.flatnonzero(np.repeat(worse, block.counts))
            then.posterior[worse], then.spread[worse] = now.posterior[worse], now.spread[worse]
            then.residual[votes], then.curvature[votes] = now.residual[votes], now.curvature[votes]
        now, value, state = then, gained, _State(moved, reach)
    betas = np.repeat(np.exp(state.log_betas), block.counts)
    n_workers = len(rules.alphas)
    return _Sweep(before, value.sum(), state, np.bincount(block.workers, now.residual * betas, n_workers),
                  np.bincount(block.workers, now.curvature * betas**2, n_workers), now.posterior.sum(axis=0))


def _by_block(blocks: Sequence[Block], state: _State) -> Iterator[tuple[Block, _State]]:
    start = 0
    for block in blocks:
        part = slice(start, start + len(block.counts))
        yield block, _State(state.log_betas[part], state.reach[part])
        start = part.stop


def _sweep(blocks: Sequence[Block], state: _State, rules: _Rules) -> _Sweep:
    """One pass over a chunk: E-step, M-step in beta with fresh E-steps, and what the M-step in alpha needs."""
    return _add(_sweep_block(block, part, rules) for block, part in _by_block(blocks, state))


def _add(sweeps: Iterable[_Sweep]) -> _Sweep:
    """Join the sweeps of blocks, or of chunks, as they come."""
    states: list[_State] = []
    sums: list[Any] = []
    for sweep in sweeps:
        states.append(sweep.state)
        terms = (sweep.before, sweep.after, sweep.gradient, sweep.curvature, sweep.mass)
        sums = [total + term for total, term in zip(sums, terms, strict=True)] if sums else list(terms)
    before, after, gradient, curvature, mass = sums
    return _Sweep(before, after, _State(*map(np.concatenate, zip(*states, strict=True))), gradient, curvature, mass)


def _posterior(blocks: Sequence[Block], state: _State, rules: _Rules) -> tuple[np.ndarray, float]:
    """A chunk's label probabilities ``[N, K]`` and log-likelihood."""
    found = [_expect(block, part.log_betas, rules.alphas[block.workers], rules) for block, part in _by_block(blocks, state)]
    return np.concatenate([one.posterior for one in found]), sum(one.evidence.sum() for one in found)


# -- the climb over all of them -------------------------------------------------------------------------------------------


class _Point(NamedTuple):
    """Where an iteration ended, and what the next step needs to know there."""

    alphas: np.ndarray
    log_priors: np.ndarray
    log_betas: np.ndarray  # [N], of all tasks
    reach: np.ndarray
    gradient: np.ndarray
    curvature: np.ndarray
    mass: np.ndarray
    scale: np.ndarray  # [], of the step in alpha


class ReliabilityEM(BaseEstimator):
    """Estimate annotators' reliability, faces' clarity and the true labels from votes (Li & Deng 2019, Algorithm 1).

    Used like crowd-kit's aggregators, on a frame ``task, worker, label``. The module's page says what the paper leaves open.

    Parameters
    ----------
    prior : float
        Width ``s`` of the priors, ``log beta ~ N(0, s^2)`` and ``alpha ~ N(e, (e s)^2)``. 1 is GLAD's; :data:`FLAT` is near to
        plain likelihood.
    init : {"agreement", "entropy", "summed entropy", "prior"}
        Where ``beta`` starts: the log odds that a vote agrees with the majority, one vote added to each side; the entropy of the face's
        votes, over classes; the paper's formula for it, which sums over annotators (the term of a label counts once for each vote);
        or the middle of its prior, which is GLAD's start. ``alpha`` starts at 1.
    errors : {"uniform", "shares"}
        Where wrong votes go: evenly to the other classes, or in proportion to all votes cast for each.
    class_prior : {"uniform", "estimated"}
        Whether all classes are equally frequent beforehand, or as frequent as the fit finds, with one more face in each.
    m_step : {"newton", "gradient"}
        Newton steps; or plain gradient ascent, on the mean over each annotator's and each face's votes. Both go uphill only.
    classes : sequence of hashable, optional
        All classes, voted for or not; by default those voted for, sorted.
    tol : float
        The fit ends when an iteration gains less than this share of the objective.
    max_iter : int
        The fit ends after so many iterations, with a ``ConvergenceWarning``.

    Attributes
    ----------
    alphas_ : pandas.Series
        Reliability by worker: the log odds of being right on a face of clarity 1. Any sign.
    betas_ : pandas.Series
        Clarity by task, above 0; ``1 / beta`` is the paper's difficulty.
    probas_ : pandas.DataFrame
        Posterior probability of each class, tasks by classes; rows sum to 1.
    labels_ : pandas.Series
        The most probable class by task; of equals, the first.
    priors_ : pandas.Series
        Probability of each class beforehand.
    loss_history_ : list of float
        The objective after each iteration: the log-likelihood of the votes plus the log priors, up to a constant. It never falls.
    log_likelihood_ : float
        Log-likelihood of the votes at the end, without priors.
    n_iter_ : int
        Iterations done.
    """

    def __init__(
        self, *, prior: float = 1.0, init: str = "agreement", errors: str = "uniform", class_prior: str = "uniform",
        m_step: str = "newton", classes: Sequence[Hashable] | None = None, tol: float = 1e-9, max_iter: int = 500,
    ) -> None:
        self.prior, self.init, self.errors, self.class_prior, self.m_step = prior, init, errors, class_prior, m_step
        self.classes, self.tol, self.max_iter = classes, tol, max_iter

    @classmethod
    def as_printed(cls, **options: Any) -> Self:
        """Set up Algorithm 1 as near to the letter as it works: ``beta`` starts at the entropy, flat priors, gradient ascent.

        It departs from the letter here:

        - The entropy is over classes, not summed over annotators. ``init="summed entropy"`` is the sum. With forty votes a face,
          disputed faces then start so clear that the first plain step in ``alpha`` makes everybody unreliable, and the fit stays
          there; with Newton steps it ends where the others end.
        - A unanimous face starts at a clarity of 0.01, as the paper's 0 is not above 0.
        - The first E-step overwrites the majority labels, so they have no effect.
        - ``Q`` is divided by its sum over the classes, so that it is a distribution; with equal priors it is the printed product else.
        - Instead of the printed maximum over ``alpha``, each iteration takes one step up the gradient in ``alpha`` and two in ``beta``,
          shortened where they do not help.
        - The priors are nearly flat (:data:`FLAT`), not absent: without any there is no maximum.
        - Wrong votes, the scale and the stopping rule, which are not printed, are as everywhere here.
        """
        return cls(**{"prior": FLAT, "init": "entropy", "m_step": "gradient"} | options)

    # -- fitting

    def fit(self, votes: pd.DataFrame, *, on_step: Callable[[Step], object] | None = None) -> Self:
        """Fit to a frame of votes.

        Parameters
        ----------
        votes : pandas.DataFrame
            One row a vote: ``task``, ``worker``, ``label``. A row that comes twice counts twice.
        on_step : callable, optional
            Called with a :class:`Step` after each iteration.

        Raises
        ------
        ValueError
            If the frame is no frame of votes, a label is not among ``classes``, all votes are for one class and ``classes`` are not
            given, or a parameter is out of range.
        """
        coded = encode_votes(votes, self.classes)
        return self._fit(Held(coded), on_step)

    def fit_arrays(
        self, task: np.ndarray, worker: np.ndarray, label: np.ndarray, *, on_step: Callable[[Step], object] | None = None
    ) -> Self:
        """Fit to votes that are numbers already, without a frame's cost.

        Parameters
        ----------
        task, worker, label : int ``[V]``
            Codes from 0. ``label`` counts into ``classes``, where given. Every task has a vote; a worker may have none.
        on_step : callable, optional
            Called with a :class:`Step` after each iteration.

        Raises
        ------
        ValueError
            If the arrays differ in length, hold anything but codes, or skip a task.
        """
        return self._fit(Held(code_arrays(task, worker, label, self.classes)), on_step)

    def fit_file(
        self, path: str | os.PathLike[str], *, chunk_rows: int = CHUNK_ROWS, scheduler: str | Any | None = None,
        scratch: str | os.PathLike[str] | None = None, on_step: Callable[[Step], object] | None = None,
    ) -> Self:
        """Fit to votes that need not fit in memory: csv or Parquet, in any order.

        The votes are read once, numbered, and brought together by task in chunks; each iteration then takes one chunk after the
        other, here or on a Dask cluster. Only parameters and label probabilities stay in memory: they grow with the tasks, not the
        votes. The result is that of :meth:`fit`, but for rounding.

        Parameters
        ----------
        path : path
            A ``.csv`` or ``.parquet`` file, or a folder of ``.parquet`` files, with the columns ``task``, ``worker``, ``label``. In a
            csv everything is text: codes keep their leading zeros, classes are ``"1"``, ``"2"``, blanks around a value do not count,
            and ``NaN``, ``NA``, ``None`` and the like are no value.
        chunk_rows : int
            Votes a chunk, about.
        scheduler : str or distributed.Client, optional
            A Dask scheduler, ``tcp://host:port``. Its workers need this package; they hold the chunks in their memory.
        scratch : path, optional
            Folder for the chunks (20 bytes a vote at most) and the state after each iteration. A fit that was killed goes on from there; at
            the end the folder is removed. By default a temporary folder, from which nothing resumes.
        on_step : callable, optional
            Called with a :class:`Step` after each iteration.

        Raises
        ------
        DataError
            If the file is missing, is no such table, or has a row without a value; also for votes that :meth:`fit` refuses. It is a
            ``ValueError``, as is what comes of a parameter out of range.
        ImportError
            If a scheduler is given and ``distributed`` is not installed.
        """
        with open_source(path, self.classes, chunk_rows=chunk_rows, scheduler=scheduler, scratch=scratch) as source:
            return self._fit(source, on_step)

    def fit_predict(self, votes: pd.DataFrame) -> pd.Series:
        """Fit, and return the label of each task."""
        return self.fit(votes).labels_

    def fit_predict_proba(self, votes: pd.DataFrame) -> pd.DataFrame:
        """Fit, and return the probability of each class, tasks by classes."""
        return self.fit(votes).probas_

    # -- predicting

    def predict_proba(self, votes: pd.DataFrame) -> pd.DataFrame:
        """Label faces, old or new, by the votes of people whose reliability is known.

        Reliabilities and class priors stay as fitted; the clarity of each face is sought, from the fitted one where there is one.

        Parameters
        ----------
        votes : pandas.DataFrame
            As for :meth:`fit`; all workers must have voted in the fit.

        Returns
        -------
        pandas.DataFrame
            Probability of each class, tasks by classes.

        Raises
        ------
        ValueError
            As :meth:`fit`, and for an unknown worker or class.
        sklearn.exceptions.NotFittedError
            If nothing was fitted.
        """
        check_is_fitted(self)
        coded = encode_votes(votes, self.probas_.columns, self.alphas_.index)
        source, log_priors = Held(coded), np.log(self.priors_.to_numpy())
        rules = _Rules(self.alphas_.to_numpy(), log_priors, self._log_errors, self._precision(), "newton", self.init)
        state, last = _State.start(np.log(self.betas_.reindex(coded.tasks).to_numpy())), -np.inf
        for _ in range(self.max_iter):
            sweep = _add(source.map(partial(_sweep, rules=rules), state))
            state, gain, last = sweep.state, sweep.after - last, sweep.after
            if gain <= _ROUNDING * abs(last):
                break
        (posterior, _), = source.map(partial(_posterior, rules=rules), state)
        return pd.DataFrame(posterior, index=coded.tasks, columns=coded.classes)

    def predict(self, votes: pd.DataFrame) -> pd.Series:
        """The most probable class of each task; see :meth:`predict_proba`."""
        return _pick(self.predict_proba(votes))

    # -- the climb

    def _precision(self) -> float:
        return 1 / self.prior**2

    def _check(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        if not isinstance(self.prior, int | float) or not 0 < self.prior < np.inf:
            raise ValueError(f"prior must be a width above 0, got {self.prior!r}")
        if not self.tol >= 0 or self.max_iter < 1:
            raise ValueError(f"tol must be 0 or more and max_iter 1 or more, got {self.tol!r} and {self.max_iter!r}")

    def _fit(self, source: Source, on_step: Callable[[Step], object] | None) -> Self:
        self._check()
        k = len(source.classes)
        self._log_errors = _log_errors(source.votes_by_class if self.errors == "shares" else np.ones(k))
        rules = _Rules(np.ones(len(source.workers)), np.full(k, -np.log(k)), self._log_errors, self._precision(), self.m_step, self.init)
        point, history = self._climb(source, rules, on_step)
        rules = rules._replace(alphas=point.alphas, log_priors=point.log_priors)
        state = _State(point.log_betas, point.reach)
        posteriors, evidence = zip(*source.map(partial(_posterior, rules=rules), state), strict=True)
        self.alphas_ = pd.Series(point.alphas, index=source.workers, name="alpha")
        self.betas_ = pd.Series(np.exp(point.log_betas), index=source.tasks, name="beta")
        self.probas_ = pd.DataFrame(np.concatenate(posteriors), index=source.tasks, columns=source.classes)
        self.labels_ = _pick(self.probas_)
        self.priors_ = pd.Series(np.exp(point.log_priors), index=source.classes, name="prior")
        self.loss_history_, self.log_likelihood_, self.n_iter_ = history, float(sum(evidence)), len(history)
        return self

    def _climb(self, source: Source, rules: _Rules, on_step: Callable[[Step], object] | None) -> tuple[_Point, list[float]]:
        point, history, shown = None, [], None
        if (kept := source.restore(repr(self.get_params()))) is not None:
            history, point = kept.pop("history").tolist(), _Point(**kept)
        while len(history) < self.max_iter:
            state = _State.start(np.full(len(source.tasks), np.nan))
            if point is not None:
                alphas, log_priors, state = self._move(point, source.votes_by_worker)
                rules = rules._replace(alphas=alphas, log_priors=log_priors)
            sweep = _add(source.map(partial(_sweep, rules=rules), state))
            outside = -0.5 * rules.precision * ((rules.alphas / CENTRE - 1) ** 2).sum()
            if self.class_prior == "estimated":
                outside += rules.log_priors.sum()
            if history and sweep.before + outside < history[-1]:
                # The step in alpha went too far: take less of it, unless what is lost is rounding.
                if history[-1] - sweep.before - outside <= _ROUNDING * abs(history[-1]) or point.scale < 1e-6:
                    return point, history
                point = point._replace(scale=point.scale / 4)
                continue
            scale = np.array(1.0) if point is None else np.minimum(point.scale * 2, 1.0)
            point = _Point(rules.alphas, rules.log_priors, *sweep.state, sweep.gradient, sweep.curvature, sweep.mass, scale)
            history.append(float(sweep.after + outside))
            source.save(repr(self.get_params()), point._asdict() | {"history": np.array(history)})
            if on_step is not None:
                change = np.inf if shown is None else float(np.abs(point.alphas - shown).max())
                on_step(Step(len(history), history[-1], point.alphas, change))
                shown = point.alphas
            if len(history) > 1 and history[-1] - history[-2] <= self.tol * abs(history[-1]):
                return point, history
        assert point is not None
        gain = history[-1] - history[-2] if len(history) > 1 else np.inf
        warnings.warn(f"the fit still gained {gain:.3g} after max_iter={self.max_iter} iterations", ConvergenceWarning, stacklevel=4)
        return point, history

    def _move(self, point: _Point, votes_by_worker: np.ndarray) -> tuple[np.ndarray, np.ndarray, _State]:
        """The M-step in alpha and the class prior, and the scale that the priors prefer."""
        precision = self._precision()
        gradient = point.gradient - precision * (point.alphas / CENTRE - 1) / CENTRE
        if self.m_step == "newton":
            step = np.clip(gradient / (point.curvature + precision / CENTRE**2), -_REACH, _REACH)
        else:
            step = gradient / np.maximum(votes_by_worker, 1)
        alphas, log_priors = point.alphas + point.scale * step, point.log_priors
        if self.class_prior == "estimated":
            mass = point.mass + 1
            log_priors = np.log(mass / mass.sum())
        shift = _best_scale(alphas / CENTRE, point.log_betas)
        return alphas * np.exp(shift), log_priors, _State(point.log_betas - shift, point.reach)


def _best_scale(alphas: np.ndarray, log_betas: np.ndarray) -> float:
    """The ``u`` for which ``alphas * exp(u)`` and ``log_betas - u`` are likeliest under their priors; 0 if none is likelier than that."""
    squares, total, n, logs = (alphas**2).sum(), alphas.sum(), len(log_betas), log_betas.sum()

    def value(u: float) -> float:
        return -0.5 * (np.exp(2 * u) * squares - 2 * np.exp(u) * total + n * u * u - 2 * u * logs)

    u = 0.0
    for _ in range(20):
        slope = -np.exp(2 * u) * squares + np.exp(u) * total - n * u + logs
        u += np.clip(slope / max(2 * np.exp(2 * u) * squares - np.exp(u) * total + n, n), -1, 1)
    return float(u) if value(u) > value(0.0) else 0.0


def _log_errors(weights: np.ndarray) -> np.ndarray:
    """Log share of each wrong label (column) among the mistakes on a true class (row), by weight; 0 on the diagonal, ``[K, K]``."""
    weights = weights + 1.0  # a class that nobody voted for is not impossible
    shares = np.log(weights[None, :] / (weights.sum() - weights)[:, None])
    np.fill_diagonal(shares, 0)
    return shares


def _pick(probas: pd.DataFrame) -> pd.Series:
    return pd.Series(probas.columns.to_numpy()[probas.to_numpy().argmax(axis=1)], index=probas.index, name="agg_label")

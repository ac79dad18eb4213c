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
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from .chunks import CHUNK_ROWS, Held, Source, open_source
from .likelihood import CENTRE, REACH, ROUNDING, Rules, State, add_sweeps, find_posterior, find_scale, log_error_shares, sweep_chunk
from .votes import code_arrays, encode_votes

__all__ = ["FLAT", "ReliabilityEM", "Step"]

#: Priors of this width, in ``beta`` a factor of 20,000, settle little but what the votes leave open.
FLAT = 10.0

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
        rules = Rules(self.alphas_.to_numpy(), log_priors, self._log_errors, self._precision(), "newton", self.init)
        state, last = State.start(np.log(self.betas_.reindex(coded.tasks).to_numpy())), -np.inf
        for _ in range(self.max_iter):
            sweep = add_sweeps(source.map(partial(sweep_chunk, rules=rules), state))
            state, gain, last = sweep.state, sweep.after - last, sweep.after
            if gain <= ROUNDING * abs(last):
                break
        (posterior, _), = source.map(partial(find_posterior, rules=rules), state)
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
        self._log_errors = log_error_shares(source.votes_by_class if self.errors == "shares" else np.ones(k))
        rules = Rules(np.ones(len(source.workers)), np.full(k, -np.log(k)), self._log_errors, self._precision(), self.m_step, self.init)
        point, history = self._climb(source, rules, on_step)
        rules = rules._replace(alphas=point.alphas, log_priors=point.log_priors)
        state = State(point.log_betas, point.reach)
        posteriors, evidence = zip(*source.map(partial(find_posterior, rules=rules), state), strict=True)
        self.alphas_ = pd.Series(point.alphas, index=source.workers, name="alpha")
        self.betas_ = pd.Series(np.exp(point.log_betas), index=source.tasks, name="beta")
        self.probas_ = pd.DataFrame(np.concatenate(posteriors), index=source.tasks, columns=source.classes)
        self.labels_ = _pick(self.probas_)
        self.priors_ = pd.Series(np.exp(point.log_priors), index=source.classes, name="prior")
        self.loss_history_, self.log_likelihood_, self.n_iter_ = history, float(sum(evidence)), len(history)
        return self

    def _climb(self, source: Source, rules: Rules, on_step: Callable[[Step], object] | None) -> tuple[_Point, list[float]]:
        point, history, shown = None, [], None
        if (kept := source.restore(repr(self.get_params()))) is not None:
            history, point = kept.pop("history").tolist(), _Point(**kept)
        while len(history) < self.max_iter:
            state = State.start(np.full(len(source.tasks), np.nan))
            if point is not None:
                alphas, log_priors, state = self._move(point, source.votes_by_worker)
                rules = rules._replace(alphas=alphas, log_priors=log_priors)
            sweep = add_sweeps(source.map(partial(sweep_chunk, rules=rules), state))
            outside = -0.5 * rules.precision * ((rules.alphas / CENTRE - 1) ** 2).sum()
            if self.class_prior == "estimated":
                outside += rules.log_priors.sum()
            if history and sweep.before + outside < history[-1]:
                # The step in alpha went too far: take less of it, unless what is lost is rounding.
                if history[-1] - sweep.before - outside <= ROUNDING * abs(history[-1]) or point.scale < 1e-6:
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

    def _move(self, point: _Point, votes_by_worker: np.ndarray) -> tuple[np.ndarray, np.ndarray, State]:
        """The M-step in alpha and the class prior, and the scale that the priors prefer."""
        precision = self._precision()
        gradient = point.gradient - precision * (point.alphas / CENTRE - 1) / CENTRE
        if self.m_step == "newton":
            step = np.clip(gradient / (point.curvature + precision / CENTRE**2), -REACH, REACH)
        else:
            step = gradient / np.maximum(votes_by_worker, 1)
        alphas, log_priors = point.alphas + point.scale * step, point.log_priors
        if self.class_prior == "estimated":
            mass = point.mass + 1
            log_priors = np.log(mass / mass.sum())
        shift = find_scale(alphas / CENTRE, point.log_betas)
        return alphas * np.exp(shift), log_priors, State(point.log_betas - shift, point.reach)


def _pick(probas: pd.DataFrame) -> pd.Series:
    return pd.Series(probas.columns.to_numpy()[probas.to_numpy().argmax(axis=1)], index=probas.index, name="agg_label")

"""How likely votes are: the model of :class:`~fer_utils.crowd.em.ReliabilityEM`, whose page says what it assumes.

One pass over a chunk of votes takes the E-step and the steps in clarity; what it returns adds up over chunks to what the step in
reliability needs. Everything here is a function of arrays, so that a chunk can be worked on by another process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from .votes import Block

__all__ = [
    "CENTRE", "REACH", "ROUNDING", "Rules", "State", "Sweep", "add_sweeps", "find_posterior", "find_scale", "log_error_shares",
    "sweep_chunk",
]

#: Where the prior on ``alpha`` has its centre: GLAD's 1, times its typical clarity, which is 1 here.
CENTRE = float(np.e)

#: No face starts with a clarity below this: from 0 there is no way up in ``log beta``.
_LOWEST_START = 0.01

#: Steps in beta for each step in alpha: beta's are local to a face, alpha's need a pass over all votes.
_BETA_STEPS = 2
#: A Newton step moves alpha and log beta by no more than this.
REACH = 1.0
#: Below this share of the objective a loss is rounding.
ROUNDING = 1e-12
#: A curvature in log beta below this share of what it would be were the labels known is not trusted.
_FLATTEST = 0.1


class Rules(NamedTuple):
    """What all blocks share during one pass."""

    alphas: np.ndarray  #: [R]
    log_priors: np.ndarray  #: [K]
    log_errors: np.ndarray  #: [K, K]: from a true class (row), the log share of each wrong label; 0 on the diagonal
    precision: float  #: of the priors: 1 / s^2
    m_step: str  #: see ``ReliabilityEM``
    init: str  #: see ``ReliabilityEM``


class _Expectation(NamedTuple):
    evidence: np.ndarray  # [N]: log p(votes of the task)
    posterior: np.ndarray  # [N, K]
    spread: np.ndarray  # [N]: variance of the summed alpha * beta of the votes for the true class, under the posterior
    residual: np.ndarray  # [V]: posterior probability that the vote is right, less the model's
    curvature: np.ndarray  # [V]


class State(NamedTuple):
    """A chunk's clarities while they are sought."""

    log_betas: np.ndarray  #: [N]; NaN where the search has yet to begin
    reach: np.ndarray  #: [N]: how far a step may go; it shrinks where steps did not help

    @classmethod
    def start(cls, log_betas: np.ndarray) -> State:
        """Begin at some clarities, with steps of full length."""
        return cls(log_betas, np.full(len(log_betas), REACH))


class Sweep(NamedTuple):
    """What one pass over a chunk gives."""

    before: float  #: objective on entry
    after: float  #: objective after the steps in beta
    state: State  #: where the next pass begins
    gradient: np.ndarray  #: [R], in alpha
    curvature: np.ndarray  #: [R]
    mass: np.ndarray  #: [K]: expected number of tasks of each class


def _expect(block: Block, log_betas: np.ndarray, reliability: np.ndarray, rules: Rules) -> _Expectation:
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


def _step_betas(block: Block, now: _Expectation, reliability: np.ndarray, state: State, rules: Rules) -> np.ndarray:
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


def _penalised(now: _Expectation, log_betas: np.ndarray, rules: Rules) -> np.ndarray:
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
    return np.log(np.maximum(betas, _LOWEST_START))


def _sweep_block(block: Block, state: State, rules: Rules) -> Sweep:
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
        reach = np.where(worse, state.reach / 4, np.minimum(state.reach * 2, REACH))
        if worse.any():  # a task whose step did not help stays where it was
            moved, gained = np.where(worse, state.log_betas, moved), np.where(worse, value, gained)
            votes = np.flatnonzero(np.repeat(worse, block.counts))
            then.posterior[worse], then.spread[worse] = now.posterior[worse], now.spread[worse]
            then.residual[votes], then.curvature[votes] = now.residual[votes], now.curvature[votes]
        now, value, state = then, gained, State(moved, reach)
    betas = np.repeat(np.exp(state.log_betas), block.counts)
    n_workers = len(rules.alphas)
    return Sweep(before, value.sum(), state, np.bincount(block.workers, now.residual * betas, n_workers),
                  np.bincount(block.workers, now.curvature * betas**2, n_workers), now.posterior.sum(axis=0))


def _by_block(blocks: Sequence[Block], state: State) -> Iterator[tuple[Block, State]]:
    start = 0
    for block in blocks:
        part = slice(start, start + len(block.counts))
        yield block, State(state.log_betas[part], state.reach[part])
        start = part.stop


def sweep_chunk(blocks: Sequence[Block], state: State, rules: Rules) -> Sweep:
    """One pass over a chunk: E-step, M-step in beta with fresh E-steps, and what the M-step in alpha needs.

    Parameters
    ----------
    blocks, state, rules
        As :func:`find_posterior`.
    """
    return add_sweeps(_sweep_block(block, part, rules) for block, part in _by_block(blocks, state))


def add_sweeps(sweeps: Iterable[Sweep]) -> Sweep:
    """Join the sweeps of blocks, or of chunks, as they come."""
    states: list[State] = []
    sums: list[Any] = []
    for sweep in sweeps:
        states.append(sweep.state)
        terms = (sweep.before, sweep.after, sweep.gradient, sweep.curvature, sweep.mass)
        sums = [total + term for total, term in zip(sums, terms, strict=True)] if sums else list(terms)
    before, after, gradient, curvature, mass = sums
    return Sweep(before, after, State(*map(np.concatenate, zip(*states, strict=True))), gradient, curvature, mass)


def find_posterior(blocks: Sequence[Block], state: State, rules: Rules) -> tuple[np.ndarray, float]:
    """A chunk's label probabilities and log-likelihood.

    Parameters
    ----------
    blocks : sequence of Block
    state : State
        Of the tasks in the blocks.
    rules : Rules

    Returns
    -------
    float64 ``[N, K]``
    float
    """
    found = [_expect(block, part.log_betas, rules.alphas[block.workers], rules) for block, part in _by_block(blocks, state)]
    return np.concatenate([one.posterior for one in found]), sum(one.evidence.sum() for one in found)


def find_scale(alphas: np.ndarray, log_betas: np.ndarray) -> float:
    """The ``u`` for which ``alphas * exp(u)`` and ``log_betas - u`` are likeliest under their priors; 0 if none is likelier than that.

    Parameters
    ----------
    alphas : float64 ``[R]``
    log_betas : float64 ``[N]``
    """
    squares, total, n, logs = (alphas**2).sum(), alphas.sum(), len(log_betas), log_betas.sum()

    def value(u: float) -> float:
        return -0.5 * (np.exp(2 * u) * squares - 2 * np.exp(u) * total + n * u * u - 2 * u * logs)

    u = 0.0
    for _ in range(20):
        slope = -np.exp(2 * u) * squares + np.exp(u) * total - n * u + logs
        u += np.clip(slope / max(2 * np.exp(2 * u) * squares - np.exp(u) * total + n, n), -1, 1)
    return float(u) if value(u) > value(0.0) else 0.0


def log_error_shares(weights: np.ndarray) -> np.ndarray:
    """Log share of each wrong label (column) among the mistakes on a true class (row), by weight; 0 on the diagonal, ``[K, K]``."""
    weights = weights + 1.0  # a class that nobody voted for is not impossible
    shares = np.log(weights[None, :] / (weights.sum() - weights)[:, None])
    np.fill_diagonal(shares, 0)
    return shares

"""From single runs to a number and how sure it is: the spread over seeds and the choice of the test faces, apart and together.

**Value.** A cell is the mean over its seeds; a comparison is a sum of cells with weights 1 and -1.

**Test error.** The faces of a test set (or its people, where they are known) are drawn again 2,000 times; the standard deviation of the
comparison over the draws is its error. Cells on one test set share the draws, so what two methods have in common cancels; different test
sets are drawn apart.

**Seed error.** What the cells of a comparison owe to one run is taken together first: LDA and SVM on the features of one network rise
and fall with it. The variance over seeds is pooled over the comparisons that are asked for together and are alike in metric, role and
weight, since two or three seeds alone say little about a spread; runs that stand in several comparisons count once. A run in which
nothing is drawn has none.

**Interval.** ``value +- t * sqrt(seed_error**2 + test_error**2)``, 95 %, with Student's t; its degrees of freedom are those of the
pooled variance by Welch and Satterthwaite, without limit as the seeds matter less. Part of what differs between two seeds is the luck of
single faces, which the draws of the faces count as well: the interval is rather too wide than too narrow (it held the truth in 95 to 99 of
100 simulated cases).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from ..errors import DataError
from ..metrics import bootstrap_counts, compute_metric
from .ledger import Ledger, read_scores
from .published import Cell, Comparison
from .scores import unpack_labels

__all__ = ["Estimate", "LedgerReader"]

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A comparison, or a single cell, measured.

    Attributes
    ----------
    value, low, high : float
        With the 95 % interval of both errors together; of the test error alone where the spread over seeds is not known.
    seed_error : float
        Standard error from the seeds; NaN where there is one seed only and nothing to learn a spread from.
    test_error : float
        Standard error from the choice of the test faces, or the one that the runs gave, as for a time.
    test_low, test_high : float
        95 % of the draws of the test faces; NaN where there are no predictions to draw.
    seeds : int
        The fewest seeds that a cell has; 0 if nothing is drawn in any.
    count : int
        Faces of the smallest test set; 0 without one.
    """

    value: float
    low: float
    high: float
    seed_error: float
    test_error: float
    test_low: float
    test_high: float
    seeds: int
    count: int

    @property
    def limit(self) -> str:
        """Which error is larger: ``"seeds"``, ``"test set"`` (``"measurement"``, if the runs gave it themselves), or ``"neither"``."""
        if math.isnan(self.seed_error):
            return "seeds"
        if self.seed_error == self.test_error == 0:
            return "neither"
        return "seeds" if self.seed_error > self.test_error else "test set" if self.count else "measurement"


@dataclass(frozen=True)
class _Measured:
    """One run's number for a cell."""

    run: str
    seed: int | None
    value: float
    test_set: str | None
    guess: str | None
    error: float


class LedgerReader:
    """The ledgers of a profile on a dataset, opened when they are asked for.

    Parameters
    ----------
    profile, dataset : str
    data : Path, optional
        The folder that holds ``results``.
    """

    def __init__(self, profile: str = "book", dataset: str = "facsynth", data: Path | None = None) -> None:
        self.profile, self.dataset, self._data = profile, dataset, data
        self._ledgers: dict[str, Ledger] = {}
        self._drawn: dict[tuple[str, str], np.ndarray] = {}

    def ledger(self, id: str) -> Ledger:
        """The ledger of an experiment, empty if it was not run. Raises ``DataError`` if it is damaged or of other faces."""
        if id not in self._ledgers:
            ledger = Ledger(id, self.profile, self.dataset, self._data)
            ledger.check_faces()
            self._ledgers[id] = ledger
        return self._ledgers[id]

    def list_cells(self, id: str) -> list[Cell]:
        """Every row, test set and metric that the runs of an experiment measured."""
        found = {}
        for _, score in read_scores(self.ledger(id)):
            for metric in score["metrics"]:
                found[Cell(id, score["row"], score["faces"], metric)] = None
        return list(found)

    def measure(self, cell: Cell) -> list[_Measured]:
        """What the runs say of a cell, by seed; empty if none does. Raises ``DataError`` if two runs of one seed do."""
        ledger = self.ledger(cell.item)
        found = []
        for run, score in read_scores(ledger):
            if (score["row"], score["faces"]) != (cell.row, cell.role):
                continue
            value, drawn = score["metrics"].get(cell.metric), False
            if "test_set" in score:
                classes = ledger.test_sets[score["test_set"]]["classes"]
                try:
                    computed = float(compute_metric(cell.metric, np.array(score["confusion"]), classes))
                    drawn = not math.isnan(computed)
                    value = computed if value is None and drawn else value
                except ValueError:  # a metric of another kind
                    pass
            if value is not None:
                test_set, guess = (score["test_set"], score["guess"]) if drawn else (None, None)
                error = float(score.get("errors", {}).get(cell.metric, 0.0))
                found.append(_Measured(run["key"], run["seed"], value, test_set, guess, error))
        if len({m.seed for m in found}) != len(found):
            raise DataError.at(ledger.path, f"two runs of one seed measured {cell}", "one run a row, test set and seed")
        return found

    def _draws(self, id: str, measured: _Measured, metric: str) -> np.ndarray:
        """The metric on the resamples of the test set, ``[draws]``."""
        assert measured.test_set is not None and measured.guess is not None
        known = self.ledger(id).test_sets[measured.test_set]
        key = (measured.test_set, measured.guess)
        if key not in self._drawn:
            people = np.array(known["people"].split(), dtype=np.int64) if "people" in known else None
            # the test set's own name seeds the draws: one set, one drawing; two sets, two
            self._drawn[key] = bootstrap_counts(
                unpack_labels(known["truth"]), unpack_labels(measured.guess), range(len(known["classes"])), groups=people,
                seed=int(measured.test_set, 16) % 2**32,
            ).astype(np.int32)
        return compute_metric(metric, self._drawn[key], known["classes"])

    def estimate(self, comparisons: Sequence[Comparison]) -> list[Estimate]:
        """Measure comparisons, pooling the spread over seeds between them.

        Raises
        ------
        LookupError
            If no run measured one of the cells; the message names it.
        """
        parts = [self._split(comparison) for comparison in comparisons]
        pools: dict[Any, dict[Any, np.ndarray]] = {}
        for part in parts:
            for signature, members, values in part.clusters:
                if len(values) > 1:
                    pools.setdefault(signature, {})[members] = values
        variances = {
            signature: (sum(float(np.sum((v - v.mean()) ** 2)) for v in found.values()) / df, df)
            for signature, found in pools.items() if (df := sum(len(v) - 1 for v in found.values()))
        }
        return [_combine(part, variances) for part in parts]

    def _split(self, comparison: Comparison) -> _Parts:
        """A comparison's value, its clusters of values by seed, and its variance from the test faces."""
        value, counts, seeds = 0.0, [], []
        by_run: dict[tuple[str, ...], list[tuple[int, Cell, list[_Measured]]]] = {}
        drawn: dict[str, Any] = {}
        variance = 0.0
        for weight, cell in comparison.terms:
            found = self.measure(cell)
            if not found:
                raise LookupError(f"no {self.profile} result of {cell} on {self.dataset}")
            value += weight * float(np.mean([m.value for m in found]))
            seeds.append(len(found) if found[0].seed is not None else 0)
            by_run.setdefault(tuple(m.run for m in found), []).append((weight, cell, found))
            for m in found:
                if m.test_set is None:
                    variance += (m.error / len(found)) ** 2
                else:
                    counts.append(len(m.guess or ""))
                    drawn[m.test_set] = drawn.get(m.test_set, 0.0) + weight / len(found) * self._draws(cell.item, m, cell.metric)
        variance += sum(float(np.nanvar(d, ddof=1)) for d in drawn.values())
        clusters = []
        for members in by_run.values():
            if members[0][2][0].seed is None:
                continue
            # whether a cell is added or taken away does not matter to its spread
            signature = min(tuple(sorted((sign * weight, cell.metric, cell.role) for weight, cell, _ in members)) for sign in (1, -1))
            values = sum(weight * np.array([m.value for m in found]) for weight, _, found in members)
            clusters.append((signature, frozenset(cell for _, cell, _ in members), values))
        ends = np.nanquantile(sum(drawn.values()), (0.025, 0.975)) if drawn else (math.nan, math.nan)
        test_ends = (float(ends[0]), float(ends[1]))
        return _Parts(value, clusters, variance, test_ends, min((s for s in seeds if s), default=0), min(counts, default=0))


@dataclass(frozen=True)
class _Parts:
    value: float
    clusters: list[tuple[Any, Any, Any]]
    variance: float
    test_ends: tuple[float, float]
    seeds: int
    count: int


def _combine(part: _Parts, variances: Mapping[Any, tuple[float, int]]) -> Estimate:
    """Both errors and the interval."""
    known = all(signature in variances for signature, _, _ in part.clusters)
    shares: dict[Any, float] = {}  # of the variance, by pool
    for signature, _, values in part.clusters if known else ():
        shares[signature] = shares.get(signature, 0.0) + variances[signature][0] / len(values)
    spread = sum(shares.values())
    whole = part.variance + spread
    weighted = sum(share**2 / variances[signature][1] for signature, share in shares.items())
    df = whole**2 / weighted if weighted > 0 else math.inf
    half = float(stats.t.ppf((1 + LEVEL) / 2, df)) * math.sqrt(whole)
    errors = (math.sqrt(spread) if known else math.nan, math.sqrt(part.variance))
    return Estimate(part.value, part.value - half, part.value + half, *errors, *part.test_ends, part.seeds, part.count)

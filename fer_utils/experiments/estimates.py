"""From single runs to a number and how sure it is: one estimator for tables, figures and verdicts.

A comparison is a sum of cells with weights 1 and -1; a cell alone is one, too. What its interval says follows from its own runs alone.

**Units.** What was drawn from the world once and is measured by all methods and seeds: a person where people are known, else a face (its
position in its test set), else a repetition, such as a trial of a time. FACSynth numbers its people over all its sets, so that a person's
basic and compound faces are one unit. Each unit has an *influence* on a run's number: of a metric of predictions, the gradient with
respect to the confusion counts at (truth, guess), summed over a person's faces; of numbers a face, their distance from the mean, over how
many there are. The influence on a comparison is the weighted sum, so that what two methods have in common on a face cancels.

**Seeds.** Cells that are drawn with seeds are paired on the seeds they have in common, if these are two or more, and independent of each
other if not. A run in which nothing is drawn is the same for all seeds. Where a seed draws all that varies (other faces a seed, and one
number of them all), the seed is the unit.

**Variance.** Seeds and units are crossed: every seed meets the same faces. So the variance is that over seeds, plus that over units, less
what both hold (Cameron, Gelbach & Miller 2011): the variance of the per-seed values over the number of seeds; the sum of the squared
influences, which are means over seeds; and the part of it that changes from seed to seed, which the first holds already.

**Interval.** ``centre +- sqrt(t_s^2 * seeds + t_u^2 * units)`` (Howe 1974): each part with Student's t of its own degrees of freedom. Two
seeds may agree by chance; the part of the seeds is at least what both hold, so that no interval is narrower than the faces alone make it.
Welch and Satterthwaite's is narrower with two seeds, but held the truth in only 87 of 100 cases at worst; this one held it in 95 to 99
(:mod:`fer_utils.experiments.simulated`). With two seeds, t is 12.7, and little can be said: that is a matter of two seeds.

**Few faces.** A rate of 0 or 1 is no proof that it cannot vary. Four faces are added in thought to each comparison of rates, half of them
where the metric is largest and half where it is smallest, shared out between cells and classes by their part in the variance (Agresti &
Coull 1998, Agresti & Caffo 2000, Price & Bonett 2004). The interval is around the comparison with these; the value is the one without. An
interval of one rate ends at 0 and 1.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from ..errors import DataError
from ..metrics import compute_metric, count_confusions
from .ledger import Ledger, read_scores
from .published import Cell, Comparison
from .scores import unpack_labels, unpack_values

__all__ = ["Estimate", "LedgerReader", "Measured", "combine_cells"]

LEVEL = 0.95
#: Faces that are added to a comparison of rates.
_ADDED = 4.0
#: Test faces of a class below which an estimate names it.
_FEW = 10
#: With how much power the smallest difference that could be seen would be.
_POWER = 0.8


@dataclass(frozen=True)
class Estimate:
    """A comparison, or a single cell, measured.

    Attributes
    ----------
    value : float
    centre : float
        Of the interval: the comparison with the added faces; the value, where none are.
    seed_parts : tuple of (float, float)
        Variance and degrees of freedom of each group of paired seeds; the variance is NaN for a single seed.
    test_part : (float, float)
        The same of the units, less what the seeds hold already; NaN where runs kept neither predictions nor numbers a face.
    both : float
        The variance that seeds and units both hold: how each seed took single faces.
    seeds : int
        The fewest seeds that a group has; 0 if nothing is drawn in any.
    count : int
        Faces of the smallest test set; 0 without one.
    units : int
        People, faces or repetitions that have a part in it.
    few : dict of str to int
        Classes that the metric is about with fewer than ten test faces, and how many they have.
    rate : bool
        Whether it is one rate, in ``[0, 1]``.
    repeated : bool
        Whether the units are repetitions.
    """

    value: float
    centre: float
    seed_parts: tuple[tuple[float, float], ...] = ()
    test_part: tuple[float, float] = (0.0, math.inf)
    both: float = 0.0
    seeds: int = 0
    count: int = 0
    units: int = 0
    few: Mapping[str, int] = field(default_factory=dict)
    rate: bool = False
    repeated: bool = False

    @property
    def seed_error(self) -> float:
        """Standard error from the seeds; NaN where there is one seed only."""
        variance = sum(variance for variance, _ in self.seed_parts)
        return math.sqrt(variance if math.isnan(variance) else max(variance, self.both))

    @property
    def test_error(self) -> float:
        """Standard error from the choice of people, faces or repetitions; NaN where it is not known."""
        return math.sqrt(self.test_part[0])

    @property
    def known(self) -> bool:
        """Whether both errors are."""
        return not math.isnan(self.seed_error + self.test_error)

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Both errors together; of the test error alone where there is one seed only; NaN where the test error is not known."""
        return self._around(self.centre, self._half([part for part in self.seed_parts if not math.isnan(part[0])], self.test_part, level))

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval."""
        return self.interval()[0]

    @property
    def high(self) -> float:
        """Upper end of the 95 % interval."""
        return self.interval()[1]

    @property
    def test_interval(self) -> tuple[float, float]:
        """95 %, of the choice of the test faces alone, for these very seeds; NaN without any."""
        return self._around(self.centre, self._half([], self.test_part, LEVEL)) if self.units else (math.nan, math.nan)

    @property
    def seed_interval(self) -> tuple[float, float]:
        """95 %, of the seeds alone; NaN for fewer than two."""
        if self.seeds < 2:
            return math.nan, math.nan
        return self._around(self.value, math.sqrt(sum(_quantile(LEVEL, df) ** 2 * variance for variance, df in self.seed_parts)))

    @property
    def detectable(self) -> float:
        """The smallest difference from the bound that would be seen in 80 of 100 cases; NaN where an error is not known."""
        return sum(self._half(self.seed_parts, self.test_part, level) for level in (LEVEL, 2 * _POWER - 1))

    @property
    def limit(self) -> str:
        """Which error is larger, ``"seeds"``, ``"test set"`` or ``"repetitions"``; or ``"neither"``."""
        if math.isnan(self.seed_error):
            return "seeds"
        if self.seed_error == self.test_error == 0:
            return "neither"
        return "seeds" if self.seed_error > self.test_error else "repetitions" if self.repeated else "test set"

    def _around(self, centre: float, half: float) -> tuple[float, float]:
        if math.isnan(half):
            return math.nan, math.nan
        # the added faces move the centre; the value stays inside
        low, high = min(centre - half, self.value), max(centre + half, self.value)
        return (max(low, 0.0), min(high, 1.0)) if self.rate else (low, high)

    def _half(self, seed_parts: Sequence[tuple[float, float]], test_part: tuple[float, float], level: float) -> float:
        variance, df = test_part
        over_units = _quantile(level, df) ** 2
        over_seeds = sum(_quantile(level, own) ** 2 * part for part, own in seed_parts)
        if not math.isnan(over_seeds):
            over_seeds = max(over_seeds, over_units * self.both)
        return math.sqrt(over_seeds + over_units * variance)


def _quantile(level: float, df: float) -> float:
    """Half the width of Student's interval, in standard errors."""
    return float(stats.t.ppf((1 + level) / 2, df))


@dataclass(frozen=True, eq=False)
class Measured:
    """One run's number for a cell, and what it rests on.

    Attributes
    ----------
    run : str
        Key of the run.
    seed : int or None
    value : float
    metric : str
        As :func:`~fer_utils.metrics.compute_metric`, where there are predictions.
    classes : tuple of str
    truth, guess : int ``[N]``, optional
    values : float ``[N]``, optional
        One number a unit, where the metric does not follow from predictions; NaN for a unit that plays no part.
    units : int ``[N]``, optional
        Which unit each entry belongs to. Without units, the seed is the unit.
    space : hashable
        Units of one number are the same only if their spaces are.
    tested : bool
        Whether there is a test set.
    """

    run: str
    seed: int | None
    value: float
    metric: str = ""
    classes: tuple[str, ...] = ()
    truth: Any = None
    guess: Any = None
    values: Any = None
    units: Any = None
    space: Hashable = None
    tested: bool = False

    @property
    def unknown(self) -> bool:
        """Whether something varies that was not kept."""
        return self.units is None and (self.tested or self.seed is None)

    @property
    def is_share(self) -> bool:
        """Whether its numbers are all 0 or 1."""
        return self.values is not None and bool(np.isin(self.values[~np.isnan(self.values)], (0, 1)).all())

    def as_rate(self) -> Measured:
        """A share, as the predictions whose recall it is."""
        known = ~np.isnan(self.values)
        guess = 1 - self.values[known].astype(np.int64)
        return Measured(self.run, self.seed, self.value, f"recall {self.metric}", (self.metric, "not"), np.zeros_like(guess), guess, None,
                        self.units[known], self.space, self.tested)


def _find_gradient(metric: str, counts: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """How a metric moves with each count, ``[K, K]``; 0 for a class without a face, which is left out of the metric."""
    k = len(counts)
    # a step along the imaginary axis: exact to rounding, as metrics are quotients of sums
    moved = counts + 1e-20j * np.eye(k * k).reshape(k * k, k, k)
    with np.errstate(invalid="ignore", divide="ignore"):
        gradient = np.imag(compute_metric(metric, moved, classes)).reshape(k, k) / 1e-20
    return np.where(counts.sum(1, keepdims=True) > 0, gradient, 0.0)


class _Added(NamedTuple):
    """The space of the faces that are added to a cell: half of each class's count where the metric is largest, half where smallest."""

    cell: int
    counts: tuple[float, ...]


class _Influences(NamedTuple):
    """Of the units of a space ``[M]``: the influence on the comparison, a mean over seeds, and whether the unit has a part in any cell."""

    space: Hashable
    units: np.ndarray
    moved: np.ndarray
    part: np.ndarray


class _Cell:
    """A cell of a comparison, one entry a seed."""

    def __init__(self, weight: int, found: Sequence[Measured]) -> None:
        self.weight = weight
        if all(m.is_share for m in found):
            found = [m.as_rate() for m in found]
        self.by_seed = {m.seed: m for m in found}
        self.seeds = {seed for seed in self.by_seed if seed is not None}
        self.counts: dict[int | None, np.ndarray] = {}
        self.parts = np.zeros(0)  # of each class in the variance, at a rate of one half
        self.sizes = np.zeros(0, dtype=np.int64)

    def count(self, seeds: Sequence[int | None]) -> None:
        """Count the predictions of the seeds that are used."""
        self.used = [self.by_seed[seed] for seed in seeds]
        first = self.used[0]
        if first.guess is None:
            return
        self.counts = {m.seed: count_confusions(m.truth, m.guess, range(len(m.classes))).astype(float) for m in self.used}
        counts = self.counts[first.seed]
        self.sizes = counts.sum(1).astype(np.int64)
        self.parts = self.sizes * np.ptp(_find_gradient(first.metric, counts, first.classes), axis=1) ** 2

    def influences(self, measured: Measured, added: np.ndarray) -> tuple[float, dict[Hashable, np.ndarray]]:
        """The smoothed value, and the influence of each unit by its space: units ``[M]`` and influences ``[M]``, stacked."""
        if measured.units is None:
            return measured.value, {}
        if measured.guess is None:
            known = ~np.isnan(measured.values)
            moved = (measured.values[known] - measured.values[known].mean()) / known.sum()
            return measured.value, {measured.space: _sum_units(measured.units[known], moved)}
        counts = self.counts[measured.seed]
        places = _extremes(_find_gradient(measured.metric, counts, measured.classes))
        smoothed = counts.copy()
        rows = np.arange(len(counts))
        for columns in places:
            smoothed[rows, columns] += added / 2
        gradient = _find_gradient(measured.metric, smoothed, measured.classes)
        found = {measured.space: _sum_units(measured.units, gradient[measured.truth, measured.guess])}
        # half a face with an influence of x moves a variance by x * x / 2
        imagined = np.concatenate([gradient[rows, columns] * np.sqrt(added / 2) for columns in places])
        found[_Added(id(self), tuple(added.tolist()))] = np.stack([np.arange(len(imagined)), imagined])
        return float(compute_metric(measured.metric, smoothed, measured.classes)), found


def _extremes(gradient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a face of each class counts most and least for the metric: right and wrong, mostly."""
    return gradient.argmax(1), gradient.argmin(1)


def _sum_units(units: np.ndarray, moved: np.ndarray) -> np.ndarray:
    known, place = np.unique(units, return_inverse=True)
    return np.stack([known, np.bincount(place, moved, len(known))])


def _group_seeds(cells: Sequence[_Cell]) -> list[tuple[list[_Cell], list[int | None]]]:
    """Cells that are paired, with their common seeds."""
    groups: list[tuple[list[_Cell], set[int]]] = []
    fixed = [cell for cell in cells if not cell.seeds]
    for cell in cells:
        if not cell.seeds:
            continue
        for i, (members, seeds) in enumerate(groups):
            if len(seeds & cell.seeds) > 1 or seeds == cell.seeds:
                groups[i] = ([*members, cell], seeds & cell.seeds)
                break
        else:
            groups.append(([cell], cell.seeds))
    return [*([(fixed, [None])] if fixed else []), *((members, sorted(seeds)) for members, seeds in groups)]


def combine_cells(terms: Sequence[tuple[int, Sequence[Measured]]]) -> Estimate:
    """Measure a comparison.

    Parameters
    ----------
    terms : sequence of (int, sequence of Measured)
        Weight of each cell, and its runs, one a seed.

    Returns
    -------
    Estimate
    """
    cells = [_Cell(weight, found) for weight, found in terms]
    groups = _group_seeds(cells)
    for members, seeds in groups:
        for cell in members:
            cell.count(seeds)
    total = sum(float(cell.parts.sum()) for cell in cells)
    value = centre = both = 0.0
    seed_parts: list[tuple[float, float]] = []
    collected: list[_Influences] = []
    for members, seeds in groups:
        values, centres = np.zeros(len(seeds)), np.zeros(len(seeds))
        by_space: dict[Hashable, list[tuple[int, np.ndarray]]] = {}
        for cell in members:
            added = _ADDED * cell.parts / total if total else np.zeros_like(cell.parts)
            for s, measured in enumerate(cell.used):
                smooth, found = cell.influences(measured, added)
                values[s] += cell.weight * measured.value
                centres[s] += cell.weight * smooth
                for space, (units, moved) in found.items():
                    by_space.setdefault(space, []).append((s, np.stack([units, cell.weight * moved])))
        for space, entries in by_space.items():
            known, place = np.unique(np.concatenate([pair[0] for _, pair in entries]), return_inverse=True)
            line = np.concatenate([np.full(pair.shape[1], s) for s, pair in entries])
            moved = np.concatenate([pair[1] for _, pair in entries])
            table = np.bincount(line * len(known) + place, moved, len(seeds) * len(known)).reshape(len(seeds), len(known))
            part = np.bincount(place, moved != 0, len(known)) > 0
            collected.append(_Influences(space, known, table.mean(0), part))
            if len(seeds) > 1:
                both += float(np.square(table - table.mean(0)).sum()) / (len(seeds) * (len(seeds) - 1))
        value, centre = value + float(values.mean()), centre + float(centres.mean())
        if seeds != [None]:
            variance = float(values.var(ddof=1)) / len(seeds) if len(seeds) > 1 else math.nan
            seed_parts.append((variance, max(len(seeds) - 1, 1)))
    used = [m for cell in cells for m in cell.used]
    test_part, units = _sum_spaces(collected, both)
    if any(m.unknown for m in used):
        test_part = (math.nan, math.inf)
    few = {
        name: int(size) for cell in cells if cell.counts
        for name, size, part in zip(cell.used[0].classes, cell.sizes, cell.parts, strict=True)
        if 0 < size < _FEW and part >= cell.parts[cell.sizes > 0].mean() > 0  # of the accuracy a rare class is a small part
    }
    return Estimate(
        value, centre, tuple(seed_parts), test_part, both, min((len(seeds) for _, seeds in groups if seeds != [None]), default=0),
        min((len(m.units) for m in used if m.tested and m.units is not None), default=0), units, few,
        rate=len(cells) == 1 and bool(cells[0].counts), repeated=units > 0 and not any(m.tested for m in used),
    )


def _sum_spaces(collected: Sequence[_Influences], both: float) -> tuple[tuple[float, float], int]:
    """Variance over units, less what the seeds hold already, its degrees of freedom, and how many units have a part in it."""
    variance, spread, units, added = 0.0, 0.0, 0, 0.0
    for space in dict.fromkeys(found.space for found in collected):
        own = [found for found in collected if found.space == space]
        if isinstance(space, _Added):
            added += sum(space.counts)
            variance += sum(float(np.square(found.moved).sum()) for found in own)
            continue
        ids, place = np.unique(np.concatenate([found.units for found in own]), return_inverse=True)
        moved = np.bincount(place, np.concatenate([found.moved for found in own]), len(ids))
        units += int(np.count_nonzero(np.bincount(place, np.concatenate([found.part for found in own]), len(ids))))
        variance += float(np.square(moved).sum())
        spread += float(np.sum(moved**4))
    if variance == 0:
        return (0.0, math.inf), units
    size = units + added
    # the spread of the squares that the variance is a sum of, since it is estimated from them; the added ones are no estimate
    spread -= variance**2 / size
    df = min(2 * variance**2 / spread, size - 1) if spread > 0 else size - 1
    return (max(variance * size / max(size - 1, 1.0) - both, 0.0), max(df, 1.0)), units


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
        self._units: dict[tuple[str, str], tuple[Hashable, np.ndarray]] = {}
        self._measured: dict[Cell, list[Measured]] = {}

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

    def find_runs(self, cell: Cell) -> list[Mapping[str, Any]]:
        """The runs that measured a cell, as the ledger keeps them."""
        keys = {m.run for m in self.measure(cell)}
        return [run for run in self.ledger(cell.item).runs if run["key"] in keys]

    def measure(self, cell: Cell) -> list[Measured]:
        """What the runs say of a cell, by seed; empty if none does. Raises ``DataError`` if two runs of one seed do."""
        if cell in self._measured:
            return self._measured[cell]
        ledger = self.ledger(cell.item)
        found = []
        for run, score in read_scores(ledger):
            if (score["row"], score["faces"]) != (cell.row, cell.role):
                continue
            measured = self._measure(ledger, run, score, cell)
            if measured is not None:
                found.append(measured)
        if len({m.seed for m in found}) != len(found):
            raise DataError.at(ledger.path, f"two runs of one seed measured {cell}", "one run a row, test set and seed")
        if len({m.seed is None for m in found}) > 1:
            raise DataError.at(ledger.path, f"runs with and without a seed measured {cell}", "either")
        self._measured[cell] = found
        return found

    def _measure(self, ledger: Ledger, run: Mapping[str, Any], score: Mapping[str, Any], cell: Cell) -> Measured | None:
        """One run's number; None if it has none."""
        value, key, seed = score["metrics"].get(cell.metric), run["key"], run["seed"]
        known = ledger.test_sets.get(score.get("test_set"))
        if "guess" in score and known is not None:
            try:
                computed = float(compute_metric(cell.metric, np.array(score["confusion"]), known["classes"]))
            except ValueError:  # a metric of another kind
                computed = math.nan
            if not math.isnan(computed):
                space, units = self._find_units(ledger, score["test_set"])
                truth, guess = unpack_labels(known["truth"]), unpack_labels(score["guess"])
                return Measured(key, seed, computed if value is None else value, cell.metric, tuple(known["classes"]), truth, guess, None,
                                units, space, True)
        if value is None:
            return None
        if cell.metric not in score.get("values", {}):
            return Measured(key, seed, value, tested=known is not None)
        values = unpack_values(score["values"][cell.metric])
        # repetitions of one number are paired, as those of a run that takes turns
        space, units = self._find_units(ledger, score["test_set"]) if known is not None else ("repetitions", np.arange(len(values)))
        return Measured(key, seed, value, cell.metric, values=values, units=units, space=space, tested=known is not None)

    def _find_units(self, ledger: Ledger, name: str) -> tuple[Hashable, np.ndarray]:
        """Which people, or which faces, a test set shows."""
        if (ledger.id, name) not in self._units:
            known = ledger.test_sets[name]
            if "people" in known:
                space: Hashable = "people" if self.dataset.startswith("facsynth") else ("people", known["faces"])
                units = np.array(known["people"].split(), dtype=np.int64)
            else:
                space, units = ("faces", name), np.arange(len(known["truth"]))
            self._units[ledger.id, name] = (space, units)
        return self._units[ledger.id, name]

    def estimate(self, comparisons: Sequence[Comparison]) -> list[Estimate]:
        """Measure comparisons, each by itself.

        Raises
        ------
        LookupError
            If no run measured one of the cells; the message names it.
        """
        found = []
        for comparison in comparisons:
            terms = [(weight, cell, self.measure(cell)) for weight, cell in comparison.terms]
            for _, cell, measured in terms:
                if not measured:
                    raise LookupError(f"no {self.profile} result of {cell} on {self.dataset}")
            found.append(combine_cells([(weight, measured) for weight, _, measured in terms]))
        return found

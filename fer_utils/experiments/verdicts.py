"""Does it hold here? Verdicts on the papers' claims, computed from the ledger; and the papers' numbers beside ours.

A claim is a set of comparisons, each of which has to be above its bound (0, mostly). Each is measured with a 95 % interval of the
spread over seeds and the choice of the test faces, together (:mod:`fer_utils.experiments.estimates` says how). The verdict is

- *reproduced*, if every interval lies above its bound;
- *not reproduced*, if one lies below it as a whole;
- *inconclusive*, otherwise: more seeds or more faces are needed, and the verdict says which. A single seed, with nothing to learn its
  spread from, is always inconclusive;
- *not attempted*, with the reason, if a result is missing.

As every comparison has to hold, *reproduced* errs no more often than a single interval does; *not reproduced* of a claim with many
comparisons can err more often, as one of many intervals may miss by chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..discovery import list_papers
from ..metrics import seed_interval
from .estimates import Estimate, LedgerReader
from .faces import find_roles
from .ledger import list_ledgers
from .published import Cell, Claim, Comparison, Item, load_published
from .recipe import Profile
from .registry import list_experiments

__all__ = ["Verdict", "compare_with_paper", "format_ledger", "judge_claim", "judge_claims", "summarise_ledger"]

REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE, NOT_ATTEMPTED = "reproduced", "not reproduced", "inconclusive", "not attempted"


@dataclass(frozen=True)
class Verdict:
    """Whether a claim holds on our faces.

    Attributes
    ----------
    claim : Claim
    word : {"reproduced", "not reproduced", "inconclusive", "not attempted"}
    reason : str
        What decided: the comparison, and whether the test set or the seeds limit it; or why it was not attempted.
    dataset, profile : str
        What it was measured on.
    comparisons : tuple of Comparison
    estimates : tuple of Estimate
        One a comparison; empty if not attempted.
    """

    claim: Claim
    word: str
    reason: str
    dataset: str
    profile: str
    comparisons: tuple[Comparison, ...] = ()
    estimates: tuple[Estimate, ...] = ()

    def __str__(self) -> str:
        return f"{self.word}: {self.reason}"

    def table(self) -> pd.DataFrame:
        """The comparisons, one a line, in the unit of the paper's table.

        Returns
        -------
        DataFrame
            ``comparison``, ``paper`` (the difference in its own numbers), ``ours``, ``low``, ``high``, ``holds``, ``limit``.
        """
        published = load_published(self.claim.id.split("/")[0])
        lines = []
        for comparison, estimate in zip(self.comparisons, self.estimates, strict=True):
            factor = _factor(comparison)
            lines.append({
                "comparison": str(comparison), "paper": published.difference(comparison), "ours": estimate.value * factor,
                "low": estimate.low * factor, "high": estimate.high * factor, "holds": _holds(comparison, estimate),
                "limit": estimate.limit,
            })
        columns = ["comparison", "paper", "ours", "low", "high", "holds", "limit"]
        return pd.DataFrame(lines, columns=columns).astype({"paper": "float64"})


def _item(id: str) -> Item | None:
    paper, name = id.split("/")
    return load_published(paper).items.get(name) if paper in list_papers() else None


def _factor(what: Comparison | Cell) -> float:
    """From our rates to the unit of the paper's table."""
    item = _item((what.terms[0][1] if isinstance(what, Comparison) else what).item)
    return 100.0 if item is not None and item.unit == "%" else 1.0


def _holds(comparison: Comparison, estimate: Estimate) -> bool | None:
    """Whether the interval lies above the bound, below it, or neither (None)."""
    bound = comparison.bound / _factor(comparison)
    if math.isnan(estimate.seed_error) or estimate.low <= bound <= estimate.high:
        return None
    return estimate.low > bound


def judge_claim(
    claim: Claim | str, profile: str = "book", dataset: str = "facsynth", data: Path | None = None, *, reader: LedgerReader | None = None
) -> Verdict:
    """Compute the verdict on a claim.

    Parameters
    ----------
    claim : Claim or str
        Of :func:`~fer_utils.experiments.published.load_published`, or its id, ``dlp-cnn/descriptor-order``.
    profile, dataset : str
    data : Path, optional
        The folder that holds ``results``; the book's by default.
    reader : LedgerReader, optional
        To read each ledger once for many claims; it brings its own profile, dataset and data.

    Raises
    ------
    ValueError
        For an unknown claim, profile or dataset.
    DataError
        If results are damaged, or of other shipped faces than those that are here.
    """
    if isinstance(claim, str):
        claim = load_published(claim.split("/")[0]).claim(claim)
    reader = reader or LedgerReader(profile, dataset, data)
    profile, dataset = str(Profile(reader.profile)), reader.dataset
    find_roles(dataset)
    missing = _why_not(claim, reader)
    if missing is not None:
        return Verdict(claim, NOT_ATTEMPTED, missing, dataset, profile)
    estimates = tuple(reader.estimate(claim.comparisons))
    held = [_holds(c, e) for c, e in zip(claim.comparisons, estimates, strict=True)]
    word = NOT_REPRODUCED if False in held else INCONCLUSIVE if None in held else REPRODUCED
    # the comparison that decided: the one furthest below, or nearest to, its bound
    deciding = [i for i, holds in enumerate(held) if holds is {NOT_REPRODUCED: False, INCONCLUSIVE: None, REPRODUCED: True}[word]]
    margins = [(estimates[i].low - claim.comparisons[i].bound / _factor(claim.comparisons[i]), i) for i in deciding]
    i = min(margins)[1]
    reason = f"{_describe(claim.comparisons[i], estimates[i])}; {_limit(estimates[i])}"
    if len(held) > 1:
        held_count = held.count(True)
        reason = f"{held_count} of {len(held)} comparisons hold; {'closest' if word == REPRODUCED else 'furthest off'}: {reason}"
    return Verdict(claim, word, reason, dataset, profile, claim.comparisons, estimates)


def judge_claims(
    paper: str, profile: str = "book", dataset: str = "facsynth", data: Path | None = None, *, item: str | None = None
) -> list[Verdict]:
    """The verdicts on all claims of a paper, or on those that use an item, ``dlp-cnn/table-6``; see :func:`judge_claim`."""
    reader = LedgerReader(profile, dataset, data)
    claims = [
        claim for claim in load_published(paper).claims
        if item is None or any(cell.item == item for comparison in claim.comparisons for _, cell in comparison.terms)
    ]
    return [judge_claim(claim, reader=reader) for claim in claims]


def _why_not(claim: Claim, reader: LedgerReader) -> str | None:
    """Why a claim cannot be judged; None if it can."""
    if claim.not_attempted:
        return claim.not_attempted
    experiments = {experiment.id: experiment for experiment in list_experiments()}
    for comparison in claim.comparisons:
        for _, cell in comparison.terms:
            if reader.measure(cell):
                continue
            experiment = experiments.get(cell.item)
            if experiment is not None and cell.row in experiment.omits:
                return f"{cell.row}: {experiment.omits[cell.row]}"
            if experiment is None:
                return f"nothing runs {cell.item} yet"
            if reader.ledger(cell.item).runs and cell.role and cell.role not in find_roles(reader.dataset):
                return f"{reader.dataset} has no {cell.role} faces"
            return f"no {reader.profile} result of {cell} on {reader.dataset}"
    return None


def _describe(comparison: Comparison, estimate: Estimate) -> str:
    factor = _factor(comparison)
    item = _item(comparison.terms[0][1].item)
    unit, form = (" points", "+.1f") if factor == 100 else (f" {item.unit}" if item is not None and item.unit else "", "+.3g")
    value, low, high = (format(number * factor, form) for number in (estimate.value, estimate.low, estimate.high))
    if math.isnan(estimate.seed_error):
        return f"{comparison}: {value}{unit} from one seed"
    return f"{comparison}: {value}{unit}, {low} to {high}"


def _limit(estimate: Estimate) -> str:
    if math.isnan(estimate.seed_error):
        return "its spread over seeds is not known"
    if estimate.limit == "neither":
        return "neither seeds nor test faces move it"
    seeds = [f"{estimate.seeds} seeds"] if estimate.seeds else []
    count = [f"{estimate.count:,} test faces"] if estimate.count else []
    what = "error of each measurement" if estimate.limit == "measurement" else estimate.limit
    return f"limited by the {what}" + (f" ({', '.join(seeds + count)})" if seeds or count else "")


# -- tables ---------------------------------------------------------------------------------------------------------------


def summarise_ledger(
    id: str, profile: str = "book", dataset: str = "facsynth", data: Path | None = None, *, metrics: Sequence[str] | None = None,
    reader: LedgerReader | None = None,
) -> pd.DataFrame:
    """Each row, test set and metric of an experiment, over its seeds.

    Parameters
    ----------
    id, profile, dataset : str
    data : Path, optional
        The folder that holds ``results``; the book's by default.
    metrics : sequence of str, optional
        Which; also those of :func:`~fer_utils.metrics.compute_metric` that a run did not store. By default those that runs stored.
    reader : LedgerReader, optional
        As in :func:`judge_claim`.

    Returns
    -------
    DataFrame
        ``row``, ``role``, ``metric``, ``value`` (mean over seeds), ``low``, ``high`` (95 %, both errors), ``seeds`` (0 where nothing
        is drawn), ``seed_low``, ``seed_high`` (95 % over seeds; missing for fewer than two), ``test_low``, ``test_high`` (95 % over
        test faces), ``count``. In the published item's order of rows; empty if nothing was run.

    Raises
    ------
    DataError
        If results are damaged, or of other shipped faces than those that are here.
    """
    reader = reader or LedgerReader(profile, dataset, data)
    cells = reader.list_cells(id)
    if metrics is not None:
        places = dict.fromkeys((cell.row, cell.role) for cell in cells)
        cells = [Cell(id, *place, metric) for place in places for metric in metrics]
    item = _item(id)
    order = {row: i for i, row in enumerate(item.rows)} if item is not None else {}
    cells.sort(key=lambda cell: order.get(cell.row, len(order)))
    lines = []
    for cell in cells:
        found = reader.measure(cell)
        if not found:
            continue
        (estimate,) = reader.estimate([Comparison(((1, cell),))])
        over_seeds = seed_interval([m.value for m in found]) if estimate.seeds > 1 else None
        lines.append({
            "row": cell.row, "role": cell.role, "metric": cell.metric,
            "value": estimate.value, "low": estimate.low, "high": estimate.high,
            "seeds": estimate.seeds, "seed_low": over_seeds and over_seeds.low, "seed_high": over_seeds and over_seeds.high,
            "test_low": estimate.test_low, "test_high": estimate.test_high, "count": estimate.count,
        })
    columns = ["row", "role", "metric", "value", "low", "high", "seeds", "seed_low", "seed_high", "test_low", "test_high", "count"]
    numbers = [c for c in columns[3:] if c not in ("seeds", "count")]
    return pd.DataFrame(lines, columns=columns).astype({**dict.fromkeys(numbers, "float64"), "seeds": "int64", "count": "int64"})


def format_ledger(
    id: str | None = None, profile: str = "book", dataset: str | None = None, data: Path | None = None
) -> pd.DataFrame:
    """Results as words, to print: one line a row, test set and metric.

    Parameters
    ----------
    id : str, optional
        An experiment or a paper; all by default.
    profile : str
    dataset : str, optional
        All by default.
    data : Path, optional

    Returns
    -------
    DataFrame of str
        ``experiment``, ``dataset``, ``row``, ``role``, ``metric``, ``value``, ``95 % over seeds``, ``95 % over faces``, ``seeds``, ``n``.

    Raises
    ------
    DataError
        As :func:`summarise_ledger`.
    """
    lines = []
    for name, where in list_ledgers(id, profile, dataset, data):
        for line in summarise_ledger(name, profile, where, data).itertuples():
            factor = _factor(Cell(name, line.row, line.role, line.metric))
            digits = 1 if factor == 100 else 3

            def show(*values: float, factor: float = factor, digits: int = digits) -> str:
                return " to ".join(f"{v * factor:.{digits}f}" for v in values) if not any(map(pd.isna, values)) else "-"

            lines.append({
                "experiment": name, "dataset": where, "row": line.row, "role": line.role or "-", "metric": line.metric,
                "value": show(line.value) + (" %" if factor == 100 else ""), "95 % over seeds": show(line.seed_low, line.seed_high),
                "95 % over faces": show(line.test_low, line.test_high),
                "seeds": str(line.seeds or "-"), "n": f"{line.count:,}" if line.count else "-",
            })
    columns = ["experiment", "dataset", "row", "role", "metric", "value", "95 % over seeds", "95 % over faces", "seeds", "n"]
    return pd.DataFrame(lines, columns=columns, dtype=object)


def compare_with_paper(
    id: str, profile: str = "book", dataset: str = "facsynth", data: Path | None = None, *, metrics: Sequence[str] | None = None
) -> pd.DataFrame:
    """The paper's numbers beside ours.

    Parameters
    ----------
    id : str
        ``dlp-cnn/table-5``.
    profile, dataset : str
    data : Path, optional
        The folder that holds ``results``; the book's by default.
    metrics : sequence of str, optional
        Only these.

    Returns
    -------
    DataFrame
        ``row``, ``role``, ``metric``, ``paper``, ``paper_dataset``, ``ours``, ``low``, ``high`` (95 %,
        seeds and test faces together), ``seeds``, ``count``, ``our_dataset``; numbers in the unit of the paper's table, missing where one
        side has none. Rows that only our runs have come last.

    Raises
    ------
    ValueError
        For an item that is not published.
    DataError
        As :func:`summarise_ledger`.
    """
    item = load_published(id.split("/")[0]).item(id)
    factor = 100.0 if item.unit == "%" else 1.0
    reader = LedgerReader(profile, dataset, data)
    printed = {cell: (column, value) for cell, column, value in item.cells()}
    cells = [*printed, *(cell for cell in reader.list_cells(item.id) if cell not in printed)]
    names = {loaded["role"]: loaded["name"] for run in reader.ledger(item.id).runs for loaded in run["faces"]}
    lines = []
    for cell in cells:
        if metrics is not None and cell.metric not in metrics:
            continue
        column, value = printed.get(cell, (None, None))
        measured_on = column.dataset if column else ""
        line = {"row": cell.row, "role": cell.role, "metric": cell.metric, "paper": value, "paper_dataset": measured_on}
        if reader.measure(cell):
            (e,) = reader.estimate([Comparison(((1, cell),))])
            line |= {"ours": e.value * factor, "low": e.low * factor, "high": e.high * factor, "seeds": e.seeds, "count": e.count,
                     "our_dataset": names.get(cell.role, dataset)}
        if len(line) > 5 or value is not None:
            lines.append(line)
    columns = ["row", "role", "metric", "paper", "paper_dataset", "ours", "low", "high", "seeds", "count", "our_dataset"]
    table = pd.DataFrame(lines, columns=columns).astype({"seeds": "Int64", "count": "Int64"})
    numbers = ["ours", "low", "high"] + (["paper"] if item.unit != "text" else [])
    return table.astype(dict.fromkeys(numbers, "float64"))

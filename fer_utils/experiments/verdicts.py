"""Does it hold here? Verdicts on the papers' claims, computed from the ledger; and the papers' numbers beside ours.

A claim is a set of comparisons, each of which has to be above its bound (0, mostly). Each is measured with a 95 % interval of the
spread over seeds and the choice of the test faces, together (:mod:`fer_utils.experiments.estimates` says how). The word is one of five:

- *reproduced*: every comparison that could be run lies above its bound with its whole interval;
- *contradicted*: one lies below it as a whole. One of many intervals may do so by chance, so of m comparisons each interval is then
  one of 1 - 0.05 / m;
- *smaller than printed*: neither, and every comparison that is not above its bound excludes the difference that the paper prints, by the
  same intervals;
- *inconclusive*: otherwise. More seeds or more faces are needed, and the verdict says which, and which difference these would have shown;
- *not attempted*, with the reason: none of the comparisons could be run.

As every comparison has to hold, *reproduced* errs no more often than a single interval does. Two marks may stand behind a word: *by
construction*, where a reproduced claim holds because FACSynth's faces were rendered so; and *stand-in faces*, where a run took another
dataset's faces in the place of ones that its own has not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..discovery import list_papers
from .estimates import LEVEL, Estimate, LedgerReader
from .faces import find_roles
from .ledger import list_ledgers
from .published import Cell, Claim, Comparison, Item, load_published
from .recipe import Profile
from .registry import list_experiments

__all__ = [
    "Verdict", "compare_with_paper", "format_ledger", "judge_claim", "judge_claims", "summarise_ledger", "tabulate_verdicts",
]

REPRODUCED, CONTRADICTED, SMALLER = "reproduced", "contradicted", "smaller than printed"
INCONCLUSIVE, NOT_ATTEMPTED = "inconclusive", "not attempted"
BY_CONSTRUCTION, STAND_IN = "by construction", "stand-in faces"


@dataclass(frozen=True)
class Verdict:
    """Whether a claim holds on our faces.

    Attributes
    ----------
    claim : Claim
    word : {"reproduced", "contradicted", "smaller than printed", "inconclusive", "not attempted"}
    reason : str
        What decided: the comparison, whether the test set or the seeds limit it, and what could have been seen; or why it was not
        attempted.
    dataset, profile : str
        What it was measured on.
    comparisons : tuple of Comparison
        Those that could be run.
    estimates : tuple of Estimate
        One a comparison; empty if not attempted.
    missing : tuple of str
        Why each other comparison could not be run.
    marks : tuple of str
        ``"by construction"``, ``"stand-in faces"``; what makes the word less than a finding.
    """

    claim: Claim
    word: str
    reason: str
    dataset: str
    profile: str
    comparisons: tuple[Comparison, ...] = ()
    estimates: tuple[Estimate, ...] = ()
    missing: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The word with its marks: ``"reproduced (by construction)"``."""
        return f"{self.word} ({', '.join(self.marks)})" if self.marks else self.word

    def __str__(self) -> str:
        return f"{self.label}: {self.reason}"

    def table(self) -> pd.DataFrame:
        """The comparisons that could be run, one a line, in the unit of the paper's table.

        Returns
        -------
        DataFrame
            ``comparison``, ``paper`` (the difference in its own numbers), ``ours``, ``low``, ``high``, ``holds`` (missing where it is
            open), ``detectable`` (the smallest difference that would have been seen with 80 % power), ``limit``.
        """
        lines = []
        for comparison, estimate in zip(self.comparisons, self.estimates, strict=True):
            factor = _factor(comparison)
            lines.append({
                "comparison": str(comparison), "paper": _printed(comparison), "ours": estimate.value * factor,
                "low": estimate.low * factor, "high": estimate.high * factor,
                "holds": _holds(comparison, estimate, len(self.comparisons)), "detectable": estimate.detectable * factor,
                "limit": estimate.limit,
            })
        columns = ["comparison", "paper", "ours", "low", "high", "holds", "detectable", "limit"]
        return pd.DataFrame(lines, columns=columns).astype({"paper": "float64"})


def _item(id: str) -> Item | None:
    paper, name = id.split("/")
    return load_published(paper).items.get(name) if paper in list_papers() else None


def _factor(what: Comparison | Cell) -> float:
    """From our rates to the unit of the paper's table."""
    item = _item((what.terms[0][1] if isinstance(what, Comparison) else what).item)
    return 100.0 if item is not None and item.unit == "%" else 1.0


def _printed(comparison: Comparison) -> float | None:
    """The paper's own difference, in the unit of its table; None where it is not known."""
    paper = comparison.terms[0][1].item.split("/")[0]
    return load_published(paper).difference(comparison) if paper in list_papers() else None


def _corrected(estimate: Estimate, count: int) -> tuple[float, float]:
    """The interval of one of ``count`` comparisons, any of which may miss by chance."""
    return estimate.interval(1 - (1 - LEVEL) / count)


def _holds(comparison: Comparison, estimate: Estimate, count: int) -> bool | None:
    """Whether one of ``count`` comparisons lies above its bound, or, with its corrected interval, below it; None if neither."""
    bound = comparison.bound / _factor(comparison)
    if not estimate.known:
        return None
    return True if estimate.low > bound else False if _corrected(estimate, count)[1] < bound else None


def _count_held(comparisons: Sequence[Comparison], estimates: Sequence[Estimate]) -> int:
    return [_holds(c, e, len(comparisons)) for c, e in zip(comparisons, estimates, strict=True)].count(True)


def _is_smaller(comparison: Comparison, estimate: Estimate, count: int) -> bool:
    """Whether the difference is smaller than the one that the paper prints."""
    printed = _printed(comparison)
    return estimate.known and printed is not None and _corrected(estimate, count)[1] < printed / _factor(comparison)


def find_word(comparisons: Sequence[Comparison], estimates: Sequence[Estimate]) -> tuple[str, list[int]]:
    """The word on comparisons that could be run, and the positions of those that decided."""
    count = len(comparisons)
    pairs = list(zip(comparisons, estimates, strict=True))
    held = [_holds(*pair, count) for pair in pairs]
    for word, decides in ((CONTRADICTED, False), (INCONCLUSIVE, None)):
        if decides in held:
            deciding = [i for i, holds in enumerate(held) if holds is decides]
            if decides is None and all(_is_smaller(*pairs[i], count) for i in deciding):
                word = SMALLER
            return word, deciding
    return REPRODUCED, list(range(count))


def _find_decisive(comparisons: Sequence[Comparison], estimates: Sequence[Estimate]) -> tuple[str, int]:
    """The word, and the position of the comparison that decided: the one furthest below, or nearest to, its bound."""
    word, deciding = find_word(comparisons, estimates)
    margins = {i: estimates[i].low - comparisons[i].bound / _factor(comparisons[i]) for i in deciding}
    return word, min(margins, key=lambda i: math.inf if math.isnan(margins[i]) else margins[i])


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

    Returns
    -------
    Verdict

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
    if claim.not_attempted:
        return Verdict(claim, NOT_ATTEMPTED, claim.not_attempted, dataset, profile)
    gaps = [_why_not(comparison, reader) for comparison in claim.comparisons]
    missing = tuple(gap for gap in gaps if gap is not None)
    if len(missing) == len(gaps):
        return Verdict(claim, NOT_ATTEMPTED, missing[0], dataset, profile, missing=missing)
    comparisons = tuple(comparison for comparison, gap in zip(claim.comparisons, gaps, strict=True) if gap is None)
    estimates = tuple(reader.estimate(comparisons))
    word, i = _find_decisive(comparisons, estimates)
    parts = []
    if len(comparisons) > 1:
        parts.append(f"{_count_held(comparisons, estimates)} of {len(comparisons)} comparisons hold")
    if missing:
        parts.append(f"{len(comparisons)} of {len(gaps)} comparisons could be run (missing: {'; '.join(dict.fromkeys(missing))})")
    nearest = f"{'closest' if word == REPRODUCED else 'furthest off'}: " if len(comparisons) > 1 else ""
    parts.append(nearest + _describe(comparisons[i], estimates[i], word, len(comparisons)))
    parts.append(_limit(comparisons[i], estimates[i]))
    marks = _find_marks(claim, word, comparisons, reader)
    return Verdict(claim, word, "; ".join(parts), dataset, profile, comparisons, estimates, missing, marks)


def judge_claims(
    paper: str, profile: str = "book", dataset: str = "facsynth", data: Path | None = None, *, item: str | None = None
) -> list[Verdict]:
    """Compute the verdicts on a paper's claims.

    Parameters
    ----------
    paper : str
        Its short name, ``dlp-cnn``.
    profile, dataset, data
        As of :func:`judge_claim`.
    item : str, optional
        Only the claims that use it, such as ``dlp-cnn/table-6``.

    Returns
    -------
    list of Verdict
        In the order of the published claims.

    Raises
    ------
    ValueError, DataError
        As of :func:`judge_claim`.
    """
    reader = LedgerReader(profile, dataset, data)
    claims = [
        claim for claim in load_published(paper).claims
        if item is None or any(cell.item == item for comparison in claim.comparisons for _, cell in comparison.terms)
    ]
    return [judge_claim(claim, reader=reader) for claim in claims]


def _why_not(comparison: Comparison, reader: LedgerReader) -> str | None:
    """Why a comparison cannot be measured; None if it can."""
    experiments = {experiment.id: experiment for experiment in list_experiments()}
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


def _find_marks(claim: Claim, word: str, comparisons: Sequence[Comparison], reader: LedgerReader) -> tuple[str, ...]:
    """What makes a verdict less than a finding."""
    built = word == REPRODUCED and claim.by_construction and reader.dataset.startswith("facsynth")
    marks = [BY_CONSTRUCTION] if built else []
    roles = {
        loaded["role"] for comparison in comparisons for _, cell in comparison.terms
        for run in reader.find_runs(cell) for loaded in run["faces"]
    }
    # another dataset's faces are entered as "<dataset> <role>"
    return tuple(marks + ([STAND_IN] if any(" " in role and role.split()[0] != reader.dataset for role in roles) else []))


def _describe(comparison: Comparison, estimate: Estimate, word: str, count: int) -> str:
    unit, show = _format(comparison)
    value, low, high = (show(number, "+") for number in (estimate.value, estimate.low, estimate.high))
    if math.isnan(estimate.seed_error):
        return f"{comparison}: {value}{unit} from one seed"
    if math.isnan(estimate.test_error):
        return f"{comparison}: {value}{unit}"
    printed = f", printed {show((_printed(comparison) or 0.0) / _factor(comparison), '+')}" if word == SMALLER else ""
    wide = " to ".join(show(number, "+") for number in _corrected(estimate, count))
    corrected = f" ({wide} as one of {count})" if count > 1 and word != REPRODUCED else ""
    return f"{comparison}: {value}{unit}, {low} to {high}{corrected}{printed}"


def _format(comparison: Comparison) -> tuple[str, Callable[[float, str], str]]:
    """The unit of a comparison, and a function that writes a number in it, with a sign or without."""
    factor, item = _factor(comparison), _item(comparison.terms[0][1].item)
    if factor == 100:
        return " points", lambda number, sign: format(number * factor, f"{sign}.1f")
    return f" {item.unit}" if item is not None and item.unit else "", lambda number, sign: format(number, f"{sign}.3g")


def _limit(comparison: Comparison, estimate: Estimate, show: Callable[[float, str], str] | None = None) -> str:
    if math.isnan(estimate.seed_error):
        return "its spread over seeds is not known"
    if math.isnan(estimate.test_error):
        return "per-face values are not kept"
    if estimate.limit == "neither":
        return "neither seeds nor test faces move it"
    seeds = [f"{estimate.seeds} seeds"] if estimate.seeds else []
    count = [f"{estimate.count:,} test faces"] if estimate.count else []
    if estimate.repeated:
        count = [f"{estimate.units} repetitions"]
    few = [f"only {size} test face{'s' if size > 1 else ''} of {name}" for name, size in estimate.few.items()]
    unit, default = _format(comparison)
    seen = f"{(show or default)(estimate.detectable, '')}{unit} would have been seen"
    return f"limited by the {estimate.limit} ({', '.join(seeds + count + few)}); {seen}"


# -- tables ---------------------------------------------------------------------------------------------------------------


def tabulate_verdicts(
    claims: Sequence[Claim | str], profile: str = "book", dataset: str = "facsynth", data: Path | None = None
) -> pd.DataFrame:
    """The verdicts on some claims as words, to show: one line a claim, with the comparison that decided.

    Parameters
    ----------
    claims : sequence of Claim or str
        As of :func:`judge_claim`.
    profile, dataset, data
        As of :func:`judge_claim`.

    Returns
    -------
    DataFrame of str
        Numbered from 1: ``claim``; ``decided by``, the comparison and how many of the claim's hold; ``paper``, the paper's own difference,
        in three digits at most; ``ours``, with the interval that decided (of 95 %, or of 1 - 0.05 / m where m comparisons did not
        reproduce the claim; none where nothing varies), in two digits of its width; ``verdict``, the word and its marks; ``limited by``,
        with the smallest difference that would have been seen, or the reason of *not attempted*. *Mean recall* is the papers' mean
        diagonal.

    Raises
    ------
    ValueError, DataError
        As of :func:`judge_claim`.
    """
    reader = LedgerReader(profile, dataset, data)
    verdicts = [judge_claim(claim, reader=reader) for claim in claims]
    table = pd.DataFrame([_tell(verdict) for verdict in verdicts], index=pd.RangeIndex(1, len(verdicts) + 1), dtype=object)
    return table.replace("mean diagonal", "mean recall", regex=True)


def _tell(verdict: Verdict) -> dict[str, str]:
    """A line of :func:`tabulate_verdicts`."""
    line = {"claim": verdict.claim.text, "decided by": "", "paper": "", "ours": "", "verdict": verdict.label, "limited by": verdict.reason}
    if not verdict.comparisons:
        return line
    count = len(verdict.comparisons)
    word, i = _find_decisive(verdict.comparisons, verdict.estimates)
    comparison, estimate = verdict.comparisons[i], verdict.estimates[i]
    factor, (unit, _) = _factor(comparison), _format(comparison)
    low, high = _corrected(estimate, 1 if word == REPRODUCED else count)
    # two digits of the interval's width
    width = (high - low) * factor
    digits = max(0, 1 - math.floor(math.log10(width))) if width > 0 else 1

    def show(number: float, sign: str = "", digits: int = digits) -> str:
        return f"{round(number * factor, digits) + 0.0:{sign}.{digits}f}"

    parts = [str(comparison)]
    parts += [f"{_count_held(verdict.comparisons, verdict.estimates)} of {count} hold"] if count > 1 else []
    parts += [f"{len(verdict.missing)} more could not be run"] if verdict.missing else []
    printed, interval = _printed(comparison), f" ({show(low)} to {show(high)})" if width > 0 else ""
    # the paper's own error is not known: no more digits than ours bears, and no more than three
    figures = min(digits, max(0, 2 - math.floor(math.log10(abs(printed))))) if printed else digits
    return line | {
        "decided by": "; ".join(parts),
        "paper": "none" if printed is None else show(printed / factor, "+", figures) + unit,
        "ours": show(estimate.value, "+") + interval + unit,
        "limited by": _limit(comparison, estimate, show).removeprefix("limited by the "),
    }


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
        ``row``, ``role``, ``metric``, ``value`` (mean over seeds), ``low``, ``high`` (95 %, both errors; missing where numbers a face
        were not kept), ``seeds`` (0 where nothing is drawn), ``seed_low``, ``seed_high`` (95 % over seeds; missing for fewer than two),
        ``test_low``, ``test_high`` (95 % over test faces; missing without), ``count``. In the published item's order of rows; empty if
        nothing was run.

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
        if not reader.measure(cell):
            continue
        (estimate,) = reader.estimate([Comparison(((1, cell),))])
        (seed_low, seed_high), (test_low, test_high) = estimate.seed_interval, estimate.test_interval
        lines.append({
            "row": cell.row, "role": cell.role, "metric": cell.metric,
            "value": estimate.value, "low": estimate.low, "high": estimate.high,
            "seeds": estimate.seeds, "seed_low": seed_low, "seed_high": seed_high, "test_low": test_low, "test_high": test_high,
            "count": estimate.count,
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

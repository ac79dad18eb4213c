"""What an experiment will be able to see, said before it is run.

For each comparison of a claim: the paper's difference, how wide the 95 % interval will be with the planned seeds and test faces, and how
many seeds it would take to tell the paper's difference from the bound. The spread comes from a pilot, the results that are kept when the
plan is made (of fewer seeds, faces or steps), or, where there are none, from what is assumed and said.

A plan is written and committed before the runs. Each run keeps the checksum and the date of the plan that was committed
(:func:`~fer_utils.experiments.tie.find_plan`), so it cannot be made up later; how the runs came out plays no part in it.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..files import replace_whole
from .estimates import Estimate, LedgerReader
from .faces import find_apex_options, find_more_options, find_roles, load_role
from .ledger import default_data, read_scores
from .published import Cell, Claim, Comparison, load_published
from .recipe import Profile
from .registry import find_experiment

__all__ = ["ASSUMED", "plan_experiment", "plan_path", "save_plan"]

#: Where no pilot says it: standard deviation of a comparison over seeds; recall of a class; correlation of two methods on a face.
ASSUMED = {"seed deviation": 0.015, "recall": 0.7, "correlation": 0.5}
#: More seeds than these are not worth counting.
MOST_SEEDS = 100


def plan_path(id: str, profile: str, dataset: str, data: Path | None = None) -> Path:
    """Where the plan of an experiment lies.

    Parameters
    ----------
    id, profile, dataset : str
        The experiment, and how it is run.
    data : Path, optional
        The folder that holds ``plans``; the book's by default.
    """
    return (data or default_data()) / "plans" / Profile(profile) / dataset / f"{id}.json"


def plan_experiment(
    id: str, profile: str = "book", dataset: str = "facsynth", *, seeds: int | None = None, root: str | os.PathLike[str] | None = None,
    data: Path | None = None,
) -> pd.DataFrame:
    """Say what the claims on an experiment will be able to see.

    Parameters
    ----------
    id : str
        ``dlp-cnn/table-6``.
    profile, dataset : str
    seeds : int, optional
        As many as each row is planned with by default.
    root : path, optional
        Where the dataset's copy lies; its test faces are counted.
    data : Path, optional
        The folder that holds ``results``, the pilot's; the book's by default.

    Returns
    -------
    DataFrame
        One line a comparison of a claim that uses the experiment: ``claim``, ``comparison``, ``paper`` (its difference, in the unit of its
        table; missing where it prints none), ``half_width`` (of the expected 95 % interval), ``seeds`` (the fewest that are planned for one
        of its rows; 0 where nothing is drawn), ``seeds_needed`` (to tell the paper's difference from the bound; missing where no number of
        seeds would do, or the difference is not known), ``spread`` (``pilot`` or ``assumed``).

    Raises
    ------
    ValueError
        For an unknown experiment, profile or dataset.
    DataError
        If the pilot's results are damaged, or the faces are not there.
    """
    find_experiment(id)
    published = load_published(id.split("/")[0])
    reader = LedgerReader(profile, dataset, data)
    place = None if root is None else os.fspath(root)
    lines = []
    for claim in published.claims:
        if claim.not_attempted or not _uses(claim, id):
            continue
        for comparison in claim.comparisons:
            roles = {cell.role for _, cell in comparison.terms if cell.role}
            if not roles <= set(find_roles(dataset)):
                continue
            planned = _count_seeds(comparison, reader, seeds)
            if planned is None:
                continue
            counts = {role: _count_faces(dataset, role, place) for role in roles}
            estimate, spread = _expect(comparison, reader, counts, drawn=planned > 0)
            unit = published.item(comparison.terms[0][1].item).unit
            factor = 100.0 if unit == "%" else 1.0
            difference = published.difference(comparison)
            reach = math.nan if difference is None else abs(difference - comparison.bound)
            lines.append({
                "claim": claim.id, "comparison": str(comparison), "paper": difference,
                "half_width": factor * _half_width(estimate, planned), "seeds": planned,
                "seeds_needed": _need(estimate, reach / factor) if planned else None, "spread": spread,
            })
    columns = ["claim", "comparison", "paper", "half_width", "seeds", "seeds_needed", "spread"]
    return pd.DataFrame(lines, columns=columns).astype({"paper": "float64", "half_width": "float64", "seeds_needed": "Int64"})


def save_plan(table: pd.DataFrame, id: str, profile: str = "book", dataset: str = "facsynth", data: Path | None = None) -> Path:
    """Write what :func:`plan_experiment` said to :func:`plan_path`, in the place of an older plan.

    Parameters
    ----------
    table : DataFrame
    id, profile, dataset, data
        As it was given.

    Returns
    -------
    Path
        Where it was written.
    """
    records = table.astype(object).where(table.notna(), None).to_dict("records")
    for record in records:
        for name in ("half_width", "paper"):
            record[name] = None if record[name] is None else float(f"{record[name]:.4g}")
    made = datetime.now(UTC).isoformat(timespec="seconds")
    content = {"id": id, "profile": profile, "dataset": dataset, "made": made, "assumed": ASSUMED, "comparisons": records}
    path = plan_path(id, profile, dataset, data)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_whole(path, sync=True) as partial:
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False, default=int) + "\n", encoding="utf-8")
    return path


def _uses(claim: Claim, id: str) -> bool:
    return any(cell.item == id for comparison in claim.comparisons for _, cell in comparison.terms)


def _count_seeds(comparison: Comparison, reader: LedgerReader, asked: int | None) -> int | None:
    """The fewest seeds that are planned for the rows that are drawn; None if a row is not run at all."""
    fewest = []
    for _, cell in comparison.terms:
        experiment = find_experiment(cell.item)
        drawn: dict[str, set[int | None]] = {}
        for run in experiment.plan(reader.profile, reader.dataset, asked):
            drawn.setdefault(run.name, set()).add(run.seed)
        # which runs score the row, the pilot knows
        place, scores = (cell.row, cell.role), read_scores(reader.ledger(cell.item))
        known = {run["name"] for run, score in scores if (score["row"], score["faces"]) == place} & drawn.keys()
        own = [drawn[name] for name in known or _guess_names(cell, set(drawn))]
        if not own:
            return None
        fewest += [len(seeds) for seeds in own if None not in seeds]
    return min(fewest, default=0)


def _guess_names(cell: Cell, names: set[str]) -> set[str]:
    """Which runs may score a row, where no pilot says so: of the longest name that it has within it, or of all rows."""
    stems = {name: name.removesuffix(f" {cell.role}") if cell.role else name for name in names}
    alike = [name for name, stem in stems.items() if stem in cell.row]
    if alike:
        return {max(alike, key=lambda name: (len(stems[name]), name))}
    own = {name for name, stem in stems.items() if stem != name}
    return own if len(own) == 1 else set()


@cache
def _count_faces(dataset: str, role: str, root: str | None) -> int:
    """Test faces of a role; all of them, where there are no parts."""
    faces = load_role(dataset, role, root, **find_more_options(dataset, role), **find_apex_options(dataset, role))
    return int((faces.split == "test").sum()) or len(faces)


def _expect(comparison: Comparison, reader: LedgerReader, counts: dict[str, int], *, drawn: bool) -> tuple[Estimate, str]:
    """An estimate with the variance of one seed and of the planned faces, from the pilot or assumed."""
    try:
        (found,) = reader.estimate([comparison])
    except LookupError:
        found = None
    smallest = min(counts.values(), default=0)
    if found is not None and found.known and (found.seeds > 1 or not drawn):
        scale = found.count / smallest if found.count and smallest else 1.0
        variance, df = found.test_part
        whole, both = (part * max(found.seeds, 1) for part in (sum(part for part, _ in found.seed_parts), found.both))
        # of the spread over seeds, their luck with single faces shrinks with more faces, the rest does not
        spread = max(whole - both, 0.0) + both * scale
        seed_parts = ((spread, math.inf),) if drawn else ()
        return replace(found, seed_parts=seed_parts, test_part=(variance * scale, df), both=both * scale), "pilot"
    p, rho = ASSUMED["recall"], ASSUMED["correlation"]
    # of a mean over seven classes of which the rarest has a fortieth of the faces, about twice what equal classes have
    variance = len(comparison.terms) * (1 - rho if len(comparison.terms) > 1 else 1) * p * (1 - p) * 2 / max(smallest, 1)
    seeds = ((ASSUMED["seed deviation"] ** 2, math.inf),) if drawn else ()
    return Estimate(0.0, 0.0, seeds, (variance, math.inf), seeds=1 if drawn else 0, count=smallest), "assumed"


def _half_width(estimate: Estimate, seeds: int) -> float:
    """Of the 95 % interval with so many seeds; ``estimate`` holds the variance of one."""
    parts = tuple((variance / seeds, seeds - 1.0) for variance, _ in estimate.seed_parts) if seeds > 1 else estimate.seed_parts
    low, high = replace(estimate, value=0.0, centre=0.0, seed_parts=parts, both=estimate.both / max(seeds, 1), rate=False).interval()
    return (high - low) / 2 if seeds != 1 else math.nan


def _need(estimate: Estimate, reach: float) -> int | None:
    """The fewest seeds whose interval is narrower than ``reach``; None if there is no such number, or it is not known."""
    if math.isnan(reach):
        return None
    return next((count for count in np.arange(2, MOST_SEEDS + 1).tolist() if _half_width(estimate, count) < reach), None)


def describe_plan(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A plan's lines as words, to print."""
    def show(value: Any, form: str) -> str:
        return "-" if pd.isna(value) else format(value, form)

    return [
        {"claim": line.claim, "comparison": line.comparison, "paper": show(line.paper, "+.2f"), "half-width": show(line.half_width, ".2f"),
         "seeds": str(line.seeds or "-"), "seeds needed": show(line.seeds_needed, "d"), "spread": line.spread}
        for line in table.itertuples()
    ]

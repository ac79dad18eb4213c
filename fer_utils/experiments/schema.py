"""What a ledger's file must look like, and that each run in it is what its checksum, key and predictions say.

All faults are a ``ValueError`` that names the run and the field; :class:`~fer_utils.experiments.ledger.Ledger` adds the file.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from ..metrics import compute_metric, count_confusions
from .registry import make_key
from .scores import mean_matches, unpack_labels, unpack_values

__all__ = ["check_ledger", "check_run", "check_seeds", "checksum_run", "name_content", "parse_json"]

#: What a single value may be: the words that an error prints, and the test.
_KINDS = {
    "text": lambda value: isinstance(value, str) and value.isprintable(),  # a terminal obeys other characters
    "text or null": lambda value: value is None or _KINDS["text"](value),
    "a number": lambda value: isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300,
    "a number or null": lambda value: value is None or _KINDS["a number"](value),
    "a number, 0 or more": lambda value: _KINDS["a number"](value) and value >= 0,
    "a whole number, 0 or more": lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0,
    "a seed, 0 or more, or null": lambda value: value is None or _KINDS["a whole number, 0 or more"](value),
    "an object": lambda value: isinstance(value, dict),
}
_TEXTS = {...: "text"}
#: Shapes: a kind; a list of one shape; an object of given fields, with "?" where one may be missing, or of any names (``...``); a tuple of
#: a shape that may be null.
_SCORE = {
    "row": "text", "faces": "text", "metrics": {...: "a number"}, "test_set?": "text", "guess?": "text",
    "confusion?": [["a whole number, 0 or more"]], "values?": _TEXTS, "series?": {...: ["a number or null"]},
}
_LOADED = {
    "role": "text", "options": "an object", "name": "text", "count": "a whole number, 0 or more", "sha256": "text", "pixels?": "text",
    "contents?": "text", "points?": "a number or null", "decoder?": "text",
}
_RUN = {
    "key": "text", "name": "text", "seed": "a seed, 0 or more, or null", "function": "text", "arguments": "an object", "outcomes": [_SCORE],
    "faces": [_LOADED], "commit": "text or null", "versions": _TEXTS, "hardware": "an object", "wall_s": "a number, 0 or more",
    "peak_mb": "a number, 0 or more", "date": "text", "files?": _TEXTS,
    "tie": {"code": "text", "files": [{"id": "text", "file": "text", "sha256": "text"}]},
    "plan": ({"sha256": "text", "date": "text"},), "checksum": "text",
    "renewed?": {"date": "text", "by": "text", "commit": "text or null", "was": "text"},
    "failed?": {"date": "text", "by": "text", "commit": "text or null"},
}
_TEST_SET = {"faces": "text", "classes": ["text"], "truth": "text", "images?": "text", "people?": "text"}
_LEDGER = {
    "id": "text", "profile": "text", "dataset": "text", "codes": {...: _TEXTS}, "test_sets": {...: _TEST_SET}, "runs": [_RUN],
}


def name_content(content: Mapping[str, Any]) -> str:
    """A name that follows from the content: 12 hexadecimal digits. It names test sets and codes."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def checksum_run(run: Mapping[str, Any]) -> str:
    """SHA-256 of all that the ledger keeps of a run; of its test sets and its code through their names."""
    kept = {name: value for name, value in run.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def parse_json(text: str) -> Any:
    """Read JSON whose numbers are finite. Raises ``ValueError`` or ``RecursionError`` for any other text."""
    def refuse(word: str) -> float:
        raise ValueError(f"{word} is not a number")

    def parse(word: str) -> float:
        value = float(word)
        return value if math.isfinite(value) else refuse(word[:40])

    return json.loads(text, parse_constant=refuse, parse_float=parse)


def check_ledger(kept: Any) -> None:
    """Make sure that a ledger's file has the right shape, and is whole and consistent.

    Raises
    ------
    ValueError
        At the first fault.
    RecursionError
        For content that is nested too deeply to be compared.
    """
    if isinstance(kept, dict) and isinstance(kept.get("runs"), list):
        for number, run in enumerate(kept["runs"]):  # first, as here an error can say which run
            _match(run, _RUN, _name_run(run, number))
    _match(kept, _LEDGER, "")
    for kind, named in (("test set", kept["test_sets"]), ("code", kept["codes"])):
        for name, content in named.items():
            if name_content(content) != name:
                raise ValueError(f"the {kind} {name!r} is not the one that has this name, {name_content(content)!r}")
    seen: set[tuple[str, int | None]] = set()
    for number, run in enumerate(kept["runs"]):
        place = _name_run(run, number)
        if (run["name"], run["seed"]) in seen:
            raise ValueError(f"{place} is there twice")
        seen.add((run["name"], run["seed"]))
        check_run(run, place, kept["test_sets"], kept["codes"])
    check_seeds(kept["runs"], kept["profile"])
    used = {score["test_set"] for run in kept["runs"] for score in run["outcomes"] if "test_set" in score}
    used |= {run["tie"]["code"] for run in kept["runs"]}
    if spare := {*kept["test_sets"], *kept["codes"]} - used:
        raise ValueError(f"no run is of {min(spare)!r}, so a run is missing")


def _name_run(run: Any, number: int) -> str:
    if isinstance(run, dict) and isinstance(run.get("name"), str):
        return f"{run['name']!r}, seed {_show(run.get('seed'))}"
    return f"run {number + 1}"


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _match(value: Any, shape: Any, place: str) -> None:
    """Raise ``ValueError`` if a value has not a shape, see ``_SCORE``."""
    if isinstance(shape, tuple):
        if value is None:
            return
        (shape,) = shape
    where = f"{place}: " if place else ""
    if isinstance(shape, str):
        if not _KINDS[shape](value):
            raise ValueError(f"{place or 'it'} is {_show(value)}, not {shape}")
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise ValueError(f"{place} is {_show(value)}, not a list")
        for number, part in enumerate(value):
            _match(part, shape[0], f"{place} {number + 1}")
    elif not isinstance(value, dict):
        raise ValueError(f"{place or 'it'} is {_show(value)}, not an object")
    elif ... in shape:
        for name, part in value.items():
            _match(name, "text", f"{where}a name")
            _match(part, shape[...], f"{where}{name}")
    else:
        for field, inner in shape.items():
            name = field.removesuffix("?")
            if name in value:
                _match(value[name], inner, f"{where}{name}")
            elif name == field:
                raise ValueError(f"{where}{name} is missing")


def check_run(run: Mapping[str, Any], place: str, test_sets: Mapping[str, Any], codes: Mapping[str, Any]) -> None:
    """Make sure that a run is what was entered.

    Parameters
    ----------
    run : dict
        As it stands in the ledger.
    place : str
        Where, for the error.
    test_sets, codes : dict
        Of the ledger.

    Raises
    ------
    ValueError
        If its key, code, checksum or predictions say otherwise; the message begins with the place.
    """
    for score in run["outcomes"]:
        try:
            _check_score(score, test_sets)
        except ValueError as error:
            raise ValueError(f"{place}: {score['row']}, {score['faces']}: {error}") from error
    key = make_key(run["name"], run["seed"], run["arguments"], run["function"])
    if run["key"] != key:
        raise ValueError(f"{place}: its key is {run['key']!r}, but {key!r} by its name, seed, arguments and function")
    if run["tie"]["code"] not in codes:
        raise ValueError(f"{place}: its code {run['tie']['code']!r} is not there")
    if run["checksum"] != checksum_run(run):
        raise ValueError(f"{place}: it is not what its checksum says")


def _check_score(score: Mapping[str, Any], test_sets: Mapping[str, Any]) -> None:
    """Make sure that a score is that of its predictions and values."""
    known = None
    if "test_set" in score:
        known = test_sets.get(score["test_set"])
        if known is None:
            raise ValueError(f"its test set {score['test_set']!r} is not there")
        truth = unpack_labels(known["truth"])
        if "people" in known and len(known["people"].split()) != len(truth):
            raise ValueError(f"people are {len(known['people'].split())}, not one a face of {len(truth)}")
    for name, text in score.get("values", {}).items():
        values = unpack_values(text)
        if known is not None and len(values) != len(truth):
            raise ValueError(f"the values of {name} are {len(values)}, not one a face of {len(truth)}")
        if name not in score["metrics"] or np.isnan(values).all() or not mean_matches(values[~np.isnan(values)], score["metrics"][name]):
            raise ValueError(f"{name} is {score['metrics'].get(name)}, which is not the mean of its values")
    if "guess" not in score:
        return
    if known is None or "confusion" not in score:
        raise ValueError(f"predictions without their {'test set' if known is None else 'confusion matrix'}")
    counts = count_confusions(truth, unpack_labels(score["guess"]), range(len(known["classes"])))
    if counts.tolist() != score["confusion"]:
        raise ValueError("the confusion matrix is not that of the predictions")
    for name in {"accuracy", "mean diagonal"} & score["metrics"].keys():
        computed = float(compute_metric(name, counts, known["classes"]))
        if abs(score["metrics"][name] - computed) > 1e-9:
            raise ValueError(f"{name} is {score['metrics'][name]}, but {computed} by its predictions")


def check_seeds(runs: Sequence[Mapping[str, Any]], profile: str) -> None:
    """Make sure that no run was copied: two seeds of one name do not give the same predictions, values or curves.

    A smoke run may, as it trains for a step or two.

    Parameters
    ----------
    runs : sequence of dict
        As they stand in the ledger.
    profile : str

    Raises
    ------
    ValueError
        If two do.
    """
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        if profile != "smoke" and any(score.keys() & {"guess", "values", "series"} for score in run["outcomes"]):
            by_name.setdefault(run["name"], []).append(run)
    for name, seeds in by_name.items():
        for first, second in combinations(seeds, 2):
            if first["outcomes"] == second["outcomes"]:
                same = f"{name!r}: the seeds {first['seed']} and {second['seed']} have the same outcome"
                raise ValueError(f"{same}; a run that draws nothing is planned with the seed None")

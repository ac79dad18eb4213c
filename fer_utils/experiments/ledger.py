"""The ledger of results: one JSON file an experiment, dataset and profile, and the ways to read it.

``data/results/<profile>/<dataset>/<paper>/<item>.json`` holds what each run measured, on which faces, with which arguments, by which code,
where, when and at what cost. Test labels stand there once a test set, predictions once a score (one character a face), so intervals and
tests between methods can be computed long after the runs. In the file, the scores of a run stand under ``outcomes``, and the role of a test
set under ``faces``.

A run's ``key`` follows from its name, seed, arguments and function, which are known before it is run. What made its numbers is kept beside
them: ``faces`` (checksums of what was loaded) and ``tie``, which holds ``code`` (a name in ``codes``: the digest of each module that the
function reaches) and ``files`` (checksums of what it read of other experiments); :mod:`~fer_utils.experiments.tie` compares them with what
is here. ``plan`` is the checksum and date of the plan that was committed before, or null. ``renewed`` and ``failed`` say what came of
executing it again (:mod:`~fer_utils.experiments.verifying`). A ``checksum`` covers all of a run; test sets and codes are named by their
content. :mod:`~fer_utils.experiments.schema` checks a file as it is read.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import DataError
from ..files import data_root, package_data, replace_whole
from ..metrics import per_class_recall
from .faces import fingerprint_faces
from .recipe import Profile
from .schema import check_ledger, check_run, check_seeds, checksum_run, name_content, parse_json

__all__ = ["Ledger", "find_checkpoint", "list_ledgers", "read_ledger"]


def default_data() -> Path:
    """The folder of results and checkpoints: the repository's ``data``, or the data root where the package is installed without it."""
    return package_data() if package_data().is_dir() else data_root()


def ledger_path(id: str, profile: str, dataset: str, data: Path | None = None) -> Path:
    """Where the results of an experiment are."""
    return (data or default_data()) / "results" / Profile(profile) / dataset / f"{id}.json"


def checkpoint_folder(id: str, profile: str, dataset: str, data: Path | None = None) -> Path:
    """Where the files that an experiment's runs left are."""
    return (data or default_data()) / "checkpoints" / Profile(profile) / dataset / id


def find_checkpoint(id: str, name: str, profile: str = "book", dataset: str = "facsynth", data: Path | None = None) -> Path:
    """Find a file that a run of an experiment left, such as a trained network.

    Parameters
    ----------
    id, profile, dataset : str
        The experiment, and how it was run.
    name : str
        As the run named it; where the ledger has its checksum, the file must have that, too.
    data : Path, optional
        The folder that holds ``results`` and ``checkpoints``; the book's by default.

    Returns
    -------
    Path

    Raises
    ------
    DataError
        If it is not there, or not what the run wrote.
    """
    path = checkpoint_folder(id, profile, dataset, data) / name
    expected = f"a file of 'ferbook reproduce {id} --profile {profile} --dataset {dataset}'"
    if not path.is_file():
        raise DataError.at(path, "not found", expected)
    written = {run["files"][name] for run in Ledger(id, profile, dataset, data).runs if name in run.get("files", {})}
    if written and hashlib.sha256(path.read_bytes()).hexdigest() not in written:
        raise DataError.at(path, "is not the file whose checksum the ledger has", expected)
    return path


class Ledger:
    """The results of one experiment at one profile on one dataset.

    Parameters
    ----------
    id, profile, dataset : str
    data : Path, optional
        The folder that holds ``results``.

    Attributes
    ----------
    path : Path
    runs : list of dict
        What :func:`~fer_utils.experiments.execution.execute_run` returned, by name and seed. Of a score, ``test_set`` names its test set.
    test_sets : dict of str to dict
        ``faces`` (the role), ``classes``, ``truth``, ``images`` and, where they are known, ``people``.
    codes : dict of str to dict
        Module to digest, for each code that made runs.

    Raises
    ------
    DataError
        If there is a file and it cannot be read, belongs to another experiment, or a run is not what its checksum, key or predictions say.
    """

    def __init__(self, id: str, profile: str, dataset: str, data: Path | None = None) -> None:
        self.id, self.profile, self.dataset = id, str(Profile(profile)), dataset
        self.path = ledger_path(id, profile, dataset, data)
        self.runs: list[dict[str, Any]] = []
        self.test_sets: dict[str, dict[str, Any]] = {}
        self.codes: dict[str, dict[str, str]] = {}
        if not self.path.is_file():
            return
        expected = f"the results of {id}, profile {self.profile}, on {dataset}"
        try:
            kept = parse_json(self.path.read_text(encoding="utf-8"))
            check_ledger(kept)
        except (OSError, ValueError, RecursionError) as error:
            raise DataError.at(self.path, f"cannot be read ({error or type(error).__name__})", expected) from error
        found = (kept["id"], kept["profile"], kept["dataset"])
        if found != (id, self.profile, dataset):
            raise DataError.at(self.path, f"holds {', '.join(found)}", expected)
        self.runs, self.test_sets, self.codes = kept["runs"], kept["test_sets"], kept["codes"]

    def __contains__(self, key: str) -> bool:
        return any(run["key"] == key for run in self.runs)

    def add(self, entry: Mapping[str, Any]) -> None:
        """Enter a run, in the place of an earlier one of the same name and seed; nothing changes on disk before :meth:`save`.

        Raises
        ------
        ValueError
            If a run of this key is there, or one of another seed with the same outcome: then nothing was drawn. Or if the run is not
            consistent.
        """
        if entry["key"] in self:
            raise ValueError(f"{self.id}: the run {entry['name']!r}, seed {entry['seed']}, is in the ledger")
        scores, test_sets = part_outcomes(entry["outcomes"])
        self.test_sets |= test_sets
        same = (entry["name"], entry["seed"])
        others = [run for run in self.runs if (run["name"], run["seed"]) != same]
        new = {**entry, "outcomes": scores, "tie": {**entry["tie"], "code": self._name_code(entry["tie"]["code"])}}
        new["checksum"] = checksum_run(new)
        # what is written can be read again
        check_run(new, f"{entry['name']!r}, seed {entry['seed']}", self.test_sets, self.codes)
        check_seeds([*others, new], self.profile)
        self.runs = [*others, new]
        self.runs.sort(key=lambda run: (run["name"], -1 if run["seed"] is None else run["seed"]))

    def _name_code(self, code: Mapping[str, str]) -> str:
        name = name_content(code)
        self.codes[name] = dict(code)
        return name

    def note(self, key: str, notes: Mapping[str, Any], code: Mapping[str, str] | None = None) -> None:
        """Note something beside a run, such as ``renewed``, and tie it to other code; nothing changes on disk before :meth:`save`.

        Parameters
        ----------
        key : str
            Of the run.
        notes : dict
            What JSON can hold.
        code : dict of str to str, optional
            Module to digest, as :func:`~fer_utils.experiments.code.describe_code` gives it.
        """
        (run,) = (run for run in self.runs if run["key"] == key)
        if code is not None:
            run["tie"] = {**run["tie"], "code": self._name_code(code)}
        run |= notes
        run["checksum"] = checksum_run(run)

    def drop(self, keys: Sequence[str]) -> None:
        """Take runs out; nothing changes on disk before :meth:`save`."""
        self.runs = [run for run in self.runs if run["key"] not in keys]

    def save(self) -> None:
        """Write the file, as a whole or not at all."""
        used = {score["test_set"] for _, score in read_scores(self) if "test_set" in score}
        self.test_sets = {name: self.test_sets[name] for name in sorted(used)}
        self.codes = {name: self.codes[name] for name in sorted({run["tie"]["code"] for run in self.runs})}
        kept = {
            "id": self.id, "profile": self.profile, "dataset": self.dataset, "codes": self.codes, "test_sets": self.test_sets,
            "runs": self.runs,
        }
        text = json.dumps(kept, indent=1, ensure_ascii=False, allow_nan=False)
        # rows of numbers on one line: a matrix reads as one
        text = re.sub(r"\[(?:[\s\d.,eE+-]|null)*\]", lambda found: " ".join(found[0].split()).replace("[ ", "[").replace(" ]", "]"), text)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replace_whole(self.path, sync=True) as partial:
            partial.write_bytes(f"{text}\n".encode())

    def check_faces(self) -> None:
        """Make sure that the shipped faces are those that were measured.

        Raises
        ------
        DataError
            If they have changed since.
        """
        if not self.dataset.startswith("facsynth"):
            return
        for run in self.runs:
            for loaded in run["faces"]:
                if loaded["sha256"] != fingerprint_faces(self.dataset, role=loaded["role"], options=loaded["options"])["sha256"]:
                    command = f"ferbook reproduce {self.id} --profile {self.profile} --dataset {self.dataset}"
                    raise DataError.at(self.path, "measured on other faces than those that are here", f"results on these; run '{command}'")


def part_outcomes(outcomes: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """Scores that name their test sets, and the test sets by name, of scores that hold them."""
    scores, test_sets = [], {}
    for outcome in outcomes:
        score = {name: value for name, value in outcome.items() if name != "test_set"}
        if outcome["test_set"] is not None:
            score["test_set"] = name_content(outcome["test_set"])
            test_sets[score["test_set"]] = outcome["test_set"]
        scores.append(score)
    return scores, test_sets


def list_ledgers(
    paper: str | None = None, profile: str = "book", dataset: str | None = None, data: Path | None = None
) -> list[tuple[str, str]]:
    """Which results are kept at a profile.

    Parameters
    ----------
    paper : str, optional
        Only those of a paper, or of one item, ``dlp-cnn/table-5``.
    profile : str
    dataset : str, optional
        Only those on a dataset.
    data : Path, optional
        The folder that holds ``results``.

    Returns
    -------
    list of (str, str)
        Experiment and dataset.
    """
    root = (data or default_data()) / "results" / Profile(profile)
    found = []
    for path in sorted(root.glob("*/*/*.json")):
        where = path.parts[-3]
        id = path.relative_to(root / where).with_suffix("").as_posix()
        if dataset in (None, where) and (paper is None or paper in (id, id.split("/")[0])):
            found.append((id, where))
    return found


def read_scores(ledger: Ledger) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every score with its run, as they are kept."""
    for run in ledger.runs:
        for score in run["outcomes"]:
            yield run, score


def read_ledger(
    id: str | None = None, profile: str = "book", dataset: str | None = "facsynth", data: Path | None = None
) -> pd.DataFrame:
    """Read results as a table, one line a measured number.

    Parameters
    ----------
    id : str, optional
        An experiment, ``dlp-cnn/table-5``, or a paper, ``dlp-cnn``; all by default.
    profile : str
    dataset : str, optional
        None for all.
    data : Path, optional
        The folder that holds ``results``; the book's by default.

    Returns
    -------
    DataFrame
        ``id``, ``dataset``, ``run``, ``seed`` (missing where nothing was drawn), ``row``, ``role``, ``metric``, ``value``, ``count``
        (faces of the test set), ``wall_s``, ``peak_mb``, ``commit``, ``date``. Besides what the run measured, the recall of each class.

    Raises
    ------
    DataError
        If a file is damaged, or was measured on other shipped faces than those that are here.
    """
    lines = []
    for name, where in list_ledgers(id, profile, dataset, data):
        ledger = Ledger(name, profile, where, data)
        ledger.check_faces()
        for run, score in read_scores(ledger):
            metrics, count = dict(score["metrics"]), None
            if "test_set" in score:
                classes = ledger.test_sets[score["test_set"]]["classes"]
                count = len(ledger.test_sets[score["test_set"]]["truth"])
            if "guess" in score:
                recalls = per_class_recall(np.array(score["confusion"]))
                metrics |= {f"recall {c}": float(r) for c, r in zip(classes, recalls, strict=True) if not np.isnan(r)}
            for metric, value in metrics.items():
                lines.append({
                    "id": name, "dataset": where, "run": run["name"], "seed": run["seed"], "row": score["row"], "role": score["faces"],
                    "metric": metric, "value": value, "count": count, "wall_s": run["wall_s"], "peak_mb": run["peak_mb"],
                    "commit": run["commit"], "date": run["date"],
                })
    columns = ["id", "dataset", "run", "seed", "row", "role", "metric", "value", "count", "wall_s", "peak_mb", "commit", "date"]
    table = pd.DataFrame(lines, columns=columns)
    return table.astype({"seed": "Int64", "count": "Int64", "value": "float64"})

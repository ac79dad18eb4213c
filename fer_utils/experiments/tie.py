"""What a kept run is tied to, compared with what is here: code, faces, files of other experiments, and, more loosely, versions."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .code import describe_code
from .contents import find_contents, hold_the_same
from .execution import ask_git, find_hardware, find_versions
from .ledger import Ledger, checkpoint_folder, default_data
from .plans import plan_path

__all__ = ["find_plan", "find_stale", "list_differences"]

#: Packages whose versions may change numbers; of Python, and of these, only the version's numbers count.
_PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "scikit-image", "pillow")


def find_stale(ledger: Ledger, root: str | None = None, data: Path | None = None, *, code: bool = True) -> dict[str, str]:
    """Find the runs that are not tied to what is here any more.

    What is not here, faces or another experiment's file, cannot be compared and leaves a run as it is.

    Parameters
    ----------
    ledger : Ledger
    root : str, optional
        Where the dataset's copy lies.
    data : Path, optional
        The folder that holds ``checkpoints``.
    code : bool
        Whether other code counts; without, only other faces and files, and what ``ferbook verify`` found to differ.

    Returns
    -------
    dict of str to str
        Key of the run to what is the matter, as the end of a sentence: ``"was made by other code: losses.center"``.
    """
    found: dict[str, str] = {}
    faces: dict[str, dict[str, Any]] = {}
    for run in ledger.runs:
        problem = (
            (_compare_code(ledger, run) if code else None) or _find_failure(run) or _compare_faces(ledger.dataset, run, root, faces)
            or _compare_files(ledger, run, data) or _find_lost_file(ledger, run, data)
        )
        if problem:
            found[run["key"]] = problem
    return found


def _compare_code(ledger: Ledger, run: Mapping[str, Any]) -> str | None:
    kept, here = ledger.codes[run["tie"]["code"]], describe_code(run["function"], run["arguments"])
    differ = sorted(name for name in kept.keys() | here.keys() if kept.get(name) != here.get(name))
    package = __package__.partition(".")[0]
    return f"was made by other code: {', '.join(name.removeprefix(f'{package}.') for name in differ)}" if differ else None


def _find_failure(run: Mapping[str, Any]) -> str | None:
    return f"gave another result when it was run again on {run['failed']['date'][:10]}" if "failed" in run else None


def _compare_faces(dataset: str, run: Mapping[str, Any], root: str | None, known: dict[str, dict[str, Any]]) -> str | None:
    for loaded in run["faces"]:
        name = json.dumps([loaded["role"], loaded["options"]], sort_keys=True)
        if name not in known:
            known[name] = _describe_again(dataset, loaded, root)
        here = known[name]
        if "contents" in loaded:
            fields, same = ["sha256"], not here or hold_the_same(loaded, here)
        else:
            fields, same = ["sha256", "pixels"], True
        if not same or any(here[field] != loaded[field] for field in fields if field in here and field in loaded):
            return f"was measured on other {loaded['role']} faces"
    return None


def _describe_again(dataset: str, loaded: Mapping[str, Any], root: str | None) -> dict[str, Any]:
    """What is said of the faces which a run loaded, as they are now; nothing if they are not here."""
    try:
        return find_contents(dataset, loaded, root)
    except (ValueError, ImportError):  # a DataError, or too few faces to split
        return {}


def _compare_files(ledger: Ledger, run: Mapping[str, Any], data: Path | None) -> str | None:
    for read in run["tie"]["files"]:
        path = checkpoint_folder(read["id"], ledger.profile, ledger.dataset, data) / read["file"]
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() != read["sha256"]:
            return f"read another {read['file']} of {read['id']} than is here"
    return None


def _find_lost_file(ledger: Ledger, run: Mapping[str, Any], data: Path | None) -> str | None:
    folder = checkpoint_folder(ledger.id, ledger.profile, ledger.dataset, data)
    for name, checksum in run.get("files", {}).items():
        path = folder / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != checksum:
            return f"has lost {name}, which is gone or damaged"
    return None


def list_differences(run: Mapping[str, Any]) -> list[str]:
    """In which versions, processor and threads the place that made a run differs from this one, which may change its numbers slightly.

    Parameters
    ----------
    run : dict
        One of ``runs`` of a :class:`~fer_utils.experiments.ledger.Ledger`.

    Returns
    -------
    list of str
        Such as ``"made with torch 2.14.1, here 2.15.0"``.
    """
    versions, hardware = find_versions(), find_hardware()
    triples = [("Python", _cut(run["versions"].get("python"), 2), _cut(versions["python"], 2))]
    triples += [(name, _cut(run["versions"][name], 3), _cut(versions.get(name), 3)) for name in _PACKAGES if name in run["versions"]]
    triples += [(name, run["hardware"][name], hardware[name]) for name in ("cpu", "threads") if name in run["hardware"].keys() & hardware]
    return [f"made with {name} {made}, here {here}" for name, made, here in triples if made != here]


def _cut(version: str | None, parts: int) -> str:
    """The first numbers of a version, without its local part: ``2.14.1`` of ``2.14.1+cpu``."""
    return "none" if version is None else ".".join(version.partition("+")[0].split(".")[:parts])


def find_plan(id: str, profile: str, dataset: str, data: Path | None = None) -> dict[str, str] | None:
    """The plan that was committed for an experiment: checksum of its file, and date of its commit.

    Parameters
    ----------
    id, profile, dataset, data
        As :func:`~fer_utils.experiments.plans.plan_path`.

    Returns
    -------
    dict or None
        ``sha256`` and ``date``. None without a plan, outside a repository, and for one that is not committed as it stands.
    """
    home = data or default_data()
    path = plan_path(id, profile, dataset, data)
    if not path.is_file():
        return None
    try:
        date = ask_git(home, "log", "-1", "--format=%cI", "--", str(path))
        changed = ask_git(home, "status", "--porcelain", "--", str(path))
    except (OSError, subprocess.SubprocessError):
        return None
    return {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "date": date} if date and not changed else None

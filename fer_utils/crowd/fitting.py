"""A fit to a table of votes of any form, which goes on after a kill and trusts nothing that was damaged meanwhile."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import DataError
from ..files import replace_whole
from .chunks import _MARK, CHUNK_ROWS
from .em import ReliabilityEM, Step
from .tables import count, list_files, list_some, show
from .tidying import Repeats, Tidied, tidy_votes

__all__ = ["find_ties", "fit_table"]

#: In the folder of a fit: what was asked for, the tidied votes, their chunks with the state, and checksums of these.
_PLAN, _VOTES, _CHUNKS, _SUMS = "plan.json", "votes.parquet", "chunks", "sums.json"
_OURS = (_PLAN, _VOTES, _CHUNKS, _SUMS, "votes.raw", "votes.kept")

#: Two classes whose probabilities differ by less are as good as equal: the reliabilities are not known that well.
_TIED = 1e-3


def fit_table(
    path: str | os.PathLike[str],
    folder: Path,
    *,
    classes: Sequence[str] | None = None,
    repeats: Repeats = Repeats.KEEP,
    scheduler: str | None = None,
    chunk_rows: int = CHUNK_ROWS,
    say: Callable[[str], object] = print,
    on_step: Callable[[Step], object] = lambda _: None,
) -> ReliabilityEM:
    """Tidy the votes of a table, and fit to them.

    Parameters
    ----------
    path, classes, repeats
        See :func:`~fer_utils.crowd.tidying.tidy_votes`.
    folder : Path
        Where the votes and the state are until the fit ends. A fit that was killed goes on from there; what does not
        have the checksum that it was written with is made anew.
    scheduler, chunk_rows, on_step
        See :meth:`~fer_utils.crowd.em.ReliabilityEM.fit_file`.
    say : callable
        Called with each note on the votes, before the fit, and on tied tasks after it.

    Returns
    -------
    ReliabilityEM
        Fitted.

    Raises
    ------
    DataError
        As ``tidy_votes``; and if the folder holds anything else, or another process is fitting there.
    """
    path = Path(path)
    with _lock_folder(folder):
        begun = False
        try:
            tidied = _tidy(path, folder, classes, repeats)
            for note in tidied.notes:
                say(note)
            sums = _check_chunks(folder)
            begun = bool(sums)

            def keep_sums(step: Step) -> None:
                nonlocal begun
                sums.update(_sum_files(folder / _CHUNKS, sums))
                _write_checked(folder / _SUMS, sums)
                begun = True
                on_step(step)

            model = ReliabilityEM(classes=tidied.classes)
            model.fit_file(
                folder / _VOTES, chunk_rows=chunk_rows, scheduler=scheduler, scratch=folder / _CHUNKS, on_step=keep_sums
            )
        except Exception:
            if not begun:  # nothing to go on from
                shutil.rmtree(folder)
            raise
        shutil.rmtree(folder)
    if len(tied := find_ties(model.probas_)):
        order = list(map(str, model.probas_.columns))
        say(
            f"{count(len(tied), 'task is', 'tasks are')} tied, {list_some(map(show, tied))}: the two most probable "
            f"classes are equal to within {_TIED:g}, and the label is the slightly likelier one, or the first in the "
            f"order {list_some(order, 12)}"
        )
    return model


def find_ties(probas: pd.DataFrame) -> pd.Index:
    """Tasks whose two most probable classes are equally probable, to within 0.001.

    Parameters
    ----------
    probas : pandas.DataFrame
        Probability of each class, tasks by classes.

    Returns
    -------
    pandas.Index
        Of ``probas``' tasks, in their order.
    """
    best = np.partition(probas.to_numpy(), -2, axis=1)[:, -2:]
    return probas.index[best[:, 1] - best[:, 0] < _TIED]


# -- the folder -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _lock_folder(folder: Path) -> Iterator[None]:
    """Make the folder, or take up one that a fit left, and keep other processes on this machine out of it."""
    other = DataError.at(folder, "holds something else", "no such folder, or one that a fit left")
    while True:
        try:
            folder.mkdir(exist_ok=True)
        except FileExistsError:
            raise other from None
        found = os.listdir(folder)
        if _MARK not in found and not all(name.startswith(_OURS) for name in found):
            raise other
        try:
            import fcntl
        except ModuleNotFoundError:  # not on Windows
            yield
            return
        held = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DataError.at(
                    folder, "another process is fitting there", "one fit of an output file at a time"
                ) from None
            except OSError:
                pass  # some network file systems lock no folders
            # the folder that was locked may have been another fit's, which ended and removed it
            same = False
            with contextlib.suppress(FileNotFoundError):
                same = os.path.samestat(os.fstat(held), folder.stat())
            if same:
                yield
                return
        finally:
            os.close(held)


def _tidy(path: Path, folder: Path, classes: Sequence[str] | None, repeats: Repeats) -> Tidied:
    """Tidy the votes, unless they lie there from a fit that asked for the same."""
    stats = [(file, file.stat()) for file in list_files(path)] if path.exists() else []
    asked = [[[str(file.resolve()), stat.st_size, stat.st_mtime_ns] for file, stat in stats], classes and list(classes), str(repeats)]
    kept = _read_checked(folder / _PLAN)
    if kept is not None and kept["asked"] == asked and kept["sum"] == _sum_file(folder / _VOTES):
        return Tidied(kept["classes"], kept["notes"])
    for old in folder.iterdir():
        shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
    tidied = tidy_votes(path, folder / _VOTES, classes=classes, repeats=repeats)
    _write_checked(folder / _PLAN, {"asked": asked, "sum": _sum_file(folder / _VOTES), **tidied._asdict()})
    return tidied


def _check_chunks(folder: Path) -> dict[str, str]:
    """Checksums of the chunks and the state that a fit left; without them, or where one is wrong, both are removed."""
    sums = _read_checked(folder / _SUMS) or {}
    if not sums or _sum_files(folder / _CHUNKS) != sums:
        (folder / _SUMS).unlink(missing_ok=True)
        shutil.rmtree(folder / _CHUNKS, ignore_errors=True)
        return {}
    return sums


def _sum_files(folder: Path, known: dict[str, str] | None = None) -> dict[str, str]:
    """Checksum of each file but half-written ones; of those that are known and do not change, the one that is known."""
    known = known or {}
    names = sorted(file.name for file in folder.iterdir() if file.suffix != ".part") if folder.is_dir() else []
    return {
        name: known[name] if name in known and name != "state.npz" else _sum_file(folder / name) or "" for name in names
    }


def _sum_file(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _write_checked(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content)
    with replace_whole(path) as partial:
        partial.write_text(f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}", encoding="utf-8")


def _read_checked(path: Path) -> dict[str, Any] | None:
    """What was written there; None if nothing was, or it is damaged."""
    try:
        stated, _, text = path.read_text(encoding="utf-8").partition("\n")
    except (OSError, UnicodeDecodeError):
        return None
    return json.loads(text) if stated == hashlib.sha256(text.encode()).hexdigest() else None

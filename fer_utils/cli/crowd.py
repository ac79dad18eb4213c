"""``ferbook crowd``: from votes to labels."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..crowd.tidying import Repeats
from ..files import replace_whole
from .base import app, fail, say

if TYPE_CHECKING:
    import pandas as pd

    from ..crowd import Step

crowd = typer.Typer(help="The crowd: from votes to labels.", no_args_is_help=True)
app.add_typer(crowd, name="crowd")


@crowd.callback()
def votes_to_labels() -> None:
    """From the votes of a crowd to labels."""  # keeps 'fit' a command of its own while it is the only one


@crowd.command("fit")
def fit_crowd(
    votes: Annotated[
        Path,
        typer.Argument(help="A csv or Parquet table, or a folder of Parquet: task, worker, label, or task and a column for each worker."),
    ],
    out: Annotated[
        Path, typer.Option(help="The labels to write (.csv or .parquet; replaced if it is there): task, label, p_<class>, beta (clarity).")
    ],
    workers: Annotated[
        Path | None,
        typer.Option(help="The annotators to write (.csv or .parquet; replaced if it is there): worker, alpha (reliability)."),
    ] = None,
    classes: Annotated[str | None, typer.Option(help="All classes, comma-separated, where some may have no vote.")] = None,
    repeats: Annotated[
        Repeats, typer.Option(help="Votes of one worker on one task: keep all, the first only, or stop with an error.")
    ] = Repeats.KEEP,
    scheduler: Annotated[str | None, typer.Option(help="A running Dask scheduler, tcp://host:port.")] = None,
    chunk_rows: Annotated[int, typer.Option(help="Votes that are in memory at a time, about.", min=1)] = 2**20,
) -> None:
    """Weigh annotators and label faces (Li & Deng 2019, Algorithm 1). A fit that was killed goes on where it was, from OUT.chunks."""
    from ..crowd.fitting import fit_table

    for path in filter(None, (out, workers)):
        among = votes.resolve() in (path.resolve(), *path.resolve().parents)
        if path.suffix not in (".csv", ".parquet") or not path.parent.is_dir() or among or path.is_dir():
            expected = "a .csv or .parquet file other than the votes, in a folder that is there and not theirs"
            raise fail(f"cannot write {path}; expected {expected}")
    if workers is not None and workers.resolve() == out.resolve():
        raise fail(f"cannot write {out} twice; expected another file after --workers than after --out")
    known = None if classes is None else [name.strip() for name in classes.split(",") if name.strip()]
    if known == []:
        raise fail(f"--classes names none, got {classes!r}; expected names with commas between them, such as 1,2,3")
    options: dict[str, Any] = {"classes": known, "repeats": repeats, "scheduler": scheduler, "chunk_rows": chunk_rows}
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            folder = out.with_name(f"{out.name}.chunks")
            model = fit_table(votes, folder, **options, say=lambda text: say(f"note: {text}", err=True), on_step=_show)
        _write_table(model.probas_.add_prefix("p_").assign(beta=model.betas_), out, label=model.labels_)
        if workers is not None:
            _write_table(model.alphas_.to_frame(), workers)
    except (ValueError, ImportError, OSError, RuntimeError) as error:
        raise fail(str(error)) from None
    for warning in caught:
        say(f"warning: {warning.message}", err=True)
    say(f"{out}: {len(model.labels_):,} tasks labelled by {len(model.alphas_):,} annotators")


def _show(step: Step) -> None:
    change = f", largest change of alpha {step.change:.2g}" if step.iteration > 1 else ""
    say(f"iteration {step.iteration}: objective {step.objective:,.1f}{change}", err=True)


def _write_table(table: pd.DataFrame, path: Path, **first: pd.Series) -> None:
    """Write a table and its index under a temporary name, then rename it; ``first`` are columns to put before the others."""
    for name, column in first.items():
        table.insert(0, name, column)
    with replace_whole(path) as partial:
        table.reset_index().to_csv(partial, index=False) if path.suffix == ".csv" else table.reset_index().to_parquet(partial)

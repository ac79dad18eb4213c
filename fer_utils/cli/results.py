"""``ferbook plan``, ``reproduce``, ``verify`` and ``ledger``: results."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from ..experiments.recipe import Profile
from .base import app, fail, make_table, print_table, say


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
    from ..experiments.plans import describe_plan, plan_experiment, save_plan

    try:
        planned = plan_experiment(id, profile, dataset, seeds=seeds, root=root)
        path = save_plan(planned, id, profile, dataset) if save else None
    except (ValueError, OSError) as error:
        raise fail(str(error)) from None
    lines = describe_plan(planned)
    if not lines:
        say(f"{id}: no claim compares what it runs on {dataset}")
    for claim in dict.fromkeys(line["claim"] for line in lines):
        typer.echo(claim)
        own = [{name: text for name, text in line.items() if name != "claim"} for line in lines if line["claim"] == claim]
        table = make_table(*own[0])
        for line in own:
            table.add_row(*line.values())
        print_table(table)
        typer.echo()
    if path is not None:
        say(f"{path}: written; commit it before 'ferbook reproduce {id}'", err=True)


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
    from .. import experiments

    if bool(ids) == everything:
        raise fail("expected the ids of experiments, or --all; 'ferbook reproduce --all' runs what is missing")
    if (until_width is None) != (max_seeds is None) or (until_width is not None and (len(ids or []) != 1 or seeds is not None)):
        raise fail("expected --until-width and --max-seeds together, for one experiment, without --seeds")
    if everything and workers is None and scheduler is None:
        workers = min(os.cpu_count() or 1, 4)
    try:
        chosen = [experiment.id for experiment in experiments.list_experiments()] if everything else ids or []
        options: dict[str, Any] = {"root": root, "scheduler": scheduler, "workers": workers, "say": lambda text: say(text, err=True)}
        if until_width is not None and max_seeds is not None:
            done = experiments.run_until_width(chosen[0], until_width, max_seeds, profile, dataset, **options)
        else:
            done = experiments.run_experiments(chosen, profile, dataset, seeds=seeds, **options)
    except (ValueError, OSError, experiments.ExperimentError) as error:
        raise fail(str(error)) from None
    say(f"{done} runs done; 'ferbook ledger --profile {profile} --dataset {dataset}' prints the results")


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
    from .. import experiments

    same = True
    for id in dict.fromkeys(ids):
        try:
            same &= experiments.verify_experiment(
                id, profile, dataset, root=root, runs=runs, draw=draw, say=lambda text: say(text, err=True)
            )
        except (ValueError, OSError, experiments.ExperimentError) as error:
            raise fail(str(error)) from None
    if not same:
        raise fail("some runs did not come out again")
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
    """Print the verdicts on the papers' claims; of one item also why, and its results with 95 % intervals over seeds and test faces."""
    if stale:
        _list_stale(paper, profile, dataset)
        return
    from .. import experiments
    from ..discovery import find_folder, list_papers

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
        raise fail(str(error)) from None
    if frame.empty:
        asked = f"{paper or 'any experiment'}, profile {profile}, on {dataset or 'any dataset'}"
        raise fail(f"no results of {asked}; 'ferbook reproduce' makes them")
    one = paper is not None and "/" in paper
    items = make_table("kept", "on", "values")
    for (id, where), lines in frame.groupby(["experiment", "dataset"], sort=False):
        if not one:
            items.add_row(id, where, str(len(lines)))
            continue
        say(f"{id} on {where}")
        table = make_table(*lines.columns[2:])
        for row in lines.itertuples(index=False):
            table.add_row(*row[2:])
        print_table(table)
        typer.echo()
    if not one:
        print_table(items)
        say(f"'ferbook ledger {frame['experiment'].iloc[0]}' prints the values of one, and why its claims hold or do not")
        typer.echo()
    for (name, where), verdicts in judged.items():
        table = make_table(f"claim of {name}, on {where}", "verdict", *(["because"] if one else []))
        for verdict in verdicts:
            table.add_row(verdict.claim.text, verdict.label, *([verdict.reason] if one else []))
        print_table(table)
        typer.echo()


def _list_stale(paper: str | None, profile: Profile, dataset: str | None) -> None:
    from ..experiments import Ledger, find_stale, list_differences, list_ledgers

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
                say(f"{id} on {where}")
            for reason, names in groups.items():
                runs = [name if seeds == ["None"] else f"{name} (seed {', '.join(seeds)})" for name, seeds in names.items()]
                say(f"  {', '.join(runs)}: {reason}")
    except ValueError as error:
        raise fail(str(error)) from None
    if found:
        raise fail(f"{found} of {count} runs are stale; 'ferbook reproduce' runs them again")
    say(f"{count} runs are tied to the code, the faces and the files that are here")

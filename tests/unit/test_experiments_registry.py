import pickle
from dataclasses import dataclass
from typing import ClassVar

import pytest
import toy_experiments as toy
from toy_experiments import register

from fer_utils.discovery import list_papers
from fer_utils.experiments import (
    Ledger,
    Recipe,
    Run,
    Score,
    Setup,
    find_experiment,
    list_experiments,
    list_ledgers,
    load_published,
    register_experiment,
    run_experiment,
    scale,
)
from fer_utils.experiments.recipe import Profile
from fer_utils.files import package_data

KEPT = list_ledgers(profile="book", dataset=None, data=package_data())


def test_an_unknown_experiment_lists_the_ids(empty_registry):
    register("toy/table-1", [])
    with pytest.raises(ValueError, match=r"unknown experiment 'toy/table-2'; expected one of toy/table-1"):
        find_experiment("toy/table-2")
    assert find_experiment("toy/table-1").plan("smoke", "facsynth") == []


def test_a_misspelt_paper_lists_the_papers():
    for id in ("dlp-cn/table-5", "table-5"):
        with pytest.raises(ValueError, match=rf"unknown paper '{id.split('/')[0]}'; expected one of {', '.join(list_papers())}$"):
            find_experiment(id)


def test_the_books_own_experiments_have_published_items_and_rows():
    for experiment in list_experiments():
        paper, item = experiment.id.split("/")
        assert set(experiment.omits) <= set(load_published(paper).item(item).rows)
        assert set(experiment.needs) <= {other.id for other in list_experiments()}


@pytest.mark.parametrize("id", ["table-1", "toy/", "/table-1", "toy/a/b"])
def test_an_id_is_paper_and_item(empty_registry, id):
    with pytest.raises(ValueError, match="<paper>/<item>"):
        register(id, [])


def test_an_id_is_registered_once(empty_registry):
    register_experiment("toy/table-1")(toy.plan_skills)
    register_experiment("toy/table-1")(toy.plan_skills)  # a module that is loaded again
    with pytest.raises(ValueError, match="toy/table-1 is registered twice"):
        register("toy/table-1", [])


def test_a_plan_knows_its_setup(empty_registry):
    seen = []

    def plan(setup):
        seen.append(setup)
        return []

    register("toy/table-1", plan, seeds={"book": 5})
    experiment = find_experiment("toy/table-1")
    experiment.plan("book", "facsynth")
    experiment.plan("smoke", "muxspace")
    experiment.plan("paper", "rafdb", seeds=2)
    assert seen == [
        Setup(Profile.BOOK, "facsynth", (0, 1, 2, 3, 4)), Setup(Profile.SMOKE, "muxspace", (0,)),
        Setup(Profile.PAPER, "rafdb", (0, 1), asked=True),
    ]
    assert [s.roles[:3] for s in seen] == [("basic", "compound", "lab"), ("basic",), ("basic", "compound", "lab")]
    for *wrong, message in (
        ("huge", "facsynth", None, "unknown profile 'huge'"), ("book", "facsynth", 0, "seeds must be 1 or more, got 0"),
        ("book", "imagenet", None, "unknown dataset 'imagenet'; expected one of facsynth, rafdb"),
    ):
        with pytest.raises(ValueError, match=message):
            experiment.plan(*wrong)


def test_two_runs_of_one_name_are_a_mistake(empty_registry):
    register("toy/table-1", [Run("a", toy.fail, {"x": 1}), Run("a", toy.fail, {"x": 2})])
    with pytest.raises(ValueError, match="two runs are named 'a'"):
        find_experiment("toy/table-1").plan("book", "facsynth")


def test_a_run_has_a_key():
    run = Run("a", toy.fail, {"sizes": (1, 2), "rate": 0.1}, 3)
    assert run.function == "toy_experiments:fail" and run.resolve() is toy.fail and run.arguments == {"sizes": [1, 2], "rate": 0.1}
    assert run.key == Run("a", "toy_experiments:fail", {"rate": 0.1, "sizes": [1, 2]}, 3).key
    others = [Run("b", toy.fail, run.arguments, 3), Run("a", toy.fail, run.arguments, 4), Run("a", toy.fail, {"rate": 0.1}, 3)]
    others.append(Run("a", toy.sleep, run.arguments, 3))
    assert len({run.key, *(other.key for other in others)}) == 5


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [(lambda context: [], {}, "function of a module"), (toy.fail, {"x": {1, 2}}, "JSON"), (toy.fail, {"x": float("nan")}, "JSON")],
)
def test_a_run_can_travel(function, arguments, message):
    with pytest.raises(ValueError, match=f"run 'a': .*{message}"):
        Run("a", function, arguments)


# -- typed recipes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Toy(Recipe):
    rates: tuple[float, ...] = (0.1, 0.01)
    steps: int = scale(9)
    SIZES: ClassVar = {Profile.SMOKE: {"steps": 1}, Profile.BOOK: {}}


def use_recipe(context, recipe, factor):
    assert isinstance(recipe, Toy) and recipe.rates == (0.1, 0.01)
    return [Score("toy", "", {"steps": float(factor * recipe.steps)})]


def test_a_recipe_reaches_the_run_and_is_kept_as_its_fields(empty_registry, tmp_path):
    register("toy/table-1", lambda setup: [Run("a", use_recipe, {"recipe": Toy().at(setup.profile), "factor": 3})])
    assert run_experiment("toy/table-1", "smoke", data=tmp_path) == 1
    assert run_experiment("toy/table-1", "smoke", data=tmp_path) == 0, "it is not taken for another recipe"
    (run,) = Ledger("toy/table-1", "smoke", "facsynth", tmp_path).runs
    assert run["arguments"] == {"factor": 3, "recipe": {"rates": [0.1, 0.01], "steps": 1}}
    assert run["outcomes"][0]["metrics"] == {"steps": 3}


def test_a_recipe_and_its_fields_have_one_key():
    run = Run("a", use_recipe, {"recipe": Toy(), "factor": 3}, 1)
    plain = Run("a", use_recipe, {"factor": 3, "recipe": {"steps": 9, "rates": [0.1, 0.01]}}, 1)
    assert run.key == plain.key != Run("a", use_recipe, {"recipe": Toy(steps=8), "factor": 3}, 1).key
    sent = pickle.loads(pickle.dumps(run))
    assert sent == run and sent.arguments["recipe"] == Toy()
    with pytest.raises(ValueError, match="recipes or what JSON can hold"):
        Run("a", use_recipe, {"recipes": [Toy()]})


# -- the results that are kept --------------------------------------------------------------------------------------------


def test_results_are_kept():
    assert {dataset for _, dataset in KEPT} == {"facsynth", "muxspace"} and len(KEPT) >= 19


@pytest.mark.parametrize(("id", "dataset"), KEPT)
def test_kept_results_are_those_that_are_planned(id, dataset):
    """So 'ferbook reproduce --all' takes nothing out; it may add seeds that no time was left for."""
    planned = {(run.name, run.seed, run.key) for run in find_experiment(id).plan("book", dataset)}
    runs = Ledger(id, "book", dataset, package_data()).runs
    assert {(run["name"], run["seed"], run["key"]) for run in runs} <= planned

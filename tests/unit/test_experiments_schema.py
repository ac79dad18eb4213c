"""A ledger's file that was changed by hand or by accident ends in one error that says where."""

import copy
import json

import numpy as np
import pytest
import toy_experiments as toy
from toy_experiments import register

from fer_utils.errors import DataError
from fer_utils.experiments import Ledger, Run, Score, score_predictions
from fer_utils.experiments.registry import make_key
from fer_utils.experiments.running import run_experiment
from fer_utils.experiments.schema import checksum_run, name_content
from fer_utils.labels import BASIC

ID = "toy/table-1"


def measure(context, deep):
    """Predictions of seven faces, a correlation with a number a face, and a curve."""
    draws = np.random.default_rng([3, context.seed])
    guess, values = draws.integers(0, 7, 7), draws.random(7).astype(np.float16).astype(float)
    context.save_file(f"left-{context.seed}.txt", b"left")
    return [score_predictions(
        "a", "basic", np.arange(7), guess, BASIC, np.arange(7), images="0123", metrics={"correlation": values.mean()},
        values={"correlation": values}, series={"loss": draws.random(3)},
    )]


@pytest.fixture
def kept(empty_registry, tmp_path):
    """The content of a small ledger, and what is read when it is written back."""
    register(ID, lambda setup: [Run("a", measure, {"deep": [{"x": 1.5}, None]}, seed) for seed in setup.seeds])
    assert run_experiment(ID, dataset="muxspace", seeds=2, data=tmp_path) == 2
    path = Ledger(ID, "book", "muxspace", tmp_path).path

    def read(content):
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        ledger = Ledger(ID, "book", "muxspace", tmp_path)
        return {"runs": ledger.runs, "test_sets": ledger.test_sets, "codes": ledger.codes}

    return json.loads(path.read_text()), read


def walk(node, way=()):
    """The way to every node."""
    yield way
    for name, part in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from walk(part, (*way, name))


def test_any_other_value_anywhere(kept):
    content, read = kept
    expected = read(content)
    ways = [way for way in walk(content) if way and way[:1] != ("codes",)] + [("codes",), ("codes", next(iter(content["codes"])))]
    for way in ways:
        for value in (None, -1, "x", [], {}, float("inf"), float("nan"), True, 10**400):
            changed = copy.deepcopy(content)
            *above, last = way
            place = changed
            for name in above:
                place = place[name]
            place[last] = value
            try:
                assert read(changed) == expected, f"{way} may not be {value!r}"
            except DataError as error:
                assert "table-1.json" in str(error) and len(str(error)) < 600


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"runs": ' + "[" * 100_000 + "]" * 100_000 + "}", "RecursionError|recursion"), ("{", "Expecting"), ("", "Expecting"),
        ('{"id": NaN}', "NaN is not a number"), ('{"id": -Infinity}', "-Infinity is not a number"), ('{"id": 1e400}', "1e400 is"),
        ("7", "it is 7, not an object"), ('{"runs": [[]]}', r"run 1 is \[\], not an object"), ("1" * 5000, "digits"),
    ],
)
def test_any_other_text(kept, text, message):
    _, read = kept
    with pytest.raises(DataError, match=rf"table-1\.json: cannot be read .*({message})"):
        read(text)


def sign(content, number=0):
    """What a careful hand does: make the key and the checksum anew."""
    run = content["runs"][number]
    run["key"] = make_key(run["name"], run["seed"], run["arguments"], run["function"])
    run["checksum"] = checksum_run(run)


def copy_under_another_seed(content, signed):
    run = copy.deepcopy(content["runs"][0])
    run["seed"] = 7
    content["runs"].append(run)
    if signed:
        sign(content, -1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c, run, score: score["metrics"].update(correlation=score["metrics"]["correlation"] + 1e-5), "not what its checksum says"),
        (lambda c, run, score: score["metrics"].update(correlation=0.9) or sign(c), "correlation is 0.9, which is not the mean"),
        (lambda c, run, score: score.update(values=c["runs"][1]["outcomes"][0]["values"]), "not the mean of its values"),
        (lambda c, run, score: score["series"]["loss"].reverse(), "not what its checksum says"),
        (lambda c, run, score: c["test_sets"][score["test_set"]].update(truth="6543210"), "the test set '.*' is not the one"),
        (lambda c, run, score: c["codes"][run["tie"]["code"]].update(toy_experiments="0"), "the code '.*' is not the one"),
        (lambda c, run, score: run["arguments"].update(deep=[]), "its key is '.*', but '.*' by its name, seed, arguments and function"),
        (lambda c, run, score: run["arguments"].update(deep=[]) or run.update(key=make_key("a", 0, {"deep": []}, run["function"])),
         "not what its checksum says"),
        (lambda c, run, score: run.update(function="toy_experiments:answer"), "its key is"),
        (lambda c, run, score: run["files"].update({"left-0.txt": "0"}), "checksum"),
        (lambda c, run, score: run.update(wall_s=1.0), "checksum"),
        (lambda c, run, score: copy_under_another_seed(c, False), "'a', seed 7: its key is"),
        (lambda c, run, score: copy_under_another_seed(c, True), "'a': the seeds 0 and 7 have the same outcome"),
        (lambda c, run, score: c["runs"].append(run), "'a', seed 0 is there twice"),
        (lambda c, run, score: c["test_sets"].update({name_content({**c["test_sets"][score["test_set"]], "truth": "6543210"}):
                                                     {**c["test_sets"][score["test_set"]], "truth": "6543210"}}), "no run is of"),
    ],
)
def test_a_changed_run_is_noticed(kept, change, message):
    content, read = kept
    change(content, content["runs"][0], content["runs"][0]["outcomes"][0])
    with pytest.raises(DataError, match=f"cannot be read .*{message}"):
        read(content)


def test_another_test_set_under_a_signed_run(kept):
    content, read = kept
    score = content["runs"][0]["outcomes"][0]
    other = {**content["test_sets"][score["test_set"]], "truth": "6543210"}
    content["test_sets"][name_content(other)] = other
    score["test_set"] = name_content(other)
    sign(content)
    with pytest.raises(DataError, match="the confusion matrix is not that of the predictions"):
        read(content)


def always_alike(context):
    return [score_predictions("a", "basic", toy.TRUTH, toy.TRUTH, BASIC)]


def just_a_number(context):
    return [Score("a", "", {"seconds": 1.0})]


@pytest.mark.parametrize(("profile", "function", "message"), [
    ("book", always_alike, "'a': the seeds 0 and 1 have the same outcome; a run that draws nothing is planned with the seed None"),
    ("smoke", always_alike, None), ("book", just_a_number, None),
])
def test_seeds_that_change_nothing(empty_registry, tmp_path, profile, function, message):
    register(ID, lambda setup: [Run("a", function, {}, seed) for seed in setup.seeds])
    if message is None:
        assert run_experiment(ID, profile, "muxspace", seeds=2, data=tmp_path) == 2
        assert len(Ledger(ID, profile, "muxspace", tmp_path).runs) == 2
        return
    with pytest.raises(RuntimeError, match=message):
        run_experiment(ID, profile, "muxspace", seeds=2, data=tmp_path)
    assert len(Ledger(ID, profile, "muxspace", tmp_path).runs) == 1

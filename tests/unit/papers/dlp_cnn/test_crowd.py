"""``dlp-cnn/algorithm-1`` on a few faces."""

import numpy as np
import pytest

from fer_utils.datasets import facsynth
from fer_utils.errors import DataError
from fer_utils.experiments import Ledger, find_experiment, judge_claim, run_experiment


@pytest.fixture(scope="module")
def shipped():
    try:
        return facsynth.find_root()
    except DataError:
        pytest.skip("the faces have not been rendered")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_crowd_is_measured_and_judged(shipped, tmp_path):
    assert run_experiment("dlp-cnn/algorithm-1", "smoke", "facsynth", data=tmp_path) == 2
    runs = Ledger("dlp-cnn/algorithm-1", "smoke", "facsynth", tmp_path).runs
    assert [(run["name"], run["seed"]) for run in runs] == [("crowd", None), ("starts", 0)]
    rows = {outcome["row"]: outcome for run in runs for outcome in run["outcomes"]}
    people = rows["annotators"]["metrics"]["value"]
    assert 200 < people <= 315 and 0 < rows["annotators kept"]["metrics"]["value"] < people
    assert 0.8 < rows["Cronbach's alpha"]["metrics"]["value"] < 1
    for start in ("entropy", "summed entropy", "Gaussian prior"):
        for row in (start, f"{start}, Newton steps"):
            climb, metrics = rows[row]["series"]["objective"], rows[row]["metrics"]
            assert len(climb) == metrics["iterations"] and climb == sorted(climb) and climb[-1] == metrics["objective"]
    assert rows["reliability EM"]["metrics"]["accuracy"] > 0.8
    verdict = judge_claim("dlp-cnn/em-starts-better", "smoke", "facsynth", data=tmp_path)
    assert verdict.word == "inconclusive" and "from one seed" in verdict.reason
    assert run_experiment("dlp-cnn/algorithm-1", "smoke", "facsynth", data=tmp_path) == 0, "nothing is run twice"


def test_starts_are_compared_part_by_part():
    runs = [run for run in Ledger("dlp-cnn/algorithm-1", "book", "facsynth").runs if run["name"] == "starts"]
    counts = [{outcome["row"]: outcome["metrics"]["iterations"] for outcome in run["outcomes"]} for run in runs]
    assert len({tuple(count.values()) for count in counts}) == 10, "other faces, other climbs"
    gains = np.array([count["Gaussian prior"] - count["entropy"] for count in counts])
    (estimate,) = judge_claim("dlp-cnn/em-starts-better", "book", "facsynth").estimates
    assert estimate.seeds == 10 and estimate.test_error == 0
    assert estimate.value == pytest.approx(gains.mean())
    assert estimate.seed_error == pytest.approx(gains.std(ddof=1) / np.sqrt(10)), "the spread of the differences"


def test_there_are_as_many_runs_as_parts():
    find = find_experiment("dlp-cnn/algorithm-1").plan
    for profile, seeds, expected in (("smoke", None, 1), ("book", None, 10), ("paper", None, 10), ("book", 3, 3), ("book", 12, 10)):
        planned = [run.seed for run in find(profile, "facsynth", seeds) if run.name == "starts"]
        assert planned == list(range(expected))


def test_faces_without_votes_have_no_crowd():
    assert find_experiment("dlp-cnn/algorithm-1").plan("book", "muxspace") == []

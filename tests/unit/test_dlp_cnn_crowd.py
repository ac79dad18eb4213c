"""``dlp-cnn/algorithm-1`` on a few faces."""

import pytest

from fer_utils.datasets import facsynth
from fer_utils.datasets.base import DataError
from fer_utils.experiments import Ledger, find_experiment, judge_claim, run_experiment


@pytest.fixture(scope="module")
def shipped():
    try:
        return facsynth.find_root()
    except DataError:
        pytest.skip("the faces have not been rendered")


def test_the_crowd_is_measured_and_judged(shipped, tmp_path):
    assert run_experiment("dlp-cnn/algorithm-1", "smoke", "facsynth", data=tmp_path) == 1
    (run,) = Ledger("dlp-cnn/algorithm-1", "smoke", "facsynth", tmp_path).runs
    rows = {outcome["row"]: outcome for outcome in run["outcomes"]}
    people = rows["annotators"]["metrics"]["value"]
    assert 200 < people <= 315 and 0 < rows["annotators kept"]["metrics"]["value"] < people
    assert 0.8 < rows["Cronbach's alpha"]["metrics"]["value"] < 1
    for start in ("entropy", "Gaussian prior", "entropy, Newton steps", "Gaussian prior, Newton steps"):
        climb = rows[start]["series"]["objective"]
        assert len(climb) == rows[start]["metrics"]["iterations"] and climb == sorted(climb)
    assert rows["reliability EM"]["metrics"]["accuracy"] > 0.8
    verdict = judge_claim("dlp-cnn/em-starts-better", "smoke", "facsynth", data=tmp_path)
    assert verdict.word in ("reproduced", "not reproduced", "inconclusive")
    assert run_experiment("dlp-cnn/algorithm-1", "smoke", "facsynth", data=tmp_path) == 0, "nothing is run twice"


def test_faces_without_votes_have_no_crowd():
    assert find_experiment("dlp-cnn/algorithm-1").plan("book", "muxspace") == []

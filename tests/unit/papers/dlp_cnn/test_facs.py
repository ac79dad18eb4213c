from functools import cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from fer_utils.datasets.base import FaceDataset
from fer_utils.experiments import Setup, judge_claim, load_role, run_experiment, summarise_ledger
from fer_utils.experiments.published import load_published
from fer_utils.experiments.recipe import Profile
from fer_utils.papers.dlp_cnn import facs
from fer_utils.papers.dlp_cnn.cross_database import SIX
from fer_utils.papers.dlp_cnn.facs import (
    UNITS,
    arbitrate,
    code_units,
    find_openness,
    find_pseudo_values,
    measure_entropy,
    read_units,
    true_units,
)
from fer_utils.papers.dlp_cnn.recipe import Coding

ID = "dlp-cnn/table-3"
EXACT = Coding(thresholds=(0.2, 0.2), error=0.0, blur=0.0, turn=0.0, slip=0.0)


def make_faces(levels, scale=1.0, yaw=0.0, covered=None):
    """Faces of known units; ``covered`` names a part that is hidden."""
    levels = np.asarray(levels, dtype=float)
    n = len(levels)
    masks = np.ones((n, 100, 100), dtype=np.uint8)
    if covered:
        top, bottom, left, right = facs.PARTS[covered]
        masks[:, top:bottom, left:right] = 6
    units = {f"au_{unit}": levels[:, i] for i, unit in enumerate(UNITS)}
    truth = pd.DataFrame({**units, "scale": scale, "yaw": yaw, "pitch": 0.0}, index=range(n))
    return FaceDataset(
        name="toy", images=np.zeros((n, 100, 100), dtype=np.uint8), labels=np.arange(n) % 6, classes=SIX,
        names=np.array([f"{i}.png" for i in range(n)]), split=np.full(n, "none"), identities=np.arange(n) // 2, truth=truth, masks=masks,
    )


LEVELS = np.random.default_rng(0).choice([0.0, 0.1, 0.5, 0.9], size=(400, len(UNITS)))


def test_only_facsynth_knows_its_units():
    assert facs.plan_table_3(Setup(Profile.BOOK, "muxspace", (0, 1))) == []
    assert [run.seed for run in facs.plan_table_3(Setup(Profile.BOOK, "facsynth", (0, 1)))] == [0, 1]


def test_units_and_rows_are_those_of_the_paper():
    item = load_published("dlp-cnn").item("table-3")
    assert ", ".join(map(str, UNITS[:-1])) + f" and {UNITS[-1]}" in " ".join(item.notes)
    assert set(item.rows) == {"two coders", "all emotions"} and set(item.sequences) == set(SIX)
    assert set(facs.PART_OF) == set(UNITS)


def test_a_coder_without_error_codes_what_was_rendered():
    faces = make_faces(LEVELS)
    first, second, agreed = arbitrate(faces, EXACT, 0)
    for codes in (first, second, agreed):
        np.testing.assert_array_equal(codes, LEVELS > 0.2)


@pytest.mark.parametrize("part", list(facs.PARTS))
def test_what_is_covered_is_not_seen(part):
    faces = make_faces(np.ones((3, len(UNITS))), covered=part)
    hidden = [facs.PART_OF[unit] == part for unit in UNITS]
    open_ = find_openness(faces)
    assert (open_[:, hidden] == 0).all() and (open_[:, ~np.array(hidden)] > 0.5).all()
    assert not read_units(faces, EXACT, np.random.default_rng(0))[:, hidden].any()


@pytest.mark.parametrize(
    ("change", "expected"), [({}, 0.05), ({"scale": 0.4}, 0.10), ({"yaw": 45.0}, 0.10), ({"yaw": -45.0, "scale": 0.4}, 0.15)]
)
def test_readings_err_as_stated(change, expected):
    faces = make_faces(LEVELS, **change)
    error = read_units(faces, Coding(), np.random.default_rng(1)) - LEVELS
    assert error.std() == pytest.approx(expected, rel=0.05) and abs(error.mean()) < 0.01


def test_slips_are_as_frequent_as_stated():
    wrong = code_units(LEVELS, 0.2, 0.05, np.random.default_rng(2)) ^ (LEVELS > 0.2)
    assert wrong.mean() == pytest.approx(0.05, abs=0.01)


def test_where_coders_agree_nobody_arbitrates_and_arbitration_helps():
    faces = make_faces(np.random.default_rng(4).uniform(0, 0.5, (400, len(UNITS))))
    first, second, agreed = arbitrate(faces, Coding(), 5)
    same = first == second
    np.testing.assert_array_equal(agreed[same], first[same])
    truth = true_units(faces) > 0.2
    wrong = [(codes != truth).mean() for codes in (first, second, agreed)]
    assert wrong[2] < min(wrong[:2])
    again = arbitrate(faces, Coding(), 5)
    np.testing.assert_array_equal(first, again[0])
    assert (first != arbitrate(faces, Coding(), 6)[0]).any()


def test_kappa_falls_as_conditions_worsen():
    easy, hard = (arbitrate(make_faces(LEVELS, scale=scale, yaw=yaw), Coding(), 0)[:2] for scale, yaw in ((1.0, 0.0), (0.4, 45.0)))
    kappas = [cohen_kappa_score(first.ravel(), second.ravel()) for first, second in (easy, hard)]
    assert kappas[0] > kappas[1] + 0.1


@given(st.integers(0, 15))
def test_entropy_counts_the_units_that_come_and_go(varying):
    labels = np.repeat(np.arange(6), 4)
    present = np.ones((24, 15), dtype=bool)
    present[::2, :varying] = False
    assert measure_entropy(present, labels) == pytest.approx(varying)


def test_each_class_counts_alike_in_the_entropy():
    labels = np.array([0] * 100 + [1] * 2)
    present = np.zeros((102, 15), dtype=bool)
    present[100] = True  # class 1 is all toss-ups, class 0 never moves
    assert measure_entropy(present, labels) == pytest.approx(7.5)


def test_a_person_is_left_out_with_all_his_faces():
    rng = np.random.default_rng(0)
    people, numbers = rng.integers(0, 12, 60), rng.random(60)
    value, each = find_pseudo_values(lambda rows: float(np.mean(numbers[rows]) ** 2), people)
    assert value == pytest.approx(numbers.mean() ** 2) == pytest.approx(each.mean())
    without = np.array([numbers[people != p].mean() ** 2 for p in np.unique(people)])
    error = np.sqrt(np.sum((without - without.mean()) ** 2) * (len(without) - 1) / len(without))
    summed = np.array([np.sum(each[people == p] - value) / 60 for p in np.unique(people)])
    count = len(without)
    assert np.sqrt(np.sum(summed**2) * count / (count - 1)) == pytest.approx(error), "the estimator's sum over a person's faces"


@pytest.mark.parametrize("what", ["truth", "masks"])
def test_other_faces_are_refused(what):
    faces = make_faces(LEVELS[:4]).replace(**{what: None})
    with pytest.raises(ValueError, match=r"toy (does not know its action units|has no region masks)"):
        (true_units if what == "truth" else find_openness)(faces)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fer_utils.experiments.context.load_role", cache(load_role))
        run_experiment(ID, "smoke", "facsynth", data=folder, seeds=2)
    return folder


def test_the_table_runs_and_the_claim_is_judged(smoke):
    found = summarise_ledger(ID, "smoke", "facsynth", smoke).set_index(["row", "role", "metric"])["value"]
    assert found["two coders", "basic", "images"] == found["two coders", "lab", "images"] == 309
    for role in ("basic", "lab"):
        assert 0 < found["two coders", role, "kappa"] < 1
        shares = [found[emotion, role, f"AU{unit}"] for emotion in SIX for unit in UNITS]
        assert min(shares) >= 0 and max(shares) <= 1
    assert found["happiness", "lab", "AU12"] > 0.9 > 0.2 > found["happiness", "lab", "AU4"]
    assert judge_claim("dlp-cnn/units-more-diverse", "smoke", "facsynth", smoke).word != "not attempted"

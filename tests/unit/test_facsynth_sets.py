from collections import Counter

import numpy as np
import pytest

from fer_utils.facsynth.sets import COMPOUND_TEST, PEOPLE, SETS, plan_set
from fer_utils.labels import BASIC, CKPLUS, COMPOUND


@pytest.fixture(scope="module")
def plans():
    return {name: plan_set(name, seed=7) for name in SETS}


def test_sizes_are_the_promised_ones(plans):
    sizes = {name: Counter(job.split for job in jobs) for name, jobs in plans.items()}
    assert sizes == {
        "basic": {"train": 6136, "test": 3068}, "compound": {"train": 3162, "test": 792}, "lab": {"none": 327 * 4},
        "basic-more": {"test": 3 * 3068}, "compound-more": {"test": 3 * 792},
    }


def test_class_counts_are_the_owners(plans):
    test = Counter(job.emotion for job in plans["basic"] if job.split == "test")
    assert [test[e] for e in BASIC] == [329, 74, 160, 1185, 478, 162, 680]
    train = Counter(job.emotion for job in plans["basic"] if job.split == "train")
    owners = np.array([1290, 281, 717, 4772, 1982, 705, 2524])
    assert np.abs(np.array([train[e] for e in BASIC]) / 6136 - owners / owners.sum()).max() < 1e-3
    compound = Counter(job.emotion for job in plans["compound"] if job.split == "test")
    assert tuple(compound[e] for e in COMPOUND) == COMPOUND_TEST
    apexes = Counter(job.emotion for job in plans["lab"] if job.stage == 1)
    assert apexes == {"anger": 45, "contempt": 18, "disgust": 59, "fear": 25, "happiness": 69, "sadness": 28, "surprise": 83}


def test_names_are_unique_and_labels_encode_the_emotion(plans):
    for jobs in plans.values():
        assert len({job.name for job in jobs}) == len(jobs)
    assert all(BASIC[job.label - 1] == job.emotion for job in plans["basic"])
    assert all(COMPOUND[job.label - 1] == job.emotion for job in plans["compound"])
    assert all(CKPLUS.decode(job.label) == job.emotion for job in plans["lab"])


def test_nobody_is_on_both_sides(plans):
    for name in ("basic", "compound"):
        train, test = ({job.person for job in plans[name] if job.split == split} for split in ("train", "test"))
        assert not train & test
    assert len({job.person for job in plans["lab"]}) == PEOPLE["lab"][1] == 123
    more = {job.person for name in ("basic-more", "compound-more") for job in plans[name]}
    assert not more & {job.person for name in ("basic", "compound", "lab") for job in plans[name]}


@pytest.mark.parametrize("name", ["basic", "compound"])
def test_more_faces_go_on_where_the_test_faces_end(plans, name):
    test, more = [job for job in plans[name] if job.split == "test"], plans[f"{name}-more"]
    assert len({job.name for job in test + more}) == 4 * len(test)
    assert more[0].name == f"test_{len(test) + 1:04d}"
    first, second = (Counter(job.label for job in jobs) for jobs in (test, more))
    assert second == {label: 3 * count for label, count in first.items()}
    assert not {job.key for job in test} & {job.key for job in more}


def test_frames_of_a_recording_share_what_is_random(plans):
    by_key = {}
    for job in plans["lab"]:
        by_key.setdefault(job.key, []).append(job)
    assert len(by_key) == 327
    for frames in by_key.values():
        assert [f.stage for f in frames] == [0.0, 0.86, 0.95, 1.0]
        assert len({(f.person, f.emotion, f.name.rsplit("_", 1)[0]) for f in frames}) == 1


def test_a_plan_follows_from_its_seed():
    assert plan_set("basic", 3) == plan_set("basic", 3)
    assert plan_set("basic", 3) != plan_set("basic", 4)


def test_unknown_set():
    with pytest.raises(ValueError, match="expected one of"):
        plan_set("wild", 1)

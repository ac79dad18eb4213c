"""Targets of the decoders: of the class, never the sample itself where another exists, evenly, and by gender."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_utils.papers.dam_cnn.pairs import Drawn, Fixed, Itself
from fer_utils.training.fingerprint import describe

LABELS = np.array([0, 1, 0, 2, 1, 0, 0, 1])  # the sample 3 is alone in its class
GENDERS = np.array(["male", "female", "female", "male", "male", "male", "female", "male"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.integers(1, 4), st.integers(0, 10**6))
def test_targets_are_others_of_the_class(labels, paths, seed):
    labels = torch.tensor(labels)
    torch.manual_seed(seed)
    positions = torch.randint(len(labels), (64,))
    targets = Drawn(labels.numpy(), paths)(positions)
    assert targets.shape == (64, paths) and targets.dtype == torch.int64
    assert (labels[targets] == labels[positions][:, None]).all()
    alone = labels.bincount()[labels[positions]] == 1
    assert torch.equal(targets == positions[:, None], alone[:, None].expand_as(targets))


def test_they_are_drawn_evenly_and_path_by_path():
    targets = Drawn(LABELS, 2)(torch.zeros(6000, dtype=torch.int64))
    for path in range(2):
        counts = torch.bincount(targets[:, path], minlength=8)
        assert set(counts.nonzero().flatten().tolist()) == {2, 5, 6}
        assert (counts[[2, 5, 6]] - 2000).abs().max() < 200
    assert 0.28 < float((targets[:, 0] == targets[:, 1]).float().mean()) < 0.39, "one path knows nothing of the other"


def test_each_path_has_its_gender():
    labels, genders = np.delete(LABELS, 3), np.delete(GENDERS, 3)
    drawn = Drawn(labels, 2, genders)
    positions = torch.arange(7).repeat(200)
    targets = drawn(positions)
    for path, name in enumerate(("female", "male")):
        assert (genders[targets[:, path]] == name).all()
        assert (labels[targets[:, path]] == labels[positions]).all()
        for position in range(7):
            others = {i for i in range(7) if labels[i] == labels[position] and genders[i] == name and i != position}
            assert set(targets[positions == position, path].tolist()) == (others or {position})


def test_drawn_once_they_stay():
    drawn = Drawn(LABELS, 3)
    fixed, again, other = Fixed(drawn, 1), Fixed(drawn, 1), Fixed(drawn, 2)
    positions = torch.tensor([5, 0, 5, 7])
    before = torch.get_rng_state()
    assert torch.equal(fixed(positions), fixed(positions)) and torch.equal(fixed(positions), again(positions))
    assert torch.equal(torch.get_rng_state(), before), "nothing is drawn while it is trained"
    assert not torch.equal(fixed(torch.arange(8)), other(torch.arange(8)))
    assert not torch.equal(drawn(positions.repeat(9)), drawn(positions.repeat(9))), "drawn anew they do not"
    assert describe(fixed) == describe(again) != describe(other)


def test_a_plain_autoencoder_makes_the_sample_itself():
    assert Itself(2)(torch.tensor([4, 1])).tolist() == [[4, 4], [1, 1]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Drawn([], 2), r"at least 1 sample and 1 path, got 0 and 2"),
        (lambda: Drawn(LABELS, 0), r"at least 1 sample and 1 path, got 8 and 0"),
        (lambda: Drawn(LABELS, 3, GENDERS), r"groups must be 8, one a sample, of 3 names, one a path, got 8 of female, male"),
        (lambda: Drawn(LABELS, 2, GENDERS[:4]), r"groups must be 8, one a sample, of 2 names, one a path, got 4 of female, male"),
        (lambda: Drawn(LABELS, 2, GENDERS), r"no sample of class 2 is of the group female; expected every class in every group"),
    ],
)
def test_errors_name_what_was_expected(make, message):
    with pytest.raises(ValueError, match=message):
        make()

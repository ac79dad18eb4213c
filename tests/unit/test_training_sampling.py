"""Which samples a step takes: each sampler keeps its promise, and a step does not depend on those before it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_utils.training import Balanced, BalancedLabels, Pairs, Shuffled
from fer_utils.training.sampling import Pool, split_batch

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 60)
COLUMNS = {"attributes": (RNG.random((60, 2)) < (0.2, 0.7)).astype(np.uint8)}


@pytest.mark.parametrize("sampler", [Shuffled(), Balanced(), Pairs(), Pairs(1.0), BalancedLabels("attributes")], ids=str)
def test_a_step_is_a_function_of_seed_and_step(sampler):
    pool = Pool(60, LABELS, COLUMNS)
    order, again, other = (sampler.make_order(pool, 16, seed) for seed in (3, 3, 4))
    batches = [order(step) for step in range(12)]
    assert all(b.shape == (16,) and b.dtype == torch.int64 and b.min() >= 0 and b.max() < 60 for b in batches)
    for step in reversed(range(12)):
        assert torch.equal(again(step), batches[step]), "a step does not depend on those before it"
    assert not torch.equal(other(0), batches[0])


@given(count=st.integers(1, 40), batch=st.integers(1, 50), seed=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_every_sample_comes_once_in_a_round(count, batch, seed):
    order = Shuffled().make_order(Pool(count), batch, seed)
    stream = torch.cat([order(step) for step in range(4 * count // batch + 2)]).numpy()
    for start in range(0, len(stream) - count + 1, count):
        assert np.array_equal(np.sort(stream[start : start + count]), np.arange(count))


def test_balanced_batches_hold_classes_evenly():
    labels = np.repeat([0, 1, 2], [900, 90, 10])
    for sampler, expected in ((Balanced(), [1 / 3, 1 / 3, 1 / 3]), (Shuffled(), [0.9, 0.09, 0.01])):
        order = sampler.make_order(Pool(1000, labels), 100, 0)
        drawn = np.bincount(labels[torch.cat([order(step) for step in range(40)]).numpy()], minlength=3) / 4000
        np.testing.assert_allclose(drawn, expected, atol=0.04 if sampler == Balanced() else 0)


@given(
    labels=st.lists(st.integers(0, 4), min_size=2, max_size=30).filter(lambda found: len(set(found)) > 1),
    same=st.sampled_from([0.0, 0.25, 0.5, 1.0]), seed=st.integers(0, 3),
)
@settings(max_examples=80, deadline=None)
def test_pairs_are_of_one_class_or_of_two_as_asked(labels, same, seed):
    labels = np.array(labels)
    order = Pairs(same).make_order(Pool(len(labels), labels), 8, seed)
    firsts = []
    for step in range(2 * len(labels)):
        first, second = order(step).numpy().reshape(2, 4)
        alike = labels[first] == labels[second]
        assert alike.sum() == round(4 * same)
        alone = np.bincount(labels)[labels[first]] == 1
        assert np.all(((first != second) | alone)[alike]), "another sample, where the class has one"
        firsts.append(first)
    assert np.array_equal(np.unique(np.concatenate(firsts)), np.arange(len(labels))), "everybody is a first member"


def test_second_members_are_drawn_evenly():
    labels = np.repeat([0, 1, 2], [3, 5, 12])
    order = Pairs(0.5).make_order(Pool(20, labels), 40, 0)
    drawn = torch.cat([order(step).view(2, -1) for step in range(600)], 1).numpy()
    chosen = drawn[:, drawn[0] == 0]  # partners of sample 0: two of its class, 17 of others
    counts = np.bincount(chosen[1], minlength=20) / chosen.shape[1]
    np.testing.assert_allclose(counts, [0, *[0.25] * 2, *[0.5 / 17] * 17], atol=0.06)
    assert counts[3:].min() > 0


def test_labels_are_balanced_one_by_one():
    rare = RNG.random(60) < 0.2
    for columns in (rare, np.stack([rare, ~rare], 1)):  # two opposite labels: half of each share, so half of the batch
        order, seen = BalancedLabels("eyes").make_order(Pool(60, None, {"eyes": columns}), 16, 0), []
        for step in range(20):
            batch = order(step).numpy()
            assert len(batch) == 16 and rare[batch].sum() == 8
            seen.append(batch)
        assert np.array_equal(np.unique(np.concatenate(seen)), np.arange(60)), "everybody comes"


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_a_batch_and_keep_pairs_together(processes):
    order = Pairs(0.5).make_order(Pool(60, LABELS), 16, 0)
    whole, shares = order(0), []
    for process in range(processes):
        mine = split_batch(whole, 2, process, processes)
        first, second = mine.chunk(2)
        places = [int((whole[:8] == f).nonzero()[0]) for f in first]
        assert all(whole[8 + place] == s for place, s in zip(places, second, strict=True))
        shares.append(mine)
    assert torch.equal(torch.cat(shares).sort().values, whole.sort().values)
    images = torch.arange(12).view(6, 2)
    assert torch.equal(torch.cat([split_batch(images, 1, process, 3) for process in range(3)]), images)


@pytest.mark.parametrize(
    ("sampler", "pool", "size", "message"),
    [
        (Balanced(), Pool(4), 2, "Balanced needs labels of each sample; known: nothing"),
        (Pairs(), Pool(4, np.array([0, 1, 0, 1])), 3, "Pairs needs an even batch_size, got 3"),
        (Pairs(), Pool(4, np.zeros(4, np.int64)), 2, "Pairs needs samples of at least 2 classes"),
        (BalancedLabels("eyes"), Pool(4, np.zeros(4)), 2, "BalancedLabels needs eyes of each sample; known: labels"),
        (BalancedLabels("eyes"), Pool(4, None, {"eyes": np.ones(4)}), 2, "eyes has no negative samples of label 0"),
        (BalancedLabels("eyes"), Pool(4, None, {"eyes": np.eye(4)}), 4, "shares a batch among 8 kinds of samples; batch_size 4"),
    ],
)
def test_what_cannot_be_drawn(sampler, pool, size, message):
    with pytest.raises(ValueError, match=message):
        sampler.make_order(pool, size, 0)
    with pytest.raises(ValueError, match=r"same must be from 0 to 1, got 1.5"):
        Pairs(1.5)

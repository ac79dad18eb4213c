"""The locality preserving loss over a training set: its bank against a plain search in double precision."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_utils.losses import LocalityPreservingLoss

SIZE = 6


def draw(count: int, size: int = SIZE, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


def plain(
    embeddings: torch.Tensor, indices: torch.Tensor, classes: torch.Tensor, memory: dict[int, torch.Tensor], k: int, divisor: str = "found"
) -> float:
    """Eq. 4 by sorting true distances; ``memory`` holds the newest feature of each sample that was seen."""
    total = 0.0
    for x, i in zip(embeddings.double(), indices.tolist(), strict=True):
        others = [f.double() for j, f in memory.items() if classes[j] == classes[i] and j != i]
        near = sorted(others, key=lambda f, x=x: float((f - x).square().sum()))[:k]
        if near or divisor == "k":
            mean = sum(near, torch.zeros_like(x)) / (k if divisor == "k" else len(near))
            total += float((x - mean).square().sum())
    return total / (2 * len(embeddings))


def bank_of(classes: torch.Tensor, k: int, size: int = SIZE, **options: object) -> LocalityPreservingLoss:
    return LocalityPreservingLoss(k, train_labels=classes, embedding_size=size, **options)


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(1, 40), classes=st.integers(1, 5), k=st.integers(1, 12), batch=st.integers(1, 9), far=st.sampled_from([0.0, 30.0]),
    divisor=st.sampled_from(["found", "k"]), seed=st.integers(0, 999),
)  # fmt: skip
def test_the_bank_is_a_plain_search(count: int, classes: int, k: int, batch: int, far: float, divisor: str, seed: int) -> None:
    """Step after step, from an empty bank; samples come twice, classes are smaller than k, features drift."""
    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(rng.integers(0, classes, count))
    loss, memory = bank_of(labels, k, divisor=divisor), {}
    for step in range(5):
        indices = torch.from_numpy(rng.integers(0, count, batch))
        embeddings = draw(batch, seed=seed + step) + far
        memory |= dict(zip(indices.tolist(), embeddings, strict=True))
        expected = plain(embeddings, indices, labels, memory, k, divisor)
        assert float(loss(embeddings, labels[indices], indices)) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_neighbours_are_exact_among_many() -> None:
    labels, features = torch.arange(900) % 3, draw(900, 32)
    loss = bank_of(labels, 20, 32)
    loss.update_bank(features, torch.arange(900))
    loss.eval()
    queries = torch.arange(0, 900, 30)
    fresh = features[queries] + 0.1 * draw(30, 32, seed=1)
    found = loss._search(fresh - loss.origins[labels[queries]], labels[queries], loss.rows[queries])
    order = loss.rows.argsort()  # which sample is in a row
    distances = torch.cdist(fresh.double(), features.double()).where(labels[queries, None] == labels, torch.inf)
    distances[torch.arange(30), queries] = torch.inf
    assert torch.equal(order[found].sort(1).values, distances.topk(20, largest=False).indices.sort(1).values)


@pytest.mark.parametrize("moved", [False, True], ids=["at once", "after a drift"])
def test_neighbours_are_exact_far_from_the_origin_of_space(moved: bool) -> None:
    """Classes that have collapsed to a thousandth of their distance from 0: squared lengths and products alone would cancel."""
    labels = torch.arange(200) % 2
    features = 100 * draw(2, seed=1)[labels] + 0.1 * draw(200)
    memory = dict(enumerate(features))
    squares = features.square().sum(1)
    naive = (squares - 2 * features @ features.T).where(labels[:, None] == labels, torch.inf).fill_diagonal_(torch.inf)
    true = torch.cdist(features.double(), features.double()).where(labels[:, None] == labels, torch.inf).fill_diagonal_(torch.inf)
    assert not torch.equal(naive.topk(5, largest=False).indices.sort(1).values, true.topk(5, largest=False).indices.sort(1).values)
    loss = bank_of(labels, 5)
    if moved:
        loss.update_bank(draw(200, seed=2), torch.arange(200))
    loss.update_bank(features, torch.arange(200))
    value = loss.eval()(features, labels, torch.arange(200))
    assert float(value) == pytest.approx(plain(features, torch.arange(200), labels, memory, 5), rel=1e-4)


@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 1e-6), (torch.float16, 3e-4), (torch.bfloat16, 2e-3)])
def test_half_types_round_differences_not_features(dtype: torch.dtype, within: float) -> None:
    """At a distance of 300 bfloat16 itself steps by 2: the spread of 1 would be lost."""
    labels, features = torch.zeros(60, dtype=torch.int64), draw(60) + 300
    loss = bank_of(labels, 59, bank_dtype=dtype)
    for start in range(0, 60, 20):
        loss.update_bank(features[start : start + 20], torch.arange(start, start + 20))
    assert loss.features.dtype == dtype
    means = (features.sum(0) - features) / 59
    (slope,) = torch.autograd.grad(loss.eval()(free := features.clone().requires_grad_(), labels, torch.arange(60)), free)
    assert (slope * 60 - (features - means)).abs().max() < within * (features - means).abs().max() + 1e-4


def test_a_small_class_gives_what_it_has() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    features, everyone = draw(6), torch.arange(6)
    loss, literal = bank_of(labels, 20), bank_of(labels, 20, divisor="k")
    alone = loss(features[5:], labels[5:], everyone[5:])
    assert alone == 0 and literal(features[5:], labels[5:], everyone[5:]) > 0, "nothing to go to, against: to the origin"
    for each in (loss, literal):
        each.update_bank(features, everyone)
    free = features.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(free, labels, everyone), free)
    torch.testing.assert_close(slope[:3] * 6, features[:3] - (features[:3].sum(0) - features[:3]) / 2)
    torch.testing.assert_close(slope[3:5] * 6, features[3:5] - features[[4, 3]])
    assert not slope[5].any()
    (slope,) = torch.autograd.grad(literal(free, labels, everyone), free)
    torch.testing.assert_close(slope[3] * 6, features[3] - features[4] / 20)


def test_the_batch_alone_has_too_few_neighbours() -> None:
    """RAF-DB's training classes: a batch of 64 holds 1.5 faces of fear, so k = 20 neighbours are in the training set or nowhere."""
    sizes = torch.tensor([1290, 281, 717, 4772, 1982, 705, 2524])
    labels = torch.repeat_interleave(torch.arange(7), sizes)
    assert 64 * sizes[1] / sizes.sum() == pytest.approx(1.47, abs=0.01)
    features = draw(len(labels), 2)
    loss = bank_of(labels, 20, 2)
    loss.update_bank(features, torch.arange(len(labels)))
    loss.eval()
    chosen = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))[:64]
    whole, batch = loss(features[chosen], labels[chosen], chosen), loss(features[chosen], labels[chosen])
    assert batch > 20 * whole, "what few there are lie far off"


def test_evaluation_reads_the_bank_and_leaves_it() -> None:
    labels, features = torch.arange(20) % 2, draw(20)
    loss = bank_of(labels, 3, refresh=2)
    loss.update_bank(features, torch.arange(20))
    before = {key: tensor.clone() for key, tensor in loss.state_dict().items()}
    loss.eval()(draw(4, seed=1), labels[:4], torch.arange(4))
    with torch.no_grad():
        loss.train()(draw(4, seed=1), labels[:4], torch.arange(4))
    torch.testing.assert_close(dict(loss.state_dict()), before)
    value = loss(draw(4, seed=1), labels[:4], torch.arange(4))
    assert value > 0 and not torch.equal(loss.features, before["features"])


def test_neighbours_are_kept_for_refresh_steps() -> None:
    labels = torch.zeros(10, dtype=torch.int64)
    loss = bank_of(labels, 2, 1, refresh=3)
    places = torch.arange(10.0)[:, None]
    loss.update_bank(places, torch.arange(10))

    def neighbours() -> list[int]:
        loss(places[:1], labels[:1], torch.tensor([0]))
        return sorted(loss.rows.argsort()[loss.found_rows[loss.rows[0]].long()].tolist())

    assert neighbours() == [1, 2]
    loss.update_bank(torch.tensor([[50.0], [0.5]]), torch.tensor([1, 9]))
    kept = loss.eval()(places[:1], labels[:1], torch.tensor([0]))
    assert float(kept) == pytest.approx((0 - (50 + 2) / 2) ** 2 / 2), "the old neighbours, at their newest features"
    loss.train()
    assert neighbours() == [1, 2] and neighbours() == [1, 2]
    assert neighbours() == [2, 9], "three steps after the search"


def test_too_few_neighbours_are_searched_again_at_once() -> None:
    labels = torch.zeros(4, dtype=torch.int64)
    loss = bank_of(labels, 2, 1, refresh=100)
    for i in range(4):
        loss(torch.tensor([[float(i)]]), labels[:1], torch.tensor([i]))
    assert [(loss.found_rows[loss.rows[i]] >= 0).sum().item() for i in range(4)] == [0, 1, 2, 2]
    loss(torch.tensor([[0.0]]), labels[:1], torch.tensor([0]))
    assert (loss.found_rows[loss.rows[0]] >= 0).all()


def test_of_a_sample_that_comes_twice_the_last_counts() -> None:
    loss = bank_of(torch.zeros(3, dtype=torch.int64), 1, 1)
    loss.update_bank(torch.tensor([[1.0], [5.0], [2.0], [9.0]]), torch.tensor([0, 1, 0, 2]))
    assert (loss.features + loss.origins)[loss.rows].flatten().tolist() == pytest.approx([2, 5, 9])


def test_sizes_and_state() -> None:
    labels = torch.arange(12) % 3
    loss = bank_of(labels, 2, bank_dtype=torch.float16)
    assert loss.features.shape == (12, SIZE) and loss.features.element_size() == 2
    assert torch.equal(loss.row_classes, labels.sort().values) and torch.equal(loss.row_classes[loss.rows], labels)
    assert set(loss.state_dict()) == {"train_labels", "features", "squares", "origins", "written"}
    forgetful = bank_of(labels, 2, persistent=False)
    forgetful.load_state_dict(forgetful.state_dict())
    assert not forgetful.state_dict() and not LocalityPreservingLoss(2).state_dict()
    with pytest.raises(RuntimeError, match="train_labels: the bank was made for another training set"):
        bank_of(labels.flip(0), 2, bank_dtype=torch.float16).load_state_dict(loss.state_dict())
    assert "k=2, bank [12, 6] torch.float16, refresh=1" in repr(loss)


LABELS = torch.arange(12) % 3


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: LocalityPreservingLoss(0), "k and refresh must be at least 1, got k=0"),
        (lambda: bank_of(LABELS, 2, refresh=0), "refresh=0"),
        (lambda: bank_of(LABELS, 2, bank_dtype=torch.int8), "bank_dtype must be one of torch.float32"),
        (lambda: bank_of(LABELS, 2, divisor="n"), "divisor must be one of 'found', 'k'"),
        (lambda: LocalityPreservingLoss(train_labels=LABELS), "needs embedding_size"),
        (lambda: bank_of(LABELS - 1, 2), r"train_labels must be integers \[N\] from 0"),
        (lambda: bank_of(LABELS.float(), 2), "train_labels must be integers"),
        (lambda: bank_of(LABELS[:0], 2), "at least one"),
        (lambda: LocalityPreservingLoss(2)(draw(3), LABELS[:3], torch.arange(3)), "indices need a bank"),
        (lambda: LocalityPreservingLoss(2).update_bank(draw(3), torch.arange(3)), "indices need a bank"),
        (lambda: bank_of(LABELS, 2)(draw(3), LABELS[:3], torch.arange(3) + 1), "labels must be train_labels at indices"),
        (lambda: bank_of(LABELS, 2)(draw(3), LABELS[:3], torch.arange(3) + 10), "indices must be 0 to 11, got 10 to 12"),
        (lambda: bank_of(LABELS, 2)(draw(3), LABELS[:3], torch.arange(3) - 1), "indices must be 0 to 11, got -1 to 1"),
        (lambda: bank_of(LABELS, 2)(draw(3, 5), LABELS[:3], torch.arange(3)), r"embeddings \[B, 6\] .* got embeddings \[3, 5\]"),
        (lambda: bank_of(LABELS, 2).update_bank(draw(3), torch.arange(4)), r"indices \[4\]"),
    ],
)
def test_bad_input(act: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        act()

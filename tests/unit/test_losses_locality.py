"""The locality preserving loss over a training set: its bank against a plain search in double precision."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from fer_utils.losses import FeatureBank, LocalityPreservingLoss
from fer_utils.losses import bank as bank_module

SIZE = 6


def draw(count: int, size: int = SIZE, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


def plain(embeddings: torch.Tensor, indices: torch.Tensor, classes: torch.Tensor, memory: dict[int, torch.Tensor], k: int) -> float:
    """Eq. 4 by sorting true distances; ``memory`` holds the newest feature of each sample that was seen."""
    total = 0.0
    for x, i in zip(embeddings.double(), indices.tolist(), strict=True):
        others = [f.double() for j, f in memory.items() if classes[j] == classes[i] and j != i]
        near = sorted(others, key=lambda f, x=x: float((f - x).square().sum()))[:k]
        if near:
            total += float((x - sum(near) / len(near)).square().sum())
    return total / (2 * len(embeddings))


def bank_of(classes: torch.Tensor, features: torch.Tensor | None = None, size: int = SIZE) -> FeatureBank:
    """A bank, filled with the features of all samples if there are any."""
    bank = FeatureBank(classes, size if features is None else features.shape[1])
    if features is not None:
        bank.update(features, torch.arange(len(classes)))
    return bank


def content(bank: FeatureBank) -> torch.Tensor:
    """The features ``[N, D]`` that were put in, by sample."""
    return bank.features[bank.rows] + bank.origins[bank.train_labels]


@pytest.fixture(params=[True, False], ids=["on a CPU", "as on a GPU"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search class by class, and the one that looks at no value."""
    monkeypatch.setattr(bank_module, "reads_values", lambda tensor: request.param)


# -- the search -----------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    count=st.integers(1, 40), classes=st.integers(1, 5), k=st.integers(1, 12), batch=st.integers(1, 9), far=st.sampled_from([0.0, 30.0]),
    seed=st.integers(0, 999),
)  # fmt: skip
def test_the_bank_is_a_plain_search(count: int, classes: int, k: int, batch: int, far: float, seed: int, place: None) -> None:
    """Step after step, from an empty bank; samples come twice, classes are smaller than k, features drift."""
    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(rng.integers(0, classes, count))
    loss, memory = LocalityPreservingLoss(k, bank=bank_of(labels)), {}
    for step in range(5):
        indices = torch.from_numpy(rng.integers(0, count, batch))
        embeddings = draw(batch, seed=seed + step) + far
        memory |= dict(zip(indices.tolist(), embeddings, strict=True))
        expected = plain(embeddings, indices, labels, memory, k)
        assert float(loss(embeddings, labels[indices], indices)) == pytest.approx(expected, rel=1e-4, abs=1e-6)
        seen = torch.tensor(sorted(memory))
        torch.testing.assert_close(content(loss.bank)[seen], torch.stack([memory[i] for i in seen.tolist()]))


def test_neighbours_are_exact_among_many(place: None) -> None:
    labels, features = torch.arange(900) % 3, draw(900, 32)
    bank = bank_of(labels, features)
    queries = torch.arange(0, 900, 30)
    fresh = features[queries] + 0.1 * draw(30, 32, seed=1)
    distances = torch.cdist(fresh.double(), features.double()).where(labels[queries, None] == labels, torch.inf)
    distances[torch.arange(30), queries] = torch.inf
    found = bank.find_neighbours(fresh, labels[queries], queries, 20)
    assert torch.equal(found, distances.topk(20, largest=False).indices), "the nearest first"


def test_who_was_never_seen_is_nobodys_neighbour(place: None) -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    bank = bank_of(labels, size=1)
    bank.update(torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([0, 1, 3]))
    found = bank.find_neighbours(torch.tensor([[0.2], [4.0], [4.0], [9.0]]), labels[[0, 2, 3, 5]], torch.tensor([0, 2, 3, 5]), 3)
    assert found.tolist() == [[1, -1, -1], [1, 0, -1], [-1, -1, -1], [-1, -1, -1]]
    away = bank.subtract_means(torch.tensor([[0.2], [4.0], [4.0], [9.0]]), labels[[0, 2, 3, 5]], found)
    torch.testing.assert_close(away, torch.tensor([[0.2 - 1], [4 - 0.5], [0.0], [0.0]]))
    assert bank.find_neighbours(torch.zeros(1, 1), labels[:1], torch.tensor([0]), 20).shape == (1, 20), "more than there are samples"


@pytest.mark.parametrize("moved", [False, True], ids=["at once", "after a drift"])
def test_neighbours_are_exact_far_from_the_origin_of_space(moved: bool, place: None) -> None:
    """Classes that have collapsed to a thousandth of their distance from 0: squared lengths and products alone would cancel."""
    labels = torch.arange(200) % 2
    features = 100 * draw(2, seed=1)[labels] + 0.1 * draw(200)
    memory = dict(enumerate(features))
    squares = features.square().sum(1)
    naive = (squares - 2 * features @ features.T).where(labels[:, None] == labels, torch.inf).fill_diagonal_(torch.inf)
    true = torch.cdist(features.double(), features.double()).where(labels[:, None] == labels, torch.inf).fill_diagonal_(torch.inf)
    assert not torch.equal(naive.topk(5, largest=False).indices.sort(1).values, true.topk(5, largest=False).indices.sort(1).values)
    bank = bank_of(labels, draw(200, seed=2) if moved else None)
    bank.update(features, torch.arange(200))
    value = LocalityPreservingLoss(5, bank=bank).eval()(features, labels, torch.arange(200))
    assert float(value) == pytest.approx(plain(features, torch.arange(200), labels, memory, 5), rel=1e-4)


def test_differences_far_from_the_origin_of_space_are_exact() -> None:
    """At a distance of 300 the spread of 1 loses nothing."""
    labels, features = torch.zeros(60, dtype=torch.int64), draw(60) + 300
    bank = bank_of(labels)
    for start in range(0, 60, 20):
        bank.update(features[start : start + 20], torch.arange(start, start + 20))
    loss, free = LocalityPreservingLoss(59, bank=bank).eval(), features.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(free, labels, torch.arange(60)), free)
    exact = features.double()
    torch.testing.assert_close(slope.double() * 60, exact - (exact.sum(0) - exact) / 59, rtol=1e-5, atol=1e-5)


def test_a_small_class_gives_what_it_has() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    features, everyone = draw(6), torch.arange(6)
    loss = LocalityPreservingLoss(20, bank=bank_of(labels))
    assert loss(features[5:], labels[5:], everyone[5:]) == 0, "nothing to go to"
    loss.bank.update(features, everyone)
    free = features.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(free, labels, everyone), free)
    torch.testing.assert_close(slope[:3] * 6, features[:3] - (features[:3].sum(0) - features[:3]) / 2)
    torch.testing.assert_close(slope[3:5] * 6, features[3:5] - features[[4, 3]])
    assert not slope[5].any()


def test_the_batch_alone_has_too_few_neighbours() -> None:
    """RAF-DB's training classes: a batch of 64 holds 1.5 faces of fear, so k = 20 neighbours are in the training set or nowhere."""
    sizes = torch.tensor([1290, 281, 717, 4772, 1982, 705, 2524])
    labels = torch.repeat_interleave(torch.arange(7), sizes)
    assert 64 * sizes[1] / sizes.sum() == pytest.approx(1.47, abs=0.01)
    features = draw(len(labels), 2)
    loss = LocalityPreservingLoss(20, bank=bank_of(labels, features)).eval()
    chosen = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))[:64]
    whole, batch = loss(features[chosen], labels[chosen], chosen), loss(features[chosen], labels[chosen])
    assert batch > 20 * whole, "what few there are lie far off"


# -- what the bank keeps --------------------------------------------------------------------------------------------------


def test_evaluation_reads_the_bank_and_leaves_it() -> None:
    labels = torch.arange(20) % 2
    loss = LocalityPreservingLoss(3, bank=bank_of(labels, draw(20)))
    before = {key: tensor.clone() for key, tensor in loss.state_dict().items()}
    loss.eval()(draw(4, seed=1), labels[:4], torch.arange(4))
    with torch.no_grad():
        loss.train()(draw(4, seed=1), labels[:4], torch.arange(4))
    torch.testing.assert_close(dict(loss.state_dict()), before)
    value = loss(draw(4, seed=1), labels[:4], torch.arange(4))
    assert value > 0 and not torch.equal(loss.bank.features, before["bank.features"])


class LaterFirst(TorchDispatchMode):
    """Indexed writes from the last row to the first, as a GPU may do them."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ == "index_put_":
            target, (rows,), values = args
            args = target, [rows.flip(0)], values.flip(0)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("order", [nullcontext, LaterFirst])
def test_of_a_sample_that_comes_twice_the_last_counts(order: Callable) -> None:
    bank = bank_of(torch.zeros(3, dtype=torch.int64), size=1)
    with order():
        bank.update(torch.tensor([[1.0], [5.0], [2.0], [9.0]]), torch.tensor([0, 1, 0, 2]))
        assert content(bank).flatten().tolist() == pytest.approx([2, 5, 9])
        assert bank.origins.flatten().tolist() == pytest.approx([16 / 3])
        bank.update(torch.tensor([[1.0], [torch.nan]]), torch.tensor([0, 0]))
    assert content(bank).flatten().tolist() == pytest.approx([2, 5, 9]), "the last, which is none: the bank stays"


@settings(max_examples=25, deadline=None)
@given(batches=st.lists(st.lists(st.integers(0, 11), min_size=1, max_size=9), min_size=1, max_size=8))
def test_origins_are_the_means_whenever_half_is_newer(batches: list[list[int]]) -> None:
    """The sums behind distances stay small only as long as features are stored from the middle of where they are now."""
    bank, newer, ever = bank_of(torch.arange(12) % 3), 0, 0
    for step, batch in enumerate(batches):
        bank.update(draw(len(batch), seed=step) + 10 * step, torch.tensor(batch))
        newer, ever = newer + len(batch), ever + len(batch)
        if 2 * newer >= min(ever, 12):
            newer = 0
            for label in range(3):
                rows = (bank.row_labels == label) & bank.squares.isfinite()
                if rows.any():
                    torch.testing.assert_close(bank.features[rows].mean(0), torch.zeros(SIZE), rtol=0, atol=1e-4)
        seen = bank.squares.isfinite()
        torch.testing.assert_close(bank.squares[seen], bank.features[seen].square().sum(1))
        assert not bank.features[~seen].any()
        assert bank.counts.tolist() == [newer, ever]


def test_sizes_and_state() -> None:
    labels = torch.arange(12) % 3
    bank = bank_of(labels, draw(12))
    assert torch.equal(bank.row_labels, labels.sort().values) and torch.equal(bank.row_labels[bank.rows], labels)
    assert torch.equal(bank.samples[bank.rows], torch.arange(12))
    fixed = labels.numpy().copy()
    fixed.flags.writeable = False  # as those of a dataset are
    assert torch.equal(FeatureBank(fixed, 6).train_labels, labels)
    assert set(bank.state_dict()) == {"train_labels", "features", "squares", "origins", "has_origin", "counts"}
    assert not LocalityPreservingLoss(2).state_dict()
    loss = LocalityPreservingLoss(2, bank=bank)
    assert set(loss.state_dict()) == {f"bank.{key}" for key in bank.state_dict()}
    for target, source in ((bank_of(labels.flip(0)), bank), (LocalityPreservingLoss(2, bank=bank_of(labels.flip(0))), loss)):
        with pytest.raises(RuntimeError, match="train_labels: the bank was made for another training set"):
            target.load_state_dict(source.state_dict())
    assert "k=2, reduction='mean'" in repr(loss) and "12 samples, 3 classes, embedding_size=6" in repr(loss)


def test_the_bank_serves_other_losses() -> None:
    """A margin to the nearest of the class, say: nothing in the bank is about one loss."""
    labels, features = torch.arange(12) % 3, draw(12)
    bank = bank_of(labels, features)
    indices = torch.tensor([3, 8])
    embeddings = (features[indices] + 0.1).requires_grad_()
    nearest = bank.find_neighbours(embeddings, labels[indices], indices, 1)
    hinges = (bank.subtract_means(embeddings, labels[indices], nearest).norm(dim=1) - 0.5).relu()
    torch.testing.assert_close(hinges, ((embeddings - features[nearest[:, 0]]).norm(dim=1) - 0.5).relu())
    hinges.sum().backward()
    assert embeddings.grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_and_autocast_make_no_coarser_search(dtype: torch.dtype) -> None:
    labels, features, everyone = torch.arange(200) % 2, (100 + draw(200)).to(dtype), torch.arange(200)
    plain_bank, bank = bank_of(labels, features.float()), bank_of(labels)
    with torch.autocast("cpu", dtype):
        bank.update(features, everyone)
        found = bank.find_neighbours(features, labels, everyone, 5)
        away = bank.subtract_means(features, labels, found)
    assert torch.equal(found, plain_bank.find_neighbours(features.float(), labels, everyone, 5))
    torch.testing.assert_close(away, plain_bank.subtract_means(features.float(), labels, found))
    torch.testing.assert_close(bank.state_dict(), plain_bank.state_dict())


LABELS = torch.arange(12) % 3


def loss_of(k: int) -> LocalityPreservingLoss:
    return LocalityPreservingLoss(k, bank=bank_of(LABELS))


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: LocalityPreservingLoss(0), "k must be at least 1, got 0"),
        (lambda: FeatureBank(LABELS, 0), "embedding_size must be at least 1, got 0"),
        (lambda: FeatureBank(LABELS - 1, 2), r"train_labels must be integers \[N\] from 0"),
        (lambda: FeatureBank(LABELS.float(), 2), "train_labels must be integers"),
        (lambda: FeatureBank(LABELS[:0], 2), "at least one"),
        (lambda: loss_of(2)(draw(3), LABELS[:3], torch.arange(3) + 1), "labels must be train_labels at indices"),
        (lambda: loss_of(2)(draw(3), LABELS[:3], torch.arange(3) + 10), "indices must be 0 to 11, got 10 to 12"),
        (lambda: loss_of(2)(draw(3), LABELS[:3], torch.arange(3) - 1), "indices must be 0 to 11, got -1 to 1"),
        (lambda: loss_of(2)(draw(3, 5), LABELS[:3], torch.arange(3)), r"embeddings \[B, 6\] .* got embeddings \[3, 5\]"),
        (lambda: bank_of(LABELS).update(draw(3), torch.arange(4)), r"indices \[4\]"),
    ],
)
def test_bad_input(act: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        act()

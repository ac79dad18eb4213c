"""The losses inside pytorch-metric-learning: its trainer, its sum of losses, its miners and its memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from pytorch_metric_learning import losses, miners, trainers
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.reducers import SumReducer
from torch import nn
from torch.utils.data import TensorDataset

from fer_utils.losses import (
    CenterLoss,
    ContrastiveLoss,
    FeatureBank,
    IslandLoss,
    IsletsLoss,
    LocalityPreservingLoss,
    TripletCenterLoss,
)

CLASSES, SIZE, BATCH, MARGIN = 3, 4, 12, 2.0
LOSSES = {
    "center": lambda: CenterLoss(CLASSES, SIZE),
    "center by gradient": lambda: CenterLoss(CLASSES, SIZE, update="gradient"),
    "locality": lambda: LocalityPreservingLoss(2),
    "locality with a bank": lambda: LocalityPreservingLoss(2, bank=FeatureBank(torch.arange(24) % CLASSES, SIZE)),
    "island": lambda: IslandLoss(CLASSES, SIZE, init_std=1.0),
    "islets": lambda: IsletsLoss(CLASSES, SIZE, init_std=1.0),
    "triplet-centre": lambda: TripletCenterLoss(CLASSES, SIZE),
    "contrastive": lambda: ContrastiveLoss(margin=MARGIN),
}
MINERS = {
    "pairs": lambda: miners.PairMarginMiner(pos_margin=0.5, neg_margin=3.0, distance=LpDistance(normalize_embeddings=False)),
    "triplets": lambda: miners.TripletMarginMiner(margin=1.0, distance=LpDistance(normalize_embeddings=False)),
    "nothing": lambda: miners.PairMarginMiner(pos_margin=1e6, neg_margin=-1.0, distance=LpDistance(normalize_embeddings=False)),
}


class Reference(losses.ContrastiveLoss):
    """The library's contrastive loss with the paper's formula: how it forms pairs and what it does with a miner's is its own."""

    def __init__(self) -> None:
        super().__init__(0, MARGIN, distance=LpDistance(normalize_embeddings=False), reducer=SumReducer())

    def get_per_pair_loss(self, pair_dists: torch.Tensor, pos_or_neg: str) -> torch.Tensor:
        return (pair_dists if pos_or_neg == "pos" else (MARGIN - pair_dists).relu()).square() / 2


class Memory(losses.CrossBatchMemory):
    """The library's memory, which tells losses by the names of their classes."""

    @staticmethod
    def supported_losses() -> list[str]:
        return [*losses.CrossBatchMemory.supported_losses(), "Reference"]


def sample(seed: int = 0, count: int = BATCH) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, SIZE, generator=generator).requires_grad_(), torch.arange(count) % CLASSES


def run_trainer(loss: nn.Module, miner: nn.Module | None = None) -> tuple[nn.Linear, list[float]]:
    """Two steps of the library's trainer on toy data."""
    torch.manual_seed(0)
    trunk, seen = nn.Linear(5, SIZE), []
    data = TensorDataset(torch.randn(2 * BATCH, 5), torch.arange(2 * BATCH) % CLASSES)
    optimizers = {"trunk_optimizer": torch.optim.SGD(trunk.parameters(), 0.01)}
    if list(loss.parameters()):
        optimizers["metric_loss_optimizer"] = torch.optim.SGD(loss.parameters(), 0.01)
    trainers.MetricLossOnly(
        {"trunk": trunk, "embedder": nn.Identity()}, optimizers, BATCH, {"metric_loss": loss}, data,
        mining_funcs={} if miner is None else {"tuple_miner": miner}, data_device=torch.device("cpu"), dataloader_num_workers=0,
        end_of_iteration_hook=lambda trainer: seen.append(float(trainer.losses["metric_loss"].detach())),
    ).train()  # fmt: skip
    return trunk, seen


@pytest.mark.parametrize("name", LOSSES)
def test_the_librarys_trainer_trains_with_each(name: str) -> None:
    torch.manual_seed(0)
    start = nn.Linear(5, SIZE).weight
    loss = LOSSES[name]()
    centres = loss.centres.detach().clone() if hasattr(loss, "centres") else None
    trunk, seen = run_trainer(loss)
    assert len(seen) == 2 and all(0 < value < 100 for value in seen)
    assert not torch.equal(trunk.weight, start)
    assert centres is None or not torch.equal(loss.centres, centres), "the centres move too, by their rule or by an optimiser"


@pytest.mark.parametrize("kind", ["pairs", "triplets"])
def test_the_librarys_trainer_gives_contrastive_loss_what_a_miner_found(kind: str) -> None:
    trunk, seen = run_trainer(ContrastiveLoss(margin=MARGIN, reduction="sum"), MINERS[kind]())
    other, expected = run_trainer(Reference(), MINERS[kind]())
    assert seen == pytest.approx(expected, rel=1e-5) and seen[0] > 0
    torch.testing.assert_close(trunk.weight, other.weight)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "contrastive"])
def test_the_others_refuse_what_a_miner_found(name: str) -> None:
    for miner in (MINERS["pairs"](), MINERS["triplets"]()):
        with pytest.raises(ValueError, match=r"indices must be a tensor \[B\], got tuple; .* only ContrastiveLoss takes a miner's tuple"):
            run_trainer(LOSSES[name](), miner)


def test_the_librarys_sum_of_losses() -> None:
    embeddings, labels = sample()
    torch.manual_seed(0)
    ours = {name: make() for name, make in LOSSES.items()}
    values = {name: loss.eval()(embeddings, labels) for name, loss in ours.items()}
    weights = {name: 0.5 + number for number, name in enumerate(ours)}
    total = losses.MultipleLosses(ours, weights=weights)(embeddings, labels)
    torch.testing.assert_close(total, sum(weights[name] * value for name, value in values.items()))
    miner = MINERS["triplets"]()
    values["contrastive"] = ours["contrastive"](embeddings, labels, miner(embeddings, labels))
    total = losses.MultipleLosses(ours, miners={"contrastive": miner})(embeddings, labels)
    torch.testing.assert_close(total, sum(values.values()))
    seen = run_trainer(losses.MultipleLosses([loss.train() for loss in ours.values()]))[1]
    assert len(seen) == 2 and all(value > 0 for value in seen)


# -- miners and memory, against the library's own contrastive loss ---------------------------------------------------------


def assert_same(ours: Callable, reference: Callable, seed: int = 0, factor: float = 1.0) -> None:
    """Values and gradients of ours, times a factor, are the reference's."""
    results = []
    for compute in (ours, reference):
        embeddings, labels = sample(seed)
        value = compute(embeddings, labels)
        value.sum().backward()
        results.append((value.detach().reshape(()), embeddings.grad))
    torch.testing.assert_close(results[0][0] * factor, results[1][0])
    torch.testing.assert_close(results[0][1] * factor, results[1][1])


@pytest.mark.parametrize("kind", MINERS)
@pytest.mark.parametrize("pairs", ["all", "halves"])
def test_mined_pairs_are_the_librarys(kind: str, pairs: str) -> None:
    loss, reference, miner = ContrastiveLoss(margin=MARGIN, pairs=pairs, reduction="sum"), Reference(), MINERS[kind]()
    assert_same(lambda e, y: loss(e, y, miner(e, y)), lambda e, y: reference(e, y, miner(e, y)))


def test_its_own_pairs_are_the_librarys_counted_once() -> None:
    assert_same(ContrastiveLoss(margin=MARGIN, reduction="sum"), Reference(), factor=2)


def test_the_mean_is_over_pairs_of_both_kinds() -> None:
    embeddings, labels = sample()
    found = MINERS["triplets"]()(embeddings, labels)
    total, mean = (ContrastiveLoss(margin=MARGIN, reduction=reduction)(embeddings, labels, found) for reduction in ("sum", "mean"))
    torch.testing.assert_close(mean * 2 * len(found[0]), total)


@pytest.mark.parametrize("kind", [None, "pairs", "triplets"])
def test_the_librarys_memory(kind: str | None) -> None:
    miner = None if kind is None else MINERS[kind]()
    ours, reference = (
        Memory(loss, SIZE, memory_size=3 * BATCH, miner=miner) for loss in (ContrastiveLoss(margin=MARGIN, reduction="sum"), Reference())
    )
    for seed in range(5):  # the memory fills up and starts over
        assert_same(ours, reference, seed)


def test_pairs_with_other_embeddings() -> None:
    (others, other_labels), loss, reference = sample(7, 9), ContrastiveLoss(margin=MARGIN, reduction="sum"), Reference()
    for miner in (None, MINERS["pairs"](), MINERS["triplets"]()):
        found = None if miner is None else miner(*sample(), others, other_labels)
        assert_same(
            lambda e, y, found=found: loss(e, y, found, others, other_labels),
            lambda e, y, found=found: reference(e, y, found, others, other_labels),
        )
    with pytest.raises(ValueError, match=r"ref_emb must be \[R, 4\] with ref_labels \[R\], got \[9, 4\] with none"):
        loss(*sample(), None, others)
    with pytest.raises(ValueError, match=r"ref_emb must be \[R, 4\] with ref_labels \[R\], got \[9, 3\] with \[9\]"):
        loss(*sample(), None, others[:, 1:], other_labels)
    with pytest.raises(ValueError, match="pairs='halves' are two halves of one batch; with ref_emb use pairs='all' or a miner"):
        ContrastiveLoss(pairs="halves")(*sample(), None, others, other_labels)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mined_pairs_are_computed_in_float32(dtype: torch.dtype) -> None:
    loss, found = ContrastiveLoss(margin=MARGIN), (torch.tensor([0, 1]), torch.tensor([3, 4]), torch.tensor([0]), torch.tensor([1]))
    embeddings, labels = sample()
    half = embeddings.detach().to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype):
        value = loss(half, labels, found)
    value.backward()
    assert value.dtype == torch.float32 and half.grad.dtype == dtype
    torch.testing.assert_close(value, loss(half.float(), labels, found))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: (y, y), "got 2 of 12, 12"),
        (lambda y: (y, y, y[1:]), "got 3 of 12, 12, 11"),
        (lambda y: (y, y[1:], y, y), "got 4 of 12, 11, 12, 12"),
        (lambda y: (y, y, y[1:], y), "got 4 of 12, 12, 11, 12"),
        (lambda y: (y, y, y.float()), r"integers \[P\], got tensor"),
        (lambda y: ([0], [1], [2]), r"integers \[P\], got \[0\]"),
        (lambda y: (y + BATCH, y, y), "a miner's anchors must be 0 to 11, got 12 to 14"),
        (lambda y: (y, y - 1, y), "a miner's positives and negatives must be 0 to 11, got -1 to 2"),
    ],
)
def test_a_tuple_that_no_miner_makes(change: Callable, message: str) -> None:
    embeddings, labels = sample()
    with pytest.raises(ValueError, match=message):
        ContrastiveLoss()(embeddings, labels, change(labels))

"""Two processes that share each batch learn what one would, with the losses of the book and of pytorch-metric-learning."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pytorch_metric_learning import losses as library
from torch import distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from fer_utils.losses import (
    CenterLoss,
    ContrastiveLoss,
    FeatureBank,
    GatheredLoss,
    IslandLoss,
    IsletsLoss,
    LocalityPreservingLoss,
    TripletCenterLoss,
)

CLASSES, SIZE, BATCH = 4, 6, 10
TRAIN_LABELS = torch.arange(24) % CLASSES


def make_banked() -> LocalityPreservingLoss:
    bank = FeatureBank(TRAIN_LABELS, SIZE)
    known = 3 if distributed.is_initialized() and distributed.get_rank() else 16  # the first process's are those that count
    bank.update(torch.randn(known, SIZE), torch.arange(known))
    return LocalityPreservingLoss(3, bank=bank)


WITH_CENTRES = {"center": CenterLoss, "island": IslandLoss, "islets": IsletsLoss, "triplet-centre": TripletCenterLoss}
LOSSES: dict[str, Callable[[], nn.Module]] = {
    **{
        f"{name}, {update}": lambda kind=kind, update=update: kind(CLASSES, SIZE, update=update, init_std=1.0)
        for name, kind in WITH_CENTRES.items()
        for update in ("alpha", "gradient")
    },
    "contrastive": lambda: ContrastiveLoss(margin=3.0),
    "locality in the batch": lambda: LocalityPreservingLoss(2),
    "locality": make_banked,
    "the library's triplets": library.TripletMarginLoss,
    "the library's proxies": lambda: library.ProxyAnchorLoss(CLASSES, SIZE),
}


def train(name: str, rank: int | None, steps: int = 4) -> dict[str, object]:
    """Four steps of a layer and a loss, alone or as one of two, each of which starts with a layer and a state of its own."""
    torch.manual_seed(rank or 0)
    layer, loss = nn.Linear(5, SIZE), GatheredLoss(LOSSES[name]())
    network = layer if rank is None else DistributedDataParallel(layer)
    # unlike shares, so that a mean of the two losses would be another
    share = slice(None) if rank is None else slice(7, None) if rank else slice(7)
    optimizer = torch.optim.SGD([*layer.parameters(), *loss.parameters()], lr=0.1)
    values, slopes = [], []
    generator = torch.Generator().manual_seed(9)
    for _ in range(steps):
        images, indices = torch.randn(BATCH, 5, generator=generator), torch.randint(24, (BATCH,), generator=generator)
        embeddings = network(images[share])
        value = loss(embeddings, TRAIN_LABELS[indices[share]], indices[share])
        (slope,) = torch.autograd.grad(value, embeddings, retain_graph=True)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.detach())
        slopes.append(slope)
    state = {**layer.state_dict(), **loss.state_dict()}
    return {"values": values, "slopes": slopes, "state": {key: tensor.detach().clone() for key, tensor in state.items()}}


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    results = {name: train(name, rank) for name in LOSSES}
    halves = GatheredLoss(ContrastiveLoss(margin=3.0, pairs="halves"))
    results["halves"] = halves(*draw_halves(rank)).detach()
    torch.save(results, folder / f"{rank}.pt")
    distributed.destroy_process_group()


def draw_halves(rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(rank)
    return torch.randn(4, SIZE, generator=generator), torch.tensor([0, 1, 0, rank])


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict]]:
    folder = tmp_path_factory.mktemp("processes")
    multiprocessing.spawn(work, (folder,), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", LOSSES)
def test_two_processes_learn_what_one_would(name: str, shared: list[dict[str, dict]]) -> None:
    alone = train(name, None)
    first, second = (results[name] for results in shared)
    assert all(torch.equal(first["state"][key], second["state"][key]) for key in first["state"]), "in step, to the bit"
    assert first["values"] == second["values"]
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(first["values"], alone["values"], **close)
    torch.testing.assert_close(first["state"], alone["state"], **close)
    for step, slope in enumerate(alone["slopes"]):
        both = torch.cat([first["slopes"][step], second["slopes"][step]])
        torch.testing.assert_close(both / 2, slope, **close)  # DistributedDataParallel takes the mean of two
    before = train(name, None, steps=0)["state"]
    learnt = {key for key in before if not torch.equal(before[key], alone["state"][key])}
    keeps = {"centres", "proxies", "bank.features", "bank.squares"}
    assert "weight" in learnt and {key for key in before if key.removeprefix("loss.") in keeps} <= learnt


def test_halves_of_a_share_are_its_own(shared: list[dict[str, dict]]) -> None:
    for rank, results in enumerate(shared):
        expected = ContrastiveLoss(margin=3.0, pairs="halves")(*draw_halves(rank))
        torch.testing.assert_close(results["halves"], expected)


class Recorder(nn.Module):
    """A loss that keeps what it was called with."""

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor, indices_tuple: tuple | None = None) -> torch.Tensor:
        self.seen = (embeddings, labels, indices_tuple)
        return embeddings.sum()


class Counting(Recorder):
    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor | None = None) -> torch.Tensor:
        return super().forward(embeddings, labels, indices)


def test_in_one_process_it_calls_the_loss() -> None:
    given = torch.randn(4, SIZE), torch.arange(4), torch.arange(4) + 7
    for loss, expected in ((Recorder(), (*given[:2], None)), (Counting(), given)):
        gathered = GatheredLoss(loss)
        gathered(*given)
        assert all(seen is value for seen, value in zip(loss.seen, expected, strict=True)), "the tensors themselves; indices where they fit"
        gathered(*given[:2])
        assert loss.seen[2] is None
    bank = copy.deepcopy(make_banked())
    assert set(GatheredLoss(bank).state_dict()) == {f"loss.{key}" for key in bank.state_dict()}

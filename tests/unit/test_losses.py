"""What all losses promise: one call, gradients, precision, odd batches, state, and no waiting for a GPU."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

from fer_utils.losses import (
    CenterLoss,
    ContrastiveLoss,
    FeatureBank,
    IslandLoss,
    IsletsLoss,
    LocalityPreservingLoss,
    TripletCenterLoss,
)
from fer_utils.losses import bank as bank_module
from fer_utils.losses import base as base_module
from fer_utils.losses.base import EmbeddingLoss, LossWithCentres

CLASSES, SIZE, BATCH = 4, 6, 10
WITH_CENTRES = {"center": CenterLoss, "island": IslandLoss, "islets": IsletsLoss, "triplet-centre": TripletCenterLoss}
TRAIN_LABELS = torch.arange(24) % CLASSES


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(name: str, **options: object) -> EmbeddingLoss:
    """A loss with centres, margins and a bank that matter for a batch of ``sample``."""
    torch.manual_seed(3)
    if name in WITH_CENTRES:
        margin = {"margin": 6.0} if name == "triplet-centre" else {}
        return WITH_CENTRES[name](CLASSES, SIZE, init_std=1.0, **margin, **options)
    if name == "contrastive":
        return ContrastiveLoss(margin=3.0, **options)
    if name == "batch":
        return LocalityPreservingLoss(2, **options)
    bank = FeatureBank(TRAIN_LABELS, SIZE)
    bank.update(torch.randn(24, SIZE), torch.arange(24))
    return LocalityPreservingLoss(3, bank=bank, **options)


def sample(seed: int = 0, count: int = BATCH, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Embeddings that want a gradient, labels, and which training samples they are."""
    indices = torch.randperm(24, generator=seeded(seed))[:count]
    embeddings = torch.randn(count, SIZE, generator=seeded(seed), dtype=torch.float64).to(dtype)
    return embeddings.requires_grad_(), TRAIN_LABELS[indices], indices


NAMES = [*WITH_CENTRES, "contrastive", "batch", "bank"]


def call(name: str, loss: EmbeddingLoss, embeddings: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    return loss(embeddings, labels, indices) if name == "bank" else loss(embeddings, labels)


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=WITH_CENTRES)
def centred(request: pytest.FixtureRequest) -> str:
    return request.param


# -- the call -------------------------------------------------------------------------------------------------------------


def test_one_call_serves_all(name: str) -> None:
    embeddings, labels, indices = sample()
    value = make(name)(embeddings, labels)
    assert value.shape == () and value.dtype == torch.float32 and value > 0
    if name != "batch":
        same = name != "bank"
        assert (make(name)(embeddings, labels.to(torch.uint8), indices) == value) == same, "indices matter where there is a bank alone"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e, y: (e[0], y), r"embeddings must be float \[B, D\]"),
        (lambda e, y: (e[:0], y[:0]), "at least one"),
        (lambda e, y: (e.long(), y), "embeddings must be float"),
        (lambda e, y: (e, y[1:]), "labels must be 10 integers"),
        (lambda e, y: (e, y.float()), "labels must be 10 integers"),
        (lambda e, y: (e, y.bool()), "labels must be 10 integers"),
        (lambda e, y: (e, y.tolist()), r"labels must be a tensor \[B\], got list"),
        (lambda e, y: (e, y, y[1:]), "indices must be 10 integers"),
    ],
)
def test_bad_input(name: str, change: Callable, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(name)(*change(*sample()[:2]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e, y: (e[:, 1:], y), "the centres' 6 dimensions, got 5"),
        (lambda e, y: (e, y + 1), "labels must be 0 to 3, got 1 to 4"),
        (lambda e, y: (e, y - 1), "labels must be 0 to 3, got -1 to 2"),
    ],
)
def test_bad_input_for_centres(centred: str, change: Callable, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(centred)(*change(*sample()[:2]))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: CenterLoss(1, 4), "at least 2 classes"),
        (lambda: CenterLoss(4, 0), "embedding_size=0"),
        (lambda: CenterLoss(4, 4, alpha=0), "alpha must be above 0"),
        (lambda: CenterLoss(4, 4, update="sgd"), "update must be one of 'alpha', 'gradient', got 'sgd'"),
        (lambda: CenterLoss(4, 4, reduction="none"), "reduction must be one of"),
        (lambda: CenterLoss(4, 4, init_std=0), "init_std must be positive"),
        (lambda: IslandLoss(4, 4, centre_rule="exact"), "centre_rule must be one of"),
        (lambda: IsletsLoss(4, 4, centre_rule="printed", update="gradient"), "autograd moves the centres"),
        (lambda: TripletCenterLoss(4, 4, centre_rule="printed", update="gradient"), "autograd moves the centres"),
        (lambda: TripletCenterLoss(4, 4, margin=0), "margin must be positive"),
        (lambda: ContrastiveLoss(margin=-1), "margin must be positive"),
        (lambda: ContrastiveLoss(pairs="hard"), "pairs must be one of"),
        (lambda: ContrastiveLoss(pairs="halves")(*sample(count=3)[:2]), "even number of embeddings, got 3"),
    ],
)
def test_bad_options(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


# -- gradients ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradients_are_those_of_the_value(name: str, reduction: str) -> None:
    loss = make(name, reduction=reduction).eval()
    embeddings, labels, indices = sample(dtype=torch.float64)
    if name == "batch":  # its neighbours are constants, so its value is no function of one batch alone: see test_losses_papers
        loss.k = 1
        embeddings = torch.randn(CLASSES, SIZE, dtype=torch.float64, generator=seeded()).requires_grad_()
        labels = indices = torch.arange(CLASSES)
    assert torch.autograd.gradcheck(lambda e: call(name, loss, e, labels, indices), embeddings)


def test_gradients_reach_the_centres(centred: str) -> None:
    loss = make(centred, update="gradient")
    embeddings, labels, _ = sample(dtype=torch.float64)
    centres = loss.centres.detach().double().requires_grad_()
    assert torch.autograd.gradcheck(lambda e, c: functional_call(loss, {"centres": c}, (e, labels)), (embeddings, centres))


def test_mean_is_sum_over_number(name: str) -> None:
    embeddings, labels, indices = sample()
    pairs = BATCH * (BATCH - 1) // 2 if name == "contrastive" else BATCH
    values = []
    for reduction in ("mean", "sum"):
        loss = make(name, reduction=reduction)
        between = loss._between(loss.centres) if isinstance(loss, IslandLoss) else 0
        values.append(call(name, loss, embeddings, labels, indices) - between)
    torch.testing.assert_close(values[0] * pairs, values[1])


# -- precision ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_are_computed_in_float32(name: str, dtype: torch.dtype) -> None:
    results = []
    for autocast in (True, False):
        embeddings, labels, indices = sample(dtype=dtype)
        loss = make(name)
        with torch.autocast("cpu", dtype, enabled=autocast):
            value = call(name, loss, embeddings if autocast else embeddings.float(), labels, indices)
        value.backward()
        assert value.dtype == torch.float32 and embeddings.grad.dtype == dtype
        results.append((value, embeddings.grad, loss.state_dict()))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


def test_what_is_not_finite_stays_out(name: str) -> None:
    """A gradient scaler drops such a step; the state must not remember it."""
    embeddings, labels, indices = sample()
    with torch.no_grad():
        embeddings[0, 0], embeddings[1, 1] = torch.inf, torch.nan
    loss, other = make(name), make(name)
    assert not call(name, loss, embeddings, labels, indices).isfinite(), "the loss does show it"
    call(name, other, embeddings[2:], labels[2:], indices[2:])
    kept, expected = ({key: value for key, value in each.state_dict().items() if key != "bank.counts"} for each in (loss, other))
    torch.testing.assert_close(kept, expected)


# -- odd batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("update", ["alpha", "gradient"])
def test_a_class_absent_from_the_batch(centred: str, update: str) -> None:
    loss = make(centred, update=update)
    before = loss.centres.detach().clone()
    embeddings, labels, _ = sample()
    labels = labels % 2  # 2 and 3 are absent
    value = loss(embeddings, labels)
    value.backward()
    assert value.isfinite() and embeddings.grad.isfinite().all() and embeddings.grad.any()
    moved = loss.centres.grad if update == "gradient" else loss.centres - before
    assert moved.isfinite().all() and moved[:2].any(1).all()
    if centred == "center":
        assert not moved[2:].any(), "nothing pulls it"
    if centred in ("island", "islets"):
        assert moved[2:].any(1).all(), "the other centres push it"


def test_one_sample_a_class_and_one_sample_at_all(name: str) -> None:
    for count in (CLASSES, 1):
        embeddings = torch.randn(count, SIZE, generator=seeded()).requires_grad_()
        labels = torch.arange(count)
        value = call(name, make(name), embeddings, labels, labels)
        value.backward()
        assert value.isfinite() and embeddings.grad.isfinite().all()
        if name == "batch" or (name == "contrastive" and count == 1):
            assert value == 0 and not embeddings.grad.any(), "no neighbour, no pair"
        else:
            assert value > 0 and embeddings.grad.any()


@pytest.mark.parametrize("update", ["alpha", "gradient"])
@pytest.mark.parametrize("place", [0.0, 1.0])
def test_coincident_centres(centred: str, update: str, place: float) -> None:
    loss = make(centred, update=update)
    loss.centres.data.fill_(place)
    embeddings, labels, _ = sample()
    with torch.no_grad():
        embeddings[0] = place
    value = loss(embeddings, labels)
    value.backward()
    assert value.isfinite() and embeddings.grad.isfinite().all() and loss.centres.isfinite().all()
    if update == "gradient":
        assert loss.centres.grad.isfinite().all() and loss.centres.grad.norm() < 100
    if centred == "triplet-centre":
        assert value == loss.margin and not embeddings.grad.any()
    if centred in ("island", "islets"):
        expected = 0.2 * CLASSES * (CLASSES - 1) * (2 if place else 1) + (0.9 if centred == "islets" else 0)
        torch.testing.assert_close(loss._between(torch.full((CLASSES, SIZE), place)), torch.tensor(expected))


def test_coincident_embeddings(name: str) -> None:
    _, labels, indices = sample()
    embeddings = torch.ones(BATCH, SIZE, requires_grad=True)
    value = call(name, make(name), embeddings, labels, indices)
    value.backward()
    assert value.isfinite() and embeddings.grad.isfinite().all()
    if name == "contrastive":
        apart = (labels[:, None] != labels).double().triu().sum() / (BATCH * (BATCH - 1) / 2)
        torch.testing.assert_close(value.double(), apart * 3**2 / 2)


# -- centres and state ----------------------------------------------------------------------------------------------------


def test_centres_move_in_training_alone(centred: str) -> None:
    embeddings, labels, _ = sample()
    loss = make(centred)
    before = loss.centres.clone()
    loss.eval()(embeddings, labels)
    loss.train()
    with torch.no_grad():
        value = loss(embeddings, labels)
    assert torch.equal(loss.centres, before)
    assert loss(embeddings, labels) == value, "the value is that of the centres before the step"
    assert not torch.equal(loss.centres, before)
    assert list(loss.parameters()) == [] and next(make(centred, update="gradient").parameters()).shape == (CLASSES, SIZE)


def test_state_continues_where_it_was_saved(name: str, tmp_path: Path) -> None:
    def train(loss: EmbeddingLoss, batches: range) -> None:
        for seed in batches:
            call(name, loss, *sample(seed))

    whole, first = make(name), make(name)
    train(whole, range(7))
    train(first, range(3))  # amid what the bank counts until it takes new origins
    torch.save(first.state_dict(), tmp_path / "state.pt")
    resumed = make(name)
    for tensor in resumed.state_dict().values():
        tensor.fill_(1)
    if name == "bank":
        resumed.bank.train_labels.copy_(TRAIN_LABELS)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    train(resumed, range(3, 7))
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0, atol=0)
    assert bool(whole.state_dict()) == (name not in ("batch", "contrastive")), "centres or a bank"
    copied = copy.deepcopy(resumed)
    torch.testing.assert_close(call(name, copied, *sample(9)), call(name, resumed, *sample(9)), rtol=0, atol=0)


def test_either_update_saves_the_same_name(centred: str) -> None:
    other = make(centred, update="gradient")
    other.load_state_dict(make(centred).state_dict())
    assert isinstance(other, LossWithCentres) and list(other.state_dict()) == ["centres"]


def test_the_optimiser_can_move_the_centres() -> None:
    """Gradient descent on the centres alone brings them to the class means, as the alpha rule does."""
    embeddings, labels, _ = sample(count=20)
    means = torch.stack([embeddings[labels == c].mean(0) for c in range(CLASSES)]).detach()
    learned, ruled = make("center", update="gradient"), make("center")
    optimiser = torch.optim.SGD(learned.parameters(), lr=2.0)
    for _ in range(60):
        optimiser.zero_grad()
        learned(embeddings.detach(), labels).backward()
        optimiser.step()
        ruled(embeddings, labels)
    torch.testing.assert_close(learned.centres.data, means, rtol=0, atol=1e-5)
    torch.testing.assert_close(ruled.centres, means, rtol=0, atol=1e-5)


# -- a GPU, without one ----------------------------------------------------------------------------------------------------

#: Operations after which Python knows a value or a shape that depends on values: on a GPU it waits for them.
WAITING = {
    "_local_scalar_dense", "_unique2", "bincount", "equal", "is_nonzero", "item", "masked_select", "nonzero", "repeat_interleave",
    "unique_consecutive", "unique_dim",
}  # fmt: skip


class NeverWaits(TorchDispatchMode):
    """Fail at an operation that would wait for a GPU; an index of booleans looks for the true ones."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        indices = args[1] if name in ("index", "index_put", "index_put_", "_index_put_impl_") else []
        masks = [index for index in indices if index is not None and index.dtype in (torch.bool, torch.uint8)]
        assert name not in WAITING and not masks, f"{func} waits for a value"
        return func(*args, **(kwargs or {}))


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values are not looked at, as where that would have to wait."""
    for module in (base_module, bank_module):
        monkeypatch.setattr(module, "reads_values", lambda tensor: False)


@pytest.mark.parametrize(
    "act", [
        lambda x: x[x > 0], lambda x: x.__setitem__(x > 0, torch.ones(2)), lambda x: float(x[0]), lambda x: bool(x.any()),
        lambda x: x.unique(),
    ],
)
def test_waiting_is_noticed(act: Callable) -> None:
    with NeverWaits(), pytest.raises(AssertionError, match="waits for a value"):
        act(torch.arange(3.0))


@pytest.mark.parametrize("update", ["alpha", "gradient"])
def test_a_step_never_waits_for_a_gpu(name: str, update: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the checks left to the GPU, five steps read no value and give what they give on a CPU; the bank takes new origins on the way."""
    options = {"update": update} if name in WITH_CENTRES else {}
    ordinary, loss = make(name, **options), make(name, **options)
    expected = [call(name, ordinary, *sample(seed)).detach() for seed in range(5)]
    steps = [sample(seed) for seed in range(5)]
    for module in (base_module, bank_module):
        monkeypatch.setattr(module, "reads_values", lambda tensor: False)
    with NeverWaits():
        values = [call(name, loss, *step) for step in steps]
        for value in values:
            value.backward()
    torch.testing.assert_close([value.detach() for value in values], expected)
    torch.testing.assert_close(loss.state_dict(), ordinary.state_dict())


def test_what_does_not_fit_is_noticed_on_a_gpu_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (base_module, bank_module):
        monkeypatch.setattr(module, "reads_values", lambda tensor: False)
    embeddings, labels, indices = sample()
    with pytest.raises(RuntimeError, match="labels must be 0 to 3"):
        make("center")(embeddings, labels + 1)
    with pytest.raises(RuntimeError, match="labels must be train_labels at indices"):
        make("bank")(embeddings, labels, indices.flip(0))


def test_all_is_made_where_the_loss_is(name: str) -> None:
    """On a GPU that is only pretended: its tensors have a device, a shape and a type, and no values to read."""
    loss = make(name)
    if isinstance(loss, IslandLoss):
        loss.eval()  # its step takes a derivative, which needs a real GPU
    with FakeTensorMode(allow_non_fake_inputs=True):
        try:
            torch.zeros(1).to("cuda")
        except RuntimeError as error:  # of an older PyTorch that was built for CUDA
            pytest.skip(f"this PyTorch pretends no GPU without a driver: {str(error).splitlines()[0]}")
        loss.to("cuda")
        embeddings, labels, indices = (tensor.detach().to("cuda") for tensor in sample())
        value = call(name, loss, embeddings.requires_grad_(), labels, indices)
        assert value.device.type == "cuda" and value.shape == ()
        assert all(tensor.device.type == "cuda" for tensor in loss.state_dict().values())

"""What a GPU must do as the CPU does, as functions of a device: ``pytest -m gpu`` runs them, and so does ``benchmarks/gpu.py``.

On the CPU they compare it with itself: that says whether they work, and nothing about a GPU. They need neither pytest nor a face.
"""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import toy_objectives
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn
from torch.profiler import ProfilerActivity, profile

from fer_utils.losses import (
    CenterLoss,
    ContrastiveLoss,
    FeatureBank,
    IslandLoss,
    IsletsLoss,
    LocalityPreservingLoss,
    TripletCenterLoss,
)
from fer_utils.training import CrossEntropyWithMetric, FitSettings, Hook, Objective, crop_and_flip, fit, predict_scores
from fer_utils.training.state import TrainingState

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler says when it begins and ends

CLASSES, SIZE, BATCH, COUNT = 3, 32, 64, 700
CPU = torch.device("cpu")
#: Of values of one step, and of those that many steps led to.
CLOSE, FOLLOWS = {"rtol": 1e-4, "atol": 1e-5}, {"rtol": 1e-3, "atol": 1e-4}

# centres so far apart, and so slow, that a rounding error stays one for 20 steps
LOSSES: dict[str, Callable[[int, int, torch.Tensor], nn.Module]] = {
    "center": lambda classes, size, labels: CenterLoss(classes, size, init_std=1),
    "center by gradient": lambda classes, size, labels: CenterLoss(classes, size, init_std=1, update="gradient"),
    "island": lambda classes, size, labels: IslandLoss(classes, size, init_std=1, alpha=0.05),
    "islets": lambda classes, size, labels: IsletsLoss(classes, size, init_std=0.1, alpha=0.05),
    "triplet-centre": lambda classes, size, labels: TripletCenterLoss(classes, size, init_std=1),
    "contrastive": lambda classes, size, labels: ContrastiveLoss(margin=2),
    "contrastive by halves": lambda classes, size, labels: ContrastiveLoss(margin=2, pairs="halves"),
    "locality in a batch": lambda classes, size, labels: LocalityPreservingLoss(5),
    "locality in a bank": lambda classes, size, labels: LocalityPreservingLoss(5, bank=FeatureBank(labels, size)),
}


@contextmanager
def accelerate_on(device: torch.device) -> Iterator[Accelerator]:
    """An Accelerator there. A process has one device, which is forgotten before and after."""
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        yield Accelerator(cpu=device.type == "cpu")
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


def assert_same(found: Any, expected: Any, **tolerance: float) -> None:
    """Tensors, alone or by name, are near, wherever they are."""
    torch.testing.assert_close(found, expected, check_device=False, check_stride=False, **tolerance)


# -- losses and predictions -----------------------------------------------------------------------------------------------


def check_loss(device: torch.device, name: str) -> None:
    """Values, gradients, and what the loss keeps, over three training steps."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(COUNT) % CLASSES
    torch.manual_seed(1)
    here = LOSSES[name](CLASSES, SIZE, labels)
    there = copy.deepcopy(here).to(device)
    for _ in range(3):
        embeddings, indices = torch.randn(BATCH, SIZE, generator=generator), torch.randperm(COUNT, generator=generator)[:BATCH]
        found = []
        for loss, place in ((here, CPU), (there, device)):
            given = embeddings.clone().to(place).requires_grad_()  # to() alone gives the CPU the tensor itself
            value = loss(given, labels[indices].to(place), indices.to(place))
            assert value.device.type == place.type
            value.backward()
            gradients = {key: parameter.grad for key, parameter in loss.named_parameters()}
            found.append({"value": value.detach(), "gradient": given.grad, **gradients, **loss.state_dict()})
        assert_same(found[1], found[0], **CLOSE)


def check_bank(device: torch.device) -> None:
    """A bank finds the same neighbours after 50 batches, some of a sample twice and some not finite."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(COUNT) % CLASSES
    here, there = FeatureBank(labels, SIZE), FeatureBank(labels, SIZE).to(device)
    for step in range(50):
        features, indices = torch.randn(BATCH, SIZE, generator=generator) + 5, torch.randint(COUNT, (BATCH,), generator=generator)
        features[0] = torch.nan if step % 10 == 0 else features[0]
        here.update(features, indices)
        there.update(features.to(device), indices.to(device))
    assert_same(there.state_dict(), here.state_dict(), **CLOSE)
    features, own = torch.randn(COUNT, SIZE, generator=generator) + 5, torch.arange(COUNT)
    found = here.find_neighbours(features, labels, own, 20)
    moved = [tensor.to(device) for tensor in (features, labels, own)]
    # two neighbours may be equally near but for rounding
    assert (there.find_neighbours(*moved, 20).cpu() == found).float().mean() > 0.999
    assert_same(there.subtract_means(*moved[:2], found.to(device)), here.subtract_means(features, labels, found), **CLOSE)


def check_augmentation(device: torch.device) -> None:
    """Crops and flips are the same bytes."""
    images = torch.randint(0, 256, (BATCH, 3, 100, 100), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    here, there = (crop_and_flip(images.to(place), torch.Generator().manual_seed(1), 90) for place in (CPU, device))
    assert there.device.type == device.type and torch.equal(there.cpu(), here)


def check_predictions(device: torch.device) -> None:
    """Scores are those of float32."""
    model, images = toy_objectives.build("softmax"), toy_objectives.make_faces().images
    expected = torch.tensor(predict_scores(model, images))
    assert_same(torch.tensor(predict_scores(model.to(device), images)), expected, **CLOSE)


# -- training -------------------------------------------------------------------------------------------------------------


def train(device: torch.device, kind: str, steps: int = 20, **options: Any) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Train a toy of a kind, or with one of ``LOSSES``; give the curves, and all that it learnt."""
    toy = "softmax" if kind in LOSSES else kind
    made, model = toy_objectives.prepare(toy), toy_objectives.build(toy)
    objective: Objective = made.objective
    if kind in LOSSES:
        torch.manual_seed(1)
        loss = LOSSES[kind](3, model.embedding_size, torch.tensor(made.data.labels))
        objective = CrossEntropyWithMetric(loss, 0.01)
    settings = FitSettings(steps=steps, batch_size=16, milestones=(steps - 5,), learning_rate=0.02, precision="float32")
    with accelerate_on(device) as accelerator:
        history = fit(
            model, made.data, settings, objective=objective, accelerator=accelerator, progress=False, **made.options, **options
        )
    assert next(model.parameters()).device.type == device.type
    learnt = {f"{part}.{name}": value.cpu() for part, module in (("model", model), ("objective", objective))
              for name, value in module.state_dict().items()}  # fmt: skip
    return {name: torch.tensor(curve) for name, curve in history.parts.items()}, learnt


def check_fit(device: torch.device, kind: str) -> None:
    """The curves of the CPU, and its weights."""
    here, there = train(CPU, kind), train(device, kind)
    assert len(here[0]["loss"]) == 20 and here[0]["loss"].std() > 0.001, "a curve, not a line"
    for found, expected in zip(there, here, strict=True):
        assert_same(found, expected, **FOLLOWS)


class _KilledError(Exception):
    """A training that stops."""


def check_resume(device: torch.device, kind: str) -> None:
    """A training that is killed after 7 steps goes on to the very weights of one that is not."""
    save = TrainingState.save

    def save_and_die(state: TrainingState, path: Path, begun: float) -> None:
        save(state, path, begun)
        if state.step == 7:
            raise _KilledError

    whole = train(device, kind)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = {"checkpoint": Path(folder) / "run.safetensors", "checkpoint_seconds": 0}
        try:
            with patch.object(TrainingState, "save", save_and_die):
                train(device, kind, **checkpoint)
        except _KilledError:
            resumed = train(device, kind, **checkpoint)
        else:
            raise AssertionError("the training was not killed")
    for found, expected in zip(resumed, whole, strict=True):
        assert_same(found, expected, rtol=0, atol=0)


class _Watch(Hook):
    """Steps 6 to 15 may not wait for the GPU, and what CUDA is asked for in them is written down."""

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._profile = profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self._on_gpu else [])])
        self._watching = False

    def after_step(self, step: int, model: nn.Module, parts: Any) -> None:
        if step == 5:
            self._profile.start()
            self._watching = True
            if self._on_gpu:
                torch.cuda.set_sync_debug_mode("error")
        elif step == 15:
            self.end()

    def end(self) -> None:
        """Waiting is allowed again; after an error, too."""
        if self._watching:
            self._watching = False
            if self._on_gpu:
                torch.cuda.set_sync_debug_mode("default")
            self._profile.stop()

    def count(self) -> dict[str, int]:
        """How often each operation and each call of CUDA's came."""
        return {event.key: event.count for event in self._profile.key_averages()}


def check_waits(device: torch.device, kind: str) -> str:
    """No step makes Python wait for the GPU.

    That is more than ``aten::item`` in a profile: of a tensor on the CPU, such as the drawn places of a crop, it costs nothing. What the
    profiler itself waits with when it ends is ``cudaDeviceSynchronize``.
    """
    watch = _Watch(device)
    try:
        train(device, kind, hooks=[watch])
    finally:
        watch.end()
    calls = watch.count()
    assert any(name.startswith("Optimizer.step") for name in calls), "the profiler saw no step"
    waits = [name for name in calls if name in ("cudaStreamSynchronize", "cudaEventSynchronize", "cudaMemcpy") or "Memcpy DtoH" in name]
    assert not waits, f"the step waits: {', '.join(waits)}"
    launches = sum(count for name, count in calls.items() if name.startswith(("cudaLaunchKernel", "cuLaunchKernel")))
    return f"{launches / 10:.0f} kernels a step" if device.type == "cuda" else ""


_KINDS = (*toy_objectives.KINDS, *LOSSES)

#: By name; each raises ``AssertionError``, or whatever went wrong, and may return what it saw.
CHECKS: dict[str, Callable[[torch.device], str | None]] = {
    **{f"loss: {name}": partial(check_loss, name=name) for name in LOSSES},
    "feature bank": check_bank,
    "augmentation": check_augmentation,
    "predictions": check_predictions,
    **{f"fit: {kind}": partial(check_fit, kind=kind) for kind in _KINDS},
    **{f"kill and resume: {kind}": partial(check_resume, kind=kind) for kind in ("softmax", "pairs", "center", "locality in a bank")},
    **{f"no waiting: {kind}": partial(check_waits, kind=kind) for kind in _KINDS},
}

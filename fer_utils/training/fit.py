"""The one training loop of all chapters.

A step is a function of the settings, the data and its number alone: which samples it takes, how they are augmented and what dropout
drops is drawn from generators that are seeded with the seed and the step. So a run that was killed goes on to the very weights of one
that was not, and several processes share a batch as one process would take it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ..augment import center_crop, random_crop, random_flip
from ..datasets.base import FaceDataset
from ..metrics import compute_metric, count_confusions
from ..splits import validation_split
from .data import Batch, Samples, Source, list_steps, open_data, scale_pixels
from .features import evaluation_mode, exact_cudnn, has_bfloat16
from .fingerprint import checksum_arrays, describe
from .hooks import Hook
from .objectives import CrossEntropy, Objective
from .sampling import AUGMENTATION, DROPOUT, Pool, Sampler, Shuffled, derive_seed, split_batch
from .settings import FitSettings
from .stages import set_training_mode
from .state import TrainingState

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Augmentation", "History", "crop_and_flip", "fit"]

#: Takes uint8 ``[B, C, H, W]`` and a generator on the CPU, gives uint8 ``[B, C, S, S]``; draws from the generator alone.
Augmentation = Callable[[torch.Tensor, torch.Generator, int], torch.Tensor]

_RATES = ("mean diagonal", "accuracy")
_BAR_SECONDS = 0.5
#: Held-back samples that are looked at together.
_VALIDATION_BATCH = 256


@dataclass(frozen=True)
class History:
    """How a training went.

    Attributes
    ----------
    parts : dict of str to float32 ``[steps]``
        The loss of each batch and its parts, as the objective names them.
    validations : tuple of dict
        ``step``, and ``accuracy`` and ``mean diagonal`` or ``loss``, one a validation.
    best_step : int or None
        After how many steps the returned weights were reached, where the best validation chose them; None: the last.
    seconds : float
        Of all runs together, where it was resumed.
    precision : {"float32", "bfloat16"}
        What was computed in.
    """

    parts: Mapping[str, np.ndarray]
    validations: tuple[dict[str, float], ...]
    best_step: int | None
    seconds: float
    precision: str

    @property
    def losses(self) -> np.ndarray:
        """The loss of each batch, float32 ``[steps]``."""
        return self.parts["loss"]


def crop_and_flip(images: torch.Tensor, generator: torch.Generator, size: int) -> torch.Tensor:
    """Cut out a window at a drawn place, and mirror every second image: the augmentation of :func:`fit` unless told otherwise.

    The paper cuts 90 of 100 pixels "for data augmentation"; that it also mirrors it does not say.

    Parameters
    ----------
    images : uint8 ``[B, C, H, W]``
    generator : torch.Generator
    size : int
        Side of the window, in pixels.
    """
    return random_flip(random_crop(images, size, generator), generator=generator)


class _Outputs(nn.Module):
    """A network's named outputs from one call, which is what DistributedDataParallel can follow."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return self.model.compute_outputs(images)


def _make_accelerator() -> Accelerator:
    from accelerate import Accelerator, DistributedDataParallelKwargs  # slow to import, and it warns in notebooks without widgets

    # An objective need not use all outputs. Launched in several processes on a machine without GPUs, Accelerate has to be told that CPUs
    # are meant. Precision is ours.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    cpu = "LOCAL_RANK" in os.environ and not torch.cuda.is_available()
    return Accelerator(cpu=cpu, mixed_precision="no", kwargs_handlers=[unused])


class _Run:
    """The steps and validations of one training."""

    def __init__(
        self, model: Any, source: Source, settings: FitSettings, objective: Objective, sampler: Sampler, augment: Augmentation,
        held_back: np.ndarray, hooks: Sequence[Hook], accelerator: Accelerator,
    ) -> None:
        self.model, self.source, self.settings, self.augment, self.accelerator = model, source, settings, augment, accelerator
        self.objective, self.sampler, self.hooks = objective, sampler, hooks
        self.bfloat16 = settings.precision == "bfloat16" or (settings.precision == "auto" and has_bfloat16(accelerator.device))
        self.held_back = torch.tensor(held_back)
        trained = np.setdiff1d(np.arange(source.pool.count), held_back)
        self.positions = torch.tensor(trained)
        labels = None if source.pool.labels is None else source.pool.labels[trained]
        pool = Pool(len(trained), labels, {name: values[trained] for name, values in source.pool.columns.items()})
        self.order = sampler.make_order(pool, settings.batch_size, settings.seed)
        made_for = {
            "precision": self.precision, "data": source.identity, "held back": checksum_arrays(held_back),
            "augment": describe(augment) if source.are_images else None, "sampler": describe(sampler),
        }
        model.to(accelerator.device, memory_format=torch.channels_last)
        objective.to(accelerator.device).train()
        self.state = TrainingState(model, objective, hooks, settings, accelerator, made_for)

    @property
    def precision(self) -> str:
        """What activations are computed in."""
        return "bfloat16" if self.bfloat16 else "float32"

    def prepare(self) -> None:
        """Share the network among the processes, once the weights are those to start from."""
        self.outputs = self.accelerator.prepare_model(_Outputs(self.model))
        if self.accelerator.num_processes > 1:
            from accelerate.utils import broadcast

            for tensor in self.objective.state_dict().values():
                if isinstance(tensor, torch.Tensor):
                    broadcast(tensor)

    def read_batches(self) -> Any:
        """The batches of the steps that are left."""
        return self.source.read(list_steps(self.order, self.positions, self.state.step, self.settings.steps))

    def compute_parts(self, outputs: Any, batch: Batch) -> dict[str, torch.Tensor]:
        """The loss and its parts of a prepared batch."""
        with torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=self.bfloat16):
            found = outputs(batch["images"])
        found = {name: value.float() if value.is_floating_point() else value for name, value in found.items()}
        parts = self.objective(found, batch)
        if "loss" not in parts:
            raise ValueError(f"{type(self.objective).__name__} gave {', '.join(parts) or 'nothing'}; expected a part called 'loss'")
        return parts

    def take_step(self, batch: Batch) -> None:
        """Augment, compute the loss, and let the optimiser move the weights."""
        settings, accelerator, step = self.settings, self.accelerator, self.state.step
        if self.source.are_images:
            generator = torch.Generator().manual_seed(derive_seed(settings.seed, AUGMENTATION, step))
            batch = {**batch, "images": self.augment(batch["images"], generator, self.model.input_size)}
        share = (self.sampler.pieces, accelerator.process_index, accelerator.num_processes)
        batch = {name: split_batch(values, *share) for name, values in batch.items()}
        if self.source.are_images:
            batch["images"] = scale_pixels(batch["images"], accelerator.device)
        torch.manual_seed(derive_seed(settings.seed, DROPOUT, step, accelerator.process_index))
        parts = self.compute_parts(self.outputs, batch)
        self.state.optimizer.zero_grad()
        accelerator.backward(parts["loss"])
        if accelerator.num_processes > 1:
            for parameter in self.objective.parameters():
                if parameter.grad is not None:  # harmless where a gathered loss gave all processes the same
                    parameter.grad = accelerator.reduce(parameter.grad, "mean")
        for group in self.state.optimizer.param_groups:
            group["lr"] = settings.learning_rate_at(step)
        self.state.optimizer.step()
        self.state.record(parts)
        for hook in self.hooks:
            hook.after_step(self.state.step, self.model, parts)

    def validate(self) -> None:
        """Measure the held-back samples, keep the weights if they are the best, and end if they have not been for too long."""
        state, monitor, accelerator = self.state, self.settings.monitor, self.accelerator
        state.check_losses()
        mine = self.held_back[accelerator.process_index :: accelerator.num_processes]
        batches = self.source.read(mine.split(_VALIDATION_BATCH) if len(mine) else ())
        values = self._measure_loss(batches) if monitor == "loss" else self._measure_rates(batches)
        state.validations.append({"step": state.step, **values})
        sign = -1 if monitor == "loss" else 1
        if all(sign * values[monitor] > sign * earlier[monitor] for earlier in state.validations[:-1]):
            state.best_step, state.best = state.step, {name: value.clone() for name, value in self.model.state_dict().items()}
        since_best = sum(entry["step"] > (state.best_step or 0) for entry in state.validations)
        state.done |= self.settings.patience is not None and since_best >= self.settings.patience

    def _prepare_held_back(self, batch: Batch) -> Batch:
        """A batch as the network is to be asked about: the middle of each image."""
        if not self.source.are_images:
            return batch
        return {**batch, "images": scale_pixels(center_crop(batch["images"], self.model.input_size), self.accelerator.device)}

    def _measure_rates(self, batches: Any) -> dict[str, float]:
        count, device = self.model.num_classes, self.accelerator.device
        counts = np.zeros((count, count), np.int64)
        with evaluation_mode(self.model), torch.autocast(device.type, torch.bfloat16, enabled=self.bfloat16):
            for batch in map(self._prepare_held_back, batches):
                guess = self.model.compute_outputs(batch["images"])["scores"].float().argmax(1)
                counts += count_confusions(batch["labels"].cpu().numpy(), guess.cpu().numpy(), range(count))
        counts = self.accelerator.reduce(torch.as_tensor(counts, device=device), "sum").cpu().numpy()
        return {name: float(compute_metric(name, counts, self.source.classes or range(count))) for name in _RATES}

    def _measure_loss(self, batches: Any) -> dict[str, float]:
        total = torch.zeros(2, dtype=torch.float64, device=self.accelerator.device)  # sum over samples, their number
        with evaluation_mode(self.model, self.objective):
            for batch in map(self._prepare_held_back, batches):
                loss, count = self.compute_parts(self.model.compute_outputs, batch)["loss"], len(batch["labels"])
                total += torch.stack([loss.double() * count, total.new_tensor(count)])
        total = self.accelerator.reduce(total, "sum")
        return {"loss": float(total[0] / total[1])}


def fit(
    model: Any,
    data: FaceDataset | Samples | Dataset | DataLoader,
    settings: FitSettings,
    *,
    objective: Objective | None = None,
    sampler: Sampler | None = None,
    augment: Augmentation = crop_and_flip,
    columns: Mapping[str, Any] | None = None,
    held_back: Any = None,
    hooks: Sequence[Hook] = (),
    workers: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = 30.0,
    accelerator: Accelerator | None = None,
    progress: bool = True,
) -> History:
    """Train a network in place.

    With held-back samples the network ends with the weights of its best validation, else with the last.

    Parameters
    ----------
    model : nn.Module
        A :class:`~fer_utils.models.base.FaceModel`, or another whose ``compute_outputs(images)`` gives a dict of tensors ``[B, ...]``.
        On the CPU or where the accelerator puts it; it is left there, in evaluation mode. What is frozen stays as it is.
    data : FaceDataset, Samples, torch Dataset or DataLoader
        Training faces only, such as ``faces.train`` or ``faces.subset(split.train)``. A ``FaceDataset`` is held in memory unless there are
        ``workers``; images of a torch dataset stay on disk, see :func:`~fer_utils.training.data.open_data`.
    settings : FitSettings
    objective : Objective, optional
        What is made small; :class:`~fer_utils.training.objectives.CrossEntropy` by default.
    sampler : Sampler, optional
        Which samples a step takes; :class:`~fer_utils.training.sampling.Shuffled` by default.
    augment : callable
        ``augment(images, generator, size)`` takes uint8 ``[B, C, H, W]`` and gives uint8 ``[B, C, size, size]``, drawing from the
        generator alone. It gets whole batches, however many processes share them. Inputs that are no images it does not see.
    columns : dict of str to array ``[N, ...]``, optional
        What the objective or the sampler needs to know of each sample, such as identities, attributes or targets.
    held_back : int ``[M]``, optional
        Positions that are not trained on but validated on; by default ``settings.validation_share`` of a ``FaceDataset``.
    hooks : sequence of Hook
        Called after every step.
    workers : int, optional
        Processes that read images from disk while the network trains; 0: this one.
    checkpoint : path, optional
        A file that holds the state of the training (``.safetensors``). Where it exists the training goes on from there; a finished one
        only gives back its weights. ``model`` must come as it came the first time, built anew even after an interrupted call: with the
        same weights, and the same ones frozen. What the objective and hooks come with as state does not matter; it is in the file.
    checkpoint_seconds : float
        How often to write it; 0: after every step.
    accelerator : accelerate.Accelerator, optional
        Carries the device and the processes; by default a GPU where there is one. ``accelerate launch`` starts several processes.
    progress : bool
        Show a bar, in a terminal.

    Returns
    -------
    History

    Raises
    ------
    ValueError
        If ``data`` hold a part of the owners' other than ``"train"``, or do not fit the network, the sampler or the validation, or if the
        processes cannot share a batch.
    DataError
        A ``ValueError``: if the checkpoint is of another training, damaged, or a folder; or an image cannot be read.
    ArithmeticError
        If the loss is no longer finite.

    Notes
    -----
    On a CPU a resumed run ends with the same bits, given as many threads; on GPUs as far as cuDNN's deterministic algorithms go. Several
    processes add up gradients in another order than one, and end with the same weights but for rounding. Dropout draws, and batch
    normalisation sees, each process's share alone.
    """
    sampler, accelerator = sampler or Shuffled(), accelerator or _make_accelerator()
    _check_data(model, data)
    equal = sampler.pieces * accelerator.num_processes
    if settings.batch_size % equal:
        problem = f"{accelerator.num_processes} processes cannot share batches of {settings.batch_size}"
        raise ValueError(f"{problem}; batch_size must be a multiple of {'their number' if sampler.pieces == 1 else equal}")
    source = open_data(data, model, accelerator.device, columns=columns, workers=workers, batch_size=settings.batch_size)
    run = _Run(
        model, source, settings, objective or CrossEntropy(), sampler, augment, _hold_back(data, held_back, source, settings), hooks,
        accelerator,
    )
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None:
        if path.exists():
            run.state.load(path)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            for left in path.parent.glob(f"{path.name}.*.part"):  # of a run that was killed while it wrote
                left.unlink(missing_ok=True)
    run.prepare()
    return _train(run, path, checkpoint_seconds, progress)


def _train(run: _Run, path: Path | None, checkpoint_seconds: float, progress: bool) -> History:
    """Take the steps that are left."""
    state, settings, accelerator, model = run.state, run.settings, run.accelerator, run.model
    saved = shown = time.monotonic()
    begun = saved - state.seconds
    show = progress and accelerator.is_main_process
    devices = [accelerator.device] if accelerator.device.type == "cuda" else []
    set_training_mode(model)
    with (
        torch.random.fork_rng(devices), exact_cudnn(),
        tqdm(total=settings.steps, initial=state.step, desc="training", unit="step", leave=False, disable=None if show else True) as bar,
    ):
        batches = iter(()) if state.done else run.read_batches()
        while not state.done:
            run.take_step(next(batches))
            if len(run.held_back) and (state.done or state.step % settings.validate_every == 0):
                run.validate()
            now = time.monotonic()
            if path is not None and accelerator.is_main_process and (state.done or now - saved >= checkpoint_seconds):
                state.save(path, begun)
                saved = time.monotonic()
            if not bar.disable and now - shown >= _BAR_SECONDS:
                bar.set_postfix({name: f"{float(curve[state.step - 1]):.3f}" for name, curve in state.parts.items()}, refresh=False)
                bar.update(state.step - bar.n)
                shown = now
    state.check_losses()
    seconds = max(state.seconds, time.monotonic() - begun)
    if len(run.held_back):
        model.load_state_dict(state.best)
    model.eval()
    parts = {name: curve[: state.step].cpu().numpy() for name, curve in state.parts.items()}
    return History(parts, tuple(state.validations), state.best_step, seconds, run.precision)


def _check_data(model: Any, data: Any) -> None:
    if isinstance(data, FaceDataset):
        other = sorted(set(np.unique(data.split).tolist()) - {"train", "none"})
        if other:
            raise ValueError(f"{data.name} holds a {other[0]} part; train on training faces alone, such as faces.train")
        if not len(data):
            raise ValueError(f"{data.name} holds no faces")
    classes, count = getattr(data, "classes", None), getattr(model, "num_classes", None)
    if classes is not None and count is not None and len(classes) != count:
        raise ValueError(f"{getattr(data, 'name', type(data).__name__)} has {len(classes)} classes, the network {count}")


def _hold_back(data: Any, held_back: Any, source: Source, settings: FitSettings) -> np.ndarray:
    """Positions int64 ``[M]`` that are not trained on, sorted."""
    if held_back is not None:
        found = np.unique(np.asarray(held_back, dtype=np.int64))
        if not len(found) or found[0] < 0 or found[-1] >= source.pool.count or len(found) == source.pool.count:
            raise ValueError(f"held_back must be positions from 0 to {source.pool.count - 1}, not all of them, got {len(found)}")
        return found
    if settings.validation_share:
        if not isinstance(data, FaceDataset):
            raise ValueError(f"a validation_share of {source.name} cannot be cut by people; give held_back the positions to validate on")
        return validation_split(data, settings.validation_share, settings.seed).test
    if settings.patience is not None:
        raise ValueError("patience needs a validation_share or held_back: training never stops on the faces that it is tested on")
    return np.zeros(0, dtype=np.int64)

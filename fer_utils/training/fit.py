"""The one training loop of all chapters.

A step is a function of the settings, the faces and its number alone: which images it takes, how they are augmented and what dropout
drops is drawn from generators that are seeded with the seed and the step. So a run that was killed goes on to the very weights of one
that was not, and several processes share a batch as one process would take it.
"""

from __future__ import annotations

import inspect
import json
import math
import os
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from ..augment import random_crop, random_flip
from ..datasets.base import FaceDataset
from ..errors import DataError
from ..metrics import compute_metric, count_confusions
from ..models import FaceModel
from ..splits import validation_split
from .checkpoint import checksum, read_state, write_state
from .features import has_bfloat16, prepare_images, run_batches, scale_pixels

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Augmentation", "FitSettings", "History", "MetricLoss", "crop_and_flip", "fit"]

#: Takes uint8 ``[B, C, H, W]`` and a generator on the CPU, gives uint8 ``[B, C, S, S]``; draws from the generator alone.
Augmentation = Callable[[torch.Tensor, torch.Generator, int], torch.Tensor]

_OPTIMIZERS, _PRECISIONS, _MONITORS = ("sgd", "adam"), ("auto", "float32", "bfloat16"), ("mean diagonal", "accuracy")
#: What is drawn, as a part of the seed.
_ORDER, _AUGMENTATION, _DROPOUT = range(3)
_BAR_SECONDS = 0.5


class MetricLoss(Protocol):
    """What :func:`fit` asks of a loss on features: a module of :mod:`fer_utils.losses`, of pytorch-metric-learning, or your own.

    A ``torch.nn.Module``. Parameters of its own join the optimiser, without weight decay; buffers, such as centres, it may change when it
    is called. Both are in the checkpoint through its ``state_dict``. In several processes each calls it with its share of the batch, and
    gradients are averaged, those of its parameters too. A loss that changes buffers must keep them in step itself, as those of
    :mod:`fer_utils.losses` do.
    """

    def __call__(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return a scalar from features float32 ``[B, D]`` and labels int64 ``[B]``.

        If ``forward`` has an argument ``indices``, it also gets the positions int64 ``[B]`` of the samples in the faces trained on.
        """
        ...


def _check_integer(name: str, value: Any) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise ValueError(f"{name} must be {'integers' if name == 'milestones' else 'an integer'}, got {value!r}")
    return int(value)


@dataclass(frozen=True)
class FitSettings:
    """How to train. The defaults are those of Li & Deng 2019, section V-B.

    Attributes
    ----------
    steps : int
        Batches; 20,000 in the paper.
    batch_size : int
        Over all processes, which must divide it.
    optimizer : {"sgd", "adam"}
    learning_rate : float
    momentum : float
        Adam's first beta.
    milestones : tuple of int
        Steps after which the learning rate is multiplied by ``gamma``; one may come several times.
    gamma : float
    weight_decay, last_weight_decay : float
        Of the weights of all layers but the last, and of the last; 0.0005 and 0.0025. Biases and normalisations have none; the paper does
        not say.
    metric_weight : float
        What the loss on features is multiplied by (the papers' lambda); cross-entropy has weight 1.
    balanced : bool
        Draw classes evenly, with replacement, instead of going through all faces in random order.
    validation_share : float
        Share of the faces to hold back, by person where people are known (:func:`~fer_utils.splits.validation_split`); 0: none.
    validate_every : int
        Steps.
    patience : int, optional
        Stop when so many validations in a row were not better than the best.
    monitor : {"mean diagonal", "accuracy"}
        What is better.
    precision : {"auto", "float32", "bfloat16"}
        Of the network's activations; weights are float32 always. ``"auto"``: bfloat16 where the processor or GPU computes in it.
    seed : int

    Raises
    ------
    ValueError
        If a value is out of range, or no integer where one is needed.
    """

    steps: int = 20_000
    batch_size: int = 64
    optimizer: str = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.9
    milestones: tuple[int, ...] = (5_000, 18_000)
    gamma: float = 0.1
    weight_decay: float = 0.0005
    last_weight_decay: float = 0.0025
    metric_weight: float = 0.0
    balanced: bool = False
    validation_share: float = 0.0
    validate_every: int = 200
    patience: int | None = None
    monitor: str = "mean diagonal"
    precision: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.milestones, Iterable):
            raise ValueError(f"milestones must be several integers, such as ({self.milestones},), got {self.milestones!r}")
        # integers of NumPy become Python's, which JSON can hold
        object.__setattr__(self, "milestones", tuple(_check_integer("milestones", value) for value in self.milestones))
        for name in ("steps", "batch_size", "validate_every", "patience", "seed"):
            if name != "patience" or self.patience is not None:
                object.__setattr__(self, name, _check_integer(name, getattr(self, name)))
        for name, options in (("optimizer", _OPTIMIZERS), ("precision", _PRECISIONS), ("monitor", _MONITORS)):
            if getattr(self, name) not in options:
                raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}, got {getattr(self, name)!r}")
        for name in ("steps", "batch_size", "validate_every", "patience"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "gamma", "weight_decay", "last_weight_decay", "metric_weight", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be finite and not below 0, got {getattr(self, name)}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be at least 0 and below 1, got {self.momentum}")
        if not 0 <= self.validation_share < 1:
            raise ValueError(f"validation_share must be at least 0 and below 1, got {self.validation_share}")
        if self.patience is not None and not self.validation_share:
            raise ValueError("patience needs a validation_share: training never stops on the faces that it is tested on")

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        return self.learning_rate * self.gamma ** sum(step >= milestone for milestone in self.milestones)


@dataclass(frozen=True)
class History:
    """How a training went.

    Attributes
    ----------
    losses : float32 ``[steps]``
        Of each batch: cross-entropy plus the weighted loss on features.
    validations : tuple of dict
        ``step``, ``accuracy`` and ``mean diagonal``, one a validation.
    best_step : int or None
        After how many steps the returned weights were reached, where the best validation chose them; None: the last.
    seconds : float
        Of all runs together, where it was resumed.
    precision : {"float32", "bfloat16"}
        What was computed in.
    """

    losses: np.ndarray
    validations: tuple[dict[str, float], ...]
    best_step: int | None
    seconds: float
    precision: str


def crop_and_flip(images: torch.Tensor, generator: torch.Generator, size: int) -> torch.Tensor:
    """Cut out a window at a drawn place, and mirror every second image: the augmentation of :func:`fit` unless told otherwise.

    The paper cuts 90 of 100 pixels "for data augmentation"; that it also mirrors it does not say.
    """
    return random_flip(random_crop(images, size, generator), generator=generator)


def _seed(*parts: int) -> int:
    """One seed out of several numbers, none of which is lost."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


class _Order:
    """Which faces a step takes, however many processes share it: one random order of all after the other."""

    def __init__(self, labels: np.ndarray, settings: FitSettings) -> None:
        self._count, self._settings, self._epoch = len(labels), settings, -1
        self._weights = torch.from_numpy(1.0 / np.bincount(labels)[labels]) if settings.balanced else None
        self._current = torch.empty(0, dtype=torch.int64)

    def batch(self, step: int) -> torch.Tensor:
        """Positions int64 ``[batch_size]``; a batch may end in the next order."""
        start = step * self._settings.batch_size
        parts = []
        while start < (step + 1) * self._settings.batch_size:
            epoch, offset = divmod(start, self._count)
            taken = min((step + 1) * self._settings.batch_size - start, self._count - offset)
            parts.append(self._draw(epoch)[offset : offset + taken])
            start += taken
        return torch.cat(parts)

    def _draw(self, epoch: int) -> torch.Tensor:
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(_seed(self._settings.seed, _ORDER, epoch))
            if self._weights is None:
                self._current = torch.randperm(self._count, generator=generator)
            else:
                self._current = torch.multinomial(self._weights, self._count, replacement=True, generator=generator)
            self._epoch = epoch
        return self._current


class _Supervised(nn.Module):
    """Features and scores from one call, which is what DistributedDataParallel can follow."""

    def __init__(self, model: FaceModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.model.embed(images)
        return features, self.model.classify(features)


def _make_optimizer(model: FaceModel, metric_loss: nn.Module | None, settings: FitSettings) -> torch.optim.Optimizer:
    """Weight decay by layer; parameters that are frozen stay out."""
    last = model.classifier.weight
    groups = {settings.weight_decay: [], settings.last_weight_decay: [], 0.0: []}
    for parameter in model.parameters():
        if parameter.requires_grad:
            decay = settings.last_weight_decay if parameter is last else settings.weight_decay if parameter.ndim > 1 else 0.0
            groups[decay].append(parameter)
    groups[0.0] += [] if metric_loss is None else metric_loss.parameters()
    options = [{"params": parameters, "weight_decay": decay} for decay, parameters in groups.items() if parameters]
    if settings.optimizer == "adam":
        return torch.optim.Adam(options, settings.learning_rate, (settings.momentum, 0.999))
    return torch.optim.SGD(options, settings.learning_rate, settings.momentum)


def _make_accelerator() -> Accelerator:
    from accelerate import Accelerator  # slow to import, and it warns in notebooks without widgets

    # Launched in several processes on a machine without GPUs, Accelerate has to be told that CPUs are meant. Precision is ours.
    return Accelerator(cpu="LOCAL_RANK" in os.environ and not torch.cuda.is_available(), mixed_precision="no")


class _Run:
    """A training at some step: what it is made of, all that a checkpoint holds, and how it goes on."""

    def __init__(
        self, model: FaceModel, faces: FaceDataset, settings: FitSettings, augment: Augmentation, metric_loss: nn.Module | None,
        accelerator: Accelerator,
    ) -> None:
        self.model, self.settings, self.augment, self.metric_loss, self.accelerator = model, settings, augment, metric_loss, accelerator
        self.classes, device = faces.classes, accelerator.device
        self.bfloat16 = settings.precision == "bfloat16" or (settings.precision == "auto" and has_bfloat16(device))
        self.images = prepare_images(faces.images, model.in_channels, model.image_size)
        if min(self.images.shape[2:]) < model.input_size:
            problem = f"{faces.name} has images of {'x'.join(map(str, self.images.shape[2:]))}, the network takes {model.input_size}"
            raise ValueError(f"{problem}; set its image_size to enlarge them")
        self.made_for = _describe(self, faces)
        self.images, self.labels = self.images.to(device), torch.tensor(faces.labels, device=device)
        self.positions, self.held_back = torch.arange(len(faces)), None
        if settings.validation_share:
            split = validation_split(faces, settings.validation_share, settings.seed)
            self.positions, self.held_back = torch.tensor(split.train), torch.tensor(split.test)
        self.order = _Order(faces.labels[self.positions.numpy()], settings)

        model.to(device, memory_format=torch.channels_last)
        if metric_loss is not None:
            metric_loss.to(device).train()
        self.takes_indices = metric_loss is not None and "indices" in inspect.signature(metric_loss.forward).parameters
        self.optimizer = _make_optimizer(model, metric_loss, settings)
        self.losses = torch.zeros(settings.steps, device=device)
        self.step, self.seconds, self.done, self.checked = 0, 0.0, False, 0
        self.validations: list[dict[str, float]] = []
        self.best_step: int | None = None
        self.best: dict[str, torch.Tensor] = {}

    @property
    def precision(self) -> str:
        """What activations are computed in."""
        return "bfloat16" if self.bfloat16 else "float32"

    # -- training

    def prepare(self) -> None:
        """Share the network among the processes, once the weights are those to start from."""
        self.supervised = self.accelerator.prepare_model(_Supervised(self.model))
        if self.accelerator.num_processes > 1 and self.metric_loss is not None:
            from accelerate.utils import broadcast

            for tensor in self.metric_loss.state_dict().values():
                broadcast(tensor)

    def train(self) -> None:
        """Take one step."""
        settings, accelerator, step = self.settings, self.accelerator, self.step
        share = settings.batch_size // accelerator.num_processes
        mine = slice(accelerator.process_index * share, (accelerator.process_index + 1) * share)
        where = self.positions[self.order.batch(step)].to(accelerator.device)
        generator = torch.Generator().manual_seed(_seed(settings.seed, _AUGMENTATION, step))
        batch = self.augment(self.images.index_select(0, where), generator, self.model.input_size)[mine]
        where = where[mine]
        labels = self.labels.index_select(0, where)
        torch.manual_seed(_seed(settings.seed, _DROPOUT, step, accelerator.process_index))
        with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=self.bfloat16):
            features, scores = self.supervised(scale_pixels(batch, accelerator.device))
        loss = cross_entropy(scores.float(), labels)
        if self.metric_loss is not None:
            extra = {"indices": where} if self.takes_indices else {}
            loss = loss + settings.metric_weight * self.metric_loss(features.float(), labels, **extra)
        self.optimizer.zero_grad()
        accelerator.backward(loss)
        if accelerator.num_processes > 1 and self.metric_loss is not None:
            for parameter in self.metric_loss.parameters():
                if parameter.grad is not None:  # harmless where the loss has averaged them already
                    parameter.grad = accelerator.reduce(parameter.grad, "mean")
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate_at(step)
        self.optimizer.step()
        self.losses[step] = accelerator.reduce(loss.detach(), "mean")
        self.step += 1
        self.done = self.step == settings.steps

    def validate(self) -> None:
        """Measure the held-back faces, keep the weights if they are the best, and end if they have not been for too long."""
        self.check_losses()
        part = self.held_back[self.accelerator.process_index :: self.accelerator.num_processes]
        counts = np.zeros((self.model.num_classes,) * 2, np.int64)
        if len(part):
            scores = run_batches(self.model, self.model, self.images[part.to(self.images.device)], 256, self.bfloat16)
            counts += count_confusions(self.labels.cpu()[part].numpy(), scores.argmax(1).numpy(), range(self.model.num_classes))
        counts = self.accelerator.reduce(torch.as_tensor(counts, device=self.images.device), "sum").cpu().numpy()
        values = {name: float(compute_metric(name, counts, self.classes)) for name in _MONITORS}
        self.validations.append({"step": self.step, **values})
        if all(values[self.settings.monitor] > earlier[self.settings.monitor] for earlier in self.validations[:-1]):
            self.best_step, self.best = self.step, {name: value.clone() for name, value in self.model.state_dict().items()}
        since_best = sum(entry["step"] > self.best_step for entry in self.validations)
        self.done |= self.settings.patience is not None and since_best >= self.settings.patience

    def check_losses(self) -> None:
        """Raise if a loss since the last check is not finite."""
        wrong = (~self.losses[self.checked : self.step].isfinite()).nonzero()
        if len(wrong):
            problem = f"the loss of step {self.checked + int(wrong[0]) + 1} is not finite"
            raise ArithmeticError(f"{problem}; try a smaller learning_rate ({self.settings.learning_rate:g}) or metric_weight")
        self.checked = self.step

    # -- on disk

    def save(self, path: Path) -> None:
        """Write everything, in one file."""
        self.check_losses()
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        if self.metric_loss is not None:
            tensors |= {f"metric_loss.{name}": value for name, value in self.metric_loss.state_dict().items()}
        for number, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": value for name, value in slots.items() if value is not None}
        tensors["losses"] = self.losses
        content = {name: getattr(self, name) for name in ("step", "seconds", "done", "validations", "best_step")}
        write_state(path, tensors, {**content, "made_for": self.made_for})

    def load(self, path: Path) -> None:
        """Take up what :meth:`save` wrote, if it was made for the same."""
        tensors, content = read_state(path)
        before = content.pop("made_for")
        for name in sorted({*before, *self.made_for}):
            if before.get(name) != self.made_for.get(name):
                change = f"{name} was {before.get(name)!r} and is now {self.made_for.get(name)!r}"
                expected = "the call that made it, with its network built anew; delete it to train from the start"
                raise DataError.at(path, f"of another training ({change})", expected)
        parts: dict[str, dict[str, torch.Tensor]] = {"model": {}, "best": {}, "metric_loss": {}, "optimizer": {}}
        for name, value in tensors.items():
            part, _, rest = name.partition(".")
            if rest:
                parts[part][rest] = value
        try:
            self.model.load_state_dict(parts["model"])
            if self.metric_loss is not None:
                self.metric_loss.load_state_dict(parts["metric_loss"])
        except RuntimeError as error:
            raise DataError.at(path, f"does not fit ({error})", "a checkpoint of this network and loss") from error
        self.best = parts["best"]
        self._load_optimizer(parts["optimizer"])
        self.losses.copy_(tensors["losses"])
        for name, value in content.items():
            setattr(self, name, value)
        self.checked = self.step

    def _load_optimizer(self, slots: dict[str, torch.Tensor]) -> None:
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        for name, value in slots.items():
            number, _, slot = name.partition(".")
            parameter = parameters[int(number)]
            # with the parameter's order of memory, as the optimiser itself would make it
            like = parameter if value.shape == parameter.shape else value
            self.optimizer.state[parameter][slot] = torch.empty_like(like, dtype=value.dtype).copy_(value)


def fit(
    model: FaceModel,
    faces: FaceDataset,
    settings: FitSettings,
    *,
    augment: Augmentation = crop_and_flip,
    metric_loss: nn.Module | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = 30.0,
    accelerator: Accelerator | None = None,
    progress: bool = True,
) -> History:
    """Train a network in place.

    With a ``validation_share`` the network ends with the weights of its best validation, else with the last.

    Parameters
    ----------
    model : FaceModel
        On the CPU or where the accelerator puts it; it is left there, in evaluation mode.
    faces : FaceDataset
        Training faces only, such as ``faces.train`` or ``faces.subset(split.train)``.
    settings : FitSettings
    augment : callable
        ``augment(images, generator, size)`` takes uint8 ``[B, C, H, W]`` and gives uint8 ``[B, C, size, size]``, drawing from the
        generator alone. It gets whole batches, however many processes share them.
    metric_loss : MetricLoss, optional
        A loss on the features, weighted by ``settings.metric_weight``; not called where that is 0. Positions that it is given count
        ``faces``; those held back for validation never come.
    checkpoint : path, optional
        A file that holds the state of the training (``.safetensors``). Where it exists the training goes on from there; a finished one
        only gives back its weights. ``model`` must come as it came the first time, built anew even after an interrupted call: with the
        same weights, and the same ones frozen. What ``metric_loss`` comes with does not matter; its state is in the file.
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
        If ``faces`` hold a part of the owners' other than ``"train"``, or do not fit the network, or if the processes cannot share a batch.
    DataError
        A ``ValueError``: if the checkpoint is of another training, damaged, or a folder.
    ArithmeticError
        If the loss is no longer finite.

    Notes
    -----
    On a CPU a resumed run ends with the same bits, given as many threads; on GPUs as far as cuDNN's deterministic algorithms go. Several
    processes add up gradients in another order than one, and end with the same weights but for rounding. Dropout draws, and batch
    normalisation sees, each process's share alone.
    """
    _check_faces(model, faces)
    accelerator = accelerator or _make_accelerator()
    if settings.batch_size % accelerator.num_processes:
        problem = f"{accelerator.num_processes} processes cannot share batches of {settings.batch_size}"
        raise ValueError(f"{problem}; batch_size must be a multiple of their number")
    run = _Run(model, faces, settings, augment, metric_loss if settings.metric_weight else None, accelerator)
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None:
        if path.exists():
            run.load(path)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            for left in path.parent.glob(f"{path.name}.*.part"):  # of a run that was killed while it wrote
                left.unlink(missing_ok=True)
    run.prepare()

    saved = shown = time.monotonic()
    begun = saved - run.seconds
    show = progress and accelerator.is_main_process
    devices = [accelerator.device] if accelerator.device.type == "cuda" else []
    model.train()
    with (
        torch.random.fork_rng(devices), torch.backends.cudnn.flags(enabled=True, deterministic=True),
        tqdm(total=settings.steps, initial=run.step, desc="training", unit="step", leave=False, disable=None if show else True) as bar,
    ):
        while not run.done:
            run.train()
            if run.held_back is not None and (run.done or run.step % settings.validate_every == 0):
                run.validate()
            now = time.monotonic()
            if path is not None and accelerator.is_main_process and (run.done or now - saved >= checkpoint_seconds):
                run.seconds = now - begun
                run.save(path)
                saved = time.monotonic()
            if not bar.disable and now - shown >= _BAR_SECONDS:
                bar.set_postfix(loss=f"{float(run.losses[run.step - 1]):.3f}", refresh=False)
                bar.update(run.step - bar.n)
                shown = now
    run.check_losses()
    seconds = max(run.seconds, time.monotonic() - begun)
    if run.held_back is not None:
        model.load_state_dict(run.best)
    model.eval()
    return History(run.losses[: run.step].cpu().numpy(), tuple(run.validations), run.best_step, seconds, run.precision)


def _check_faces(model: FaceModel, faces: FaceDataset) -> None:
    other = sorted(set(np.unique(faces.split).tolist()) - {"train", "none"})
    if other:
        raise ValueError(f"{faces.name} holds a {other[0]} part; train on training faces alone, such as faces.train")
    if not len(faces):
        raise ValueError(f"{faces.name} holds no faces")
    if len(faces.classes) != model.num_classes:
        raise ValueError(f"{faces.name} has {len(faces.classes)} classes, the network {model.num_classes}")


def _describe(run: _Run, faces: FaceDataset) -> dict[str, Any]:
    """What a checkpoint belongs to, as JSON gives it back."""
    content = zlib.crc32(np.ascontiguousarray(run.images[:, :1].numpy()), zlib.crc32(faces.labels.tobytes()))
    start = [f"checksum {checksum(run.model.state_dict())}"]
    if run.accelerator.num_processes > 1:
        from accelerate.utils import broadcast_object_list

        broadcast_object_list(start)  # all start from the first process's weights
    described = {
        **asdict(run.settings), "precision": run.precision,
        "model": run.model.name, **{f"model's {name}": value for name, value in run.model.settings.items()},
        "faces": f"{faces.name}, {len(faces)}, {content:08x}",
        "augment": getattr(run.augment, "__qualname__", type(run.augment).__name__),
        "metric_loss": None if run.metric_loss is None else repr(run.metric_loss),
        "model's frozen parameters": [name for name, parameter in run.model.named_parameters() if not parameter.requires_grad],
        "weights at the start": start[0],
    }
    return json.loads(json.dumps(described))

"""A training at some step: the network, the objective, the optimiser, and all that a checkpoint holds."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..errors import DataError
from .checkpoint import checksum, read_state, write_state
from .fingerprint import describe
from .hooks import Hook
from .objectives import Objective
from .settings import FitSettings

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["TrainingState"]

#: Characters of a description that an error repeats.
_LONGEST = 200


def make_optimizer(model: nn.Module, objective: nn.Module, settings: FitSettings) -> torch.optim.Optimizer:
    """Weight decay by layer; what is frozen stays out. ``model.classifier``, where there is one, is the last layer."""
    last = getattr(getattr(model, "classifier", None), "weight", None)
    groups: dict[float, list[nn.Parameter]] = {settings.weight_decay: [], settings.last_weight_decay: [], 0.0: []}
    for parameter in model.parameters():
        if parameter.requires_grad:
            decay = settings.last_weight_decay if parameter is last else settings.weight_decay if parameter.ndim > 1 else 0.0
            groups[decay].append(parameter)
    groups[0.0] += [parameter for parameter in objective.parameters() if parameter.requires_grad]
    options = [{"params": parameters, "weight_decay": decay} for decay, parameters in groups.items() if parameters]
    if not options:
        raise ValueError("every parameter of the network is frozen, and the objective has none: there is nothing to train")
    if settings.optimizer == "adam":
        return torch.optim.Adam(options, settings.learning_rate, (settings.momentum, 0.999))
    return torch.optim.SGD(options, settings.learning_rate, settings.momentum)


class TrainingState:
    """What changes from step to step, and how it is written and taken up again.

    Parameters
    ----------
    model, objective : nn.Module
        Where they shall be trained.
    hooks : sequence of Hook
    settings : FitSettings
    accelerator : Accelerator
    made_for : dict
        What the training depends on besides, by the names that errors use.
    """

    def __init__(
        self, model: nn.Module, objective: Objective, hooks: Sequence[Hook], settings: FitSettings, accelerator: Accelerator,
        made_for: Mapping[str, Any],
    ) -> None:
        self.model, self.objective, self.hooks, self.settings, self.accelerator = model, objective, hooks, settings, accelerator
        self.made_for = self._describe(made_for)
        self.optimizer = make_optimizer(model, objective, settings)
        self.parts: dict[str, torch.Tensor] = {}  # of each step, float32 [steps]
        self.step, self.seconds, self.done, self.checked = 0, 0.0, False, 0
        self.validations: list[dict[str, float]] = []
        self.best_step: int | None = None
        self.best: dict[str, torch.Tensor] = {}

    def _describe(self, made_for: Mapping[str, Any]) -> dict[str, Any]:
        start = [f"checksum {checksum(self.model.state_dict())}"]
        if self.accelerator.num_processes > 1:
            from accelerate.utils import broadcast_object_list

            broadcast_object_list(start)  # all start from the first process's weights
        settings = {f"model's {name}": value for name, value in getattr(self.model, "settings", {}).items()}
        described = {
            **asdict(self.settings), **made_for, "model": getattr(self.model, "name", describe(self.model)), **settings,
            "model's frozen parameters": [name for name, value in self.model.named_parameters() if not value.requires_grad],
            "weights at the start": start[0], "objective": describe(self.objective), "hooks": describe(list(self.hooks)),
        }
        return json.loads(json.dumps(described))  # as a file gives it back

    # -- what a step leaves

    def record(self, parts: Mapping[str, torch.Tensor]) -> None:
        """Keep the loss of a step and its parts, means over the processes, and count the step.

        Raises
        ------
        ValueError
            For other parts than at the first step.
        """
        if self.parts and parts.keys() != self.parts.keys():
            raise ValueError(f"the objective gave the parts {', '.join(parts)}; expected {', '.join(self.parts)}, as at the first step")
        values = self.accelerator.reduce(torch.stack([part.detach().float() for part in parts.values()]), "mean")
        if not self.parts:
            self.parts = {name: values.new_zeros(self.settings.steps) for name in parts}
        for name, value in zip(parts, values, strict=True):
            self.parts[name][self.step] = value
        self.step += 1
        self.done = self.step == self.settings.steps

    def check_losses(self) -> None:
        """Raise ``ArithmeticError`` if a loss since the last check is not finite."""
        if self.checked == self.step:
            return
        wrong = (~self.parts["loss"][self.checked : self.step].isfinite()).nonzero()
        if len(wrong):
            step = self.checked + int(wrong[0])
            parts = [f"{name} is {float(curve[step]):.4g}" for name, curve in self.parts.items() if name != "loss"]
            problem = f"the loss of step {step + 1} is not finite" + (f" ({', '.join(parts)})" if parts else "")
            raise ArithmeticError(f"{problem}; try a smaller learning_rate ({self.settings.learning_rate:g})")
        self.checked = self.step

    # -- on disk

    def _state(self) -> dict[str, torch.Tensor]:
        modules = {"model": self.model.state_dict(), "best": self.best, "objective": self.objective.state_dict(), "part": self.parts}
        modules |= {f"hook{number}": hook.state_dict() for number, hook in enumerate(self.hooks)}
        slots = {f"{number}.{name}": value for number, held in self.optimizer.state_dict()["state"].items() for name, value in held.items()}
        tensors = {}
        for part, state in {**modules, "optimizer": slots}.items():
            tensors |= {f"{part}.{name}": value for name, value in state.items() if isinstance(value, torch.Tensor)}
        return tensors

    def save(self, path: Path, begun: float) -> None:
        """Write everything, in one file.

        Parameters
        ----------
        path : Path
        begun : float
            When the training began, in seconds of the monotonic clock.

        Raises
        ------
        ArithmeticError
            If a loss since the last check is not finite; nothing is written then.
        """
        self.check_losses()
        self.seconds = time.monotonic() - begun
        content = {name: getattr(self, name) for name in ("step", "seconds", "done", "validations", "best_step")}
        write_state(path, self._state(), {**content, "made_for": self.made_for})

    def load(self, path: Path) -> None:
        """Take up what :meth:`save` wrote. Raises ``DataError`` if it was made for another training, or is damaged."""
        tensors, content = read_state(path)
        before = content.pop("made_for")
        for name in sorted({*before, *self.made_for}):
            if before.get(name) != self.made_for.get(name):
                was, now = _shorten(before.get(name), self.made_for.get(name))
                expected = "the call that made it, with its network built anew; delete it to train from the start"
                raise DataError.at(path, f"of another training ({name} was {was} and is now {now})", expected)
        held: dict[str, dict[str, torch.Tensor]] = {}
        for name, value in tensors.items():
            part, _, rest = name.partition(".")
            held.setdefault(part, {})[rest] = value
        try:
            self.model.load_state_dict(held.get("model", {}))
            self.objective.load_state_dict(held.get("objective", {}))
        except RuntimeError as error:
            raise DataError.at(path, f"does not fit ({error})", "a checkpoint of this network and objective") from error
        for number, hook in enumerate(self.hooks):
            hook.load_state_dict(held.get(f"hook{number}", {}))
        device = self.accelerator.device
        self.best = held.get("best", {})
        self.parts = {name: value.to(device) for name, value in held.get("part", {}).items()}
        self._load_optimizer(held.get("optimizer", {}))
        for name, value in content.items():
            setattr(self, name, value)
        self.checked = self.step

    def _load_optimizer(self, slots: Mapping[str, torch.Tensor]) -> None:
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        for name, value in slots.items():
            number, _, slot = name.partition(".")
            parameter = parameters[int(number)]
            # with the parameter's order of memory, as the optimiser itself would make it
            like = parameter if value.shape == parameter.shape else value
            self.optimizer.state[parameter][slot] = torch.empty_like(like, dtype=value.dtype).copy_(value)


def _shorten(before: Any, now: Any) -> tuple[str, str]:
    """Two descriptions as text, of long nested ones only where they differ."""
    while isinstance(before, dict) and isinstance(now, dict):
        name = next(key for key in sorted({*before, *now}) if before.get(key) != now.get(key))
        before, now = before.get(name), now.get(name)
        if not (isinstance(before, dict) and isinstance(now, dict)):
            return _cut(f"{name} {before!r}"), _cut(f"{name} {now!r}")
    return _cut(repr(before)), _cut(repr(now))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."

"""Keras callbacks: a learning rate that falls on a plateau, where the best weights come back; and a training that survives a kill.

Two of Keras' own come near. ``ReduceLROnPlateau`` lowers the rate and goes on from the weights of that epoch, not from the best.
``BackupAndRestore`` keeps weights and the optimiser's state, but not what callbacks know, so a plateau would be counted anew, and the best
weights are lost; and it writes two files one after the other, which a kill in between leaves of different epochs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from ...errors import DataError
from ...training.checkpoint import read_state, write_state
from .backend import keras

__all__ = ["ReduceAndReload", "ResumeTraining"]

#: Rates are float32 in Keras' logs; a gain that is printed as just enough may be less by so much.
_ROUNDING = 1e-7


class ReduceAndReload(keras.callbacks.Callback):
    """Lower the learning rate where an accuracy stops rising, and go on from the best weights (Zhou et al., 4.2).

    An epoch counts as a gain if it is better by ``min_delta`` than the last that counted. After ``patience`` epochs without one the weights
    of the best epoch come back, and the rate falls; where it cannot, training ends. The optimiser keeps its moments, and the generators of
    dropout and augmentation go on. At the end the best weights come back, too.

    Parameters
    ----------
    monitor : str
        Of the logs; the higher the better.
    min_delta : float
    patience : int
    factor : float
    least_rate : float

    Attributes
    ----------
    best, best_epoch
        The highest value, and the first epoch, from 0, that had it.
    rates : list of float
        The learning rate of each epoch.
    reloads : list of int
        Epochs at whose end the best weights came back.

    Raises
    ------
    ValueError
        If an argument is out of its range.
    """

    def __init__(
        self, monitor: str = "val_accuracy", *, min_delta: float = 0.0005, patience: int = 13, factor: float = 0.2, least_rate: float = 1e-5
    ) -> None:
        super().__init__()
        if min_delta < 0 or patience < 1 or not 0 < factor < 1 or least_rate < 0:
            expected = "min_delta and least_rate from 0, a patience of at least 1, and a factor between 0 and 1"
            raise ValueError(f"expected {expected}, got {min_delta=}, {least_rate=}, {patience=}, {factor=}")
        self.monitor, self.min_delta, self.patience, self.factor, self.least_rate = monitor, min_delta, patience, factor, least_rate
        self.best, self.reference, self.wait, self.best_epoch = -math.inf, -math.inf, 0, -1
        self.rates: list[float] = []
        self.reloads: list[int] = []
        self.best_weights: list[np.ndarray] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Look at the epoch's value.

        Parameters
        ----------
        epoch : int
            From 0.
        logs : dict of str to float, optional

        Raises
        ------
        ValueError
            If the value is not among the logs; the message lists what there is.
        """
        logs = {} if logs is None else logs
        if self.monitor not in logs:
            raise ValueError(f"no {self.monitor!r} to follow; expected one of {', '.join(logs) or 'none, as nothing is measured'}")
        value, rate = float(logs[self.monitor]), float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self.rates.append(rate)
        if value > self.best:
            self.best, self.best_epoch, self.best_weights = value, epoch, [np.array(w) for w in self.model.get_weights()]
        if value - self.reference >= self.min_delta - _ROUNDING and value > self.reference:
            self.reference, self.wait = value, 0
            return
        self.wait += 1
        if self.wait < self.patience:
            return
        self.wait = 0
        self.reload_best()
        self.reloads.append(epoch)
        if rate <= np.float32(self.least_rate):
            self.model.stop_training = True
        else:
            self.model.optimizer.learning_rate = max(rate * self.factor, self.least_rate)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """End with the best weights."""
        self.reload_best()

    def reload_best(self) -> None:
        """Give the model the best weights so far."""
        if self.best_weights:
            self.model.set_weights(self.best_weights)

    def get_state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What a resumed training has to know: arrays, and what JSON can hold."""
        names = ("best", "reference", "wait", "best_epoch", "rates", "reloads")
        content = {name: getattr(self, name) for name in names} if self.best_weights else {}
        return {f"{i}": value for i, value in enumerate(self.best_weights)}, content

    def set_state(self, arrays: Mapping[str, np.ndarray], content: Mapping[str, Any]) -> None:
        """Take up an earlier state.

        Parameters
        ----------
        arrays, content : dict
            What :meth:`get_state` gave.
        """
        self.best_weights = [arrays[f"{i}"] for i in range(len(arrays))]
        for name, value in content.items():
            setattr(self, name, value)


class Stateful(Protocol):
    """A callback whose state is kept."""

    def get_state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays, and what JSON can hold."""
        ...

    def set_state(self, arrays: Mapping[str, np.ndarray], content: Mapping[str, Any]) -> None:
        """Take both up."""
        ...


class ResumeTraining(keras.callbacks.Callback):
    """Keep all that a training knows after each epoch, so that one which was killed goes on to the very weights of one that was not.

    In one file, which is renamed when it is whole: weights, the optimiser's state and rate, generators of dropout and augmentation, the
    state of the callbacks that it follows, and the logs. It must come after these in the list of callbacks.

    Parameters
    ----------
    path : path
    follow : sequence of callbacks
        With ``get_state`` and ``set_state``, such as :class:`ReduceAndReload`.
    made_for : mapping, optional
        What JSON can hold and the training depends on: another one is not gone on with.

    Attributes
    ----------
    logs : list of dict
        Of each epoch, those before a kill included.
    done : bool
        Whether the training had ended.

    Examples
    --------
    >>> resume = ResumeTraining("state.safetensors", follow=[plateau])  # doctest: +SKIP
    >>> model.fit(batches, epochs=90, initial_epoch=resume.load(model), callbacks=[plateau, resume])  # doctest: +SKIP
    """

    def __init__(self, path: str | Path, *, follow: Sequence[Stateful] = (), made_for: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.path, self.follow, self.made_for = Path(path), tuple(follow), dict(made_for or {})
        self.logs: list[dict[str, float]] = []
        self.done = False

    def load(self, model: Any) -> int:
        """Give a compiled model, and the callbacks that are followed, the state of the file, if there is one.

        Returns
        -------
        int
            The epoch to go on with, for ``fit(initial_epoch=...)``; 0 without a file.

        Raises
        ------
        DataError
            If the file is damaged, was made for another training, or does not fit the model.
        """
        if not self.path.exists():
            return 0
        tensors, content = read_state(self.path)
        for name in sorted({*content["made_for"], *self.made_for}):
            was, now = content["made_for"].get(name), self.made_for.get(name)
            if was != now:
                expected = "the call that made it; delete it to train from the start"
                raise DataError.at(self.path, f"of another training ({name} was {was!r} and is now {now!r})", expected)
        held: dict[str, dict[str, np.ndarray]] = {}
        for name, value in tensors.items():
            part, _, rest = name.partition(".")
            held.setdefault(part, {})[rest] = value.numpy()
        for part, variables in _list_variables(model).items():
            values = held.get(part, {})
            shapes = [tuple(values[f"{i}"].shape) if f"{i}" in values else None for i in range(max(len(values), len(variables)))]
            if shapes != [tuple(variable.shape) for variable in variables]:
                raise DataError.at(self.path, f"does not fit (the {part}'s variables differ)", "the state of this network and optimiser")
            for i, variable in enumerate(variables):
                variable.assign(values[f"{i}"].astype(variable.dtype))
        for i, callback in enumerate(self.follow):
            callback.set_state(held.get(f"callback{i}", {}), content["callbacks"][i])
        self.logs, self.done = content["logs"], content["done"]
        return len(self.logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the state.

        Parameters
        ----------
        epoch : int
            From 0.
        logs : dict of str to float, optional

        Raises
        ------
        ArithmeticError
            If the loss is not finite; nothing is written then.
        """
        found = {name: float(value) for name, value in (logs or {}).items()}
        if not math.isfinite(found.get("loss", 0.0)):
            parts = ", ".join(f"{name} is {value:.4g}" for name, value in found.items())
            raise ArithmeticError(f"the loss of epoch {epoch + 1} is not finite ({parts}); try a smaller learning rate")
        self.logs = [*self.logs[:epoch], found]
        self.done = bool(self.model.stop_training) or epoch + 1 == self.params.get("epochs")
        tensors: dict[str, torch.Tensor] = {}
        for part, variables in _list_variables(self.model).items():
            for i, variable in enumerate(variables):
                tensors[f"{part}.{i}"] = _to_tensor(keras.ops.convert_to_numpy(variable))
        states = [callback.get_state() for callback in self.follow]
        for i, (arrays, _) in enumerate(states):
            tensors |= {f"callback{i}.{name}": _to_tensor(value) for name, value in arrays.items()}
        content = {"made_for": self.made_for, "callbacks": [known for _, known in states], "logs": self.logs, "done": self.done}
        write_state(self.path, tensors, content)


def _list_variables(model: Any) -> dict[str, list[Any]]:
    """Everything that a training changes, in an order that a model built anew has too; names have numbers that differ."""
    if getattr(model, "optimizer", None) is None:
        raise ValueError("the model is not compiled; expected compile(...) before its training is resumed")
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    metrics = {id(variable) for variable in model.metrics_variables}
    return {
        "model": [variable for variable in model.variables if id(variable) not in metrics], "optimizer": list(model.optimizer.variables)
    }


def _to_tensor(value: Any) -> torch.Tensor:
    """A copy; unsigned numbers, of which a generator's state consists, become wide enough ones with a sign."""
    value = np.array(value)
    return torch.from_numpy(value.astype(np.int64) if value.dtype.kind == "u" else value)

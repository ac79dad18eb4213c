"""Training in stages: start from another network's weights, keep parts of it as they are, put another head on it."""

from __future__ import annotations

import os

import torch
from torch import nn

from ..errors import DataError
from ..models.base import FaceModel
from .checkpoint import load_checkpoint

__all__ = ["freeze", "load_weights", "replace_head", "set_training_mode"]


def freeze(*modules: nn.Module) -> None:
    """Keep parts of a network as they are.

    Their weights get no gradient, and :func:`~fer_utils.training.fit.fit` leaves them in evaluation mode, so that normalisations keep
    their statistics and dropout drops nothing.
    """
    for module in modules:
        module.requires_grad_(False)


def set_training_mode(model: nn.Module) -> None:
    """Put a network in training mode, but for the modules in it whose weights are all frozen."""
    model.train()
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()


def load_weights(model: nn.Module, path: str | os.PathLike[str], *, without: tuple[str, ...] = ()) -> None:
    """Start from a network that another training left.

    Parameters
    ----------
    model : nn.Module
    path : path
        Of :func:`~fer_utils.training.checkpoint.save_checkpoint`.
    without : tuple of str
        Parts that keep the weights they have, such as ``("classifier",)`` for other classes.

    Raises
    ------
    DataError
        If the file is missing, damaged, or of a network that does not fit; the message names the first weight that does not.
    """
    left = {name: value for name, value in load_checkpoint(path)[0].state_dict().items() if name.split(".")[0] not in without}
    own = {name: value for name, value in model.state_dict().items() if name.split(".")[0] not in without}
    for name in sorted({*left, *own}):
        shapes = [list(state[name].shape) if name in state else "missing" for state in (left, own)]
        if shapes[0] != shapes[1]:
            raise DataError.at(path, f"{name} is {shapes[0]} there and {shapes[1]} here", "a network of the same parts")
    model.load_state_dict(left, strict=False)


def replace_head(model: FaceModel, num_classes: int, seed: int) -> None:
    """Put a new last layer for other classes on a network, drawn from the seed as :func:`~fer_utils.models.base.initialise` draws it.

    Parameters
    ----------
    model : FaceModel
        Changed in place.
    num_classes : int
        At least 2.
    seed : int

    Raises
    ------
    ValueError
        For fewer than 2 classes.
    """
    if num_classes < 2:
        raise ValueError(f"a head needs at least 2 classes, got {num_classes}")
    old = model.classifier
    head = nn.Linear(old.in_features, num_classes)
    nn.init.normal_(head.weight, std=0.01, generator=torch.Generator().manual_seed(seed))
    nn.init.zeros_(head.bias)
    model.classifier = head.to(old.weight.device)
    model.num_classes = num_classes
    model.settings = {**model.settings, "num_classes": num_classes}

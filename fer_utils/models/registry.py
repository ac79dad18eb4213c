"""Networks by name: those of this package, and those that a paper brings in its ``model.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

from ..discovery import import_part, list_papers
from .base import FaceModel

__all__ = ["build_model", "list_models", "register_model"]

_Model = TypeVar("_Model", bound=type[FaceModel])
_MODELS: dict[str, Callable[..., FaceModel]] = {}


def register_model(model: _Model) -> _Model:
    """Decorate a class of networks: :func:`build_model` then builds it by its ``name``.

    Raises
    ------
    ValueError
        If another class has the name.
    """
    known = _MODELS.get(model.name)
    if known is not None and (known.__module__, known.__qualname__) != (model.__module__, model.__qualname__):
        raise ValueError(f"two networks are named {model.name!r}: {known.__module__} and {model.__module__}")
    _MODELS[model.name] = model
    return model


def list_models() -> tuple[str, ...]:
    """Names of all networks, the papers' own included."""
    for paper in list_papers():
        import_part(paper, "model")
    return tuple(sorted(_MODELS))


def build_model(name: str, *, seed: int | None = None, **settings: Any) -> FaceModel:
    """Build a network by name.

    Parameters
    ----------
    name : str
        One of :func:`list_models`.
    seed : int, optional
        Draws the weights; the caller's own generator is then left as it was. Without it they come from that.
    **settings
        For the network, such as ``num_classes``, ``width`` and ``input_size``.

    Raises
    ------
    ValueError
        For an unknown name, or as the network.
    """
    if name not in _MODELS and name not in list_models():
        raise ValueError(f"unknown model {name!r}; expected one of {', '.join(list_models())}")
    if seed is None:
        return _MODELS[name](**settings)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return _MODELS[name](**settings)

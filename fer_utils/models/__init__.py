"""Networks: all take images from 0 to 1, and have ``embed``, ``classify`` and ``width``."""

from __future__ import annotations

from typing import Any

import torch

from .backbones import VGG, AlexNet, ResNet
from .base import FaceModel
from .base_dcnn import BaseDCNN
from .vgg_face import VGGFace, load_vgg_face

__all__ = ["MODELS", "VGG", "AlexNet", "BaseDCNN", "FaceModel", "ResNet", "VGGFace", "build_model", "load_vgg_face"]

#: The networks by name.
MODELS: dict[str, type[FaceModel]] = {model.name: model for model in (BaseDCNN, AlexNet, VGG, ResNet, VGGFace)}


def build_model(name: str, *, seed: int | None = None, **settings: Any) -> FaceModel:
    """Build a network by name.

    Parameters
    ----------
    name : str
        A key of ``MODELS``.
    seed : int, optional
        Draws the weights; the caller's own generator is then left as it was. Without it they come from that.
    **settings
        For the network, such as ``num_classes``, ``width`` and ``input_size``.

    Raises
    ------
    ValueError
        For an unknown name, or as the network.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; expected one of {', '.join(MODELS)}")
    if seed is None:
        return MODELS[name](**settings)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MODELS[name](**settings)

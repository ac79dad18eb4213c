"""VGG-Face (Parkhi, Vedaldi & Zisserman 2015): the network, and its weights from the files that people have."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from scipy.io import loadmat
from torch import nn

from .backbones import VGG
from .registry import register_model

__all__ = ["LAYERS", "VGGFace", "load_vgg_face"]

#: Mean of the training images, RGB, on a scale from 0 to 255.
MEAN = (129.1863, 104.7624, 93.5940)

#: The layers with weights, as the original calls them.
LAYERS = (*(f"conv{block}_{i}" for block, count in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, count + 1)), "fc6", "fc7", "fc8")

# What conversions call the layers, beside conv1_1 and conv_1_1: torchvision's numbers, and those of a Torch model as one sequence.
_TORCHVISION = (*(f"features.{i}" for i in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)), *(f"classifier.{i}" for i in (0, 3, 6)))
_SEQUENCE = (*(f"{i}" for i in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)), *(f"{i}.1" for i in (32, 35, 38)))
_NUMBERED = dict(zip((*_TORCHVISION, *_SEQUENCE), LAYERS * 2, strict=True))
_NAMED = re.compile(r"(?:features\.|classifier\.|fc\.)?(?:conv_?([1-5])_([1-3])|(fc[678]))")

_EXPECTED = "VGG-Face as MatConvNet's .mat, or a PyTorch state_dict (.pth, .pt, .safetensors) with layers named conv1_1 or conv_1_1 to " \
    "fc8, features.0 to classifier.6, or 0 to 38.1"


@register_model
class VGGFace(VGG):
    """VGG-16 for colour faces of 224x224, with the original's 2,622 people as classes and 4,096 features.

    Images are RGB from 0 to 1, as for all models; the network itself brings them to the original's scale and subtracts its mean.

    Parameters
    ----------
    num_classes : int
        2,622 where the whole network is loaded; any number where the last layer is new.
    width : float
    input_size : int
        224 where the hidden layers are loaded; any size of at least 16 for the convolutions alone.
    image_size : int, optional
        Side to which whole faces are brought first; ``input_size`` by default.
    dropout : float
        Share of outputs of each hidden layer that are dropped in training.
    """

    name = "vgg_face"

    def __init__(
        self, num_classes: int = 2622, width: float = 1.0, input_size: int = 224, image_size: int | None = None, dropout: float = 0.5
    ) -> None:
        super().__init__(num_classes, width, 3, input_size, image_size or input_size, 16, dropout, features=4096)
        for fixed in ("in_channels", "depth", "features"):
            del self.settings[fixed]
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the features ``[B, 4096]`` of RGB images ``[B, 3, S, S]`` from 0 to 1."""
        return super().embed(images * 255 - self.mean)


def load_vgg_face(model: VGGFace, path: str | os.PathLike[str], *, last: str = "fc8", channels: str | None = None) -> None:
    """Give a network the weights of a file, layer by layer up to the ``last``; the layers behind it keep theirs.

    Parameters
    ----------
    model : VGGFace
    path : path
        MatConvNet's ``vgg-face.mat``; or a PyTorch ``state_dict`` in ``.pth``, ``.pt`` or ``.safetensors``, as converters of the Caffe,
        MatConvNet or Torch files write them: layers are called ``conv1_1`` or ``conv_1_1`` to ``fc8``, ``features.0`` to
        ``classifier.6`` (torchvision), or ``0`` to ``38.1`` (a Torch sequence).
    last : str
        One of ``LAYERS``: ``"fc8"`` for all, ``"fc7"`` for another number of classes, ``"conv5_3"`` for another size of image.
    channels : {"rgb", "bgr"}, optional
        The order of colours that the file's network takes; needed for a ``state_dict``, which does not say it. MatConvNet's and what
        was converted from it (``vgg_face_dag.pth``) take RGB, Caffe's and Torch's and what was converted from them BGR.

    Raises
    ------
    ValueError
        If the file is missing, of another format, lacks a layer, holds one of another shape, or ``last`` or ``channels`` is not known. The
        network is then unchanged.
    """
    path = Path(path)
    if last not in LAYERS:
        raise ValueError(f"last must be one of {', '.join(LAYERS)}, got {last!r}")
    if channels not in ("rgb", "bgr", None):
        raise ValueError(f"channels must be 'rgb' or 'bgr', got {channels!r}")
    if not path.is_file():
        raise ValueError(f"{path}: not found; expected {_EXPECTED}")
    if path.suffix == ".mat":
        found, channels = dict(_read_matconvnet(path)), channels or "rgb"
    elif path.suffix in (".pth", ".pt", ".safetensors"):
        if channels is None:
            orders = "channels='rgb' (converted from MatConvNet) or channels='bgr' (converted from Caffe or Torch)"
            raise ValueError(f"{path}: a state_dict does not say which order of colours its network takes; expected {orders}")
        found = dict(_read_state_dict(path))
    else:
        raise ValueError(f"{path}: {path.suffix or 'no suffix'} cannot be read; expected {_EXPECTED}. Convert a .caffemodel or .t7 first")
    ours = [layer for layer in (*model.body, model.classifier) if isinstance(layer, nn.Conv2d | nn.Linear)]
    wanted = LAYERS[: LAYERS.index(last) + 1]
    pairs = []
    for name, layer in zip(wanted, ours, strict=False):
        if name not in found:
            raise ValueError(f"{path}: {name} not found; expected {_EXPECTED}")
        weight, bias = found[name]
        # a hidden layer may be stored as a convolution of the size of its input
        if weight.numel() != layer.weight.numel() or len(weight) != len(layer.weight) or bias.shape != layer.bias.shape:
            shapes = f"weights {list(weight.shape)} and biases {list(bias.shape)}"
            raise ValueError(f"{path}: {name} has {shapes}; expected {list(layer.weight.shape)} and {list(layer.bias.shape)}")
        weight = weight.reshape(layer.weight.shape)
        pairs.append((layer, weight.flip(1) if name == "conv1_1" and channels == "bgr" else weight, bias))
    with torch.no_grad():
        for layer, weight, bias in pairs:
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)


def _read_matconvnet(path: Path) -> Iterator[tuple[str, tuple[torch.Tensor, torch.Tensor]]]:
    """Layers of a MatConvNet file; its convolutions are [height, width, inputs, outputs]."""
    try:
        content = loadmat(path, variable_names=["layers"], struct_as_record=False)
    except NotImplementedError as error:
        raise ValueError(f"{path}: a .mat file of version 7.3; save it again in MATLAB with -v7") from error
    except Exception as error:  # the reader raises many kinds on damaged files
        raise ValueError(f"{path}: cannot be read ({error}); expected {_EXPECTED}") from error
    for cell in np.ravel(content.get("layers", ())):
        layer = cell.flat[0] if isinstance(cell, np.ndarray) and cell.size else cell
        name = "".join(np.ravel(getattr(layer, "name", "")))
        if name not in LAYERS:
            continue
        # either a list of two, or, in the oldest files, two fields
        fields = [getattr(layer, field, None) for field in ("filters", "biases")]
        pair = list(np.ravel(layer.weights)) if hasattr(layer, "weights") else fields
        if len(pair) != 2 or any(getattr(part, "dtype", np.dtype(object)).kind != "f" for part in pair):
            raise ValueError(f"{path}: {name} has no weights and biases; expected {_EXPECTED}")
        weight, bias = (part.astype(np.float32) for part in pair)
        weight = weight.reshape(weight.shape + (1,) * (4 - weight.ndim))  # MATLAB drops last axes of length 1
        yield name, (torch.from_numpy(weight.transpose(3, 2, 0, 1).copy()), torch.from_numpy(bias.ravel()))


def _read_state_dict(path: Path) -> Iterator[tuple[str, tuple[torch.Tensor, torch.Tensor]]]:
    """Layers of a state_dict, which may lie under ``state_dict`` and have been saved from a parallel module."""
    try:
        content: Any = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, EOFError, ValueError, KeyError, RuntimeError, AttributeError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); expected {_EXPECTED}") from error
    except Exception as error:
        # torch's refusal of anything but plain tensors: a pickled module can run code
        raise ValueError(f"{path}: no plain state_dict ({type(error).__name__}); save module.state_dict() instead of the module") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ValueError(f"{path}: no state_dict; expected {_EXPECTED}")
    content = {key.removeprefix("module."): value for key, value in content.items()}
    for key, weight in content.items():
        prefix, _, kind = key.rpartition(".")
        named = _NAMED.fullmatch(prefix)
        name = (named[3] or f"conv{named[1]}_{named[2]}") if named else _NUMBERED.get(prefix)
        if kind == "weight" and name is not None and f"{prefix}.bias" in content:
            yield name, (weight.float(), content[f"{prefix}.bias"].float())

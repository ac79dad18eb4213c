"""Make the weights of the face network from dlib's own file, once: the package ships the result.

``python -m fer_utils.models.dlib_weights dlib_face_recognition_resnet_model_v1.dat face_network.safetensors`` prints the checksum
that :mod:`~fer_utils.models.face_network` expects. The file is in the source package ``face_recognition_models`` 0.3.0.

dlib's file is a stream of layers. An integer is a byte with its length and sign, then its bytes, the lowest first; a float a mantissa
and a power of two, both such integers; a text its length and its bytes; a truth value ``"0"`` or ``"1"``.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

from ..errors import DataError
from ..files import replace_whole
from .face_network import FaceNetwork

__all__ = ["Layer", "convert", "fold_layers", "read_layers"]

_EXPECTED = "dlib_face_recognition_resnet_model_v1.dat"
_INPUT = "input_rgb_image_sized"
# What follows a layer's name: "i" integer, "f" float, "t" tensor, "a" shape of a part of the tensor before it.
_FIELDS = {
    "con_4": "tiiiiiiiaaffff", "affine_": "taai", "fc_2": "iitaaiffff", "max_pool_2": "iiiiii", "avg_pool_2": "iiiiii", "relu_": "",
    "add_prev_": "",
}
# Tensors that every layer keeps from its last batch: gradient of its input, its output, gradient of its weights.
_REMAINS = 3

PROVENANCE = {
    "author": "Davis E. King",
    "source": "dlib_face_recognition_resnet_model_v1.dat of the PyPI package face_recognition_models 0.3.0",
    "licence": "public domain (CC0 1.0)",
    "trained on": "about 3 million faces of 7,485 people: FaceScrub, VGG-Face and pictures from the web; nobody was asked",
    "changes": "batch normalisation folded into the convolutions; rounded to half precision",
}


class Layer(NamedTuple):
    """A layer of the file.

    Attributes
    ----------
    kind : str
        What dlib calls it, such as ``"con_4"``.
    sizes : tuple of int
        Its integers, in the file's order; of a convolution: filters, height, width, strides and margins, each vertical first.
    weights : float32 ``[P]``
        All its weights in one row; none for a layer without weights.
    """

    kind: str
    sizes: tuple[int, ...]
    weights: np.ndarray


class _Stream:
    """The bytes of a file, read from front to back."""

    def __init__(self, content: bytes, position: int) -> None:
        self.content, self.position = content, position

    def take(self, count: int) -> bytes:
        part = self.content[self.position : self.position + count]
        if len(part) != count:
            raise ValueError(f"ends at byte {len(self.content)}")
        self.position += count
        return part

    def integer(self) -> int:
        (control,) = self.take(1)
        if control & 0x70 or not 1 <= control & 0x0F <= 8:
            raise ValueError(f"no integer at byte {self.position - 1}")
        value = int.from_bytes(self.take(control & 0x0F), "little")
        return -value if control & 0x80 else value

    def real(self) -> float:
        mantissa, exponent = self.integer(), self.integer()
        return math.ldexp(mantissa, exponent)

    def text(self) -> str:
        return self.take(self.integer()).decode("ascii")

    def shape(self, version: int) -> tuple[int, ...]:
        found = self.integer()
        if found != version:
            raise ValueError(f"version {found} instead of {version} at byte {self.position}")
        return tuple(self.integer() for _ in range(4))

    def tensor(self) -> np.ndarray:
        return np.frombuffer(self.take(4 * math.prod(self.shape(version=2))), "<f4")


def read_layers(content: bytes) -> list[Layer]:
    """Read the layers of a network that dlib wrote, from the input upwards.

    Only kinds of layers that the face network has are known.

    Parameters
    ----------
    content : bytes
        Of a ``.dat`` file of a network with an RGB image as its input.

    Returns
    -------
    list of Layer

    Raises
    ------
    ValueError
        If the bytes are something else, or end too early or too late.
    """
    # before it: the loss, and version numbers of layers within layers
    name = bytes([1, len(_INPUT)]) + _INPUT.encode()
    start = content.find(name)
    if start < 0:
        raise ValueError(f"holds no {_INPUT}")
    stream = _Stream(content, start + len(name))
    for _ in range(3):
        stream.real()  # mean of red, green and blue
    stream.integer(), stream.integer()  # height and width
    layers: list[Layer] = []
    while stream.position < len(content):
        kind = stream.text()
        if kind not in _FIELDS:
            raise ValueError(f"unknown layer {kind!r} at byte {stream.position}")
        sizes, weights = [], np.empty(0, np.float32)
        for field in _FIELDS[kind]:
            if field == "i":
                sizes.append(stream.integer())
            elif field == "t":
                weights = stream.tensor()
            elif field == "a":
                stream.shape(version=1)
            else:
                stream.real()  # learning rate or weight decay
        stream.take(3)  # truth values on what its buffers hold
        for _ in range(_REMAINS):
            stream.tensor()
        if not layers:
            stream.integer()  # of the lowest layer: into how many samples an image is cut
        layers.append(Layer(kind, tuple(sizes), weights))
    return layers


def fold_layers(layers: list[Layer]) -> dict[str, torch.Tensor]:
    """Give the weights of the face network's ``body`` from the layers of dlib's file.

    A convolution and the scale and shift behind it become one convolution.

    Parameters
    ----------
    layers : list of Layer
        Of :func:`read_layers`.

    Returns
    -------
    dict of float32 tensors
        The ``state_dict`` of :class:`~fer_utils.models.face_network.FaceNetwork`'s ``body``.

    Raises
    ------
    ValueError
        If the layers are those of another network.
    """
    with torch.device("meta"):
        body = FaceNetwork().body
    ours = [(name, layer) for name, layer in body.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    theirs = [(layer, after) for layer, after in zip(layers, [*layers[1:], None], strict=True) if layer.kind in ("con_4", "fc_2")]
    if len(ours) != len(theirs):
        raise ValueError(f"has {len(theirs)} layers with weights instead of {len(ours)}")
    found = {}
    for (name, layer), (read, after) in zip(ours, theirs, strict=True):
        values = torch.tensor(read.weights)
        if isinstance(layer, nn.Linear):
            wanted = (layer.out_features, layer.in_features)
            if read.kind != "fc_2" or read.sizes[:2] != wanted or len(values) != math.prod(wanted):
                raise ValueError(f"{name} is {read.kind} {read.sizes} instead of {wanted}")
            found[f"{name}.weight"] = values.view(wanted[::-1]).T
            continue
        wanted = (layer.out_channels, *layer.kernel_size, *layer.stride, *layer.padding)
        count = layer.weight.numel()
        if read.sizes != wanted or len(values) != count + layer.out_channels or after is None or len(after.weights) != 2 * len(layer.bias):
            raise ValueError(f"{name} is {read.kind} {read.sizes} of {len(values)} weights instead of {wanted} of {count}, then affine_")
        scale, shift = torch.tensor(after.weights).chunk(2)
        found[f"{name}.weight"] = values[:count].view(layer.weight.shape) * scale[:, None, None, None]
        found[f"{name}.bias"] = values[count:] * scale + shift
    return found


def convert(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> str:
    """Write the weights that ship from dlib's file; the same file makes the same bytes.

    Parameters
    ----------
    source : path
        ``dlib_face_recognition_resnet_model_v1.dat``.
    target : path
        The ``.safetensors`` file: half precision, with :data:`PROVENANCE` as JSON in its metadata.

    Returns
    -------
    str
        SHA-256 of what was written.

    Raises
    ------
    DataError
        If the source cannot be read, or is the file of another network.
    """
    source = Path(source)
    try:
        content = source.read_bytes()
        tensors = fold_layers(read_layers(content))
    except OSError as error:
        raise DataError.at(source, f"cannot be read ({error.strerror})", _EXPECTED) from error
    except ValueError as error:
        raise DataError.at(source, error, _EXPECTED) from error
    about = PROVENANCE | {"sha256 of the source": hashlib.sha256(content).hexdigest()}
    # one entry: safetensors writes several in any order
    written = save({name: tensor.half().contiguous() for name, tensor in tensors.items()}, {"provenance": json.dumps(about)})
    with replace_whole(Path(target)) as partial:
        partial.write_bytes(written)
    return hashlib.sha256(written).hexdigest()


if __name__ == "__main__":
    print(convert(*sys.argv[1:]))

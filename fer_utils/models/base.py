"""What the networks share: images to features, features to class scores, and how the weights start."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn.functional import conv2d

__all__ = ["EverySecondPixel", "FaceModel", "find_flat_size", "initialise", "round_width"]


class FaceModel(nn.Module):
    """A network with a last hidden layer: ``classify(embed(images))``.

    A subclass sets ``body`` (images to features) and ``classifier`` (the last layer), and hands all its arguments on as ``settings``.

    Attributes
    ----------
    name : str
        What :func:`~fer_utils.models.registry.build_model` knows it by.
    settings : dict
        Arguments that build the same network again.
    num_classes, in_channels, input_size, embedding_size : int
        Classes ``K``; 1 for grey or 3 for RGB; side of what the network sees, in pixels; features ``D``.
    image_size : int or None
        Side to which whole faces are brought before ``input_size`` is cut out of them, in training and in testing; None: as they come.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """

    name: ClassVar[str]
    body: nn.Module
    classifier: nn.Linear

    def __init__(self, *, num_classes: int, in_channels: int, input_size: int, image_size: int | None, **settings: Any) -> None:
        super().__init__()
        if num_classes < 2 or in_channels not in (1, 3) or input_size < 16:
            given = f"num_classes={num_classes}, in_channels={in_channels}, input_size={input_size}"
            raise ValueError(f"a face model needs at least 2 classes, 1 or 3 channels and images of at least 16 pixels, got {given}")
        if image_size is not None and image_size < input_size:
            raise ValueError(f"faces of {image_size} pixels (image_size) hold no window of {input_size} (input_size)")
        self.num_classes, self.in_channels, self.input_size, self.image_size = num_classes, in_channels, input_size, image_size
        self.settings = {
            "num_classes": num_classes, "in_channels": in_channels, "input_size": input_size, "image_size": image_size, **settings
        }

    @property
    def embedding_size(self) -> int:
        """Number of features."""
        return self.classifier.in_features

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the features: activations of the last hidden layer, just before the class scores.

        Parameters
        ----------
        images : float ``[B, in_channels, input_size, input_size]``
            From 0 to 1.

        Returns
        -------
        float ``[B, embedding_size]``

        Raises
        ------
        ValueError
            If the images have another shape.
        """
        self.check_images(images)
        return self.body(images)

    def check_images(self, images: torch.Tensor) -> None:
        """Raise ``ValueError`` for images of another shape than :meth:`embed` takes."""
        expected = (self.in_channels, self.input_size, self.input_size)
        if images.shape[1:] != expected:
            raise ValueError(f"{self.name} takes images [B, {', '.join(map(str, expected))}], got {list(images.shape)}")

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Compute class scores ``[B, num_classes]`` before the softmax from features ``[B, embedding_size]``."""
        return self.classifier(features)

    def compute_outputs(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute all that an objective may ask for: ``features`` ``[B, embedding_size]`` and ``scores`` ``[B, num_classes]``.

        Networks that have more, such as masks or maps, add them under names of their own.
        """
        features = self.embed(images)
        return {"features": features, "scores": self.classify(features)}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute class scores ``[B, num_classes]`` before the softmax; see :meth:`embed` for the images."""
        return self.classify(self.embed(images))


class EverySecondPixel(nn.Conv2d):
    """A strided 1x1 convolution as an unstrided one of fewer pixels: the same numbers.

    oneDNN's own, for channels-last images of fewer channels than its block (8, or 16 with AVX-512), writes past its workspace in the
    backward pass: wrong gradients or a crash.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype
        As :class:`torch.nn.Conv2d`; the kernel is 1, without padding or groups.
    """

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute ``[B, out_channels, ceil(H / stride), ceil(W / stride)]`` from ``[B, in_channels, H, W]``."""
        down, right = self.stride
        return conv2d(images[:, :, ::down, ::right], self.weight, self.bias)


def round_width(channels: int, width: float) -> int:
    """Channels of a layer made wider or narrower, at least 1.

    Parameters
    ----------
    channels : int
        At width 1.
    width : float
        Factor, above 0.

    Raises
    ------
    ValueError
        If the width is not above 0.
    """
    if not width > 0:
        raise ValueError(f"width must be positive, got {width}")
    return max(1, round(channels * width))


@torch.no_grad()
def initialise(model: FaceModel) -> None:
    """Draw all weights as Li & Deng 2019, section V-B: MSRA (normal, variance ``2 / inputs``), biases 0; but the last layer smaller.

    MSRA's variance is made for a rectifier, and none follows the last layer: scores would start with a variance of twice the features'
    mean square, and the loss well above ``ln K``. The last layer's standard deviation is 0.01, so that it starts at ``ln K``.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    nn.init.normal_(model.classifier.weight, std=0.01)


def find_flat_size(module: nn.Module, in_channels: int, input_size: int) -> int:
    """How many numbers an image becomes in the convolutions, without computing them.

    Parameters
    ----------
    module : nn.Module
        Left as it is.
    in_channels : int
    input_size : int
        Side of the image, in pixels.
    """
    with torch.no_grad():
        return copy.deepcopy(module).to("meta")(torch.empty(1, in_channels, input_size, input_size, device="meta")).numel()

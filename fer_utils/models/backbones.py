"""AlexNet, VGG and ResNet from torchvision, made fit for small faces and for any width.

All are drawn as baseDCNN is (:func:`~fer_utils.models.base.initialise`), so that a comparison is one of architectures. Pooling without
a margin rounds up, as in Caffe. ``width`` multiplies the channels of every layer but the input and the class scores. torchvision is
imported when one of them is built: the papers' own networks need none, and a rented GPU may have none.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from .base import EverySecondPixel, FaceModel, find_flat_size, initialise, round_width
from .registry import register_model

__all__ = ["VGG", "AlexNet", "ResNet"]

#: Outputs of the second hidden layer: Li & Deng 2019 speak of 2,000 features from all their networks.
FEATURES = 2000
_VGG = {11: "A", 13: "B", 16: "D", 19: "E"}
_RESNET = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}


def _widen(module: nn.Module, width: float) -> None:
    """Replace every layer with weights by a wider or narrower one; the builders see to the first."""
    for name, layer in module.named_children():
        if isinstance(layer, nn.Conv2d):
            channels = (round_width(layer.in_channels, width), round_width(layer.out_channels, width))
            kind = EverySecondPixel if layer.kernel_size == (1, 1) and layer.stride != (1, 1) else nn.Conv2d
            setattr(module, name, kind(*channels, layer.kernel_size, layer.stride, layer.padding, bias=layer.bias is not None))
        elif isinstance(layer, nn.BatchNorm2d):
            setattr(module, name, nn.BatchNorm2d(round_width(layer.num_features, width)))
        elif isinstance(layer, nn.MaxPool2d):
            layer.ceil_mode = not layer.padding
        else:
            _widen(layer, width)


def _hidden(sizes: tuple[int, int, int], dropout: float, dropout_first: bool) -> list[nn.Module]:
    """Two rectified layers with dropout: before each layer in AlexNet, behind each in VGG."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        drop, hidden = nn.Dropout(dropout), [nn.Linear(inputs, outputs), nn.ReLU(inplace=True)]
        layers += [drop, *hidden] if dropout_first else [*hidden, drop]
    return layers


@register_model
class AlexNet(FaceModel):
    """torchvision's AlexNet, a rival in Li & Deng 2019, Table VI.

    Changed for small faces: the first convolution is 5x5 with stride 2 instead of 11x11 with stride 4, which would leave 1x1 of 90
    pixels; no pooling to a fixed 6x6 behind the convolutions; the second hidden layer has 2,000 outputs instead of 4,096, as the paper
    speaks of 2,000 features from all its networks. How the paper fitted AlexNet to its images it does not say.

    Parameters
    ----------
    num_classes : int
    width : float
    in_channels : int
        1 for grey or 3.
    input_size : int
        Side of what the network sees.
    image_size : int, optional
        Side to which whole faces are brought first.
    dropout : float
        Share of inputs of each hidden layer that are dropped in training.
    """

    name = "alexnet"

    def __init__(
        self, num_classes: int = 7, width: float = 1.0, in_channels: int = 1, input_size: int = 90, image_size: int | None = None,
        dropout: float = 0.5,
    ) -> None:
        super().__init__(
            num_classes=num_classes, width=width, in_channels=in_channels, input_size=input_size, image_size=image_size, dropout=dropout
        )
        from torchvision import models

        with torch.device("meta"):  # its 60 million weights are not drawn, only to be replaced
            layers = models.AlexNet().features
        _widen(layers, width)
        layers[0] = nn.Conv2d(in_channels, layers[0].out_channels, 5, stride=2, padding=2)
        flat, hidden, features = find_flat_size(layers, in_channels, input_size), round_width(4096, width), round_width(FEATURES, width)
        self.body = nn.Sequential(*layers, nn.Flatten(), *_hidden((flat, hidden, features), dropout, dropout_first=True))
        self.classifier = nn.Linear(features, num_classes)
        initialise(self)


@register_model
class VGG(FaceModel):
    """torchvision's VGG without batch normalisation, a rival in Li & Deng 2019, Table VI.

    Changed for small faces: no pooling to a fixed 7x7 behind the convolutions (90 pixels leave 3x3); the second hidden layer has 2,000
    outputs instead of 4,096, see :class:`AlexNet`. Which depth the paper used it does not say.

    Parameters
    ----------
    num_classes : int
    width : float
    in_channels : int
        1 for grey or 3.
    input_size : int
        Side of what the network sees.
    image_size : int, optional
        Side to which whole faces are brought first.
    depth : {11, 13, 16, 19}
        Layers with weights.
    dropout : float
        Share of outputs of each hidden layer that are dropped in training.
    features : int
        Outputs of the second hidden layer at width 1.

    Raises
    ------
    ValueError
        For another depth.
    """

    name = "vgg"

    def __init__(
        self, num_classes: int = 7, width: float = 1.0, in_channels: int = 1, input_size: int = 90, image_size: int | None = None,
        depth: int = 16, dropout: float = 0.5, features: int = FEATURES,
    ) -> None:
        super().__init__(
            num_classes=num_classes, width=width, in_channels=in_channels, input_size=input_size, image_size=image_size,
            depth=depth, dropout=dropout, features=features,
        )
        if depth not in _VGG:
            raise ValueError(f"depth must be one of {', '.join(map(str, _VGG))}, got {depth}")
        from torchvision.models.vgg import cfgs, make_layers

        with torch.device("meta"):
            layers = make_layers(cfgs[_VGG[depth]])
        _widen(layers, width)
        layers[0] = nn.Conv2d(in_channels, layers[0].out_channels, 3, padding=1)
        flat, hidden, features = find_flat_size(layers, in_channels, input_size), round_width(4096, width), round_width(features, width)
        self.body = nn.Sequential(*layers, nn.Flatten(), *_hidden((flat, hidden, features), dropout, dropout_first=False))
        self.classifier = nn.Linear(features, num_classes)
        initialise(self)


@register_model
class ResNet(FaceModel):
    """torchvision's ResNet of basic blocks.

    Changed for small faces: the first convolution is 3x3 with stride 1 instead of 7x7 with stride 2. Features are the 512 means over
    what is left of the image; there is no hidden layer. In several processes on CPUs each normalises its own share of a batch.

    Parameters
    ----------
    num_classes : int
    width : float
    in_channels : int
        1 for grey or 3.
    input_size : int
        Side of what the network sees.
    image_size : int, optional
        Side to which whole faces are brought first.
    depth : {18, 34}
        Layers with weights.

    Raises
    ------
    ValueError
        For another depth.
    """

    name = "resnet"

    def __init__(
        self, num_classes: int = 7, width: float = 1.0, in_channels: int = 1, input_size: int = 90, image_size: int | None = None,
        depth: int = 18,
    ) -> None:
        super().__init__(
            num_classes=num_classes, width=width, in_channels=in_channels, input_size=input_size, image_size=image_size, depth=depth
        )
        if depth not in _RESNET:
            raise ValueError(f"depth must be one of {', '.join(map(str, _RESNET))}, got {depth}")
        from torchvision import models
        from torchvision.models.resnet import BasicBlock

        with torch.device("meta"):
            whole = models.ResNet(BasicBlock, list(_RESNET[depth]))
        layers = nn.Sequential(*list(whole.children())[:-1], nn.Flatten())
        _widen(layers, width)
        layers[0] = nn.Conv2d(in_channels, layers[0].out_channels, 3, padding=1, bias=False)
        self.body = layers
        self.classifier = nn.Linear(round_width(512, width), num_classes)
        initialise(self)

"""baseDCNN, the network of the RAF-DB paper (Li & Deng 2019, Table IV)."""

from __future__ import annotations

from torch import nn

from ...models.base import FaceModel, find_flat_size, initialise, round_width
from ...models.registry import register_model

__all__ = ["BaseDCNN"]

#: Channels of the 3x3 convolutions; "M" is a pooling of 2x2 with stride 2.
LAYERS = (64, "M", 96, "M", 128, 128, "M", 256, 256)
FEATURES = 2000


@register_model
class BaseDCNN(FaceModel):
    """Six convolutions of 3x3, three poolings, a hidden layer of 2,000 (Li & Deng 2019, Table IV and section V-B).

    Every convolution and the hidden layer are rectified. Features are taken after the rectifier, as the paper's "activation features".
    Pooling rounds up, as in Caffe, which the paper used: 90 pixels become 45, 23, 12. With PyTorch's default they become 11, and the
    network has 63 instead of 75 million weights.

    Parameters
    ----------
    num_classes : int
    width : float
        Factor of all channels and of the hidden layer; 1 in the paper.
    in_channels : int
        1 for grey, as in the paper, or 3.
    input_size : int
        Side of what the network sees; 90 in the paper, cut out of 100.
    image_size : int, optional
        Side to which whole faces are brought first.
    bottleneck : int, optional
        Put a linear layer with so many outputs behind the hidden layer, and take the features there: 2 of them can be plotted (Fig. 9).

    Raises
    ------
    ValueError
        If an argument is out of range.
    """

    name = "base_dcnn"

    def __init__(
        self, num_classes: int = 7, width: float = 1.0, in_channels: int = 1, input_size: int = 90, image_size: int | None = None,
        bottleneck: int | None = None,
    ) -> None:
        super().__init__(
            num_classes=num_classes, width=width, in_channels=in_channels, input_size=input_size, image_size=image_size,
            bottleneck=bottleneck,
        )
        layers: list[nn.Module] = []
        channels = in_channels
        for layer in LAYERS:
            if layer == "M":
                layers.append(nn.MaxPool2d(2, 2, ceil_mode=True))
            else:
                wide = round_width(int(layer), width)
                layers += [nn.Conv2d(channels, wide, 3, padding=1), nn.ReLU(inplace=True)]
                channels = wide
        layers.append(nn.Flatten())
        features = round_width(FEATURES, width)
        layers += [nn.Linear(find_flat_size(nn.Sequential(*layers), in_channels, input_size), features), nn.ReLU(inplace=True)]
        if bottleneck is not None:
            if bottleneck < 1:
                raise ValueError(f"a bottleneck needs at least 1 output, got {bottleneck}")
            layers.append(nn.Linear(features, bottleneck))
            features = bottleneck
        self.body = nn.Sequential(*layers)
        self.classifier = nn.Linear(features, num_classes)
        initialise(self)

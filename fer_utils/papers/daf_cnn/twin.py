"""The same network in PyTorch, with the weights of one in Keras: for parity, gradients, and the time of a step.

Where the two differ: Keras' batch normalisation keeps the variance of a batch as it is, PyTorch's that of the
population it was drawn from, so after a training step the kept variances differ by a factor of n / (n - 1), with n
the values of a channel in a batch. Keras' Adam adds its epsilon before the moments are corrected, PyTorch's after.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from ...augment import center_crop
from ...models.base import round_width
from .backend import keras
from .recipe import DAFCNN

__all__ = ["Twin", "make_twin", "make_twin_optimizer", "prepare_twin"]


class Twin(nn.Module):
    """DAF-CNN in PyTorch; see :func:`~fer_utils.papers.daf_cnn.model.build_daf_cnn` for what its parts are.

    Parameters
    ----------
    recipe : DAFCNN
    num_classes : int
    """

    def __init__(self, recipe: DAFCNN, num_classes: int = 7) -> None:
        super().__init__()
        self.recipe = recipe
        channels, self.blocks = recipe.in_channels, nn.ModuleList()
        for block, (count, wide) in enumerate(zip(recipe.convolutions, recipe.channels, strict=True), 1):
            layers: list[nn.Module] = []
            for _ in range(count):
                own = round_width(wide, recipe.width)
                # Keras' momentum of 0.9 is PyTorch's 0.1
                layers += [
                    nn.Conv2d(channels, own, 3, padding=1, bias=False),
                    nn.BatchNorm2d(own, eps=1e-5, momentum=0.1),
                    nn.ReLU(),
                ]
                channels = own
            pool = [nn.MaxPool2d(2, ceil_mode=True)] if block <= recipe.pools else []
            self.blocks.append(nn.Sequential(*layers, *pool))
        side = recipe.input_size
        for _ in range(recipe.pools):
            side = -(-side // 2)
        if recipe.attention is not None:
            self.first = nn.Linear(channels, max(1, channels // recipe.reduction))
            self.second = nn.Linear(self.first.out_features, channels)
            over_width = recipe.pool_over == "width"
            stride = (1, 2) if over_width else 1
            self.convolution = nn.Conv2d(channels if over_width else 2, 1, recipe.kernel_size, stride=stride)
        self.dense = nn.Linear(side * side * channels, round_width(recipe.dense, recipe.width))
        self.embedding = nn.Linear(self.dense.out_features, recipe.embedding_size)
        self.scores = nn.Linear(recipe.embedding_size, num_classes)
        self.dropout = nn.Dropout(recipe.dropout)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Look at images.

        Parameters
        ----------
        images : float ``[B, C, S, S]``
            From 0 to 255, with S the recipe's ``input_size``: windows are cut before.

        Returns
        -------
        dict of str to Tensor
            ``maps`` ``[B, C, h, w]``, which attention meets; ``channel_attention`` ``[B, C, 1, 1]`` and
            ``spatial_attention`` ``[B, 1, h, w]`` or, over the width, ``[B, 1, h, 1]``; ``embedding`` ``[B, D]`` and
            ``scores`` ``[B, K]``.
        """
        maps = images / 255
        for block in self.blocks:
            maps = block(maps)
        return {"maps": maps, **self.decide(maps)}

    def decide(self, maps: torch.Tensor) -> dict[str, torch.Tensor]:
        """What follows the convolutions: all of :meth:`forward` but ``maps`` ``[B, C, h, w]``, which it is given."""
        found: dict[str, torch.Tensor] = {}
        if self.recipe.attention is not None:
            found["channel_attention"] = self.weigh_channels(maps)
            weighted = maps * found["channel_attention"]
            found["spatial_attention"] = self.weigh_places(weighted if self.recipe.attention == "cascaded" else maps)
            maps = weighted * found["spatial_attention"]
        flat = maps.permute(0, 2, 3, 1).flatten(1)  # as Keras does, channels last
        found["embedding"] = self.embedding(self.dropout(self.dense(flat).relu()))
        found["scores"] = self.scores(self.dropout(found["embedding"]))
        return found

    def weigh_channels(self, maps: torch.Tensor) -> torch.Tensor:
        """Zhou et al., eq. 1 and 2: weights ``[B, C, 1, 1]`` of maps ``[B, C, h, w]``."""
        scores = [self.second(self.first(pooled).relu()) for pooled in (maps.mean((2, 3)), maps.amax((2, 3)))]
        if self.recipe.net_output == "sigmoid":
            scores = [score.sigmoid() for score in scores]
        return (scores[0] + scores[1]).sigmoid()[:, :, None, None]

    def weigh_places(self, maps: torch.Tensor) -> torch.Tensor:
        """Zhou et al., eq. 3: weights ``[B, 1, h, w]`` or ``[B, 1, h, 1]`` of maps ``[B, C, h, w]``."""
        axis = 3 if self.recipe.pool_over == "width" else 1
        joined = torch.cat([maps.mean(axis, keepdim=True), maps.amax(axis, keepdim=True)], axis)
        # Keras pads so that a stride leaves the size over the stride, with the odd row behind
        pads = []
        for size, stride in zip(joined.shape[:1:-1], self.convolution.stride[::-1], strict=True):
            whole = max((-(-size // stride) - 1) * stride + self.recipe.kernel_size - size, 0)
            pads += [whole // 2, whole - whole // 2]
        return self.convolution(nn.functional.pad(joined, pads)).sigmoid()


def make_twin(network: Any, recipe: DAFCNN) -> Twin:
    """Build the twin of a network and give it the network's weights.

    Parameters
    ----------
    network : keras.Model
    recipe : DAFCNN
        The one that it was built by.

    Returns
    -------
    Twin
        In evaluation mode.
    """

    def read(name: str) -> list[torch.Tensor]:
        return [
            torch.tensor(np.array(keras.ops.convert_to_numpy(weight))) for weight in network.get_layer(name).weights
        ]

    twin = Twin(recipe, network.output["scores"].shape[1])
    with torch.no_grad():
        for block, layers in enumerate(twin.blocks, 1):
            convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
            normalisations = [layer for layer in layers if isinstance(layer, nn.BatchNorm2d)]
            for number, (convolution, normalisation) in enumerate(zip(convolutions, normalisations, strict=True), 1):
                name = f"block{block}_convolution{number}"
                convolution.weight.copy_(read(name)[0].permute(3, 2, 0, 1))
                own = (normalisation.weight, normalisation.bias, normalisation.running_mean, normalisation.running_var)
                for target, source in zip(own, read(f"{name}_normalisation"), strict=True):
                    target.copy_(source)
        dense = {twin.dense: read("dense"), twin.embedding: read("embedding"), twin.scores: read("scores")}
        if recipe.attention is not None:
            weights = read("channel_attention")
            dense |= {twin.first: weights[:2], twin.second: weights[2:]}
            kernel, bias = read("spatial_attention")
            twin.convolution.weight.copy_(kernel.permute(3, 2, 0, 1))
            twin.convolution.bias.copy_(bias)
        for layer, (kernel, bias) in dense.items():
            layer.weight.copy_(kernel.T)
            layer.bias.copy_(bias)
    return twin.eval()


def make_twin_optimizer(twin: Twin, recipe: DAFCNN) -> torch.optim.Optimizer:
    """Adam with the settings of Keras'.

    Parameters
    ----------
    twin : Twin
    recipe : DAFCNN
        For the learning rate.
    """
    return torch.optim.Adam(twin.parameters(), recipe.learning_rate, eps=1e-7)


def prepare_twin(images: np.ndarray, recipe: DAFCNN) -> torch.Tensor:
    """Bring what a network in Keras takes to its twin: the middle, as large as the window.

    Parameters
    ----------
    images : uint8 ``[N, S, S, C]``
    recipe : DAFCNN
        For the side of the window ``s``.

    Returns
    -------
    float32 ``[N, C, s, s]``
        From 0 to 255.
    """
    return center_crop(torch.tensor(images).permute(0, 3, 1, 2), recipe.input_size).float()

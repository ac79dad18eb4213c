"""The face network in two parts: lower stages that stay as they are, and upper ones that learn on the maps that those give."""

from __future__ import annotations

import numpy as np
from torch import nn

from ...models import build_model
from ...models.face_network import STAGES, FaceNetwork, load_face_network
from ...models.upper_stages import UpperStages
from ...training.features import compute_named

__all__ = ["build_upper_stages", "cut_after", "predict_maps"]


def build_upper_stages(stage: str, num_classes: int, seed: int, *, pretrained: bool) -> UpperStages:
    """Build the stages above one; the last layer is drawn from the seed.

    Parameters
    ----------
    stage : str
        The last that is left out, such as ``"stage_128"``.
    num_classes : int
    seed : int
    pretrained : bool
        With the weights that ship; otherwise all are drawn.
    """
    if pretrained:
        return UpperStages(load_face_network(num_classes, seed=seed), stage)
    network = build_model(FaceNetwork.name, seed=seed, num_classes=num_classes)
    assert isinstance(network, FaceNetwork)
    return UpperStages(network, stage)


def cut_after(network: FaceNetwork, stage: str) -> FaceNetwork:
    """End a network after a stage, in place: its features are then that stage's maps as one row, ``[B, C * S * S]``.

    Parameters
    ----------
    network : FaceNetwork
    stage : str
        One of ``STAGES``.
    """
    network.body = nn.Sequential(network.body[: STAGES.index(stage) + 1], nn.Flatten())
    return network


def predict_maps(model: UpperStages, maps: np.ndarray, batch_size: int = 256) -> np.ndarray:
    """Find the class with the highest score, int64 ``[N]``.

    Parameters
    ----------
    model : UpperStages
    maps : float32 ``[N, C, S, S]``
        Of the last stage that the model leaves out.
    batch_size : int
    """
    return compute_named(model, maps, "scores", batch_size=batch_size).argmax(axis=1)

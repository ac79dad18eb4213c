"""The face network in two parts: lower stages that stay as they are, and upper ones that learn on the maps that those give."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ...models import build_model
from ...models.face_network import STAGES, FaceNetwork, load_face_network
from ...training.features import compute_named

__all__ = ["UpperStages", "build_upper_stages", "cut_after", "predict_maps"]


class UpperStages(nn.Module):
    """The stages above the frozen ones, with the last layer; it takes maps, so each face passes the frozen stages once.

    Parameters
    ----------
    network : FaceNetwork
        Its modules are used, not copied.
    stage : str
        The last frozen stage, one of ``fer_utils.models.face_network.STAGES``.
    """

    def __init__(self, network: FaceNetwork, stage: str) -> None:
        super().__init__()
        self.body = network.body[STAGES.index(stage) + 1 :]
        self.classifier = network.classifier
        self.num_classes = network.num_classes

    def compute_outputs(self, maps: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute ``features`` ``[B, 128]`` and ``scores`` ``[B, num_classes]`` from maps ``[B, C, S, S]`` of the last frozen stage."""
        features = self.body(maps)
        return {"features": features, "scores": self.classifier(features)}


def build_upper_stages(stage: str, num_classes: int, seed: int, *, pretrained: bool) -> UpperStages:
    """Build the stages above ``stage`` with the weights that ship, or all drawn from the seed; the last layer is drawn in both cases."""
    if pretrained:
        return UpperStages(load_face_network(num_classes, seed=seed), stage)
    network = build_model(FaceNetwork.name, seed=seed, num_classes=num_classes)
    assert isinstance(network, FaceNetwork)
    return UpperStages(network, stage)


def cut_after(network: FaceNetwork, stage: str) -> FaceNetwork:
    """End a network after a stage, in place: its features are then that stage's maps as one row, ``[B, C * S * S]``."""
    network.body = nn.Sequential(network.body[: STAGES.index(stage) + 1], nn.Flatten())
    return network


def predict_maps(model: UpperStages, maps: np.ndarray, batch_size: int = 256) -> np.ndarray:
    """Find the class with the highest score, int64 ``[N]``, from maps float32 ``[N, C, S, S]``, on the CPU or where the model is."""
    return compute_named(model, maps, "scores", batch_size=batch_size).argmax(axis=1)

"""The stages of the face network above the frozen ones, which learn on maps: each face passes the frozen ones once."""

from __future__ import annotations

import torch
from torch import nn

from .face_network import STAGES, FaceNetwork

__all__ = ["UpperStages"]


class UpperStages(nn.Module):
    """The stages above a frozen one, with the last layer, as a network of its own that takes maps.

    Parameters
    ----------
    network : FaceNetwork
        Its modules are used, not copied.
    stage : str
        The last frozen stage, one of ``fer_utils.models.face_network.STAGES``.
    normalised : bool
        Normalise the features over the batch. Losses with centres need it: with the lambda of Li et al. 2021 they
        diverge within ten steps on features as they come.
    """

    def __init__(self, network: FaceNetwork, stage: str, *, normalised: bool = False) -> None:
        super().__init__()
        self.num_classes, self.embedding_size = network.num_classes, network.embedding_size
        self.body = network.body[STAGES.index(stage) + 1 :]
        if normalised:
            self.body.append(nn.BatchNorm1d(self.embedding_size))
        self.classifier = network.classifier

    def compute_outputs(self, maps: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute ``features`` ``[B, 128]`` and ``scores`` ``[B, num_classes]`` from the last frozen maps ``[B, C, S, S]``."""
        features = self.body(maps)
        return {"features": features, "scores": self.classifier(features)}

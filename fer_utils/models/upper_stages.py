"""The upper stages of the face network as a network of its own, which learns on maps that were computed once."""

from __future__ import annotations

import torch
from torch import nn

from .face_network import STAGES, FaceNetwork

__all__ = ["UpperStages"]


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
        self.num_classes, self.embedding_size = network.num_classes, network.embedding_size

    def compute_outputs(self, maps: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute ``features`` ``[B, 128]`` and ``scores`` ``[B, num_classes]``.

        Parameters
        ----------
        maps : float ``[B, C, S, S]``
            Of the last frozen stage.
        """
        features = self.body(maps)
        return {"features": features, "scores": self.classifier(features)}

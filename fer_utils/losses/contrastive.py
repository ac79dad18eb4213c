"""Contrastive loss: pairs of one class together, pairs of two classes a margin apart."""

from __future__ import annotations

import torch
from torch.nn.functional import pdist

from .base import EmbeddingLoss, choose

__all__ = ["ContrastiveLoss"]


class ContrastiveLoss(EmbeddingLoss):
    """Half the squared distance, or half the squared gap to the margin (Zhang, Su & Wang 2020, eq. 3-4).

    ``d^2 / 2`` for two samples of one class, ``max(0, margin - d)^2 / 2`` for two classes, with ``d`` the Euclidean distance.

    Parameters
    ----------
    margin : float
        10 in the paper, for eyes, mouth and the whole face alike.
    pairs : {"all", "halves"}
        ``"all"``: each two samples of the batch. ``"halves"``: row ``i`` with row ``i + B/2``, as in the paper, whose network takes two
        images; how these are drawn it does not say.
    reduction : {"mean", "sum"}
        Over the pairs.

    Notes
    -----
    Pairs are formed within a process. A batch without a pair has loss 0. Two samples of different classes at the same place have no
    direction to part in: their loss is ``margin^2 / 2``, their gradient 0.
    """

    def __init__(self, *, margin: float = 10.0, pairs: str = "all", reduction: str = "mean") -> None:
        super().__init__(reduction)
        if not margin > 0:
            raise ValueError(f"margin must be positive, got {margin}")
        self.margin = margin
        self.pairs = choose("pairs", pairs, ("all", "halves"))

    def extra_repr(self) -> str:
        """Options, for ``print``."""
        return f"margin={self.margin:g}, pairs={self.pairs!r}, reduction={self.reduction!r}"

    def _loss(self, embeddings: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor | None) -> torch.Tensor:
        count = len(labels)
        if self.pairs == "halves":
            if count % 2:
                raise ValueError(f"pairs='halves' needs an even number of embeddings, got {count}")
            (left, right), (first, second) = embeddings.chunk(2), labels.chunk(2)
            distances = torch.linalg.vector_norm(left - right, dim=1)
        else:
            first, second = labels[torch.triu_indices(count, count, 1, device=labels.device)]
            distances = pdist(embeddings)  # the pairs in this order
        gaps = torch.where(first == second, distances, (self.margin - distances).relu())
        return self._reduce(gaps.square() / 2)

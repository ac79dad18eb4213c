"""Locality preserving loss: pull each feature to the mean of its nearest neighbours of the same class, in the whole training set."""

from __future__ import annotations

import torch

from .bank import FeatureBank
from .base import EmbeddingLoss

__all__ = ["LocalityPreservingLoss"]


class LocalityPreservingLoss(EmbeddingLoss):
    """``1/(2B) sum_i |e_i - m_i|^2``, ``m_i`` the mean of the ``k`` nearest neighbours of the same class (Li & Deng 2019, eq. 4).

    With a bank, ``loss(embeddings, labels, indices)`` looks for neighbours among the newest features of all training samples, as the paper
    does (V-C). A training call first puts the batch's features into the bank; ``loss.bank.update`` can fill it in advance.

    Without a bank, or without ``indices``, neighbours come from the batch, as in code found in public. Of a class that is 2 % of the set, a
    batch of 64 holds one or two samples: there are no 20 neighbours to find. Use it for toys, or where there is no training set.

    Parameters
    ----------
    k : int
        Neighbours; 20 in Li & Deng 2019, V-B.
    bank : FeatureBank, optional
        Of the training set.
    reduction : {"mean", "sum"}
        Over the batch; eq. 4 is ``"mean"``.

    Raises
    ------
    ValueError
        If ``k`` is below 1.

    Notes
    -----
    ``m_i`` is the sum of the neighbours over their number, which is less than ``k`` in a small class; a sample without neighbours has loss
    0. Eq. 4 to the letter divides by ``k`` all the same, and so pulls small classes to the origin.

    Neighbours are constants: the gradient is ``(e_i - m_i) / B``, eq. 5. With neighbours from the same batch the true gradient of eq. 4 has
    a second part, from the samples that ``e_i`` is a neighbour of, which eq. 5 leaves out; with the bank there is none.

    Do not make the loss a part of the module that DistributedDataParallel wraps, which would send the bank around at every step.
    """

    def __init__(self, k: int = 20, *, bank: FeatureBank | None = None, reduction: str = "mean") -> None:
        super().__init__(reduction)
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        self.k = k
        self.bank = bank

    def extra_repr(self) -> str:
        """Options, for ``print``."""
        return f"k={self.k}, reduction={self.reduction!r}"

    def _loss(self, embeddings: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor | None) -> torch.Tensor:
        if self.bank is None or indices is None:
            differences = _subtract_means_of_batch(embeddings, labels, self.k)
        else:
            if self.training and torch.is_grad_enabled():
                self.bank.update(embeddings, indices)
            neighbours = self.bank.find_neighbours(embeddings, labels, indices, self.k)
            differences = self.bank.subtract_means(embeddings, labels, neighbours)
        return self._reduce(differences.square().sum(1) / 2)


def _subtract_means_of_batch(embeddings: torch.Tensor, labels: torch.Tensor, k: int) -> torch.Tensor:
    """``e_i - m_i`` ``[B, D]`` with neighbours from the batch, which are constants; 0 for a sample without any."""
    fixed = embeddings.detach()
    distances = torch.cdist(fixed, fixed, compute_mode="donot_use_mm_for_euclid_dist")  # [B, B]
    distances = distances.where(labels[:, None] == labels, torch.inf).fill_diagonal_(torch.inf)
    nearest = distances.topk(min(k, len(labels)), largest=False)
    found = nearest.values.isfinite()  # [B, k]
    counts = found.sum(1, keepdim=True)  # [B, 1]
    means = (fixed[nearest.indices] * found[..., None]).sum(1) / counts.clamp_min(1)  # [B, D]
    return embeddings - means.where(counts > 0, fixed)

"""Center loss: pull each feature to the centre of its class."""

from __future__ import annotations

import torch

from .base import LossWithCentres

__all__ = ["CenterLoss"]


class CenterLoss(LossWithCentres):
    """Half the squared distance to the centre of the class (Wen et al., ECCV 2016; the rival in Li & Deng 2019, V-C).

    With ``reduction="mean"`` it is ``1/(2B) sum_i |e_i - c_{y_i}|^2``, the scale of Li & Deng 2019, eq. 4, so that one lambda serves both.
    ``"sum"`` is Wen's eq. 2, whose gradient is Li et al. 2021, eq. 3.

    Parameters
    ----------
    num_classes, embedding_size : int
    update : {"alpha", "gradient"}
        ``"alpha"``: ``c_j <- c_j - alpha * sum_i [y_i = j] (c_j - e_i) / (1 + n_j)``, with ``n_j`` samples of the class in the batch. The
        step is the gradient of the sum, divided by ``1 + n_j``; it can never overshoot, however large the class. ``"gradient"``: the
        centres are a parameter.
    alpha : float
        In (0, 1].
    reduction : {"mean", "sum"}
    init_std : float
        Of the first centres' coordinates.

    Notes
    -----
    A class absent from the batch keeps its centre.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        *,
        update: str = "alpha",
        alpha: float = 0.5,
        reduction: str = "mean",
        init_std: float = 0.01,
    ) -> None:
        super().__init__(num_classes, embedding_size, update, alpha, reduction, init_std)

    def _value(self, embeddings: torch.Tensor, labels: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
        return self._reduce((embeddings - centres[labels]).square().sum(1) / 2)

    def _centre_step(self, embeddings: torch.Tensor, labels: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
        return self._pull(embeddings, labels, centres)

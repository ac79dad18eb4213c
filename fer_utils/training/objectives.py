"""Objectives: what a training makes small. Outputs of a network and a batch become a loss with named parts."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ..losses import GatheredLoss

__all__ = ["CrossEntropy", "CrossEntropyWithMetric", "Objective"]


class Objective(nn.Module):
    """Base of the objectives of :func:`~fer_utils.training.fit.fit`: ``objective(outputs, batch)`` is a dict with ``"loss"``.

    Parameters that it holds join the optimiser, without weight decay; parameters and buffers are in the checkpoint. Its settings belong in
    attributes: a checkpoint of other settings is refused.
    """

    def forward(self, outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Compute the loss of a batch.

        Parameters
        ----------
        outputs : dict of str to float32 tensor ``[B, ...]``
            What ``model.compute_outputs`` gave, such as ``scores`` ``[B, K]`` and ``features`` ``[B, D]``.
        batch : dict of str to tensor ``[B, ...]``
            ``images`` as the network saw them, ``labels`` and ``indices`` int64 ``[B]``, and the columns that the training was given.

        Returns
        -------
        dict of str to scalar tensor
            ``"loss"``, which is made small, and any other parts, which are only recorded. The same names at every step.
        """
        raise NotImplementedError


class CrossEntropy(Objective):
    """Cross-entropy of class scores: the loss that the papers call softmax."""

    def forward(self, outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """See :meth:`Objective.forward`."""
        return {"loss": cross_entropy(outputs["scores"], batch["labels"])}


class CrossEntropyWithMetric(Objective):
    """Cross-entropy plus a weighted loss on features: ``L = L_softmax + lambda * L_metric`` (Li & Deng 2019, eq. 6, and the other papers).

    Parameters
    ----------
    metric_loss : nn.Module
        ``metric_loss(features, labels)`` gives a scalar: one of :mod:`fer_utils.losses`, of pytorch-metric-learning, or your own. If its
        ``forward`` has an argument ``indices``, it also gets the positions int64 ``[B]`` of the samples. Centres or a bank that it keeps
        may change when it is called. Where several processes share a batch, each gives it all of it
        (:class:`~fer_utils.losses.gathered.GatheredLoss`).
    weight : float
        Lambda; where it is 0 the loss is not called.

    Raises
    ------
    ValueError
        If the weight is below 0 or not finite.
    """

    def __init__(self, metric_loss: nn.Module, weight: float) -> None:
        super().__init__()
        if not 0 <= weight < float("inf"):
            raise ValueError(f"weight must be finite and not below 0, got {weight}")
        self.metric = GatheredLoss(metric_loss) if weight else None
        self.weight = weight

    def forward(self, outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Parts ``loss``, ``cross-entropy`` and ``metric``, the latter before it is weighted; see :meth:`Objective.forward`."""
        softmax = cross_entropy(outputs["scores"], batch["labels"])
        if self.metric is None:
            return {"loss": softmax}
        metric = self.metric(outputs["features"], batch["labels"], batch["indices"])
        return {"loss": softmax + self.weight * metric, "cross-entropy": softmax, "metric": metric}

"""What the networks of Li et al. 2021 are trained for: softmax alone, or with center, island or islets loss (eq. 5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.nn.functional import pdist

from ...losses import CenterLoss, IslandLoss, IsletsLoss
from ...models import FaceModel
from ...training import CrossEntropy, CrossEntropyWithMetric, Objective
from .recipe import LBANIL

__all__ = ["LOSSES", "CrossEntropyWithCentres", "make_objective"]

#: As the rows of Table 4 name them.
LOSSES = ("Softmax loss", "Center loss", "Island loss", "Islets loss")


class CrossEntropyWithCentres(CrossEntropyWithMetric):
    """Cross-entropy plus a weighted loss on features with centres, whose places it records.

    Besides the parts of its base: ``centre distance``, the mean over pairs of centres before the step; ``centre length``, the mean distance
    from the origin; and ``log penalty``, the logarithm of eq. 1, minus the sum of the distances.

    Parameters
    ----------
    metric_loss : nn.Module
        With ``centres``, such as those of :mod:`fer_utils.losses`.
    weight : float
        Lambda; where it is 0 the loss is not called.
    """

    def forward(self, outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """See ``Objective.forward``."""
        if self.metric is None:
            return super().forward(outputs, batch)
        with torch.no_grad():
            centres = self.metric.loss.centres
            distances = pdist(centres)  # [K (K - 1) / 2]
            places = {
                "centre distance": distances.mean(), "centre length": centres.norm(dim=1).mean(), "log penalty": -distances.sum(),
            }
        return {**super().forward(outputs, batch), **places}


def make_objective(
    loss: str, model: FaceModel, recipe: LBANIL, seed: int, *, weight: float | None = None, centre_std: float | None = None,
    centre_rule: str | None = None,
) -> Objective:
    """Make the objective of a loss, with one lambda for all of them.

    Parameters
    ----------
    loss : str
        One of :data:`LOSSES`.
    model : FaceModel
    recipe : LBANIL
    seed : int
        Draws the first centres, alike for all losses.
    weight, centre_std, centre_rule : float, float and str, optional
        The recipe's by default.

    Raises
    ------
    ValueError
        For an unknown loss, or as the losses.
    """
    if loss not in LOSSES:
        raise ValueError(f"unknown loss {loss!r}; expected one of {', '.join(LOSSES)}")
    if loss == "Softmax loss":
        return CrossEntropy()
    rule = recipe.centre_rule if centre_rule is None else centre_rule
    options = {
        "alpha": recipe.centre_rate, "reduction": recipe.reduction, "init_std": recipe.centre_std if centre_std is None else centre_std
    }
    makers: dict[str, Callable[[int, int], nn.Module]] = {
        "Center loss": lambda classes, size: CenterLoss(classes, size, **options),
        "Island loss": lambda classes, size: IslandLoss(classes, size, lambda1=recipe.lambda1, centre_rule=rule, **options),
        "Islets loss": lambda classes, size: IsletsLoss(
            classes, size, lambda1=recipe.lambda1, lambda2=recipe.lambda2, centre_rule=rule, **options
        ),
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        metric = makers[loss](model.num_classes, model.embedding_size)
    return CrossEntropyWithCentres(metric, recipe.weight if weight is None else weight)

"""What WS-LGAN is trained for: two streams' softmax losses, and a contrastive loss for eyes, mouth and whole face (eq. 10)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ...losses import ContrastiveLoss
from ...training import Objective
from .model import WSLGAN
from .recipe import Recognition

__all__ = ["PairObjective", "make_objective"]


class PairObjective(Objective):
    """``lambda_1 L_e + lambda_2 L_m + lambda_3 L_g + lambda_4 L_1 + lambda_5 L_2`` (Zhang, Su & Wang 2020, eq. 3, 4 and 10).

    A batch is two streams, one behind the other: row ``i`` and row ``i + B / 2`` are a pair, as
    :class:`~fer_utils.training.sampling.Pairs` draws them. The paper's equation 10 has no sixth term for the sixth weight that it lists.

    Parameters
    ----------
    contrastive : dict of str to float
        Weight of each branch's contrastive loss, by the names of the network's branches; where it is 0 the loss is not called.
    softmax : (float, float)
        Weights of the two streams.
    margin : float

    Raises
    ------
    ValueError
        If a weight is below 0 or not finite.
    """

    def __init__(self, contrastive: Mapping[str, float], softmax: tuple[float, float] = (1.0, 1.0), margin: float = 10.0) -> None:
        super().__init__()
        for name, weight in (*contrastive.items(), *zip(("first stream", "second stream"), softmax, strict=True)):
            if not 0 <= weight < float("inf"):
                raise ValueError(f"the weight of {name} must be finite and not below 0, got {weight}")
        self.contrastive = {name: weight for name, weight in contrastive.items() if weight}
        self.softmax = tuple(softmax)
        self.losses = nn.ModuleDict({name: ContrastiveLoss(margin=margin, pairs="halves") for name in self.contrastive})

    def forward(self, outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Parts ``loss``, ``first stream``, ``second stream`` and the branches; all but the first before they are weighted.

        Raises
        ------
        ValueError
            For an odd batch, or a network that lacks a branch.
        """
        scores, labels = outputs["scores"], batch["labels"]
        if len(labels) % 2:
            raise ValueError(f"two streams need an even batch, got {len(labels)}")
        missing = [name for name in self.contrastive if name not in outputs]
        if missing:
            raise ValueError(f"the network gave {', '.join(outputs)}; expected {missing[0]!r} for its contrastive loss")
        streams = zip(("first stream", "second stream"), scores.chunk(2), labels.chunk(2), strict=True)
        parts = {name: cross_entropy(half, own) for name, half, own in streams}
        parts |= {name: loss(outputs[name], labels) for name, loss in self.losses.items()}
        weights = {**dict(zip(("first stream", "second stream"), self.softmax, strict=True)), **self.contrastive}
        return {"loss": sum(weights[name] * part for name, part in parts.items()), **parts}


def make_objective(method: str, model: WSLGAN, recipe: Recognition, global_weight: float | None = None) -> PairObjective:
    """Make the objective of a method: of WS-LGAN-WCL softmax alone, of any other the contrastive losses of its branches as well.

    Parameters
    ----------
    method : str
        A row of Tables VIII to X.
    model : WSLGAN
    recipe : Recognition
    global_weight : float, optional
        Lambda 3, ``recipe.global_weight`` by default; ``recipe.oulu_global_weight`` on Oulu-CASIA.
    """
    weights = {
        "eyes": recipe.eyes_weight, "mouth": recipe.mouth_weight, "global": recipe.global_weight if global_weight is None else global_weight
    }
    contrastive = {} if method == "WS-LGAN-WCL" else {name: weights[name] for name in model.branches}
    return PairObjective(contrastive, (recipe.first_weight, recipe.second_weight), recipe.margin)

"""Island and islets loss: center loss, and centres that keep away from each other."""

from __future__ import annotations

import torch
from torch.linalg import vector_norm

from .base import choose_rule
from .center import CenterLoss

__all__ = ["IslandLoss", "IsletsLoss"]

#: A centre shorter than this has no direction: its cosine to any other is 0, without a gradient.
_NO_LENGTH = 1e-12


class IslandLoss(CenterLoss):
    """Center loss plus ``lambda1 * sum_{j != k} (cos(c_j, c_k) + 1)`` over ordered pairs (Cai et al., FG 2018; Li et al. 2021, section 3).

    Parameters
    ----------
    num_classes, embedding_size : int
    lambda1 : float
        0.2 in Li et al. 2021, 4.2.
    centre_rule : {"corrected", "printed"}
        How the alpha rule treats the terms between centres. ``"corrected"``: their derivative. ``"printed"``: Li et al. 2021, eq. 4, where
        the island term has ``lambda1 / (K - 1)`` instead of ``2 lambda1``: the same direction, ``2 (K - 1)`` times shorter.
    update, alpha, reduction, init_std
        See :class:`~fer_utils.losses.center.CenterLoss`. ``reduction`` concerns the center loss alone.

    Notes
    -----
    The terms between centres move the centres, also of classes absent from the batch, and reach a feature only through its centre: under
    the alpha rule the gradient with respect to a feature is that of center loss. A centre at the origin has no direction; its cosines count
    as 0, without a gradient. The smaller a centre, the further a step of this loss throws it: start small ``embedding_size`` with a larger
    ``init_std``.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        *,
        lambda1: float = 0.2,
        centre_rule: str = "corrected",
        update: str = "alpha",
        alpha: float = 0.5,
        reduction: str = "mean",
        init_std: float = 0.01,
    ) -> None:
        super().__init__(num_classes, embedding_size, update=update, alpha=alpha, reduction=reduction, init_std=init_std)
        self.lambda1 = lambda1
        self.centre_rule = choose_rule(centre_rule, update)

    def extra_repr(self) -> str:
        """Sizes and options, for ``print``."""
        return f"{super().extra_repr()}, lambda1={self.lambda1:g}, centre_rule={self.centre_rule!r}"

    def _between(self, centres: torch.Tensor, printed: bool = False) -> torch.Tensor:
        """The terms between centres; ``printed`` scales each so that its derivative is the printed one."""
        share = 1 / (2 * (len(centres) - 1)) if printed else 1
        norms = vector_norm(centres, dim=1, keepdim=True)
        units = torch.where(norms > _NO_LENGTH, centres / norms.clamp_min(_NO_LENGTH), 0)
        others = ~torch.eye(len(centres), dtype=torch.bool, device=centres.device)
        return self.lambda1 * share * (units @ units.T + 1).where(others, 0).sum()

    def _value(self, embeddings: torch.Tensor, labels: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
        return super()._value(embeddings, labels, centres) + self._between(centres)

    def _centre_step(self, embeddings: torch.Tensor, labels: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
        free = centres.clone().requires_grad_()
        (between,) = torch.autograd.grad(self._between(free, printed=self.centre_rule == "printed"), free)
        return super()._centre_step(embeddings, labels, centres) + between


class IsletsLoss(IslandLoss):
    """Island loss plus ``lambda2 * exp(-1/2 sum_{j != k} |c_j - c_k|)``, over ordered pairs (Li et al. 2021, eq. 1-2).

    Parameters
    ----------
    num_classes, embedding_size : int
    lambda1, lambda2 : float
        0.2 and 0.9 in Li et al. 2021, 4.2.
    centre_rule : {"corrected", "printed"}
        ``"printed"`` follows Li et al. 2021, eq. 4: besides the island term's factor, the new term's derivative is divided by ``2K``, and
        so is 14 times too small for 7 classes. Its sum is read without ``k = j``, which would be 0/0, and the last
        bracket as inside the sum.
    update, alpha, reduction, init_std
        See :class:`~fer_utils.losses.center.CenterLoss`; eq. 3 is the gradient of ``reduction="sum"``.

    Notes
    -----
    The exponent sums ``K (K - 1) / 2`` distances: with 7 classes at a mean distance of 0.5 the new term is ``exp(-10.5) = 2.8e-5``, at 2 it
    is 5.7e-19. It acts on centres that have just started close together, and after that the loss is island loss. Centres that coincide
    exactly get no gradient from it.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        *,
        lambda1: float = 0.2,
        lambda2: float = 0.9,
        centre_rule: str = "corrected",
        update: str = "alpha",
        alpha: float = 0.5,
        reduction: str = "mean",
        init_std: float = 0.01,
    ) -> None:
        super().__init__(
            num_classes, embedding_size, lambda1=lambda1, centre_rule=centre_rule, update=update, alpha=alpha, reduction=reduction,
            init_std=init_std,
        )  # fmt: skip
        self.lambda2 = lambda2

    def extra_repr(self) -> str:
        """Sizes and options, for ``print``."""
        return f"{super().extra_repr()}, lambda2={self.lambda2:g}"

    def _between(self, centres: torch.Tensor, printed: bool = False) -> torch.Tensor:
        share = 1 / (2 * len(centres)) if printed else 1
        first, second = torch.triu_indices(len(centres), len(centres), 1, device=centres.device)
        penalty = (-vector_norm(centres[first] - centres[second], dim=1).sum()).exp()
        return super()._between(centres, printed) + self.lambda2 * share * penalty

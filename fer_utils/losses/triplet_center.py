"""Triplet-centre loss: nearer to the own centre than to any other, by a margin."""

from __future__ import annotations

import torch

from .base import LossWithCentres, choose_rule

__all__ = ["TripletCenterLoss"]


class TripletCenterLoss(LossWithCentres):
    """``max(D(e_i, c_p) + margin - D(e_i, c_q), 0)`` with ``D = |e - c|^2 / 2`` (Zhou et al., eq. 6-9; He et al., CVPR 2018).

    ``p`` is the class of the sample, ``q`` the other class whose centre is nearest; the lowest of those equally near.

    Parameters
    ----------
    num_classes, embedding_size : int
    margin : float
        In units of half a squared distance; 11 for FER2013 and 13 for SFEW in Zhou et al., 4.2.
    centre_rule : {"corrected", "printed"}
        The step of the alpha rule. ``"corrected"``: a centre moves to the samples of its class that miss the margin, and away from those
        of other classes that it disturbs, each part divided by 1 + the number of samples. ``"printed"``: Zhou et al., eq. 12 as it stands,
        which is the negative of that, so that every step moves a centre away from its class.
    update, alpha, init_std
        See :class:`~fer_utils.losses.center.CenterLoss`; Zhou et al., 4.2, draw the centres with a deviation of 0.01.
    reduction : {"mean", "sum"}
        Eq. 9 is ``"sum"``.

    Raises
    ------
    ValueError
        If the margin is not above 0, or as :class:`~fer_utils.losses.base.LossWithCentres`.

    Notes
    -----
    A sample that keeps the margin has no gradient. Neither has one whose two centres coincide, though its loss is then the margin.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        *,
        margin: float = 11.0,
        centre_rule: str = "corrected",
        update: str = "alpha",
        alpha: float = 0.5,
        reduction: str = "mean",
        init_std: float = 0.01,
    ) -> None:
        super().__init__(num_classes, embedding_size, update, alpha, reduction, init_std)
        if not margin > 0:
            raise ValueError(f"margin must be positive, got {margin}")
        self.margin = margin
        self.centre_rule = choose_rule(centre_rule, update)

    def extra_repr(self) -> str:
        """Sizes and options, for ``print``."""
        return f"{super().extra_repr()}, margin={self.margin:g}, centre_rule={self.centre_rule!r}"

    def _hinges(self, embeddings: torch.Tensor, labels: torch.Tensor, centres: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of each sample ``[B]``, and the nearest other class ``[B]``."""
        with torch.no_grad():
            distances = torch.cdist(embeddings, centres, compute_mode="donot_use_mm_for_euclid_dist")  # [B, K]
            nearest = distances.scatter(1, labels[:, None], torch.inf).argmin(1)
        own, other = ((embeddings - centres[classes]).square().sum(1) / 2 for classes in (labels, nearest))
        return (own + self.margin - other).relu(), nearest

    def _value(self, embeddings: torch.Tensor, labels: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
        return self._reduce(self._hinges(embeddings, labels, centres)[0])

    def _centre_step(self, embeddings: torch.Tensor, labels: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
        hinges, nearest = self._hinges(embeddings, labels, centres)
        active = hinges > 0
        step = self._pull(embeddings, labels, centres, active) - self._pull(embeddings, nearest, centres, active)
        return -step if self.centre_rule == "printed" else step

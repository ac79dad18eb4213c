"""What the two stages of DAM-CNN make small (Xie, Hu & Wu 2019, eq. 3 to 5 and 8 to 11), and which parameters each update moves.

How Algorithm 1 is settled:

Step one (lines 1 to 3). Line 2 names the mask's kernel and bias alone, but sections 3.1 to 3.3.2 fine-tune the trunk with it, and 4.4.3
says so again: trunk, SERD and last layers all move, by eq. 4, at one rate. (The rate is ``alpha_S`` there and ``alpha_a`` in 4.1.2.)

Step two (lines 4 to 11). Trunk and SERD are fixed. For each decoder ``j`` in turn the encoder (``W_E^j``; but there is one, so ``j`` can
only count turns) and the decoder are updated by eq. 11, the two dense layers by eq. 10. What each can be moved by:

=============  ===========================  ====================================================================
parameters     printed                      what of it depends on them
=============  ===========================  ====================================================================
encoder        ``sum_j J_j + lambda L_ce``  all of it
decoder ``j``  the same                     ``J_j`` alone: neither ``lambda`` nor the other decoders play a part
dense layers   ``L_ce``                     all of it; by eq. 11 it would be ``lambda`` times as much
=============  ===========================  ====================================================================

So one loss, that of eq. 11, serves all parameters but for the factor ``lambda`` of the dense layers' gradient, and Adam, which divides a
gradient by its own size, takes the same step for any factor. That is how it is done here: one backward pass moves all parameters at
once, by Adam and without weight decay, at the one rate that ``alpha_M`` and ``alpha_fc`` are.

The turns are left out. Taken as printed, a pass moves each decoder once but the encoder and the dense layers ``N`` times: of two networks
that saw as many batches the one with five paths has trained its classifier two and a half times as long as the one with two, which Table 4
would count as an effect of paths.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from ...training import Objective
from .pairs import Targets

__all__ = [
    "CrossEntropyWithMask", "CrossEntropyWithReconstruction", "find_ceiling", "find_floor", "measure_emptiness", "measure_size",
    "sum_reconstruction_losses",
]

#: Samples that are looked at together, which bounds memory.
_CHUNK = 256


# -- stage one ------------------------------------------------------------------------------------------------------------


def measure_size(mask: torch.Tensor) -> torch.Tensor:
    """The squared L1 norm of each mask ``[B, 1, S, S]``, its mean over the batch: the part of eq. 3 with gamma_1, which keeps it sparse."""
    return mask.flatten(1).abs().sum(1).square().mean()


def measure_emptiness(mask: torch.Tensor) -> torch.Tensor:
    """``||1 - M M||^2`` of each mask ``[B, 1, S, S]``, its mean over the batch: the part of eq. 3 with gamma_2, for large weights."""
    return (1 - mask.square()).flatten(1).square().sum(1).mean()


class CrossEntropyWithMask(Objective):
    """Cross-entropy and the regulariser of the mask: ``L_ce + gamma_1 ||M||_1^2 + gamma_2 ||1 - M M||_F^2`` (eq. 3 to 5).

    The norms are of one image's mask, and the paper does not say how images add up; here by their mean, as the cross-entropy.

    At the printed coefficients the two parts make no balance: the only minimiser of the regulariser is the mask that is 0 everywhere, the
    trivial solution against which it is brought in. Since ``||M||_1^2 >= sum m^2``, it is at least
    ``gamma_2 S^2 + sum [(gamma_1 - 2 gamma_2) m^2 + gamma_2 m^4]``, and gamma_1 = 0.001 is more than twice gamma_2 = 0.0001. One place
    alone would be given a weight from gamma_2 = gamma_1 / 2 on, all places the same from gamma_2 = gamma_1 S^2 / 2 on, which for 7x7 is
    24.5 gamma_1; the paper has a tenth of gamma_1.

    Cross-entropy alone keeps the mask alive, and it holds it by little: a mask half as large before a layer with twice the weights gives
    the same scores, so that nothing in eq. 4 sets the mask's size; a small rate, a short training or a weight decay do. The pull, for a
    weight m > 0 ``2 gamma_1 ||M||_1 - 4 gamma_2 m (1 - m^2)``, fades with the mask, and turns round where m passes 0. At an open mask of
    8x8 it is some ten times what the cross-entropy of new networks weighs in: within the first 70 steps of Adam, at a rate of 0.0001,
    masks of the face network fell from 0.76 to 0.1 and less around 0, with half of the places closed, before the cross-entropy had fallen
    at all. A large step (SGD at 0.03) sends all places to -1, where tanh is flat, and no gradient leads back.

    So means over places take the sums' places, which is how a framework's ``mean`` would have it: ``(|M|_1 / S^2)^2`` and
    ``||1 - M M||^2 / S^2``. With these the printed coefficients do balance: one place alone is worth its weight from gamma_2 =
    gamma_1 / (2 S^2) on, and for gamma_2 = gamma_1 / 10 the minimiser has weights of 0.82 in a fifteenth of the places, 3 of 49, and 0
    elsewhere. That is a sparse mask with large weights, which is what section 3.2 says the two parts are for.

    Parameters
    ----------
    gamma_1, gamma_2 : float
        0.001 and 0.0001, 4.1.2; 0 leaves a part out (Table 3).
    averaged : bool
        Means over places; False: sums, as printed.

    Raises
    ------
    ValueError
        If one is below 0 or not finite.
    """

    def __init__(self, gamma_1: float, gamma_2: float, averaged: bool) -> None:
        super().__init__()
        if not (0 <= gamma_1 < float("inf") and 0 <= gamma_2 < float("inf")):
            raise ValueError(f"gamma_1 and gamma_2 must be finite and not below 0, got {gamma_1} and {gamma_2}")
        self.gamma_1, self.gamma_2, self.averaged = gamma_1, gamma_2, averaged

    def forward(self, outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Parts ``loss``, ``cross-entropy``, and ``size`` and ``emptiness`` before they are weighted; see ``Objective.forward``.

        Raises ``ValueError`` if the network has no mask.
        """
        if "mask" not in outputs:
            raise ValueError(f"CrossEntropyWithMask needs the output mask, of a network with SERD, got {', '.join(outputs)}")
        softmax = cross_entropy(outputs["scores"], batch["labels"])
        places = outputs["mask"][0].numel() if self.averaged else 1
        size, emptiness = measure_size(outputs["mask"]) / places**2, measure_emptiness(outputs["mask"]) / places
        loss = softmax + self.gamma_1 * size + self.gamma_2 * emptiness
        return {"loss": loss, "cross-entropy": softmax, "size": size, "emptiness": emptiness}


# -- stage two ------------------------------------------------------------------------------------------------------------


def sum_reconstruction_losses(reconstructions: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """``J_all``: squared distances summed over features and paths, their mean over the batch (eq. 8 and 9).

    Parameters
    ----------
    reconstructions, targets : float ``[B, paths, ...]``
    """
    return (reconstructions - targets).square().flatten(1).sum(1).mean()


def find_ceiling(salient: np.ndarray) -> torch.Tensor:
    """The largest salient feature of each channel, float32 ``[C, 1, 1]``, of training faces float32 ``[N, C, S, S]``.

    A channel that is 0 in all faces gets 1. Divided by it, samples are 0 to 1, which sigmoids can come near to.
    """
    found = np.zeros(salient.shape[1], np.float32)
    for start in range(0, len(salient), _CHUNK):
        found = np.maximum(found, salient[start : start + _CHUNK].max((0, 2, 3)))
    return torch.from_numpy(np.where(found > 0, found, 1).astype(np.float32))[:, None, None]


def find_floor(samples: np.ndarray) -> float:
    """The reconstruction loss (eq. 8) that no sigmoid gets below, for targets float32 ``[N, C, S, S]``, 0 or more: what is above 1.

    For samples that were divided by their ceiling it is 0. Of the face network's maps of FACSynth's faces, behind an open mask, 38 % of
    the values are above 1, and it is 26 % of the squared length.
    """
    above = (np.maximum(samples[start : start + _CHUNK] - 1, 0) for start in range(0, len(samples), _CHUNK))
    return sum(float(np.square(part, dtype=np.float64).sum()) for part in above) / len(samples)


class CrossEntropyWithReconstruction(Objective):
    """The loss of stage two: ``sum_j J_j + lambda L_ce`` (eq. 8 to 11). How one loss stands for two rules says the head of this module.

    Parameters
    ----------
    salient : float32 ``[N, C, S, S]``
        Salient features of the samples that are trained on, in the order in which :func:`~fer_utils.training.fit.fit` is given them; an
        array that may lie on disk. Targets are taken from it.
    targets : Targets
        Of :mod:`~fer_utils.papers.dam_cnn.pairs`.
    ceiling : float32 ``[C, 1, 1]``
        The autoencoder's.
    weight : float
        Lambda; 20, 4.1.2.

    Raises
    ------
    ValueError
        If the weight is below 0 or not finite.
    """

    def __init__(self, salient: np.ndarray, targets: Targets, ceiling: torch.Tensor, weight: float) -> None:
        super().__init__()
        if not 0 <= weight < float("inf"):
            raise ValueError(f"weight must be finite and not below 0, got {weight}")
        self._salient, self.targets, self.weight = salient, targets, weight  # the data of the training are described as its samples
        self.register_buffer("ceiling", ceiling.clone(), persistent=False)

    def forward(self, outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Parts ``loss``, ``cross-entropy`` and ``reconstruction``; see :meth:`~fer_utils.training.objectives.Objective.forward`.

        Raises ``ValueError`` if the network has not as many paths as there are targets.
        """
        reconstructions = outputs["reconstructions"]  # [B, paths, C, S, S]
        where = self.targets(batch["indices"])  # [B, paths]
        if where.shape != reconstructions.shape[:2]:
            raise ValueError(f"the network reconstructs {list(reconstructions.shape[:2])} samples, the targets are {list(where.shape)}")
        targets = self._read(where).to(reconstructions.device) / self.ceiling
        softmax = cross_entropy(outputs["scores"], batch["labels"])
        reconstruction = sum_reconstruction_losses(reconstructions, targets)
        return {"loss": reconstruction + self.weight * softmax, "cross-entropy": softmax, "reconstruction": reconstruction}

    def _read(self, where: torch.Tensor) -> Any:
        return torch.from_numpy(np.ascontiguousarray(self._salient[where.numpy()]))

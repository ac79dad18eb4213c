"""Contrastive loss: pairs of one class together, pairs of two classes a margin apart."""

from __future__ import annotations

import torch
from torch.nn.functional import pdist

from .base import EmbeddingLoss, check_range, choose

__all__ = ["ContrastiveLoss"]


class ContrastiveLoss(EmbeddingLoss):
    """Half the squared distance, or half the squared gap to the margin (Zhang, Su & Wang 2020, eq. 3-4).

    ``d^2 / 2`` for two samples of one class, ``max(0, margin - d)^2 / 2`` for two classes, with ``d`` the Euclidean distance.

    In place of its own pairs it takes those of a miner of pytorch-metric-learning, and pairs with the memory of its ``CrossBatchMemory``.

    Parameters
    ----------
    margin : float
        10 in the paper, for eyes, mouth and the whole face alike.
    pairs : {"all", "halves"}
        ``"all"``: each two samples of the batch. ``"halves"``: row ``i`` with row ``i + B/2``, as in the paper, whose network takes two
        images; how these are drawn it does not say.
    reduction : {"mean", "sum"}
        Over the pairs.

    Raises
    ------
    ValueError
        If the margin is not above 0, or for other ``pairs`` or another ``reduction``.

    Notes
    -----
    A miner's pairs are taken as they come; one that comes twice counts twice. A batch without a pair has loss 0. Two samples of different
    classes at the same place have no direction to part in: their loss is ``margin^2 / 2``, their gradient 0. Where processes share a batch,
    ``"halves"`` are those of a process's own share.
    """

    def __init__(self, *, margin: float = 10.0, pairs: str = "all", reduction: str = "mean") -> None:
        super().__init__(reduction)
        if not margin > 0:
            raise ValueError(f"margin must be positive, got {margin}")
        self.margin = margin
        self.pairs = choose("pairs", pairs, ("all", "halves"))
        self.needs_whole_batch = pairs == "all"  # halves lie within a process's share of the batch

    def extra_repr(self) -> str:
        """Options, for ``print``."""
        return f"margin={self.margin:g}, pairs={self.pairs!r}, reduction={self.reduction!r}"

    def forward(
        self,
        embeddings: torch.Tensor,
        labels: torch.Tensor,
        indices: torch.Tensor | tuple[torch.Tensor, ...] | None = None,
        ref_emb: torch.Tensor | None = None,
        ref_labels: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The loss of a batch; the arguments come in the order of pytorch-metric-learning.

        Parameters
        ----------
        embeddings : float ``[B, D]``
        labels : integer ``[B]``
        indices : tuple of int64 tensors, optional
            Pairs from a miner, whatever ``pairs`` says: ``(anchors, positives, anchors, negatives)``, or triplets
            ``(anchors, positives, negatives)``, each of which gives two pairs. Anchors count rows of ``embeddings``, the others those of
            ``ref_emb``. A tensor ``[B]``, which samples of the training set these are, makes no difference.
        ref_emb : float ``[R, D]``, optional
            The other ends of all pairs; ``embeddings`` by default. Without a miner each embedding is paired with each of these.
        ref_labels : integer ``[R]``
            Needed with ``ref_emb``.

        Returns
        -------
        float32 scalar
            float64 if the embeddings are.

        Raises
        ------
        ValueError
            If a shape, a type or an index does not fit, or if ``pairs`` is ``"halves"`` and there is ``ref_emb`` without a miner.
        """
        mined = isinstance(indices, tuple | list)
        if ref_emb is None and not mined:
            return super().forward(embeddings, labels, indices)
        labels = self._check(embeddings, labels, None if mined else indices)
        if ref_emb is None:
            ref_emb = embeddings
        elif ref_labels is None or ref_emb.shape != (len(ref_labels), embeddings.shape[1]):
            given = f"{list(ref_emb.shape)} with {'none' if ref_labels is None else list(ref_labels.shape)}"
            raise ValueError(f"ref_emb must be [R, {embeddings.shape[1]}] with ref_labels [R], got {given}")
        elif self.pairs == "halves" and not mined:
            raise ValueError("pairs='halves' are two halves of one batch; with ref_emb use pairs='all' or a miner")
        with torch.autocast(embeddings.device.type, enabled=False):
            anchors = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
            distances = torch.cdist(anchors, ref_emb.to(anchors), compute_mode="donot_use_mm_for_euclid_dist")  # [B, R]
            if mined:
                rows, columns, same = _read_pairs(indices, distances)
                return self._value(distances[rows, columns], same)
            return self._value(distances, labels[:, None] == ref_labels.to(labels))

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
        return self._value(distances, first == second)

    def _value(self, distances: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
        return self._reduce(torch.where(same, distances, (self.margin - distances).relu()).square() / 2)


def _read_pairs(indices: tuple[torch.Tensor, ...], distances: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows and columns of a miner's pairs, and which of them are of one class."""
    expected = "must be (anchors, positives, anchors, negatives) or (anchors, positives, negatives), integers [P]"
    for part in indices:
        if not isinstance(part, torch.Tensor) or part.ndim != 1 or part.is_floating_point() or part.dtype == torch.bool:
            raise ValueError(f"a miner's tuple {expected}, got {part!r} in it")
    lengths = [len(part) for part in indices]
    if len(indices) not in (3, 4) or lengths[0] != lengths[1] or lengths[-2 if len(indices) == 4 else 0] != lengths[-1]:
        raise ValueError(f"a miner's tuple {expected}, got {len(indices)} of {', '.join(map(str, lengths))}")
    anchors, positives, others, negatives = indices if len(indices) == 4 else (*indices[:2], indices[0], indices[2])
    rows, columns = (torch.cat(ends).to(distances.device, torch.int64) for ends in ((anchors, others), (positives, negatives)))
    for name, places, count in (("anchors", rows, distances.shape[0]), ("positives and negatives", columns, distances.shape[1])):
        check_range(f"a miner's {name}", places, count)
    return rows, columns, torch.arange(len(rows), device=rows.device) < len(anchors)

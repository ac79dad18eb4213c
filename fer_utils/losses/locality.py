"""Locality preserving loss: pull each feature to the mean of its nearest neighbours of the same class, in the whole training set."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .base import EmbeddingLoss, choose, gather_rows

__all__ = ["LocalityPreservingLoss"]

_BANK_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


class LocalityPreservingLoss(EmbeddingLoss):
    """``1/(2B) sum_i |e_i - m_i|^2``, ``m_i`` the mean of the ``k`` nearest neighbours of the same class (Li & Deng 2019, eq. 4).

    With ``train_labels`` the loss keeps a bank of one feature for every training sample, and ``loss(embeddings, labels, indices)`` looks
    for neighbours there, as the paper does (V-C). A training call first puts the batch's features into the bank; the others are as old as
    their last visit. Samples that were never seen are nobody's neighbours. ``update_bank`` fills it in advance.

    Without ``indices`` neighbours come from the batch, as in code found in public. Of a class that is 2 % of the set, a batch of 64 holds
    one or two samples: there are no 20 neighbours to find. Use it for toys, or where there is no training set.

    Parameters
    ----------
    k : int
        Neighbours; 20 in Li & Deng 2019, V-B. A class that has fewer gives what it has.
    train_labels : integer ``[N]``, optional
        The class of each training sample, in the order that ``indices`` count.
    embedding_size : int, optional
        Needed with ``train_labels``.
    refresh : int
        After how many training steps a sample's neighbours are searched again; 1: at every visit. Between, it keeps the neighbours, at
        their newest features. Sooner if fewer than ``k`` were found though the class has more.
    divisor : {"found", "k"}
        What the sum of the neighbours is divided by. ``"found"``: their number; a sample without a neighbour has loss 0. ``"k"``: always
        ``k``, eq. 4 to the letter, and public code; a small class is then pulled to the origin.
    bank_dtype : torch.dtype
        float32, float16 or bfloat16. Distances are computed in float32 from what is stored.
    persistent : bool
        Whether the bank is in the ``state_dict``. Without it a resumed run has to fill it again, and is not bit-identical.
    reduction : {"mean", "sum"}
        Over the batch; eq. 4 is ``"mean"``.

    Notes
    -----
    Neighbours are constants: the gradient is ``(e_i - m_i) / B``, eq. 5. With neighbours from the same batch the true gradient of eq. 4 has
    a second part, from the samples that ``e_i`` is a neighbour of, which eq. 5 leaves out; with the bank there is none.

    The bank is sorted by class, so that a search is a matrix product with one slice. What it stores are differences to an origin of the
    class: the mean of its first features, then of all, anew whenever half of the bank is newer than the last. So neighbours are exact, to
    float32 rounding, even among features that lie close together and far from 0, and half types are fine enough.

    The bank takes ``4 N D`` bytes (98 MB for 12,271 features of 2,000 dimensions); half of it, and more time, in a half type. In several
    processes each holds all of it, and every step gathers the batch's features. Do not make the loss a part of the module that
    DistributedDataParallel wraps, which would send the bank around at every step.
    """

    def __init__(
        self,
        k: int = 20,
        *,
        train_labels: torch.Tensor | np.ndarray | None = None,
        embedding_size: int | None = None,
        refresh: int = 1,
        divisor: str = "found",
        bank_dtype: torch.dtype = torch.float32,
        persistent: bool = True,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)
        if k < 1 or refresh < 1:
            raise ValueError(f"k and refresh must be at least 1, got k={k}, refresh={refresh}")
        if bank_dtype not in _BANK_DTYPES:
            raise ValueError(f"bank_dtype must be one of {', '.join(map(str, _BANK_DTYPES))}, got {bank_dtype}")
        self.k, self.refresh, self.divisor = k, refresh, choose("divisor", divisor, ("found", "k"))
        self.has_bank = train_labels is not None
        if train_labels is None:
            return
        classes = torch.as_tensor(train_labels)
        if classes.ndim != 1 or not len(classes) or classes.is_floating_point() or classes.min() < 0:
            raise ValueError(f"train_labels must be integers [N] from 0, at least one, got {classes.dtype} {list(classes.shape)}")
        if embedding_size is None or embedding_size < 1:
            raise ValueError(f"a bank for train_labels needs embedding_size, at least 1, got {embedding_size}")
        classes = classes.to("cpu", torch.int64, copy=True)
        order, sizes = classes.argsort(stable=True), classes.bincount()
        self._starts = [0, *sizes.cumsum(0).tolist()]
        self.register_buffer("train_labels", classes, persistent)
        self.register_buffer("rows", order.argsort(), False)  # where in the bank a sample is
        self.register_buffer("row_classes", classes[order], False)
        self.register_buffer("features", torch.zeros(len(classes), embedding_size, dtype=bank_dtype), persistent)  # less the class's origin
        # squared lengths of the features; infinite for those never seen, so that they are nobody's neighbour
        self.register_buffer("squares", torch.full((len(classes),), torch.inf), persistent)
        self.register_buffer("origins", torch.zeros(len(sizes), embedding_size), persistent)
        self.register_buffer("written", torch.zeros((), dtype=torch.int64), persistent)  # features since the origins were taken
        if refresh > 1:
            self.register_buffer("steps", torch.zeros((), dtype=torch.int64), persistent)
            self.register_buffer("found_rows", torch.full((len(classes), k), -1, dtype=torch.int32), persistent)  # rows; -1: none
            self.register_buffer("found_at", torch.full((len(classes),), -refresh), persistent)
            self.register_buffer("room", (sizes - 1).clamp_max(k)[self.row_classes], False)  # how many neighbours there can be

    def extra_repr(self) -> str:
        """Options, for ``print``."""
        bank = f", bank {list(self.features.shape)} {self.features.dtype}, refresh={self.refresh}" if self.has_bank else ""
        return f"k={self.k}{bank}, divisor={self.divisor!r}, reduction={self.reduction!r}"

    @torch.no_grad()
    def update_bank(self, embeddings: torch.Tensor, indices: torch.Tensor) -> None:
        """Put features into the bank, as a training call does: all of them before training, or those of one batch after the other.

        In several processes all must call it, each with its part. Features that are not finite are left out; of a sample that comes twice
        the last counts.

        Parameters
        ----------
        embeddings : float ``[B, D]``
        indices : int64 ``[B]``
            Their places in ``train_labels``.

        Raises
        ------
        ValueError
            If there is no bank, or a shape or an index does not fit it.
        """
        rows = self._find_rows(embeddings, indices)
        rows, embeddings = gather_rows(rows, embeddings.float())
        last = _find_last(rows)
        last = last[embeddings[last].isfinite().all(1)]
        rows, embeddings = rows[last], embeddings[last]
        classes = self.row_classes[rows]
        for c in classes.unique().tolist():
            if self.squares[self._starts[c] : self._starts[c + 1]].isinf().all():
                self.origins[c] = embeddings[classes == c].mean(0)
        stored = (embeddings - self.origins[classes]).to(self.features.dtype)
        finite = stored.isfinite().all(1)  # what a half type cannot hold is left out too
        rows, stored = rows[finite], stored[finite]
        self.features[rows] = stored
        self.squares[rows] = stored.float().square().sum(1)
        self.written += len(rows)
        if 2 * self.written >= self.squares.isfinite().sum():
            self._take_origins()

    def _take_origins(self) -> None:
        for c, (start, stop) in enumerate(zip(self._starts, self._starts[1:], strict=False)):
            seen = start + self.squares[start:stop].isfinite().nonzero().squeeze(1)
            if len(seen):
                values = self.features[seen].float()
                shift = values.mean(0)
                self.origins[c] += shift
                self.features[seen] = (values - shift).to(self.features.dtype)
                self.squares[seen] = self.features[seen].float().square().sum(1)
        self.written.zero_()

    def _find_rows(self, embeddings: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        if not self.has_bank:
            raise ValueError("indices need a bank: give the loss train_labels and embedding_size")
        if embeddings.ndim != 2 or embeddings.shape[1] != self.features.shape[1] or indices.shape != (len(embeddings),):
            shapes = f"embeddings {list(embeddings.shape)} and indices {list(indices.shape)}"
            raise ValueError(f"the bank takes embeddings [B, {self.features.shape[1]}] and indices [B], got {shapes}")
        indices = indices.to(self.rows.device, torch.int64)
        if len(indices) and (indices.min() < 0 or indices.max() >= len(self.rows)):
            raise ValueError(f"indices must be 0 to {len(self.rows) - 1}, got {int(indices.min())} to {int(indices.max())}")
        return self.rows[indices]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        saved = state_dict.get(f"{prefix}train_labels")
        if self.has_bank and saved is not None and not torch.equal(saved.cpu(), self.train_labels.cpu()):
            rest[-1].append(f"{prefix}train_labels: the bank was made for another training set, or another order of it")
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _loss(self, embeddings: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor | None) -> torch.Tensor:
        if indices is None:
            sums, found = self._sum_in_batch(embeddings.detach(), labels)
            origins = torch.zeros_like(embeddings)
        else:
            rows = self._find_rows(embeddings, indices)
            if not torch.equal(labels, self.row_classes[rows]):
                raise ValueError("labels must be train_labels at indices; do the indices count the samples that the bank was made for?")
            learns = self.training and torch.is_grad_enabled()
            if learns:
                self.update_bank(embeddings.detach(), indices)
            origins = self.origins[labels].to(embeddings.dtype)
            sums, found = self._sum_in_bank((embeddings - origins).detach(), labels, rows, learns)
        # Everything is seen from the origins. A mean of `found` neighbours, divided by something else, moves with them.
        divisor = torch.full_like(found, self.k) if self.divisor == "k" else found.clamp_min(1)
        seen = embeddings - origins
        means = (sums + (found - divisor) * origins) / divisor
        if self.divisor == "found":
            means = means.where(found > 0, seen.detach())
        return self._reduce((seen - means).square().sum(1) / 2)

    def _sum_in_batch(self, embeddings: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum ``[B, D]`` and number ``[B, 1]`` of the neighbours in the batch."""
        distances = torch.cdist(embeddings, embeddings, compute_mode="donot_use_mm_for_euclid_dist")
        distances = distances.where(labels[:, None] == labels, torch.inf).fill_diagonal_(torch.inf)
        nearest = distances.topk(min(self.k, len(labels)), largest=False)
        found = nearest.values.isfinite()
        return (embeddings[nearest.indices] * found[..., None]).sum(1), found.sum(1, keepdim=True).to(embeddings.dtype)

    def _sum_in_bank(self, seen: torch.Tensor, labels: torch.Tensor, rows: torch.Tensor, learns: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum ``[B, D]`` and number ``[B, 1]`` of the neighbours in the bank, from the origins."""
        if self.refresh > 1:
            nearest = self.found_rows[rows].long()
            stale = (self.steps - self.found_at[rows] >= self.refresh) | ((nearest >= 0).sum(1) < self.room[rows])
            nearest[stale] = self._search(seen[stale], labels[stale], rows[stale])
            if learns:
                changed, found = gather_rows(rows[stale], nearest[stale].int())
                last = _find_last(changed)
                self.found_rows[changed[last]], self.found_at[changed[last]] = found[last], self.steps
                self.steps += 1
        else:
            nearest = self._search(seen, labels, rows)
        found = nearest >= 0
        neighbours = self.features[nearest.clamp_min(0)].to(seen.dtype)  # [B, k, D]
        return (neighbours * found[..., None]).sum(1), found.sum(1, keepdim=True).to(seen.dtype)

    def _search(self, seen: torch.Tensor, labels: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Rows ``[B, k]`` of the nearest neighbours, -1 where there are no more."""
        nearest = torch.full((len(rows), self.k), -1, device=rows.device)
        for c in labels.unique().tolist():
            start, stop = self._starts[c : c + 2]
            mine = (labels == c).nonzero().squeeze(1)
            # squared distances less |seen|^2, which ranks nobody higher
            scores = torch.addmm(self.squares[start:stop].to(seen.dtype), seen[mine], self.features[start:stop].to(seen.dtype).T, alpha=-2)
            scores[torch.arange(len(mine), device=rows.device), rows[mine] - start] = torch.inf
            best = scores.topk(min(self.k, stop - start), largest=False)
            nearest[mine, : best.indices.shape[1]] = torch.where(best.values.isfinite(), best.indices + start, -1)
        return nearest


def _find_last(rows: torch.Tensor) -> torch.Tensor:
    """Where each row stands for the last time: an indexed write with repeated places has no defined winner."""
    order = rows.argsort(stable=True)
    return order[torch.cat([rows[order].diff() != 0, torch.ones_like(rows[:1], dtype=torch.bool)])]

"""A bank of features: one for every training sample, as old as its last visit, and the nearest neighbours among them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import embedding_bag, pad

from .base import check_range, check_that, reads_values

__all__ = ["FeatureBank"]


class FeatureBank(nn.Module):
    """The newest feature of each training sample that was visited, and who is near whom in a class.

    Other losses can use it as they would ``CrossBatchMemory`` of pytorch-metric-learning, which forgets its oldest features and does not
    know whose they are. A training step puts its batch in (:meth:`update`), looks for neighbours (:meth:`find_neighbours`) and compares
    with their mean (:meth:`subtract_means`).

    Parameters
    ----------
    train_labels : integer ``[N]``
        The class of each training sample, from 0, in the order that ``indices`` count.
    embedding_size : int
        ``D``.

    Raises
    ------
    ValueError
        If ``train_labels`` are no such labels or ``embedding_size`` is below 1.

    Notes
    -----
    Samples that were never put in are nobody's neighbours. Everything is in the ``state_dict``, ``4 N D`` bytes (98 MB for 12,271 features
    of 2,000 dimensions), and a bank made for other labels does not load it. Where processes share a batch, each must hold all of it.

    What is stored are differences to an origin of the class: the mean of its first features, then of all, taken anew whenever half of the
    bank is newer than the last. So distances are exact, to float32 rounding, even among features that lie close together and far from 0,
    where ``|a|^2 - 2 a.b + |b|^2`` of the features themselves would cancel.

    On a GPU no call makes Python wait for a value.
    """

    def __init__(self, train_labels: torch.Tensor | np.ndarray, embedding_size: int) -> None:
        super().__init__()
        labels = train_labels if isinstance(train_labels, torch.Tensor) else torch.tensor(train_labels)
        if labels.ndim != 1 or not len(labels) or labels.is_floating_point() or labels.min() < 0:
            raise ValueError(f"train_labels must be integers [N] from 0, at least one, got {labels.dtype} {list(labels.shape)}")
        if embedding_size < 1:
            raise ValueError(f"embedding_size must be at least 1, got {embedding_size}")
        labels = labels.to("cpu", torch.int64, copy=True)
        order, sizes = labels.argsort(stable=True), labels.bincount()
        stops = sizes.cumsum(0).tolist()
        #: The rows of each class.
        self._rows_of = [slice(start, stop) for start, stop in zip([0, *stops], stops, strict=False)]
        #: Features put in since the origins were taken, and ever; ``counts`` as Python knows them.
        self._counts = [0, 0]
        count, classes = len(labels), len(sizes)
        self.register_buffer("train_labels", labels)  # [N], by sample
        # by row: samples sorted by class, so that those of a class are one slice
        self.register_buffer("samples", order, persistent=False)  # [N], which sample is in a row
        self.register_buffer("rows", order.argsort(), persistent=False)  # [N], in which row a sample is
        self.register_buffer("row_labels", labels[order], persistent=False)  # [N]
        self.register_buffer("features", torch.zeros(count, embedding_size))  # [N, D], less the class's origin
        self.register_buffer("squares", torch.full((count,), torch.inf))  # [N], squared lengths; infinite if never seen
        self.register_buffer("origins", torch.zeros(classes, embedding_size))  # [K, D]
        self.register_buffer("has_origin", torch.zeros(classes, dtype=torch.bool))  # [K]
        self.register_buffer("counts", torch.zeros(2, dtype=torch.int64))  # only read when a state is loaded

    def extra_repr(self) -> str:
        """Sizes, for ``print``."""
        return f"{len(self.rows)} samples, {len(self.origins)} classes, embedding_size={self.features.shape[1]}"

    @torch.no_grad()
    def update(self, embeddings: torch.Tensor, indices: torch.Tensor) -> None:
        """Put features in: those of a batch, or of all samples before training.

        Features that are not finite are left out, as a gradient scaler meets them now and then. Of a sample that comes twice the last
        counts.

        Parameters
        ----------
        embeddings : float ``[B, D]``
        indices : integer ``[B]``
            Which training samples these are.

        Raises
        ------
        ValueError
            If a shape or an index does not fit.
        """
        rows = self._find_rows(embeddings, indices)
        with torch.autocast(embeddings.device.type, enabled=False):
            # Every appearance of a sample writes what its last one has: of unlike values an indexed write would keep any.
            places = torch.arange(len(rows), device=rows.device)
            last = torch.full_like(self.rows, -1).scatter_reduce_(0, rows, places, "amax")[rows]  # [B]
            embeddings = embeddings.float()[last]
            self._start_origins(embeddings, self.row_labels[rows])
            stored = embeddings - self.origins[self.row_labels[rows]]  # [B, D]
            squares = stored.square().sum(1)  # [B]
            finite = squares.isfinite()
            self.features[rows] = stored.where(finite[:, None], self.features[rows])
            self.squares[rows] = squares.where(finite, self.squares[rows])
            self._count(len(rows))

    def _start_origins(self, embeddings: torch.Tensor, labels: torch.Tensor) -> None:
        """Give each class that is new the mean of its features in the batch for an origin."""
        counted = embeddings.isfinite().all(1)  # [B]
        members = (labels[:, None] == torch.arange(len(self.origins), device=labels.device)) & counted[:, None]  # [B, K]
        counts = members.sum(0)[:, None]  # [K, 1]
        means = members.float().T @ embeddings.where(counted[:, None], 0) / counts.clamp_min(1)  # [K, D]
        present = counts[:, 0] > 0
        self.origins.copy_(means.where((present & ~self.has_origin)[:, None], self.origins))
        self.has_origin |= present

    def _count(self, number: int) -> None:
        """Count features that were put in, and take new origins when half of those in the bank are new."""
        newer, ever = (count + number for count in self._counts)
        self.counts += number
        if 2 * newer >= min(ever, len(self.rows)):
            newer = 0
            self.counts[0].zero_()
            self._renew_origins()
        self._counts = [newer, ever]

    def _renew_origins(self) -> None:
        """Make the mean of all features of a class its origin."""
        for origin, rows in zip(self.origins, self._rows_of, strict=True):
            features, seen = self.features[rows], self.squares[rows].isfinite()  # [n, D], [n]
            shift = seen.float() @ features / seen.sum().clamp_min(1)  # [D]
            origin += shift
            features.sub_(shift).mul_(seen[:, None])
            self.squares[rows] = features.square().sum(1).where(seen, torch.inf)

    @torch.no_grad()
    def find_neighbours(self, embeddings: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor, k: int) -> torch.Tensor:
        """The nearest features of the same class in the bank, but for the sample's own.

        Parameters
        ----------
        embeddings : float ``[B, D]``
        labels : integer ``[B]``
            The classes of these samples, which must be those in ``train_labels``.
        indices : integer ``[B]``
            Which training samples these are.
        k : int

        Returns
        -------
        int64 ``[B, k]``
            Indices of training samples, the nearest first; -1 where the class has no more.

        Raises
        ------
        ValueError
            If a shape, an index or a label does not fit.
        """
        rows = self._find_rows(embeddings, indices)
        problem = "labels must be train_labels at indices; do the indices count the samples that the bank was made for?"
        check_that((labels == self.row_labels[rows]).all(), problem)
        with torch.autocast(embeddings.device.type, enabled=False):
            scores = self._score(self._shift(embeddings, labels), labels).scatter_(1, rows[:, None], torch.inf)  # [B, N]
        nearest = scores.topk(min(k, len(self.rows)), largest=False)
        found = torch.where(nearest.values.isfinite(), self.samples[nearest.indices], -1)
        return pad(found, (0, k - found.shape[1]), value=-1)

    def _score(self, shifted: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Squared distances ``[B, N]`` to all rows, less ``|shifted|^2``, which ranks nobody higher; infinite to those of other classes."""
        squares, features = self.squares.to(shifted.dtype), self.features.to(shifted.dtype)
        if not reads_values(shifted):
            scores = torch.addmm(squares, shifted, features.T, alpha=-2)
            return scores.masked_fill_(labels[:, None] != self.row_labels, torch.inf)
        # a quarter of the work, for RAF-DB's classes, where it costs nothing to look who belongs to which
        scores = shifted.new_full((len(shifted), len(squares)), torch.inf)
        for label in labels.unique().tolist():
            rows, members = self._rows_of[label], (labels == label).nonzero().squeeze(1)
            scores[members, rows] = torch.addmm(squares[rows], shifted[members], features[rows].T, alpha=-2)
        return scores

    def subtract_means(self, embeddings: torch.Tensor, labels: torch.Tensor, neighbours: torch.Tensor) -> torch.Tensor:
        """``e_i - m_i``, where ``m_i`` is the mean of the features of a sample's neighbours; the gradient is that of ``e_i`` alone.

        Parameters
        ----------
        embeddings : float ``[B, D]``
        labels : integer ``[B]``
        neighbours : int64 ``[B, k]``
            What :meth:`find_neighbours` gave; of the sample's class.

        Returns
        -------
        float ``[B, D]``
            0 for a sample without neighbours.
        """
        # From the class's origin, which makes no difference to a difference, and is exact.
        shifted, found = self._shift(embeddings, labels), neighbours >= 0
        rows = self.rows[neighbours.clamp_min(0)]  # [B, k]
        features = self.features.to(shifted.dtype)
        sums = embedding_bag(rows, features, mode="sum", per_sample_weights=found.to(features.dtype))  # [B, D]
        counts = found.sum(1, keepdim=True)  # [B, 1]
        return shifted - (sums / counts.clamp_min(1)).where(counts > 0, shifted.detach())

    def _shift(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Features as seen from their class's origin, in float32 at least."""
        return embeddings.to(torch.promote_types(embeddings.dtype, torch.float32)) - self.origins[labels]

    def _find_rows(self, embeddings: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        if embeddings.ndim != 2 or embeddings.shape[1] != self.features.shape[1] or indices.shape != (len(embeddings),):
            shapes = f"embeddings {list(embeddings.shape)} and indices {list(indices.shape)}"
            raise ValueError(f"the bank takes embeddings [B, {self.features.shape[1]}] and indices [B], got {shapes}")
        indices = indices.to(self.rows.device, torch.int64)
        check_range("indices", indices, len(self.rows))
        return self.rows[indices]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        saved = state_dict.get(f"{prefix}train_labels")
        if saved is not None and not torch.equal(saved.cpu(), self.train_labels.cpu()):
            rest[-1].append(f"{prefix}train_labels: the bank was made for another training set, or another order of it")
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self._counts = self.counts.tolist()

"""What the losses share: one call, one way of keeping class centres, one way of keeping processes in step.

A loss is called ``loss(embeddings, labels)``, as in pytorch-metric-learning, and gives a scalar. Everything is computed in float32 even
under autocast (float64 if the embeddings are), and the gradient comes back in the type of the embeddings.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import distributed, nn
from torch.nn.functional import one_hot

__all__ = ["EmbeddingLoss", "LossWithCentres", "choose", "choose_rule", "gather_rows", "process_count"]


def choose(argument: str, value: str, options: tuple[str, ...]) -> str:
    """``value``, or an error that names the options."""
    if value not in options:
        raise ValueError(f"{argument} must be one of {', '.join(map(repr, options))}, got {value!r}")
    return value


def choose_rule(centre_rule: str, update: str) -> str:
    """``centre_rule``, or an error: only the alpha rule has two forms."""
    if choose("centre_rule", centre_rule, ("corrected", "printed")) == "printed" and update == "gradient":
        raise ValueError("centre_rule='printed' is a form of the alpha rule; with update='gradient' autograd moves the centres")
    return centre_rule


# -- several processes ----------------------------------------------------------------------------------------------------


def process_count() -> int:
    """How many processes train together; 1 without :mod:`torch.distributed`."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def gather_rows(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The rows of all processes, in the order of the processes, which need not have equally many; the same everywhere."""
    if process_count() == 1:
        return tensors
    counts = [torch.zeros(1, dtype=torch.int64, device=tensors[0].device) for _ in range(process_count())]
    distributed.all_gather(counts, torch.full_like(counts[0], len(tensors[0])))
    sizes = torch.cat(counts).tolist()
    gathered = []
    for tensor in tensors:
        padded = tensor.new_zeros((max(sizes), *tensor.shape[1:]))
        padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in sizes]
        distributed.all_gather(parts, padded)
        gathered.append(torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)]))
    return tuple(gathered)


class _AverageGradient(torch.autograd.Function):
    """The identity; backwards, the mean of the processes' gradients, as DistributedDataParallel forms it."""

    @staticmethod
    def forward(ctx: Any, centres: torch.Tensor) -> torch.Tensor:
        return centres.view_as(centres)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        gradient = gradient.contiguous().clone()
        distributed.all_reduce(gradient)
        return gradient / process_count()


# -- base classes ---------------------------------------------------------------------------------------------------------


class EmbeddingLoss(nn.Module):
    """Checks of the input, precision and reduction; a subclass writes ``_loss``.

    Parameters
    ----------
    reduction : {"mean", "sum"}
        Over the batch.
    """

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = choose("reduction", reduction, ("mean", "sum"))

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor | None = None) -> torch.Tensor:
        """The loss of a batch.

        Parameters
        ----------
        embeddings : float ``[B, D]``
        labels : integer ``[B]``
        indices : int64 ``[B]``, optional
            Which samples of the training set these are. Only :class:`~fer_utils.losses.locality.LocalityPreservingLoss` reads them; the
            others take them so that one training loop serves all.

        Returns
        -------
        float32 scalar
            float64 if the embeddings are.

        Raises
        ------
        ValueError
            If a shape, a type or a label does not fit, or if ``indices`` are a miner's tuple, which only
            :class:`~fer_utils.losses.contrastive.ContrastiveLoss` can use.
        """
        labels = self._check(embeddings, labels, indices)
        with torch.autocast(embeddings.device.type, enabled=False):
            return self._loss(embeddings.to(torch.promote_types(embeddings.dtype, torch.float32)), labels, indices)

    def _check(self, embeddings: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor | None) -> torch.Tensor:
        if not embeddings.is_floating_point() or embeddings.ndim != 2 or not embeddings.numel():
            raise ValueError(f"embeddings must be float [B, D], at least one, got {embeddings.dtype} {list(embeddings.shape)}")
        for name, value in (("labels", labels), ("indices", indices)):
            if value is None and name == "indices":
                continue
            if not isinstance(value, torch.Tensor):
                hint = "; of the losses here only ContrastiveLoss takes a miner's tuple" if name == "indices" else ""
                raise ValueError(f"{name} must be a tensor [B], got {type(value).__name__}{hint}")
            if value.shape != (len(embeddings),) or value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
                raise ValueError(f"{name} must be {len(embeddings)} integers, one an embedding, got {value.dtype} {list(value.shape)}")
        return labels.to(embeddings.device, torch.int64)

    def _loss(self, embeddings: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor | None) -> torch.Tensor:
        raise NotImplementedError

    def _reduce(self, values: torch.Tensor) -> torch.Tensor:
        """Sum, or mean, of one value a sample or a pair; 0 if there is none."""
        return values.sum() / (max(values.numel(), 1) if self.reduction == "mean" else 1)


class LossWithCentres(EmbeddingLoss):
    """One centre a class, moved by the papers' alpha rule or by the optimiser; a subclass writes ``_value`` and ``_centre_step``.

    Parameters
    ----------
    num_classes, embedding_size : int
    update : {"alpha", "gradient"}
        ``"alpha"``: a training call moves the centres, ``c <- c - alpha * step``; the loss that it returns still saw the old ones.
        ``"gradient"``: the centres are a parameter, to be given to an optimiser.
    alpha : float
        In (0, 1].
    reduction : {"mean", "sum"}
    init_std : float
        Standard deviation of the first centres' coordinates, around 0.

    Attributes
    ----------
    centres : float32 ``[num_classes, embedding_size]``
        A buffer or a parameter; in the ``state_dict`` under this name either way.
    """

    def __init__(self, num_classes: int, embedding_size: int, update: str, alpha: float, reduction: str, init_std: float) -> None:
        super().__init__(reduction)
        if num_classes < 2 or embedding_size < 1:
            raise ValueError(f"centres need at least 2 classes and 1 dimension, got num_classes={num_classes}, {embedding_size=}")
        if not 0 < alpha <= 1:
            raise ValueError(f"alpha must be above 0 and at most 1, got {alpha}")
        if not init_std > 0:
            raise ValueError(f"init_std must be positive, got {init_std}")
        self.update = choose("update", update, ("alpha", "gradient"))
        self.alpha = alpha
        centres = torch.randn(num_classes, embedding_size) * init_std
        if update == "gradient":
            self.centres = nn.Parameter(centres)
        else:
            self.register_buffer("centres", centres)
        self._same_start = False

    def extra_repr(self) -> str:
        """Sizes and options, for ``print``."""
        rule = f"update='alpha', alpha={self.alpha:g}" if self.update == "alpha" else "update='gradient'"
        return f"{', '.join(map(str, self.centres.shape))}, {rule}, reduction={self.reduction!r}"

    def _check(self, embeddings: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor | None) -> torch.Tensor:
        labels = super()._check(embeddings, labels, indices)
        count, size = self.centres.shape
        if embeddings.shape[1] != size:
            raise ValueError(f"embeddings must have the centres' {size} dimensions, got {embeddings.shape[1]}")
        low, high = torch.stack(labels.aminmax()).tolist()
        if low < 0 or high >= count:
            raise ValueError(f"labels must be 0 to {count - 1}, got {low} to {high}")
        return labels

    def _loss(self, embeddings: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor | None) -> torch.Tensor:
        learns = self.training and torch.is_grad_enabled()
        if learns and process_count() > 1 and not self._same_start:
            distributed.broadcast(self.centres.data, 0)
            self._same_start = True
        if self.update == "gradient":
            centres = self.centres.to(embeddings.dtype)
            return self._value(embeddings, labels, _AverageGradient.apply(centres) if process_count() > 1 else centres)
        # A copy: the graph may keep what the next lines change in place.
        centres = self.centres.to(embeddings.dtype, copy=True)
        loss = self._value(embeddings, labels, centres)
        if learns:
            step = self._centre_step(embeddings.detach(), labels, centres)
            self.centres.sub_(step.to(self.centres.dtype), alpha=self.alpha)
        return loss

    def _value(self, embeddings: torch.Tensor, labels: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def _centre_step(self, embeddings: torch.Tensor, labels: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def _pull(
        self, embeddings: torch.Tensor, classes: torch.Tensor, centres: torch.Tensor, which: torch.Tensor | None = None
    ) -> torch.Tensor:
        """``sum_i [classes_i = j] (c_j - e_i) / (1 + sum_i [classes_i = j])`` over the samples ``which`` (bool) of all processes.

        Samples that are not finite, as a gradient scaler meets them now and then, do not count: they would stay in a centre for ever.
        """
        counted = embeddings.isfinite().all(1) & (True if which is None else which)
        values = torch.cat([embeddings, embeddings.new_ones(len(embeddings), 1)], 1).where(counted[:, None], 0)
        sums = one_hot(classes, len(centres)).to(values.dtype).T @ values
        if process_count() > 1:
            distributed.all_reduce(sums)
        counts = sums[:, -1:]
        return (counts * centres - sums[:, :-1]) / (1 + counts)

"""A loss of the whole batch where several processes share it."""

from __future__ import annotations

import inspect
from itertools import chain
from typing import Any

import torch
from torch import distributed, nn

__all__ = ["GatheredLoss"]


class GatheredLoss(nn.Module):
    """Call a loss with the rows of all processes, so that it knows nothing of processes and still sees the batch as one would see it.

    Every process computes the loss of the whole batch and gets its own rows' gradient, times the number of processes. Once
    DistributedDataParallel has averaged the network's gradients, they are those of one process with the whole batch. So is what the loss
    keeps, centres or a bank, and the gradient of its own parameters, the same in all processes. In one process the loss is simply called.

    Parameters
    ----------
    loss : torch.nn.Module
        ``loss(embeddings, labels)``, as those of :mod:`fer_utils.losses` and of pytorch-metric-learning are called. One with an attribute
        ``needs_whole_batch`` that is false gets the process's own rows.

    Notes
    -----
    All processes must call it equally often, in evaluation too; they need not have equally many rows. Before the first training call the
    loss's parameters and buffers become those of the first process.
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss
        self._takes_indices = "indices" in inspect.signature(loss.forward).parameters
        self._starts_alike = False

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor | None = None) -> torch.Tensor:
        """The loss of the batch.

        Parameters
        ----------
        embeddings : float ``[B, D]``
            This process's rows, as all that follows.
        labels : integer ``[B]``
        indices : int64 ``[B]``, optional
            Which samples of the training set these are; passed on to a loss whose ``forward`` has a parameter of this name.

        Returns
        -------
        float scalar
            The same in all processes, unless the loss needs no whole batch.
        """
        rows = [embeddings, labels]
        if indices is not None and self._takes_indices:
            rows.append(indices)
        if _count_processes() > 1 and getattr(self.loss, "needs_whole_batch", True):
            if self.training and not self._starts_alike:
                self._start_alike()
            sizes = _gather_sizes(embeddings)
            rows = [_GatherRows.apply(tensor, sizes) for tensor in rows]
        return self.loss(*rows)

    @torch.no_grad()
    def _start_alike(self) -> None:
        for tensor in chain(self.loss.parameters(), self.loss.buffers()):
            distributed.broadcast(tensor, 0)
        self.loss.load_state_dict(self.loss.state_dict())  # for a loss that also reads its state into Python, as a bank's counts
        self._starts_alike = True


def _count_processes() -> int:
    """How many processes train together; 1 without :mod:`torch.distributed`."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def _gather_sizes(rows: torch.Tensor) -> list[int]:
    """How many rows each process has. They decide shapes, so Python has to read them, on a GPU too."""
    sizes = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(_count_processes())]
    distributed.all_gather(sizes, torch.full_like(sizes[0], len(rows)))
    return torch.cat(sizes).tolist()


class _GatherRows(torch.autograd.Function):
    """Rows of all processes, in their order; backwards a process's own rows' gradient, times the number of processes."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, sizes: list[int]) -> torch.Tensor:
        ctx.sizes = sizes
        padded = rows.new_zeros((max(sizes), *rows.shape[1:]))  # all processes have to send alike
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in sizes]
        distributed.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        own = gradient.split(ctx.sizes)[distributed.get_rank()]
        return own * len(ctx.sizes), None

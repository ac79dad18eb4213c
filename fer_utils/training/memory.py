"""How much memory tensors hold at most while something is computed: counted, and so the same on any machine."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["measure_peak_memory"]


class _LiveTensors(TorchDispatchMode):
    """Bytes of the storages that operations have made and that are still held, and the most there ever were."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # what was there before is not counted, nor what an operation hands on or changes in place
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, torch.Tensor):
                self._note(tensor, 0)
        found = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            if isinstance(tensor, torch.Tensor):
                self._note(tensor, tensor.untyped_storage().nbytes())
        return found

    def _note(self, tensor: torch.Tensor, size: int) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        self._known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


def measure_peak_memory(compute: Callable[[], Any]) -> int:
    """Measure the most bytes that tensors made by ``compute`` held at once.

    Weights and inputs, which are there before, do not count, nor does what an operation needs inside itself. Gradients
    count.

    Parameters
    ----------
    compute : callable

    Returns
    -------
    int
        Bytes.
    """
    mode = _LiveTensors()
    with mode:
        compute()
    return mode.peak

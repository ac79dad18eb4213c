"""A layer of fixed filters of 0, 1 and -1 against a dense convolution of the same size, and ways to use the zeros and signs: one run.

Li et al. 2021, 4.5, say that fixed filters reduce the calculation and speed training up. There is no promise here: the script measures what
is gained. A fixed filter saves the gradient of its weights, a third of a training step's multiplications, and nothing in a forward pass
unless its zeros are left out: by a sparse matrix that is multiplied by all windows, or by sums over the places of each sign.
Usage: python benchmarks/local_binary.py [ROUNDS]
"""

from __future__ import annotations

import os
import sys

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

import time
import warnings
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.functional import conv2d, unfold

from fer_utils.papers.lban_il.model import LBSL, LocalBinaryConv2d

#: Maps of the three blocks at the paper's width and size: channels and side. A batch of 4 keeps a round short.
SHAPES, BATCH, SPARSITIES = ((128, 40), (256, 20), (512, 10)), 4, (0.5, 0.9)


def time_in_turn(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds by the clock, the best of each, in turn; the first round does not count."""
    best = dict.fromkeys(works, float("inf"))
    for turn in range(rounds + 1):
        for name in list(works)[:: 1 if turn % 2 else -1]:
            start = time.perf_counter()
            works[name]()
            best[name] = min(best[name], time.perf_counter() - start) if turn else best[name]
    return best


def make_sparse(filters: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """The windows of all images beside each other, times the filters as a matrix in CSR form."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls its CSR a beta
        matrix = filters.flatten(1).float().to_sparse_csr()  # [hidden, 9 C]

    def convolve(maps: torch.Tensor) -> torch.Tensor:
        windows = unfold(maps, 3, padding=1)  # [B, 9 C, H W]
        count, rows, places = windows.shape
        found = matrix @ windows.transpose(0, 1).reshape(rows, -1)
        return found.view(len(filters), count, places).transpose(0, 1).reshape(count, len(filters), *maps.shape[-2:])

    return convolve


def make_signed(filters: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """Additions alone: each filter adds up the windows' rows of its ones, and takes away those of its minus ones."""
    flat = filters.flatten(1)
    plus, minus = ([(row == sign).nonzero().squeeze(1) for row in flat] for sign in (1, -1))

    def convolve(maps: torch.Tensor) -> torch.Tensor:
        windows = unfold(maps, 3, padding=1).transpose(0, 1)  # [9 C, B, H W]
        found = torch.stack([windows[add].sum(0) - windows[take].sum(0) for add, take in zip(plus, minus, strict=True)], 1)
        return found.unflatten(2, maps.shape[-2:])

    return convolve


def compare_forward(channels: int, side: int, sparsity: float, rounds: int) -> None:
    """A forward pass of the 3x3 filters alone."""
    maps = torch.rand(BATCH, channels, side, side)
    filters = LocalBinaryConv2d(channels, channels, sparsity=sparsity).filters
    dense, ours = torch.randn(channels, channels, 3, 3), filters.float()
    packed = maps.contiguous(memory_format=torch.channels_last)
    ways = {"sparse matrix": make_sparse(filters)}
    if channels == SHAPES[0][0]:  # hundreds of times slower: seen once
        ways["sums of signs"] = make_signed(filters)
    for name, way in ways.items():
        torch.testing.assert_close(way(maps), conv2d(maps, ours, padding=1), rtol=1e-3, atol=1e-3, msg=name)
    works = {
        "dense convolution": lambda: conv2d(packed, dense, padding=1),
        "fixed filters, dense": lambda: conv2d(packed, ours, padding=1),
        **{name: lambda way=way: way(maps) for name, way in ways.items()},
    }
    with torch.inference_mode():
        found = time_in_turn(works, rounds)
    for name, seconds in found.items():
        ratio = seconds / found["dense convolution"]
        print(f"  {name}: {1000 * seconds:.2f} ms, {ratio:.2f} times a dense convolution")


def compare_training(channels: int, side: int, rounds: int) -> None:
    """Forward and backward passes of the layer, and of the unit that it is in; the rival learns its 3x3 filters."""
    maps = torch.rand(BATCH, channels, side, side).contiguous(memory_format=torch.channels_last)
    layers = {
        "layer": (LocalBinaryConv2d(channels, channels, normalise=True), LBSL(channels, channels, learned=True).first),
        "LBSL": (LBSL(channels, channels), LBSL(channels, channels, learned=True)),
    }
    for name, (fixed, learned) in layers.items():
        def step(layer: nn.Module) -> None:
            layer.zero_grad()
            layer(maps.requires_grad_()).sum().backward()

        for layer in (fixed, learned):
            layer.to(memory_format=torch.channels_last)
        found = time_in_turn({"fixed": lambda layer=fixed: step(layer), "learned": lambda layer=learned: step(layer)}, rounds)
        held = [sum(value.nbytes for value in layer.state_dict().values()) / 1e6 for layer in (fixed, learned)]
        print(
            f"  a training step of one {name}: {1000 * found['fixed']:.1f} ms with fixed filters, {1000 * found['learned']:.1f} ms with "
            f"learned ones, ratio {found['fixed'] / found['learned']:.2f}; in a file {held[0]:.2f} and {held[1]:.2f} MB, "
            f"ratio {held[0] / held[1]:.2f}"
        )


def main() -> None:
    """Print, for each block's maps, forward times by way and sparsity, training times, and the ratios."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for channels, side in SHAPES:
        for sparsity in SPARSITIES:
            print(f"{channels} channels of {side}x{side}, sparsity {sparsity:g}, forward:")
            compare_forward(channels, side, sparsity, rounds)
        compare_training(channels, side, rounds)


if __name__ == "__main__":
    main()

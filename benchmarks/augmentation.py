"""Crop 90 of 100 pixels and flip at random: our batches against torchvision's transforms image by image, in one run.

Promise: at least 5 times as many images a second on one core, for the same result. torchvision starts from PIL images and ends
with the stacked batch, as a data loader does; ours starts from the batch of whole images.
Usage: python benchmarks/augmentation.py
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

import time
from collections.abc import Callable

import torch
from PIL import Image
from torchvision.transforms import Compose, PILToTensor, RandomCrop, RandomHorizontalFlip
from torchvision.transforms.functional import pil_to_tensor

from fer_utils.augment import crop, flip, random_crop, random_flip

BATCH, BATCHES = 128, 8
PROMISE = 5


def best_rates(*works: Callable[[int], torch.Tensor]) -> list[float]:
    """Images a second of processor time (waiting does not count), the best of nine passes each, taken in turn."""
    best = [float("inf")] * len(works)
    for _ in range(9):
        for i, work in enumerate(works):
            start = time.process_time()
            for k in range(BATCHES):
                work(k)
            best[i] = min(best[i], time.process_time() - start)
    return [BATCH * BATCHES / seconds for seconds in best]


def main() -> None:
    """Check that both give the same for the same parameters, then time them."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    batches = torch.randint(0, 256, (BATCHES, BATCH, 3, 100, 100), dtype=torch.uint8, generator=generator)
    pictures = [[Image.fromarray(image.permute(1, 2, 0).numpy()) for image in batch] for batch in batches]

    top, left = torch.randint(11, (2, BATCH), generator=generator)
    mask = torch.rand(BATCH, generator=generator) < 0.5
    boxes = zip(pictures[0], top.tolist(), left.tolist(), mask.tolist(), strict=True)
    windows = ((picture.crop((x, y, x + 90, y + 90)), turn) for picture, y, x, turn in boxes)
    same = [pil_to_tensor(window.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if turn else window) for window, turn in windows]
    assert torch.equal(flip(crop(batches[0], top, left, 90), mask), torch.stack(same))

    transform = Compose([RandomCrop(90), RandomHorizontalFlip(), PILToTensor()])
    theirs, ours = best_rates(
        lambda k: torch.stack([transform(picture) for picture in pictures[k]]),
        lambda k: random_flip(random_crop(batches[k], 90, generator), generator=generator),
    )
    print(f"fer_utils.augment: {ours:,.0f} images/s on one core")
    print(f"torchvision, image by image: {theirs:,.0f} images/s; ratio {ours / theirs:.1f} (promise: {PROMISE})")
    raise SystemExit(ours < PROMISE * theirs)


if __name__ == "__main__":
    main()

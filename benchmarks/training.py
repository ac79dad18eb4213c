"""Train the book's baseDCNN: our loop against two plain eager float32 loops on the same network, in one run.

Promise: at least twice as many images a second on 2 cores as a plain loop as people write it, loading included. That loop is torchvision's
tutorial over a DataLoader of pictures: each is made grey, resized, cropped and flipped by transforms, in the main process or in two
workers, whichever is faster here. A part of that ratio is loading, so a second ratio, without a promise, is against the same loop over
bytes in memory, whole batches cut out and flipped at once, channels first: it is what channels last and bfloat16 bring, and without
bfloat16 instructions it may be near 1. What each of our measures adds is printed too.
Usage: python benchmarks/training.py [THREADS [ROUNDS]]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision.transforms import Compose, Grayscale, RandomCrop, RandomHorizontalFlip, Resize, ToTensor

from fer_utils.datasets.base import FaceDataset
from fer_utils.models import FaceModel, build_model
from fer_utils.training import FitSettings, crop_and_flip, fit, prepare_images
from fer_utils.training.features import has_bfloat16

COUNT, BATCH, STEPS, ROUNDS = 1024, 64, 12, 6
IMAGE, INPUT, WIDTH = 54, 48, 0.25
PROMISE = 2
BYTES = "+ whole batches of bytes"


def make_model() -> FaceModel:
    """The network of the ``book`` profile."""
    return build_model("base_dcnn", seed=0, width=WIDTH, input_size=INPUT, image_size=IMAGE)


def make_faces() -> FaceDataset:
    """Random pictures of the size of aligned faces."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (COUNT, 100, 100, 3), dtype=np.uint8), rng.integers(0, 7, COUNT)
    names = np.array([f"{i}.png" for i in range(COUNT)])
    return FaceDataset("random", images, labels, tuple("abcdefg"), names, np.full(COUNT, "train"))


def train_eagerly(batches: Iterator, channels_last: bool = False, bfloat16: bool = False) -> Iterator[None]:
    """A plain loop; yields after every step."""
    model = make_model().train()
    if channels_last:
        model.to(memory_format=torch.channels_last)
    last = model.classifier.weight
    others = [parameter for parameter in model.parameters() if parameter is not last]
    groups = [{"params": others, "weight_decay": 0.0005}, {"params": [last], "weight_decay": 0.0025}]
    optimizer = torch.optim.SGD(groups, lr=0.01, momentum=0.9)
    for images, labels in batches:
        if channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            scores = model(images)
        loss = cross_entropy(scores.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield


def picture_batches(faces: FaceDataset, workers: int) -> Iterator:
    """What a DataLoader makes of single pictures, for ever."""
    steps = [Grayscale(), Resize(IMAGE), RandomCrop(INPUT), RandomHorizontalFlip(), ToTensor()]
    pictures = faces.replace(transform=Compose(steps))
    loader = DataLoader(pictures, BATCH, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0)
    while True:
        yield from loader


def byte_batches(faces: FaceDataset) -> Iterator:
    """Whole batches cut out of bytes in memory, for ever."""
    images, labels = prepare_images(faces.images, 1, IMAGE), torch.tensor(faces.labels)
    generator = torch.Generator().manual_seed(0)
    while True:
        for chosen in torch.randperm(COUNT, generator=generator).split(BATCH):
            yield crop_and_flip(images[chosen], generator, INPUT).float().div_(255), labels[chosen]


def timed(steps: Iterator[None]) -> Callable[[], float]:
    """A function that goes on for some steps and returns the seconds of the median step."""

    def run() -> float:
        seconds = []
        for _ in range(STEPS):
            start = time.perf_counter()
            next(steps)
            seconds.append(time.perf_counter() - start)
        return float(np.median(seconds))

    return run


def fit_timed(faces: FaceDataset) -> Callable[[], float]:
    """The same of our loop, which reports its steps through the augmentation."""
    settings = FitSettings(steps=STEPS + 3, batch_size=BATCH)

    def run() -> float:
        marks = []

        def augment(images: torch.Tensor, generator: torch.Generator, size: int) -> torch.Tensor:
            marks.append(time.perf_counter())
            return crop_and_flip(images, generator, size)

        fit(make_model(), faces, settings, augment=augment, progress=False)
        return float(np.median(np.diff(marks[2:])))

    return run


def main() -> None:
    """Time all in turn, the best of several rounds each, and print the two ratios."""
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else ROUNDS
    faces = make_faces()
    native = has_bfloat16(torch.device("cpu"))
    contenders = {
        "pictures, no worker, float32": timed(train_eagerly(picture_batches(faces, 0))),
        "pictures, 2 workers, float32": timed(train_eagerly(picture_batches(faces, 2))),
        BYTES: timed(train_eagerly(byte_batches(faces))),
        "+ channels last": timed(train_eagerly(byte_batches(faces), channels_last=True)),
        "+ bfloat16": timed(train_eagerly(byte_batches(faces), channels_last=True, bfloat16=True)),
        "fit": fit_timed(faces),
    }
    if not native:
        del contenders["+ bfloat16"]
        print("this processor has no bfloat16 instructions: that measure is left out")
    best = dict.fromkeys(contenders, float("inf"))
    for _ in range(rounds):
        for name, run in contenders.items():
            best[name] = min(best[name], run())
    rates = {name: BATCH / seconds for name, seconds in best.items()}
    plain = max(rate for name, rate in rates.items() if name.startswith("pictures"))
    for name, rate in rates.items():
        print(f"{name:<30} {rate:7,.0f} images/s, {1000 * best[name]:6.1f} ms a step of {BATCH}, {rate / plain:.2f}")
    ours = rates["fit"]
    print(f"fit, {torch.get_num_threads()} threads, against a plain eager float32 loop")
    print(f"over a DataLoader of pictures, loading included: ratio {ours / plain:.1f} (promise: {PROMISE})")
    print(f"over bytes in memory, channels first:            ratio {ours / rates[BYTES]:.1f} (no promise)")
    raise SystemExit(ours < PROMISE * plain)


if __name__ == "__main__":
    main()

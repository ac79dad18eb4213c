"""Train the book's DLP-CNN: how long one run of Table VI takes and where the time goes; and our loop against plain eager float32 loops.

The run is the ``book`` profile's, to the end: training, the test faces watched on the way, features of two sets, and both classifiers on
them. Runs go two at a time, with one thread each, as ``ferbook reproduce --workers 2`` has them: small layers gain little from a second
thread. Promise: 60 seconds of 2 cores a run, with bfloat16 instructions. The share of the peak is of the training steps alone: what they
compute in a second against the largest product of matrices of 2,048 that one thread computes in one, in the same precision.

The loop trains baseDCNN. Promise: at least twice as many images a second on 2 cores as a plain loop as people write it, loading
included. That loop is torchvision's tutorial over a DataLoader of pictures: each is made grey, resized, cropped and flipped by
transforms, in the main process or in two workers, whichever is faster here. A part of that ratio is loading, so a second ratio, without
a promise, is against the same loop over bytes in memory, whole batches cut out and flipped at once, channels first: it is what channels
last and bfloat16 bring, and without bfloat16 instructions it may be near 1. What each of our measures adds is printed too.
Usage: python benchmarks/training.py [THREADS [ROUNDS]]; with 0 rounds only the runs are timed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision.transforms import Compose, Grayscale, RandomCrop, RandomHorizontalFlip, Resize, ToTensor

from fer_utils.classifiers import LDANearestNeighbour, LinearSVM
from fer_utils.datasets.base import FaceDataset
from fer_utils.experiments.context import RunContext
from fer_utils.experiments.recipe import Profile
from fer_utils.models import FaceModel, build_model
from fer_utils.papers.dlp_cnn.networks import load_faces, train_network
from fer_utils.papers.dlp_cnn.recipe import DLPCNN
from fer_utils.papers.dlp_cnn.scaling import count_multiplications
from fer_utils.splits import validation_split
from fer_utils.training import FitSettings, crop_and_flip, extract_features, fit, prepare_images
from fer_utils.training.features import has_bfloat16

COUNT, BATCH, STEPS, ROUNDS = 1024, 64, 12, 6
RECIPE = DLPCNN().at("book")
IMAGE, INPUT, WIDTH = RECIPE.image_size, RECIPE.input_size, RECIPE.width
PROMISE, PROMISED_SECONDS = 2, 60
BYTES = "+ whole batches of bytes"


def make_model() -> FaceModel:
    """The network of the ``book`` profile."""
    return build_model("base_dcnn", seed=0, width=WIDTH, in_channels=1, input_size=INPUT, image_size=IMAGE)


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


def measure_peak(precision: torch.dtype, size: int = 2048) -> float:
    """Floating point operations a second of the fastest of ten products of square matrices."""
    a, b = (torch.randn(size, size).to(precision) for _ in range(2))
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


def time_run() -> None:
    """Do what a run of Table VI does for DLP-CNN, on one thread, and print how long each part took."""
    torch.set_num_threads(1)
    parts: dict[str, float] = {}
    begun = last = time.perf_counter()

    def mark(name: str) -> None:
        nonlocal last
        now = time.perf_counter()
        parts[name] = parts.get(name, 0.0) + now - last
        last = now

    with tempfile.TemporaryDirectory() as folder:
        context = RunContext("dlp-cnn/table-6", Profile.BOOK, "facsynth", 0, Path(folder))
        basic = load_faces(context, "basic", RECIPE)
        mark("reading faces")
        model, trace = train_network(context, basic, "DLP-CNN", RECIPE)
        mark("training, with the test faces watched")
        for faces in (basic, load_faces(context, "compound", RECIPE)):
            train, test = faces.train, faces.test
            features, tested = extract_features(model, train.images), extract_features(model, test.images)
            mark("features")
            machine = LinearSVM(RECIPE.C).fit(features, train.labels, validation=validation_split(train, RECIPE.validation))
            machine.predict(tested)
            mark("SVM, with its search over C")
            LDANearestNeighbour().fit(features, train.labels).predict(tested)
            mark("LDA with nearest neighbour")
    whole = time.perf_counter() - begun
    for name, seconds in parts.items():
        print(f"{name:<40} {seconds:6.1f} s")
    native = torch.bfloat16 if RECIPE.precision == "bfloat16" else torch.float32
    done = 2 * 3 * count_multiplications(make_model()) * RECIPE.batch_size * len(trace.losses)
    training = parts["training, with the test faces watched"]
    print(f"{'one run of Table VI, DLP-CNN':<40} {whole:6.1f} s on one thread")
    print(f"training computes {done / training / 1e9:.0f} GFLOP/s, {done / training / measure_peak(native):.0%} of the peak")


def time_runs() -> float:
    """Do two runs side by side, print what one says of itself, and return the seconds of both cores that a run took."""
    begun = time.perf_counter()
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    command = [sys.executable, __file__, "run"]
    pair = [subprocess.Popen(command, env=os.environ | threads, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[0] for process in pair]
    if any(process.returncode for process in pair):
        raise SystemExit("a run failed")
    seconds = (time.perf_counter() - begun) / len(pair)
    print(said[0], end="")
    print(f"two at a time: {seconds:.0f} s a run, starting Python included (promise: {PROMISED_SECONDS})\n")
    return seconds


def main() -> None:
    """Time the runs; then the loops in turn, the best of several rounds each, and print the two ratios."""
    if sys.argv[1:] == ["run"]:
        return time_run()
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else ROUNDS
    native = has_bfloat16(torch.device("cpu"))
    late = time_runs() > PROMISED_SECONDS and native
    if not rounds:
        raise SystemExit(late)
    faces = make_faces()
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
    raise SystemExit(late or ours < PROMISE * plain)


if __name__ == "__main__":
    main()

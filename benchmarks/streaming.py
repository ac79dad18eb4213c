"""Train on a set larger than memory: an AffectNet-sized tree read from disk, against the same network on faces in memory, in one run.

Promise: 50 steps on 280,000 pictures of 224 pixels (42 GB decoded) within 3 GB of resident memory, worker processes included. Beside it,
without a promise, images a second of both ways: from disk the decoder of the pictures decides.

The tree is in the layout of the owners' lists. Its pictures are a few distinct files, linked many times, so it takes little room.
Usage: python benchmarks/streaming.py [FACES [FOLDER]]
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fer_utils.datasets import affectnet
from fer_utils.datasets.affectnet import _HEADER
from fer_utils.datasets.base import FaceDataset
from fer_utils.models import FaceModel, build_model
from fer_utils.training import FitSettings, fit

FACES, SIZE, DISTINCT, STEPS, BATCH, WORKERS = 280_000, 224, 16, 50, 64, 2
IN_MEMORY = 4096
PROMISE_GB = 3.0
SETTINGS = FitSettings(steps=STEPS, batch_size=BATCH, milestones=())


def make_model() -> FaceModel:
    """The paper's input size at a quarter of its width; workers bring the pictures to 100 pixels."""
    return build_model("base_dcnn", seed=0, num_classes=8, width=0.25, in_channels=1, input_size=90, image_size=100)


def make_tree(folder: Path, count: int) -> None:
    """Write a few pictures, link them ``count`` times, and list them."""
    rng = np.random.default_rng(0)
    originals = []
    for number in range(DISTINCT):
        small = rng.integers(0, 256, (14, 14, 3), dtype=np.uint8)
        originals.append(folder / f"original{number}.jpg")
        Image.fromarray(small).resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(originals[-1], quality=90)
    lines = [",".join(_HEADER)]
    pictures = folder / "Manually_Annotated_Images"
    for number in range(count):
        name = f"{number // 1000}/{number}.jpg"
        target = pictures / name
        if number % 1000 == 0:
            target.parent.mkdir(parents=True)
        os.link(originals[number % DISTINCT], target)
        lines.append(f"{name},0,0,{SIZE},{SIZE},,{number % 8},0.1,-0.1")
    lists = folder / "Manually_Annotated_file_lists"
    lists.mkdir()
    (lists / "training.csv").write_text("\n".join(lines) + "\n")


class Memory(threading.Thread):
    """Peak resident memory of this process and its workers; pages that they share count once (PSS)."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self._ended = 0.0, threading.Event()

    def run(self) -> None:
        while not self._ended.wait(0.2):
            self.peak = max(self.peak, sum(map(self._read, self._processes())))

    @staticmethod
    def _processes() -> list[int]:
        parents = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
            except OSError:  # ended meanwhile
                continue
        return [os.getpid(), *(pid for pid, parent in parents.items() if parent == os.getpid())]

    @staticmethod
    def _read(pid: int) -> float:
        """GB."""
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            return 0.0
        return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 2**20

    def stop(self) -> float:
        """End, and give the peak."""
        self._ended.set()
        self.join()
        return self.peak


def time_steps(data: FaceDataset, workers: int | None) -> float:
    """Images a second, without what precedes the second step."""
    marks: list[float] = []

    def augment(images: torch.Tensor, generator: torch.Generator, size: int) -> torch.Tensor:
        marks.append(time.perf_counter())
        return images[..., 5:95, 5:95]

    fit(make_model(), data, SETTINGS, augment=augment, workers=workers, progress=False)
    return BATCH * (len(marks) - 2) / (marks[-1] - marks[1])


def main() -> None:
    """Build the tree, load it, train from disk and in memory, and print memory and speed."""
    torch.set_num_threads(2)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else FACES
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as folder:
        start = time.perf_counter()
        make_tree(Path(folder), count)
        built = time.perf_counter()
        memory = Memory()
        memory.start()
        faces = affectnet.load(folder, size=SIZE, landmarks=False)
        loaded = time.perf_counter()
        streamed = time_steps(faces.train, WORKERS)
        peak = memory.stop()
        print(f"{count:,} pictures of {SIZE}x{SIZE} linked in {built - start:.0f} s, their lists read in {loaded - built:.0f} s")
        print(f"{STEPS} steps of {BATCH} from disk, {WORKERS} workers: {streamed:,.0f} images/s")
        some = faces.subset(np.arange(min(IN_MEMORY, count)))
        kept = time_steps(some, None)
        print(f"the same network on {len(some):,} faces in memory: {kept:,.0f} images/s; ratio {streamed / kept:.2f} (no promise)")
        print(f"peak resident memory from disk: {peak:.2f} GB (promise: {PROMISE_GB:g} GB; {count * SIZE**2 * 3 / 1e9:.1f} GB decoded)")
    raise SystemExit(peak > PROMISE_GB)


if __name__ == "__main__":
    main()

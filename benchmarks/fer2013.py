"""Turn FER2013's table into arrays: our loader against pandas and a loop over its rows, in one run.

Promise: 35,887 rows in under 10 seconds on 2 cores. The table is drawn at random, in the layout of the original.
Usage: python benchmarks/fer2013.py [ROWS]
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

os.environ["FER_CACHE"] = ""  # decode, do not remember

import numpy as np
import pandas as pd

from fer_utils.datasets import fer2013

ROWS, PIXELS = 35_887, 48 * 48
USAGES = {"Training": 0.8, "PublicTest": 0.1, "PrivateTest": 0.1}


def write_table(path: Path, rows: int) -> np.ndarray:
    """Write a table of random pictures and return their pixels ``[N, 48, 48]``."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (rows, PIXELS), dtype=np.uint8)
    usages = np.repeat(list(USAGES), np.diff([0, *(rows * np.cumsum(list(USAGES.values()))).round().astype(int)]))
    with path.open("w") as file:
        file.write("emotion,pixels,Usage\n")
        for label, row, usage in zip(rng.integers(0, 7, rows), pixels, usages, strict=True):
            file.write(f"{label},{' '.join(map(str, row.tolist()))},{usage}\n")
    return pixels.reshape(-1, 48, 48)


def plain_loop(path: Path) -> np.ndarray:
    """What a first notebook does: read the table, split each string, convert each number."""
    table = pd.read_csv(path)
    return np.stack([np.array(text.split(), dtype=np.uint8).reshape(48, 48) for text in table["pixels"]])


def main() -> None:
    """Check that both give the same pictures, then print the times and their ratio."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fer2013.csv"
        expected = write_table(path, rows)
        start = time.perf_counter()
        images = fer2013.load(folder).images
        ours = time.perf_counter() - start
        start = time.perf_counter()
        theirs_images = plain_loop(path)
        theirs = time.perf_counter() - start
        assert np.array_equal(images, expected) and np.array_equal(theirs_images, expected)
    print(f"fer2013.load, {rows:,} rows: {ours:.2f} s (promise: 10 s for {ROWS:,})")
    print(f"pandas and a loop: {theirs:.2f} s; ratio {theirs / ours:.1f}")


if __name__ == "__main__":
    main()

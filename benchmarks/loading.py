"""Load all of FACSynth basic to uint8 arrays: our loader against a plain zipfile and Pillow loop, in one run.

Promise: under 3 seconds on 2 cores, checksums, landmarks, attributes and votes included. The loop reads the pictures only.
Usage: python benchmarks/loading.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zipfile

import numpy as np
from PIL import Image

from fer_utils.datasets import facsynth

os.environ["FER_CACHE"] = ""  # decode, do not remember

LOADER = "import time; t = time.perf_counter(); from fer_utils.datasets import facsynth; s = time.perf_counter(); " \
    "facsynth.load('basic').images; print(time.perf_counter() - s, s - t)"


def plain_loop() -> float:
    """Seconds that one thread takes to decode every picture."""
    start = time.perf_counter()
    with zipfile.ZipFile(facsynth.find_root() / "raf/basic/Image/aligned.zip") as archive:
        images = []
        for name in archive.namelist():
            with archive.open(name) as file:
                images.append(np.asarray(Image.open(file).convert("RGB")))
    np.stack(images)
    return time.perf_counter() - start


def main() -> None:
    """Take the best of three runs of each, the loader's in new processes so that nothing is verified already."""
    ours = []
    for _ in range(3):
        result = subprocess.run([sys.executable, "-c", LOADER], capture_output=True, text=True, check=True)
        ours.append(float(result.stdout.split()[0]))
    theirs = min(plain_loop() for _ in range(3))
    print(f"facsynth.load('basic'): {min(ours):.2f} s (promise: 3 s)")
    print(f"zipfile and Pillow, pictures only: {theirs:.2f} s; ratio {theirs / min(ours):.2f}")


if __name__ == "__main__":
    main()

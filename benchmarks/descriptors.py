"""Describe 15,339 faces of 100x100: our batches against a loop over scikit-image's functions, in one run.

Promise: LBP, HOG and Gabor together in under 25 seconds on 2 cores. The loop describes fewer faces, its time is given for all; its Gabor
filters are scikit-image's kernels, brought to the frequency domain once. Ratios are of processor time, in which waiting for other
programs does not count; the loop uses one core, so on an idle machine it is also the time that passes.
Usage: python benchmarks/descriptors.py [FACES]
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import sys
import time
from collections.abc import Callable

import numpy as np
from scipy import fft
from skimage.feature import hog, local_binary_pattern
from skimage.filters import gabor_kernel

from fer_utils.datasets import facsynth
from fer_utils.descriptors import GaborDescriptor, HOGDescriptor, LBPDescriptor, to_grey

FACES, CORES, LOOP = 15_339, 2, 200
PROMISE = 25
TOLERANCE = {LBPDescriptor: 1e-6, HOGDescriptor: 1e-5, GaborDescriptor: 5e-3}  # Gabor values have a deviation of 1
SIZE = 200  # of a face and its mirror image, which repeats without a seam


def loop_lbp(face: np.ndarray) -> np.ndarray:
    codes = local_binary_pattern(face, 8, 2, method="nri_uniform").astype(int)
    regions = codes.reshape(10, 10, 10, 10).swapaxes(1, 2).reshape(100, 100)
    return np.concatenate([np.bincount(region, minlength=59) for region in regions]) / 100


def loop_hog(face: np.ndarray) -> np.ndarray:
    return hog(face, orientations=10, pixels_per_cell=(5, 5), cells_per_block=(2, 2), feature_vector=False)[::2, ::2].ravel()


def make_loop_gabor() -> Callable[[np.ndarray], np.ndarray]:
    lengths = [4 * 2 ** (scale / 2) for scale in range(5)]
    kernels = np.zeros((40, SIZE, SIZE), dtype=complex)
    for i, (length, turn) in enumerate((length, turn) for length in lengths for turn in range(8)):
        kernel = gabor_kernel(1 / length, np.pi * turn / 8, sigma_x=length, sigma_y=length, n_stds=6)
        rows, columns = kernel.shape
        kernels[i, :rows, :columns] = kernel
        kernels[i] = np.roll(kernels[i], (-(rows // 2), -(columns // 2)), axis=(0, 1))
    filters = fft.fft2(kernels)

    def describe(face: np.ndarray) -> np.ndarray:
        mirrored = np.pad(face.astype(float), (0, SIZE - 100), mode="symmetric")
        magnitudes = np.abs(fft.ifft2(fft.fft2(mirrored) * filters)[:, 5:100:10, 5:100:10]).reshape(40, 100)
        return ((magnitudes - magnitudes.mean(1, keepdims=True)) / magnitudes.std(1, keepdims=True)).ravel()

    return describe


def main() -> None:
    """Check that both give the same, then time each descriptor."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else FACES
    shipped = facsynth.load("basic", landmarks=False).images
    faces = shipped[np.arange(count) % len(shipped)]
    some = to_grey(faces[:LOOP])
    total, total_cpu, total_loop = 0.0, 0.0, 0.0
    for ours, theirs in ((LBPDescriptor, loop_lbp), (HOGDescriptor, loop_hog), (GaborDescriptor, make_loop_gabor())):
        start = time.process_time()
        expected = np.stack([theirs(face) for face in some])
        loop = (time.process_time() - start) * len(faces) / len(some)
        start, start_cpu = time.perf_counter(), time.process_time()
        values = ours(n_jobs=CORES).transform(faces)
        seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
        gap = np.abs(values[: len(some)] - expected).max()
        assert gap < TOLERANCE[ours], (ours.__name__, gap)
        print(
            f"{ours.__name__}: {seconds:.1f} s on {CORES} cores, {cpu:.1f} s of processor time; scikit-image face by face: {loop:.0f} s; "
            f"ratio {loop / cpu:.0f}; largest difference {gap:.1g}"
        )
        total, total_cpu, total_loop = total + seconds, total_cpu + cpu, total_loop + loop
        del values
    print(
        f"all three, {len(faces):,} faces: {total:.1f} s on {CORES} cores (promise: {PROMISE} s for {FACES:,}), "
        f"{total_cpu:.1f} s of processor time"
    )
    print(f"scikit-image: {1000 * total_loop / len(faces):.0f} ms a face, {total_loop / 60:.1f} min; ratio {total_loop / total_cpu:.0f}")
    raise SystemExit(total > PROMISE * len(faces) / FACES)


if __name__ == "__main__":
    main()

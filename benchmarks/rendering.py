"""Pictures a second on one core: the face generator against the same renderer at 160x160 pixels and 32 samples.

Promise: at least 2.5 pictures a second a core. The rival is the setting of a first trial with the same renderer.
Needs the extra ``synth``. Usage: OMP_NUM_THREADS=1 python benchmarks/rendering.py [COUNT]
"""

from __future__ import annotations

import os
import sys
import time

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

from fer_utils.facsynth import conditions, produce, render
from fer_utils.facsynth.sets import plan_set


def pace(count: int) -> float:
    """Pictures a second, the model loaded."""
    jobs = plan_set("basic", 7)[:count]
    start = time.perf_counter()
    produce.make_pictures(jobs, 7)
    return count / (time.perf_counter() - start)


def main() -> None:
    """Print both paces and their ratio."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 32
    produce.make_pictures(plan_set("basic", 7)[:1], 7)
    ours = pace(count)
    render.FRAME = conditions.FRAME = 160
    render.SAMPLES = 32
    trial = pace(count)
    print(f"one core: {ours:.2f} pictures/s (promise: 2.5); at 160x160 pixels and 32 samples {trial:.2f}; ratio {ours / trial:.2f}")


if __name__ == "__main__":
    main()

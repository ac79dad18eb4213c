"""From votes to labels: our EM against crowd-kit's GLAD in one run, then our time and memory at RAF-DB's size and beyond.

Promises: 30 times as fast as GLAD with 10 iterations, at an equal or better log-likelihood and accuracy; 29,672 faces with 40 votes each
to convergence in under 8 seconds on 2 cores and under 1.5 GB; cost linear in the votes. GLAD runs on shipped faces, the rest on votes
drawn from the model. Wall and processor seconds are both printed: on a busy machine they differ.
Needs crowd-kit. Usage: python benchmarks/crowd.py [FACES FOR GLAD]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np
import pandas as pd

from fer_utils.crowd import ReliabilityEM

TASKS, VOTES_A_TASK, WORKERS, CLASSES = 29_672, 40, 315, 7
GLAD_TASKS, GLAD_ITERATIONS = 4_000, 10
SIZES = (10_000, 100_000, 1_000_000, 10_000_000)


def draw_votes(tasks: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Votes of RAF-DB's crowd as the model has them, in random order: task, worker and label codes."""
    rng = np.random.default_rng(0)
    alphas = np.exp(rng.normal(0.5, 0.3, WORKERS))
    alphas[:30] = rng.uniform(-1.8, 0.2, 30)
    betas, truth = np.exp(rng.normal(0, 0.7, tasks)), rng.integers(0, CLASSES, tasks)
    task = np.repeat(np.arange(tasks), VOTES_A_TASK)
    some = range(0, tasks, 10_000)  # at a time, to save memory
    worker = np.concatenate([rng.random((min(10_000, tasks - i), WORKERS), dtype=np.float32).argpartition(VOTES_A_TASK)[:, :VOTES_A_TASK]
                             for i in some]).ravel()
    right = rng.random(len(task)) < 1 / (1 + np.exp(-alphas[worker] * betas[task]))
    label = np.where(right, truth[task], (truth[task] + rng.integers(1, CLASSES, len(task))) % CLASSES)
    order = rng.permutation(len(task))
    return task[order], worker[order], label[order]


class Clock:
    """Wall and processor seconds of a block."""

    def __enter__(self) -> Clock:
        self._start = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall, self.cpu = time.perf_counter() - self._start[0], time.process_time() - self._start[1]


def peak_memory() -> float:
    """The most memory that this process ever held, in GB; ``getrusage`` would also count what its parent held."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 2**20
    raise OSError("/proc/self/status has no VmHWM; expected Linux")


def measure(door: str, tasks: int) -> dict[str, float]:
    """Fit drawn votes through one door, in this process: seconds, iterations, and the most memory that the process ever held."""
    votes = draw_votes(tasks)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "votes.parquet"
        frame = pd.DataFrame(dict(zip(("task", "worker", "label"), votes, strict=True))) if door != "arrays" else None
        if door == "frame":
            frame["task"] = [f"train_{i:07d}.jpg" for i in frame["task"]]
        if door == "file":  # the votes are in memory no more when the fit begins
            frame.to_parquet(path)
            return measure_file(path)
        with Clock() as clock:
            model = ReliabilityEM().fit_arrays(*votes) if door == "arrays" else ReliabilityEM().fit(frame)
    return {"wall": clock.wall, "cpu": clock.cpu, "iterations": model.n_iter_, "peak": peak_memory()}


def measure_file(path: Path) -> dict[str, float]:
    """The same through ``fit_file``, in a process that never held the votes."""
    result = subprocess.run([sys.executable, __file__, "measure-file", str(path)], capture_output=True, text=True, check=True)
    return json.loads(result.stdout)


def in_new_process(door: str, tasks: int) -> dict[str, float]:
    """:func:`measure` in a process of its own, so that its memory is its own."""
    result = subprocess.run([sys.executable, __file__, "measure", door, str(tasks)], capture_output=True, text=True, check=True)
    return json.loads(result.stdout)


def compare(tasks: int) -> None:
    """Ours and GLAD on the same votes: time, accuracy, and both measured by the same yardsticks."""
    from crowdkit.aggregation import GLAD, MajorityVote

    from fer_utils.datasets import facsynth

    faces = facsynth.load("basic")
    chosen = np.sort(np.random.default_rng(0).choice(len(faces.names), tasks, replace=False))
    votes = faces.votes[faces.votes["task"].isin(set(faces.names[chosen].tolist()))].reset_index(drop=True)
    truth = pd.Series(faces.labels[chosen] + 1, faces.names[chosen])  # as the votes: RAF-DB's codes are the order of the classes, from 1
    with Clock() as ours_clock:
        ours = ReliabilityEM().fit(votes)
    with warnings.catch_warnings(), Clock() as glad_clock:
        warnings.simplefilter("ignore")  # its use of pandas
        glad = GLAD(n_iter=GLAD_ITERATIONS).fit(votes)

    print(f"{tasks:,} faces of FACSynth, {len(votes):,} votes")
    print(f"  ours, to convergence: {ours_clock.wall:.2f} s wall, {ours_clock.cpu:.2f} s processor, {ours.n_iter_} iterations")
    done = len(glad.loss_history_)
    print(f"  GLAD, {done} of {GLAD_ITERATIONS} iterations: {glad_clock.wall:.2f} s wall, {glad_clock.cpu:.2f} s processor")
    print(f"  ratio {glad_clock.wall / ours_clock.wall:.0f} (wall), {glad_clock.cpu / ours_clock.cpu:.0f} (processor); promise 30")
    # Both on GLAD's scale, where the priors of both are N(1, 1) for alpha and for log beta.
    points = {"ours": (ours.alphas_ / np.e, np.log(ours.betas_) + 1, ours.labels_), "GLAD": (glad.alphas_, glad.betas_, glad.labels_)}
    for name, (alphas, logs, labels) in points.items():
        likelihood = log_likelihood(votes, alphas, np.exp(logs))
        objective = likelihood - 0.5 * (((alphas - 1) ** 2).sum() + ((logs - 1) ** 2).sum())
        print(f"  {name}: log-likelihood of the votes {likelihood:,.1f}, with the priors of both {objective:,.1f}; "
              f"accuracy {(labels[truth.index] == truth).mean():.4f}")
    majority = MajorityVote().fit_predict(votes)
    right = {name: labels[truth.index] == truth for name, (_, _, labels) in points.items()}
    print(f"  majority vote: accuracy {(majority[truth.index] == truth).mean():.4f}; ours alone is right on "
          f"{(right['ours'] & ~right['GLAD']).sum()} faces, GLAD alone on {(right['GLAD'] & ~right['ours']).sum()}")


def log_likelihood(votes: pd.DataFrame, alphas: pd.Series, betas: pd.Series) -> float:
    """Log-likelihood of votes under given parameters, errors and classes spread evenly: computed here, by neither of the two."""
    z = alphas[votes["worker"]].to_numpy() * betas[votes["task"]].to_numpy()
    tasks, labels = pd.factorize(votes["task"])[0], votes["label"].to_numpy() - 1
    wrong = np.bincount(tasks, -np.logaddexp(0, z) - np.log(CLASSES - 1))
    joint = np.repeat(wrong[:, None], CLASSES, axis=1)
    np.add.at(joint, (tasks, labels), z + np.log(CLASSES - 1))
    return float(np.logaddexp.reduce(joint - np.log(CLASSES), axis=1).sum())


def main() -> None:
    """Print all of it, or one measurement for a process of its own."""
    if sys.argv[1:2] == ["measure"]:
        print(json.dumps(measure(sys.argv[2], int(sys.argv[3]))))
        return
    if sys.argv[1:2] == ["measure-file"]:
        with Clock() as clock:
            model = ReliabilityEM().fit_file(sys.argv[2])
        print(json.dumps({"wall": clock.wall, "cpu": clock.cpu, "iterations": model.n_iter_,
                          "peak": peak_memory()}))
        return
    compare(int(sys.argv[1]) if len(sys.argv) > 1 else GLAD_TASKS)
    print(f"RAF-DB's size: {TASKS:,} faces, {TASKS * VOTES_A_TASK:,} votes, {WORKERS} annotators (promise: 8 s, 1.5 GB)")
    for door, name in (("frame", "fit, a frame"), ("arrays", "fit_arrays"), ("file", "fit_file, Parquet in chunks")):
        show(name, in_new_process(door, TASKS), TASKS * VOTES_A_TASK)
    print("growth (fit_arrays; the last, in chunks)")
    for votes in SIZES:
        show(f"{votes:,} votes", in_new_process("arrays", votes // VOTES_A_TASK), votes)
    show(f"{SIZES[-1]:,} votes in chunks", in_new_process("file", SIZES[-1] // VOTES_A_TASK), SIZES[-1])


def show(name: str, found: dict[str, float], votes: int) -> None:
    """Print one measurement."""
    each = 1e6 * found["cpu"] / votes
    print(f"  {name}: {found['wall']:.2f} s wall, {found['cpu']:.2f} s processor, {each:.2f} microseconds a vote, "
          f"{found['iterations']} iterations; peak {found['peak']:.2f} GB")


if __name__ == "__main__":
    main()

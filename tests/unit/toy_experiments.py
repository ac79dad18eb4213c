"""Experiments of seconds, in a module of their own so that the workers of a cluster can import them."""

import os
import time
from pathlib import Path

import numpy as np
import torch

from fer_utils.experiments import Run, Score, register_experiment, score_predictions
from fer_utils.labels import BASIC

HERE = Path(__file__).resolve().parent
TRUTH = np.repeat(np.arange(7), 60)
#: How often each row is right.
SKILLS = {"mSVM Gabor": 0.9, "mSVM HOG": 0.75, "mSVM LBP": 0.6, "mSVM shape": 0.45}


def register(id, runs, **options):
    """Register runs, or a function that plans them."""
    register_experiment(id, **options)(lambda setup: runs(setup) if callable(runs) else runs)


def answer(context, row, skill, wobble=0.0, role="basic", people=None):
    """Guess with a skill, which the seed moves by up to `wobble`; one image's luck is the same for all rows."""
    luck = np.random.default_rng([5, len(role)]).random(len(TRUTH))
    drawn = np.random.default_rng([context.seed or 0, len(row)]).random()
    guess = np.where(luck < skill + wobble * (0.5 - drawn), TRUTH, (TRUTH + 1) % 7)
    return [score_predictions(row, role, TRUTH, guess, BASIC, people, series={"drawn": [drawn]})]


def plan_skills(setup, skills=SKILLS, wobble=0.0, seeded=False):
    return [
        Run(f"{row} {role}", answer, {"row": row, "skill": skill, "wobble": wobble, "role": role}, seed)
        for role in ("basic", "lab") if role in setup.roles
        for row, skill in skills.items()
        for seed in (setup.seeds if seeded else (None,))
    ]


def sleep(context, log, seconds):
    """Write down that it began and ended."""
    name = f"{log}/{context.id.replace('/', '-')}-{context.seed}"
    with Path(f"{name}.began").open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(seconds)
    with Path(f"{name}.ended").open("a") as file:
        file.write(f"{os.getpid()}\n")
    return [Score("sleeper", "", {"seed": float(context.seed)})]


def count_up(context, steps, stop):
    """Count in the run's folder; the first call is cut off after `stop` steps."""
    path = context.workdir / "count.txt"
    done = path.read_text().split() if path.is_file() else []
    first = not done
    for step in range(len(done), steps):
        if first and step == stop:
            raise KeyboardInterrupt
        done.append(str(step))
        path.write_text(" ".join(done))
    context.save_file("count.txt", path.read_bytes())
    return [Score("counter", "", {"steps": float(len(done)), "resumed": float(not first)})]


def draw_slowly(context):
    """Draw from torch's generator, with pauses in which another thread could."""
    torch.manual_seed(context.seed)
    total = 0.0
    for _ in range(20):
        total += float(torch.rand(()))
        time.sleep(0.003)
    return [Score("drawn", "", {"sum": total})]


def fail(context):
    raise RuntimeError("no luck")


def environment():
    """For another process that imports this module and the package."""
    paths = [str(HERE.parents[1]), str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def wait_for(condition, seconds=60):
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)

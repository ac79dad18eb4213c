"""Votes of simulated crowds that follow the model."""

import numpy as np
import pandas as pd


def simulate(tasks=300, workers=40, votes=15, classes=7, seed=0, spammers=0):
    """A crowd's votes, and the truth behind them: frame, alphas by worker, betas and labels by task."""
    rng = np.random.default_rng(seed)
    alphas = np.exp(rng.normal(0.5, 0.4, workers))
    alphas[:spammers] = rng.uniform(-1.8, 0, spammers)
    betas = np.exp(rng.normal(0, 0.6, tasks))
    truth = rng.integers(0, classes, tasks)
    task = np.repeat(np.arange(tasks), votes)
    worker = rng.random((tasks, workers)).argsort(axis=1)[:, :votes].ravel()
    right = rng.random(len(task)) < 1 / (1 + np.exp(-alphas[worker] * betas[task]))
    label = np.where(right, truth[task], (truth[task] + rng.integers(1, classes, len(task))) % classes)
    frame = pd.DataFrame({"task": [f"t{t:04d}" for t in task], "worker": worker, "label": label + 1})
    names = sorted(set(frame["task"]))
    return frame, pd.Series(alphas), pd.Series(betas, names), pd.Series(truth + 1, names)

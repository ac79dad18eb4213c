"""``dlp-cnn/algorithm-1``: who in the crowd stays, how well the others agree, and which start of the EM is the faster."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ...crowd import ReliabilityEM, cronbach_alpha, filter_annotators
from ...datasets.base import FaceDataset
from ...errors import DataError
from ...experiments.registry import Outcome, Run, Setup, Task, register_experiment, score_faces
from .recipe import Crowd

__all__ = ["plan_algorithm_1"]

#: Rows of the comparison of starts, and the start of each.
STARTS = {"entropy": "entropy", "summed entropy": "summed entropy", "Gaussian prior": "prior"}


@register_experiment("dlp-cnn/algorithm-1", seeds={"book": Crowd.parts, "paper": Crowd.parts})
def plan_algorithm_1(setup: Setup) -> list[Run]:
    """One run for the crowd, in which nothing is drawn, and one for each part of the faces. None where the dataset ships no votes."""
    if setup.dataset != "facsynth":
        return []
    recipe = Crowd().at(setup.profile).as_arguments()
    climb = {name: recipe.pop(name) for name in ("tolerance", "parts")}
    runs = [Run("crowd", measure_crowd, recipe)]
    return runs + [Run("starts", measure_starts, recipe | climb, seed) for seed in setup.seeds[: climb["parts"]]]


def measure_crowd(task: Task, faces: int | None, max_iterations: int) -> list[Outcome]:
    """Fit the model to the votes for the wild faces.

    Parameters
    ----------
    task : Task
    faces, max_iterations
        See :class:`~fer_utils.papers.dlp_cnn.recipe.Crowd`.

    Returns
    -------
    list of Outcome
        The item's own rows but for the starts. Besides: ``majority vote``, ``reliability EM`` and ``reliability EM, kept annotators``
        against the rendered classes, where they are known.
    """
    known, votes, classes = _load(task, faces)
    em = ReliabilityEM(classes=classes, max_iter=max_iterations).fit(votes)
    kept = filter_annotators(em.alphas_)
    rest = votes[votes["worker"].isin(kept.index)]
    outcomes = [
        Outcome("annotators", "basic", {"value": float(len(em.alphas_))}),
        Outcome("annotators kept", "basic", {"value": float(len(kept))}),
        Outcome("Cronbach's alpha", "basic", {"value": cronbach_alpha(rest)}),
        Outcome("Cronbach's alpha, all annotators", "basic", {"value": cronbach_alpha(votes)}),
    ]
    tally = votes.groupby(["task", "label"]).size().unstack(fill_value=0).reindex(index=known.names, columns=classes, fill_value=0)
    again = ReliabilityEM(classes=classes, max_iter=max_iterations).fit(rest)
    guesses = {
        "majority vote": tally.to_numpy().argmax(1),
        "reliability EM": em.labels_.reindex(known.names).to_numpy() - 1,
        "reliability EM, kept annotators": again.labels_.reindex(known.names).to_numpy() - 1,
    }
    for row, guess in guesses.items():
        outcomes.append(score_faces(row, "basic", known, guess.astype(int)))
    return outcomes


def measure_starts(task: Task, faces: int | None, max_iterations: int, tolerance: float, parts: int) -> list[Outcome]:
    """Count the iterations from each start, on one part of the faces: one crowd's count is one number, and a few iterations are luck.

    Parameters
    ----------
    task : Task
        Its seed is the number of the part. Parts share their annotators and no face.
    faces, max_iterations, tolerance, parts
        See :class:`~fer_utils.papers.dlp_cnn.recipe.Crowd`.

    Returns
    -------
    list of Outcome
        The starts, by the algorithm as printed and with Newton steps: iterations, and the objective at each and at the end. Besides the
        two that are compared, the entropy summed over annotators, as the paper's formula has it.
    """
    known, votes, classes = _load(task, faces)
    order = np.random.default_rng(0).permutation(len(known))
    part = votes[votes["task"].isin(set(known.names[order[task.seed :: parts]].tolist()))]
    outcomes = []
    for row, init in STARTS.items():
        for suffix, climb in (("", ReliabilityEM.as_printed), (", Newton steps", ReliabilityEM)):
            fit = climb(classes=classes, init=init, tol=tolerance, max_iter=max_iterations).fit(part)
            measured = {"iterations": float(fit.n_iter_), "objective": fit.loss_history_[-1]}
            outcomes.append(Outcome(row + suffix, "basic", measured, series={"objective": fit.loss_history_}))
    return outcomes


def _load(task: Task, faces: int | None) -> tuple[FaceDataset, pd.DataFrame, list[int]]:
    """The wild faces, the votes for them, and the codes of their classes."""
    known = task.load("basic", landmarks=False)
    if known.votes is None:
        raise DataError(f"{known.name}: no votes; expected a frame of task, worker and label")
    if faces is not None:
        known = known.subset(slice(0, faces))
    return known, known.votes[known.votes["task"].isin(set(known.names.tolist()))], list(range(1, len(known.classes) + 1))

"""``dlp-cnn/algorithm-1``: who in the crowd stays, how well the others agree, and which start of the EM is the faster."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ...crowd import ReliabilityEM, cronbach_alpha, filter_annotators
from ...datasets.base import FaceDataset
from ...errors import DataError
from ...experiments.context import RunContext
from ...experiments.registry import Run, Setup, register_experiment
from ...experiments.scores import Score, score_faces
from .recipe import Crowd

__all__ = ["plan_algorithm_1"]

#: Rows of the comparison of starts, and the start of each.
STARTS = {"entropy": "entropy", "summed entropy": "summed entropy", "Gaussian prior": "prior"}


@register_experiment("dlp-cnn/algorithm-1", seeds={"book": Crowd.parts, "paper": Crowd.parts})
def plan_algorithm_1(setup: Setup) -> list[Run]:
    """One run for the crowd, in which nothing is drawn, and one for each part of the faces. None where the dataset ships no votes."""
    if setup.dataset != "facsynth":
        return []
    recipe = Crowd().at(setup.profile)
    size = {"faces": recipe.faces, "max_iterations": recipe.max_iterations}
    climb = {"tolerance": recipe.tolerance, "parts": recipe.parts}
    runs = [Run("crowd", measure_crowd, size)]
    return runs + [Run("starts", measure_starts, size | climb, seed) for seed in setup.seeds[: recipe.parts]]


def measure_crowd(context: RunContext, faces: int | None, max_iterations: int) -> list[Score]:
    """Fit the model to the votes for the wild faces.

    Parameters
    ----------
    context : RunContext
    faces, max_iterations
        See :class:`~fer_utils.papers.dlp_cnn.recipe.Crowd`.

    Returns
    -------
    list of Score
        The item's own rows but for the starts. Besides: ``majority vote``, ``reliability EM`` and ``reliability EM, kept annotators``
        against the rendered classes, where they are known.
    """
    known, votes, classes = _load(context, faces)
    em = ReliabilityEM(classes=classes, max_iter=max_iterations).fit(votes)
    kept = filter_annotators(em.alphas_)
    rest = votes[votes["worker"].isin(kept.index)]
    scores = [
        Score("annotators", "basic", {"value": float(len(em.alphas_))}),
        Score("annotators kept", "basic", {"value": float(len(kept))}),
        Score("Cronbach's alpha", "basic", {"value": cronbach_alpha(rest)}),
        Score("Cronbach's alpha, all annotators", "basic", {"value": cronbach_alpha(votes)}),
    ]
    tally = votes.groupby(["task", "label"]).size().unstack(fill_value=0).reindex(index=known.names, columns=classes, fill_value=0)
    again = ReliabilityEM(classes=classes, max_iter=max_iterations).fit(rest)
    guesses = {
        "majority vote": tally.to_numpy().argmax(1),
        "reliability EM": em.labels_.reindex(known.names).to_numpy() - 1,
        "reliability EM, kept annotators": again.labels_.reindex(known.names).to_numpy() - 1,
    }
    for row, guess in guesses.items():
        scores.append(score_faces(row, "basic", known, guess.astype(int)))
    return scores


def measure_starts(context: RunContext, faces: int | None, max_iterations: int, tolerance: float, parts: int) -> list[Score]:
    """Count the iterations from each start, on one part of the faces: one crowd's count is one number, and a few iterations are luck.

    Parameters
    ----------
    context : RunContext
        Its seed is the number of the part. Parts share their annotators and no face.
    faces, max_iterations, tolerance, parts
        See :class:`~fer_utils.papers.dlp_cnn.recipe.Crowd`.

    Returns
    -------
    list of Score
        The starts, by the algorithm as printed and with Newton steps: iterations, and the objective at each and at the end. Besides the
        two that are compared, the entropy summed over annotators, as the paper's formula has it.
    """
    known, votes, classes = _load(context, faces)
    order = np.random.default_rng(0).permutation(len(known))
    part = votes[votes["task"].isin(set(known.names[order[context.seed :: parts]].tolist()))]
    scores = []
    for row, init in STARTS.items():
        for suffix, climb in (("", ReliabilityEM.as_printed), (", Newton steps", ReliabilityEM)):
            fit = climb(classes=classes, init=init, tol=tolerance, max_iter=max_iterations).fit(part)
            measured = {"iterations": float(fit.n_iter_), "objective": fit.loss_history_[-1]}
            scores.append(Score(row + suffix, "basic", measured, series={"objective": fit.loss_history_}))
    return scores


def _load(context: RunContext, faces: int | None) -> tuple[FaceDataset, pd.DataFrame, list[int]]:
    """The wild faces, the votes for them, and the codes of their classes."""
    known = context.load_faces("basic", landmarks=False, more=False)
    if known.votes is None:
        raise DataError(f"{known.name}: no votes; expected a frame of task, worker and label")
    if faces is not None:
        known = known.subset(slice(0, faces))
    return known, known.votes[known.votes["task"].isin(set(known.names.tolist()))], list(range(1, len(known.classes) + 1))

"""``dlp-cnn/algorithm-1``: who in the crowd stays, how well the others agree, and which start of the EM is the faster."""

from __future__ import annotations

from ...crowd import ReliabilityEM, cronbach_alpha, filter_annotators
from ...datasets.base import DataError
from ...recipes.dlp_cnn import Crowd
from ..registry import Outcome, Run, Setup, Task, register_experiment, score_faces

__all__ = ["plan_algorithm_1"]


@register_experiment("dlp-cnn/algorithm-1")
def plan_algorithm_1(setup: Setup) -> list[Run]:
    """One run: nothing is drawn. None where the dataset ships no votes."""
    if setup.dataset != "facsynth":
        return []
    return [Run("crowd", measure_crowd, Crowd().at(setup.profile).as_arguments())]


def measure_crowd(task: Task, faces: int | None, tolerance: float, max_iterations: int) -> list[Outcome]:
    """Fit the model to the votes for the wild faces.

    Parameters
    ----------
    task : Task
    faces, tolerance, max_iterations
        See :class:`~fer_utils.recipes.dlp_cnn.Crowd`.

    Returns
    -------
    list of Outcome
        The item's own rows; the two starts are compared by the algorithm as printed. Besides: the same starts with Newton steps, and
        ``majority vote``, ``reliability EM`` and ``reliability EM, kept annotators`` against the rendered
        classes, where they are known.
    """
    known = task.load("basic", landmarks=False)
    if known.votes is None:
        raise DataError(f"{known.name}: no votes; expected a frame of task, worker and label")
    if faces is not None:
        known = known.subset(slice(0, faces))
    votes = known.votes[known.votes["task"].isin(set(known.names.tolist()))]
    classes = list(range(1, len(known.classes) + 1))
    em = ReliabilityEM(classes=classes, max_iter=max_iterations).fit(votes)
    kept = filter_annotators(em.alphas_)
    rest = votes[votes["worker"].isin(kept.index)]
    outcomes = [
        Outcome("annotators", "basic", {"value": float(len(em.alphas_))}),
        Outcome("annotators kept", "basic", {"value": float(len(kept))}),
        Outcome("Cronbach's alpha", "basic", {"value": cronbach_alpha(rest)}),
        Outcome("Cronbach's alpha, all annotators", "basic", {"value": cronbach_alpha(votes)}),
    ]
    for row, init in (("entropy", "entropy"), ("Gaussian prior", "prior")):
        for suffix, climb in (("", ReliabilityEM.as_printed), (", Newton steps", ReliabilityEM)):
            fit = climb(classes=classes, init=init, tol=tolerance, max_iter=max_iterations).fit(votes)
            outcomes.append(Outcome(row + suffix, "basic", {"iterations": float(fit.n_iter_)}, series={"objective": fit.loss_history_}))
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

"""Across databases: HOG and an RBF SVM trained in the wild and tested in the lab, and the reverse. Fig. 6 of Li & Deng 2019."""

from __future__ import annotations

import numpy as np

from ...classifiers import RBFSVM
from ...datasets.base import FaceDataset
from ...descriptors import HOGDescriptor
from ...experiments.context import RunContext
from ...experiments.faces import find_apex_options, find_roles, fingerprint_faces, keep_classes, limit_per_class, load_role
from ...experiments.registry import Run, Setup, register_experiment
from ...experiments.scores import Score, score_faces
from ...labels import BASIC
from ...splits import Split, kfold, subject_kfold
from .recipe import CrossDatabase

__all__ = ["LAB_COUNTS", "ROW", "SIX", "draw_balanced", "load_six", "measure_lab", "measure_wild", "plan_figure_6"]

#: The six emotions that both databases have.
SIX = BASIC[:6]
#: CK+'s sequences of each of ``SIX``: the size of the smaller database, and so of both.
LAB_COUNTS = {"surprise": 83, "fear": 25, "disgust": 59, "happiness": 69, "sadness": 28, "anger": 45}
ROW = "RBF SVM HOG"
#: Stands in for the side that a dataset has not.
_STAND_IN = "facsynth"


@register_experiment("dlp-cnn/figure-6", seeds={"book": 10})
def plan_figure_6(setup: Setup) -> list[Run]:
    """One run trained in the lab, and one a seed trained on as many wild faces.

    Where a dataset has only one side, FACSynth's other side is taken. A third kind of run trains on FACSynth's wild faces and tests
    on the dataset's own, for what rendering alone costs.
    """
    recipe = CrossDatabase().at(setup.profile)
    whole = {"basic", "lab"} <= set(setup.roles)
    lab = Run("trained in the lab", measure_lab, {"recipe": recipe})
    wild = [Run("trained in the wild", measure_wild, {"recipe": recipe}, seed) for seed in setup.seeds]
    if whole or "basic" not in setup.roles:
        return [lab, *wild]
    return [lab, *wild, *(Run("trained on rendered wild", measure_rendered, {"recipe": recipe}, seed) for seed in setup.seeds)]


def load_six(context: RunContext, role: str, recipe: CrossDatabase, dataset: str | None = None) -> FaceDataset:
    """Load one side, with the labels of ``SIX``.

    Parameters
    ----------
    context : RunContext
    role : {"basic", "lab"}
        Of CK+ and its stand-in the last frame of each sequence.
    recipe : CrossDatabase
        A smoke test takes only the first ``recipe.images`` of each class and part.
    dataset : str, optional
        Another than the run's. By default FACSynth where the run's dataset has not the role.

    Raises
    ------
    ValueError
        If one of the six emotions is missing.
    """
    dataset = dataset or (context.dataset if role in find_roles(context.dataset) else _STAND_IN)
    options = find_apex_options(dataset, role)
    if dataset == context.dataset:
        faces = context.load_faces(role, **options)
    else:
        faces = load_role(dataset, role, **options)
        found = {"role": f"{dataset} {role}", "options": options, **fingerprint_faces(dataset, faces, role, options)}
        if found not in context.loaded:
            context.loaded.append(found)
    faces = keep_classes(faces, SIX)
    missing = [name for name, count in faces.class_counts().items() if not count]
    if missing:
        raise ValueError(f"{faces.name} shows no {missing[0]}; expected faces of {', '.join(SIX)}")
    return limit_per_class(faces, recipe.images)


def draw_balanced(faces: FaceDataset, seed: int) -> np.ndarray:
    """Draw as many faces of each class as CK+ has; of a class with fewer, all.

    Parameters
    ----------
    faces : FaceDataset
        Classes ``SIX``.
    seed : int

    Returns
    -------
    int64 ``[M]``
        Sorted positions, without repetition.
    """
    rng = np.random.default_rng([seed, 6])
    rows = []
    for k, name in enumerate(SIX):
        own = np.flatnonzero(faces.labels == k)
        rows.append(rng.choice(own, min(LAB_COUNTS[name], len(own)), replace=False))
    return np.sort(np.concatenate(rows))


def _describe(faces: FaceDataset) -> np.ndarray:
    return HOGDescriptor().transform(faces.images)


def _folds(faces: FaceDataset, count: int) -> list[Split]:
    """Of people where they are known; of fewer folds where a class has not as many members."""
    units = [len(np.unique(np.arange(len(faces))[own] if faces.identities is None else faces.identities[own]))
             for own in (faces.labels == k for k in range(len(SIX)))]
    return (kfold if faces.identities is None else subject_kfold)(faces, min(count, *units))


def _train(X: np.ndarray, faces: FaceDataset, recipe: CrossDatabase) -> RBFSVM:
    return RBFSVM(recipe.C, recipe.gamma).fit(X, faces.labels, validation=_folds(faces, recipe.folds))


def _score(row: str, role: str, faces: FaceDataset, guess: np.ndarray, machines: list[RBFSVM]) -> Score:
    chosen = {"C": [machine.C_ for machine in machines], "gamma": [machine.gamma_ for machine in machines]}
    return score_faces(row, role, faces, guess, series=chosen)


def measure_lab(context: RunContext, recipe: CrossDatabase) -> list[Score]:
    """Train on all lab faces and test on all wild ones; and within the lab, by folds of people.

    Parameters
    ----------
    context : RunContext
    recipe : CrossDatabase

    Returns
    -------
    list of Score
        Row ``RBF SVM HOG`` on ``basic``; row ``RBF SVM HOG within`` on ``lab``. Their series are the chosen C and gamma.
    """
    lab, wild = load_six(context, "lab", recipe), load_six(context, "basic", recipe)
    X = _describe(lab)
    machine = _train(X, lab, recipe)
    guess, machines = np.full(len(lab), -1), []
    for split in _folds(lab, recipe.folds):
        machines.append(_train(X[split.train], lab.subset(split.train), recipe))
        guess[split.test] = machines[-1].predict(X[split.test])
    return [
        _score(ROW, "basic", wild, machine.predict(_describe(wild)), [machine]), _score(f"{ROW} within", "lab", lab, guess, machines),
    ]


def measure_wild(context: RunContext, recipe: CrossDatabase) -> list[Score]:
    """Train on as many wild faces as the lab has, drawn from the training part; test on all lab faces, and on the wild test part.

    Parameters
    ----------
    context : RunContext
    recipe : CrossDatabase

    Returns
    -------
    list of Score
        Row ``RBF SVM HOG`` on ``lab``; row ``RBF SVM HOG within`` on ``basic``.
    """
    lab, wild = load_six(context, "lab", recipe), load_six(context, "basic", recipe)
    machine = _train_wild(wild, context.seed or 0, recipe)
    test = wild.test
    return [_score(row, role, faces, machine.predict(_describe(faces)), [machine])
            for row, role, faces in ((ROW, "lab", lab), (f"{ROW} within", "basic", test))]


def measure_rendered(context: RunContext, recipe: CrossDatabase) -> list[Score]:
    """Train on FACSynth's wild faces, drawn as in :func:`measure_wild`, and test on all of the dataset's own wild faces.

    Returns
    -------
    list of Score
        Row ``RBF SVM HOG from rendered wild`` on ``basic``.
    """
    machine = _train_wild(load_six(context, "basic", recipe, _STAND_IN), context.seed or 0, recipe)
    own = load_six(context, "basic", recipe)
    return [_score(f"{ROW} from rendered wild", "basic", own, machine.predict(_describe(own)), [machine])]


def _train_wild(wild: FaceDataset, seed: int, recipe: CrossDatabase) -> RBFSVM:
    train = wild.train
    train = train.subset(draw_balanced(train, seed))
    return _train(_describe(train), train, recipe)

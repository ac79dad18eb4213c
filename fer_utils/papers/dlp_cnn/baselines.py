"""Hand-crafted descriptors and two classifiers on faces in the wild and in the lab: Table V and section V-A of Li & Deng 2019."""

from __future__ import annotations

from itertools import islice

import numpy as np
from sklearn.base import BaseEstimator

from ...classifiers import LDANearestNeighbour, LinearSVM, RandomLabelDetector
from ...datasets.base import FaceDataset
from ...descriptors import GaborDescriptor, HOGDescriptor, LBPDescriptor, ShapeDescriptor
from ...experiments.context import RunContext
from ...experiments.faces import find_apex_options, find_roles, limit_per_class
from ...experiments.protocol import split_role
from ...experiments.registry import Run, Setup, register_experiment
from ...experiments.scores import Score, score_faces
from ...labels import BASIC
from ...splits import Split
from .recipe import Baselines

__all__ = ["load_column", "measure_descriptor", "measure_naive", "plan_table_5"]

_APPEARANCE = {"LBP": LBPDescriptor, "HOG": HOGDescriptor, "Gabor": GaborDescriptor}
_NAIVE = "Gabor"
#: Which faces of each role have landmarks for the shape descriptor.
_SHAPE = {
    "facsynth-basic": 37, "facsynth-compound": 37, "rafdb-basic": 37, "rafdb-compound": 37, "facsynth-lab": 68, "ckplus": 68,
}


@register_experiment("dlp-cnn/table-5", omits=dict.fromkeys(("mSVM shape", "LDA shape"), "no landmarks of the shape come with these faces"))
def plan_table_5(setup: Setup) -> list[Run]:
    """One run a descriptor and set of faces, of both classifiers; and the naive detector, which draws its labels, once a seed."""
    recipe = Baselines().at(setup.profile)
    keys = find_roles(setup.dataset)
    if "lab" in keys and "basic" in keys:
        keys.setdefault("lab-small", keys["lab"])
    runs = []
    for role in ("basic", "compound", "lab", "lab-small"):
        if role not in keys:
            continue
        for descriptor in (*(("shape",) if keys[role] in _SHAPE else ()), *_APPEARANCE):
            runs.append(Run(f"{descriptor} {role}", measure_descriptor, {"role": role, "descriptor": descriptor, "recipe": recipe}))
        if role in ("basic", "compound"):
            runs += [Run(f"naive {role}", measure_naive, {"role": role, "recipe": recipe}, seed) for seed in setup.seeds]
    return runs


def load_column(context: RunContext, role: str, recipe: Baselines) -> FaceDataset:
    """Load the faces of a column of Table V.

    Parameters
    ----------
    context : RunContext
    role : {"basic", "compound", "lab", "lab-small"}
        Of CK+ and its stand-in, ``lab`` is the last frame of each sequence of the six basic emotions, as in the paper's other
        experiments (309 images). ``lab-small`` is JAFFE; where there is none, as many people of ``lab``, see :func:`pick_people`, with
        three frames an emotion and a neutral one a sequence.
    recipe : Baselines

    Returns
    -------
    FaceDataset
        A smoke test takes only the first ``recipe.images`` of each class and part.
    """
    keys = find_roles(context.dataset)
    sequences = find_apex_options(context.dataset, "lab")
    if role == "lab-small" and role not in keys:
        faces = context.load_faces("lab", **({"frames": "apex3", "classes": BASIC} if sequences else {}))
        faces = faces.subset(np.isin(_people(faces), pick_people(faces, recipe.people)))
    else:
        faces = context.load_faces(role, **find_apex_options(context.dataset, role))
    return limit_per_class(faces, recipe.images)


def pick_people(faces: FaceDataset, count: int) -> np.ndarray:
    """Pick people who show all classes as evenly as they can between them; nothing but labels is looked at.

    One after another, whoever most raises the sum of the logarithms of one plus the classes' counts; of equals, the first.

    Parameters
    ----------
    faces : FaceDataset
    count : int

    Returns
    -------
    int64 ``[count]``
        Sorted values of ``identities``.

    Raises
    ------
    ValueError
        If there are fewer people.
    """
    people, place = np.unique(_people(faces), return_inverse=True)
    if count > len(people):
        raise ValueError(f"{faces.name} shows {len(people)} people, but {count} are asked for")
    shown = np.zeros((len(people), len(faces.classes)))
    np.add.at(shown, (place, faces.labels), 1)
    taken: list[int] = []
    while len(taken) < count:
        gain = np.log1p(shown[taken].sum(0) + shown).sum(1)
        gain[taken] = -1
        taken.append(int(gain.argmax()))
    return np.sort(people[taken])


def _people(faces: FaceDataset) -> np.ndarray:
    if faces.identities is None:
        raise ValueError(f"{faces.name} does not say who is shown; the protocol leaves people out")
    return faces.identities


def _describe(faces: FaceDataset, split: Split, descriptor: str) -> tuple[np.ndarray, np.ndarray]:
    """Training and test faces; what a descriptor learns, it learns from the training faces."""
    if descriptor == "shape":
        points = faces.landmarks_dense
        if points is None:
            raise ValueError(f"{faces.name} has no landmarks of the shape")
        learned = ShapeDescriptor(points.shape[1]).fit(points[split.train])
        return learned.transform(points[split.train]), learned.transform(points[split.test])
    made = _APPEARANCE[descriptor]()
    return made.transform(faces.images[split.train]), made.transform(faces.images[split.test])


def measure_descriptor(context: RunContext, role: str, descriptor: str, recipe: Baselines) -> list[Score]:
    """Measure the SVM and LDA with a nearest neighbour on one descriptor of one column's faces.

    Parameters
    ----------
    context : RunContext
    role, descriptor : str
        Column and row of Table V.
    recipe : Baselines

    Returns
    -------
    list of Score
        Rows ``mSVM <descriptor>``, whose series ``C`` has the chosen one of each fold, and ``LDA <descriptor>``. Folds are scored
        together: the confusion matrix is of all test faces, each of which is tested once.
    """
    faces = load_column(context, role, recipe)
    guesses = {name: np.full(len(faces), -1) for name in ("mSVM", "LDA")}
    chosen = []
    # a smoke test runs one fold
    for split, validation in islice(split_role(faces, role, recipe), None if recipe.images is None else 1):
        train, test = _describe(faces, split, descriptor)
        machine = LinearSVM(recipe.C).fit(train, faces.labels[split.train], validation=validation)
        chosen.append(machine.C_)
        guesses["mSVM"][split.test] = machine.predict(test)
        guesses["LDA"][split.test] = LDANearestNeighbour().fit(train, faces.labels[split.train]).predict(test)
    series = {"mSVM": {"C": chosen}, "LDA": {}}
    return [score_faces(f"{name} {descriptor}", role, faces, guess, series=series[name]) for name, guess in guesses.items()]


def measure_naive(context: RunContext, role: str, recipe: Baselines) -> list[Score]:
    """Measure the naive emotion detector: the SVM on Gabor features, trained, and its C chosen, on evenly drawn random labels.

    Parameters
    ----------
    context : RunContext
    role : str
        Column of Table V.
    recipe : Baselines

    Returns
    -------
    list of Score
        Row ``naive Gabor``, whose series ``C`` has the chosen one.
    """
    faces = load_column(context, role, recipe)
    ((split, validation),) = split_role(faces, role, recipe)
    train, test = _describe(faces, split, _NAIVE)
    detector: BaseEstimator = RandomLabelDetector(LinearSVM(recipe.C), random_state=context.seed or 0)
    detector.fit(train, faces.labels[split.train], validation=validation)
    guess = np.full(len(faces), -1)
    guess[split.test] = detector.predict(test)
    return [score_faces(f"naive {_NAIVE}", role, faces, guess, series={"C": [detector.estimator_.C_]})]

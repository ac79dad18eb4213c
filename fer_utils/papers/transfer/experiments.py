"""A network that knows faces, asked for expressions: frozen, with a classifier on its maps, and with its upper stages trained."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np

from ...classifiers import LDANearestNeighbour, LinearSVM
from ...datasets.base import FaceDataset
from ...experiments.context import RunContext
from ...experiments.faces import find_apex_options, limit_per_class
from ...experiments.protocol import split_role
from ...experiments.registry import Run, Setup, register_experiment
from ...experiments.scores import Score, score_faces
from ...models import build_model
from ...models.face_network import FaceNetwork
from ...splits import Split
from ...training import Balanced, FitSettings, Samples, extract_features, fit
from ...training.features import cache_face_maps
from .model import build_upper_stages, cut_after, predict_maps
from .recipe import FineTuned, FineTunedLab, Frozen, Transfer

__all__ = ["measure_frozen", "measure_random", "measure_trained", "plan_face_network"]

_ROLES = ("basic", "compound", "lab")
#: Rows of a training, and whether its upper stages start from the weights that ship.
_PRETRAINED = {"fine-tuned": True, "upper stages from random weights": False}
_OMITTED = (
    "a step of the whole network costs 4.5 times one of its upper stages: 8,000 batches of 64 faces, which Table VI's baseDCNN needs to"
    " converge, would take 45 minutes of one core for each seed"
)


@register_experiment("transfer/face-network", seeds={"book": 10}, omits={"random weights": _OMITTED})
def plan_face_network(setup: Setup) -> list[Run]:
    """What is drawn, once a seed; the trained network with a classifier on its maps once, as nothing is drawn there.

    Upper stages from random weights are a control, and run on basic emotions alone.
    """
    frozen, tuned, lab = (recipe.at(setup.profile) for recipe in (Frozen(), FineTuned(), FineTunedLab()))
    roles = [role for role in _ROLES if role in setup.roles]
    runs = [Run(f"frozen {role}", measure_frozen, {"role": role, "recipe": frozen}) for role in roles]
    runs += [Run(f"random {role}", measure_random, {"role": role, "recipe": frozen}, seed) for seed in setup.seeds for role in roles]
    for seed in setup.seeds:
        for row in _PRETRAINED:
            runs += [
                Run(f"{row} {role}", measure_trained, {"row": row, "role": role, "recipe": lab if role == "lab" else tuned}, seed)
                for role in roles if row == "fine-tuned" or role == "basic"
            ]
    return runs


def _load_faces(context: RunContext, role: str, recipe: Transfer) -> FaceDataset:
    """The faces of a role, as Tables V and IX take them; of a smoke test only the first ``recipe.images`` of each class and part."""
    return limit_per_class(context.load_faces(role, **find_apex_options(context.dataset, role)), recipe.images)


def _classify(name: str, features: np.ndarray, faces: FaceDataset, role: str, recipe: Frozen) -> list[Score]:
    """Rows ``SVM on <name>``, whose series ``C`` has the chosen one of each fold, and ``LDA on <name>``; folds are scored together."""
    guesses = {method: np.full(len(faces), -1) for method in ("SVM", "LDA")}
    chosen = []
    for split, validation in _split(faces, role, recipe):
        train, labels = features[split.train], faces.labels[split.train]
        # one grid of C for all maps: faces have a mean square length of 1
        length = np.sqrt(np.square(train).sum(1).mean())
        train, test = train / length, features[split.test] / length
        machine = LinearSVM(recipe.C).fit(train, labels, validation=validation)
        chosen.append(machine.C_)
        guesses["SVM"][split.test] = machine.predict(test)
        guesses["LDA"][split.test] = LDANearestNeighbour().fit(train, labels).predict(test)
    series = {"SVM": {"C": chosen}, "LDA": {}}
    return [score_faces(f"{method} on {name}", role, faces, guess, series=series[method]) for method, guess in guesses.items()]


def _split(faces: FaceDataset, role: str, recipe: Transfer) -> Iterator[tuple[Split, Split | list[Split]]]:
    """The splits of :func:`~fer_utils.experiments.protocol.split_role`; a smoke test runs one fold."""
    return islice(split_role(faces, role, recipe), None if recipe.images is None else 1)


def measure_frozen(context: RunContext, role: str, recipe: Frozen) -> list[Score]:
    """Measure the SVM and LDA with a nearest neighbour on maps of the network that ships, which has not seen the faces.

    Parameters
    ----------
    context : RunContext
    role : {"basic", "compound", "lab"}
    recipe : Frozen

    Returns
    -------
    list of Score
        Rows ``SVM on 8x8x128`` and ``LDA on 8x8x128``.
    """
    faces = _load_faces(context, role, recipe)
    maps = cache_face_maps(faces, recipe.stage).inputs
    return _classify("8x8x128", maps.reshape(len(faces), -1), faces, role, recipe)


def measure_random(context: RunContext, role: str, recipe: Frozen) -> list[Score]:
    """Measure what :func:`measure_frozen` measures, on maps of the same network with weights drawn from the seed.

    Parameters
    ----------
    context : RunContext
    role : {"basic", "compound", "lab"}
    recipe : Frozen

    Returns
    -------
    list of Score
        Rows ``SVM on random 8x8x128`` and ``LDA on random 8x8x128``.
    """
    faces = _load_faces(context, role, recipe)
    network = build_model(FaceNetwork.name, seed=context.seed)
    features = extract_features(cut_after(network, recipe.stage), faces.images)
    return _classify("random 8x8x128", features, faces, role, recipe)


def measure_trained(context: RunContext, row: str, role: str, recipe: FineTuned) -> list[Score]:
    """Train the upper stages on maps of the network that ships, of the faces and of their mirror images, and ask them for the test faces.

    Parameters
    ----------
    context : RunContext
    row : {"fine-tuned", "upper stages from random weights"}
        Whether they start from the weights that ship or from drawn ones; the last layer is drawn in both.
    role : {"basic", "compound", "lab"}
    recipe : FineTuned

    Returns
    -------
    list of Score
        The row. Folds are scored together, each of a training of its own.
    """
    faces = _load_faces(context, role, recipe)
    maps, mirrored = (cache_face_maps(faces, recipe.stage, mirrored=which).inputs for which in (False, True))
    guess = np.full(len(faces), -1)
    for fold, (split, _) in enumerate(_split(faces, role, recipe)):
        model = build_upper_stages(recipe.stage, len(faces.classes), context.seed or 0, pretrained=_PRETRAINED[row])
        inputs = np.concatenate([maps[split.train], mirrored[split.train]])
        samples = Samples(f"maps of {faces.name}", inputs, np.tile(faces.labels[split.train], 2), faces.classes)
        checkpoint = context.workdir / f"training-{fold}.safetensors"
        fit(model, samples, _settings(recipe, context.seed or 0), sampler=Balanced(), checkpoint=checkpoint, progress=False)
        guess[split.test] = predict_maps(model, maps[split.test])
    return [score_faces(row, role, faces, guess)]


def _settings(recipe: FineTuned, seed: int) -> FitSettings:
    return FitSettings(
        steps=recipe.steps, batch_size=recipe.batch_size, learning_rate=recipe.learning_rate, momentum=recipe.momentum,
        milestones=tuple(round(share * recipe.steps) for share in recipe.milestones), gamma=recipe.gamma, weight_decay=recipe.weight_decay,
        last_weight_decay=recipe.weight_decay, precision=recipe.precision, seed=seed,
    )

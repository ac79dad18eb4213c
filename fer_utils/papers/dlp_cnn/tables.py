"""Deep features and classifiers on them: Tables VI to IX and section V-C of Li & Deng 2019."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...experiments.context import RunContext
from ...experiments.faces import find_apex_options
from ...experiments.protocol import BY_PEOPLE, split_role
from ...experiments.registry import Run, Setup, register_experiment
from ...experiments.scores import Score, score_faces
from ...training import FitSettings, extract_features, fit
from .networks import (
    ELSEWHERE,
    METHODS,
    RIVALS,
    SEEDS,
    TABLE,
    build_network,
    classify_features,
    limit_seeds,
    load_faces,
    load_trace,
    save_trace,
    train_network,
)
from .objective import make_objective
from .recipe import DLPCNN

__all__ = ["measure_confusion", "measure_network", "measure_time", "measure_transfer"]

_OMITTED = "the paper does not say from which weights it starts; see the row of the same network trained from scratch on these faces"
#: Networks whose weights are kept, and which claims compare.
_KEPT = ("baseDCNN", "center loss", "DLP-CNN")
#: Of the other architectures, which stand beside them and decide no claim.
_OTHERS_SEEDS = 3


@register_experiment(TABLE, seeds=SEEDS, omits=dict.fromkeys(("mSVM VGG", "mSVM AlexNet", "LDA VGG", "LDA AlexNet"), _OMITTED))
def plan_table_6(setup: Setup) -> list[Run]:
    """One training a method and seed, and both classifiers on its features of both sets."""
    if "basic" not in setup.roles:
        return []
    roles = [role for role in ("basic", "compound") if role in setup.roles]
    recipe = DLPCNN().at(setup.profile)
    groups = {
        _KEPT: limit_seeds(setup, ELSEWHERE),
        tuple(method for method in METHODS if method not in _KEPT): limit_seeds(setup, _OTHERS_SEEDS, _OTHERS_SEEDS),
    }
    return [
        Run(method, measure_network, {"method": method, "roles": roles, "recipe": recipe}, seed)
        for methods, seeds in groups.items() for seed in seeds for method in methods
    ]


def measure_network(context: RunContext, method: str, roles: list[str], recipe: DLPCNN) -> list[Score]:
    """Train a network on basic emotions, and classify the features that it computes of basic and of compound ones.

    Parameters
    ----------
    context : RunContext
    method : str
        Of :data:`~fer_utils.papers.dlp_cnn.networks.METHODS`.
    roles : list of str
        Of the faces.
    recipe : DLPCNN

    Returns
    -------
    list of Score
        Rows ``mSVM <method>`` and ``LDA <method>``; and ``<method>``, which is what the network itself says, with its curves. The run
        leaves a trace, and for one of the paper's own three networks the weights.
    """
    basic = load_faces(context, "basic", recipe)
    model, trace = train_network(context, basic, method, recipe)
    test = basic.test
    scores = [
        score_faces(
            method, "basic", test, trace.guess, series={"test error": trace.wrong.mean(1).tolist(), "loss": average_pieces(trace.losses)}
        )
    ]
    guesses: dict[str, np.ndarray] = {}
    for role in roles:
        faces = basic if role == "basic" else load_faces(context, role, recipe)
        train, test = faces.train, faces.test
        found, C = classify_features(extract_features(model, train.images), train, extract_features(model, test.images), recipe)
        for name, guess in found.items():
            guesses[f"{name} {role}"] = guess.astype(np.int8)
            series = {"C": [C]} if name == "mSVM" else {}
            scores.append(score_faces(f"{name} {method}", role, test, guess, series=series))
    save_trace(context, method, replace(trace, guesses=guesses))
    if method in _KEPT:
        context.save_network(method, model, recipe)
    return scores


def average_pieces(values: np.ndarray, pieces: int = 100) -> list[float]:
    """Means of a curve's successive pieces, to be kept or drawn."""
    return [float(piece.mean()) for piece in np.array_split(values, min(pieces, len(values)))]


# -- Tables VII and VIII --------------------------------------------------------------------------------------------------


def _plan_confusion(setup: Setup, role: str) -> list[Run]:
    if role not in setup.roles or "basic" not in setup.roles:
        return []
    recipe = DLPCNN().at(setup.profile)
    return [Run("DLP-CNN", measure_confusion, {"role": role, "recipe": recipe}, seed) for seed in limit_seeds(setup, ELSEWHERE)]


@register_experiment("dlp-cnn/table-7", seeds=SEEDS, needs=(TABLE,))
def plan_table_7(setup: Setup) -> list[Run]:
    """The confusion matrix of basic emotions, from Table VI's predictions."""
    return _plan_confusion(setup, "basic")


@register_experiment("dlp-cnn/table-8", seeds=SEEDS, needs=(TABLE,))
def plan_table_8(setup: Setup) -> list[Run]:
    """The confusion matrix of compound emotions, from Table VI's predictions."""
    return _plan_confusion(setup, "compound")


def measure_confusion(context: RunContext, role: str, recipe: DLPCNN) -> list[Score]:
    """Take the predictions of DLP-CNN's features and the SVM; the ledger keeps them as a confusion matrix.

    Parameters
    ----------
    context : RunContext
    role : str
    recipe : DLPCNN
    """
    test = load_faces(context, role, recipe).test
    guess = load_trace(context, TABLE, "DLP-CNN").guesses[f"mSVM {role}"]
    return [score_faces("mSVM DLP-CNN", role, test, guess)]


# -- Table IX -------------------------------------------------------------------------------------------------------------


@register_experiment("dlp-cnn/table-9", seeds=SEEDS, needs=(TABLE,))
def plan_table_9(setup: Setup) -> list[Run]:
    """The features of Table VI's networks, as they are, on the faces of other databases."""
    recipe = DLPCNN().at(setup.profile)
    roles = [role for role in (*BY_PEOPLE, "film") if role in setup.roles and "basic" in setup.roles]
    return [
        Run(f"{method} {role}", measure_transfer, {"method": method, "role": role, "recipe": recipe}, seed)
        for role in roles for seed in limit_seeds(setup, ELSEWHERE) for method in reversed(_KEPT)
    ]


def measure_transfer(context: RunContext, method: str, role: str, recipe: DLPCNN) -> list[Score]:
    """Classify another database's faces by the features of a network that has not seen it; only the SVM learns from it.

    Parameters
    ----------
    context : RunContext
    method : str
        One whose weights Table VI keeps.
    role : {"lab", "mmi", "film"}
        CK+ (the last frame of each of 309 sequences) and MMI by folds of people; SFEW 2.0 by its owners' parts, tested on the validation
        part, as labels of the test part are not public.
    recipe : DLPCNN

    Returns
    -------
    list of Score
        The row ``<method>``. Folds are scored together.
    """
    faces = load_faces(context, role, recipe, **find_apex_options(context.dataset, role))
    features = extract_features(context.load_network(TABLE, method), faces.images)
    guess, chosen = np.full(len(faces), -1), []
    for split, validation in split_role(faces, role, recipe):
        found, C = classify_features(features[split.train], faces.subset(split.train), features[split.test], recipe, validation)
        guess[split.test] = found["mSVM"]
        chosen.append(C)
    return [score_faces(method, role, faces, guess, series={"C": chosen})]


# -- the time of a step, V-C ----------------------------------------------------------------------------------------------


@register_experiment("dlp-cnn/section-5-c", alone=True)
def plan_section_5_c(setup: Setup) -> list[Run]:
    """One run, which alternates between the two losses."""
    if "basic" not in setup.roles:
        return []
    return [Run("time of a step", measure_time, {"recipe": DLPCNN().at(setup.profile)})]


def measure_time(context: RunContext, recipe: DLPCNN) -> list[Score]:
    """Time whole training steps with each loss, in turns, so that both meet the same machine. Only a machine at rest says something.

    Parameters
    ----------
    context : RunContext
    recipe : DLPCNN

    Returns
    -------
    list of Score
        Rows ``DLP-CNN`` and ``center loss``: ``step time`` is the mean over trials, ``step time spread`` their standard deviation, in ms.
        A trial of one is compared with the same trial of the other.
    """
    train = load_faces(context, "basic", recipe).train
    times: dict[str, list[float]] = {method: [] for method in RIVALS}
    for trial in range(recipe.trials + 1):
        for method in RIVALS:
            model = build_network(method, recipe, 0, len(train.classes))
            objective = make_objective(method, model, train, recipe, trial)
            options = FitSettings(steps=recipe.trial_iterations, batch_size=recipe.batch_size, precision=recipe.precision)
            seconds = fit(model, train, options, objective=objective, progress=False).seconds
            if trial:  # the first is to warm up
                times[method].append(1000 * seconds / recipe.trial_iterations)
    scores = []
    for method, found in times.items():
        metrics = {"step time": float(np.mean(found)), "step time spread": float(np.std(found, ddof=1))}
        scores.append(Score(method, "", metrics, values={"step time": found}, series={"step time": found}))
    return scores

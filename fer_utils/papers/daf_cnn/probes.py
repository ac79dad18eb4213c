"""Looking into networks: what the printed sign of eq. 12 does to the centres, and what channel attention follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from ...datasets.base import FaceDataset
from ...experiments.context import RunContext
from ...experiments.faces import find_roles
from ...experiments.registry import Run, Setup, register_experiment
from ...experiments.scores import Score, checksum_names, score_faces
from ...separation import find_shares_of_ratio
from ...splits import Split, subject_kfold
from .networks import OTHERS_SEEDS, SEEDS, TABLE, ask_network, guess_faces, hold_back, load_network, load_wild
from .recipe import DAFCNN, CentreRules

__all__ = ["describe_factors", "explain_weights", "measure_channels", "measure_rule"]

_RULES = ("corrected", "printed")
#: Of a cross-validation over people.
_FOLDS = 5


# -- the sign of eq. 12 ------------------------------------------------------------------------------------------------


@register_experiment("daf-cnn/equation-12", seeds=OTHERS_SEEDS)
def plan_equation_12(setup: Setup) -> list[Run]:
    """A few epochs of DAF-CNN with either sign."""
    if "basic" not in setup.roles:
        return []
    recipe = CentreRules().at(setup.profile)
    return [
        Run(rule, measure_rule, {"row": rule, "recipe": replace(recipe, centre_rule=rule)}, seed)
        for seed in setup.seeds
        for rule in _RULES
    ]


def measure_rule(context: RunContext, row: str, recipe: CentreRules) -> list[Score]:
    """Train for some epochs, or until a number is no longer finite, and watch the centres at each step.

    Parameters
    ----------
    context : RunContext
    row : str
    recipe : CentreRules

    Returns
    -------
    list of Score
        Without faces, the row: ``steps`` that were taken, and ``growth of the centres``, the power of ten by which
        their root mean square norm grew from after the first step to the last that is finite; series ``centre norm``
        (missing where it is not finite). On the test faces, the row is what the network says, and ``<row>, nearest
        centre`` the class of the centre that the embedding is nearest to; where a number is missing, the first class.
    """
    from .backend import keras
    from .objective import make_objective
    from .training import DrawnBatches, build_network, prepare_faces

    seed, faces = context.seed or 0, load_wild(context, recipe)
    learned, _ = hold_back(faces.train, recipe)
    model = make_objective(build_network(recipe, len(faces.classes), seed=seed), recipe, seed=seed)
    model.compile(keras.optimizers.Adam(recipe.learning_rate))
    images = prepare_faces(learned.images, recipe)
    batches = DrawnBatches(
        images, learned.labels, recipe.batch_size, images_per_batch=recipe.images_per_batch, seed=seed
    )
    norms: list[float] = []

    def find_centres() -> np.ndarray:
        return keras.ops.convert_to_numpy(model.metric_loss.centres).astype(np.float64)

    def watch(_: int, logs: Mapping[str, float]) -> None:
        norms.append(float(np.sqrt(np.square(find_centres()).sum(1).mean())))
        model.stop_training = not np.isfinite([norms[-1], logs["loss"]]).all()

    follow = [batches.follow(), keras.callbacks.LambdaCallback(on_train_batch_end=watch)]
    model.fit(batches, epochs=recipe.epochs, shuffle=False, verbose=0, callbacks=follow)
    finite = [norm for norm in norms if np.isfinite(norm)]
    embeddings = ask_network(model.network, faces.test, recipe, ("embedding",))["embedding"].astype(np.float64)
    distances = np.square(embeddings[:, None] - find_centres()).sum(2)  # [N, K]
    return [
        Score(
            row,
            "",
            {"steps": float(len(norms)), "growth of the centres": float(np.log10(finite[-1] / finite[0]))},
            series={"centre norm": norms},
        ),
        score_faces(row, "basic", faces.test, guess_faces(model, faces.test, recipe)),
        score_faces(f"{row}, nearest centre", "basic", faces.test, distances.argmin(1)),
    ]


# -- what channel attention follows ------------------------------------------------------------------------------------


@register_experiment("daf-cnn/channel-attention", seeds=SEEDS, needs=(TABLE,))
def plan_channel_attention(setup: Setup) -> list[Run]:
    """Only where it is known how a face was lit, which is on FACSynth."""
    if find_roles(setup.dataset).get("basic") != "facsynth-basic":
        return []
    recipe = DAFCNN().at(setup.profile)
    # one run gives the means' and maxima's rows, too; a plan finds a row by the name of its run
    return [Run("weights", measure_channels, {"recipe": recipe}, seed) for seed in setup.seeds]


def describe_factors(faces: FaceDataset) -> dict[str, np.ndarray]:
    """What may move the weights of channels, by its name, as columns of a linear model: float64 ``[N, P]`` each.

    Parameters
    ----------
    faces : FaceDataset
        FACSynth's: ``truth`` has to know ``intensity``, ``light`` and its direction and strengths, camera, pose and
        occlusion.
    """
    truth = faces.truth
    assert truth is not None
    classes = np.eye(len(faces.classes))[faces.labels]
    azimuth, elevation = (np.deg2rad(truth[f"light_{name}"].to_numpy(float)) for name in ("azimuth", "elevation"))
    direction = np.stack(
        [np.cos(elevation) * np.sin(azimuth), np.sin(elevation), np.cos(elevation) * np.cos(azimuth)], 1
    )
    pose = truth[["yaw", "pitch", "roll"]].to_numpy(float) / 45
    factors = {
        "expression": np.hstack([classes, classes * truth["intensity"].to_numpy(float)[:, None]]),
        "light": np.hstack([direction, truth[["light_sky", "light_lamp"]].to_numpy(float), _one_hot(truth["light"])]),
        "camera": np.hstack([truth[["gamma", "exposure", "blur", "noise"]].to_numpy(float), _one_hot(truth["filter"])]),
        "pose": np.hstack([pose, pose**2]),
        "occlusion": _one_hot(truth["occlusion"]),
    }
    return {**factors, "all of them": np.hstack(list(factors.values()))}


def _one_hot(column: pd.Series) -> np.ndarray:
    return pd.get_dummies(column).to_numpy(float)


def explain_weights(weights: np.ndarray, columns: np.ndarray, splits: list[Split]) -> tuple[float, np.ndarray]:
    """Compute the share of the variance of weights that a linear model explains on people whom it was not fitted to.

    Parameters
    ----------
    weights : float ``[N, C]``
    columns : float ``[N, P]``
        To which a constant is added.
    splits : list of Split
        Folds that test each face once.

    Returns
    -------
    float
        At most 1; about 0, or a little below, for columns that have nothing to do with the weights.
    float64 ``[N]``
        What each face adds; see :func:`~fer_utils.separation.find_shares_of_ratio`.
    """
    weights, known = np.asarray(weights, np.float64), np.hstack([np.ones((len(columns), 1)), columns])
    left, whole = np.empty(len(weights)), np.empty(len(weights))
    for split in splits:
        fitted, *_ = np.linalg.lstsq(known[split.train], weights[split.train], rcond=None)
        left[split.test] = np.square(weights[split.test] - known[split.test] @ fitted).sum(1)
        whole[split.test] = np.square(weights[split.test] - weights[split.train].mean(0)).sum(1)
    unexplained, each = find_shares_of_ratio(left, whole)
    return 1 - unexplained, 1 - each


def measure_channels(context: RunContext, recipe: DAFCNN) -> list[Score]:
    """Measure whether the weights of channels change with the expression, with the light, or with something else.

    The ``weights`` are those that DAF-CNN of Table 1 gives the channels of test faces. Beside them stand the channels'
    ``means`` and ``maxima`` over places, which are all that the weights are computed from.

    Parameters
    ----------
    context : RunContext
    recipe : DAFCNN

    Returns
    -------
    list of Score
        Of each of the three a row ``<kind> by <factor>`` a factor of :func:`describe_factors`, with ``variance
        explained``; and ``<kind> over all faces``, with ``variance``, the mean squared deviation of a channel's number
        from its mean.
    """
    faces = load_wild(context, recipe).test
    last = f"block{len(recipe.convolutions)}_convolution{recipe.convolutions[-1]}_relu"
    layers = ask_network(load_network(context, "DAF-CNN"), faces, recipe, ("channel_attention", last))
    weights, maps = layers["channel_attention"], layers[last]  # [N, 1, 1, C], [N, h, w, C]
    numbers = {"weights": weights.mean((1, 2)), "means": maps.mean((1, 2)), "maxima": maps.max((1, 2))}  # [N, C]
    splits, factors = subject_kfold(faces, _FOLDS), describe_factors(faces)
    measured = {}
    for kind, found in numbers.items():
        each = np.square(found.astype(np.float64) - found.mean(0)).mean(1)
        measured[f"{kind} over all faces"] = ("variance", float(each.mean()), each)
        for name, columns in factors.items():
            measured[f"{kind} by {name}"] = ("variance explained", *explain_weights(found, columns, splits))
    kept = {"people": faces.identities, "images": checksum_names(faces.names)}
    return [
        Score(row, "basic", {metric: value}, faces.classes, faces.labels, values={metric: shares}, **kept)
        for row, (metric, value, shares) in measured.items()
    ]

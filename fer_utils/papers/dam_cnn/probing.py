"""Does the representation carry less of the person than its input? Xie, Hu & Wu 2019 say so and do not measure it.

Probes are linear classifiers on features of people whom no network here was trained on. They are asked of salient
features, which go into the autoencoder, and of representations, which come out: of the paper's autoencoder, whose
targets are other faces of the class, and of a plain one of the same size, whose targets are the face itself. Both have
the same classifier behind them, and the same loss.

Known of FACSynth's people are gender (of small children not), race (three groups), age (five groups), and of each face
the pose in degrees. Beside them stand what the decoders draw, and what a sigmoid does to targets that have no bound.
Five seeds; a training takes two minutes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...datasets.base import FaceDataset
from ...experiments.context import RunContext
from ...experiments.faces import find_roles
from ...experiments.registry import Run, Setup, register_experiment
from ...experiments.scores import Score, score_values
from ...probes import probe_identity, probe_labels
from ...training.features import compute_named
from .looks import look_at_decoders
from .model import DAMCNN
from .networks import (
    PATHS,
    SEEDS,
    TABLE,
    find_tested,
    limit_seeds,
    list_folds,
    load_looked,
    load_set,
    load_trunk_and_mask,
    name_paths,
    score_set,
)
from .pairs import Itself
from .protocol import find_sets
from .recipe import Looks, StageOne, StageTwo, choose_recipes
from .stages import compute_salient, train_second

__all__ = [
    "ask_probes", "measure_ceiling", "measure_decoders", "measure_input", "measure_representation", "measure_rival",
]

#: Paths that are asked: Table 4's, and one, which is trained here.
_COUNTS = (1, *PATHS)
#: Words for the two kinds of targets.
_OTHERS, _SELF = "DAM-CNN", "plain autoencoder"
_ROLE = "basic"
#: Rows of the input.
_INPUT, _PROJECTED = "salient features", "salient features, random directions"


def _plan(setup: Setup, row: str, function: Any, *names: str, **arguments: Any) -> list[Run]:
    recipes = choose_recipes(setup.profile, _ROLE, *names)
    return [Run(row, function, {"row": row, **arguments, **recipes}, seed) for seed in limit_seeds(setup, _ROLE)]


# -- probes ------------------------------------------------------------------------------------------------------------


@register_experiment("dam-cnn/probes", seeds=SEEDS, needs=(TABLE,))
def plan_probes(setup: Setup) -> list[Run]:
    """Only where people and their attributes are known, which is on FACSynth's wild faces."""
    if find_roles(setup.dataset).get(_ROLE) != "facsynth-basic":
        return []
    runs = [run for row in (_INPUT, _PROJECTED) for run in _plan(setup, row, measure_input, "first", "second", "looks")]
    for count in _COUNTS:
        row = name_paths(count)
        if count in PATHS:
            runs += _plan(setup, row, measure_representation, "looks")
        else:
            runs += _plan(setup, row, measure_rival, "first", "second", "looks", count=count, method=_OTHERS)
        plain = name_paths(count, _SELF)
        runs += _plan(setup, plain, measure_rival, "first", "second", "looks", count=count, method=_SELF)
    return runs


def ask_probes(row: str, faces: FaceDataset, features: np.ndarray) -> Score:
    """Ask features of test faces who is shown, and what else is known.

    Parameters
    ----------
    row : str
    faces : FaceDataset
        With ``truth``; several of each person.
    features : float ``[N, D]``

    Returns
    -------
    Score
        ``identity``: the share of faces whose person is found, by a probe of other faces of the same people.
        ``gender``, ``race``, ``age``, ``pose`` (turned to one side, to the other, or between, a third each) and
        ``expression``: mean recall on other people than those of the probe's training faces, as otherwise knowing who
        it is would be enough.
    """
    assert faces.identities is not None and faces.truth is not None
    truth, people = faces.truth, faces.identities
    yaw = truth["yaw"].to_numpy()
    labels = {
        "gender": np.where(truth["gender"] < 2, truth["gender"], -1),
        "race": truth["race"].to_numpy(), "age": truth["age"].to_numpy(),
        "pose": np.digitize(yaw, np.quantile(yaw, (1 / 3, 2 / 3))), "expression": faces.labels,
    }
    values = {"identity": probe_identity(features, people)}
    values |= {name: probe_labels(features, each, people) for name, each in labels.items()}
    return score_values(row, _ROLE, faces, values)


def measure_input(context: RunContext, row: str, first: StageOne, second: StageTwo, looks: Looks) -> list[Score]:
    """Ask salient features: all of them, or as many random directions in them as a representation has numbers.

    Parameters
    ----------
    context : RunContext
    row : {"salient features", "salient features, random directions"}
    first : StageOne
    second : StageTwo
    looks : Looks
    """
    looked = load_looked(context, _ROLE, looks)
    network = load_trunk_and_mask(context, TABLE, f"{_ROLE} trunk 0", first, len(looked.classes))
    salient = compute_salient(network, looked, first).reshape(len(looked), -1)
    if row == _PROJECTED:
        rng = np.random.default_rng(context.seed or 0)
        salient = salient @ rng.standard_normal((salient.shape[1], second.hidden), dtype=np.float32)
    return [ask_probes(row, looked, salient)]


def measure_representation(context: RunContext, row: str, looks: Looks) -> list[Score]:
    """Ask the representation of Table 4's autoencoder.

    Parameters
    ----------
    context : RunContext
    row : str
        Of Table 4.
    looks : Looks
    """
    arrays = context.load_arrays(TABLE, f"{_ROLE} {row}", ("representation",))
    return [ask_probes(row, load_looked(context, _ROLE, looks), arrays["representation"].astype(np.float32) / 255)]


def measure_rival(
    context: RunContext, row: str, count: int, method: str, first: StageOne, second: StageTwo, looks: Looks
) -> list[Score]:
    """Train an autoencoder, and ask its representation.

    Parameters
    ----------
    context : RunContext
    row : str
    count : int
        Decoders.
    method : {"DAM-CNN", "plain autoencoder"}
        Whether they make other faces of the class, or the face itself.
    first, second, looks
        Recipes.

    Returns
    -------
    list of Score
        The row, see :func:`ask_probes`. The run leaves what the decoders draw.
    """
    faces, looked = load_set(context, _ROLE, first.images), load_looked(context, _ROLE, looks)
    make = (lambda where: Itself(count)) if method == _SELF else None
    _, found = _train(context, faces, looked, first, second, count, make_targets=make)
    representation = found.pop("representation")
    context.save_arrays(row, found)
    return [ask_probes(row, looked, representation.astype(np.float32) / 255)]


def _train(
    context: RunContext, faces: FaceDataset, looked: FaceDataset, first: StageOne, second: StageTwo, count: int,
    **options: Any,
) -> tuple[tuple[Any, DAMCNN], dict[str, np.ndarray]]:
    """Train stage two on Table 4's trunk and mask: these, the network, and what it makes of the looked-at faces."""
    (split,) = list_folds(context.dataset, faces, _ROLE, first)
    train, seed = faces.subset(split.train), context.seed or 0
    network = load_trunk_and_mask(context, TABLE, f"{_ROLE} trunk 0", first, len(faces.classes))
    salient = compute_salient(network, train, first, mirrored=first.mirrored)
    model, _ = train_second(
        network, train, first, second, count, seed, context.workdir / "second.safetensors", salient=salient, **options
    )
    shown = compute_salient(network, looked, first)
    return (network, model), look_at_decoders(model, shown, looked.labels, salient[: len(train)], train.labels, seed)


# -- what the decoders draw --------------------------------------------------------------------------------------------


@register_experiment("dam-cnn/decoders", seeds=SEEDS, needs=(TABLE, "dam-cnn/probes", "dam-cnn/section-4-3-2"))
def plan_decoders(setup: Setup) -> list[Run]:
    """What the trainings of Table 4, of the probes and of section 4.3.2 left; nothing is trained."""
    if _ROLE not in find_sets(setup.dataset):
        return []
    sources = {name_paths(count): (TABLE, f"{_ROLE} {name_paths(count)}") for count in PATHS}
    if find_roles(setup.dataset)[_ROLE] == "facsynth-basic":
        sources |= {name_paths(count, _SELF): ("dam-cnn/probes", name_paths(count, _SELF)) for count in _COUNTS}
        sources |= {row: ("dam-cnn/section-4-3-2", f"{_ROLE} {row}") for row in ("DAM-CNN-g", "DAM-CNN-r")}
    return [
        run for row, (id, name) in sources.items()
        for run in _plan(setup, row, measure_decoders, "first", "looks", id=id, name=name)
    ]


def measure_decoders(context: RunContext, row: str, id: str, name: str, first: StageOne, looks: Looks) -> list[Score]:
    """Score what decoders draw of one person's face: which training face is nearest, how far they are apart.

    Parameters
    ----------
    context : RunContext
    row : str
    id, name : str
        The experiment that left what the decoders draw, and under which name.
    first : StageOne
    looks : Looks

    Returns
    -------
    list of Score
        ``error``, ``spread`` and ``to mean``, see :func:`~fer_utils.papers.dam_cnn.looks.look_at_decoders`. Besides
        ``class kept``, the share of decoders whose nearest face shows the class of the input, and ``distinct``, the
        share of decoders with a nearest face of their own; of decoders by gender ``gender drawn``, the share whose
        nearest face is of theirs, women for the first.
    """
    looked = load_looked(context, _ROLE, looks)
    arrays = context.load_arrays(id, name, ("error", "spread", "to mean"))
    values = {key: arrays[key].astype(float) for key in ("error", "spread", "to mean")}
    if "nearest" in arrays:
        faces = load_set(context, _ROLE, first.images)
        (split,) = list_folds(context.dataset, faces, _ROLE, first)
        nearest = arrays["nearest"]  # [M, paths]
        values["class kept"] = (faces.labels[split.train][nearest] == looked.labels[:, None]).mean(1)
        values["distinct"] = np.array([len(np.unique(own)) for own in nearest]) / nearest.shape[1]
    else:
        values["gender drawn"] = (arrays["nearest is male"] == np.arange(2)).mean(1)
    return [score_values(row, _ROLE, looked, values)]


# -- sigmoids against targets without a bound --------------------------------------------------------------------------


@register_experiment("dam-cnn/ceiling", seeds=SEEDS, needs=(TABLE,))
def plan_ceiling(setup: Setup) -> list[Run]:
    """Two paths on salient features as they are, trained; on those that are divided by their ceiling, Table 4's."""
    if _ROLE not in find_sets(setup.dataset):
        return []
    return [
        run for row, scaled in {"scaled": True, "unscaled": False}.items()
        for run in _plan(setup, row, measure_ceiling, "first", "second", "looks", scaled=scaled)
    ]


def measure_ceiling(
    context: RunContext, row: str, scaled: bool, first: StageOne, second: StageTwo, looks: Looks
) -> list[Score]:
    """Measure what is left unreconstructed, and how well the classes are told apart.

    Parameters
    ----------
    context : RunContext
    row : str
    scaled : bool
        Whether features are divided by the ceiling, as in Table 4, whose run is read then.
    first : StageOne
    second : StageTwo
    looks : Looks

    Returns
    -------
    list of Score
        The row on the role: accuracy on all test faces. And on ``looked``, the faces that are looked at: ``error``, and
        ``floor``, the part of it that no sigmoid can reach.
    """
    faces, looked = load_set(context, _ROLE, first.images), load_looked(context, _ROLE, looks)
    tested, guess = find_tested(context.dataset, faces, _ROLE), np.full(len(faces), -1)
    found: Mapping[str, np.ndarray]
    if scaled:
        found = context.load_arrays(TABLE, f"{_ROLE} {name_paths(2)}", ("error", "floor"))
        guess = context.load_arrays(TABLE, _ROLE, (f"guess {name_paths(2)}",))[f"guess {name_paths(2)}"].astype(int)
    else:
        (network, model), found = _train(context, faces, looked, first, second, 2, scaled=False)
        shown = compute_salient(network, faces.subset(tested), first)
        guess[tested] = compute_named(model.second_stage(), shown, "scores").argmax(1)
    values = {name: found[name].astype(float) for name in ("error", "floor")}
    return [*score_set(context.dataset, row, _ROLE, faces, guess), score_values(row, "looked", looked, values)]

"""Decoders by gender, Table 11 across datasets, and the parameters of section 4.5 (Xie, Hu & Wu 2019).

Five seeds on FACSynth, three elsewhere; a network that is trained here takes one to four minutes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ...datasets.base import FaceDataset
from ...experiments.context import RunContext
from ...experiments.registry import Run, Setup, register_experiment
from ...experiments.scores import Score, score_faces
from ...training.features import compute_named
from .looks import look_at_decoders
from .model import MPAE, MPVSNet
from .networks import (
    MOST,
    PATHS,
    SEEDS,
    TABLE,
    find_tested,
    limit_seeds,
    list_across,
    list_folds,
    load_looked,
    load_set,
    load_seven,
    load_trunk_and_mask,
    name_paths,
    score_set,
    take_training,
    train_network,
)
from .pairs import Drawn
from .protocol import find_sets
from .recipe import Looks, StageOne, StageTwo, choose_recipes
from .stages import compute_salient, predict_faces, train_second

__all__ = ["CROSSED", "GENDERS", "count_parameters", "measure_across", "measure_genders"]

#: Rows of Table 11 by the role of the faces that are trained on; those of the wild are the book's.
CROSSED: Mapping[str, str] = {
    "lab": "DAM-CNN from CK+", "lab-small": "DAM-CNN from JAFFE", "tfeid": "DAM-CNN from TFEID",
    "basic": "DAM-CNN from the wild",
}
#: Sets of the paper, and ours, of which genders are known.
GENDERS = ("basic", "baum2i")
#: Datasets whose wild faces come with genders.
_WITH_GENDER = ("facsynth", "rafdb")


# -- decoders by gender ------------------------------------------------------------------------------------------------


@register_experiment("dam-cnn/section-4-3-2", seeds=SEEDS, needs=(TABLE,))
def plan_section_4_3_2(setup: Setup) -> list[Run]:
    """Both networks are trained here, on the faces whose gender is known; trunk and mask are Table 4's."""
    runs = []
    for role in find_sets(setup.dataset):
        if role not in GENDERS or (role == "basic" and not setup.dataset.startswith(_WITH_GENDER)):
            continue
        recipes = choose_recipes(setup.profile, role, "first", "second", "looks")
        for seed in limit_seeds(setup, role):
            runs += [
                Run(f"{row} {role}", measure_genders, {"row": row, "role": role, **recipes}, seed)
                for row in ("DAM-CNN-g", "DAM-CNN-r")
            ]
    return runs


def measure_genders(
    context: RunContext, row: str, role: str, first: StageOne, second: StageTwo, looks: Looks
) -> list[Score]:
    """Train DAM-CNN of two paths, whose decoders draw women and men, or any face of the class.

    Faces of unknown gender, such as small children, are not trained on in either; they are tested on.

    Parameters
    ----------
    context : RunContext
    row : {"DAM-CNN-g", "DAM-CNN-r"}
        By gender, or at random.
    role : {"basic", "baum2i"}
    first, second, looks
        Recipes.

    Returns
    -------
    list of Score
        The row. Where there is one training part, the run leaves what the decoders draw; decoder 0 is to draw women.

    Raises
    ------
    ValueError
        If the faces do not say who is a woman or a man.
    """
    faces, seed = load_set(context, role, first.images), context.seed or 0
    tested, splits = find_tested(context.dataset, faces, role), list_folds(context.dataset, faces, role, first)
    guess = np.full(len(faces), -1)
    for fold, split in enumerate(splits):
        train = faces.subset(split.train)
        if train.attributes is None:
            raise ValueError(f"{faces.name} does not say who is a woman or a man; expected a gender for each face")
        train = train.subset(np.isin(train.attributes["gender"], ("female", "male")))
        network = load_trunk_and_mask(context, TABLE, f"{role} trunk {fold}", first, len(faces.classes))
        salient = compute_salient(network, train, first, mirrored=first.mirrored)
        targets = _make_gender_targets(train) if row == "DAM-CNN-g" else None
        checkpoint = context.workdir / f"second-{fold}.safetensors"
        model, _ = train_second(
            network, train, first, second, 2, seed, checkpoint, make_targets=targets, salient=salient
        )
        where = split.test if len(splits) > 1 else tested
        shown = compute_salient(network, faces.subset(where), first)
        guess[where] = compute_named(model.second_stage(), shown, "scores").argmax(1)
        if len(splits) == 1:
            looked = load_looked(context, role, looks)
            drawn = look_at_decoders(
                model, compute_salient(network, looked, first), looked.labels, salient[: len(train)], train.labels, seed
            )
            men = (train.attributes["gender"].to_numpy() == "male").astype(np.int8)
            kept = {name: drawn[name] for name in ("error", "floor", "spread", "to mean")}
            context.save_arrays(f"{role} {row}", {"nearest is male": men[drawn["nearest"]], **kept})
    return score_set(context.dataset, row, role, faces, guess)


def _make_gender_targets(train: FaceDataset) -> Any:
    genders = train.attributes["gender"].to_numpy()  # type: ignore[index]
    return lambda where: Drawn(train.labels[where], 2, genders[where])


# -- Table 11 ----------------------------------------------------------------------------------------------------------


@register_experiment("dam-cnn/table-11", seeds=SEEDS, needs=(TABLE,))
def plan_table_11(setup: Setup) -> list[Run]:
    """Every set to train on, and all others to test on; the networks of wild faces are Table 4's."""
    return [
        Run(row, measure_across, {"role": role, **choose_recipes(setup.profile, role, "first", "second")}, seed)
        for role, row in CROSSED.items() if role in find_sets(setup.dataset) and list_across(setup.dataset, role)
        for seed in limit_seeds(setup, "basic")
    ]


def measure_across(context: RunContext, role: str, first: StageOne, second: StageTwo) -> list[Score]:
    """Train on one set of faces, with seven classes, and test on the others: on the test part of wild faces.

    Parameters
    ----------
    context : RunContext
    role : {"lab", "lab-small", "tfeid", "basic"}
        Of the faces that are trained on.
    first, second
        Recipes.

    Returns
    -------
    list of Score
        The row of :data:`CROSSED`, by the role of the test faces.
    """
    others = {other: load_seven(context, other, first.images) for other in list_across(context.dataset, role)}
    if role == "basic":
        arrays = context.load_arrays(TABLE, role, tuple(f"across {other}" for other in others))
        guesses = {other: arrays[f"across {other}"].astype(int) for other in others}
    else:
        train, seed = load_seven(context, role, first.images), context.seed or 0
        train = take_training(train, role, seed)
        network, _ = train_network(context, train, first, "first")
        model, _ = train_second(network, train, first, second, MOST, seed, context.workdir / "second.safetensors")
        guesses = {other: predict_faces(model, faces, first) for other, faces in others.items()}
    scores = []
    for other, faces in others.items():
        part = np.isin(faces.split, ("test", "none")) if other == "basic" else np.ones(len(faces), bool)
        scores.append(score_faces(CROSSED[role], other, faces, np.where(part, guesses[other], -1)))
    return scores


# -- section 4.5 -------------------------------------------------------------------------------------------------------


@register_experiment("dam-cnn/section-4-5")
def plan_section_4_5(setup: Setup) -> list[Run]:
    """Counted at the paper's widths, whatever the profile."""
    return [Run("parameters", count_parameters)]


def count_parameters(context: RunContext) -> list[Score]:
    """Count the weights of MPVS-Net by Table 1, in millions, with dense and with convolutional decoders."""
    scores = []
    for decoder, word in (("dense", ""), ("convolutional", ", convolutional decoders")):
        for count in PATHS:
            with torch.device("meta"):
                mpae = MPAE(paths=count, decoder=decoder)
                net = MPVSNet(mpae, torch.nn.Linear(4096, 4096), torch.nn.Linear(4096, 7))
            millions = sum(weight.numel() for weight in net.parameters()) / 1e6
            # counted twice: a count does not vary, and an interval has to know
            values = {"parameters": [millions] * 2}
            scores.append(Score(f"{name_paths(count)}{word}", "", {"parameters": millions}, values=values))
    return scores

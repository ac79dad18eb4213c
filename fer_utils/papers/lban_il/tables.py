"""Tables 1, 2 and 4 of Li et al. 2021: the trainings on basic emotions that the other tables and figures read.

Every network is asked by ten crops of each face.
"""

from __future__ import annotations

import numpy as np
import torch

from ...experiments.context import RunContext
from ...experiments.recipe import Profile
from ...experiments.registry import Run, Setup, register_experiment
from ...experiments.scores import Score, score_faces
from ...models.face_network import load_face_network
from ...models.upper_stages import UpperStages
from ...training import Balanced, FitSettings, Samples, fit
from ...training.features import cache_face_maps, compute_named
from .model import count_learnable
from .networks import BACKBONES, build_network
from .objective import LOSSES, make_objective
from .recipe import LBANIL, FaceNetworkLosses
from .traces import (
    COMPONENTS,
    LOSS_TABLE,
    MODULES,
    SEEDS,
    load_faces,
    plan_kept,
    plan_recipe,
    save_trace,
    train_network,
)

__all__ = ["ROWS", "measure_face_network", "measure_network", "measure_parameters"]

_ISLETS = "Islets loss"
#: Rows of Table 2 that are trained for it: network and loss.
ROWS = {
    **{f"{backbone} + softmax": (backbone, "Softmax loss") for backbone in BACKBONES},
    **{row: (row, _ISLETS) for row in (*BACKBONES, "LBC", "LBCNN", "SC + STD Conv", "SC + STD Conv + SK CONN")},
}
#: The book's own rows beside them.
_FACE_NETWORK = {"face network + softmax": "Softmax loss", "face network": _ISLETS}


def _plan_trainings(setup: Setup, rows: dict[str, tuple[str, str]], *, keep: bool = False) -> list[Run]:
    recipe = plan_recipe(setup)
    return [
        Run(row, measure_network, {"row": row, "network": network, "loss": loss, "recipe": recipe, "keep": keep}, seed)
        for seed in setup.seeds for row, (network, loss) in rows.items()
    ]


@register_experiment(LOSS_TABLE, seeds=SEEDS)
def plan_table_4(setup: Setup) -> list[Run]:
    """LBAN under four losses, one training a loss and seed, minutes each, so three seeds; weights are kept."""
    if "basic" not in setup.roles:
        return []
    return _plan_trainings(setup, {loss: ("LBAN", loss) for loss in LOSSES}, keep=True)


@register_experiment(COMPONENTS, seeds=SEEDS, needs=(LOSS_TABLE,))
def plan_table_1(setup: Setup) -> list[Run]:
    """Three trainings a seed under the islets loss; the fourth row is LBAN as Table 4 trained it."""
    if "basic" not in setup.roles:
        return []
    runs = _plan_trainings(setup, {row: (row, _ISLETS) for row in ("neither", "encoder-decoder", "LBSL")})
    return runs + plan_kept(setup, {"LBSL + encoder-decoder": (LOSS_TABLE, _ISLETS)}, plan_recipe(setup))


@register_experiment(MODULES, seeds=SEEDS, needs=(LOSS_TABLE,))
def plan_table_2(setup: Setup) -> list[Run]:
    """Eight trainings a seed, and LBAN from Table 4. Two rows are the book's: the face network under both losses.

    At the book's size the row LBC is not trained: no claim of the paper is about how well it does.
    """
    if "basic" not in setup.roles:
        return []
    recipe, tuned = plan_recipe(setup), FaceNetworkLosses().at(setup.profile)
    rows = {row: each for row, each in ROWS.items() if row != "LBC" or setup.profile is not Profile.BOOK}
    runs = _plan_trainings(setup, rows) + plan_kept(setup, {"LBAN": (LOSS_TABLE, _ISLETS)}, recipe)
    return runs + [
        Run(row, measure_face_network, {"row": row, "loss": loss, "recipe": tuned, "losses": recipe}, seed)
        for seed in setup.seeds for row, loss in _FACE_NETWORK.items()
    ]


def measure_network(context: RunContext, row: str, network: str, loss: str, recipe: LBANIL, keep: bool) -> list[Score]:
    """Train a network on basic emotions, and ask it for the test faces.

    Parameters
    ----------
    context : RunContext
    row : str
    network, loss : str
        See :func:`~fer_utils.papers.lban_il.traces.train_network`.
    recipe : LBANIL
    keep : bool
        Whether to leave the weights, too, besides the trace.

    Returns
    -------
    list of Score
        The row; with centres also the row without faces, whose metrics say where the centres were at the end of the
        training: ``centre distance``, ``centre length`` and ``log penalty``.
    """
    faces = load_faces(context, "basic", recipe)
    model, trace = train_network(context, faces.train, faces.test, network, loss, recipe)
    save_trace(context, row, trace)
    if keep:
        context.save_network(row, model, recipe)
    scores = [score_faces(row, "basic", faces.test, trace.guess)]
    if trace.centres:
        scores.append(Score(row, "", {name: float(values[-1]) for name, values in trace.centres.items()}))
    return scores


def measure_face_network(
    context: RunContext, row: str, loss: str, recipe: FaceNetworkLosses, losses: LBANIL
) -> list[Score]:
    """Train the upper stages of the network that ships, on maps of its lower ones of faces and their mirror images.

    Parameters
    ----------
    context : RunContext
    row, loss : str
    recipe : FaceNetworkLosses
        How it is trained.
    losses : LBANIL
        For lambda and the centres.
    """
    seed, faces = context.seed or 0, load_faces(context, "basic", recipe)
    maps, mirrored = (cache_face_maps(faces, recipe.stage, mirrored=which).inputs for which in (False, True))
    train, test = (np.flatnonzero(faces.split == part) for part in ("train", "test"))
    samples = Samples(
        f"maps of {faces.name}", np.concatenate([maps[train], mirrored[train]]), np.tile(faces.labels[train], 2),
        faces.classes,
    )
    model = UpperStages(load_face_network(len(faces.classes), seed=seed), recipe.stage, normalised=True)
    settings = FitSettings(
        steps=recipe.steps, batch_size=recipe.batch_size, learning_rate=recipe.learning_rate, momentum=recipe.momentum,
        milestones=tuple(round(share * recipe.steps) for share in recipe.milestones), gamma=recipe.gamma,
        weight_decay=recipe.weight_decay, last_weight_decay=recipe.weight_decay, precision=recipe.precision, seed=seed,
    )  # fmt: skip
    objective = make_objective(loss, model, losses, seed)
    checkpoint = context.workdir / "training.safetensors"
    fit(model, samples, settings, objective=objective, sampler=Balanced(), checkpoint=checkpoint, progress=False)
    guess = compute_named(model, maps[test], "scores").argmax(axis=1)
    return [score_faces(row, "basic", faces.test, guess)]


# -- weights of Table 2 ------------------------------------------------------------------------------------------------


@register_experiment("lban-il/table-2-parameters")
def plan_parameters(setup: Setup) -> list[Run]:
    """The learnable weights of Table 2 at the paper's width, whatever the profile; faces play no part."""
    rows = {row: network for row, (network, _) in ROWS.items()} | {"LBAN": "LBAN"}
    return [Run(row, measure_parameters, {"row": row, "network": network}) for row, network in rows.items()]


def measure_parameters(context: RunContext, row: str, network: str) -> list[Score]:
    """Count the learned weights, in millions, of two networks of different seeds: ``parameters``.

    Parameters
    ----------
    context : RunContext
    row : str
    network : str
        Of Tables 1 and 2.
    """
    counts = []
    for seed in range(2):
        with torch.device("meta"):  # counted, not drawn
            counts.append(count_learnable(build_network(network, LBANIL(), seed)) / 1e6)
    return [Score(row, "", {"parameters": float(np.mean(counts))}, values={"parameters": counts})]



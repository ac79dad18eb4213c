"""Questions that Li et al. 2021 leave open: what the islets penalty adds, and whether random filters suffice."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
import torch

from ...datasets.base import FaceDataset
from ...experiments.context import RunContext
from ...experiments.recipe import Profile
from ...experiments.registry import Run, Setup, register_experiment
from ...experiments.scores import Score, score_faces
from ...models import FaceModel
from .figures import measure_network_geometry
from .model import count_learnable
from .networks import build_network
from .recipe import LBANIL
from .traces import (
    LOSS_TABLE,
    MODULES,
    SEEDS,
    Trace,
    load_faces,
    load_trace,
    measure_kept,
    plan_recipe,
    train_network,
)

__all__ = [
    "find_width", "list_points", "measure_fixed", "measure_kept_filters", "measure_kept_penalty", "measure_learned",
    "measure_penalty",
]

#: Standard deviation of a first centre's coordinate, besides the recipe's: so close together that the penalty is at its strongest.
CLOSE_STD = 0.001
#: Shares of fixed weights that are 0, besides the paper's half.
SPARSITIES = (0.1, 0.9)
_RIVALS = ("Island loss", "Islets loss")
_ISLETS = _RIVALS[1]
#: LBAN with learned filters in the place of fixed ones.
_LEARNED = "SC + STD Conv + SK CONN"
#: Below this the penalty is called gone.
_GONE = 1e-4


# -- what the penalty adds ---------------------------------------------------------------------------------------------


@register_experiment("lban-il/islets", seeds=SEEDS, needs=(LOSS_TABLE,))
def plan_islets(setup: Setup) -> list[Run]:
    """Island and islets loss, also from centres that start closer together, where the penalty is strongest.

    Both also with the lambda of the paper, where that is another than the recipe's. Table 4's networks are two of the rows; four
    trainings a seed. From centres further apart than a few units the two losses are one, to the last digit, so that there is nothing
    to train. Not at the book's size: islets loss whose centres move as eq. 4 prints it, the same way in shorter steps.
    """
    if "basic" not in setup.roles:
        return []
    recipe, strong = plan_recipe(setup), LBANIL().weight
    runs = []
    for seed in setup.seeds:
        for loss in _RIVALS:
            row = f"{loss}, {recipe.centre_std:g}"
            runs.append(Run(row, measure_kept_penalty, {"row": row, "loss": loss, "recipe": recipe}, seed))
        rows = [(loss, CLOSE_STD, recipe.weight, recipe.centre_rule) for loss in _RIVALS]
        if strong != recipe.weight:
            rows += [(loss, recipe.centre_std, strong, recipe.centre_rule) for loss in _RIVALS]
        if setup.profile is not Profile.BOOK:
            rows.append((_ISLETS, recipe.centre_std, recipe.weight, "printed"))
        for loss, std, weight, rule in rows:
            row = f"{loss}, {std:g}"
            if weight != recipe.weight:
                row += f", lambda {weight:g}"
            if rule != recipe.centre_rule:
                row += ", eq. 4"
            arguments = {
                "row": row, "loss": loss, "weight": weight, "centre_std": std, "centre_rule": rule, "recipe": recipe
            }  # fmt: skip
            runs.append(Run(row, measure_penalty, arguments, seed))
    return runs


def measure_kept_penalty(context: RunContext, row: str, loss: str, recipe: LBANIL) -> list[Score]:
    """What :func:`measure_penalty` measures, of a network of Table 4.

    Parameters
    ----------
    context : RunContext
    row : str
    loss : {"Island loss", "Islets loss"}
    recipe : LBANIL
    """
    faces = load_faces(context, "basic", recipe)
    model, trace = context.load_network(LOSS_TABLE, loss), load_trace(context, LOSS_TABLE, loss)
    return _score_penalty(row, model, trace, faces)


def measure_penalty(
    context: RunContext, row: str, loss: str, weight: float, centre_std: float, centre_rule: str, recipe: LBANIL
) -> list[Score]:
    """Train LBAN with another lambda, first centres of another size, or another rule for their steps; measure the penalty.

    Parameters
    ----------
    context : RunContext
    row : str
    loss : {"Island loss", "Islets loss"}
        Of island loss, the penalty is what it would have been.
    weight : float
        Lambda.
    centre_std : float
    centre_rule : {"corrected", "printed"}
    recipe : LBANIL

    Returns
    -------
    list of Score
        The row on ``basic``, with the metrics of :func:`~fer_utils.papers.lban_il.figures.measure_geometry`. And the
        row without faces: ``steps of penalty``, at how many the penalty of eq. 1 was above 1e-4; ``first penalty``,
        before it is weighted; and ``centre distance`` and ``centre length`` at the end. Series, at steps that lie the
        denser the earlier they are: ``step``, ``log10 penalty``, ``centre distance``, ``centre length``.
    """
    faces = load_faces(context, "basic", recipe)
    model, trace = train_network(
        context, faces.train, faces.test, "LBAN", loss, recipe, weight=weight, centre_std=centre_std,
        centre_rule=centre_rule,
    )  # fmt: skip
    return _score_penalty(row, model, trace, faces)


def list_points(steps: int, count: int = 60) -> np.ndarray:
    """Some of the steps, from 0 to the last, the denser the earlier.

    Parameters
    ----------
    steps : int
        Of the training.
    count : int
        How many, about.
    """
    return np.unique(np.geomspace(1, steps, count).round().astype(int)) - 1


def _score_penalty(row: str, model: FaceModel, trace: Trace, faces: FaceDataset) -> list[Score]:
    values = measure_network_geometry(model, faces)
    penalty = np.exp(trace.centres["log penalty"].astype(np.float64))
    points = list_points(len(penalty))
    series = {
        "step": points.tolist(), "log10 penalty": (trace.centres["log penalty"][points] / np.log(10)).tolist(),
        **{name: trace.centres[name][points].tolist() for name in ("centre distance", "centre length")},
    }
    metrics = {
        "steps of penalty": float((penalty > _GONE).sum()), "first penalty": float(penalty[0]),
        **{name: float(trace.centres[name][-1]) for name in ("centre distance", "centre length")},
    }
    averages = {name: float(each.mean()) for name, each in values.items()}
    return [
        score_faces(row, "basic", faces.test, trace.guess, metrics=averages, values=values),
        Score(row, "", metrics, series=series),
    ]


# -- do random filters suffice -----------------------------------------------------------------------------------------


@register_experiment("lban-il/sparsity", seeds=SEEDS, needs=(LOSS_TABLE, MODULES))
def plan_sparsity(setup: Setup) -> list[Run]:
    """Fixed filters of which a tenth and nine tenths are 0, and learned ones: in their place, and of equal weights.

    The paper's half and the learned ones in their place are networks of Tables 4 and 2; three trainings a seed.
    """
    if "basic" not in setup.roles:
        return []
    recipe = plan_recipe(setup)
    kept = {
        f"fixed, {recipe.sparsity:g}": ("LBAN", LOSS_TABLE, _ISLETS), "learned": (_LEARNED, MODULES, _LEARNED)
    }
    runs = []
    for seed in setup.seeds:
        for row, (network, id, name) in kept.items():
            arguments = {"row": row, "network": network, "id": id, "name": name, "recipe": recipe}
            runs.append(Run(row, measure_kept_filters, arguments, seed))
        for sparsity in SPARSITIES:
            row = f"fixed, {sparsity:g}"
            runs.append(Run(row, measure_fixed, {"row": row, "sparsity": sparsity, "recipe": recipe}, seed))
        row = "learned, as many weights"
        runs.append(Run(row, measure_learned, {"row": row, "recipe": recipe}, seed))
    return runs


def measure_fixed(context: RunContext, row: str, sparsity: float, recipe: LBANIL) -> list[Score]:
    """Train LBAN with fixed filters of another sparsity under the islets loss.

    Parameters
    ----------
    context : RunContext
    row : str
    sparsity : float
        Share of weights that are 0.
    recipe : LBANIL
    """
    return _score_training(context, row, "LBAN", recipe, sparsity=sparsity)


def measure_learned(context: RunContext, row: str, recipe: LBANIL) -> list[Score]:
    """Train the network of learned filters at the width at which it has as many learned weights as LBAN.

    Parameters
    ----------
    context : RunContext
    row : str
    recipe : LBANIL
    """
    return _score_training(context, row, _LEARNED, recipe, width=find_width(_LEARNED, recipe))


def measure_kept_filters(
    context: RunContext, row: str, network: str, id: str, name: str, recipe: LBANIL
) -> list[Score]:
    """Score a network of Table 2 or 4 once more, and say how large it is.

    Parameters
    ----------
    context : RunContext
    row : str
    network : str
        Of Tables 1 and 2.
    id, name : str
        The experiment that left its trace, and under which name.
    recipe : LBANIL
    """
    return [*measure_kept(context, row, id, name, recipe), _score_size(row, build_network(network, recipe, 0))]


def _score_training(context: RunContext, row: str, network: str, recipe: LBANIL, **settings: float) -> list[Score]:
    faces = load_faces(context, "basic", recipe)
    model, trace = train_network(context, faces.train, faces.test, network, _ISLETS, recipe, **settings)
    return [score_faces(row, "basic", faces.test, trace.guess), _score_size(row, model)]


def _score_size(row: str, model: FaceModel) -> Score:
    """Learned weights in millions, ``parameters``, and ``width``, of a row without faces."""
    return Score(row, "", {"parameters": count_learnable(model) / 1e6, "width": float(model.settings["width"])})


def find_width(row: str, recipe: LBANIL) -> float:
    """Find the width at which a network has about as many learned weights as LBAN at the recipe's width.

    Parameters
    ----------
    row : str
        Of Tables 1 and 2; a network with more weights than LBAN.
    recipe : LBANIL
    """
    def count(name: str, width: float) -> int:
        with torch.device("meta"):  # counted, not drawn
            return count_learnable(build_network(name, recipe, 0, width=width))

    target = count("LBAN", recipe.width)
    widths = recipe.width * np.arange(50, 101) / 100
    place = bisect_left(widths, target, key=lambda width: count(row, width))  # wider is never smaller
    return float(min(widths[max(place - 1, 0) : place + 1], key=lambda width: abs(count(row, width) - target)))

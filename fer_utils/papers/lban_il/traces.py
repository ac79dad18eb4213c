"""One training of Li et al. 2021, and what is kept of it for the other tables and figures.

A network is trained once for a row, a loss and a seed: LBAN under the four losses in ``lban-il/table-4``, the other
architectures in ``lban-il/table-1`` and ``lban-il/table-2``. What other experiments need of it they read from the files
that it left: its :class:`Trace` and, for LBAN, its weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...datasets.base import FaceDataset
from ...experiments.context import RunContext
from ...experiments.faces import find_roles, limit_per_class
from ...experiments.recipe import Profile
from ...experiments.registry import Run, Setup
from ...experiments.scores import Score, score_faces
from ...models import FaceModel
from ...training import fit, predict
from .networks import build_network, make_settings, predict_ten_crops
from .objective import LOSSES, make_objective
from .recipe import LBANIL

__all__ = [
    "COMPONENTS", "LOSS_TABLE", "MODULES", "SEEDS", "Trace", "load_faces", "load_trace", "measure_kept",
    "plan_kept", "plan_losses", "plan_recipe", "save_trace", "train_network",
]

#: The experiments that train what the others read.
COMPONENTS, MODULES, LOSS_TABLE = "lban-il/table-1", "lban-il/table-2", "lban-il/table-4"
#: A training of the book takes minutes, so each is done with three seeds; an interval over two would be three times as wide.
SEEDS = {"book": 3}
#: Datasets whose faces are of 48x48, out of which the paper cuts 40x40 (4.1).
_SMALL = ("fer2013", "ferplus")
#: Parts of a loss with centres that are kept, see ``CrossEntropyWithCentres``.
CENTRES = ("centre distance", "centre length", "log penalty")


def plan_recipe(setup: Setup) -> LBANIL:
    """The recipe of a profile; the paper's cuts 40x40 out of the faces of FER-2013, which are of 48x48 (4.1)."""
    recipe = LBANIL().at(setup.profile)
    small = find_roles(setup.dataset).get("basic") in _SMALL
    return replace(recipe, input_size=40) if small and setup.profile is Profile.PAPER else recipe


def load_faces(context: RunContext, role: str, recipe: Any, **options: Any) -> FaceDataset:
    """Load the faces of a role; of a smoke test only the first ``recipe.images`` of each class and part.

    Parameters
    ----------
    context : RunContext
    role : str
    recipe : Recipe
        With ``images``.
    **options
        For the loader.
    """
    return limit_per_class(context.load_faces(role, **options), recipe.images)


# -- what is kept ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Trace:
    """What is kept of a training, besides weights.

    Attributes
    ----------
    guess : int8 ``[N]``
        What the network says of the test faces, by ten crops of each, as positions in the classes.
    one_crop : int8 ``[N]``
        The same by the middle of each face alone.
    centres : dict of str to float32 ``[steps]``
        Where the centres were at each step, see ``CrossEntropyWithCentres``; in half precision in the file; empty for
        softmax.
    """

    guess: np.ndarray
    one_crop: np.ndarray
    centres: Mapping[str, np.ndarray]


def save_trace(context: RunContext, name: str, trace: Trace) -> None:
    """Leave a trace; see :func:`load_trace`.

    Parameters
    ----------
    context : RunContext
    name : str
    trace : Trace
    """
    curves = {key: np.clip(values, -6e4, 6e4).astype(np.float16) for key, values in trace.centres.items()}
    context.save_arrays(name, {"guess": trace.guess, "one crop": trace.one_crop, **curves})


def load_trace(context: RunContext, id: str, name: str) -> Trace:
    """Load the trace that another experiment left for this seed.

    Parameters
    ----------
    context : RunContext
    id : str
        The other experiment.
    name : str
        As it was saved.

    Raises
    ------
    DataError
        If it is missing or damaged.
    """
    arrays = context.load_arrays(id, name, ("guess", "one crop"))
    curves = {key: arrays[key].astype(np.float32) for key in CENTRES if key in arrays}
    return Trace(arrays["guess"], arrays["one crop"], curves)


def train_network(
    context: RunContext, train: FaceDataset, test: FaceDataset, network: str, loss: str, recipe: LBANIL, *,
    weight: float | None = None, centre_std: float | None = None, centre_rule: str | None = None, name: str = "training",
    **settings: Any,
) -> tuple[FaceModel, Trace]:
    """Train a network on training faces alone, and ask it for the test faces. A killed run goes on.

    Parameters
    ----------
    context : RunContext
    train, test : FaceDataset
        Of the same classes.
    network : str
        A row of Tables 1 and 2, see :func:`~fer_utils.papers.lban_il.networks.build_network`.
    loss : str
        One of :data:`~fer_utils.papers.lban_il.objective.LOSSES`.
    recipe : LBANIL
    weight, centre_std, centre_rule : float, float and str, optional
        See :func:`~fer_utils.papers.lban_il.objective.make_objective`.
    name : str
        Of the checkpoint, where a run trains several.
    **settings
        For the network, in the place of the recipe's.
    """
    seed = context.seed or 0
    model = build_network(network, recipe, seed, len(train.classes), **settings)
    objective = make_objective(loss, model, recipe, seed, weight=weight, centre_std=centre_std, centre_rule=centre_rule)
    history = fit(
        model, train, make_settings(recipe, len(train), seed), objective=objective,
        checkpoint=context.workdir / f"{name}.safetensors", progress=False,
    )  # fmt: skip
    guesses = [ask(model, test.images).astype(np.int8) for ask in (predict_ten_crops, predict)]
    return model, Trace(*guesses, {key: history.parts[key] for key in CENTRES if key in history.parts})


# -- reading it once more ----------------------------------------------------------------------------------------------


def plan_kept(setup: Setup, rows: Mapping[str, tuple[str, str]], recipe: LBANIL) -> list[Run]:
    """Runs that score trained networks once more, as the rows of another table.

    Parameters
    ----------
    setup : Setup
    rows : dict of str to (str, str)
        Row to the experiment that trained it and the name of its trace.
    recipe : LBANIL
    """
    return [
        Run(row, measure_kept, {"row": row, "id": id, "name": name, "recipe": recipe}, seed)
        for seed in setup.seeds for row, (id, name) in rows.items()
    ]


def plan_losses(setup: Setup, function: Callable[..., list[Score]]) -> list[Run]:
    """One run per loss and seed, named as the loss.

    Parameters
    ----------
    setup : Setup
    function : callable
        ``function(context, loss, recipe)``
    """
    recipe = plan_recipe(setup)
    return [
        Run(loss, function, {"loss": loss, "recipe": recipe}, seed) for seed in setup.seeds for loss in LOSSES
    ]


def measure_kept(context: RunContext, row: str, id: str, name: str, recipe: LBANIL) -> list[Score]:
    """Score what a trained network said of the test faces, by ten crops, as a row of another table.

    Parameters
    ----------
    context : RunContext
    row : str
    id, name : str
        The experiment that left the trace, and under which name.
    recipe : LBANIL
    """
    test = load_faces(context, "basic", recipe).test
    return [score_faces(row, "basic", test, load_trace(context, id, name).guess)]

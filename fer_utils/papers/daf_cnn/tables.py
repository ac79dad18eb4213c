"""The ablation, the paper's gaps, two stages for a small set: Zhou et al., 3.2.3, 4.3.2, Tables 1-3, Figures 2-3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np

from ...experiments.context import RunContext
from ...experiments.protocol import split_role
from ...experiments.registry import Run, Setup, register_experiment
from ...experiments.scores import Score, score_faces
from .networks import (
    OTHERS_SEEDS,
    SEEDS,
    TABLE,
    guess_faces,
    hold_back,
    list_curves,
    list_small_roles,
    load_network,
    load_small_set,
    load_wild,
    measure_kept,
    save_network,
    train_network,
)
from .recipe import DAFCNN, VARIANTS, DAFCNNSmallSet

__all__ = ["GAPS", "STAGES", "measure_network", "measure_second_stage", "switch_gap"]

_STAGES_TABLE = "daf-cnn/section-4-3-2"
_WHOLE = "DAF-CNN"
_OTHERS = "another method's number, which is not rebuilt here"
#: Eight trainings a seed, which decide no claim.
_GAPS_SEEDS = {"book": 2}

#: Rows of 4.3.2: the network of Table 1 that training starts from, whether the triplet-centre loss has a part in the
#: second stage, and the weight of the softmax loss there. 4.3.2 says that the one replaces the other; eq. 13 joins
#: them.
STAGES: Mapping[str, tuple[str | None, bool, float]] = {
    "from scratch": (None, True, 1.0),
    "pre-trained with softmax, fine-tuned with TC loss": ("DAF-CNN_NOtcl", True, 1.0),
    "pre-trained with TC loss, fine-tuned with TC loss": (_WHOLE, True, 1.0),
    "pre-trained with softmax, fine-tuned with softmax": ("DAF-CNN_NOtcl", False, 1.0),
    "pre-trained with softmax, fine-tuned with TC loss in place of softmax": ("DAF-CNN_NOtcl", True, 0.0),
}
#: What the paper leaves open, one at a time; see :func:`switch_gap`.
GAPS = (
    "maps of 3x3",
    "pooled over the width",
    "channel network ends in a sigmoid",
    "half as wide",
    "embedding four times as large",
    "TC loss averaged over the batch",
    "mirrored, not cropped",
    "followed on the test faces",
)


# -- Table 1, and what is trained as its networks are ------------------------------------------------------------------


@register_experiment(TABLE, seeds=SEEDS)
def plan_table_1(setup: Setup) -> list[Run]:
    """One training a variant and seed."""
    if "basic" not in setup.roles:
        return []
    recipe = DAFCNN().at(setup.profile)
    return [
        Run(
            row,
            measure_network,
            {
                "row": row,
                "recipe": recipe if attention else replace(recipe, attention=None),
                "metric": metric,
                "keep": True,
            },
            seed,
        )
        for seed in setup.seeds
        for row, (attention, metric) in VARIANTS.items()
    ]


def measure_network(
    context: RunContext,
    row: str,
    recipe: DAFCNN,
    metric: bool = True,
    keep: bool = False,
    followed: str = "people held back",
) -> list[Score]:
    """Train a network on the large set, and ask it for the test faces.

    Parameters
    ----------
    context : RunContext
    row : str
    recipe : DAFCNN
    metric : bool
        Whether the triplet-centre loss has a part.
    keep : bool
        Whether others read the network. It then leaves its weights, and ``guess``, int8, of the test faces.
    followed : {"people held back", "test faces"}
        Whose accuracy the learning rate follows and the weights are chosen by. The second is what must not be done;
        it learns from as many faces as the first.

    Returns
    -------
    list of Score
        The row, with its curves.
    """
    faces = load_wild(context, recipe)
    learned, watched = hold_back(faces.train, recipe)
    trained = train_network(
        context, learned, faces.test if followed == "test faces" else watched, recipe, metric=metric
    )
    guess = guess_faces(trained.model, faces.test, recipe)
    if keep:
        save_network(context, row, trained.model.network, recipe)
        context.save_arrays(row, {"guess": guess})
    return [score_faces(row, "basic", faces.test, guess, series=list_curves(trained))]


def _plan_kept(setup: Setup, row: str, name: str = _WHOLE) -> list[Run]:
    """What a network of Table 1 said, as a row of another table."""
    recipe = DAFCNN().at(setup.profile)
    arguments = {"id": TABLE, "name": name, "row": row, "role": "basic", "recipe": recipe}
    return [Run(row, measure_kept, arguments, seed) for seed in setup.seeds]


@register_experiment("daf-cnn/section-3-2-3", seeds=OTHERS_SEEDS, needs=(TABLE,))
def plan_section_3_2_3(setup: Setup) -> list[Run]:
    """Both orders of the attentions; the cascade is Table 1's."""
    if "basic" not in setup.roles:
        return []
    recipe = replace(DAFCNN().at(setup.profile), attention="parallel")
    parallel = [Run("parallel", measure_network, {"row": "parallel", "recipe": recipe}, seed) for seed in setup.seeds]
    return [*_plan_kept(setup, "cascaded"), *parallel]


# -- gaps --------------------------------------------------------------------------------------------------------------


def switch_gap(recipe: DAFCNN, gap: str) -> DAFCNN:
    """Settle one of :data:`GAPS` otherwise.

    Parameters
    ----------
    recipe : DAFCNN
    gap : str

    Raises
    ------
    ValueError
        For an unknown one.
    """
    changes: Mapping[str, dict[str, Any]] = {
        "maps of 3x3": {"pools": recipe.pools + 1},
        "pooled over the width": {"pool_over": "width"},
        "channel network ends in a sigmoid": {"net_output": "sigmoid"},
        "half as wide": {"width": recipe.width / 2},
        "embedding four times as large": {"embedding_size": 4 * recipe.embedding_size},
        "TC loss averaged over the batch": {"reduction_of_loss": "mean"},
        "mirrored, not cropped": {"image_size": recipe.input_size},
        "followed on the test faces": {},
    }
    if gap not in changes:
        raise ValueError(f"unknown gap {gap!r}; expected one of {', '.join(GAPS)}")
    return replace(recipe, **changes[gap])


@register_experiment("daf-cnn/gaps", seeds=_GAPS_SEEDS, needs=(TABLE,))
def plan_gaps(setup: Setup) -> list[Run]:
    """DAF-CNN as the book settled it, from Table 1, and one training a gap and seed."""
    if "basic" not in setup.roles:
        return []
    recipe = DAFCNN().at(setup.profile)
    switched = [
        Run(
            gap,
            measure_network,
            {
                "row": gap,
                "recipe": switch_gap(recipe, gap),
                "followed": "test faces" if "test faces" in gap else "people held back",
            },
            seed,
        )
        for seed in setup.seeds
        for gap in GAPS
    ]
    return [*_plan_kept(setup, "as settled"), *switched]


# -- Table 2 and Figure 2 ----------------------------------------------------------------------------------------------


_TABLE_2 = (
    "Devries et al.",
    "Tang",
    "Guo et al.",
    "Mollahosseini et al.",
    "Hua et al.",
    "Yu et al.",
    "Kim et al.",
    "Connie et al.",
    "Shao et al.",
)


@register_experiment("daf-cnn/table-2", seeds=SEEDS, needs=(TABLE,), omits=dict.fromkeys(_TABLE_2, _OTHERS))
def plan_table_2(setup: Setup) -> list[Run]:
    """The row of the paper's own method, from Table 1."""
    return _plan_kept(setup, _WHOLE) if "basic" in setup.roles else []


@register_experiment("daf-cnn/figure-2", seeds=SEEDS, needs=(TABLE,))
def plan_figure_2(setup: Setup) -> list[Run]:
    """The confusion matrix, from Table 1's predictions."""
    return _plan_kept(setup, _WHOLE) if "basic" in setup.roles else []


# -- 4.3.2, Table 3 and Figure 3 ---------------------------------------------------------------------------------------


def _name_run(row: str, role: str) -> str:
    return row if role == "lab" else f"{row}, {role}"


@register_experiment(_STAGES_TABLE, seeds=OTHERS_SEEDS, needs=(TABLE,))
def plan_section_4_3_2(setup: Setup) -> list[Run]:
    """The second stage on each small set, from networks of Table 1; a fold of people is a training."""
    recipe = DAFCNNSmallSet().at(setup.profile)
    return [
        Run(
            _name_run(row, role),
            measure_second_stage,
            {
                "row": row,
                "role": role,
                "start": start,
                "metric": metric,
                "recipe": replace(recipe, softmax_weight=weight),
            },
            seed,
        )
        for role in list_small_roles(setup)
        for seed in setup.seeds
        for row, (start, metric, weight) in STAGES.items()
    ]


def measure_second_stage(
    context: RunContext, row: str, role: str, start: str | None, metric: bool, recipe: DAFCNNSmallSet
) -> list[Score]:
    """Fine-tune a network of Table 1 on a small set, with a last layer of its own.

    Parameters
    ----------
    context : RunContext
    row : str
    role : {"lab", "film"}
        Posed sequences by folds of people; SFEW 2.0 by its owners' parts, tested on the validation part.
    start : str or None
        The variant to start from; None for drawn weights.
    metric : bool
        Whether the triplet-centre loss has a part.
    recipe : DAFCNNSmallSet

    Returns
    -------
    list of Score
        The row; folds are scored together. The run leaves ``guess``, int8, below 0 for a face that no fold tested. A
        smoke test runs one fold.
    """
    faces = load_small_set(context, role, recipe)
    network = None if start is None else load_network(context, start)
    guess, epochs = np.full(len(faces), -1, np.int8), []
    for fold, (split, _) in enumerate(islice(split_role(faces, role, recipe), None if recipe.images is None else 1)):
        learned, watched = hold_back(faces.subset(split.train), recipe)
        trained = train_network(
            context, learned, watched, recipe, metric=metric, start=network, checkpoint=f"training-{fold}"
        )
        guess[split.test] = guess_faces(trained.model, faces.subset(split.test), recipe)
        epochs.append(float(trained.plateau.best_epoch + 1))
    context.save_arrays(_name_run(row, role), {"guess": guess})
    return [score_faces(row, role, faces, guess, series={"best epoch of each fold": epochs})]


def _plan_best_stage(setup: Setup) -> list[Run]:
    """What the paper's own two stages said, as DAF-CNN's row."""
    recipe, row = DAFCNNSmallSet().at(setup.profile), "pre-trained with softmax, fine-tuned with TC loss"
    return [
        Run(
            _name_run(_WHOLE, role),
            measure_kept,
            {"id": _STAGES_TABLE, "name": _name_run(row, role), "row": _WHOLE, "role": role, "recipe": recipe},
            seed,
        )
        for role in list_small_roles(setup)
        for seed in setup.seeds
    ]


_TABLE_3 = (
    "Dhall et al.",
    "Yu et al.",
    "Ng et al.",
    "Mollahosseini et al.",
    "Levi et al.",
    "DLP-CNN",
    "IACNN",
    "IL-CNN",
    "Ji et al.",
)


@register_experiment("daf-cnn/table-3", seeds=OTHERS_SEEDS, needs=(_STAGES_TABLE,), omits=dict.fromkeys(_TABLE_3, _OTHERS))
def plan_table_3(setup: Setup) -> list[Run]:
    """The row of the paper's own method, from 4.3.2."""
    return _plan_best_stage(setup)


@register_experiment("daf-cnn/figure-3", seeds=OTHERS_SEEDS, needs=(_STAGES_TABLE,))
def plan_figure_3(setup: Setup) -> list[Run]:
    """The confusion matrix on the small set, from 4.3.2's predictions."""
    return _plan_best_stage(setup)

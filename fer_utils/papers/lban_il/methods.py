"""LBAN-IL beside other methods: Tables 3 and 5 to 7, Fig. 4 of Li et al. 2021, and what ten crops add.

Methods of other people are not rebuilt here, but DLP-CNN, whose answers are read from the experiment that trained it.
"""

from __future__ import annotations

import numpy as np

from ...datasets.base import FaceDataset
from ...experiments.context import RunContext
from ...experiments.faces import find_more_options, find_roles
from ...experiments.recipe import Profile
from ...experiments.registry import Run, Setup, register_experiment
from ...experiments.scores import Score, score_faces
from ...splits import Split, kfold, predefined, subject_kfold
from .objective import LOSSES
from .recipe import LBANIL
from .traces import (
    LOSS_TABLE,
    MODULES,
    SEEDS,
    load_faces,
    load_trace,
    plan_kept,
    plan_losses,
    plan_recipe,
    train_network,
)

__all__ = ["measure_crops", "measure_dlp_cnn", "measure_groups", "measure_trained"]

_ISLETS = "Islets loss"
#: The experiment that trained DLP-CNN, and the name of its trace.
_RIVAL, _RIVAL_TRACE = "dlp-cnn/table-6", "DLP-CNN"
_NOT_REBUILT = "not rebuilt in this book"
#: Row to where its network was trained; and to the network and loss with which it is trained once more, on other faces.
_BASELINES = {"VGG (baseline 1)": (MODULES, "VGG19 + softmax"), "ResNet (baseline 2)": (MODULES, "ResNet18 + softmax")}
_OURS = {"LBAN-IL": (LOSS_TABLE, _ISLETS)}
_TRAINED = {
    "VGG (baseline 1)": ("VGG19", "Softmax loss"), "ResNet (baseline 2)": ("ResNet18", "Softmax loss"),
    "LBAN-IL": ("LBAN", _ISLETS),
}  # fmt: skip
#: On ExpW the paper takes faces of at least so many pixels (4.1).
_EXPW_SIDE = 100


def _plan_dlp_cnn(setup: Setup, roles: tuple[str, ...], recipe: LBANIL) -> list[Run]:
    return [
        Run(f"DLP-CNN {role}", measure_dlp_cnn, {"role": role, "recipe": recipe}, seed)
        for role in roles if role in setup.roles for seed in setup.seeds
    ]


def measure_dlp_cnn(context: RunContext, role: str, recipe: LBANIL) -> list[Score]:
    """Take what the SVM on DLP-CNN's features said, the answer that its own paper and this one print.

    Parameters
    ----------
    context : RunContext
    role : {"basic", "compound"}
    recipe : LBANIL
        For how many faces a smoke test takes.
    """
    guess = context.load_arrays(_RIVAL, _RIVAL_TRACE, (f"guess mSVM {role}",))[f"guess mSVM {role}"]
    return [score_faces("DLP-CNN", role, load_faces(context, role, recipe).test, guess)]


# -- Table 3 -----------------------------------------------------------------------------------------------------------


@register_experiment(
    "lban-il/table-3", seeds=SEEDS, needs=(MODULES, LOSS_TABLE, _RIVAL),
    omits=dict.fromkeys(("DeepEmo", "Boosting-POOF", "Visual Attention"), _NOT_REBUILT),
)
def plan_table_3(setup: Setup) -> list[Run]:
    """Basic emotions from Tables 2 and 4; three trainings a seed for compound ones, of which the paper says nothing."""
    if "basic" not in setup.roles:
        return []
    recipe = plan_recipe(setup)
    runs = plan_kept(setup, _BASELINES | _OURS, recipe) + _plan_dlp_cnn(setup, ("basic", "compound"), recipe)
    return runs + (_plan_trained(setup, "compound", recipe) if "compound" in setup.roles else [])


def _plan_trained(setup: Setup, role: str, recipe: LBANIL, rows: tuple[str, ...] = tuple(_TRAINED)) -> list[Run]:
    runs = []
    for seed in setup.seeds:
        for row in rows:
            network, loss = _TRAINED[row]
            arguments = {"row": row, "role": role, "network": network, "loss": loss, "recipe": recipe}
            runs.append(Run(f"{row} {role}", measure_trained, arguments, seed))
    return runs


def measure_trained(context: RunContext, row: str, role: str, network: str, loss: str, recipe: LBANIL) -> list[Score]:
    """Train a network on the faces of another role, from the start, with the settings for basic emotions.

    Parameters
    ----------
    context : RunContext
    row : str
    role : {"compound", "film"}
        Film faces are tested on SFEW's validation part, as labels of its test part are not public.
    network, loss : str
    recipe : LBANIL
    """
    faces = load_faces(context, role, recipe)
    (split,) = predefined(faces, test="val" if role == "film" else "test")
    train, test = faces.subset(split.train), faces.subset(split.test)
    return [score_faces(row, role, test, train_network(context, train, test, network, loss, recipe)[1].guess)]


# -- Tables 5 and 6, Fig. 4 --------------------------------------------------------------------------------------------


@register_experiment(
    "lban-il/table-5", seeds=SEEDS, needs=(LOSS_TABLE, _RIVAL),
    omits=dict.fromkeys(
        ("Occams razor", "Visual Attention", "gACNN", "LDL", "MDLBP + BAE", "Kim's CNN", "IPA2LT"), _NOT_REBUILT
    ),
)
def plan_table_5(setup: Setup) -> list[Run]:
    """Accuracies of networks that were trained for Table 4; of film faces, where there are any, a training a seed."""
    if "basic" not in setup.roles:
        return []
    recipe = plan_recipe(setup)
    runs = plan_kept(setup, _OURS, recipe) + _plan_dlp_cnn(setup, ("basic",), recipe)
    return runs + (_plan_trained(setup, "film", recipe, ("LBAN-IL",)) if "film" in setup.roles else [])


@register_experiment(
    "lban-il/table-6", seeds=SEEDS, needs=(MODULES, LOSS_TABLE),
    omits=dict.fromkeys(
        ("Bag of Visual Words", "GoogLeNet", "Mollahosseini et al.", "VGG13 + global SVM", "Deep-Emotion",
         "Visual Attention", "DLSVM L2", "DNNRL"), _NOT_REBUILT,
    ),
)  # fmt: skip
def plan_table_6(setup: Setup) -> list[Run]:
    """Accuracies of the networks of Tables 2 and 4; nothing is trained."""
    if "basic" not in setup.roles:
        return []
    rows = {loss: (LOSS_TABLE, loss) for loss in LOSSES if loss != _ISLETS}
    return plan_kept(setup, _BASELINES | rows | _OURS, plan_recipe(setup))


@register_experiment("lban-il/figure-4", seeds=SEEDS, needs=(LOSS_TABLE,))
def plan_figure_4(setup: Setup) -> list[Run]:
    """The confusion matrix of basic emotions, from Table 4's answers; the ledger keeps it with the predictions."""
    return plan_kept(setup, _OURS, plan_recipe(setup)) if "basic" in setup.roles else []


# -- what ten crops add ------------------------------------------------------------------------------------------------


@register_experiment("lban-il/crops", seeds=SEEDS, needs=(LOSS_TABLE,))
def plan_crops(setup: Setup) -> list[Run]:
    """Ten crops of a face (4.1) against its middle alone, of the networks of Table 4; no table of the paper."""
    if "basic" not in setup.roles:
        return []
    return plan_losses(setup, measure_crops)


def measure_crops(context: RunContext, loss: str, recipe: LBANIL) -> list[Score]:
    """Score what a network of Table 4 said: rows ``<loss>, 10 crops`` and ``<loss>, 1 crop``.

    Parameters
    ----------
    context : RunContext
    loss : str
    recipe : LBANIL
    """
    test, trace = load_faces(context, "basic", recipe).test, load_trace(context, LOSS_TABLE, loss)
    guesses = {f"{loss}, {recipe.crops} crops": trace.guess, f"{loss}, 1 crop": trace.one_crop}
    return [score_faces(row, "basic", test, guess) for row, guess in guesses.items()]


# -- Table 7 -----------------------------------------------------------------------------------------------------------


@register_experiment("lban-il/table-7")
def plan_table_7(setup: Setup) -> list[Run]:
    """Ten trainings a loss and seed, one for each group left out.

    Not at the book's size: a group of FACSynth has some ninety faces, so that a difference of two losses in one of them has an interval of
    13 points each way, while the paper prints differences of 0.5 to 3.3.
    """
    if "basic" not in setup.roles or setup.profile is Profile.BOOK:
        return []
    return plan_losses(setup, measure_groups)


def measure_groups(context: RunContext, loss: str, recipe: LBANIL) -> list[Score]:
    """Train LBAN on nine of ten groups of faces and ask it for the tenth, for each of them; a killed run goes on.

    The paper's groups are not drawn at random, and it does not say how they were made. Here a group is of people, where
    these are known, else of single faces; classes are spread evenly. Of FACSynth the further test faces have no part.

    Parameters
    ----------
    context : RunContext
    loss : str
    recipe : LBANIL
        For ``folds``, how many groups there are.

    Returns
    -------
    list of Score
        Rows ``<loss>, crop <number>``, as the paper calls a group, and ``<loss>``, all groups together.
    """
    faces = _load_whole(context, recipe)
    guess, scores = np.full(len(faces), -1), []
    for number, split in enumerate(_split_groups(faces, recipe.folds), 1):
        train, test = faces.subset(split.train), faces.subset(split.test)
        _, trace = train_network(context, train, test, "LBAN", loss, recipe, name=f"training-{number}")
        guess[split.test] = trace.guess
        scores.append(score_faces(f"{loss}, crop {number}", "basic", test, trace.guess))
    return [*scores, score_faces(loss, "basic", faces, guess)]


def _load_whole(context: RunContext, recipe: LBANIL) -> FaceDataset:
    """All faces of a role, whose owners' parts play no part here."""
    options = dict.fromkeys(find_more_options(context.dataset, "basic"), False)
    if find_roles(context.dataset).get("basic") == "expw":
        options["min_side"] = _EXPW_SIDE
    faces = load_faces(context, "basic", recipe, **options)
    return faces.replace(split=np.full(len(faces), "none"))


def _split_groups(faces: FaceDataset, count: int) -> list[Split]:
    return kfold(faces, count) if faces.identities is None else subject_kfold(faces, count)

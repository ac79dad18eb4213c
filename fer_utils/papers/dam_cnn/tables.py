"""How well each part does: Tables 2 to 5 and 7 of Xie, Hu & Wu 2019, and a choice of paths that sees no test face.

Tables 6, 8, 9 and 10 compare with the literature and are not run; DAM-CNN's own numbers in them are those of Tables 4,
5 and 7. Five seeds on FACSynth's wild faces; three on its posed faces, where each is ten folds, and on other datasets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...datasets.base import FaceDataset
from ...experiments.context import RunContext
from ...experiments.registry import Run, Setup, register_experiment
from ...experiments.scores import Score, score_faces
from ...splits import validation_split
from ...training.features import compute_named
from .looks import look_at_decoders, look_at_maps, look_at_removal, measure_silhouettes, spread_over_folds
from .model import DAMCNN, SerdNetwork
from .networks import (
    FACE,
    MOST,
    PATHS,
    SEEDS,
    SERD,
    TABLE,
    find_tested,
    limit_seeds,
    list_across,
    list_folds,
    load_looked,
    load_set,
    load_seven,
    name_paths,
    save_trunk_and_mask,
    score_set,
    take_training,
    train_network,
)
from .protocol import POSED, find_sets
from .recipe import Looks, StageOne, StageTwo, choose_recipes
from .stages import compute_salient, predict_faces, train_second

__all__ = ["measure_choice", "measure_confusion", "measure_kept", "measure_paths", "measure_trained"]

#: Parts of the regulariser of each row of Table 3.
_PARTS: Mapping[str, tuple[bool, bool]] = {"VGG-SERD-reg1": (True, False), "VGG-SERD-reg2": (False, True)}


# -- Table 4, which trains the networks --------------------------------------------------------------------------------


@register_experiment(TABLE, seeds=SEEDS)
def plan_table_4(setup: Setup) -> list[Run]:
    """One run a role and seed: VGG-SERD, and on its features DAM-CNN of two to five paths, in every fold."""
    runs = []
    for role in find_sets(setup.dataset):
        arguments = {"role": role, **choose_recipes(setup.profile, role, "first", "second", "looks")}
        runs += [Run(f"paths {role}", measure_paths, arguments, seed) for seed in limit_seeds(setup, role)]
    return runs


class _Trace:
    """What a run of Table 4 gathers over folds: arrays over all faces, or over those whose maps are kept."""

    def __init__(self, faces: FaceDataset, tested: np.ndarray, looks: Looks) -> None:
        self.faces, self.kept = faces, tested[: looks.maps]
        self.arrays: dict[str, np.ndarray] = {
            "kept": self.kept.astype(np.int32), "fold": np.full(len(faces), -1, np.int8),
        }

    def put_guess(self, row: str, positions: np.ndarray, guess: np.ndarray) -> None:
        self.arrays.setdefault(f"guess {row}", np.full(len(self.faces), -1, np.int8))[positions] = guess

    def put_kept(self, positions: np.ndarray, found: Mapping[str, np.ndarray]) -> None:
        """Enter values of some kept faces, whose positions are given."""
        rows = np.searchsorted(self.kept, positions)
        for name, values in found.items():
            shape = (len(self.kept), *values.shape[1:])
            self.arrays.setdefault(name, np.full(shape, np.nan, np.float16))[rows] = values

    def guess(self, row: str) -> np.ndarray:
        return self.arrays[f"guess {row}"].astype(int)


def measure_paths(context: RunContext, role: str, first: StageOne, second: StageTwo, looks: Looks) -> list[Score]:
    """Train VGG-SERD and DAM-CNN of each number of paths, in every fold, score them, and look at them.

    Parameters
    ----------
    context : RunContext
    role : str
        Of :func:`~fer_utils.papers.dam_cnn.protocol.find_sets`.
    first, second : StageOne and StageTwo
    looks : Looks

    Returns
    -------
    list of Score
        Rows ``VGG-SERD`` and ``DAM-CNN, <n> paths``. The run leaves, by role: predictions, masks, Grad-CAM, silhouettes
        and curves; but for posed faces the weights of trunk and mask; and where there is one training part, what each
        autoencoder makes of the faces of :func:`~fer_utils.papers.dam_cnn.networks.load_looked`.
    """
    faces = load_set(context, role, first.images)
    tested = find_tested(context.dataset, faces, role)
    splits = list_folds(context.dataset, faces, role, first)
    trace = _Trace(faces, tested, looks)
    for fold, split in enumerate(splits):
        train = take_training(faces.subset(split.train), role, context.seed or 0)
        network, _ = train_network(context, train, first, f"first-{fold}")
        where = split.test if len(splits) > 1 else tested
        trace.arrays["fold"][where] = fold
        _look_at_first(context, network, trace, where, first, looks, whole=len(splits) == 1)
        if role not in POSED:
            save_trunk_and_mask(context, f"{role} trunk {fold}", network, first)
        _train_paths(context, network, train, trace, where, (role, fold, len(splits) == 1), (first, second, looks))
    context.save_arrays(role, trace.arrays)
    scores = []
    for row in (SERD, *map(name_paths, PATHS)):
        scores += score_set(context.dataset, row, role, faces, trace.guess(row))
    return scores


def _look_at_first(
    context: RunContext, network: SerdNetwork, trace: _Trace, where: np.ndarray, first: StageOne, looks: Looks, *,
    whole: bool,
) -> None:
    """Predictions of VGG-SERD, maps of kept faces, and what becomes of some of them as places are taken away."""
    trace.put_guess(SERD, where, predict_faces(network, trace.faces.subset(where), first))
    kept = np.intersect1d(where, trace.kept)
    if not len(kept):
        return
    maps = look_at_maps(network, trace.faces.subset(kept), first)
    trace.put_kept(kept, maps)
    if whole:
        some = kept[: looks.curves]
        curves = look_at_removal(
            network, trace.faces.subset(some), {name: each[: len(some)] for name, each in maps.items()}, looks,
            context.seed or 0,
        )
        trace.arrays |= curves


def _train_paths(
    context: RunContext, network: SerdNetwork, train: FaceDataset, trace: _Trace, where: np.ndarray,
    place: tuple[str, int, bool], recipes: tuple[StageOne, StageTwo, Looks],
) -> None:
    """Stage two for each number of paths, on features that are computed once."""
    (role, fold, whole), (first, second, looks) = place, recipes
    salient = compute_salient(network, train, first, mirrored=first.mirrored)
    shown = compute_salient(network, trace.faces.subset(where), first)
    inside = np.isin(where, trace.kept)
    labels = trace.faces.labels[where[inside]]
    trace.put_kept(where[inside], {"silhouette salient": measure_silhouettes(shown[inside], labels)})
    looked = load_looked(context, role, looks) if whole else None
    looked_salient = None if looked is None else compute_salient(network, looked, first)
    for count in PATHS:
        row, seed = name_paths(count), context.seed or 0
        checkpoint = context.workdir / f"second-{fold}-{count}.safetensors"
        model, _ = train_second(network, train, first, second, count, seed, checkpoint, salient=salient)
        trace.put_guess(row, where, _say(model, shown, "scores").argmax(1))
        if count == MOST:
            code = _say(model, shown[inside], "representation")
            trace.put_kept(where[inside], {"silhouette representation": measure_silhouettes(code, labels)})
            if role == "basic":
                _predict_across(context, model, trace, first)
        if looked is not None and looked_salient is not None:
            own = salient[: len(train)]  # mirror images come after them
            context.save_arrays(
                f"{role} {row}", look_at_decoders(model, looked_salient, looked.labels, own, train.labels, seed)
            )


def _say(model: DAMCNN, salient: np.ndarray, name: str) -> np.ndarray:
    return compute_named(model.second_stage(), salient, name)


def _predict_across(context: RunContext, model: DAMCNN, trace: _Trace, first: StageOne) -> None:
    """What the network of most paths says of all other sets of faces, for Table 11."""
    for other in list_across(context.dataset, "basic"):
        faces = load_seven(context, other, first.images)
        trace.arrays[f"across {other}"] = predict_faces(model, faces, first).astype(np.int8)


def _load_trace(context: RunContext, role: str, *needed: str) -> dict[str, np.ndarray]:
    return context.load_arrays(TABLE, role, needed)


# -- Tables 2 and 3 ----------------------------------------------------------------------------------------------------


@register_experiment("dam-cnn/table-2", seeds=SEEDS, needs=(TABLE,))
def plan_table_2(setup: Setup) -> list[Run]:
    """VGG-Face is trained, VGG-SERD is Table 4's."""
    runs = []
    for role in find_sets(setup.dataset):
        recipes = choose_recipes(setup.profile, role, "first", "looks")
        for seed in limit_seeds(setup, role):
            runs.append(Run(f"{FACE} {role}", measure_trained, {"row": FACE, "role": role, **recipes}, seed))
            runs.append(Run(f"{SERD} {role}", measure_kept, {"role": role, "recipe": recipes["first"]}, seed))
    return runs


@register_experiment("dam-cnn/table-3", seeds=SEEDS, needs=(TABLE,))
def plan_table_3(setup: Setup) -> list[Run]:
    """Each part of the regulariser alone is trained, both together are Table 4's; on sets in the wild, as SFEW is."""
    runs = []
    for role in find_sets(setup.dataset):
        if role not in ("film", "basic"):
            continue
        recipes = choose_recipes(setup.profile, role, "first", "looks")
        for seed in limit_seeds(setup, role):
            runs += [
                Run(f"{row} {role}", measure_trained, {"row": row, "role": role, **recipes}, seed) for row in _PARTS
            ]
            runs.append(Run(f"{SERD} {role}", measure_kept, {"role": role, "recipe": recipes["first"]}, seed))
    return runs


def measure_trained(context: RunContext, row: str, role: str, first: StageOne, looks: Looks) -> list[Score]:
    """Train a network of stage one in every fold, and score it.

    Parameters
    ----------
    context : RunContext
    row : {"VGG-Face", "VGG-SERD-reg1", "VGG-SERD-reg2"}
    role : str
    first : StageOne
    looks : Looks

    Returns
    -------
    list of Score
        The row, see :func:`measure_kept`. The run leaves its maps.
    """
    faces = load_set(context, role, first.images)
    tested = find_tested(context.dataset, faces, role)
    splits = list_folds(context.dataset, faces, role, first)
    trace = _Trace(faces, tested, looks)
    for fold, split in enumerate(splits):
        train = take_training(faces.subset(split.train), role, context.seed or 0)
        network, _ = train_network(
            context, train, first, f"first-{fold}", attention=row != FACE, parts=_PARTS.get(row, (True, True))
        )
        where = split.test if len(splits) > 1 else tested
        trace.arrays["fold"][where] = fold
        trace.put_guess(row, where, predict_faces(network, faces.subset(where), first))
        kept = np.intersect1d(where, trace.kept)
        if len(kept):
            found, wanted = look_at_maps(network, faces.subset(kept), first), "cam" if row == FACE else "mask"
            trace.put_kept(kept, {wanted: found[wanted]})
    context.save_arrays(f"{row} {role}", trace.arrays)
    return _score_folds(context, row, role, faces, trace.arrays)


def measure_kept(context: RunContext, role: str, recipe: StageOne) -> list[Score]:
    """Score VGG-SERD of Table 4; ``accuracy spread`` is the deviation of the accuracy over folds.

    Parameters
    ----------
    context : RunContext
    role : str
    recipe : StageOne
    """
    faces = load_set(context, role, recipe.images)
    return _score_folds(context, SERD, role, faces, _load_trace(context, role, f"guess {SERD}", "fold"))


def _score_folds(
    context: RunContext, row: str, role: str, faces: FaceDataset, arrays: Mapping[str, np.ndarray]
) -> list[Score]:
    guess, fold = arrays[f"guess {row}"].astype(int), arrays["fold"]
    kept: dict[str, Any] = {}
    if fold.max() > 0:
        tested = fold >= 0
        value, each = spread_over_folds(guess[tested] == faces.labels[tested], fold[tested])
        kept = {"metrics": {"accuracy spread": value}, "values": {"accuracy spread": each}}
    return score_set(context.dataset, row, role, faces, guess, **kept)


# -- Tables 5 and 7 ----------------------------------------------------------------------------------------------------


def _plan_confusion(setup: Setup, roles: tuple[str, ...]) -> list[Run]:
    runs = []
    for role in find_sets(setup.dataset):
        if role in roles:
            arguments = {"role": role, "recipe": choose_recipes(setup.profile, role, "first")["first"]}
            name = f"{name_paths(MOST)} {role}"
            runs += [Run(name, measure_confusion, arguments, seed) for seed in limit_seeds(setup, role)]
    return runs


@register_experiment("dam-cnn/table-5", seeds=SEEDS, needs=(TABLE,))
def plan_table_5(setup: Setup) -> list[Run]:
    """The confusion matrix of posed faces, and of wild ones."""
    return _plan_confusion(setup, ("lab", "basic"))


@register_experiment("dam-cnn/table-7", seeds=SEEDS, needs=(TABLE,))
def plan_table_7(setup: Setup) -> list[Run]:
    """The same of JAFFE, for which nothing of ours stands in."""
    return _plan_confusion(setup, ("lab-small",))


def measure_confusion(context: RunContext, role: str, recipe: StageOne) -> list[Score]:
    """Take the predictions of DAM-CNN with five paths; the ledger keeps them as a confusion matrix.

    Parameters
    ----------
    context : RunContext
    role : str
    recipe : StageOne
    """
    faces, row = load_set(context, role, recipe.images), name_paths(MOST)
    guess = _load_trace(context, role, f"guess {row}")[f"guess {row}"].astype(int)
    return score_set(context.dataset, row, role, faces, guess)


# -- the number of paths, chosen on people who are not tested ----------------------------------------------------------


@register_experiment("dam-cnn/chosen-paths", seeds=SEEDS, needs=(TABLE,))
def plan_chosen_paths(setup: Setup) -> list[Run]:
    """On wild faces alone: on posed ones the ten folds would be trained twice over."""
    if "basic" not in find_sets(setup.dataset):
        return []
    arguments = {"role": "basic", **choose_recipes(setup.profile, "basic", "first", "second")}
    return [Run("paths basic", measure_choice, arguments, seed) for seed in limit_seeds(setup, "basic")]


def measure_choice(context: RunContext, role: str, first: StageOne, second: StageTwo) -> list[Score]:
    """Choose the number of paths on training people who were held back, and score Table 4's network of that number.

    The paper names the best of its paths on the very faces that it is scored on.

    Parameters
    ----------
    context : RunContext
    role : str
    first : StageOne
    second : StageTwo

    Returns
    -------
    list of Score
        Rows ``DAM-CNN, <n> paths`` on ``held-back``; ``DAM-CNN, chosen paths`` on the role, whose series ``paths`` is
        the choice.
    """
    faces, seed = load_set(context, role, first.images), context.seed or 0
    (split,) = list_folds(context.dataset, faces, role, first)
    train = faces.subset(split.train)
    held = validation_split(train, first.validation, seed).test
    rest, asked = train.subset(np.setdiff1d(np.arange(len(train)), held)), train.subset(held)
    network, _ = train_network(context, rest, first, "first")
    salient = compute_salient(network, rest, first, mirrored=first.mirrored)
    shown = compute_salient(network, asked, first)
    scores = []
    for count in PATHS:
        checkpoint = context.workdir / f"second-{count}.safetensors"
        model, _ = train_second(network, rest, first, second, count, seed, checkpoint, salient=salient)
        scores.append(score_faces(name_paths(count), "held-back", asked, _say(model, shown, "scores").argmax(1)))
    chosen = PATHS[int(np.argmax([score.metrics["mean diagonal"] for score in scores]))]
    row = name_paths(chosen)
    guess = _load_trace(context, role, f"guess {row}")[f"guess {row}"].astype(int)
    series = {"paths": [float(chosen)]}
    return [*scores, *score_set(context.dataset, "DAM-CNN, chosen paths", role, faces, guess, series=series)]

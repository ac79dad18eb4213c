"""Looking: where attention maps lie (Fig. 6), what each attribute gives them, and what the unit selects (Fig. 5).

All of it is measured on FACSynth, where regions, occlusions, pose and light are known because they were rendered.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch

from ...datasets.base import FaceDataset
from ...datasets.celeba import PARTS as ATTRIBUTES
from ...experiments.context import RunContext
from ...experiments.registry import Run, Setup, register_experiment
from ...experiments.scores import Score, score_faces, score_values
from ...localisation import compute_overlap, find_regions, make_template, point_at
from ...splits import validation_split
from ...training.features import compute_batches, evaluation_mode
from .attribute_networks import draw_task
from .kept import (
    GENERATOR,
    RENDERED,
    SEEDS,
    compute_maps,
    find_home,
    limit_seeds,
    load_branches,
    load_faces,
    load_rendered,
)
from .model import PARTS, WSLGAN
from .networks import train_attribute_network
from .recipe import Generator, Looking

__all__ = [
    "choose_threshold", "compute_unit", "list_conditions", "measure_dropped", "measure_maps", "measure_places",
    "measure_unit", "move_faces", "score_places",
]

_MAPS = "ws-lgan/figure-6"
_FULL = "WS-LGAN"
#: Kinds of occlusion that hide a part, whole or nearly; others hide some of both, or let them be seen.
_COVERED = {"nothing covered": "none", "eyes covered": "sunglasses", "mouth covered": "mask"}
#: How often the book trains a branch on fewer attributes.
_DROPPED_SEEDS = 3


# -- Figure 6: where the maps lie --------------------------------------------------------------------------------------


@register_experiment(_MAPS, seeds=SEEDS, needs=(GENERATOR,))
def plan_figure_6(setup: Setup) -> list[Run]:
    """The maps of each seed's generator; and once what needs no training: places that are the same for all, and chance.

    With RAF-DB's results stands the generator that learned from CelebA. Its maps are measured on FACSynth's faces, too.
    """
    if setup.dataset != find_home(setup.dataset):
        return []
    shared = {"looking": Looking().at(setup.profile)}
    generator = Generator().at(setup.profile)
    places = Run("places", measure_places, shared)
    maps = {**shared, "generator": generator}
    return [places, *(Run("maps", measure_maps, maps, seed) for seed in limit_seeds(setup))]


def measure_maps(context: RunContext, looking: Looking, generator: Generator) -> list[Score]:
    """Measure the maps of a trained generator against the true regions.

    Parameters
    ----------
    context : RunContext
    looking : Looking
    generator : Generator

    Returns
    -------
    list of Score
        Rows ``eyes map`` and ``mouth map``; ``mean eyes map`` and ``mean mouth map``, the average over training faces in
        the place of each face's own map; ``eyes map of yes`` and ``mouth map of yes``, where the class *attribute* is
        mapped back on all faces, also where the branch says no; and ``eyes map, moved`` and ``mouth map, moved``, on faces
        that :func:`move_faces` pushed. See :func:`score_places`.
    """
    branches, scores = load_branches(context), []
    train, held_back, tests = _load_known(context, looking, context.seed or 0)
    for evidence, word in ((generator.evidence, "map"), ("positive", "map of yes")):
        own = {name: compute_maps(branches, evidence, faces) for name, faces in tests.items()}
        chosen_on = compute_maps(branches, evidence, held_back)
        rows = [(f"{{}} {word}", tests, own, chosen_on)]
        if word == "map":
            mean = compute_maps(branches, evidence, train).mean(axis=0, keepdims=True)  # [1, 2, H, W]
            moved = {name: move_faces(faces, looking.reach) for name, faces in tests.items()}
            on_moved = {name: compute_maps(branches, evidence, faces) for name, faces in moved.items()}
            rows += [("mean {} map", tests, dict.fromkeys(tests, mean), mean), ("{} map, moved", moved, on_moved, chosen_on)]
        for i, part in enumerate(PARTS):
            for row, seen, maps, guide in rows:
                threshold = choose_threshold(guide[:, i], find_regions(held_back, part), looking.grid)
                scores += [
                    score_places(
                        row.format(part), name, maps[name][:, i], faces, part, threshold, looking, by_condition=seen is tests,
                    )
                    for name, faces in seen.items()
                ]
    return scores


def measure_places(context: RunContext, looking: Looking) -> list[Score]:
    """Measure places that are the same for all faces: where training faces have the part, and anywhere.

    Parameters
    ----------
    context : RunContext
    looking : Looking

    Returns
    -------
    list of Score
        Rows ``eyes template`` and ``mouth template``, see :func:`score_places`, both also ``, moved``; and ``chance``: a
        pixel drawn at random points at a region as often as its share of the image, which is also the overlap of the
        whole image with it.
    """
    train, held_back, tests = _load_known(context, looking, 0)
    moved = {name: move_faces(faces, looking.reach) for name, faces in tests.items()}
    scores = []
    for part in PARTS:
        template = make_template(find_regions(train, part))[None]
        threshold = choose_threshold(template, find_regions(held_back, part), looking.grid)
        scores += [
            score_places(f"{part} template", name, template, faces, part, threshold, looking)
            for name, faces in tests.items()
        ]
        scores += [
            score_places(f"{part} template, moved", name, template, faces, part, threshold, looking, by_condition=False)
            for name, faces in moved.items()
        ]
    for name, faces in tests.items():
        values = {}
        for part in PARTS:
            share = find_regions(faces, part).mean(axis=(1, 2))
            values |= dict.fromkeys((f"{part} pointing", f"{part} IoU"), np.where(share > 0, share, np.nan))
        scores.append(score_values("chance", name, faces, values))
    return scores


def _load_known(
    context: RunContext, looking: Looking, seed: int
) -> tuple[FaceDataset, FaceDataset, dict[str, FaceDataset]]:
    """FACSynth's wild training faces in two parts, the second, of other people, to choose on; and test faces."""
    name, basic = load_rendered(context, "basic", looking.images)
    train = basic.train
    split = validation_split(train, looking.validation, seed)
    lab_name, lab = load_rendered(context, "lab", looking.images)
    return train.subset(split.train), train.subset(split.test), {name: basic.test, lab_name: lab}


def move_faces(faces: FaceDataset, reach: int, seed: int = 0) -> FaceDataset:
    """Push each face and its regions off its place, as an alignment does that fails.

    Parameters
    ----------
    faces : FaceDataset
        With ``masks``.
    reach : int
        Pixels that a face moves at most, to either side and up or down. What comes in repeats the image's edge, and
        belongs to no region.
    seed : int
        Draws how far each one goes.
    """
    assert faces.masks is not None
    size = faces.masks.shape[1]
    steps = np.random.default_rng(seed).integers(-reach, reach + 1, (len(faces), 2))
    images, masks = np.empty_like(faces.images), np.zeros_like(faces.masks)
    for i, (down, right) in enumerate(steps):
        rows, columns = np.arange(size) - down, np.arange(size) - right
        inside = np.ix_((rows >= 0) & (rows < size), (columns >= 0) & (columns < size))
        rows, columns = rows.clip(0, size - 1), columns.clip(0, size - 1)
        images[i] = faces.images[i][np.ix_(rows, columns)]
        masks[i][inside] = faces.masks[i][np.ix_(rows, columns)][inside]
    return faces.replace(images=images, masks=masks, landmarks=None)


def choose_threshold(maps: np.ndarray, regions: np.ndarray, grid: tuple[float, ...]) -> float:
    """Choose the threshold at which maps, or one map, overlap most with regions, averaged over faces that show any.

    Parameters
    ----------
    maps : float ``[N, h, w]`` or ``[1, h, w]``
    regions : bool ``[N, H, W]``
    grid : tuple of float
        Thresholds, from 0 to 1.
    """
    return grid[int(np.nanmean(compute_overlap(maps, regions, grid), axis=0).argmax())]


def score_places(
    row: str, role: str, maps: np.ndarray, faces: FaceDataset, part: str, threshold: float, looking: Looking, *,
    by_condition: bool = True,
) -> Score:
    """Score maps, or one map for all faces, that are meant to show a part.

    Parameters
    ----------
    row, role : str
    maps : float ``[N, h, w]`` or ``[1, h, w]``
    faces : FaceDataset
        With masks.
    part : {"eyes", "mouth"}
        What the maps are meant to show.
    threshold : float
    looking : Looking
    by_condition : bool
        Whether to part the faces by what makes them hard.

    Returns
    -------
    Score
        Of both parts ``<part> pointing`` and ``<part> IoU`` at the threshold. Of their own part also
        ``<part> IoU at <threshold>`` for those that the recipe shows, and both by what makes a face hard:
        ``<part> pointing, <condition>`` for each of :func:`list_conditions`. Series: ``threshold``, and
        ``<part> IoU by threshold``. An overlap is rounded to a hundredth on each face, so that it takes little room.
    """
    values: dict[str, np.ndarray] = {}
    for other in PARTS:
        regions = find_regions(faces, other)
        values[f"{other} pointing"] = point_at(maps, regions)
        values[f"{other} IoU"] = compute_overlap(maps, regions, (threshold,))[:, 0]
    own = compute_overlap(maps, find_regions(faces, part), (*looking.grid, *looking.shown))
    shown = own[:, len(looking.grid) :].T
    values |= {f"{part} IoU at {at:g}": found for at, found in zip(looking.shown, shown, strict=True)}
    values = {name: np.round(found, 2) for name, found in values.items()}
    for condition, rows in list_conditions(faces, looking) if by_condition else ():
        for what in ("pointing", "IoU"):
            values[f"{part} {what}, {condition}"] = np.where(rows, values[f"{part} {what}"], np.nan)
    curve = np.nanmean(own[:, : len(looking.grid)], axis=0)
    series = {"threshold": [threshold], f"{part} IoU by threshold": curve.tolist()}
    return score_values(row, role, faces, values, series=series)


def list_conditions(faces: FaceDataset, looking: Looking) -> Iterator[tuple[str, np.ndarray]]:
    """What makes FACSynth's faces hard: turned heads, occlusion, kinds of light.

    Parameters
    ----------
    faces : FaceDataset
        With truth.
    looking : Looking
        For ``turns``.

    Yields
    ------
    str
        The condition.
    bool ``[N]``
        The faces under it.
    """
    assert faces.truth is not None
    yaw = np.abs(faces.truth["yaw"].to_numpy())
    borders = (0.0, *looking.turns, np.inf)
    for low, high in pairwise(borders):
        name = f"yaw from {low:g}" if np.isinf(high) else f"yaw {low:g} to {high:g}"
        yield name, (yaw >= low) & (yaw < high)
    for what in ("occlusion", "light"):
        kinds = faces.truth[what].to_numpy()
        for kind in sorted(set(kinds)):
            yield f"{what} {kind}", kinds == kind


# -- which attributes carry the supervision ----------------------------------------------------------------------------


@register_experiment("ws-lgan/dropped-attributes", seeds={"book": _DROPPED_SEEDS}, needs=(GENERATOR,))
def plan_dropped_attributes(setup: Setup) -> list[Run]:
    """Each branch trained without one of its attributes, and scored once more with all of them."""
    if setup.dataset != RENDERED:
        return []
    shared = {"looking": Looking().at(setup.profile), "generator": Generator().at(setup.profile)}
    return [
        Run(row, measure_dropped, {"part": part, "dropped": dropped, "row": row, **shared}, seed)
        for seed in limit_seeds(setup) for part, names in ATTRIBUTES.items()
        for dropped in (None, *names) for row in [_name_dropped(part, dropped)]
    ]


def _name_dropped(part: str, attribute: str | None) -> str:
    return f"{part} map" + ("" if attribute is None else f" without {attribute}")


def measure_dropped(
    context: RunContext, part: str, dropped: str | None, row: str, looking: Looking, generator: Generator
) -> list[Score]:
    """Train a branch on one attribute fewer, and measure its maps.

    A face that shows the attribute and no other of the part is neither positive nor negative. So the branch has as many
    faces as before, and of each attribute that is left more.

    Parameters
    ----------
    context : RunContext
    part : {"eyes", "mouth"}
    dropped : str or None
        The attribute; None for the branch that the tables use.
    row : str
    looking : Looking
    generator : Generator

    Returns
    -------
    list of Score
        The row, as :func:`score_places`.
    """
    seed = context.seed or 0
    branches = dict(zip(PARTS, load_branches(context), strict=True))
    if dropped is not None:
        task = draw_task(context, part, generator, seed, without=(dropped,))
        checkpoint = context.workdir / "training.safetensors"
        branches[part], _ = train_attribute_network(task, generator, seed, checkpoint=checkpoint)
    pair, i = (branches["eyes"], branches["mouth"]), PARTS.index(part)
    _, held_back, tests = _load_known(context, looking, seed)
    guide = compute_maps(pair, generator.evidence, held_back)[:, i]
    threshold = choose_threshold(guide, find_regions(held_back, part), looking.grid)
    return [
        score_places(
            row, name, compute_maps(pair, generator.evidence, faces)[:, i], faces, part, threshold, looking,
            by_condition=False,
        )
        for name, faces in tests.items()
    ]


# -- Figure 5: what the unit selects -----------------------------------------------------------------------------------


@register_experiment("ws-lgan/figure-5", seeds=SEEDS, needs=("ws-lgan/table-8",))
def plan_figure_5(setup: Setup) -> list[Run]:
    """The unit of each seed's network, on faces whose occlusion is known."""
    if setup.dataset != RENDERED:
        return []
    arguments = {"looking": Looking().at(setup.profile)}
    return [Run("unit", measure_unit, arguments, seed) for seed in limit_seeds(setup)]


def measure_unit(context: RunContext, looking: Looking) -> list[Score]:
    """Ask the full network's unit what it selects on test faces, and whether it matters whose weights a face gets.

    Parameters
    ----------
    context : RunContext
    looking : Looking

    Returns
    -------
    list of Score
        By what is covered and by class: accuracy, and ``eyes``, ``mouth`` and ``global weight``, means over channels.
        On all test faces: ``own weights``; ``weights of other faces``, each face with those of another, drawn by the
        seed; and ``mean weights``, for all faces those of an average training face.
    """
    faces = load_faces(context, "basic", looking.images)
    model, test = context.load_network("ws-lgan/table-8", _FULL), faces.test
    assert isinstance(model, WSLGAN) and test.truth is not None
    pooled, weights = compute_unit(model, test)
    guess = _classify(model, pooled, weights)
    share = {f"{branch} weight": weights[:, i].mean(axis=1).astype(float) for i, branch in enumerate(model.branches)}
    occlusion = test.truth["occlusion"].to_numpy()
    groups = {row: occlusion == kind for row, kind in _COVERED.items()}
    groups |= {name: test.labels == k for k, name in enumerate(test.classes)}
    scores = []
    for row, rows in groups.items():
        if rows.sum() > 1:
            values = {name: found[rows] for name, found in share.items()}
            metrics = {name: float(found.mean()) for name, found in values.items()}
            scores.append(score_faces(row, "basic", test.subset(rows), guess[rows], metrics=metrics, values=values))
    # all faces in one drawn circle: each takes the weights of the next, nobody its own
    circle = np.random.default_rng(context.seed).permutation(len(test))
    others = np.empty_like(circle)
    others[circle] = np.roll(circle, 1)
    mean = compute_unit(model, faces.train)[1].mean(axis=0, keepdims=True)
    whole = {"own weights": guess, "weights of other faces": _classify(model, pooled, weights[others])}
    whole["mean weights"] = _classify(model, pooled, np.repeat(mean, len(test), axis=0))
    return scores + [score_faces(row, "basic", test, said) for row, said in whole.items()]


def compute_unit(model: WSLGAN, faces: FaceDataset) -> tuple[np.ndarray, np.ndarray]:
    """The branches' features and the unit's weights, float32 ``[N, P, C]`` each.

    Parameters
    ----------
    model : WSLGAN
        With a Selective Feature Unit.
    faces : FaceDataset
    """

    def compute(images: torch.Tensor) -> torch.Tensor:
        pooled, _ = model.compute_branches(images)
        return torch.stack([pooled, model.fuse(pooled)[1]], dim=1)

    found = torch.cat(list(compute_batches(compute, model, faces.images, 256))).numpy()
    return found[:, 0], found[:, 1]


def _classify(model: WSLGAN, pooled: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """What the network says of branches that are fused with given weights, int64 ``[N]``."""
    with evaluation_mode(model):
        return model.classify(torch.tensor((weights * pooled).sum(axis=1))).argmax(1).numpy()

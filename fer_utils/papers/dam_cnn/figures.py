"""Where the mask is high, what closes it, and how classes part: Figures 6, 9 and 10 of Xie, Hu & Wu 2019.

The paper shows pictures of some faces. Here each picture becomes a number over test faces, whose regions FACSynth
knows. All but the two regularisers that the paper did not try are read from what the trainings of the tables left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ...datasets.base import FaceDataset
from ...experiments.context import RunContext
from ...experiments.faces import find_roles
from ...experiments.registry import Run, Setup, register_experiment
from ...experiments.scores import Score, score_values
from ...localisation import find_regions, make_centred_gaussian, match_overlap, measure_energy, measure_mean, point_at
from ...training import prepare_images
from .looks import CURVES, look_at_maps, measure_neighbours, measure_silhouettes
from .networks import (
    FACE,
    SEEDS,
    SERD,
    TABLE,
    find_tested,
    limit_seeds,
    list_folds,
    load_set,
    score_set,
    train_network,
)
from .protocol import find_sets
from .recipe import Looks, StageOne, choose_recipes
from .stages import predict_faces

__all__ = [
    "measure_closing", "measure_kept_closing", "measure_localisation", "measure_masks", "measure_pixels",
    "measure_regions", "measure_silhouette", "split_regions",
]

#: Codes of FACSynth's masks by part.
_PARTS: Mapping[str, tuple[int, ...]] = {"brows": (2,), "eyes": (3,), "mouth": (5,), "brows, eyes and mouth": (2, 3, 5)}
_SKIN, _BROWS, _EYES, _NOSE = 1, 2, 3, 4
#: Maps of the localisation, besides those in whose order faces lose places: the run that left it, and the array.
_MAPS: Mapping[str, tuple[str, str, str]] = {
    "SERD mask": (TABLE, "", "mask"), "Grad-CAM": (TABLE, "", "cam"),
    "Grad-CAM of VGG-Face": ("dam-cnn/table-2", f"{FACE} ", "cam"),
}
_REGULARISED: Mapping[str, tuple[bool, bool]] = {
    "VGG-SERD, sums": (True, True), "VGG-SERD, no regulariser": (False, False),
}


def _has_regions(dataset: str, role: str) -> bool:
    """Whether the regions of a role's faces are known, which are those of rendered ones."""
    return find_roles(dataset)[find_sets(dataset)[role].source].startswith("facsynth")


def _load_kept(context: RunContext, role: str, first: StageOne, looks: Looks, *, masks: bool = False) -> FaceDataset:
    """Test faces of which maps are kept; with their regions."""
    faces = load_set(context, role, first.images, **({"masks": True} if masks else {}))
    return faces.subset(find_tested(context.dataset, faces, role)[: looks.maps])


def _plan(setup: Setup, role: str, row: str, function: object, **arguments: object) -> list[Run]:
    """One run a seed, which reads what a training left."""
    recipes = choose_recipes(setup.profile, role, "first", "looks")
    return [
        Run(f"{row} {role}", function, {"row": row, "role": role, **arguments, **recipes}, seed)
        for seed in limit_seeds(setup, role)
    ]


# -- Figure 6 ----------------------------------------------------------------------------------------------------------


@register_experiment("dam-cnn/figure-6", seeds=SEEDS, needs=(TABLE,))
def plan_figure_6(setup: Setup) -> list[Run]:
    """Silhouettes of the classes; those of pixels once, as nothing is drawn there."""
    runs = []
    for role in find_sets(setup.dataset):
        recipes = choose_recipes(setup.profile, role, "first", "looks")
        runs.append(Run(f"raw pixels {role}", measure_pixels, {"role": role, **recipes}))
        for row, kind in {"salient features": "salient", "high-level representation": "representation"}.items():
            runs += _plan(setup, role, row, measure_silhouette, kind=kind)
    return runs


def measure_pixels(context: RunContext, role: str, first: StageOne, looks: Looks) -> list[Score]:
    """Measure silhouettes of test faces in grey pixels, among the faces of one fold's test part.

    Parameters
    ----------
    context : RunContext
    role : str
    first : StageOne
    looks : Looks
    """
    faces = load_set(context, role, first.images)
    tested = find_tested(context.dataset, faces, role)
    kept = tested[: looks.maps]
    pixels = prepare_images(faces.images[kept], 1).numpy().astype(np.float32) / 255
    splits, found = list_folds(context.dataset, faces, role, first), np.full(len(kept), np.nan)
    for split in splits:
        inside = np.isin(kept, split.test if len(splits) > 1 else tested)
        found[inside] = measure_silhouettes(pixels[inside], faces.labels[kept[inside]])
    return [score_values("raw pixels", role, faces.subset(kept), {"silhouette": found})]


def measure_silhouette(
    context: RunContext, row: str, role: str, kind: str, first: StageOne, looks: Looks
) -> list[Score]:
    """Score the silhouettes that Table 4's run measured in salient features, or in the representation of five paths.

    Faces are tested ones, and features all there are, not a picture of them in two dimensions.

    Parameters
    ----------
    context : RunContext
    row, role : str
    kind : str
        What the silhouettes were measured in, as Table 4's run names it.
    first : StageOne
    looks : Looks
    """
    faces = _load_kept(context, role, first, looks)
    arrays = context.load_arrays(TABLE, role, (f"silhouette {kind}",))
    return [score_values(row, role, faces, {"silhouette": arrays[f"silhouette {kind}"].astype(float)})]


# -- Figures 9 and 10 --------------------------------------------------------------------------------------------------


@register_experiment("dam-cnn/figure-9", seeds=SEEDS, needs=(TABLE,))
def plan_figure_9(setup: Setup) -> list[Run]:
    """Only where regions are known, which is on FACSynth."""
    return [
        run for role in find_sets(setup.dataset) if _has_regions(setup.dataset, role)
        for run in _plan(setup, role, SERD, measure_regions)
    ]


def split_regions(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where expressions show, and where the paper says they do not, from FACSynth's codes.

    Parameters
    ----------
    masks : uint8 ``[N, H, W]``

    Returns
    -------
    bool ``[N, H, W]``
        Brows, eyes, mouth and forehead: skin above the highest pixel of brows or eyes.
    bool ``[N, H, W]``
        Nose and all other skin: cheeks, ears, chin.
    """
    seen = np.isin(masks, (_BROWS, _EYES)).any(2)  # [N, H]
    top = np.where(seen.any(1), seen.argmax(1), 0)  # without brows or eyes there is no forehead either
    skin = masks == _SKIN
    forehead = skin & (np.arange(masks.shape[1])[None, :, None] < top[:, None, None])
    return np.isin(masks, _PARTS["brows, eyes and mouth"]) | forehead, (masks == _NOSE) | (skin & ~forehead)


def measure_regions(context: RunContext, row: str, role: str, first: StageOne, looks: Looks) -> list[Score]:
    """Measure the mean weight of the mask, enlarged as in Fig. 8, in both kinds of regions of each test face.

    Parameters
    ----------
    context : RunContext
    row, role : str
    first : StageOne
    looks : Looks

    Returns
    -------
    list of Score
        Rows ``VGG-SERD, expressive regions`` and ``VGG-SERD, other regions``.
    """
    faces = _load_kept(context, role, first, looks, masks=True)
    mask = context.load_arrays(TABLE, role, ("mask",))["mask"].astype(np.float32)
    assert faces.masks is not None
    scores = []
    for word, region in zip(("expressive", "other"), split_regions(faces.masks), strict=True):
        values = measure_mean(mask, region)
        scores.append(score_values(f"{row}, {word} regions", role, faces, {"mean weight": values}))
    return scores


@register_experiment("dam-cnn/figure-10", seeds=SEEDS, needs=(TABLE, "dam-cnn/table-3"))
def plan_figure_10(setup: Setup) -> list[Run]:
    """Masks of Tables 3 and 4, on sets in the wild."""
    places = {"VGG-SERD-reg1": "dam-cnn/table-3", "VGG-SERD-reg2": "dam-cnn/table-3", SERD: TABLE}
    return [
        run for role in find_sets(setup.dataset) if role in ("film", "basic") for row, source in places.items()
        for run in _plan(setup, role, row, measure_masks, source=source)
    ]


def measure_masks(
    context: RunContext, row: str, role: str, source: str, first: StageOne, looks: Looks
) -> list[Score]:
    """Measure the mean weight of masks, the share of closed places, at or below 0, and how neighbours correlate.

    Parameters
    ----------
    context : RunContext
    row, role : str
    source : str
        The experiment that left the masks.
    first : StageOne
    looks : Looks
    """
    faces = _load_kept(context, role, first, looks)
    mask = context.load_arrays(source, role if source == TABLE else f"{row} {role}", ("mask",))["mask"]
    return [score_values(row, role, faces, {**_describe(mask), "neighbour correlation": measure_neighbours(mask)})]


def _describe(mask: np.ndarray) -> dict[str, np.ndarray]:
    """Numbers of each mask, from ``[N, S, S]``."""
    mask = mask.astype(float)
    return {"mean weight": mask.mean((1, 2)), "closed": (mask <= 0).mean((1, 2))}


# -- what closes the mask ----------------------------------------------------------------------------------------------


@register_experiment("dam-cnn/regulariser", seeds=SEEDS, needs=(TABLE,))
def plan_regulariser(setup: Setup) -> list[Run]:
    """Eq. 3 with its sums, as printed, and no regulariser at all are trained; that with means is Table 4's."""
    runs = []
    for role in find_sets(setup.dataset):
        if role == "basic":
            runs += [run for row in _REGULARISED for run in _plan(setup, role, row, measure_closing)]
            runs += _plan(setup, role, SERD, measure_kept_closing)
    return runs


def measure_closing(context: RunContext, row: str, role: str, first: StageOne, looks: Looks) -> list[Score]:
    """Train VGG-SERD with another regulariser, and measure what became of the mask.

    Parameters
    ----------
    context : RunContext
    row : {"VGG-SERD, sums", "VGG-SERD, no regulariser"}
    role : str
    first : StageOne
    looks : Looks

    Returns
    -------
    list of Score
        The row: accuracy, and of the faces whose masks are kept ``mean weight`` and ``closed``. The series ``size`` is
        the mean absolute weight, over the training.
    """
    faces = load_set(context, role, first.images)
    tested, (split,) = find_tested(context.dataset, faces, role), list_folds(context.dataset, faces, role, first)
    recipe = replace(first, averaged=row != "VGG-SERD, sums")
    network, history = train_network(context, faces.subset(split.train), recipe, "first", parts=_REGULARISED[row])
    kept = tested[: looks.maps]
    guess = np.full(len(faces), -1)
    guess[tested] = predict_faces(network, faces.subset(tested), first)
    mask = look_at_maps(network, faces.subset(kept), first)["mask"]
    sizes = np.sqrt(history.parts["size"]) / (1 if recipe.averaged else mask[0].size)
    series = {"size": [float(piece.mean()) for piece in np.array_split(sizes, min(100, len(sizes)))]}
    return _score_closing(context, row, role, faces, guess, mask, series)


def measure_kept_closing(context: RunContext, row: str, role: str, first: StageOne, looks: Looks) -> list[Score]:
    """Measure what :func:`measure_closing` measures, of Table 4's VGG-SERD.

    Parameters
    ----------
    context : RunContext
    row, role : str
    first : StageOne
    looks : Looks
    """
    arrays = context.load_arrays(TABLE, role, (f"guess {SERD}", "mask"))
    return _score_closing(
        context, row, role, load_set(context, role, first.images), arrays[f"guess {SERD}"].astype(int),
        arrays["mask"], {},
    )


def _score_closing(
    context: RunContext, row: str, role: str, faces: FaceDataset, guess: np.ndarray, mask: np.ndarray,
    series: Mapping[str, list[float]],
) -> list[Score]:
    found, count = _describe(mask), int((guess >= 0).sum())
    # masks are kept of the first test faces
    values = {name: np.concatenate([each, np.full(count - len(each), np.nan)]) for name, each in found.items()}
    metrics = {name: float(each.mean()) for name, each in found.items()}
    return score_set(context.dataset, row, role, faces, guess, metrics=metrics, values=values, series=series)


# -- localisation ------------------------------------------------------------------------------------------------------


@register_experiment("dam-cnn/localisation", seeds=SEEDS, needs=(TABLE, "dam-cnn/table-2"))
def plan_localisation(setup: Setup) -> list[Run]:
    """Maps of Tables 2 and 4 against a Gaussian in the middle, only where regions are known."""
    role = "basic"
    if role not in find_sets(setup.dataset) or not _has_regions(setup.dataset, role):
        return []
    rows = (*CURVES, "Grad-CAM of VGG-Face")
    return [run for row in rows for run in _plan(setup, role, row, measure_localisation)]


def measure_localisation(context: RunContext, row: str, role: str, first: StageOne, looks: Looks) -> list[Score]:
    """Measure how much of a map lies where the face moves, and whether VGG-SERD needs what it points at.

    Parameters
    ----------
    context : RunContext
    row : str
        ``SERD mask``; ``Grad-CAM`` of VGG-SERD, and ``Grad-CAM of VGG-Face``; ``centred Gaussian``, which is no face's;
        ``random``, of which only curves are measured.
    role : {"basic"}
    first : StageOne
    looks : Looks

    Returns
    -------
    list of Score
        ``energy in <part>`` for brows, eyes, mouth and all three; of the three ``pointing`` and ``overlap``, of as many
        pixels as the parts have; and of the first faces ``deletion`` and ``insertion``, the mean probability of
        VGG-SERD's answer while places go or come.
    """
    faces = _load_kept(context, role, first, looks, masks=True)
    values: dict[str, np.ndarray] = {}
    if row != "random":
        maps = _load_maps(context, row, role, looks)
        for part in _PARTS:
            values[f"energy in {part}"] = measure_energy(maps, find_regions(faces, part, _PARTS))
        whole = find_regions(faces, "brows, eyes and mouth", _PARTS)
        values |= {"pointing": point_at(maps, whole), "overlap": match_overlap(maps, whole)}
    if row in CURVES:
        arrays = context.load_arrays(TABLE, role, (f"deletion {row}", f"insertion {row}"))
        for kind in ("deletion", "insertion"):
            curve = arrays[f"{kind} {row}"].astype(float)
            # by the trapezoid rule, over the share of places
            area = (curve[:, 1:] + curve[:, :-1]).mean(1) / 2
            values[kind] = np.concatenate([area, np.full(len(faces) - len(area), np.nan)])
        series = {kind: arrays[f"{kind} {row}"].astype(float).mean(0).tolist() for kind in ("deletion", "insertion")}
    else:
        series = {}
    return [score_values(row, role, faces, values, series=series)]


def _load_maps(context: RunContext, row: str, role: str, looks: Looks) -> np.ndarray:
    """The maps of a row, float32 ``[N or 1, S, S]``, of what the trainings left."""
    if row == "centred Gaussian":
        side = context.load_arrays(TABLE, role, ("mask",))["mask"].shape[1]
        return make_centred_gaussian(side, side, looks.spread)[None]
    id, prefix, name = _MAPS[row]
    return context.load_arrays(id, f"{prefix}{role}", (name,))[name].astype(np.float32)

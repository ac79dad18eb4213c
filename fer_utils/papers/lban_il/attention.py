"""Where LBAN looks: Fig. 6 of Li et al. 2021, measured on faces whose regions are known, beside two other maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn

from ...datasets.base import FaceDataset
from ...experiments.context import RunContext
from ...experiments.faces import find_roles
from ...experiments.registry import Run, Setup, register_experiment
from ...experiments.scores import Score, score_values
from ...localisation import REGIONS, compute_grad_cam, find_regions, make_centred_gaussian, measure_energy, point_at
from ...models import FaceModel
from ...training.features import compute_batches
from .model import LBAN
from .recipe import LBANIL
from .traces import LOSS_TABLE, SEEDS, load_faces, plan_recipe

__all__ = [
    "compute_attention", "compute_cam", "crop_regions", "measure_attention", "measure_cam", "measure_lift",
    "measure_prior", "score_maps",
]

#: Parts of a face by the codes of FACSynth's masks: those of the book, and all that the paper calls organs.
PARTS: Mapping[str, tuple[int, ...]] = {**REGIONS, "organs": (2, 3, 4, 5)}
#: What the paper says of single emotions: the part and the emotion.
_SAID = (("mouth", "surprise"), ("eyes", "happiness"), ("mouth", "happiness"))
_ISLETS = "Islets loss"
_BLOCKS = 3
#: Faces looked at together.
_BATCH = 128


@register_experiment(
    "lban-il/figure-6", seeds=SEEDS, needs=(LOSS_TABLE,), omits={"Visual Attention": "not rebuilt in this book"}
)
def plan_figure_6(setup: Setup) -> list[Run]:
    """The maps of Table 4's LBAN, only where regions are known, which is on FACSynth; nothing is trained."""
    if find_roles(setup.dataset).get("basic") != "facsynth-basic":
        return []
    recipe = plan_recipe(setup)
    runs = [Run("centred prior", measure_prior, {"recipe": recipe})]
    for seed in setup.seeds:
        # one run gives LBAB-1 to 3; a plan finds a row by the name of its run
        runs.append(Run("LBAB", measure_attention, {"recipe": recipe}, seed))
        runs.append(Run("CAM", measure_cam, {"recipe": recipe}, seed))
    return runs


# -- maps --------------------------------------------------------------------------------------------------------------


def compute_attention(model: LBAN, images: np.ndarray) -> list[np.ndarray]:
    """Compute the attention of each block, a mean over channels.

    Parameters
    ----------
    model : LBAN
    images : uint8 ``[N, H, W]`` or ``[N, H, W, 3]``
        Whole faces.

    Returns
    -------
    list of float32 ``[N, S, S]``
        From 0 to 1, one per block.
    """
    return [_compute_maps(lambda batch, i=i: model.attend(batch)[i].mean(1), model, images) for i in range(_BLOCKS)]


def compute_cam(model: FaceModel, images: np.ndarray) -> np.ndarray:
    """Compute Grad-CAM of the last block for the class that the network says.

    Parameters
    ----------
    model : FaceModel
        An LBAN or a network built like one.
    images : uint8 ``[N, H, W]`` or ``[N, H, W, 3]``
        Whole faces.

    Returns
    -------
    float32 ``[N, S, S]``
        0 or more.
    """
    names = [name for name, _ in model.body.named_children()]
    place = names.index("pool")
    lower, upper = model.body[:place], nn.Sequential(model.body[place:], model.dropout, model.classifier)

    def explain(batch: torch.Tensor) -> torch.Tensor:
        maps = lower(batch)
        with torch.inference_mode(False):  # there no gradient is known
            return compute_grad_cam(upper, maps.clone())

    return _compute_maps(explain, model, images)


def _compute_maps(compute: Callable[[torch.Tensor], torch.Tensor], model: FaceModel, images: np.ndarray) -> np.ndarray:
    return torch.cat(list(compute_batches(compute, model, images, _BATCH))).numpy()


# -- where they lie ----------------------------------------------------------------------------------------------------


def load_masked(context: RunContext, recipe: LBANIL) -> FaceDataset:
    """The test faces with their masks."""
    return load_faces(context, "basic", recipe, masks=True, split="test")


def crop_regions(regions: np.ndarray, recipe: LBANIL) -> np.ndarray:
    """Cut out of the regions of whole faces the middle, which is what the network sees of these.

    Parameters
    ----------
    regions : array ``[N, H, H]``
    recipe : LBANIL
        For the sides of window and image.
    """
    side = regions.shape[1]
    seen = round(side * recipe.input_size / (recipe.image_size or side))
    start = (side - seen) // 2
    return regions[:, start : start + seen, start : start + seen]


def measure_lift(maps: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Measure how much more of a map lies in a region than were it even, one number a face.

    Parameters
    ----------
    maps : float ``[N, h, w]``
        0 or more; or ``[1, h, w]``, one for all faces.
    regions : bool ``[N, H, W]``

    Returns
    -------
    float64 ``[N]``
        The mean of the map inside over the mean of all of it; NaN where the region is not seen or the map is 0.
    """
    shares = regions.mean(axis=(1, 2))
    return measure_energy(maps, regions) / np.where(shares > 0, shares, np.nan)


def score_maps(row: str, maps: np.ndarray, faces: FaceDataset, recipe: LBANIL) -> Score:
    """Score maps against the regions of faces.

    Parameters
    ----------
    row : str
    maps : float ``[N, h, w]`` or ``[1, h, w]``
        Of what the network sees.
    faces : FaceDataset
        With masks.
    recipe : LBANIL

    Returns
    -------
    Score
        ``attention lift`` and ``pointing``, whether the maximum lies there, of all organs; ``attention lift <part>`` of
        each part on all faces, and ``attention lift <part> <emotion>`` of those that the paper speaks of.
    """
    regions = {part: crop_regions(find_regions(faces, part, PARTS), recipe) for part in PARTS}
    lifts = {part: measure_lift(maps, region) for part, region in regions.items()}
    values = {"attention lift": lifts.pop("organs"), "pointing": point_at(maps, regions["organs"])}
    values |= {f"attention lift {part}": lift for part, lift in lifts.items()}
    for part, emotion in _SAID:
        shown = faces.labels == faces.classes.index(emotion)
        values[f"attention lift {part} {emotion}"] = np.where(shown, lifts[part], np.nan)
    return score_values(row, "basic", faces, values)


def measure_attention(context: RunContext, recipe: LBANIL) -> list[Score]:
    """Score the attention of each block of Table 4's LBAN under the islets loss: rows ``LBAB-1`` to ``LBAB-3``.

    Parameters
    ----------
    context : RunContext
    recipe : LBANIL
    """
    faces = load_masked(context, recipe)
    maps = compute_attention(context.load_network(LOSS_TABLE, _ISLETS), faces.images)
    return [score_maps(f"LBAB-{i}", each, faces, recipe) for i, each in enumerate(maps, 1)]


def measure_cam(context: RunContext, recipe: LBANIL) -> list[Score]:
    """Score Grad-CAM of the same network: the row ``CAM``.

    Parameters
    ----------
    context : RunContext
    recipe : LBANIL
    """
    faces = load_masked(context, recipe)
    maps = compute_cam(context.load_network(LOSS_TABLE, _ISLETS), faces.images)
    return [score_maps("CAM", maps, faces, recipe)]


def measure_prior(context: RunContext, recipe: LBANIL) -> list[Score]:
    """Score a Gaussian in the middle of every face, which knows none: the row ``centred prior``.

    Parameters
    ----------
    context : RunContext
    recipe : LBANIL
    """
    faces = load_masked(context, recipe)
    maps = make_centred_gaussian(recipe.input_size, recipe.input_size)[None]
    return [score_maps("centred prior", maps, faces, recipe)]

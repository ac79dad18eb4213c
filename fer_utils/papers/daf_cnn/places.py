"""Whether spatial attention lies where the face moves, beside Grad-CAM and maps that know no face."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from ...datasets.base import FaceDataset
from ...experiments.context import RunContext
from ...experiments.faces import find_roles
from ...experiments.registry import Run, Setup, register_experiment
from ...experiments.scores import Score, checksum_names
from ...localisation import (
    compute_grad_cam,
    find_regions,
    make_centred_gaussian,
    make_template,
    match_overlap,
    measure_energy,
    point_at,
)
from .networks import SEEDS, TABLE, load_network, load_wild
from .recipe import DAFCNN

__all__ = ["PARTS", "UNITS", "cut_window", "find_moved", "look_at", "measure_maps", "measure_priors", "score_maps"]

_LOOKING = ("spatial attention", "Grad-CAM")
#: Maps that are the same for all faces.
_PRIORS = ("centred prior", "mean of training faces", "anywhere")
#: Codes of FACSynth's masks by parts of a face.
PARTS: Mapping[str, tuple[int, ...]] = {"brows": (2,), "eyes": (3,), "nose": (4,), "mouth": (5,)}
#: Action units by the part that they move; the lids belong to the eyes, and so does what the cheeks do to them.
UNITS: Mapping[str, tuple[int, ...]] = {
    "brows": (1, 2, 4),
    "eyes": (5, 6, 7, 43),
    "nose": (9,),
    "mouth": (10, 11, 12, 14, 15, 16, 17, 18, 20, 22, 23, 24, 25, 26, 27),
}
#: Of a unit that counts as shown: FACS' lowest intensity, a trace.
_SHOWN = 0.2
#: Faces whose gradients are computed together, and faces whose maps are enlarged together: 500 of 88x88 are 16 MB.
_BATCH, _ENLARGED = 128, 500


@register_experiment("daf-cnn/attention-regions", seeds=SEEDS, needs=(TABLE,))
def plan_attention_regions(setup: Setup) -> list[Run]:
    """Only where it is known which parts of a face move, which is on FACSynth."""
    if find_roles(setup.dataset).get("basic") != "facsynth-basic":
        return []
    recipe = DAFCNN().at(setup.profile)
    looking = [Run(row, measure_maps, {"row": row, "recipe": recipe}, seed) for seed in setup.seeds for row in _LOOKING]
    return looking + [Run(row, measure_priors, {"row": row, "recipe": recipe}) for row in _PRIORS]


# -- true regions ------------------------------------------------------------------------------------------------------


def find_moved(faces: FaceDataset) -> np.ndarray:
    """Where a face moves, bool ``[N, H, W]``: the parts, as far as they are seen, of which an action unit was rendered.

    Nowhere on a face whose moving parts are covered, nor on one that moves none of them enough, as most neutral faces.

    Raises
    ------
    ValueError
        For faces without masks or action units.
    """
    if faces.truth is None or "au_12" not in faces.truth:
        raise ValueError(f"{faces.name} does not know its action units; expected FACSynth's faces")
    found = np.zeros((len(faces), *faces.images.shape[1:3]), dtype=bool)
    for part, units in UNITS.items():
        shown = (faces.truth[[f"au_{unit}" for unit in units]].to_numpy(float) >= _SHOWN).any(1)
        found |= find_regions(faces, part, PARTS) & shown[:, None, None]
    return found


def cut_window(regions: np.ndarray, recipe: DAFCNN) -> np.ndarray:
    """The part of regions of whole faces that the network sees: the middle, as large as its window.

    Parameters
    ----------
    regions : array ``[N, H, W]``
    recipe : DAFCNN
        For the sides of window and image.
    """
    top, left = (round(side * (1 - recipe.input_size / recipe.image_size) / 2) for side in regions.shape[1:])
    return regions[:, top : regions.shape[1] - top, left : regions.shape[2] - left]


# -- maps --------------------------------------------------------------------------------------------------------------


def look_at(row: str, network: object, faces: FaceDataset, recipe: DAFCNN) -> np.ndarray:
    """Compute a map for each face.

    Parameters
    ----------
    row : {"spatial attention", "Grad-CAM"}
        The second of the maps that attention meets, for the class that the network names.
    network : keras.Model
    faces : FaceDataset
    recipe : DAFCNN
        The one that the network was built by.

    Returns
    -------
    float32 ``[N, h, w]``
    """
    from .training import prepare_faces
    from .twin import make_twin, prepare_twin

    twin, images = make_twin(network, recipe), prepare_faces(faces.images, recipe)
    found = []
    for start in range(0, len(images), _BATCH):
        with torch.inference_mode():
            seen = twin(prepare_twin(images[start : start + _BATCH], recipe))
        if row == "spatial attention":
            found.append(seen["spatial_attention"][:, 0])
        else:
            found.append(compute_grad_cam(lambda maps: twin.decide(maps)["scores"], seen["maps"]))
    return torch.cat(found).numpy()


def measure_maps(context: RunContext, row: str, recipe: DAFCNN) -> list[Score]:
    """Measure where DAF-CNN of Table 1 looks on the test faces.

    Parameters
    ----------
    context : RunContext
    row : {"spatial attention", "Grad-CAM"}
    recipe : DAFCNN

    Returns
    -------
    list of Score
        See :func:`score_maps`.
    """
    faces = load_wild(context, recipe, masks=True).test
    return [score_maps(row, look_at(row, load_network(context, "DAF-CNN"), faces, recipe), faces, recipe)]


def measure_priors(context: RunContext, row: str, recipe: DAFCNN) -> list[Score]:
    """Measure a map that is the same for all faces.

    Parameters
    ----------
    context : RunContext
    row : {"centred prior", "mean of training faces", "anywhere"}
        A Gaussian in the middle; how often each place moves on training faces; nothing.
    recipe : DAFCNN

    Returns
    -------
    list of Score
        See :func:`score_maps`. ``anywhere`` has of ``pointing`` and ``energy`` what a place drawn at random is
        expected to get.
    """
    faces = load_wild(context, recipe, masks=True)
    if row == "mean of training faces":
        return [score_maps(row, make_template(cut_window(find_moved(faces.train), recipe))[None], faces.test, recipe)]
    if row == "centred prior":
        side = recipe.input_size
        return [score_maps(row, make_centred_gaussian(side, side)[None], faces.test, recipe)]
    moved = cut_window(find_moved(faces.test), recipe)
    share = np.where(moved.any((1, 2)), moved.mean((1, 2)), np.nan)
    return [_score(row, faces.test, {"pointing": share, "energy": share})]


def score_maps(row: str, maps: np.ndarray, faces: FaceDataset, recipe: DAFCNN) -> Score:
    """Score maps against where each face moves.

    Parameters
    ----------
    row : str
    maps : float ``[N, h, w]`` or ``[1, h, w]``
        Of the window that the network sees.
    faces : FaceDataset
        With masks.
    recipe : DAFCNN

    Returns
    -------
    Score
        ``pointing``, ``energy`` and ``overlap``, see :mod:`fer_utils.localisation`; faces that do not move play no
        part.
    """
    moved = cut_window(find_moved(faces), recipe)
    values = {}
    for name, measure in {"pointing": point_at, "energy": measure_energy, "overlap": match_overlap}.items():
        pieces = [slice(start, start + _ENLARGED) for start in range(0, len(moved), _ENLARGED)]
        values[name] = np.concatenate(
            [measure(maps if len(maps) == 1 else maps[piece], moved[piece]) for piece in pieces]
        )
    return _score(row, faces, values)


def _score(row: str, faces: FaceDataset, values: dict[str, np.ndarray]) -> Score:
    metrics = {name: float(np.nanmean(each)) for name, each in values.items()}
    images = checksum_names(faces.names)
    return Score(
        row, "basic", metrics, faces.classes, faces.labels, people=faces.identities, images=images, values=values
    )

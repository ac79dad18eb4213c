"""Whether maps of attention lie where the face moves, and whether a network needs what they point at.

Maps come from anywhere: a mask that a network learned, an attention branch, Grad-CAM, or a prior that knows no face at
all. What is known are FACSynth's masks of regions. Two questions are asked. *Where does it point*: the share of a map's
energy inside a region (:func:`measure_energy`), whether its maximum hits one (:func:`point_at`), and overlap
(:func:`compute_overlap`, :func:`match_overlap`). *Does the network need it*: how fast the network loses its answer when
places are taken away in the order of the map, and how fast it finds it when they come back (:func:`follow_removal`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch.nn.functional import interpolate

from .datasets.base import FaceDataset

__all__ = [
    "REGIONS", "compute_grad_cam", "compute_overlap", "find_regions", "follow_removal", "make_centred_gaussian",
    "make_template", "match_overlap", "measure_energy", "measure_mean", "point_at",
]

#: Codes of FACSynth's masks: brows and eyes, which the eyes' attributes describe, and the mouth.
REGIONS: Mapping[str, tuple[int, ...]] = {"eyes": (2, 3), "mouth": (5,)}
#: Side to which an image is shrunk and enlarged again, to take its details away.
_BLURRED = 8


def find_regions(faces: FaceDataset, part: str, regions: Mapping[str, tuple[int, ...]] = REGIONS) -> np.ndarray:
    """Where a part is seen, bool ``[N, H, W]``; nowhere on a face where something covers it.

    Parameters
    ----------
    faces : FaceDataset
    part : str
    regions : dict of str to tuple of int
        Codes of the masks by the names of parts.

    Raises
    ------
    ValueError
        For an unknown part, or faces without masks.
    """
    if part not in regions:
        raise ValueError(f"part must be one of {', '.join(regions)}, got {part!r}")
    if faces.masks is None:
        raise ValueError(f"{faces.name} has no masks; expected FACSynth's faces, loaded with masks=True")
    return np.isin(faces.masks, regions[part])


# -- maps that know no face, and the gradient's ------------------------------------------------------------------------


def make_template(regions: np.ndarray) -> np.ndarray:
    """One map for all faces, float32 ``[H, W]``: the share of training faces whose part covers a pixel, up to 1.

    It is divided by the highest share.

    Raises
    ------
    ValueError
        If the part is seen on no face.
    """
    shares = regions.mean(axis=0, dtype=np.float32)
    if not shares.max() > 0:
        raise ValueError("a template needs a face on which the part is seen, got none")
    return shares / shares.max()


def make_centred_gaussian(height: int, width: int, spread: float = 0.25) -> np.ndarray:
    """One map for all faces, float32 ``[height, width]``: a Gaussian in the middle.

    Aligned faces are in the middle of their images, so a map that looks
    there and learned nothing points at the face, too.

    Parameters
    ----------
    height, width : int
        Pixels.
    spread : float
        Standard deviation, as a share of each side.

    Raises
    ------
    ValueError
        If the spread is not above 0.
    """
    if not spread > 0:
        raise ValueError(f"spread must be above 0, got {spread}")
    down, right = (np.square(((np.arange(side) + 0.5) / side - 0.5) / spread) for side in (height, width))
    return np.exp(-(down[:, None] + right) / 2).astype(np.float32)


def compute_grad_cam(
    score: Callable[[torch.Tensor], torch.Tensor], maps: torch.Tensor, labels: torch.Tensor | None = None
) -> torch.Tensor:
    """Compute Grad-CAM (Selvaraju et al. 2017): channels weighted by their mean gradients, and what is above 0.

    Parameters
    ----------
    score : callable
        Maps float ``[B, C, S, S]`` to class scores ``[B, K]``; in evaluation mode.
    maps : float ``[B, C, S, S]``
    labels : int64 ``[B]``, optional
        The classes to explain; by default those of the highest scores.

    Returns
    -------
    float ``[B, S, S]``
        0 or more, not scaled.
    """
    with torch.enable_grad():
        leaf = maps.detach().clone().requires_grad_()
        scores = score(leaf)
        chosen = scores.argmax(1) if labels is None else labels
        (gradients,) = torch.autograd.grad(scores.gather(1, chosen[:, None]).sum(), leaf)
    weights = gradients.mean(dim=(2, 3), keepdim=True)
    return (weights * leaf.detach()).sum(1).relu()


# -- where it points ---------------------------------------------------------------------------------------------------


def _check(maps: np.ndarray, regions: np.ndarray) -> None:
    if maps.ndim != 3 or regions.ndim != 3 or len(maps) not in (1, len(regions)):
        given = f"{list(maps.shape)} and {list(regions.shape)}"
        raise ValueError(f"maps must be [N, h, w] or [1, h, w] with regions [N, H, W], got {given}")


def _enlarge(maps: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Maps at the regions' size, bilinearly, float32 ``[N or 1, H, W]``."""
    planes = torch.tensor(maps, dtype=torch.float32).unsqueeze(1)
    return interpolate(planes, regions.shape[1:], mode="bilinear").squeeze(1).numpy()


def measure_energy(maps: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Compute the share of each map's energy inside the region.

    Energy is what is above 0 of the enlarged map. A map that is the same everywhere has the region's share of the
    image.

    Parameters
    ----------
    maps : float ``[N, h, w]``
        Or ``[1, h, w]``, a template. What is below 0 counts as 0.
    regions : bool ``[N, H, W]``

    Returns
    -------
    float64 ``[N]``
        From 0 to 1; NaN where the region is empty or nothing of the map is above 0.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    _check(maps, regions)
    energy = np.maximum(_enlarge(maps, regions), 0)
    inside, whole = (energy * regions).sum(axis=(1, 2), dtype=float), energy.sum(axis=(1, 2), dtype=float)
    known = regions.any(axis=(1, 2)) & (whole > 0)
    return np.where(known, inside / np.where(whole > 0, whole, 1), np.nan)


def measure_mean(maps: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Compute the mean of each enlarged map over the pixels of the region.

    Parameters
    ----------
    maps : float ``[N, h, w]``
        Or ``[1, h, w]``, a template.
    regions : bool ``[N, H, W]``

    Returns
    -------
    float64 ``[N]``
        NaN where the region is empty.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    _check(maps, regions)
    sizes = regions.sum(axis=(1, 2))
    inside = (_enlarge(maps, regions) * regions).sum(axis=(1, 2), dtype=float)
    return np.where(sizes > 0, inside / np.maximum(sizes, 1), np.nan)


def point_at(maps: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Tell whether the maximum of each map, the middle of its own pixel, lies in the region (the pointing game).

    Parameters
    ----------
    maps : float ``[N, h, w]``
        Or ``[1, h, w]``, a template.
    regions : bool ``[N, H, W]``

    Returns
    -------
    float64 ``[N]``
        1 or 0; NaN where the region is empty. For one pixel drawn at random it would be the region's share of the
        image.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    _check(maps, regions)
    places = np.unravel_index(maps.reshape(len(maps), -1).argmax(axis=1), maps.shape[1:])
    down, right = (
        ((place + 0.5) * pixels / cells).astype(int)
        for place, pixels, cells in zip(places, regions.shape[1:], maps.shape[1:], strict=True)
    )
    hit = regions[np.arange(len(regions)), down, right]
    return np.where(regions.any(axis=(1, 2)), hit, np.nan)


def compute_overlap(maps: np.ndarray, regions: np.ndarray, thresholds: Sequence[float]) -> np.ndarray:
    """Compute the overlap, intersection over union, of each map above a threshold with the region.

    Parameters
    ----------
    maps : float ``[N, h, w]``
        From 0 to 1; or ``[1, h, w]``, a template; enlarged to the regions' size.
    regions : bool ``[N, H, W]``
    thresholds : sequence of float
        ``T``, from 0 to 1.

    Returns
    -------
    float64 ``[N, T]``
        NaN where the region is empty.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    _check(maps, regions)
    large = _enlarge(maps, regions)
    columns = [_measure_union(large > threshold, regions) for threshold in thresholds]
    return np.stack(columns, axis=1)


def _measure_union(chosen: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Intersection over union of pixels bool ``[N or 1, H, W]`` and regions; NaN where the region is empty."""
    both, either = (chosen & regions).sum(axis=(1, 2)), (chosen | regions).sum(axis=(1, 2))
    return np.where(regions.any(axis=(1, 2)), both / np.maximum(either, 1), np.nan)


def match_overlap(maps: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Compute the overlap of the region and as many pixels, where the map is highest: no threshold to choose.

    Parameters
    ----------
    maps : float ``[N, h, w]``
        Or ``[1, h, w]``, a template.
    regions : bool ``[N, H, W]``

    Returns
    -------
    float64 ``[N]``
        Intersection over union; NaN where the region is empty.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    _check(maps, regions)
    order = np.argsort(-_enlarge(maps, regions).reshape(len(maps), -1), axis=1, kind="stable")
    chosen = np.zeros((len(regions), order.shape[1]), dtype=bool)
    for row, region in enumerate(regions):
        chosen[row, order[row if len(order) > 1 else 0, : region.sum()]] = True
    return _measure_union(chosen.reshape(regions.shape), regions)


# -- whether the network needs it --------------------------------------------------------------------------------------


def follow_removal(
    predict: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, maps: np.ndarray, steps: int, *,
    insert: bool = False,
) -> np.ndarray:
    """Follow a network's answer while it loses places of the image in the order of a map, or gets them back.

    The curves are those of Petsiuk et al. 2018. Places are the map's own: each is a tile of the image, and what is
    taken away is replaced by a blurred image. Of a good map the curve falls early where places are lost (deletion), and
    rises early where they come back (insertion).

    Parameters
    ----------
    predict : callable
        Images float ``[B, C, H, W]`` to class scores ``[B, K]``.
    images : float ``[B, C, H, W]``
    maps : float ``[B, h, w]``
    steps : int
        In how many steps all places go.
    insert : bool
        Begin with the blurred image and bring places back.

    Returns
    -------
    float64 ``[B, steps + 1]``
        The probability of the class that the whole image is taken for. The first column is the whole image's, or with
        ``insert`` the blurred one's.

    Raises
    ------
    ValueError
        If maps are not ``[B, h, w]``, or there are fewer than 1 step.
    """
    if maps.ndim != 3 or len(maps) != len(images) or steps < 1:
        raise ValueError(f"expected maps [{len(images)}, h, w] and 1 step or more, got {list(maps.shape)} and {steps}")
    flat = maps.reshape(len(maps), -1)
    rank = np.argsort(np.argsort(-flat, axis=1, kind="stable"), axis=1).reshape(maps.shape)
    small = interpolate(images, (_BLURRED, _BLURRED), mode="bilinear", antialias=True)
    blurred = interpolate(small, images.shape[2:], mode="bilinear")
    found = []
    with torch.inference_mode():
        guess = predict(images).argmax(1)
        for step in range(steps + 1):
            gone = torch.tensor(rank < round(step * flat.shape[1] / steps))[:, None].to(images)
            tiles = interpolate(gone, images.shape[2:], mode="nearest")
            shown = images * tiles + blurred * (1 - tiles) if insert else images * (1 - tiles) + blurred * tiles
            found.append(predict(shown).softmax(1).gather(1, guess[:, None])[:, 0])
    return torch.stack(found, 1).double().cpu().numpy()

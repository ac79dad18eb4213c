"""Whether attention maps lie where eyes and mouth are, measured on faces whose regions are known. The paper looks and does not measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch.nn.functional import interpolate

from ...datasets.base import FaceDataset
from .model import PARTS

__all__ = ["REGIONS", "compute_overlap", "find_regions", "make_template", "point_at"]

#: Codes of FACSynth's masks: brows and eyes, which the eyes' attributes describe, and the mouth.
REGIONS: Mapping[str, tuple[int, ...]] = {"eyes": (2, 3), "mouth": (5,)}


def find_regions(faces: FaceDataset, part: str) -> np.ndarray:
    """Where a part is seen, bool ``[N, H, W]``; nowhere on a face where something covers it.

    Raises
    ------
    ValueError
        For an unknown part, or faces without masks.
    """
    if part not in REGIONS:
        raise ValueError(f"part must be one of {', '.join(PARTS)}, got {part!r}")
    if faces.masks is None:
        raise ValueError(f"{faces.name} has no masks; expected FACSynth's faces, loaded with masks=True")
    return np.isin(faces.masks, REGIONS[part])


def make_template(regions: np.ndarray) -> np.ndarray:
    """One map for all faces, float32 ``[H, W]``: the share of training faces whose part covers a pixel, the highest of which is 1.

    Raises
    ------
    ValueError
        If the part is seen on no face.
    """
    shares = regions.mean(axis=0, dtype=np.float32)
    if not shares.max() > 0:
        raise ValueError("a template needs a face on which the part is seen, got none")
    return shares / shares.max()


def _check(maps: np.ndarray, regions: np.ndarray) -> None:
    if maps.ndim != 3 or regions.ndim != 3 or len(maps) not in (1, len(regions)):
        raise ValueError(f"maps must be [N, h, w] or [1, h, w] with regions [N, H, W], got {list(maps.shape)} and {list(regions.shape)}")


def point_at(maps: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Tell whether the maximum of each map lies in the region (the pointing game): the middle of its pixel, not of an enlarged map.

    Parameters
    ----------
    maps : float ``[N, h, w]``
        Or ``[1, h, w]``, a template.
    regions : bool ``[N, H, W]``

    Returns
    -------
    float64 ``[N]``
        1 or 0; NaN where the region is empty. For one pixel drawn at random it would be the region's share of the image.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    _check(maps, regions)
    places = np.unravel_index(maps.reshape(len(maps), -1).argmax(axis=1), maps.shape[1:])
    down, right = (
        ((place + 0.5) * pixels / cells).astype(int) for place, pixels, cells in zip(places, regions.shape[1:], maps.shape[1:], strict=True)
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
    large = interpolate(torch.tensor(maps, dtype=torch.float32).unsqueeze(1), regions.shape[1:], mode="bilinear").squeeze(1).numpy()
    seen = regions.any(axis=(1, 2))
    columns = []
    for threshold in thresholds:
        chosen = large > threshold  # [N or 1, H, W]
        both, either = (chosen & regions).sum(axis=(1, 2)), (chosen | regions).sum(axis=(1, 2))
        columns.append(np.where(seen, both / np.maximum(either, 1), np.nan))
    return np.stack(columns, axis=1)

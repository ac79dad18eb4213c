"""From faces as found to faces as the methods expect them: alignment by landmarks and warping.

Image order is used throughout: the eye and mouth corner on the image's left come first. Points are ``(x, y)`` pixels with
``y`` downwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from skimage.transform import SimilarityTransform

__all__ = ["TEMPLATE_5", "align_face", "align_faces", "similarity_transform", "warp_points"]

#: Where the two eyes' centres, the nose tip and the two mouth corners land in a 100x100 aligned face.
TEMPLATE_5 = np.array([[31.5, 37.0], [68.5, 37.0], [50.0, 58.0], [35.5, 77.5], [64.5, 77.5]], dtype=np.float32)


def similarity_transform(points: np.ndarray, size: int = 100, template: np.ndarray = TEMPLATE_5) -> SimilarityTransform:
    """Least-squares rotation, scale and shift that bring five points onto the template.

    Parameters
    ----------
    points : array ``[5, 2]``
        Left eye, right eye, nose tip, left mouth corner, right mouth corner; pixels, image order.
    size : int
        Side of the aligned face; the template scales with it.
    template : array ``[5, 2]``
        Where the points shall land in a face of 100x100.

    Returns
    -------
    skimage.transform.SimilarityTransform
        Maps source pixels to aligned pixels.

    Raises
    ------
    ValueError
        If the points have another shape, are not finite, or coincide.
    """
    points = np.asarray(points, dtype=np.float64)
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise ValueError(f"alignment needs five finite (x, y) points, got an array of shape {points.shape}")
    if np.ptp(points, axis=0).max() < 1e-6:
        raise ValueError("alignment needs five distinct points, got one point five times")
    from skimage.transform import SimilarityTransform  # faces that come aligned need none, and a rented GPU may have none

    return SimilarityTransform.from_estimate(points, template * (size / 100))


def align_face(
    image: np.ndarray, points: np.ndarray, size: int = 100, *, smooth: bool = True, template: np.ndarray = TEMPLATE_5
) -> np.ndarray:
    """Warp a face so that its five points lie on the template.

    Parameters
    ----------
    image : uint8 ``[H, W]`` or ``[H, W, 3]``
    points : array ``[5, 2]``
        Pixels of ``image``; see :func:`similarity_transform`.
    size : int
        Side of the result.
    smooth : bool
        Bicubic; otherwise the nearest pixel, for masks.
    template : array ``[5, 2]``
        See :func:`similarity_transform`.

    Returns
    -------
    uint8 ``[size, size]`` or ``[size, size, 3]``
        Pixels from outside the image are black.
    """
    inverse = np.linalg.inv(similarity_transform(points, size, template).params)
    # Pillow measures at pixel centres: shift by half a pixel on both sides of the map.
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    matrix = half @ inverse @ np.linalg.inv(half)
    resampling = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(image).transform((size, size), Image.Transform.AFFINE, tuple(matrix[:2].ravel()), resampling))


def align_faces(
    images: np.ndarray | Sequence[np.ndarray], points: np.ndarray, size: int = 100, *, template: np.ndarray = TEMPLATE_5
) -> np.ndarray:
    """Align many faces; see :func:`align_face`.

    Parameters
    ----------
    images : uint8 ``[N, H, W]`` or ``[N, H, W, 3]``
        Or a sequence of ``N`` images of any sizes, all grey or all RGB.
    points : array ``[N, 5, 2]``
        Pixels of each image.
    size : int
        Side of the results.
    template : array ``[5, 2]``
        See :func:`similarity_transform`.

    Returns
    -------
    uint8 ``[N, size, size]`` or ``[N, size, size, 3]``

    Raises
    ------
    ValueError
        If there are not as many sets of points as images, none at all, grey beside RGB, or five points that cannot be aligned.
    """
    if len(images) != len(points) or not len(points):
        raise ValueError(f"aligning needs five points for each of at least one image, got {len(points)} for {len(images)} images")
    return np.stack([align_face(image, five, size, template=template) for image, five in zip(images, points, strict=True)])


def warp_points(points: np.ndarray, transform: SimilarityTransform) -> np.ndarray:
    """Carry points through a transform.

    Parameters
    ----------
    points : array ``[..., 2]``
        Pixels, x and y.
    transform : SimilarityTransform

    Returns
    -------
    float32 ``[..., 2]``
    """
    points = np.asarray(points, dtype=np.float64)
    return transform(points.reshape(-1, 2)).reshape(points.shape).astype(np.float32)

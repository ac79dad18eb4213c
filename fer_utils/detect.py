"""Where faces are: Viola-Jones and MTCNN behind one call, and five points for a face whose dataset ships none.

Both need the extra ``detect``; nothing is downloaded, the models come inside the wheels.

* **Viola-Jones** (Viola & Jones 2001) are the frontal-face cascades of ``opencv-python-headless``: code Apache-2.0, cascades under
  Intel's BSD-like licence, printed in each file. OpenCV 5 dropped them, so the extra asks for a version below 5.
* **MTCNN** (Zhang et al. 2016) has its weights in the wheel of ``mtcnn``. That package is MIT, as is the authors' repository from
  which the weights were converted; neither says more of the weights, and WIDER FACE and CelebA, on which they were learned, are for
  research. The package runs them with TensorFlow; here the three small networks run in torch, and its wheel is read as a data file
  and never imported.

The five points are MTCNN's: alignment needs no more, and its O-Net reads them in any given box.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import get_ident
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import torch

__all__ = ["Detections", "detect_faces", "find_landmarks"]

METHODS = ("viola-jones", "mtcnn")

_CELL, _STRIDE, _SHRINK = 12, 2, 0.709  # the proposal network sees 12 pixels, every second one, in a pyramid of this step
_THRESHOLDS = (0.6, 0.7, 0.7)  # of the three networks, as in the authors' code
_POOLS = {"pnet": (2, 0, 0), "rnet": (3, 3, 0), "onet": (3, 3, 2, 0)}  # max pooling after each convolution


class Detections(NamedTuple):
    """Faces found in one image, best first.

    Attributes
    ----------
    boxes : float32 ``[F, 4]``
        Left, top, right, bottom in pixels; right and bottom are exclusive. A box may reach over the image's border.
    scores : float32 ``[F]``
        Viola-Jones: the last stage's sum, without upper bound. MTCNN: probability of a face.
    points : float32 ``[F, 5, 2]`` or None
        Eyes, nose tip and mouth corners as :func:`~fer_utils.preprocess.align_face` takes them; None from Viola-Jones.
    """

    boxes: np.ndarray
    scores: np.ndarray
    points: np.ndarray | None


def detect_faces(image: np.ndarray, method: str = "viola-jones", *, min_size: int = 24, min_score: float | None = None) -> Detections:
    """Find the faces of an image.

    Parameters
    ----------
    image : uint8 ``[H, W]`` or ``[H, W, 3]``
        Grey or RGB.
    method : {"viola-jones", "mtcnn"}
        Viola-Jones is what Xie, Hu & Wu 2019 used, and Li & Deng 2019 for a first guess; MTCNN what Li et al. 2021 and Zhou et
        al. used.
    min_size : int
        Side of the smallest face looked for, in pixels.
    min_score : float, optional
        Keep faces that score at least this; 0 (Viola-Jones) and 0.7 (MTCNN) by default.

    Returns
    -------
    Detections
        Empty arrays where no face is found.

    Raises
    ------
    ValueError
        For an image of another type or shape, an unknown method, or a size below 12.
    ModuleNotFoundError
        If the extra ``detect`` is not installed.
    """
    _check_image(image)
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}; got {method!r}")
    if min_size < _CELL:
        raise ValueError(f"min_size must be at least {_CELL} pixels, got {min_size}")
    if method == "viola-jones":
        return _run_cascade(image, min_size, 0.0 if min_score is None else min_score)
    return _run_mtcnn(image, min_size, _THRESHOLDS[2] if min_score is None else min_score)


def find_landmarks(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Find the five points of a face inside a known box, by MTCNN's output network.

    Parameters
    ----------
    image : uint8 ``[H, W]`` or ``[H, W, 3]``
    box : array ``[4]``
        Left, top, right, bottom around one face, from a detector or a dataset. It is fitted to the face before the points
        are read, so it may be looser or tighter than MTCNN's own.

    Returns
    -------
    float32 ``[5, 2]``
        Left eye, right eye, nose tip, left and right mouth corner; pixels, image order.

    Raises
    ------
    ValueError
        For an image or a box of another shape, or an empty box.
    ModuleNotFoundError
        If the extra ``detect`` is not installed.
    """
    _check_image(image)
    box = np.asarray(box, dtype=np.float64)
    if box.shape != (4,) or not np.isfinite(box).all() or box[2] <= box[0] or box[3] <= box[1]:
        raise ValueError(f"a box is four finite numbers, left < right and top < bottom; got {box.tolist()}")
    pixels = _normalize(image)
    boxes = _square(box[None])
    for _ in range(2):
        boxes = _square(_shift(boxes, _judge(pixels, boxes, "onet")[1]))
    return _place(boxes, _judge(pixels, boxes, "onet")[2])[0].astype(np.float32)


def _check_image(image: np.ndarray) -> None:
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3) or 0 in image.shape:
        raise ValueError(f"an image is uint8 [H, W] or [H, W, 3], got {image.dtype} {list(image.shape)}")


def _missing(what: str) -> ModuleNotFoundError:
    return ModuleNotFoundError(f"detecting faces needs the extra 'detect' ({what} is missing): pip install 'fer-utils[detect]'")


# -- Viola-Jones ----------------------------------------------------------------------------------------------------------


@cache
def _cascade(thread: int) -> Any:
    """Load the cascade for one thread: a classifier keeps its working memory, so threads must not share it."""
    try:
        cv2 = import_module("cv2")
    except ModuleNotFoundError:
        raise _missing("cv2") from None
    if not hasattr(cv2, "CascadeClassifier"):
        raise _missing(f"OpenCV below 5 (this is {cv2.__version__})")
    return cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")


def _run_cascade(image: np.ndarray, min_size: int, min_score: float) -> Detections:
    cascade = _cascade(get_ident())
    grey = image if image.ndim == 2 else np.rint(image @ (0.299, 0.587, 0.114)).astype(np.uint8)
    corners, _, weights = cascade.detectMultiScale3(
        np.ascontiguousarray(grey), scaleFactor=1.1, minNeighbors=3, minSize=(min_size, min_size), outputRejectLevels=True
    )
    boxes = np.array(corners, dtype=np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    scores = np.array(weights, dtype=np.float32).reshape(-1)
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= min_score]
    return Detections(boxes[order], scores[order], None)


# -- MTCNN ----------------------------------------------------------------------------------------------------------------


@cache
def _weights(name: str) -> list[torch.Tensor]:
    """Read a network's weights from the installed wheel of ``mtcnn``, convolutions as torch lays them."""
    for package in ("mtcnn", "lz4"):
        if find_spec(package) is None:
            raise _missing(package)
    import joblib
    import torch

    (folder,) = find_spec("mtcnn").submodule_search_locations
    arrays = joblib.load(Path(folder) / "assets" / "weights" / f"{name}.lz4")
    return [torch.from_numpy(a.transpose(3, 2, 0, 1).copy() if a.ndim == 4 else a.squeeze()) for a in arrays]


def _forward(name: str, x: torch.Tensor) -> list[torch.Tensor]:
    """Run a network; face probability, box shift and (output network) points, on the last axis.

    Shapes: ``[B, 3, S, S]`` to ``[B]``, ``[B, 4]``, ``[B, 10]``; the proposal network keeps the grid, ``[B, H, W, ...]``.
    """
    import torch
    from torch.nn import functional as F

    weights = iter(_weights(name))
    for pool in _POOLS[name]:
        x = F.prelu(F.conv2d(x, next(weights), next(weights)), next(weights))
        x = F.max_pool2d(x, pool, 2, ceil_mode=True) if pool else x
    x = x.permute(0, 3, 2, 1)  # [B, W, H, C]: the weights were learned on images stored by columns
    x = x.transpose(1, 2) if name == "pnet" else F.prelu(x.flatten(1) @ next(weights) + next(weights), next(weights))
    heads = [x @ w.flatten(1).T + b if w.ndim == 4 else x @ w + b for w, b in zip(weights, weights, strict=True)]
    return [torch.softmax(heads[-1], -1)[..., 1], *heads[:-1]]


def _normalize(image: np.ndarray) -> torch.Tensor:
    """Turn an image into ``[1, 3, H, W]`` from -1 to 1."""
    import torch

    rgb = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    return (torch.from_numpy(rgb.transpose(2, 0, 1)[None].astype(np.float32)) - 127.5) / 128


def _resize(pixels: torch.Tensor, height: int, width: int) -> torch.Tensor:
    from torch.nn import functional as F

    return F.interpolate(pixels, (height, width), mode="bilinear", antialias=True, align_corners=False)


def _propose(pixels: torch.Tensor, min_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes ``[P, 4]`` and scores ``[P]`` of the proposal network over the pyramid."""
    height, width = pixels.shape[2:]
    scale = _CELL / min_size
    boxes, scores = [np.empty((0, 4))], [np.empty(0)]
    while min(height, width) * scale >= _CELL:
        face, shift = _forward("pnet", _resize(pixels, round(height * scale), round(width * scale)))
        rows, columns = np.nonzero(face[0].numpy() >= _THRESHOLDS[0])
        corner = _STRIDE * np.stack([columns, rows], axis=1)
        found = np.concatenate([corner, corner + _CELL], axis=1) / scale
        value = face[0].numpy()[rows, columns]
        keep = _suppress(found, value, 0.5)
        boxes.append(_shift(found, shift[0].numpy()[rows, columns])[keep])
        scores.append(value[keep])
        scale *= _SHRINK
    return np.concatenate(boxes), np.concatenate(scores)


def _judge(pixels: torch.Tensor, boxes: np.ndarray, name: str) -> list[np.ndarray]:
    """What the refining or the output network says of square boxes in whole pixels; outside the image is mid-grey."""
    import torch
    from torch.nn import functional as F

    height, width = pixels.shape[2:]
    side = {"rnet": 24, "onet": 48}[name]
    patches = []
    for left, top, right, bottom in boxes.astype(int).tolist():
        inside = pixels[:, :, max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
        margins = (max(-left, 0), max(right - width, 0), max(-top, 0), max(bottom - height, 0))
        patches.append(_resize(F.pad(inside, margins), side, side))
    return [out.numpy() for out in _forward(name, torch.cat(patches))]


def _shift(boxes: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Move each edge by its share of the box's side."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return boxes + shift * np.tile(sides, 2)


def _square(boxes: np.ndarray) -> np.ndarray:
    """Grow the shorter side about the centre, to whole pixels."""
    side = np.maximum(np.rint((boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True)), 1)
    corner = np.rint((boxes[:, :2] + boxes[:, 2:] - side) / 2)
    return np.concatenate([corner, corner + side], axis=1)


def _place(boxes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points ``[F, 5, 2]`` from shares of the box, five x and then five y."""
    shares = points.reshape(-1, 2, 5).transpose(0, 2, 1)
    return boxes[:, None, :2] + shares * (boxes[:, 2:] - boxes[:, :2])[:, None]


def _suppress(boxes: np.ndarray, scores: np.ndarray, limit: float, *, smaller: bool = False) -> np.ndarray:
    """Positions, best first, of boxes that overlap no better one by more than ``limit`` of their union (or of the smaller)."""
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    order, kept = np.argsort(-scores, kind="stable"), []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        sides = np.minimum(boxes[best, 2:], boxes[order, 2:]) - np.maximum(boxes[best, :2], boxes[order, :2])
        shared = np.prod(np.maximum(sides, 0), axis=1)
        whole = np.minimum(areas[best], areas[order]) if smaller else areas[best] + areas[order] - shared
        order = order[shared <= limit * whole]
    return np.array(kept, dtype=int)


def _run_mtcnn(image: np.ndarray, min_size: int, min_score: float) -> Detections:
    pixels = _normalize(image)
    boxes, scores = _propose(pixels, min_size)
    boxes = _square(boxes[_suppress(boxes, scores, 0.7)])
    if len(boxes):
        scores, shift = _judge(pixels, boxes, "rnet")
        good = np.flatnonzero(scores >= _THRESHOLDS[1])
        good = good[_suppress(boxes[good], scores[good], 0.7)]
        boxes = _square(_shift(boxes[good], shift[good]))
    if not len(boxes):
        return Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty((0, 5, 2), np.float32))
    scores, shift, shares = _judge(pixels, boxes, "onet")
    points = _place(boxes, shares)
    boxes = _shift(boxes, shift)
    good = np.flatnonzero((scores >= min_score) & ((boxes[:, 2:] - boxes[:, :2]).max(axis=1) >= min_size))
    good = good[_suppress(boxes[good], scores[good], 0.7, smaller=True)]
    return Detections(boxes[good].astype(np.float32), scores[good].astype(np.float32), points[good].astype(np.float32))

"""From faces to what a network says of them: features, scores, predictions, confusion counts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ..augment import center_crop
from ..datasets.base import FaceDataset
from ..descriptors import to_grey
from ..metrics import count_confusions
from ..models import FaceModel

__all__ = ["evaluate", "extract_features", "has_bfloat16", "predict", "predict_scores", "prepare_images", "scale_pixels"]

#: Images converted together, which bounds memory.
_CHUNK = 256


def has_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32 there: a processor with AVX512-BF16 or AMX, or a GPU that has it."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # not public; on a processor without these instructions torch computes bfloat16 too, but slowly
    asked = (getattr(torch.cpu, name, bool) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return device.type == "cpu" and any(ask() for ask in asked)


def prepare_images(images: np.ndarray, in_channels: int, size: int | None = None) -> torch.Tensor:
    """Bring images to a network's colours, and to one size.

    Parameters
    ----------
    images : uint8 ``[N, H, W]`` or ``[N, H, W, 3]``
    in_channels : {1, 3}
        1: :func:`~fer_utils.descriptors.to_grey`. 3: RGB; grey images are repeated.
    size : int, optional
        Side to resize to, bilinearly and without aliasing. Without it images keep their size.

    Returns
    -------
    uint8 ``[N, in_channels, H, W]``

    Raises
    ------
    ValueError
        If the images are of another type or shape.
    """
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[3:] not in ((), (3,)):
        raise ValueError(f"images must be uint8 [N, H, W] or [N, H, W, 3], got {images.dtype} {list(images.shape)}")
    height, width = images.shape[1:3] if size is None else (size, size)
    channels = 1 if images.ndim == 3 else in_channels
    prepared = torch.empty(len(images), channels, height, width, dtype=torch.uint8)
    for start in range(0, len(images), _CHUNK):
        part = images[start : start + _CHUNK]
        part = torch.tensor(to_grey(part) if channels == 1 else part)
        planes = part.unsqueeze(1) if part.ndim == 3 else part.permute(0, 3, 1, 2)
        if planes.shape[2:] != prepared.shape[2:]:
            planes = torch.nn.functional.interpolate(planes.float(), (height, width), mode="bilinear", antialias=True).round().clamp(0, 255)
        prepared[start : start + _CHUNK] = planes
    return prepared.expand(-1, in_channels, -1, -1)


def scale_pixels(images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Divide uint8 images by 255 (Li & Deng 2019, V-B), on the device, in the order of memory that convolutions prefer."""
    return images.to(device, torch.float32).div_(255).contiguous(memory_format=torch.channels_last)


def run_batches(
    compute: Callable[[torch.Tensor], torch.Tensor], model: FaceModel, images: torch.Tensor, batch_size: int, autocast: bool = False
) -> torch.Tensor:
    """Compute something of the middle of each prepared image, batch by batch, in evaluation mode: float32 ``[N, ...]``, on the CPU."""
    if not len(images):
        raise ValueError("there are no images")
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    found = []
    try:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            for part in images.split(batch_size):
                found.append(compute(scale_pixels(center_crop(part, model.input_size), device)).float().cpu())
    finally:
        model.train(was_training)
    return torch.cat(found)


def _prepare_for(model: FaceModel, images: np.ndarray) -> torch.Tensor:
    return prepare_images(images, model.in_channels, model.image_size)


def extract_features(model: FaceModel, images: np.ndarray, *, batch_size: int = 256) -> np.ndarray:
    """Compute the features of faces, for a classifier on top such as the paper's SVM.

    Parameters
    ----------
    model : FaceModel
        Used in evaluation mode, where it is.
    images : uint8 ``[N, H, W]`` or ``[N, H, W, 3]``
        Whole faces, such as ``faces.images``: they are brought to the network's colours and ``image_size``, and the middle is cut out.
    batch_size : int

    Returns
    -------
    float32 ``[N, D]``

    Raises
    ------
    ValueError
        If there are no images, or they are of another type or shape, or too small.
    """
    return run_batches(model.embed, model, _prepare_for(model, images), batch_size).numpy()


def predict_scores(model: FaceModel, images: np.ndarray, *, batch_size: int = 256) -> np.ndarray:
    """Compute class scores before the softmax, float32 ``[N, K]``; arguments and errors as :func:`extract_features`."""
    return run_batches(model, model, _prepare_for(model, images), batch_size).numpy()


def predict(model: FaceModel, images: np.ndarray, *, batch_size: int = 256) -> np.ndarray:
    """Find the class with the highest score, int64 ``[N]``; arguments and errors as :func:`extract_features`."""
    return predict_scores(model, images, batch_size=batch_size).argmax(axis=1)


def evaluate(model: FaceModel, faces: FaceDataset, *, batch_size: int = 256) -> np.ndarray:
    """Count the confusions of a network on labelled faces.

    Parameters
    ----------
    model : FaceModel
    faces : FaceDataset
    batch_size : int

    Returns
    -------
    int64 ``[K, K]``
        Rows are the truth; what :mod:`fer_utils.metrics` measures.

    Raises
    ------
    ValueError
        If the network has another number of classes, or as :func:`extract_features`.
    """
    if len(faces.classes) != model.num_classes:
        raise ValueError(f"{faces.name} has {len(faces.classes)} classes, the network {model.num_classes}")
    return count_confusions(faces.labels, predict(model, faces.images, batch_size=batch_size), range(model.num_classes))

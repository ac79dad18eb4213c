"""From faces to what a network says of them: features, scores, predictions; and outputs of a frozen part, computed once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from ..augment import center_crop
from ..datasets.base import FaceDataset
from ..files import cache_root, replace_whole, write_rows
from ..models import FaceModel, load_face_network
from ..models.face_network import STAGES
from .checkpoint import checksum
from .data import Samples, iterate_images, scale_pixels
from .fingerprint import checksum_arrays

__all__ = [
    "cache_face_maps", "cache_outputs", "compute_named", "evaluation_mode", "exact_cudnn", "extract_features", "has_bfloat16", "keep_rows",
    "predict", "predict_scores",
]


def has_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32 there: a processor with AVX512-BF16 or AMX, or a GPU that has it."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # not public; on a processor without these instructions torch computes bfloat16 too, but slowly
    asked = (getattr(torch.cpu, name, bool) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return device.type == "cpu" and any(ask() for ask in asked)


def exact_cudnn() -> AbstractContextManager[None]:
    """The same convolutions on a GPU every time, and float32 that is float32: cuDNN would round what it multiplies to 11 bits (TF32)."""
    return torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)


@contextmanager
def evaluation_mode(*modules: nn.Module) -> Iterator[None]:
    """Modules in evaluation mode, without gradients; afterwards each is in the mode in which it was."""
    modes = [(module, module.training) for whole in modules for module in whole.modules()]
    try:
        for whole in modules:
            whole.eval()
        with torch.inference_mode():
            yield
    finally:
        for module, training in modes:
            module.training = training


def compute_batches(
    compute: Callable[[torch.Tensor], torch.Tensor], model: FaceModel, data: Any, batch_size: int, workers: int | None = None
) -> Iterator[torch.Tensor]:
    """Apply ``compute`` to the centre crop of each image, batch by batch, in evaluation mode: float32 ``[B, ...]``, on the CPU."""
    device = next(model.parameters()).device
    with evaluation_mode(model), exact_cudnn():
        for images in iterate_images(data, model, batch_size, workers):
            yield compute(scale_pixels(center_crop(images, model.input_size), device)).float().cpu()


def extract_features(model: FaceModel, data: Any, *, batch_size: int = 256, workers: int | None = None) -> np.ndarray:
    """Compute the features of faces, for a classifier on top such as the paper's SVM.

    Parameters
    ----------
    model : FaceModel
        Used in evaluation mode, where it is.
    data : uint8 ``[N, H, W]`` or ``[N, H, W, 3]``, FaceDataset, torch Dataset or DataLoader
        Whole faces, such as ``faces.images``: they are brought to the network's colours and ``image_size``, and the middle is cut out.
        A torch dataset's images, and those of a ``FaceDataset`` with ``workers``, are read batch by batch.
    batch_size : int
    workers : int, optional
        Processes that read images from disk.

    Returns
    -------
    float32 ``[N, D]``

    Raises
    ------
    ValueError
        If there are no images, or they are of another type or shape, or too small.
    """
    return torch.cat(list(compute_batches(model.embed, model, data, batch_size, workers))).numpy()


def predict_scores(model: FaceModel, data: Any, *, batch_size: int = 256, workers: int | None = None) -> np.ndarray:
    """Compute class scores before the softmax, float32 ``[N, K]``.

    Parameters
    ----------
    model, data, batch_size, workers
        As :func:`extract_features`.

    Raises
    ------
    ValueError
        As :func:`extract_features`.
    """
    return torch.cat(list(compute_batches(model, model, data, batch_size, workers))).numpy()


def predict(model: FaceModel, data: Any, *, batch_size: int = 256, workers: int | None = None) -> np.ndarray:
    """Find the class with the highest score, int64 ``[N]``.

    Parameters
    ----------
    model, data, batch_size, workers
        As :func:`extract_features`.

    Raises
    ------
    ValueError
        As :func:`extract_features`.
    """
    return predict_scores(model, data, batch_size=batch_size, workers=workers).argmax(axis=1)


def cache_outputs(
    compute: Callable[[torch.Tensor], torch.Tensor], model: FaceModel, faces: FaceDataset, *, name: str, batch_size: int = 64
) -> Samples:
    """Compute what a frozen part makes of faces, once: the next call with the same weights and images reads it from the cache.

    Parameters
    ----------
    compute : callable
        Takes images float ``[B, C, S, S]``, as the network does, and gives float ``[B, ...]``: a method or a part of ``model``.
    model : FaceModel
        Whose weights and sizes decide the outputs.
    faces : FaceDataset
        The middle of each image is looked at; there is no augmentation of what was computed once.
    name : str
        Of what is computed, such as ``"features"``: it tells apart what different parts of one network give.
    batch_size : int

    Returns
    -------
    Samples
        To be given to :func:`~fer_utils.training.fit.fit`. Its inputs, float32 ``[N, ...]``, are mapped from a file in the folder of
        :func:`~fer_utils.files.cache_root`; where there is none they are in memory.

    Raises
    ------
    ValueError
        As :func:`extract_features`.
    """
    key = f"{name} {model.name} {model.settings} {checksum(model.state_dict())} {checksum_arrays(faces.images)}"
    inputs = keep_rows(key, lambda: (batch.numpy() for batch in compute_batches(compute, model, faces, batch_size)), len(faces))
    return Samples(f"{name} of {faces.name}", inputs, faces.labels, faces.classes)


def keep_rows(key: str, make_parts: Callable[[], Iterable[np.ndarray]], count: int) -> np.ndarray:
    """Rows that are expensive to compute, from the cache where they are kept.

    Parameters
    ----------
    key : str
        Everything that decides the rows.
    make_parts : callable
        Gives the rows in order, arrays ``[B, ...]``; not called where they are kept.
    count : int
        Rows of all parts together.

    Returns
    -------
    array ``[count, ...]``
        Mapped from a file in the folder of :func:`~fer_utils.files.cache_root`; where there is none, in memory.
    """
    root = cache_root()
    if root is None:
        return np.concatenate(list(make_parts()))
    path = root / "outputs" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npy"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_whole(path) as partial:
            write_rows(partial, make_parts(), count)
    return np.load(path, mmap_mode="r", allow_pickle=False)


def cache_face_maps(faces: FaceDataset, stage: str, *, mirrored: bool = False) -> Samples:
    """Compute maps of the face network that ships, once for all experiments; see :func:`cache_outputs`.

    Parameters
    ----------
    faces : FaceDataset
    stage : str
        Whose maps, one of ``fer_utils.models.face_network.STAGES``.
    mirrored : bool
        Of the faces' mirror images.
    """
    network = load_face_network(seed=0)  # the last layer plays no part, but belongs to the name of the cached file
    lower = network.body[: STAGES.index(stage) + 1]
    name = f"{stage}{' mirrored' if mirrored else ''}"
    return cache_outputs(lambda images: lower(images.flip(-1) if mirrored else images), network, faces, name=name)


def compute_named(model: nn.Module, inputs: np.ndarray, name: str, *, batch_size: int = 256) -> np.ndarray:
    """Compute one of a module's named outputs from inputs that are no faces, such as maps of a frozen part.

    Parameters
    ----------
    model : nn.Module
        With ``compute_outputs``; used in evaluation mode, where it is.
    inputs : float32 ``[N, ...]``
    name : str
    batch_size : int

    Returns
    -------
    float32 ``[N, ...]``
    """
    device, found = next(model.parameters()).device, []
    with evaluation_mode(model):
        for start in range(0, len(inputs), batch_size):
            batch = torch.tensor(inputs[start : start + batch_size], device=device)  # a copy: the array may be locked
            found.append(model.compute_outputs(batch)[name].float().cpu())
    return torch.cat(found).numpy()

"""What is looked at in a network by the run that trained it: maps, removal, clusters, and what decoders draw."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import torch
from sklearn.metrics import silhouette_samples

from ...augment import center_crop
from ...datasets.base import FaceDataset
from ...localisation import compute_grad_cam, follow_removal, make_centred_gaussian
from ...training import prepare_images
from ...training.data import scale_pixels
from ...training.features import compute_named
from .model import DAMCNN, SerdNetwork
from .recipe import Looks, StageOne
from .stages import compute_seen, part_for, prepare_faces

__all__ = [
    "CURVES", "look_at_decoders", "look_at_maps", "look_at_removal", "measure_neighbours", "measure_silhouettes",
    "spread_over_folds",
]

#: Maps in whose order faces lose places.
CURVES = ("SERD mask", "Grad-CAM", "centred Gaussian", "random")
_BATCH = 64


def look_at_maps(network: SerdNetwork, faces: FaceDataset, recipe: StageOne) -> dict[str, np.ndarray]:
    """Compute masks and Grad-CAM of faces.

    Grad-CAM is that of the maps before SERD and of the class that the network says, each scaled to a maximum of 1.

    Parameters
    ----------
    network : SerdNetwork
    faces : FaceDataset
    recipe : StageOne
        The one that the network was built by.

    Returns
    -------
    dict of str to float16 ``[N, S, S]``
        ``cam``, and with SERD ``mask``.
    """
    part, seen = part_for(network, recipe), prepare_faces(faces, recipe)

    def score(maps: torch.Tensor) -> torch.Tensor:
        salient = maps if network.serd is None else network.serd(maps)[1]
        return network.classifier(network.head(salient))

    maps = torch.from_numpy(compute_seen(part, seen, "maps"))
    device = next(network.parameters()).device
    cam = torch.cat([compute_grad_cam(score, batch.to(device)).cpu() for batch in maps.split(_BATCH)]).numpy()
    found = {"cam": (cam / np.maximum(cam.max((1, 2), keepdims=True), 1e-12)).astype(np.float16)}
    if network.serd is not None:
        found["mask"] = compute_seen(part, seen, "mask")[:, 0].astype(np.float16)
    return found


def look_at_removal(
    network: SerdNetwork, faces: FaceDataset, maps: Mapping[str, np.ndarray], looks: Looks, seed: int
) -> dict[str, Any]:
    """Follow what the network says of faces that lose places, and get them back, in the order of maps.

    Parameters
    ----------
    network : SerdNetwork
    faces : FaceDataset
        ``N`` of them.
    maps : dict of str to float ``[N, S, S]``
        ``mask`` and ``cam`` of :func:`look_at_maps`.
    looks : Looks
    seed : int
        Of the random order.

    Returns
    -------
    dict of str to float16 ``[N, points + 1]``
        ``deletion <map>`` and ``insertion <map>``.
    """
    shape = maps["mask"].shape
    gaussian = np.broadcast_to(make_centred_gaussian(*shape[1:], spread=looks.spread), shape)
    drawn = np.random.default_rng(seed).random(shape)
    orders = dict(zip(CURVES, (maps["mask"], maps["cam"], gaussian, drawn), strict=True))
    found: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(faces), _BATCH):
        rows = slice(start, start + _BATCH)
        images = prepare_images(faces.images[rows], network.in_channels, network.image_size)
        images = scale_pixels(center_crop(images, network.input_size), next(network.parameters()).device)
        for name, order in orders.items():
            for kind in ("deletion", "insertion"):
                insert = kind == "insertion"
                curve = follow_removal(network, images, order[rows].astype(float), looks.points, insert=insert)
                found.setdefault(f"{kind} {name}", []).append(curve)
    return {name: np.concatenate(parts).astype(np.float16) for name, parts in found.items()}


def measure_silhouettes(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Silhouettes of faces among their classes (Rousseeuw 1987).

    Parameters
    ----------
    features : float ``[N, ...]``
    labels : int ``[N]``

    Returns
    -------
    float64 ``[N]``
        From -1 to 1; NaN if there is one class alone.
    """
    if not 1 < len(np.unique(labels)) < len(labels):
        return np.full(len(labels), np.nan)
    return silhouette_samples(features.reshape(len(features), -1), labels)


def measure_neighbours(masks: np.ndarray) -> np.ndarray:
    """Correlate the weights of neighbouring places, below and beside each other, in each mask.

    Parameters
    ----------
    masks : float ``[N, S, S]``

    Returns
    -------
    float64 ``[N]``
        Pearson's correlation over the pairs; NaN for a mask that is the same everywhere.
    """
    masks = masks.astype(float)
    count = len(masks)
    first = np.concatenate([masks[:, :-1].reshape(count, -1), masks[:, :, :-1].reshape(count, -1)], 1)
    second = np.concatenate([masks[:, 1:].reshape(count, -1), masks[:, :, 1:].reshape(count, -1)], 1)
    first, second = (each - each.mean(1, keepdims=True) for each in (first, second))
    scale = np.sqrt(np.square(first).sum(1) * np.square(second).sum(1))
    return np.divide((first * second).sum(1), scale, out=np.full(count, np.nan), where=scale > 1e-12)


def spread_over_folds(right: np.ndarray, fold: np.ndarray) -> tuple[float, np.ndarray]:
    """The standard deviation of the accuracy over folds, and what each face adds to it.

    Parameters
    ----------
    right : bool ``[N]``
    fold : int ``[N]``
        In which fold each face was tested.

    Returns
    -------
    float
        Of all folds: divided by their number, as the paper's on SFEW is.
    float64 ``[N]``
        Jackknife pseudo-values, shifted so that their mean is the deviation.
    """
    _, place, sizes = np.unique(fold, return_inverse=True, return_counts=True)
    hits = np.bincount(place, right, len(sizes))
    value = float((hits / sizes).std())
    # accuracies of all folds, without each face in turn
    without = np.tile(hits / sizes, (len(right), 1))
    without[np.arange(len(right)), place] = (hits[place] - right) / np.maximum(sizes[place] - 1, 1)
    pseudo = len(right) * value - (len(right) - 1) * without.std(1)
    return value, pseudo - pseudo.mean() + value


# -- decoders ----------------------------------------------------------------------------------------------------------


def look_at_decoders(
    model: DAMCNN, salient: np.ndarray, labels: np.ndarray, train_salient: np.ndarray, train_labels: np.ndarray,
    seed: int,
) -> dict[str, np.ndarray]:
    """Encode faces, and say what each decoder draws of them, in units of salient features.

    Parameters
    ----------
    model : DAMCNN
    salient, train_salient : float32 ``[M, C, S, S]`` and ``[N, C, S, S]``
        Of test faces, and of training faces.
    labels, train_labels : int64 ``[M]`` and ``[N]``
    seed : int
        Of the other face of the class that a reconstruction is compared with.

    Returns
    -------
    dict of str to array
        ``representation`` uint8 ``[M, hidden]`` in steps of 1/255; ``nearest`` int32 ``[M, paths]``, the training face
        that is nearest to what a decoder draws; and float32 ``[M]``: ``error``, the squared distance from another test
        face of the class, over that face's squared length, a mean over decoders; ``floor``, the part of it that lies
        above what a sigmoid can reach; ``spread``, the distance between what two decoders draw, over that between two
        training faces of the class; ``to mean``, the distance of what is drawn from the class's mean, over that of a
        training face.
    """
    representation = compute_named(model.second_stage(), salient, "representation", batch_size=_BATCH)
    ceiling, device = model.mpae.ceiling.cpu().numpy(), model.mpae.ceiling.device
    train = train_salient.reshape(len(train_salient), -1)
    means, sizes = _measure_classes(train, train_labels)
    lengths = np.square(train).sum(1)
    targets = _draw_others(labels, np.random.default_rng(seed))
    found: dict[str, list[np.ndarray]] = {name: [] for name in ("nearest", "error", "floor", "spread", "to mean")}
    for start in range(0, len(salient), _BATCH):
        rows = slice(start, start + _BATCH)
        with torch.inference_mode():
            drawn = model.mpae.decode(torch.from_numpy(representation[rows]).to(device))  # [B, paths, C, S, S]
        drawn = (drawn.cpu().numpy() * ceiling).reshape(*drawn.shape[:2], -1)
        other = salient[targets[rows]].astype(np.float32)
        above = np.square(np.maximum(other - ceiling, 0)).sum((1, 2, 3))
        other = other.reshape(len(other), -1)
        length = np.maximum(np.square(other).sum(1), 1e-12)
        size = np.maximum(sizes[labels[rows]], 1e-12)
        nearest = (lengths - 2 * drawn @ train.T).argmin(2)
        pairs = [np.linalg.norm(drawn[:, i] - drawn[:, j], axis=1) for i, j in combinations(range(drawn.shape[1]), 2)]
        found["nearest"].append(nearest.astype(np.int32))
        found["error"].append(np.square(drawn - other[:, None]).sum(2).mean(1) / length)
        found["floor"].append(above / length)
        # two faces of a class are sqrt(2) times as far apart as one is from the mean
        found["spread"].append((np.mean(pairs, axis=0) if pairs else np.zeros(len(drawn))) / (np.sqrt(2) * size))
        found["to mean"].append(np.linalg.norm(drawn - means[labels[rows]][:, None], axis=2).mean(1) / size)
    arrays = {name: np.concatenate(parts) for name, parts in found.items()}
    floats = {name: values.astype(np.float32) for name, values in arrays.items() if name != "nearest"}
    return {"representation": np.rint(255 * representation).astype(np.uint8), "nearest": arrays["nearest"], **floats}


def _measure_classes(flat: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means ``[K, D]`` of classes, and their faces' root mean square distance from them ``[K]``."""
    means, sizes = np.zeros((labels.max() + 1, flat.shape[1]), np.float32), np.zeros(labels.max() + 1)
    for k in np.unique(labels):
        own = flat[labels == k]
        means[k] = own.mean(0)
        sizes[k] = np.sqrt(np.square(own - means[k]).sum(1).mean())
    return means, sizes


def _draw_others(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each face another of its class, the face itself where it is alone."""
    chosen = np.arange(len(labels))
    for k in np.unique(labels):
        own = rng.permutation(np.flatnonzero(labels == k))
        chosen[own] = np.roll(own, 1)
    return chosen

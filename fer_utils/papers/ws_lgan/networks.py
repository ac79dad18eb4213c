"""The two stages of a training, and maps that are computed once.

The generator is frozen and the paper's fourteen images of a face are always the same. So their attention maps can be made once for all
trainings on these faces (:func:`derive_samples`, :class:`OnMaps`) instead of in every step; the weights that come out differ only by the
half precision in which maps are kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import nn

from ...augment import ROTATIONS, center_crop, random_rotate_and_flip, rotate_and_flip
from ...datasets.base import FaceDataset
from ...models import build_model
from ...training import FitSettings, History, Hook, Pairs, Samples, fit, prepare_images
from ...training.checkpoint import checksum
from ...training.data import scale_pixels
from ...training.features import evaluation_mode, exact_cudnn, keep_rows
from ...training.fingerprint import checksum_arrays
from .attributes import AttributeTask
from .model import WSLGAN, AttributeNetwork
from .objective import make_objective
from .recipe import Generator, Recognition

__all__ = [
    "METHODS", "OnMaps", "build_attribute_network", "build_network", "derive_samples", "rotate_flip_and_crop", "train_attribute_network",
    "train_network",
]

#: Rows of Tables VIII to X, and what their networks are built with.
METHODS: Mapping[str, Mapping[str, str]] = {
    "WS-LGAN": {}, "GFNet": {"features": "global"}, "LFNet": {"features": "local"}, "WS-LGAN-Sum": {"fusion": "sum"},
    "WS-LGAN-Concat": {"fusion": "concatenate"}, "WS-LGAN-WCL": {},
}
VARIANTS = 2 * len(ROTATIONS)
#: Faces whose variants are made together: on a CPU more are slower, as tensors above 32 MB are given back to the system each
#: time and taken anew.
_FACES = 4


def rotate_flip_and_crop(images: torch.Tensor, generator: torch.Generator, size: int) -> torch.Tensor:
    """Take one of the paper's fourteen images of each (IV-B): the augmentation of both stages.

    Parameters
    ----------
    images : uint8 or float ``[B, C, H, W]``
    generator : torch.Generator
    size : int
        Side of the middle that is cut out, in pixels.
    """
    return center_crop(random_rotate_and_flip(images, generator), size)


# -- first stage ----------------------------------------------------------------------------------------------------------


def build_attribute_network(recipe: Generator, seed: int) -> AttributeNetwork:
    """Build a branch of the generator; grey images of the recipe's side.

    Parameters
    ----------
    recipe : Generator
    seed : int
    """
    model = build_model(
        AttributeNetwork.name, seed=seed, input_size=recipe.input_size, image_size=recipe.input_size, layers=recipe.layers,
        growth=recipe.growth, compression=recipe.compression,
    )
    assert isinstance(model, AttributeNetwork)
    return model


def train_attribute_network(
    task: AttributeTask, recipe: Generator, seed: int, *, checkpoint: str | os.PathLike[str] | None = None, hooks: Sequence[Hook] = ()
) -> tuple[AttributeNetwork, History]:
    """Train a branch of the generator; it ends with the weights that did best on the validation faces. A killed run goes on.

    Parameters
    ----------
    task : AttributeTask
    recipe : Generator
    seed : int
    checkpoint : path, optional
    hooks : sequence of Hook
    """
    model = build_attribute_network(recipe, seed)
    settings = FitSettings(
        steps=recipe.steps, batch_size=recipe.batch_size, learning_rate=recipe.learning_rate, momentum=recipe.momentum,
        milestones=recipe.milestones, gamma=recipe.gamma, weight_decay=recipe.weight_decay, last_weight_decay=recipe.weight_decay,
        validate_every=recipe.validate_every, precision=recipe.precision, seed=seed,
    )
    held_back = np.arange(len(task.train), len(task.train) + len(task.validation))
    validation = task.validation.replace(split=np.full(len(task.validation), "train"))
    faces = task.train.replace(split=np.full(len(task.train), "train")).join(validation)
    history = fit(
        model, faces, settings, augment=rotate_flip_and_crop, held_back=held_back, hooks=hooks, checkpoint=checkpoint, progress=False
    )
    return model, history


# -- second stage ---------------------------------------------------------------------------------------------------------


def build_network(
    method: str, recipe: Recognition, generator: Generator, seed: int, num_classes: int = 7,
    branches: tuple[AttributeNetwork, AttributeNetwork] | None = None,
) -> WSLGAN:
    """Build the network of a method; those of one seed start alike.

    Parameters
    ----------
    method : str
        Of :data:`METHODS`.
    recipe, generator : Recognition and Generator
        Of one size.
    seed : int
    num_classes : int
    branches : (AttributeNetwork, AttributeNetwork), optional
        Trained ones of eyes and mouth; without them the maps are those of random weights.

    Raises
    ------
    ValueError
        For an unknown method, or recipes of two sizes.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; expected one of {', '.join(METHODS)}")
    for name in ("growth", "compression", "input_size"):
        if getattr(recipe, name) != getattr(generator, name):
            given = f"{getattr(recipe, name)} and {getattr(generator, name)}"
            raise ValueError(f"{name} must be the same in both stages, got {given}; take both recipes at one profile")
    model = build_model(
        WSLGAN.name, seed=seed, num_classes=num_classes, input_size=recipe.input_size, image_size=recipe.input_size, layers=recipe.layers,
        amg_layers=generator.layers, growth=recipe.growth, compression=recipe.compression, embedding=recipe.embedding,
        reduction=recipe.reduction, evidence=generator.evidence, **METHODS[method],
    )
    assert isinstance(model, WSLGAN)
    if branches is not None:
        model.set_branches(*branches)
    return model


def train_network(
    model: WSLGAN, data: FaceDataset | Samples, method: str, recipe: Recognition, seed: int, *, pretraining: bool = False,
    global_weight: float | None = None, checkpoint: str | os.PathLike[str] | None = None, hooks: Sequence[Hook] = (),
) -> History:
    """Train a network on pairs, in place; its generator stays as it is. A killed run goes on.

    Parameters
    ----------
    model : WSLGAN
        Of :func:`build_network`; or pre-trained.
    data : FaceDataset or Samples
        Training faces, or what :func:`derive_samples` made of them.
    method : str
        Decides the losses.
    recipe : Recognition
    seed : int
        Draws pairs and augmentation.
    pretraining : bool
        At the rate and for the steps of the pre-training.
    global_weight : float, optional
        Lambda 3, the recipe's by default.
    checkpoint : path, optional
    hooks : sequence of Hook
    """
    steps = recipe.pretraining_steps if pretraining else recipe.steps
    settings = FitSettings(
        steps=steps, batch_size=recipe.batch_size, learning_rate=recipe.pretraining_rate if pretraining else recipe.learning_rate,
        momentum=recipe.momentum, milestones=tuple(round(share * steps) for share in recipe.drops), gamma=recipe.gamma,
        weight_decay=recipe.weight_decay, last_weight_decay=recipe.weight_decay, precision=recipe.precision, seed=seed,
    )
    trained = OnMaps(model) if isinstance(data, Samples) else model
    history = fit(
        trained, data, settings, objective=make_objective(method, model, recipe, global_weight), sampler=Pairs(recipe.same),
        augment=rotate_flip_and_crop, hooks=hooks, checkpoint=checkpoint, progress=False,
    )
    model.eval()
    return history


# -- maps that are computed once ------------------------------------------------------------------------------------------


class OnMaps(nn.Module):
    """A network that is given attention maps together with each image, as :func:`derive_samples` packs them.

    Parameters
    ----------
    network : WSLGAN
        It is trained in place.
    """

    def __init__(self, network: WSLGAN) -> None:
        super().__init__()
        self.network = network
        self.num_classes = network.num_classes
        self.settings = network.settings

    @property
    def classifier(self) -> nn.Linear:
        """The network's last layer."""
        return self.network.classifier

    def compute_outputs(self, packed: torch.Tensor) -> dict[str, torch.Tensor]:
        """As :meth:`WSLGAN.compute_outputs`, of rows ``[B, C * S * S + 2 * H * W]``, half precision: pixels from 0 to 255, then maps."""
        channels, side = self.network.in_channels, self.network.input_size
        pixels, maps = packed.float().split([channels * side**2, packed.shape[1] - channels * side**2], dim=1)
        images = (pixels / 255).view(-1, channels, side, side)
        if not maps.shape[1]:
            return self.network.compute_outputs(images)
        across = round((maps.shape[1] / 2) ** 0.5)
        return self.network.compute_outputs(images, maps.view(-1, 2, across, across))


def derive_samples(model: WSLGAN, faces: FaceDataset) -> Samples:
    """Make the fourteen images of each face and, with the network's generator, their attention maps; once.

    The next call for these faces, with any network of this generator, reads them from the folder of
    :func:`~fer_utils.files.cache_root`: at 48 pixels 73 kB a face. Where there is no such folder they are in memory.

    Parameters
    ----------
    model : WSLGAN
        Used where it is. GFNet's samples have no maps.
    faces : FaceDataset

    Returns
    -------
    Samples
        float16 ``[14 N, C * S * S + 2 * H * W]``, which :class:`OnMaps` reads; the fourteen of the first face come first.
    """
    labels, name = np.repeat(faces.labels, VARIANTS), f"variants of {faces.name}"
    sizes = (model.in_channels, model.input_size, model.image_size, ROTATIONS)
    made_by = "" if model.generator is None else f"{model.generator.evidence} {checksum(model.generator.state_dict())}"
    key = f"variants {sizes} {made_by} {checksum_arrays(faces.images)}"
    return Samples(name, keep_rows(key, lambda: _derive(model, faces), len(labels)), labels, faces.classes)


def _derive(model: WSLGAN, faces: FaceDataset) -> Iterator[np.ndarray]:
    device = next(model.parameters()).device
    images = prepare_images(faces.images, model.in_channels, model.image_size)
    for start in range(0, len(images), _FACES):
        variants = center_crop(rotate_and_flip(images[start : start + _FACES]), model.input_size)  # [14 * faces, C, S, S]
        parts = [variants.flatten(1).half()]
        if model.generator is not None:
            with evaluation_mode(model), exact_cudnn():
                parts.append(model.generator(scale_pixels(variants, device)).flatten(1).half().cpu())
        yield torch.cat(parts, dim=1).numpy()

"""Training DAF-CNN as Keras users do, by ``compile`` and ``fit``, from batches that are a function of the seed and their number."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import DataError
from ...training.checkpoint import read_state, write_state
from ...training.data import prepare_images
from ...training.fingerprint import checksum_arrays, describe
from ...training.sampling import Pool, Sampler, Shuffled
from .backend import keras
from .callbacks import ReduceAndReload, ResumeTraining
from .model import build_daf_cnn
from .objective import JointSupervision
from .recipe import DAFCNN

__all__ = [
    "DrawnBatches", "Trained", "build_network", "compute_layers", "load_network", "prepare_faces", "save_network", "train",
]


#: What of a recipe belongs to the network.
_NETWORK = (
    "input_size", "image_size", "in_channels", "width", "convolutions", "channels", "pools", "attention", "reduction", "net_output",
    "kernel_size", "pool_over", "dense", "embedding_size", "dropout",
)


class DrawnBatches(keras.utils.PyDataset):
    """Batches of an epoch, drawn from the seed and the number of the batch: a training that is resumed draws what it would have drawn.

    Give it to ``fit`` with ``shuffle=False``, and :meth:`follow` to its callbacks.

    Parameters
    ----------
    images : array ``[N, H, W, C]``
    labels : int ``[N]``
    batch_size : int
    images_per_batch : int
        An epoch has a batch for so many images, at least one; 128 in Zhou et al., 4.2, whatever the size of a batch.
    seed : int
    sampler : Sampler
        All samples in random order by default, epochs one behind the other.

    Raises
    ------
    ValueError
        If there is not one label per image, at least one, or a size is below 1.
    """

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, batch_size: int, *, images_per_batch: int | None = None, seed: int = 0,
        sampler: Sampler | None = None,
    ) -> None:
        super().__init__()
        if len(images) != len(labels) or not len(labels):
            raise ValueError(f"expected images with one label each, at least one, got {len(images)} and {len(labels)}")
        if batch_size < 1 or (images_per_batch or batch_size) < 1:
            raise ValueError(f"batch_size and images_per_batch must be at least 1, got {batch_size} and {images_per_batch}")
        self.images, self.labels = images, np.asarray(labels, np.int32)
        self._count, self.epoch = max(1, len(labels) // (images_per_batch or batch_size)), 0
        pool = Pool(len(labels), self.labels.astype(np.int64))
        self._order = (sampler or Shuffled()).make_order(pool, batch_size, seed)

    @property
    def num_batches(self) -> int:
        """Of an epoch."""
        return self._count

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        positions = self._order(self.epoch * self._count + number).numpy()
        return self.images[positions], self.labels[positions]

    def follow(self) -> Any:
        """The callback that tells which epoch it is."""
        return keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: setattr(self, "epoch", epoch))


@dataclass(frozen=True, eq=False)
class Trained:
    """How a training went.

    Attributes
    ----------
    model : JointSupervision
        With the best weights.
    logs : list of dict
        Of each epoch: ``loss``, ``softmax_loss``, ``tc_loss``, ``accuracy``, and the same with ``val_``.
    plateau : ReduceAndReload
        Knows the best epoch, the rates and the reloads.
    """

    model: JointSupervision
    logs: list[dict[str, float]]
    plateau: ReduceAndReload


def build_network(recipe: DAFCNN, num_classes: int = 7, *, seed: int = 0) -> Any:
    """Build a recipe's network.

    Parameters
    ----------
    recipe : DAFCNN
    num_classes : int
    seed : int
        Draws the first weights, the augmentation and what is dropped.

    Returns
    -------
    keras.Model
        As :func:`~fer_utils.papers.daf_cnn.model.build_daf_cnn`.

    Raises
    ------
    ValueError
        As :func:`~fer_utils.papers.daf_cnn.model.build_daf_cnn`.
    """
    return build_daf_cnn(num_classes, seed=seed, **{name: getattr(recipe, name) for name in _NETWORK})


def prepare_faces(images: np.ndarray, recipe: DAFCNN) -> np.ndarray:
    """Bring whole faces to what the network takes.

    Parameters
    ----------
    images : uint8 ``[N, H, W]`` or ``[N, H, W, 3]``
    recipe : DAFCNN
        For the colours and the side ``S``.

    Returns
    -------
    uint8 ``[N, S, S, C]``
    """
    return prepare_images(images, recipe.in_channels, recipe.image_size).permute(0, 2, 3, 1).contiguous().numpy()


def train(
    model: JointSupervision, train: tuple[np.ndarray, np.ndarray], validation: tuple[np.ndarray, np.ndarray], recipe: DAFCNN, *,
    seed: int = 0, checkpoint: Path | None = None, sampler: Sampler | None = None, verbose: int = 0,
) -> Trained:
    """Train a model by a recipe, or go on where a checkpoint ends.

    Parameters
    ----------
    model : JointSupervision
        Built as for the first call, where a checkpoint is gone on with.
    train, validation : (uint8 ``[N, S, S, C]``, int ``[N]``)
        Of :func:`prepare_faces`. The validation part belongs to the training faces; the learning rate and the weights that are returned are
        chosen by it, so it must not be the part that results are reported on.
    recipe : DAFCNN
    seed : int
        Draws the batches.
    checkpoint : Path, optional
        Written after each epoch.
    sampler : Sampler, optional
        See :class:`DrawnBatches`.
    verbose : {0, 1, 2}
        As Keras'.

    Raises
    ------
    ValueError
        If a label is no class of the network, or images and labels do not fit.
    DataError
        If the checkpoint is damaged, or of another training.
    ArithmeticError
        If the loss is not finite and there is a checkpoint to write.
    """
    classes = model.network.output["scores"].shape[1]
    for name, (_, labels) in (("training", train), ("validation", validation)):
        if not len(labels) or np.min(labels) < 0 or np.max(labels) >= classes:
            raise ValueError(f"the {name} labels must be 0 to {classes - 1}, at least one, got {np.unique(labels).tolist()}")
    batches = DrawnBatches(*train, recipe.batch_size, images_per_batch=recipe.images_per_batch, seed=seed, sampler=sampler)
    model.compile(optimizer=keras.optimizers.Adam(recipe.learning_rate), metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")])
    plateau = ReduceAndReload(
        min_delta=recipe.min_delta, patience=recipe.patience, factor=recipe.factor, least_rate=recipe.least_rate
    )
    plateau.set_model(model)
    callbacks, begin, resume = [batches.follow(), plateau], 0, None
    if checkpoint is not None:
        made_for = {
            "recipe": json.loads(json.dumps(recipe.as_arguments())), "seed": seed, "sampler": describe(sampler or Shuffled()),
            "training faces": checksum_arrays(*train), "validation faces": checksum_arrays(*validation),
            "weights at the start": checksum_arrays(*model.get_weights()), "objective": [model.weight, model.softmax_weight],
        }
        resume = ResumeTraining(checkpoint, follow=[plateau], made_for=made_for)
        begin = resume.load(model)
        callbacks.append(resume)
    if resume is not None and resume.done:
        plateau.reload_best()
        return Trained(model, resume.logs, plateau)
    history = model.fit(
        batches, epochs=recipe.epochs, initial_epoch=begin, shuffle=False, validation_data=validation, validation_batch_size=256,
        callbacks=callbacks, verbose=verbose,
    ).history
    logs = [dict(zip(history, map(float, values), strict=True)) for values in zip(*history.values(), strict=True)]
    return Trained(model, logs if resume is None else resume.logs, plateau)


# -- a trained network ----------------------------------------------------------------------------------------------------


def compute_layers(
    network: Any, images: np.ndarray, names: Sequence[str], *, batch_size: int = 256
) -> dict[str, np.ndarray]:
    """Compute what layers of a network give, in evaluation mode.

    Parameters
    ----------
    network : keras.Model
        Of :func:`~fer_utils.papers.daf_cnn.model.build_daf_cnn`.
    images : uint8 ``[N, S, S, C]``
        Of :func:`prepare_faces`.
    names : sequence of str
        Such as ``"embedding"``, ``"scores"``, ``"channel_attention"`` or ``"spatial_attention"``.
    batch_size : int

    Returns
    -------
    dict of str to float32 ``[N, ...]``
    """
    looked = keras.Model(network.input, {name: network.get_layer(name).output for name in names})
    return looked.predict(images, batch_size=batch_size, verbose=0)


def save_network(network: Any, path: Path, recipe: DAFCNN, provenance: Mapping[str, Any]) -> None:
    """Write a network to ship, in half precision: the weights by their paths, what builds it, and where it comes from.

    ``network.save("network.keras")`` writes more, and another file each time: the date stands in it.

    Parameters
    ----------
    network : keras.Model
        Of :func:`build_network`.
    path : Path
    recipe : DAFCNN
        The one that it was built by.
    provenance : mapping
        What JSON can hold.
    """
    tensors = {}
    for weight in network.weights:
        whole = torch.tensor(keras.ops.convert_to_numpy(weight))
        tensors[weight.path] = whole.half() if whole.half().isfinite().all() else whole
    built = {"num_classes": network.output["scores"].shape[1], **{name: getattr(recipe, name) for name in _NETWORK}}
    write_state(path, tensors, {"network": built, "provenance": dict(provenance)})


def load_network(path: Path) -> tuple[Any, dict[str, Any]]:
    """Read a network that :func:`save_network` wrote.

    Returns
    -------
    keras.Model
        In float32.
    dict
        Its provenance.

    Raises
    ------
    DataError
        If the file is missing, damaged or something else, or its weights do not fit the network that it names.
    """
    tensors, content = read_state(path)
    try:
        network = build_daf_cnn(**content["network"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError.at(path, f"names no network ({error})", "a file of save_network") from error
    wanted = {weight.path: tuple(weight.shape) for weight in network.weights}
    if wanted != {name: tuple(tensor.shape) for name, tensor in tensors.items()}:
        raise DataError.at(path, "does not fit the network that it names", "a file of save_network")
    for weight in network.weights:
        weight.assign(tensors[weight.path].float().numpy())
    return network, content["provenance"]

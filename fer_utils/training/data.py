"""What a network is trained on or asked about: faces in memory, faces that stay on disk, and cached outputs of another network.

Whatever it is, :func:`open_data` makes it a source of batches. In memory all images are bytes on the network's device. From disk, worker
processes read and prepare the images of the next steps while the network trains, and nothing but those batches is in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler, SequentialSampler
from torch.utils.data import Subset as TorchSubset

from ..datasets.base import FaceDataset
from ..descriptors import to_grey
from ..errors import DataError
from .fingerprint import checksum_arrays
from .sampling import Order, Pool

__all__ = ["Batch", "Samples", "open_data", "prepare_images", "scale_pixels"]

#: ``images`` (uint8, or whatever else the network takes), ``labels`` and ``indices`` int64 ``[B]``, and further columns by their names.
Batch = dict[str, torch.Tensor]

#: Images converted together, which bounds memory.
_CHUNK = 256
#: Of a dataset on disk so many samples are read to tell it from another one.
_PROBES = 16


class ImageModel(Protocol):
    """What decides how images are prepared; see :class:`~fer_utils.models.base.FaceModel`."""

    in_channels: int
    image_size: int | None
    input_size: int


# -- pixels ---------------------------------------------------------------------------------------------------------------


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
    """Divide uint8 images by 255 (Li & Deng 2019, V-B), on the device, in the order of memory that convolutions prefer.

    Parameters
    ----------
    images : uint8 ``[B, C, H, W]``
    device : torch.device

    Returns
    -------
    float32 ``[B, C, H, W]``
        From 0 to 1.
    """
    moved = images.to(device, non_blocking=True)  # as bytes, a quarter of what floats are
    return moved.to(torch.float32).div_(255).contiguous(memory_format=torch.channels_last)


def check_size(name: str, images: torch.Tensor, model: ImageModel) -> None:
    """Raise ``ValueError`` if the network's window does not fit into prepared images ``[..., H, W]``."""
    if min(images.shape[-2:]) < model.input_size:
        problem = f"{name} has images of {'x'.join(map(str, images.shape[-2:]))}, the network takes {model.input_size}"
        raise ValueError(f"{problem}; set its image_size to enlarge them")


# -- sources of batches ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs in memory that are no images to prepare, such as what a frozen network made of faces (:func:`cache_outputs`).

    Attributes
    ----------
    name : str
    inputs : float ``[N, ...]``
        An array, which may be mapped from a file, or a tensor.
    labels : int64 ``[N]``
    classes : tuple of str

    Raises
    ------
    ValueError
        If there are not as many inputs as labels.
    """

    name: str
    inputs: Any
    labels: np.ndarray
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.labels):
            raise ValueError(f"{self.name}: {len(self.inputs)} inputs, but {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Source:
    """Where batches come from.

    Attributes
    ----------
    name : str
    pool : Pool
        How many samples there are, and what is known of them.
    classes : tuple of str, optional
    identity : dict
        What JSON can hold and changes with the samples.
    are_images : bool
        Whether ``images`` of a batch are prepared uint8 images, to be augmented and scaled.
    """

    name: str
    pool: Pool
    classes: tuple[str, ...] | None
    identity: Mapping[str, Any]
    are_images: bool = True

    def read(self, steps: Iterable[torch.Tensor]) -> Iterator[Batch]:
        """Batches of the positions int64 ``[B]`` of each step, which are their ``indices``."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class _InMemory(Source):
    inputs: Any = None
    labels: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    columns: Batch = field(default_factory=dict)

    def read(self, steps: Iterable[torch.Tensor]) -> Iterator[Batch]:
        for positions in steps:
            where = _move(positions, self.labels.device)
            if isinstance(self.inputs, torch.Tensor):
                images = self.inputs.index_select(0, where)
            else:  # an array that may lie on disk
                images = _move(torch.from_numpy(np.ascontiguousarray(self.inputs[positions.numpy()])), self.labels.device)
            known = {name: values.index_select(0, where) for name, values in self.columns.items()}
            yield {"images": images, "labels": self.labels.index_select(0, where), "indices": where, **known}


@dataclass(frozen=True, eq=False)
class _OnDisk(Source):
    items: _Items | None = None
    workers: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    columns: Batch = field(default_factory=dict)

    def read(self, steps: Iterable[torch.Tensor]) -> Iterator[Batch]:
        assert self.items is not None
        loader = DataLoader(
            self.items, batch_sampler=_Positions(steps), num_workers=self.workers, collate_fn=_collate,
            pin_memory=self.device.type == "cuda", prefetch_factor=4 if self.workers else None,
        )
        for batch in loader:
            if isinstance(batch, DataError):
                raise batch
            batch = {name: values.to(self.device, non_blocking=True) for name, values in batch.items()}
            yield batch | {name: values.index_select(0, batch["indices"]) for name, values in self.columns.items()}


def _move(batch: torch.Tensor, device: torch.device) -> torch.Tensor:
    """To a device. A GPU copies from pinned memory while Python goes on."""
    return batch.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else batch.to(device)


class _Positions:
    """Positions of each step as a DataLoader's ``batch_sampler``."""

    def __init__(self, steps: Iterable[torch.Tensor]) -> None:
        self._steps = steps

    def __iter__(self) -> Iterator[list[int]]:
        return (positions.tolist() for positions in self._steps)


class _Items(Dataset):
    """Samples of a dataset, prepared for a network one by one, in a worker process."""

    def __init__(self, dataset: Any, model: ImageModel) -> None:
        self._dataset, self._channels, self._size = dataset, model.in_channels, model.image_size

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, position: int) -> Batch | DataError:
        try:
            image, label, *rest = self._dataset[position]
        except DataError as error:  # handed on as a value: a worker's exception would come out with the worker's traceback as its text
            return error
        try:
            images = prepare_images(_as_bytes(image)[None], self._channels, self._size)[0].contiguous()
        except ValueError as error:
            return DataError(f"sample {position}: {error}")
        known = {name: torch.as_tensor(value) for name, value in (rest[0] if rest else {}).items()}
        return {"images": images, "labels": torch.tensor(int(label)), "indices": torch.tensor(position), **known}


def _as_bytes(image: Any) -> np.ndarray:
    """uint8 ``[H, W]`` or ``[H, W, 3]`` of a Pillow image, an array, or a tensor ``[C, H, W]`` as torchvision reads it."""
    if isinstance(image, torch.Tensor):
        return (image.permute(1, 2, 0).squeeze(2) if image.ndim == 3 else image).numpy()
    return np.asarray(image)


def _collate(items: list[Batch | DataError]) -> Batch | DataError:
    wrong = next((item for item in items if isinstance(item, DataError)), None)
    if wrong is not None:
        return wrong
    shapes = {tuple(item["images"].shape) for item in items}
    if len(shapes) > 1:
        sizes = " and ".join(f"{width}x{height}" for _, height, width in sorted(shapes)[:2])
        return DataError(f"images of {sizes} pixels in one dataset; expected one size, or a network with an image_size")
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


# -- opening --------------------------------------------------------------------------------------------------------------


def open_data(
    data: FaceDataset | Samples | Dataset | DataLoader, model: Any, device: torch.device, *,
    columns: Mapping[str, Any] | None = None, workers: int | None = None, batch_size: int | None = None,
) -> Source:
    """Make a source of batches.

    Parameters
    ----------
    data : FaceDataset, Samples, torch Dataset or DataLoader
        Items of a torch dataset are ``(image, label)`` or ``(image, label, {name: value})``, with uint8 images ``[H, W]``, ``[H, W, 3]``,
        of Pillow or ``[C, H, W]`` of torch. Of a DataLoader the dataset and the number of workers are taken.
    model : ImageModel
        Not asked of ``Samples``.
    device : torch.device
        Where batches shall be.
    columns : dict of str to array ``[N, ...]``, optional
        What else shall come with each batch.
    workers : int, optional
        Processes that read images from disk; None: all images of a ``FaceDataset`` are held in memory.
    batch_size : int, optional
        What a DataLoader's must be.

    Raises
    ------
    ValueError
        If a column has another length, a DataLoader has an order or a batch of its own, or images are too small for the network.
    """
    if isinstance(data, DataLoader):
        data, workers = _open_loader(data, batch_size)
    known = {name: np.asarray(values) for name, values in (columns or {}).items()}
    for name, values in known.items():
        if len(values) != len(data):
            raise ValueError(f"the column {name!r} has {len(values)} rows; expected one a sample")
    if isinstance(data, Samples):
        labels = np.asarray(data.labels, dtype=np.int64)
        identity = {"name": data.name, "count": len(data), "content": checksum_arrays(data.inputs, labels, *known.values())}
        inputs = data.inputs.to(device) if isinstance(data.inputs, torch.Tensor) else data.inputs
        return _InMemory(
            data.name, Pool(len(data), labels, known), data.classes, identity, False, inputs, torch.tensor(labels, device=device),
            _to_tensors(known, device),
        )
    if isinstance(data, FaceDataset) and workers is None:
        images = prepare_images(data.images, model.in_channels, model.image_size)
        check_size(data.name, images, model)
        people = () if data.identities is None else (data.identities,)
        identity = {
            "name": data.name, "count": len(data), "content": checksum_arrays(images, data.labels, *people, *known.values())
        }
        return _InMemory(
            data.name, Pool(len(data), data.labels, known), data.classes, identity, True, images.to(device),
            torch.tensor(data.labels, device=device), _to_tensors(known, device),
        )
    return _open_disk(data, model, device, known, workers or 0)


def _to_tensors(columns: Mapping[str, np.ndarray], device: torch.device) -> Batch:
    return {name: torch.tensor(values, device=device) for name, values in columns.items()}


def _open_loader(loader: DataLoader, batch_size: int | None) -> tuple[Dataset, int]:
    """A DataLoader's dataset and workers; its order must be one that can be drawn anew from a seed."""
    if not isinstance(loader.sampler, RandomSampler | SequentialSampler):
        problem = f"the DataLoader draws by {type(loader.sampler).__name__}, which a resumed training cannot go on with"
        raise ValueError(f"{problem}; give fit a sampler of fer_utils.training.sampling, and the DataLoader none")
    if batch_size is not None and loader.batch_size != batch_size:
        raise ValueError(f"the DataLoader has batches of {loader.batch_size}, the settings of {batch_size}")
    return loader.dataset, loader.num_workers


def _open_disk(data: Any, model: ImageModel, device: torch.device, columns: Mapping[str, np.ndarray], workers: int) -> _OnDisk:
    items, count = _Items(data, model), len(data)
    if not count:
        raise ValueError(f"{getattr(data, 'name', type(data).__name__)} holds no samples")
    name, labels = getattr(data, "name", type(data).__name__), find_labels(data)
    probes = []
    for position in np.unique(np.linspace(0, count - 1, _PROBES).astype(int)).tolist():
        found = items[position]
        if isinstance(found, DataError):
            raise found
        check_size(name, found["images"], model)
        probes += [found["images"], found["labels"]]
    known = [values for values in (labels, getattr(data, "identities", None)) if values is not None]
    names = [getattr(data, "names", np.zeros(0, dtype=np.str_))]
    identity = {
        "name": name, "count": count, "content of some": checksum_arrays(*probes, *known, *names, *columns.values()),
    }
    pool, classes = Pool(count, labels, columns), getattr(data, "classes", None)
    return _OnDisk(name, pool, classes, identity, True, items, workers, device, _to_tensors(columns, device))


def find_labels(data: Any) -> np.ndarray | None:
    """Labels int64 ``[N]`` of a dataset that says them without reading images: ``labels``, or ``targets`` as torchvision's; else None."""
    if isinstance(data, TorchSubset):
        whole = find_labels(data.dataset)
        return None if whole is None else whole[np.asarray(data.indices)]
    found = getattr(data, "labels", None)
    found = getattr(data, "targets", None) if found is None else found
    return None if found is None else np.asarray(found, dtype=np.int64)


def iterate_images(data: Any, model: ImageModel, batch_size: int, workers: int | None = None) -> Iterator[torch.Tensor]:
    """Prepared images uint8 ``[B, C, H, W]`` in their order, of an array or of whatever :func:`open_data` takes.

    Raises
    ------
    ValueError
        If there are none, or they are of another type or shape.
    """
    if isinstance(data, FaceDataset) and workers is None:
        data = data.images
    if isinstance(data, np.ndarray):
        if not len(data):
            raise ValueError("there are no images")
        for start in range(0, len(data), batch_size):
            yield prepare_images(data[start : start + batch_size], model.in_channels, model.image_size)
        return
    source = open_data(data, model, torch.device("cpu"), workers=workers)
    for batch in source.read(torch.arange(source.pool.count).split(batch_size)):
        yield batch["images"]


def list_steps(order: Order, positions: torch.Tensor, start: int, stop: int) -> Iterator[torch.Tensor]:
    """Positions of the samples of each step, of those that are trained on."""
    return (positions[order(step)] for step in range(start, stop))

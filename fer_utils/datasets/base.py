"""What every loader returns: the :class:`FaceDataset`."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from ..errors import DataError
from .images import PendingImages

__all__ = ["DataError", "FaceDataset"]


class _Images:
    """The field ``images``: a pending one becomes an array when it is read."""

    def __get__(self, faces: FaceDataset | None, owner: type | None = None) -> np.ndarray:
        if faces is None:
            raise AttributeError("images")  # no default: dataclass asks the class
        held = faces.__dict__["images"]
        if isinstance(held, PendingImages):
            held = faces.__dict__["images"] = _locked(held.load())
        return held

    def __set__(self, faces: FaceDataset, value: np.ndarray | PendingImages) -> None:
        faces.__dict__["images"] = value


def _locked(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


@dataclass(frozen=True, eq=False, repr=False)
class FaceDataset:
    """Faces with labels and whatever else is known of them, one row an image; acts like a torchvision dataset.

    Images may stay on disk: a loader leaves them there until ``images`` is read, which decodes all of them, while ``faces[i]`` decodes
    one. A dataset that is pickled, as for a worker of torch's ``DataLoader``, takes along where its files lie, not their pixels, and its
    copy reads them anew; images that were decoded before travel decoded. Other arrays are in memory.

    Arrays are read-only: copy one (or index it with an array) before writing to it or giving it to ``torch.from_numpy``.

    Attributes
    ----------
    name : str
        The dataset, such as ``"FACSynth basic"``.
    images : uint8 ``[N, H, W]`` or ``[N, H, W, 3]``
        Grey or RGB. A loader's images are decoded when this is first read, so a damaged one is reported here, as ``DataError``.
    labels : int64 ``[N]``
        Positions in ``classes``.
    classes : tuple of str
        Class names.
    names : str ``[N]``
        File names without folder.
    split : str ``[N]``
        ``"train"``, ``"val"`` or ``"test"``; ``"none"`` where the owners define no split.
    identities : int64 ``[N]``, optional
        Who is shown.
    landmarks : float32 ``[N, 5, 2]``, optional
        Left eye, right eye, nose tip, left and right mouth corner in image order; ``(x, y)`` pixels of ``images``.
    landmarks_dense : float32 ``[N, L, 2]``, optional
        37 (RAF-DB) or 68 (CK+) points, pixels of ``images``.
    attributes : DataFrame, optional
        ``gender``, ``race``, ``age`` as words.
    votes : DataFrame, optional
        ``task`` (a name of ``names``), ``worker``, ``label`` (the owner's code), any number of rows an image.
    distributions : float32 ``[N, 7]``, optional
        Share of the votes for each basic emotion, in the order of ``labels.BASIC``.
    truth : DataFrame, optional
        What is known beyond the owners' labels, one row an image.
    masks : uint8 ``[N, H, W]``, optional
        Region codes.
    transform : callable, optional
        Takes a ``PIL.Image`` as torchvision's do; applied by ``dataset[i]``.

    Raises
    ------
    ValueError
        If a field has the wrong type or shape, or another length than ``images``.
    """

    name: str
    images: np.ndarray = _Images()  # type: ignore[assignment]
    labels: np.ndarray
    classes: tuple[str, ...]
    names: np.ndarray
    split: np.ndarray
    identities: np.ndarray | None = None
    landmarks: np.ndarray | None = None
    landmarks_dense: np.ndarray | None = None
    attributes: pd.DataFrame | None = None
    votes: pd.DataFrame | None = None
    distributions: np.ndarray | None = None
    truth: pd.DataFrame | None = None
    masks: np.ndarray | None = None
    transform: Callable[[Image.Image], Any] | None = None

    def __post_init__(self) -> None:
        held = self.__dict__["images"]
        if not isinstance(held, PendingImages):
            images = np.asarray(held)
            if images.dtype != np.uint8 or not (images.ndim == 3 or (images.ndim == 4 and images.shape[-1] == 3)):
                raise ValueError(f"{self.name}: images must be uint8 [N, H, W] or [N, H, W, 3], got {images.dtype} {images.shape}")
            self.__dict__["images"] = _locked(images)
        n, size = len(held), held.shape[1:3] if self.masks is not None else (None, None)
        shapes = {
            "labels": (np.int64, (n,)), "names": (np.str_, (n,)), "split": (np.str_, (n,)),
            "identities": (np.int64, (n,)), "landmarks": (np.float32, (n, 5, 2)), "landmarks_dense": (np.float32, (n, None, 2)),
            "distributions": (np.float32, (n, 7)), "masks": (np.uint8, (n, *size)),
        }
        for field, (dtype, shape) in shapes.items():
            value = getattr(self, field)
            if value is None and field not in ("labels", "names", "split"):
                continue
            array = np.asarray(value).astype(dtype, copy=False)
            if array.ndim != len(shape) or any(want not in (None, got) for want, got in zip(shape, array.shape, strict=True)):
                raise ValueError(f"{self.name}: {field} must have shape {_shape(shape)} for {n} images, got {_shape(array.shape)}")
            object.__setattr__(self, field, _locked(array))
        for field in ("attributes", "truth"):
            frame = getattr(self, field)
            if frame is not None and len(frame) != n:
                raise ValueError(f"{self.name}: {field} must have {n} rows, one an image, got {len(frame)}")
        if self.votes is not None and not {"task", "worker", "label"} <= set(self.votes.columns):
            raise ValueError(f"{self.name}: votes must have the columns task, worker, label, got {', '.join(map(str, self.votes.columns))}")
        object.__setattr__(self, "classes", tuple(self.classes))
        unknown = set(self.labels.tolist()) - set(range(len(self.classes)))
        if unknown:
            raise ValueError(f"{self.name}: labels must be 0 to {len(self.classes) - 1}, got {min(unknown)}")

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """One face as ``(PIL.Image, label)``; the image goes through ``transform`` where there is one.

        Raises ``TypeError`` for anything but one position: :meth:`subset` takes several.
        """
        try:
            index = operator.index(index)
        except TypeError as error:
            raise TypeError(f"faces[i] takes one position, got {type(index).__name__}; faces.subset(...) takes several") from error
        held = self.__dict__["images"]
        image: Any = Image.fromarray(held.one(index) if isinstance(held, PendingImages) else held[index])
        return (image if self.transform is None else self.transform(image)), int(self.labels[index])

    def __repr__(self) -> str:
        shape = self.__dict__["images"].shape
        colour = "RGB" if len(shape) == 4 else "grey"
        height, width = shape[1:3]
        counts = zip(*np.unique(self.split, return_counts=True), strict=True)
        splits = ", ".join(f"{count} {name}" for name, count in counts if name != "none")
        known = [f.name for f in fields(self)[6:-1] if getattr(self, f.name) is not None]
        lines = [
            f"FaceDataset {self.name}: {len(self)} {colour} images of {width}x{height}" + (f" ({splits})" if splits else ""),
            f"  classes: {', '.join(f'{name} {count}' for name, count in self.class_counts().items())}",
        ]
        return "\n".join([*lines, f"  with: {', '.join(known)}"] if known else lines)

    @property
    def train(self) -> FaceDataset:
        """The owners' training part. Raises ``ValueError`` where there is none."""
        return self._part("train")

    @property
    def val(self) -> FaceDataset:
        """The owners' validation part. Raises ``ValueError`` where there is none."""
        return self._part("val")

    @property
    def test(self) -> FaceDataset:
        """The owners' test part. Raises ``ValueError`` where there is none."""
        return self._part("test")

    def _part(self, split: str) -> FaceDataset:
        chosen = self.split == split
        if not chosen.any():
            raise ValueError(f"{self.name} has no {split} part here; its splits are {', '.join(np.unique(self.split)) or 'empty'}")
        return self.subset(chosen)

    def subset(self, index: Sequence[int] | np.ndarray | slice) -> FaceDataset:
        """Take some of the faces, with everything known of them.

        Parameters
        ----------
        index : integer positions, bool mask ``[N]`` or slice

        Returns
        -------
        FaceDataset
            In the order of ``index``. ``votes`` are those on the chosen images.

        Raises
        ------
        IndexError
            If a position is out of range, or a mask has another length than the dataset.
        """
        where = np.asarray(index) if not isinstance(index, slice) else np.arange(len(self))[index]
        if where.size == 0 and where.dtype != bool:
            where = where.astype(np.int64)
        positions = np.arange(len(self))[where]
        if positions.ndim != 1:
            raise IndexError(f"subset takes a list of positions or a mask, got an index of shape {where.shape}")
        changes: dict[str, Any] = {}
        for field in fields(self):
            value = self.__dict__[field.name]
            if isinstance(value, PendingImages):
                changes[field.name] = value.take(positions)
            elif isinstance(value, np.ndarray):
                changes[field.name] = value[positions]
            elif field.name in ("attributes", "truth") and value is not None:
                changes[field.name] = value.iloc[positions].reset_index(drop=True)
        if self.votes is not None:
            changes["votes"] = self.votes[self.votes["task"].isin(set(changes["names"].tolist()))].reset_index(drop=True)
        return self.replace(**changes)

    def replace(self, **changes: Any) -> FaceDataset:
        """Take the dataset with some fields changed; images that wait go on waiting."""
        return replace(self, **{"images": self.__dict__["images"], **changes})

    def join(self, other: FaceDataset) -> FaceDataset:
        """These faces and then others of the same kind; images that wait go on waiting. Keeps this name and ``transform``.

        Raises
        ------
        ValueError
            If their classes differ, one of them has a field that the other lacks, or an image name is in both.
        """
        if self.classes != other.classes:
            raise ValueError(f"{self.name} and {other.name} have other classes; expected {', '.join(self.classes)} of both")
        twice = set(self.names.tolist()) & set(other.names.tolist())
        if twice:
            raise ValueError(f"{self.name} and {other.name} both have an image {min(twice)}")
        changes: dict[str, Any] = {}
        for field in fields(self):
            if field.name in ("name", "classes", "transform"):
                continue
            first, second = self.__dict__[field.name], other.__dict__[field.name]
            if (first is None) != (second is None):
                raise ValueError(f"only one of {self.name} and {other.name} has {field.name}")
            if isinstance(first, pd.DataFrame):
                changes[field.name] = pd.concat([first, second], ignore_index=True)
            elif isinstance(first, PendingImages) and isinstance(second, PendingImages):
                changes[field.name] = first.join(second)
            elif first is not None:
                changes[field.name] = np.concatenate([getattr(self, field.name), getattr(other, field.name)])
        return self.replace(**changes)

    def class_counts(self) -> dict[str, int]:
        """Images of each class, in the order of ``classes``."""
        counts = np.bincount(self.labels, minlength=len(self.classes))
        return {name: int(count) for name, count in zip(self.classes, counts, strict=True)}


def _shape(shape: Iterable[int | None]) -> str:
    return "[" + ", ".join("any" if s is None else str(s) for s in shape) + "]"

"""Images that are decoded when they are first asked for, and their cache."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image
from tqdm import tqdm

from ..errors import DataError
from ..files import cache_root, read_rows, replace_whole, write_rows
from .decoding import DECODER, open_pixels
from .source import Source

__all__ = ["PendingImages", "load_images", "resize_square"]

_CHUNK = 64
#: Fewer images than this are decoded so fast that a bar and a cached copy would only be in the way.
_MANY = 1000

#: Takes a decoded image and its position; returns what is kept.
Finish = Callable[[np.ndarray, int], np.ndarray]


class _Store:
    """The images of one load, decoded once each however many subsets ask for them.

    In another process it starts without images: only where they lie is pickled.
    """

    def __init__(
        self, source: Source, members: Sequence[str], mode: str, size: tuple[int, int] | None, finish: Finish | None, recipe: str,
        hint: str, upright: bool,
    ) -> None:
        self.source, self.members, self._upright = source, members, upright
        self._mode, self._size, self._finish, self._recipe, self._hint = mode, size, finish, recipe, hint
        depth = (3,) if mode == "RGB" else ()
        self._shape = (*size, *depth) if size is not None else None if members else (0, 0, *depth)
        self._forget()

    def _forget(self) -> None:
        # what was decoded together is a part; of each image, its part (-1: not decoded) and its row there
        self._parts: list[np.ndarray] = []
        self._part = np.full(len(self.members), -1)
        self._row = np.zeros(len(self.members), dtype=np.int64)
        self._looked = False  # for a cached copy
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_parts", "_part", "_row", "_looked", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image; where the loader did not say it, that of the first."""
        if self._shape is None:
            self._shape = self._decode(0).shape
        return self._shape

    def one(self, i: int) -> np.ndarray:
        """Decode a single image, or take it from those that are there."""
        if self._part[i] >= 0:
            return self._parts[self._part[i]][self._row[i]]
        image = self._decode(i)
        if image.shape != self.shape:
            got, want = (f"{s[1]}x{s[0]} pixels" for s in (image.shape, self.shape))
            raise DataError.at(self.source.where(self.members[i]), got, want + self._hint)
        return image

    def many(self, positions: np.ndarray) -> np.ndarray:
        """The images at some positions, decoding what is missing."""
        with self._lock:
            if not self._looked:
                self._open()
            todo = np.unique(positions[self._part[positions] < 0])
            if len(todo):
                self._add(self._decode_all(todo), todo)
                if (self._part >= 0).all():
                    self._keep()
            return self._gather(positions)

    def _add(self, part: np.ndarray, positions: np.ndarray) -> None:
        self._row[positions], self._part[positions] = np.arange(len(positions)), len(self._parts)
        self._parts.append(part)

    def _gather(self, positions: np.ndarray) -> np.ndarray:
        """Decoded images at some positions; what was decoded in this very order is not copied."""
        used, rows = np.unique(self._part[positions]), self._row[positions]
        if len(used) == 1:
            part = self._parts[used[0]]
            return part if np.array_equal(rows, np.arange(len(part))) else part[rows]
        images = np.empty((len(positions), *self.shape), dtype=np.uint8)
        for number in used:
            own = self._part[positions] == number
            images[own] = self._parts[number][rows[own]]
        return images

    def _decode(self, i: int) -> np.ndarray:
        member = self.members[i]
        data, where = self.source.read(member, "an image"), self.source.where(member)
        with open_pixels(data, where, self._mode, upright=self._upright) as image:
            return image if self._finish is None else self._finish(image, i)

    def _decode_all(self, todo: np.ndarray) -> np.ndarray:
        array = np.empty((len(todo), *self.shape), dtype=np.uint8)

        def some(start: int) -> int:
            chunk = todo[start : start + _CHUNK]
            for row, i in enumerate(chunk, start):
                array[row] = self.one(int(i))
            return len(chunk)

        pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
        try:
            # Without a terminal, as in a stored notebook, there is no bar.
            with tqdm(total=len(todo), desc="decoding", unit=" images", leave=False, disable=True if len(todo) < _MANY else None) as bar:
                for count in pool.map(some, range(0, len(todo), _CHUNK)):
                    bar.update(count)
        finally:
            pool.shutdown(cancel_futures=True)
        return array

    # A cached copy is one file with a checksum, written under a temporary name and renamed.

    def _path(self) -> Path | None:
        root = cache_root()
        named = bool(self._recipe) or self._finish is None
        if root is None or not named or len(self.members) < _MANY:
            return None
        files = [(os.fspath(path.resolve()), *_stamp(path)) for path in self.source.files(self.members)]
        recipe = [DECODER, PIL.__version__, self._mode, self._upright, self._size, self._recipe, *self.members]
        state = json.dumps([files, [str(part) for part in recipe]])
        return root / f"{hashlib.sha256(state.encode(errors='surrogateescape')).hexdigest()[:24]}.npy"

    def _open(self) -> None:
        self._looked = True
        path = self._path()
        if path is not None and path.is_file():
            kept = read_rows(path)
            if kept is not None and kept.dtype == np.uint8 and kept.shape == (len(self.members), *self.shape):
                self._add(kept, np.arange(len(self.members)))
            else:
                path.unlink(missing_ok=True)

    def _keep(self) -> None:
        path = self._path()
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            rows = np.arange(len(self.members))
            with replace_whole(path) as partial:
                write_rows(partial, (self._gather(rows[start : start + _MANY]) for start in range(0, len(rows), _MANY)), len(rows))
        except OSError as error:
            warnings.warn(f"{path}: decoded images are not kept ({error.strerror})", stacklevel=2)


class _Joined:
    """Two stores, one behind the other."""

    def __init__(self, first: PendingImages, second: PendingImages) -> None:
        if first.shape[1:] != second.shape[1:]:
            raise ValueError(f"images to be joined must have one shape, got {first.shape[1:]} and {second.shape[1:]}")
        self._pair = (first, second)
        self.members = range(len(first) + len(second))

    @property
    def shape(self) -> tuple[int, ...]:
        return self._pair[0].shape[1:]

    def one(self, i: int) -> np.ndarray:
        first, second = self._pair
        return first.one(i) if i < len(first) else second.one(i - len(first))

    def many(self, positions: np.ndarray) -> np.ndarray:
        first, second = self._pair
        own = positions < len(first)
        if own.all():
            return first.take(positions).load()
        images = np.empty((len(positions), *self.shape), dtype=np.uint8)
        images[own], images[~own] = first.take(positions[own]).load(), second.take(positions[~own] - len(first)).load()
        return images


class PendingImages:
    """Images that are decoded when they are first asked for; what :func:`load_images` returns.

    A :class:`FaceDataset` takes it in the place of an array.

    Parameters
    ----------
    store : object
        Where the files are and how they are decoded; made by :func:`load_images`.
    positions : int64 ``[N]``, optional
        Which of the store's images; all by default.
    """

    def __init__(self, store: _Store | _Joined, positions: np.ndarray | None = None) -> None:
        self._store = store
        self._positions = np.arange(len(store.members)) if positions is None else positions

    def __len__(self) -> int:
        return len(self._positions)

    @property
    def shape(self) -> tuple[int, ...]:
        """``(N, H, W, 3)`` or ``(N, H, W)``. Where the loader did not fix the size, asking for it decodes the first image."""
        return (len(self), *self._store.shape)

    def one(self, i: int) -> np.ndarray:
        """Decode the image at position ``i`` alone."""
        return self._store.one(int(self._positions[i]))

    def take(self, positions: np.ndarray) -> PendingImages:
        """Some of the images, still waiting."""
        return PendingImages(self._store, self._positions[positions])

    def join(self, other: PendingImages) -> PendingImages:
        """These images and then others, still waiting. Raises ``ValueError`` if their shapes differ."""
        return PendingImages(_Joined(self, other))

    def load(self) -> np.ndarray:
        """Decode all of them, in threads: uint8 of ``shape``. Raises ``DataError`` at the first that is damaged or of another size."""
        return self._store.many(self._positions)


def _stamp(path: Path) -> tuple[int, ...]:
    """What changes when a file does: its time of change can be set back, but not when and as what it came to be there."""
    try:
        found = path.stat()
    except OSError:
        return (0,)
    return (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def resize_square(image: np.ndarray, size: int) -> np.ndarray:
    """Resize an image to a square by Lanczos' filter; one of that size stays as it is.

    Parameters
    ----------
    image : uint8 ``[H, W]`` or ``[H, W, 3]``
    size : int
        Side of the result, in pixels.
    """
    same = image.shape[:2] == (size, size)
    return image if same else np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS))


def load_images(
    source: Source,
    members: Sequence[str],
    *,
    mode: str = "RGB",
    size: tuple[int, int] | None = None,
    finish: Finish | None = None,
    recipe: str = "",
    hint: str = "",
    upright: bool = True,
) -> PendingImages:
    """Prepare images of one size, to be read and decoded in threads when they are first asked for.

    Parameters
    ----------
    source : Source
    members : sequence of str
        Names within the source.
    mode : {"RGB", "L"}
    size : (height, width), optional
        What every image must be; that of the first image by default.
    finish : callable, optional
        Takes a decoded image and its position, returns what is kept. One that can be pickled, such as a ``functools.partial`` of a
        module's function, lets the dataset travel to another process.
    recipe : str
        Says all that ``finish`` depends on. Many images are kept decoded in :func:`cache_root` for the next time; with ``finish``
        only where there is a recipe to name them by.
    hint : str
        Added to the error about sizes.
    upright : bool
        Turn pictures as their EXIF orientation says; False where the owners' boxes or landmarks count the pixels as they are stored.

    Returns
    -------
    PendingImages
        ``[N, H, W, 3]`` or ``[N, H, W]``. Decoding raises ``DataError`` at the first image that is damaged or of another size.

    Raises
    ------
    DataError
        If a member is not there.
    """
    members = list(members)
    absent = next((name for name in members if name not in source), None)
    if absent is not None:
        raise DataError.at(source.where(absent), "not found", "an image")

    return PendingImages(_Store(source, members, mode, size, finish, recipe, hint, upright))

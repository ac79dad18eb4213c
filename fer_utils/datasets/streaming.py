"""A dataset's images a few at a time, for what looks at each once and must not hold all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tqdm import tqdm

from .base import FaceDataset

__all__ = ["stream_images"]

#: Images at once at most, and bytes that they may take.
_CHUNK, _BYTES = 256, 2**25


def stream_images(
    faces: FaceDataset, positions: np.ndarray | None = None, title: str = "decoding"
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Decode images in threads, chunk by chunk, from the files themselves, without the cache of decoded images.

    Parameters
    ----------
    faces : FaceDataset
        Its ``transform`` is not applied.
    positions : int64 ``[M]``, optional
        Which of the faces; all by default.
    title : str
        Of the progress bar, which only a terminal shows.

    Yields
    ------
    (int64 ``[B]``, uint8 ``[B, H, W]`` or ``[B, H, W, 3]``)
        Positions in ``faces``, in the order given, and their images.

    Raises
    ------
    DataError
        At the first image that is damaged or of another size.
    """
    plain = faces.replace(transform=None)
    where = np.arange(len(faces)) if positions is None else positions

    def one(i: int) -> np.ndarray:
        return np.asarray(plain[i][0])

    chunk = int(np.clip(_BYTES // max(one(int(where[0])).nbytes, 1), 1, _CHUNK)) if len(where) else 1
    pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
    try:
        with tqdm(total=len(where), desc=title, unit=" images", leave=False, disable=None) as bar:
            for start in range(0, len(where), chunk):
                some = where[start : start + chunk]
                yield some, np.stack(list(pool.map(one, some.tolist())))
                bar.update(len(some))
    finally:
        pool.shutdown(cancel_futures=True)

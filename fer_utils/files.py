"""Files that are whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replace_whole"]


@contextmanager
def replace_whole(path: Path, *, sync: bool = False) -> Iterator[Path]:
    """Write a file under a temporary name beside it, and rename it at the end: one that exists is whole, whenever the process ends.

    Parameters
    ----------
    path : Path
        What the file shall be called. An old one is replaced.
    sync : bool
        Wait until the disk has the content before the file is renamed, so that it also survives a machine that fails.

    Yields
    ------
    Path
        The temporary name, to write to. After an error the file is removed and the old one stays.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield partial
        if sync:
            with partial.open("rb") as file:
                os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)

"""What the catalogue says of a dataset: the form of its entries, which are in ``catalog_entries``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from ..labels import Vocabulary
from .base import FaceDataset

__all__ = ["UNDIVIDED", "Entry", "Published"]

#: The part of a dataset without parts.
UNDIVIDED = "none"


@dataclass(frozen=True, eq=False)
class Published:
    """What somebody wrote that a dataset, or a common copy of it, holds.

    Attributes
    ----------
    copy : str
        Which copy, such as ``"aligned faces"``.
    source : str
        Who says so.
    total : int, optional
        Faces.
    parts : dict of str to int
        Faces by part (``train``, ``val``, ``test``), as far as known.
    classes : dict of str to dict of str to int
        By part (``"none"`` for a dataset without parts), faces by class in the owners' order, as far as known.

    Raises
    ------
    ValueError
        If classes do not add up to their part or the total, or parts exceed the total.
    """

    copy: str
    source: str
    total: int | None = None
    parts: Mapping[str, int] = field(default_factory=dict)
    classes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for part, counts in self.classes.items():
            whole = self.total if part == UNDIVIDED else self.parts.get(part)
            if whole is not None and sum(counts.values()) != whole:
                raise ValueError(f"{self.copy}: the classes of {part} sum to {sum(counts.values())}, not {whole}")
        if self.total is not None and sum(self.parts.values()) > self.total:
            raise ValueError(f"{self.copy}: the parts sum to {sum(self.parts.values())}, more than {self.total}")


@dataclass(frozen=True, eq=False)
class Entry:
    """One dataset of the book.

    Attributes
    ----------
    key, title : str
    folder : str
        Below :func:`~fer_utils.files.data_root`.
    environment : {"lab", "film", "web", "rendered"}
        Where the faces are from.
    terms : str
        Licence or terms, in short; the owners' own words count.
    apply : str
        How to get it.
    needed_by : tuple of str
        Papers, with what they use it for.
    module : str
        Of ``fer_utils.datasets``; imported when it is needed.
    function : str
    options : dict
        For the loader.
    lenient : dict
        For the loader, so that a copy can be counted and looked at which lacks what experiments need.
    published : tuple of Published
        One for each state that a copy may rightly be in; the usual one first.
    parts : tuple of str
        The owners' own; empty where there are none, and papers cut folds.
    beside : tuple of str
        Other folders that the loader reads.
    instead : tuple of str
        Where common copies have their files instead of ``folder`` and ``beside``.
    note : str
        What a reader of the counts should know.
    vocabulary : Vocabulary, optional
        The classes; None where there are no emotion labels.
    """

    key: str
    title: str
    folder: str
    environment: str
    terms: str
    apply: str
    needed_by: tuple[str, ...]
    module: str
    function: str = "load"
    options: Mapping[str, Any] = field(default_factory=dict)
    lenient: Mapping[str, Any] = field(default_factory=dict)
    published: tuple[Published, ...] = ()
    parts: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    instead: tuple[str, ...] = ()
    note: str = ""
    vocabulary: Vocabulary | None = None

    @property
    def size(self) -> int | None:
        """How many faces the usual copy holds, where that was published."""
        return self.published[0].total if self.published else None

    def load(self, root: str | os.PathLike[str] | None = None, **options: Any) -> FaceDataset:
        """Read the dataset.

        Parameters
        ----------
        root : path, optional
            As the loader takes it; below the data root by default.
        **options
            For the loader, over those of the entry.

        Raises
        ------
        DataError
            If it is not there, or damaged; see the loader.
        ImportError
            If the loader needs a package that is not installed.
        ValueError
            For a ``root`` of FACSynth, which is found by ``$FER_DATA`` alone.
        """
        if self.module == "facsynth":
            if root is not None:
                raise ValueError(f"{self.title} is found below the folder of $FER_DATA, or beside the package; set that instead of a root")
        else:
            options = {"root": root, **options}
        return getattr(import_module(f".{self.module}", __package__), self.function)(**{**self.options, **options})

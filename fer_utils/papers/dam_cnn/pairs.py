"""Which samples the decoders shall make of a sample: others of its class (Xie, Hu & Wu 2019, sections 3.3.1 and 4.3.2).

"Randomly selected from the training set" leaves open how often, and whether a sample may be its own target. The paper draws once, as it
stores all pairs before stage two. Here each decoder's target is drawn by itself, among all other samples of the class, evenly; a sample
that is alone is its own target. Drawn once or anew at every step is a choice of the caller.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

__all__ = ["Drawn", "Fixed", "Itself", "Targets"]

#: Takes positions int64 ``[B]`` of samples, gives those of their targets, int64 ``[B, paths]``; both in the training set.
Targets = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, eq=False)
class Drawn:
    """Targets that are drawn anew whenever they are asked for, from torch's own generator, which a training seeds at every step.

    Attributes
    ----------
    labels : int64 ``[N]``
        Of the training samples alone.
    paths : int
        Decoders.
    groups : sequence ``[N]``, optional
        What each sample shows beside its class, such as genders. Decoder ``j`` then makes a sample of the ``j``-th group, in the order of
        their names, and there are as many paths as groups (4.3.2).

    Raises
    ------
    ValueError
        If there are no samples or no paths, groups are not one a sample and one a path, or a class has no sample of a group.
    """

    labels: Any
    paths: int
    groups: Any = None
    _tables: tuple[_Table, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        labels = np.asarray(self.labels)
        if not len(labels) or self.paths < 1:
            raise ValueError(f"targets need at least 1 sample and 1 path, got {len(labels)} and {self.paths}")
        object.__setattr__(self, "labels", labels)
        if self.groups is None:
            table = _Table.of(labels, np.ones(len(labels), bool))
            object.__setattr__(self, "_tables", (table,) * self.paths)
            return
        groups = np.asarray(self.groups)
        object.__setattr__(self, "groups", groups)
        names = np.unique(groups)
        if groups.shape != labels.shape or len(names) != self.paths:
            given = f"{len(groups)} of {', '.join(map(str, names))}"
            raise ValueError(f"groups must be {len(labels)}, one a sample, of {self.paths} names, one a path, got {given}")
        for name in names:
            missing = sorted(set(labels.tolist()) - set(labels[groups == name].tolist()))
            if missing:
                raise ValueError(f"no sample of class {missing[0]} is of the group {name}; expected every class in every group")
        object.__setattr__(self, "_tables", tuple(_Table.of(labels, groups == name) for name in names))

    def __call__(self, positions: torch.Tensor) -> torch.Tensor:
        """Draw the targets, int64 ``[B, paths]`` on the CPU, of positions int64 ``[B]``."""
        positions = positions.cpu()
        return torch.stack([table.draw(positions) for table in self._tables], 1)


@dataclass(frozen=True, eq=False)
class _Table:
    """For each sample the run of those of its class that may be its target, and where it stands among them itself."""

    order: torch.Tensor  # positions that may be targets, sorted by class
    start: torch.Tensor  # [N], where the class begins in ``order``
    size: torch.Tensor  # [N], how many of the class there are
    own: torch.Tensor  # [N], the sample's place in its class's run; -1 for one that may not be a target

    @classmethod
    def of(cls, labels: np.ndarray, allowed: np.ndarray) -> _Table:
        found = np.flatnonzero(allowed)
        order = found[np.argsort(labels[found], kind="stable")]
        sizes = np.bincount(labels[found], minlength=labels.max() + 1)
        start = (np.cumsum(sizes) - sizes)[labels]
        own = np.full(len(labels), -1)
        own[order] = np.arange(len(order)) - start[order]
        return cls(*(torch.from_numpy(values.astype(np.int64)) for values in (order, start, sizes[labels], own)))

    def draw(self, positions: torch.Tensor) -> torch.Tensor:
        start, size, own = self.start[positions], self.size[positions], self.own[positions]
        others = size - (own >= 0).long()
        luck = torch.rand(len(positions), dtype=torch.float64)
        place = (luck * others).long()
        place += ((own >= 0) & (place >= own) & (others > 0)).long()  # skip the sample itself, unless it is alone
        return self.order[start + place]


@dataclass(frozen=True, eq=False)
class Fixed:
    """Targets that are drawn once, as the paper stores its pairs before stage two (3.3.2).

    Attributes
    ----------
    drawn : Drawn
    seed : int
    """

    drawn: Drawn
    seed: int
    _pairs: torch.Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        with torch.random.fork_rng([]):
            torch.manual_seed(self.seed)
            object.__setattr__(self, "_pairs", self.drawn(torch.arange(len(self.drawn.labels))))

    def __call__(self, positions: torch.Tensor) -> torch.Tensor:
        """Look up the targets, int64 ``[B, paths]`` on the CPU, of positions int64 ``[B]``."""
        return self._pairs[positions.cpu()]


@dataclass(frozen=True)
class Itself:
    """Every decoder makes the sample itself again: a plain autoencoder of the same size, to compare with.

    Attributes
    ----------
    paths : int
        Decoders.
    """

    paths: int

    def __call__(self, positions: torch.Tensor) -> torch.Tensor:
        """Positions int64 ``[B]``, once for each path."""
        return positions.cpu()[:, None].expand(-1, self.paths)

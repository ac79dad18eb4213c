"""Which samples a step takes: samplers. Each is a function of the seed and the step, so a resumed training draws what it would have drawn.

A sampler is told the pool that it draws from and gives back ``order(step)``, positions int64 ``[batch_size]`` in that pool.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import torch

__all__ = ["Balanced", "BalancedLabels", "Order", "Pairs", "Pool", "Sampler", "Shuffled", "derive_seed"]

#: Takes the number of a step, gives positions int64 ``[batch_size]``.
Order = Callable[[int], torch.Tensor]

#: What is drawn, as a part of the seed.
ORDER, AUGMENTATION, DROPOUT = range(3)


def derive_seed(*parts: int) -> int:
    """One seed out of several numbers, none of which is lost."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


@dataclass(frozen=True, eq=False)
class Pool:
    """What a sampler draws from: the samples that are trained on.

    Attributes
    ----------
    count : int
        Samples ``N``.
    labels : int64 ``[N]``, optional
        Not known of a dataset on disk that does not say them.
    columns : dict of str to array ``[N, ...]``
        What else is known of each.
    """

    count: int
    labels: np.ndarray | None = None
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)

    def column(self, name: str, sampler: object) -> np.ndarray:
        """A column, or ``labels``.

        Parameters
        ----------
        name : str
        sampler : object
            Who asks, for the error.

        Returns
        -------
        array ``[N, ...]``

        Raises
        ------
        ValueError
            If it is not known.
        """
        found = self.labels if name == "labels" else self.columns.get(name)
        if found is None:
            known = ", ".join(["labels"] * (self.labels is not None) + list(self.columns)) or "nothing"
            raise ValueError(f"{type(sampler).__name__} needs {name} of each sample; known: {known}")
        return np.asarray(found)


class Sampler(Protocol):
    """What :func:`~fer_utils.training.fit.fit` asks of a sampler; all its settings belong in public attributes."""

    #: A batch is so many equal pieces, one after the other, of which several processes take the same share of each.
    pieces: int

    def make_order(self, pool: Pool, batch_size: int, seed: int) -> Order:
        """Return what gives the positions of a step.

        Parameters
        ----------
        pool : Pool
        batch_size : int
        seed : int

        Returns
        -------
        callable
            ``order(step)``: positions int64 ``[B]`` of the samples of a step, counted from 0; the same whenever it is asked.

        Raises
        ------
        ValueError
            If the pool does not know what the sampler needs, or a batch of that size cannot be made.
        """
        ...


class _Rounds:
    """A stream of rounds, each drawn by ``draw(generator)``, cut into batches; a batch may end in the next round."""

    def __init__(self, draw: Callable[[torch.Generator], torch.Tensor], length: int, batch_size: int, *seed: int) -> None:
        self._draw, self._length, self._size, self._seed = draw, length, batch_size, seed
        self._round, self._current = -1, torch.empty(0, dtype=torch.int64)

    def __call__(self, step: int) -> torch.Tensor:
        start, stop = step * self._size, (step + 1) * self._size
        parts = []
        while start < stop:
            number, offset = divmod(start, self._length)
            taken = min(stop - start, self._length - offset)
            parts.append(self._read(number)[offset : offset + taken])
            start += taken
        return torch.cat(parts)

    def _read(self, number: int) -> torch.Tensor:
        if number != self._round:
            self._current, self._round = self._draw(torch.Generator().manual_seed(derive_seed(*self._seed, number))), number
        return self._current


def _shuffle(positions: torch.Tensor, batch_size: int, *seed: int) -> _Rounds:
    """All positions in one random order after the other."""

    def draw(generator: torch.Generator) -> torch.Tensor:
        return positions[torch.randperm(len(positions), generator=generator)]

    return _Rounds(draw, len(positions), batch_size, *seed)


@dataclass(frozen=True)
class Shuffled:
    """All samples in random order, then all in another one."""

    pieces: ClassVar[int] = 1

    def make_order(self, pool: Pool, batch_size: int, seed: int) -> Order:
        """See :meth:`Sampler.make_order`."""
        return _shuffle(torch.arange(pool.count), batch_size, seed, ORDER)


@dataclass(frozen=True)
class Balanced:
    """Classes evenly, samples of a class evenly, with replacement."""

    pieces: ClassVar[int] = 1

    def make_order(self, pool: Pool, batch_size: int, seed: int) -> Order:
        """See :meth:`Sampler.make_order`. Raises ``ValueError`` if labels are not known."""
        labels = pool.column("labels", self)
        weights = torch.from_numpy(1.0 / np.bincount(labels)[labels])

        def draw(generator: torch.Generator) -> torch.Tensor:
            return torch.multinomial(weights, pool.count, replacement=True, generator=generator)

        return _Rounds(draw, pool.count, batch_size, seed, ORDER)


@dataclass(frozen=True)
class Pairs:
    """Pairs for two streams: row ``i`` of a batch belongs to row ``i + batch_size / 2``.

    First members are all samples in random order. A share of the pairs gets a second member of the same class, another sample where the
    class has one; the others one of another class; each drawn evenly.

    Attributes
    ----------
    same : float
        Share of pairs of one class, from 0 to 1, to the nearest pair of a batch.

    Raises
    ------
    ValueError
        If ``same`` is not from 0 to 1.
    """

    same: float = 0.5
    pieces: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if not 0 <= self.same <= 1:
            raise ValueError(f"same must be from 0 to 1, got {self.same}")

    def make_order(self, pool: Pool, batch_size: int, seed: int) -> Order:
        """See :meth:`Sampler.make_order`. Raises ``ValueError`` for an odd batch, one class only, or if labels are not known."""
        if batch_size % 2:
            raise ValueError(f"Pairs needs an even batch_size, got {batch_size}")
        labels, count = torch.from_numpy(pool.column("labels", self).astype(np.int64)), batch_size // 2
        by_class = labels.argsort(stable=True)  # [N], positions sorted by class
        sizes = labels.bincount()
        if (sizes > 0).sum() < 2 and self.same < 1:
            raise ValueError("Pairs needs samples of at least 2 classes")
        starts, place = sizes.cumsum(0) - sizes, torch.empty_like(by_class)
        place[by_class] = torch.arange(len(labels))
        firsts = _shuffle(torch.arange(pool.count), count, seed, ORDER)

        def order(step: int) -> torch.Tensor:
            first = firsts(step)  # [B/2]
            generator = torch.Generator().manual_seed(derive_seed(seed, ORDER, step, 1))
            alike = torch.randperm(count, generator=generator) < round(self.same * count)
            luck = torch.rand(count, generator=generator, dtype=torch.float64)
            size, start, own = sizes[labels[first]], starts[labels[first]], place[first]
            # among the others of the class: skip the sample itself, unless it is alone
            shift = (luck * (size - 1).clamp_min(1)).long() + 1
            twin = start + (own - start + shift) % size
            # among all of other classes: positions before the class, then those behind it
            other = (luck * (len(labels) - size)).long()
            other = torch.where(other < start, other, other + size).clamp_max(len(labels) - 1)
            return torch.cat([first, by_class[torch.where(alike, twin, other)]])

        return order


@dataclass(frozen=True)
class BalancedLabels:
    """As many positive as negative samples of each label of several (Zhang, Su & Wang 2020, IV-A: 1:1 for each part of the face).

    A batch is shared evenly among the labels; of each share, half has the label and half has not. Both are gone through in random
    order, one round after the other. Batches are mixed.

    Attributes
    ----------
    column : str
        Name of a column of 0 and 1, ``[N]`` or ``[N, labels]``.
    """

    column: str
    pieces: ClassVar[int] = 1

    def make_order(self, pool: Pool, batch_size: int, seed: int) -> Order:
        """See :meth:`Sampler.make_order`.

        Raises
        ------
        ValueError
            If the batch cannot be shared, the column is not known, or a label has no positive or negative samples.
        """
        found = pool.column(self.column, self)
        positive = torch.from_numpy((found != 0).reshape(len(found), -1))  # [N, labels]
        shares = 2 * positive.shape[1]
        if batch_size % shares:
            raise ValueError(f"BalancedLabels shares a batch among {shares} kinds of samples; batch_size {batch_size} is no multiple")
        streams = []
        for label, chosen in enumerate(positive.T):
            for kind, where in (("positive", chosen), ("negative", ~chosen)):
                if not where.any():
                    raise ValueError(f"BalancedLabels: {self.column} has no {kind} samples of label {label}")
                streams.append(_shuffle(where.nonzero().squeeze(1), batch_size // shares, seed, ORDER, len(streams)))

        def order(step: int) -> torch.Tensor:
            drawn = torch.cat([stream(step) for stream in streams])
            generator = torch.Generator().manual_seed(derive_seed(seed, ORDER, step, shares))
            return drawn[torch.randperm(len(drawn), generator=generator)]

        return order


def split_batch(batch: Any, pieces: int, process: int, processes: int) -> Any:
    """The rows ``[B / processes, ...]`` of a batch that one of several processes takes: the same share of each piece."""
    if processes == 1:
        return batch
    size = len(batch) // (pieces * processes)
    return batch.unflatten(0, (pieces, -1))[:, process * size : (process + 1) * size].flatten(0, 1)

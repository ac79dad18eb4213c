"""Artificial runs whose truth is known, to count how often the intervals hold it and how often the verdicts err.

Methods recognise faces of seven classes, of which one is rare. Whether a face is recognised depends on its person, on itself, on how the
method takes it and on the run's luck with it; beyond that, each training seed moves all of a method's rates up or down. The first two are
shared by all methods and seeds, so that methods agree on most faces, as real ones do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm

from ..labels import BASIC
from ..metrics import compute_metric, count_confusions
from .estimates import Measured, combine_cells
from .published import Cell, Comparison
from .verdicts import CONTRADICTED, REPRODUCED, find_word

__all__ = ["World", "draw_runs", "simulate_claims", "simulate_coverage"]

#: What each method recognises of each class, before what it is better or worse by.
_SKILLS = np.array([0.85, 0.5, 0.45, 0.9, 0.75, 0.7, 0.8])
_METRIC = "mean diagonal"


@dataclass(frozen=True)
class World:
    """What artificial runs are drawn from.

    Attributes
    ----------
    people, faces : int
        People in the test set, and faces of each.
    rare : float
        Share of the second class among the faces; the others share the rest.
    seeds : int
        Trainings of each method.
    spread : float
        Standard deviation of a method's rates over seeds, in ``[0, 1]``.
    person, face, method, run : float
        Shares of what decides whether a face is recognised; they sum to 1.
    """

    people: int = 400
    faces: int = 4
    rare: float = 0.02
    seeds: int = 3
    spread: float = 0.01
    person: float = 0.15
    face: float = 0.45
    method: float = 0.2
    run: float = 0.2


def draw_runs(world: World, better: Sequence[float], rng: np.random.Generator) -> list[list[Measured]]:
    """Draw the runs of several methods on one test set.

    Parameters
    ----------
    world : World
    better : sequence of float
        By how much each method recognises more of every class, in ``[0, 1]``: the true differences of their mean diagonals.
    rng : Generator

    Returns
    -------
    list of list of Measured
        Of each method, one entry a seed: the mean diagonal.
    """
    n, k = world.people * world.faces, len(BASIC)
    people = np.repeat(np.arange(world.people), world.faces)
    shares = np.full(k, (1 - world.rare) / (k - 1))
    shares[1] = world.rare
    truth = rng.choice(k, n, p=shares)
    shared = world.person**0.5 * rng.normal(size=world.people)[people] + world.face**0.5 * rng.normal(size=n)
    found = []
    for gain in better:
        own = shared + world.method**0.5 * rng.normal(size=n)
        runs = []
        for seed in range(world.seeds):
            # uniform over faces and runs, so that the share below a skill is the skill
            luck = norm.cdf(own + world.run**0.5 * rng.normal(size=n))
            skill = _SKILLS[truth] + gain + world.spread * rng.normal()
            guess = np.where(luck < skill, truth, (truth + 1 + rng.integers(k - 1, size=n)) % k)
            value = float(compute_metric(_METRIC, count_confusions(truth, guess, range(k)), BASIC))
            runs.append(Measured(f"{len(found)}-{seed}", seed, value, _METRIC, BASIC, truth, guess, None, people, "people", True))
        found.append(runs)
    return found


def simulate_coverage(
    worlds: Sequence[World], differences: Sequence[float] = (0.0, 0.01, 0.03), repeats: int = 200, seed: int = 0
) -> pd.DataFrame:
    """How often the 95 % interval of a difference between two methods, and that of one method, holds the truth.

    Parameters
    ----------
    worlds : sequence of World
    differences : sequence of float
        True ones, in ``[0, 1]``.
    repeats : int
        Cases of each kind.
    seed : int

    Returns
    -------
    DataFrame
        ``people``, ``faces``, ``seeds``, ``spread``, ``difference``; ``covered`` and ``covered alone``, shares of the cases in which the
        interval of the difference, and of the first method alone, holds the truth; ``width``, the median of the difference's intervals;
        ``detectable``, the median of the smallest difference that would have been seen; ``wrong side``, the share of the cases whose
        interval lies beyond the truth, on the side where it would make a claim of it.
    """
    rng, lines = np.random.default_rng(seed), []
    for world in worlds:
        for difference in differences:
            cases = []
            for _ in range(repeats):
                first, second = draw_runs(world, (difference, 0.0), rng)
                gap, alone = combine_cells([(1, first), (-1, second)]), combine_cells([(1, first)])
                truth = float(_SKILLS.mean()) + difference
                cases.append((gap.low <= difference <= gap.high, alone.low <= truth <= alone.high, gap.high - gap.low, gap.detectable,
                              gap.low > difference))
            held, held_alone, width, detectable, beyond = np.array(cases, dtype=float).T
            lines.append({
                "people": world.people, "faces": world.faces, "seeds": world.seeds, "spread": world.spread, "difference": difference,
                "covered": held.mean(), "covered alone": held_alone.mean(), "width": np.median(width),
                "detectable": np.median(detectable), "wrong side": beyond.mean(),
            })
    return pd.DataFrame(lines)


def simulate_claims(worlds: Sequence[World], counts: Sequence[int] = (1, 6), repeats: int = 200, seed: int = 0) -> pd.DataFrame:
    """How often a claim that one method is better than each of several others is given a wrong word.

    Parameters
    ----------
    worlds : sequence of World
    counts : sequence of int
        Comparisons of a claim.
    repeats, seed : int

    Returns
    -------
    DataFrame
        ``people``, ``seeds``, ``comparisons``; ``reproduced``, the share of the cases in which a claim is called so although one of the
        others is as good (and the rest clearly worse); ``contradicted``, in which it is called so although all are as good.
    """
    rng, lines = np.random.default_rng(seed), []
    for world in worlds:
        for count in counts:
            words: dict[str, list[bool]] = {REPRODUCED: [], CONTRADICTED: []}
            rows = [Cell("simulated/claim", str(i), "basic", _METRIC) for i in range(count + 1)]
            comparisons = [Comparison(((1, rows[0]), (-1, row))) for row in rows[1:]]
            for _ in range(repeats):
                for word, worse in ((REPRODUCED, -0.2), (CONTRADICTED, 0.0)):
                    first, *others = draw_runs(world, [0.0, 0.0, *[worse] * (count - 1)], rng)
                    estimates = [combine_cells([(1, first), (-1, other)]) for other in others]
                    words[word].append(find_word(comparisons, estimates)[0] == word)
            lines.append({"people": world.people, "seeds": world.seeds, "comparisons": count,
                          **{word: float(np.mean(found)) for word, found in words.items()}})
    return pd.DataFrame(lines)

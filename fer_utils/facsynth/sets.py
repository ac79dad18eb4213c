"""Which faces there are: one :class:`Job` a picture, for each set.

The wild test faces come in two portions: one that every reader loads, and three times as many more, of other people, for experiments
that have to tell small differences.

Everything about a picture follows from the seed, the set and the picture's place in it, so any picture can be rendered alone,
in any order, on any worker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..labels import BASIC, COMPOUND

__all__ = ["SETS", "Job", "plan_set"]

#: RAF-DB's own test split (Li & Deng 2019, Table VII) and half of its training split, by class in RAF-DB's order.
BASIC_COUNTS = {"train": (645, 141, 359, 2386, 991, 352, 1262), "test": (329, 74, 160, 1185, 478, 162, 680)}
#: RAF-DB's compound test split (Table VIII). The training split is 3,162 faces in the same proportions.
COMPOUND_TEST = (135, 47, 22, 33, 18, 141, 33, 116, 38, 174, 35)
COMPOUND_TRAIN_TOTAL = 3162
#: CK+'s labelled sequences by posed emotion.
LAB_COUNTS = {"anger": 45, "contempt": 18, "disgust": 59, "fear": 25, "happiness": 69, "sadness": 28, "surprise": 83}
LAB_SUBJECTS = 123
#: How far the first and the last three frames of a sequence are on the way to the apex.
LAB_STAGES = (0.0, 0.86, 0.95, 1.0)

#: First identity number and how many people each part draws from. Training and test people are disjoint; the compound faces
#: show the same people as the basic ones, as RAF-DB's do.
PEOPLE = {"train": (0, 1600), "test": (10_000, 800), "lab": (20_000, LAB_SUBJECTS), "more": (30_000, 2400)}
#: How many times the test faces the sets of more have.
MORE = 3
#: A set's place seeds its pictures: new sets go to the end.
SETS = ("basic", "compound", "lab", "basic-more", "compound-more")


@dataclass(frozen=True)
class Job:
    """One picture to make.

    Attributes
    ----------
    set, split, name : str
        ``name`` is the file name without folder: RAF-DB's for the wild sets, CK+'s for the lab set.
    emotion : str
    label : int
        The owner's code for the emotion.
    person : int
        Identity number.
    key : tuple of int
        Seeds the picture's own random choices; the frames of one sequence share it.
    stage : float
        Share of the way to the apex (lab); 1 for the wild sets.
    """

    set: str
    split: str
    name: str
    emotion: str
    label: int
    person: int
    key: tuple[int, ...]
    stage: float = 1.0


def scale_counts(counts: Sequence[int], total: int) -> tuple[int, ...]:
    """Integers in the proportions of ``counts`` that sum to ``total`` (largest remainders)."""
    exact = np.asarray(counts, dtype=float) * total / sum(counts)
    whole = np.floor(exact).astype(int)
    whole[np.argsort(-(exact - whole), kind="stable")[: total - whole.sum()]] += 1
    return tuple(int(n) for n in whole)


def _wild(set_name: str, classes: Sequence[str], counts: Mapping[str, Sequence[int]], seed: int) -> list[Job]:
    jobs = []
    for split, by_class in counts.items():
        rng = np.random.default_rng([seed, SETS.index(set_name), split == "test"])
        labels = rng.permutation(np.repeat(np.arange(len(classes)), by_class))
        more = set_name.endswith("-more")
        first, people = PEOPLE["more" if more else split]
        who = first + rng.integers(0, people, len(labels))
        digits = 5 if split == "train" else 4
        # more test faces are counted on from the last of the others
        start = 1 + more * sum(by_class) // MORE
        for i, (label, person) in enumerate(zip(labels, who, strict=True)):
            key = (seed, 10 + SETS.index(set_name), int(split == "test"), i)
            jobs.append(Job(set_name, split, f"{split}_{start + i:0{digits}d}", classes[label], int(label) + 1, int(person), key))
    return jobs


def _lab(seed: int) -> list[Job]:
    from ..labels import CKPLUS

    rng = np.random.default_rng([seed, SETS.index("lab")])
    first, people = PEOPLE["lab"]
    load = np.zeros(people, dtype=int)
    taken: dict[int, int] = {}
    jobs = []
    for emotion, count in LAB_COUNTS.items():
        # Those with the fewest sequences so far pose next, so that every subject poses; ties are drawn.
        for subject in np.lexsort((rng.random(people), load))[:count]:
            load[subject] += 1
            take = taken[subject] = taken.get(subject, 0) + 1
            apex = int(rng.integers(9, 46))
            frames = (1, apex - 2, apex - 1, apex)
            for stage, frame in zip(LAB_STAGES, frames, strict=True):
                name = f"S{subject + 1:03d}_{take:03d}_{frame:08d}"
                key = (seed, 20, int(subject), int(take))
                jobs.append(Job("lab", "none", name, emotion, CKPLUS.encode(emotion), first + int(subject), key, stage))
    return sorted(jobs, key=lambda job: job.name)


def plan_set(name: str, seed: int) -> list[Job]:
    """The pictures of one set, in the order of their names.

    Parameters
    ----------
    name : {"basic", "compound", "lab", "basic-more", "compound-more"}
    seed : int

    Raises
    ------
    ValueError
        For another name.
    """
    if name == "basic":
        return _wild(name, BASIC, BASIC_COUNTS, seed)
    if name == "compound":
        train = scale_counts(COMPOUND_TEST, COMPOUND_TRAIN_TOTAL)
        return _wild(name, COMPOUND, {"train": train, "test": COMPOUND_TEST}, seed)
    if name == "basic-more":
        return _wild(name, BASIC, {"test": [MORE * count for count in BASIC_COUNTS["test"]]}, seed)
    if name == "compound-more":
        return _wild(name, COMPOUND, {"test": [MORE * count for count in COMPOUND_TEST]}, seed)
    if name == "lab":
        return _lab(seed)
    raise ValueError(f"unknown set {name!r}; expected one of {SETS}")

"""Zhang, Su & Wang 2020: what the paper prints of its settings, and the sizes at which the book runs them.

Beside a setting stands the section of the paper that prints it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ...experiments.recipe import Profile, Recipe, scale

__all__ = ["Generator", "Looking", "Recognition", "Timing"]


@dataclass(frozen=True)
class Generator(Recipe):
    """The first stage: two branches of the Attention Map Generator; what the paper does not say is marked.

    The book's growth rate is a quarter of the paper's, as FACSynth has a tenth of the images; steps are fewer, in the same proportions.
    """

    images: int = scale(30_000)  #: of a branch, half of them positive, IV-A
    validation: int = scale(3_000)  #: IV-A
    layers: tuple[int, ...] = (6, 12, 24)  #: III-A
    growth: int = scale(32)  #: not said; that of DenseNet-121, whose first blocks have these layers
    compression: float = 0.5  #: not said; that of DenseNet-BC
    evidence: str = "predicted"  #: III-B
    input_size: int = scale(48)  #: pixels, IV-B
    batch_size: int = 100  #: IV-C
    learning_rate: float = scale(0.1)  #: IV-C
    momentum: float = 0.9  #: IV-C
    gamma: float = 0.1  #: IV-C
    weight_decay: float = 0.0005  #: IV-C
    steps: int = scale(18_000)  #: not said; 60 epochs, three times what lies between two steps down
    milestones: tuple[int, ...] = scale((6_000, 12_000))  #: every 20 epochs of 300 batches, IV-C
    validate_every: int = scale(300)  #: not said; an epoch
    precision: str = scale("float32")  #: of the activations; not said
    tested: int | None = scale(None)  #: test faces of a class, in each part, whose attributes are asked for; None for all

    SIZES: ClassVar[Mapping[Profile, Mapping[str, Any]]] = {
        Profile.SMOKE: {
            "images": 40, "validation": 8, "growth": 2, "input_size": 16, "steps": 2, "milestones": (1,), "validate_every": 2, "tested": 8,
        },
        Profile.BOOK: {
            "images": 4_000, "validation": 400, "growth": 8, "steps": 1_500, "milestones": (500, 1_000), "validate_every": 100,
            "precision": "bfloat16",
        },
    }


@dataclass(frozen=True)
class Recognition(Recipe):
    """The second stage: the Feature Extractor, the unit and the classifier beside a frozen generator; what is not said is marked.

    Where there is nothing to be pre-trained on, the first training takes the rate and steps of the pre-training. ``growth``,
    ``compression`` and ``input_size`` have to be the generator's.
    """

    layers: tuple[int, ...] = (6, 6, 6)  #: III-A
    growth: int = scale(32)  #: not said; see Generator
    compression: float = 0.5  #: not said
    embedding: int = 128  #: of the auxiliary layers; not said
    reduction: int = scale(16)  #: channels for each number that the unit squeezes them to, III-D 2); the book keeps the 22 numbers
    margin: float = 10.0  #: of eyes and whole face, III-C 2) and III-D 1); of the mouth not said
    eyes_weight: float = 1.0  #: lambda 1, IV-C
    mouth_weight: float = 1.0  #: lambda 2, IV-C
    global_weight: float = 2.0  #: lambda 3 on CK+ and RAF-DB, IV-C
    oulu_global_weight: float = 5.0  #: lambda 3 on Oulu-CASIA, IV-C
    first_weight: float = 1.0  #: lambda 4, IV-C
    second_weight: float = 1.0  #: lambda 5, IV-C
    same: float = 0.5  #: share of pairs of one class; not said
    folds: int = scale(10)  #: of people, IV-B; only a smoke test has fewer
    input_size: int = scale(48)  #: pixels, IV-B
    batch_size: int = 100  #: IV-C; images, so 50 pairs: which of the two is not said
    pretraining_rate: float = 0.1  #: on FER2013, IV-C
    learning_rate: float = 0.01  #: of the fine-tuning, IV-C
    momentum: float = 0.9  #: IV-C
    gamma: float = 0.1  #: IV-C
    drops: tuple[float, ...] = (0.5, 0.75)  #: of the steps, after which the rate falls, IV-C
    weight_decay: float = 0.0005  #: IV-C
    pretraining_steps: int = scale(11_500)  #: not said; 40 epochs of FER2013
    steps: int = scale(5_000)  #: of the fine-tuning in the wild; not said; 40 epochs of RAF-DB
    lab_steps: int = scale(350)  #: of the fine-tuning on nine folds of a lab; not said; 40 epochs of CK+
    precision: str = scale("float32")  #: of the activations; not said
    images: int | None = scale(None)  #: of a class, in each part; None for all

    SIZES: ClassVar[Mapping[Profile, Mapping[str, Any]]] = {
        Profile.SMOKE: {
            "growth": 2, "reduction": 4, "input_size": 16, "pretraining_steps": 2, "steps": 2, "lab_steps": 2, "folds": 2, "images": 12,
        },
        Profile.BOOK: {"growth": 8, "reduction": 4, "pretraining_steps": 2_000, "steps": 2_000, "lab_steps": 200, "precision": "bfloat16"},
    }


@dataclass(frozen=True)
class Looking(Recipe):
    """Where attention maps lie, and on which faces: all of it is the book's, as the paper measures nothing."""

    grid: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  #: of thresholds; one of them is chosen
    shown: tuple[float, ...] = (0.3, 0.5, 0.7)  #: thresholds at which each face is kept
    turns: tuple[float, ...] = (15.0, 30.0)  #: degrees of yaw that part nearly frontal faces, turned ones and half profiles
    reach: int = 15  #: pixels of 100 that a face is moved at most, up or down and to the sides
    validation: float = 0.2  #: share of the training people on whom the threshold is chosen
    images: int | None = scale(None)  #: of a class, in each part; None for all

    SIZES: ClassVar[Mapping[Profile, Mapping[str, Any]]] = {Profile.SMOKE: {"images": 12}, Profile.BOOK: {}}


@dataclass(frozen=True)
class Timing(Recipe):
    """How often the parts are timed; of the book."""

    trials: int = scale(10)  #: of each part
    steps: int = scale(5)  #: of a trial

    SIZES: ClassVar[Mapping[Profile, Mapping[str, Any]]] = {Profile.SMOKE: {"trials": 2, "steps": 1}, Profile.BOOK: {}}

"""Li & Deng 2019: what the paper prints of its settings, and the sizes at which the book runs them.

Beside a setting stands the section of the paper that prints it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ...experiments.recipe import Profile, Recipe, scale

__all__ = ["DLPCNN", "Baselines", "Coding", "CrossDatabase", "Crowd", "Scaling"]


@dataclass(frozen=True)
class Crowd(Recipe):
    """The EM on the annotators' votes (sections III-A4 and III-A5, Algorithm 1).

    Attributes
    ----------
    tolerance : float
        Gain of the objective, as a share of its size, below which the two starts are compared as converged. Not in the paper.
    parts : int
        The two starts are compared on each of so many disjoint parts of the faces. Not in the paper.
    max_iterations : int
        Not in the paper.
    faces : int, optional
        Only the first so many. A count, though the name says a dataset elsewhere: the kept results are found by it.
    """

    tolerance: float = 1e-6
    parts: int = 10
    max_iterations: int = scale(3_000)
    faces: int | None = scale(None)

    SIZES: ClassVar[Mapping[Profile, Mapping[str, Any]]] = {Profile.SMOKE: {"faces": 60, "max_iterations": 60}, Profile.BOOK: {}}


@dataclass(frozen=True)
class Baselines(Recipe):
    """Descriptors and classifiers of section V-A; what the paper does not say is marked."""

    C: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)  #: not said; chosen on the mean diagonal, V-A
    validation: float = 0.2  #: share of the training faces on which C is chosen; not said
    folds: int = 5  #: on CK+, V-A 1); of people, as in V-D: V-A does not say of what
    people: int = 10  #: JAFFE's, each left out once, V-A 1)
    images: int | None = scale(None)  #: of a class, in each part, and then one fold only; None for all

    SIZES: ClassVar[Mapping[Profile, Mapping[str, Any]]] = {Profile.SMOKE: {"images": 12}, Profile.BOOK: {}}


@dataclass(frozen=True)
class CrossDatabase(Recipe):
    """Training on one database and testing on another, section III-B; what the paper does not say is marked."""

    C: tuple[float, ...] = (0.5, 2.0, 8.0, 32.0, 128.0)  #: a grid search, III-B; its values are not said
    gamma: tuple[float, ...] = (2**-11, 2**-9, 2**-7, 2**-5, 2**-3)  #: not said
    folds: int = scale(5)  #: of the training database's people, on which C and gamma are chosen; not said
    images: int | None = scale(None)  #: of a class, in each database; None for all

    SIZES: ClassVar[Mapping[Profile, Mapping[str, Any]]] = {Profile.SMOKE: {"images": 6, "folds": 2}, Profile.BOOK: {}}


@dataclass(frozen=True)
class Coding(Recipe):
    """Two simulated coders of action units, in the place of section III-B's two people; every number but the first is ours.

    A coder reads a unit's intensity with a normal error and codes what reads above a threshold; see
    :func:`~fer_utils.papers.dlp_cnn.facs.read_units`.
    """

    faces: int = 309  #: how many are coded, III-B; a count, though the name says a dataset elsewhere: the kept results are found by it
    thresholds: tuple[float, float] = (0.18, 0.22)  #: one coder is a little stricter; units of intensity, 1 is a unit's strongest
    error: float = 0.05  #: standard deviation of a reading on a frontal, sharp, open face
    blur: float = 0.05  #: added to it on the coarsest pictures, whose detail is 0.4 of the finest
    turn: float = 0.05  #: added to it at 45 degrees from the camera
    slip: float = 0.01  #: of the codes are wrong for no reason

    SIZES: ClassVar[Mapping[Profile, Mapping[str, Any]]] = {Profile.SMOKE: {}, Profile.BOOK: {}}


@dataclass(frozen=True)
class DLPCNN(Recipe):
    """Networks and classifiers on their features (sections V-B to V-D); what the paper does not say is marked.

    The book's size is an eighth of the width, about half of the resolution and 8,000 iterations, at which twice as many bring baseDCNN less
    than a point of mean recall on held-back people (``dlp-cnn/scaling``). Its learning rate is larger, since fewer steps are taken, and
    first steps down half-way instead of after a quarter; the three losses have all of this alike.
    """

    neighbours: int = 20  #: k, V-B
    weight: float = 0.003  #: lambda, V-B; of center loss too, as far as Fig. 10(b) tells
    centre_rate: float = 0.5  #: alpha of center loss; not said, that of Wen et al. 2016
    weights: tuple[float, ...] = (0.001, 0.01, 0.03, 0.1)  #: lambda from 0 to 0.1 in Fig. 8; the values between are not said
    rival_weights: tuple[float, ...] = (0.003, 0.03, 0.1)  #: lambda in Fig. 10(b), where center loss is compared; likewise
    neighbourhoods: tuple[int, ...] = (10, 40, 60)  #: k from 10 to 60 in Fig. 8; likewise
    batch_size: int = 64  #: V-B
    learning_rate: float = scale(0.01)  #: V-B
    others_learning_rate: float = 0.01  #: of AlexNet and VGG from scratch, in any profile: VGG does not leave chance at the book's
    momentum: float = 0.9  #: V-B
    gamma: float = 0.1  #: V-B
    weight_decay: float = 0.0005  #: of the convolutions and the first dense layer, V-B
    last_weight_decay: float = 0.0025  #: of the second dense layer, V-B
    C: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)  #: not said; chosen on the mean diagonal, V-A
    validation: float = 0.2  #: share of the training faces on which C is chosen; not said
    folds: int = 5  #: of people, V-D
    trials: int = 10  #: of the time of a step, V-C
    input_size: int = scale(90)  #: pixels, cut out of the faces, V-B
    image_size: int | None = scale(None)  #: pixels of the whole faces; None: the 100 that they come with, V-A
    width: float = scale(1.0)  #: Table IV
    vgg_depth: int = scale(16)  #: not said
    precision: str = scale("float32")  #: of the activations; Caffe's was single precision
    iterations: int = scale(20_000)  #: V-B
    milestones: tuple[int, ...] = scale((5_000, 18_000))  #: V-B
    watch_every: int = scale(500)  #: iterations between two points of the curve of Fig. 10(a); not said
    trial_iterations: int = scale(500)  #: V-C
    images: int | None = scale(None)  #: of a class, in each part; None for all

    SIZES: ClassVar[Mapping[Profile, Mapping[str, Any]]] = {
        Profile.SMOKE: {
            "input_size": 24, "image_size": 27, "width": 0.05, "vgg_depth": 11, "iterations": 6, "milestones": (3, 5), "watch_every": 2,
            "trial_iterations": 2, "images": 12,
        },
        Profile.BOOK: {
            "input_size": 48, "image_size": 54, "width": 0.125, "vgg_depth": 11, "precision": "bfloat16", "learning_rate": 0.03,
            "iterations": 8_000, "milestones": (4_000, 7_200), "watch_every": 800, "trial_iterations": 100,
        },
    }


@dataclass(frozen=True)
class Scaling(Recipe):
    """How far baseDCNN gets with how much training: no table of the paper, but what decides at which size the book may compare losses.

    The paper's step down after a quarter of the iterations is made half-way, and its learning rate is larger, since fewer steps are taken;
    both are matters of scale, chosen on held-back people.
    """

    batch_size: int = 64  #: V-B
    momentum: float = 0.9  #: V-B
    gamma: float = 0.1  #: V-B
    weight_decay: float = 0.0005  #: V-B
    last_weight_decay: float = 0.0025  #: V-B
    drops: tuple[float, float] = (0.5, 0.9)  #: of the steps, after which the learning rate falls; 0.25 and 0.9 in V-B
    validation: float = 0.2  #: share of the training faces, by people, that convergence is measured on
    learning_rate: float = scale(0.01)  #: V-B
    input_size: int = scale(90)  #: pixels, V-B
    image_size: int | None = scale(None)  #: V-A
    precision: str = scale("float32")  #: of the activations
    shortening: int = scale(1)  #: divides the steps
    images: int | None = scale(None)  #: of a class, in each part; None for all

    SIZES: ClassVar[Mapping[Profile, Mapping[str, Any]]] = {
        Profile.SMOKE: {"input_size": 24, "image_size": 27, "shortening": 250, "images": 12},
        Profile.BOOK: {"input_size": 48, "image_size": 54, "precision": "bfloat16", "learning_rate": 0.03},
    }

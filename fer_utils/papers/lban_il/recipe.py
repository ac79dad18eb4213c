"""Li et al. 2021: what the paper prints of its settings, and the sizes at which the book runs them.

Beside a setting stands the section of the paper that prints it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ...experiments.recipe import Profile, Recipe, scale

__all__ = ["LBANIL", "FaceNetworkLosses", "Timing", "Toy"]


@dataclass(frozen=True)
class LBANIL(Recipe):
    """The network, its losses and their training (sections 2 to 4.2); what the paper does not say is marked.

    The paper counts epochs, and says when the learning rate first falls and how often, but not when training ends. The book's size is an
    eighth of the width and half of the resolution. Its learning rate is larger and its weight decay smaller,
    since fewer steps are taken: with the paper's decay the network still guessed after 3,800 of them, at learning rates of 0.001 and 0.01.

    Dropout scales with the width, too. Of an eighth of the features the paper's half leaves so little that the network guesses for some
    2,000 steps and learns slowly after that. On training people who were held back, 40 epochs gave a mean recall of 60.0 % with a half and
    of 70.7 with a twentieth, and 80 epochs 65.1 and 76.4 (softmax loss, one seed, 1,227 faces or 1,229). The book
    trains for 80: twice as many gave 76.9, while of the training faces the network then knew 90.0 % in the place of 81.7.

    So is the weight of the losses on features. With 0.6 center and island loss made all features one point and the network guessed
    (14.3 %), while islets loss pulls the centres apart first, and learned (33.9); with 0.06 center loss had 18.6 %, the others guessed;
    with 0.006 all three learned (42.5, 41.6 and 27.2). These are mean recalls on held-back people after 1,200 steps, one seed each, with
    the paper's dropout; the weight with the highest mean was taken for all. With the book's dropout, 0.06 gave 34.5, 14.3 and 43.8.
    ``lban-il/islets`` trains with the paper's, too.
    """

    weight: float = scale(0.6)  #: lambda, 4.2; of center and island loss not said, the same here
    lambda1: float = 0.2  #: of the island's part, 4.2
    lambda2: float = 0.9  #: of the penalty, 4.2
    centre_rate: float = 0.5  #: alpha, Algorithm 1; its value is not said, that of Wen et al. 2016
    centre_std: float = 0.01  #: of the first centres' coordinates; not said
    centre_rule: str = "corrected"  #: how the terms between centres move them: their derivative; "printed" is eq. 4
    reduction: str = "mean"  #: of center loss over the batch; eq. 3 is a "sum"'s gradient, while eq. 6 is a mean
    sparsity: float = 0.5  #: share of the fixed weights that are 0, 2.1
    dropout: float = scale(0.5)  #: before each of the two last layers, 4.2
    features: int = 128  #: section 2
    batch_size: int = 64  #: 4.2
    momentum: float = 0.9  #: 4.2
    weight_decay: float = scale(0.05)  #: of all layers, 4.2
    gamma: float = 0.9  #: 4.2
    crops: int = 10  #: of a test image, 4.1
    learning_rate: float = scale(0.001)  #: 4.2
    epochs: int = scale(100)  #: not said
    first_drop: int = scale(20)  #: epoch after which the learning rate first falls, 4.2
    drop_every: int = scale(5)  #: epochs, 4.2
    input_size: int = scale(80)  #: pixels, cut out of the faces, 4.1; 40 on FER-2013
    image_size: int | None = scale(None)  #: pixels of the whole faces; None: the 100 that they come with, 4.1; 48 on FER-2013
    width: float = scale(1.0)  #: channels of 128, 256 and 512, 2.2
    precision: str = scale("float32")  #: of the activations; not said
    folds: int = scale(10)  #: groups of faces on ExpW, 4.1
    images: int | None = scale(None)  #: of a class, in each part; None for all

    SIZES: ClassVar[Mapping[Profile, Mapping[str, Any]]] = {
        Profile.SMOKE: {
            "weight": 0.006, "learning_rate": 0.1, "weight_decay": 0.0005, "epochs": 3, "first_drop": 1, "drop_every": 1, "input_size": 24,
            "image_size": 30, "width": 0.05, "images": 12, "folds": 2,
        },
        Profile.BOOK: {
            "weight": 0.006, "learning_rate": 0.1, "weight_decay": 0.0005, "epochs": 80, "first_drop": 16, "drop_every": 2,
            "input_size": 40, "image_size": 50, "width": 0.125, "dropout": 0.05, "precision": "bfloat16",
        },
    }


@dataclass(frozen=True)
class FaceNetworkLosses(Recipe):
    """The upper stages of a network that knows faces, with and without the paper's losses; the paper has no such row.

    The settings are those that the book found for this network under softmax, on held-back people of FACSynth's
    training faces; lambda and the centres are the paper's, see :class:`LBANIL`.
    """

    stage: str = "stage_128"  #: the last that stays as it is
    batch_size: int = 32  #: faces
    learning_rate: float = 0.03  #: of SGD
    momentum: float = 0.9  #: of SGD
    milestones: tuple[float, ...] = (2 / 3, 0.87)  #: as shares of the steps
    gamma: float = 0.1  #: factor of the learning rate at a milestone
    weight_decay: float = 0.0005  #: of all layers
    precision: str = "bfloat16"  #: of activations
    steps: int = scale(1200)  #: of training
    images: int | None = scale(None)  #: of a class, in each part; None for all

    SIZES: ClassVar[Mapping[Profile, Mapping[str, Any]]] = {Profile.SMOKE: {"images": 4, "steps": 3}, Profile.BOOK: {}}


@dataclass(frozen=True)
class Toy(Recipe):
    """The three classes of Fig. 1, which the paper draws by hand; every number is the book's.

    Each class is two clouds, so that a straight line does not part them, and the clouds overlap. A coordinate of a
    first centre is drawn wider than in the networks: two coordinates then make a centre as long as 128 do there.
    """

    classes: int = 3  #: as in Fig. 1
    clouds: int = 2  #: of each class
    dimensions: int = 8  #: of a point
    reach: float = 1.5  #: standard deviation of a coordinate of a cloud's middle; that of a point around it is 1
    train: int = 600  #: points, the same for every loss and seed
    test: int = 600  #: points, likewise
    hidden: int = 32  #: rectified units before the two features
    weight: float = 0.6  #: lambda, 4.2
    centre_std: float = 0.08  #: standard deviation of a coordinate of a first centre
    batch_size: int = 64  #: points
    learning_rate: float = 0.05  #: of SGD
    momentum: float = 0.9  #: of SGD
    weight_decay: float = 0.0005  #: of all layers
    steps: int = scale(1500)  #: of training

    SIZES: ClassVar[Mapping[Profile, Mapping[str, Any]]] = {Profile.SMOKE: {"steps": 40}, Profile.BOOK: {}}


@dataclass(frozen=True)
class Timing(Recipe):
    """How time and memory are measured: at the paper's width and resolution also for the book."""

    batch_size: int = scale(64)  #: 4.2
    steps: int = 2  #: of a trial
    trials: int = scale(6)  #: after one to warm up
    width: float = scale(1.0)  #: 2.2
    input_size: int = scale(80)  #: pixels, 4.1

    SIZES: ClassVar[Mapping[Profile, Mapping[str, Any]]] = {
        Profile.SMOKE: {"batch_size": 4, "width": 0.05, "input_size": 24, "trials": 2}, Profile.BOOK: {"batch_size": 16}
    }

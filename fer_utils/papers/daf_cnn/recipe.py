"""Zhou et al.: what the paper prints of its settings, what it leaves open, and the sizes at which the book runs it.

Beside a setting stands the section of the paper that prints it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ...experiments.recipe import Profile, Recipe, scale

__all__ = ["DAFCNN", "VARIANTS", "CentreRules", "DAFCNNSmallSet", "StepTime"]

#: Rows of Table 1: with attention, and with the triplet-centre loss?
VARIANTS: Mapping[str, tuple[bool, bool]] = {
    "DAF-CNN_NOatt&tcl": (False, False), "DAF-CNN_NOatt": (False, True), "DAF-CNN_NOtcl": (True, False), "DAF-CNN": (True, True),
}


@dataclass(frozen=True)
class DAFCNN(Recipe):
    """The network and its training on the large set, FER2013 in the paper; what the paper does not say is marked.

    The book's size is an eighth of the width, and half of the resolution with one pooling less, so that attention meets maps of 6x6 as it
    does at the paper's. Training ends as at the paper's. On training people who were held back, the whole network ended after 125 epochs,
    at the least rate, with a mean recall of 59.0 %; sixty epochs, in which the rate never fell, gave 56.0 (one seed each).
    """

    # network
    convolutions: tuple[int, ...] = (3, 3, 4, 4, 4)  #: of each block, 3.1
    channels: tuple[int, ...] = (64, 128, 256, 512, 512)  #: not said; VGG's
    width: float = scale(1.0)  #: factor of the channels and of the first dense layer
    pools: int = scale(4)  #: behind the first so many blocks; not said, five would leave 3x3 under a kernel of 7x7
    attention: str | None = "cascaded"  #: 3.2.3; "parallel", or None for the rows that go without
    reduction: int = 8  #: r, 4.2
    net_output: str = "linear"  #: of FC_2; 3.2.1 calls Net a sigmoid, beside that of eq. 1
    kernel_size: int = 7  #: of eq. 3, 4.2
    pool_over: str = "channels"  #: 3.2.2 says along the width, but gives maps of W x H
    dense: int = 512  #: outputs of the first dense layer; not said
    embedding_size: int = 128  #: of the second; not said
    dropout: float = 0.5  #: behind each dense layer, 4.2
    in_channels: int = 1  #: not said; FER2013 is grey
    input_size: int = scale(96)  #: pixels, 4.2
    image_size: int = scale(108)  #: pixels of the whole faces, from which windows are cut; the kind of augmentation is not said

    # objective
    margin: float = 11.0  #: m, 4.2
    weight: float = 0.007  #: lambda, 4.2
    reduction_of_loss: str = "sum"  #: over a batch, eq. 9; the softmax loss, for which there is no equation, is a mean
    centre_rule: str = "corrected"  #: "printed" is eq. 12 as it stands, which moves centres away from their classes
    centre_rate: float = 0.5  #: alpha; not said, that of Wen et al. 2016
    centre_std: float = 0.01  #: 4.2; around 0

    # training
    batch_size: int = 128  #: 4.2
    images_per_batch: int = 128  #: an epoch has a batch for so many training images, 4.2
    learning_rate: float = 0.001  #: Adam, 4.2
    least_rate: float = 1e-5  #: 4.2
    factor: float = 0.2  #: of the learning rate, 4.2
    patience: int = 13  #: epochs without a gain, 4.2
    min_delta: float = 0.0005  #: gain of validation accuracy that counts, 4.2
    validation: float = 0.1  #: share of the training faces, by people, that the rate follows; of what it is in the paper is not said
    epochs: int = scale(300)  #: at most; not said. It ends where the least rate brings no gain for so many epochs as lower it
    images: int | None = scale(None)  #: of a class, in each part; None for all
    drawn: int = 512  #: training faces of Fig. 4

    SIZES: ClassVar[Mapping[Profile, Mapping[str, Any]]] = {
        Profile.SMOKE: {"input_size": 24, "image_size": 27, "width": 0.0625, "pools": 2, "epochs": 2, "images": 12},
        Profile.BOOK: {"input_size": 48, "image_size": 54, "width": 0.125, "pools": 3},
    }


@dataclass(frozen=True)
class DAFCNNSmallSet(DAFCNN):
    """The second stage, on the small set: SFEW 2.0 in the paper. All that is not here is as in the first.

    4.3.2 replaces the softmax loss by the TC loss, while eq. 13 and the lambda that 4.2 gives for SFEW join the two. ``softmax_weight`` is
    1 for the latter, which is the default, and 0 for the former; expressions are then told apart by the nearest centre.
    """

    margin: float = 13.0  #: m, 4.2
    weight: float = 0.013  #: lambda, 4.2
    softmax_weight: float = 1.0  #: 1 is eq. 13, 0 is 4.3.2
    batch_size: int = 32  #: 4.2
    folds: int = 5  #: of people, where the owners define no parts

    # three frames a sequence: of each class five people or more, one a fold
    SIZES: ClassVar[Mapping[Profile, Mapping[str, Any]]] = {
        **DAFCNN.SIZES, Profile.SMOKE: {**DAFCNN.SIZES[Profile.SMOKE], "images": 21},
    }


@dataclass(frozen=True)
class CentreRules(DAFCNN):
    """A short training, to see what either sign of eq. 12 does to the centres; nothing is chosen, and the rate stays."""

    epochs: int = scale(5)  #: enough to see where the centres go

    SIZES: ClassVar[Mapping[Profile, Mapping[str, Any]]] = {
        Profile.SMOKE: {**DAFCNN.SIZES[Profile.SMOKE], "epochs": 2},
        Profile.BOOK: {**DAFCNN.SIZES[Profile.BOOK], "epochs": 5},
    }


@dataclass(frozen=True)
class StepTime(DAFCNN):
    """How often a step is timed in Keras and in PyTorch."""

    batch_size: int = scale(128)  #: 4.2; only a smoke test has a smaller one
    trials: int = scale(20)  #: of each, in turns
    trial_steps: int = scale(20)  #: steps of a trial

    SIZES: ClassVar[Mapping[Profile, Mapping[str, Any]]] = {
        Profile.SMOKE: {**DAFCNN.SIZES[Profile.SMOKE], "batch_size": 16, "trials": 2, "trial_steps": 2},
        Profile.BOOK: {**DAFCNN.SIZES[Profile.BOOK], "trials": 20, "trial_steps": 5},
    }

"""Li et al. 2021: what the paper prints of its settings, and the sizes at which the book runs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ...experiments.recipe import Profile, Recipe, scale

__all__ = ["LBANIL"]


@dataclass(frozen=True)
class LBANIL(Recipe):
    """The network, its losses and their training (sections 2 to 4.2); what the paper does not say is marked.

    The paper counts epochs, and says when the learning rate first falls and how often, but not when training ends. The book's size is an
    eighth of the width and half of the resolution. Its learning rate is larger, since fewer steps are taken.
    """

    weight: float = 0.6  # lambda, 4.2; of center and island loss not said, the same here
    lambda1: float = 0.2  # of the island's part, 4.2
    lambda2: float = 0.9  # of the penalty, 4.2
    centre_rate: float = 0.5  # alpha, Algorithm 1; its value is not said, that of Wen et al. 2016
    centre_std: float = 0.01  # of the first centres' coordinates; not said
    centre_rule: str = "corrected"  # how the terms between centres move them: their derivative; "printed" is eq. 4
    reduction: str = "mean"  # of center loss over the batch; eq. 3 is a "sum"'s gradient, while eq. 6 is a mean
    sparsity: float = 0.5  # share of the fixed weights that are 0, 2.1
    dropout: float = 0.5  # before each of the two last layers, 4.2
    features: int = 128  # section 2
    batch_size: int = 64  # 4.2
    momentum: float = 0.9  # 4.2
    weight_decay: float = 0.05  # of all layers, 4.2
    gamma: float = 0.9  # 4.2
    crops: int = 10  # of a test image, 4.1
    folds: int = 10  # on ExpW, 4.1
    learning_rate: float = scale(0.001)  # 4.2
    epochs: int = scale(100)  # not said
    first_drop: int = scale(20)  # epoch after which the learning rate first falls, 4.2
    drop_every: int = scale(5)  # epochs, 4.2
    input_size: int = scale(80)  # pixels, cut out of the faces, 4.1; 40 on FER-2013
    image_size: int | None = scale(None)  # pixels of the whole faces; None: the 100 that they come with, 4.1; 48 on FER-2013
    width: float = scale(1.0)  # channels of 128, 256 and 512, 2.2
    precision: str = scale("float32")  # of the activations; not said
    images: int | None = scale(None)  # of a class, in each part; None for all

    SIZES: ClassVar[Mapping[Profile, Mapping[str, Any]]] = {
        Profile.SMOKE: {
            "learning_rate": 0.01, "epochs": 3, "first_drop": 1, "drop_every": 1, "input_size": 24, "image_size": 30, "width": 0.05,
            "images": 12,
        },
        Profile.BOOK: {
            "learning_rate": 0.01, "epochs": 40, "first_drop": 8, "drop_every": 2, "input_size": 40, "image_size": 50, "width": 0.125,
            "precision": "bfloat16",
        },
    }

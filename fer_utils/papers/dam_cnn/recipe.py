"""Xie, Hu & Wu 2019: what the paper prints of its settings, and the sizes at which the book runs them.

Beside a setting stands the section of the paper that prints it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ...experiments.recipe import Profile, Recipe, scale
from .protocol import POSED

__all__ = ["Looks", "StageOne", "StageOneLab", "StageTwo", "StageTwoLab", "choose_recipes"]


@dataclass(frozen=True)
class StageOne(Recipe):
    """Trunk and SERD, trained together (sections 3.1, 3.2 and 4.1.2); what the paper does not say is marked.

    The paper's rate, 0.00001, is one for Adam, which it does not name. It trains "until the loss converges", and says
    of neither batch, steps nor weight decay a word; there is none here. The book's trunk is the face network that
    ships, of which the stages up to ``frozen`` are computed once for each face.

    SGD at the rate of 0.03, best for the face network's upper stages without a mask (``transfer/face-network``), closes
    the mask for good within 50 steps. In the first 80 steps on 256 training faces the loss fell to 1.74 with SGD at
    0.01, to 1.35 with Adam at 0.0003, and not at all with Adam at 0.001, of which the mask nearly closed.
    """

    gamma_1: float = 0.001  #: of the mask's size, 4.1.2
    gamma_2: float = 0.0001  #: of its emptiness, 4.1.2
    averaged: bool = True  #: whether the regulariser takes means over places; eq. 3 has sums, which close the mask: see ``objective``
    dropout: float = 0.5  #: 4.1.2
    trunk: str = scale("vgg_face")  #: 3.1
    frozen: str | None = scale(None)  #: the last stage of the face network that stays as it is; none, 3.1
    width: float = scale(1.0)  #: of VGG-Face, Table 1
    input_size: int = scale(224)  #: pixels, 4.1.1
    mirrored: bool = scale(False)  #: whether mirror images are trained on too; the paper mirrors JAFFE's alone, 4.1.1
    learning_rate: float = scale(1e-5)  #: alpha_a, 4.1.2; alpha_S in Algorithm 1
    milestones: tuple[float, ...] = scale(())  #: as shares of the steps; not said
    batch_size: int = 32  #: not said
    balanced: bool = scale(False)  #: whether batches hold all classes evenly; not said
    momentum: float = 0.9  #: Adam's first beta; the optimiser is not said
    gamma: float = 0.1  #: of the rate at each milestone; not said
    precision: str = scale("float32")  #: of the activations; not said
    steps: int = scale(10_000)  #: not said
    images: int | None = scale(None)  #: of a class, in each part; None for all
    folds: int | None = scale(None)  #: at most so many; None for the paper's
    validation: float = 0.2  #: of the training people, on whom the number of paths is chosen; the paper chooses it on test faces

    SIZES: ClassVar[Mapping[Profile, Mapping[str, Any]]] = {
        Profile.SMOKE: {
            "trunk": "face_network", "frozen": "stage_64", "input_size": 150, "steps": 3, "images": 8, "folds": 2,
        },
        Profile.BOOK: {
            "trunk": "face_network", "frozen": "stage_64", "input_size": 150, "mirrored": True, "learning_rate": 3e-4,
            "milestones": (2 / 3, 0.87), "balanced": True, "precision": "bfloat16", "steps": 1_200,
        },
    }


@dataclass(frozen=True)
class StageTwo(Recipe):
    """MPVS-Net on the salient features of stage one, whose trunk and SERD stay as they are (sections 3.3 and 4.1.2)."""

    weight: float = 20.0  #: lambda, 4.1.2
    dropout: float = 0.5  #: 4.1.2
    decoder: str = "dense"  #: Table 1
    momentum: float = 0.9  #: Adam's first beta; the optimiser is not said, and has to be Adam: see ``objective``
    hidden: int = scale(4096)  #: Table 1
    learning_rate: float = scale(1e-4)  #: alpha_M and alpha_fc, 4.1.2
    batch_size: int = 32  #: not said
    balanced: bool = scale(False)  #: not said
    precision: str = scale("float32")  #: not said
    steps: int = scale(10_000)  #: not said

    SIZES: ClassVar[Mapping[Profile, Mapping[str, Any]]] = {
        Profile.SMOKE: {"hidden": 32, "steps": 3},
        Profile.BOOK: {"hidden": 512, "learning_rate": 1e-3, "balanced": True, "precision": "bfloat16", "steps": 1_500},
    }


@dataclass(frozen=True)
class StageOneLab(StageOne):
    """The same on posed faces, of which a fold has a seventh as many to train on: fewer steps."""

    SIZES: ClassVar[Mapping[Profile, Mapping[str, Any]]] = {**StageOne.SIZES, Profile.BOOK: {**StageOne.SIZES[Profile.BOOK], "steps": 400}}


@dataclass(frozen=True)
class StageTwoLab(StageTwo):
    """The same on posed faces."""

    SIZES: ClassVar[Mapping[Profile, Mapping[str, Any]]] = {**StageTwo.SIZES, Profile.BOOK: {**StageTwo.SIZES[Profile.BOOK], "steps": 500}}


@dataclass(frozen=True)
class Looks(Recipe):
    """At how many test faces a trained network is looked at more closely; the paper shows six faces of each set."""

    maps: int = scale(3_068)  #: faces of which maps and silhouettes are kept; as many as RAF-DB's test part
    curves: int = scale(300)  #: of these, faces that lose places and get them back
    points: int = scale(8)  #: in how many steps
    people: int = scale(200)  #: who are asked for in the probes
    faces_each: int = scale(6)  #: of each of them, at least
    spread: float = 0.25  #: of the centred Gaussian, as a share of the image

    SIZES: ClassVar[Mapping[Profile, Mapping[str, Any]]] = {
        Profile.SMOKE: {"maps": 40, "curves": 4, "points": 2, "people": 24, "faces_each": 2}, Profile.BOOK: {},
    }


def choose_recipes(profile: str, role: str, *names: str) -> dict[str, Recipe]:
    """The recipes for a role's faces.

    Parameters
    ----------
    profile, role : str
    *names : str
        Which: ``first`` and ``second``, of the stages, and ``looks``.
    """
    posed = role in POSED
    recipes = {
        "first": StageOneLab() if posed else StageOne(), "second": StageTwoLab() if posed else StageTwo(), "looks": Looks(),
    }
    return {name: recipes[name].at(profile) for name in names}

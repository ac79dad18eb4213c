"""Which faces train, choose and test, for each role: the protocols of Li & Deng 2019 (V-A, V-D), which other papers share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from ..datasets.base import FaceDataset
from ..splits import Split, leave_one_subject_out, predefined, subject_kfold, validation_split

__all__ = ["BY_PEOPLE", "SplitRecipe", "split_role"]

#: Roles whose faces are split by folds of people, as their owners define no parts.
BY_PEOPLE = ("lab", "mmi")


class SplitRecipe(Protocol):
    """What :func:`split_role` asks of a recipe."""

    @property
    def folds(self) -> int:
        """Of people, where the owners define no parts."""

    @property
    def validation(self) -> float:
        """Share of a training part on which to choose, where its people are not split into folds."""


def split_role(faces: FaceDataset, role: str, recipe: SplitRecipe) -> Iterator[tuple[Split, Split | list[Split]]]:
    """Split the faces of a role, with splits of each training part on which C is chosen.

    Parameters
    ----------
    faces : FaceDataset
    role : str
        ``lab`` and ``mmi``: folds of people; ``lab-small``: each person left out once; ``film``: the owners' parts, tested on the
        validation part, as labels of SFEW's test part are not public; others: the owners' train and test part.
    recipe : SplitRecipe
        For ``folds`` and ``validation``.

    Yields
    ------
    Split
    Split or list of Split
        Of the training faces.
    """
    if role in BY_PEOPLE:
        for split in subject_kfold(faces, recipe.folds):
            yield split, subject_kfold(faces.subset(split.train), recipe.folds)
    elif role == "lab-small":
        for split in leave_one_subject_out(faces):
            yield split, leave_one_subject_out(faces.subset(split.train))
    else:
        (split,) = predefined(faces, test="val" if role == "film" else "test")
        yield split, validation_split(faces.subset(split.train), recipe.validation)

from dataclasses import FrozenInstanceError, dataclass
from typing import ClassVar

import pytest

from fer_utils.experiments.recipe import Profile, Recipe, scale


@dataclass(frozen=True)
class Toy(Recipe):
    neighbours: int = 20
    width: float = scale(1.0)
    epochs: int = scale(60)
    SIZES: ClassVar = {Profile.SMOKE: {"width": 0.05, "epochs": 1}, Profile.BOOK: {"width": 0.25}}


@dataclass(frozen=True)
class Cheat(Toy):
    SIZES: ClassVar = {Profile.BOOK: {"neighbours": 5}, Profile.PAPER: {"width": 2.0}}


def test_a_profile_changes_the_scale():
    assert Toy().at("smoke") == Toy(20, 0.05, 1)
    assert Toy(neighbours=7).at(Profile.BOOK) == Toy(7, 0.25, 60)
    assert Toy().at("paper") == Toy()
    assert Toy().as_arguments() == {"neighbours": 20, "width": 1.0, "epochs": 60}


@pytest.mark.parametrize(
    ("recipe", "profile", "message"),
    [
        (Toy(), "huge", r"unknown profile 'huge'; expected one of smoke, book, paper"),
        (Cheat(), "book", r"Cheat: the profile book changes neighbours; a profile changes only width, epochs"),
        (Cheat(), "paper", r"Cheat: SIZES may not change the paper's profile"),
        (Cheat(), "smoke", r"Cheat: no sizes for the profile smoke"),
    ],
)
def test_a_profile_changes_nothing_else(recipe, profile, message):
    with pytest.raises(ValueError, match=message):
        recipe.at(profile)


def test_a_recipe_is_frozen():
    with pytest.raises(FrozenInstanceError):
        Toy().width = 2

"""What a recipe is: a method's settings as the paper prints them, and the sizes at which the book runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, ClassVar, Self

__all__ = ["Profile", "Recipe", "scale"]

_SCALE = "scale"


class Profile(StrEnum):
    """How large a run is."""

    #: Seconds on a CPU: whether the wires are connected.
    SMOKE = "smoke"
    #: What the chapters show; a training run takes at most 3 minutes on 2 CPU cores.
    BOOK = "book"
    #: The paper's own widths, schedule and protocol.
    PAPER = "paper"

    @classmethod
    def _missing_(cls, value: object) -> Self:
        raise ValueError(f"unknown profile {value!r}; expected one of {', '.join(cls)}")


def scale(default: Any) -> Any:
    """A field of a recipe that a profile may change: width, epochs or iterations, images.

    Parameters
    ----------
    default : any
        The paper's value.
    """
    return field(default=default, metadata={_SCALE: True})


@dataclass(frozen=True)
class Recipe:
    """Base of the papers' recipes: frozen dataclasses whose defaults are the paper's, each with its page or section behind ``#:``.

    A profile changes only the fields that :func:`scale` marks, never the method.

    Examples
    --------
    >>> @dataclass(frozen=True)
    ... class DLPCNN(Recipe):
    ...     neighbours: int = 20  #: Li & Deng 2019, V-B
    ...     width: float = scale(1.0)
    ...     SIZES: ClassVar = {Profile.SMOKE: {"width": 0.05}, Profile.BOOK: {"width": 0.25}}
    >>> DLPCNN().at("book")
    DLPCNN(neighbours=20, width=0.25)
    """

    #: What the profiles change; the paper's is the recipe as it stands.
    SIZES: ClassVar[Mapping[Profile, Mapping[str, Any]]] = {}

    def at(self, profile: str) -> Self:
        """Take the recipe at a profile's size.

        Parameters
        ----------
        profile : {"smoke", "book", "paper"}

        Raises
        ------
        ValueError
            For an unknown profile, a profile that the recipe gives no sizes for, or sizes that would change the method.
        """
        chosen = Profile(profile)
        if chosen is Profile.PAPER and chosen not in self.SIZES:
            return self
        name = type(self).__name__
        if chosen is Profile.PAPER:
            raise ValueError(f"{name}: SIZES may not change the paper's profile; its sizes are the fields' defaults")
        if chosen not in self.SIZES:
            raise ValueError(f"{name}: no sizes for the profile {chosen}; expected them in SIZES")
        changes = self.SIZES[chosen]
        marked = [f.name for f in fields(self) if _is_scale(f)]
        wrong = [key for key in changes if key not in marked]
        if wrong:
            allowed = ", ".join(marked) or "fields of scale()"
            raise ValueError(f"{name}: the profile {chosen} changes {wrong[0]}; a profile changes only {allowed}")
        return replace(self, **changes)

    def as_arguments(self) -> dict[str, Any]:
        """The fields, for the arguments of a run; the ledger keeps them."""
        return asdict(self)


def _is_scale(item: Field[Any]) -> bool:
    return bool(item.metadata.get(_SCALE))

"""The one error that bad input raises, and text that is safe to print."""

from __future__ import annotations

from typing import Self

__all__ = ["DataError", "printable"]

#: Characters of a message, and of its parts (where, what, what was expected): a few lines of a terminal, whatever stands in the file.
_LONGEST = 1500
_PARTS = (450, 350, 600)


def printable(text: object, longest: int = _LONGEST) -> str:
    r"""Make one line of a text that others may have written.

    Parameters
    ----------
    text : object
        A name or a message.
    longest : int
        Characters that stay; of a longer text the middle is left out.

    Returns
    -------
    str
        What a terminal would obey, or not show as it is (control characters, line breaks, marks that turn the writing
        around, half characters of names that are not UTF-8), stands there as Python writes it: ``\x1b``.
    """
    whole = _shorten(str(text), longest)
    if whole.isprintable():
        return whole
    return _shorten("".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in whole), longest)


def _shorten(text: str, longest: int) -> str:
    start = longest // 3
    return text if len(text) <= longest else f"{text[:start]} ... {text[start + 5 - longest :]}"


class DataError(ValueError):
    """A dataset or checkpoint on disk is not what its layout promises. The message names the file, the line if any, what was expected.

    It is one printable line of limited length, whatever the names and the content of the file.

    Parameters
    ----------
    message : object
        As :func:`printable` takes it.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(printable(message))

    @classmethod
    def at(cls, where: object, problem: object, expected: str, *, line: int | None = None) -> Self:
        """Make the error from its parts.

        Parameters
        ----------
        where : object
            The file, or ``archive.zip!member``.
        problem : object
            What is wrong.
        expected : str
            What should have been there.
        line : int, optional
            Line of the file, from 1.
        """
        place, fault, wish = map(printable, (where, problem, expected), _PARTS)
        return cls(f"{place}{'' if line is None else f', line {line}'}: {fault}; expected {wish}")

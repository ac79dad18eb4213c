"""The one error that bad input raises."""

from __future__ import annotations

from typing import Self

__all__ = ["DataError"]


class DataError(ValueError):
    """A dataset or checkpoint on disk is not what its layout promises. The message names the file, the line if any, what was expected."""

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
        place = f"{where}" if line is None else f"{where}, line {line}"
        # A file name that is not UTF-8 holds surrogates, which no terminal prints.
        return cls(f"{place}: {problem}; expected {expected}".encode(errors="surrogateescape").decode(errors="replace"))

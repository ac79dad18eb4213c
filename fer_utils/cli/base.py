"""What the commands share: the application, lines and errors at the terminal, tables."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import __version__
from ..errors import DataError, printable

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["app", "fail", "make_table", "print_table", "say"]

#: Lines of an error.
_LINES = 10


class _App(typer.Typer):
    """The commands; what none of them has caught, such as a full disk behind the output, ends in one line, too."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        try:
            return super().__call__(*args, **options)
        except (DataError, OSError) as error:
            if isinstance(error, OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what waits to be written would fail again
            sys.exit(fail(str(error)).exit_code)


app = _App(
    help="Commands of the executable book on facial expression recognition.", no_args_is_help=True, pretty_exceptions_enable=False
)


def say(text: object, *, err: bool = False) -> None:
    """Print a line; names in it may hold what a terminal would obey.

    Parameters
    ----------
    text : object
        Printed as ``str`` gives it, control characters escaped.
    err : bool
        To standard error.
    """
    typer.echo(printable(text), err=err)


def fail(message: str) -> typer.Exit:
    """Print an error of a few lines; raise what is returned."""
    # a message may have as many lines as there were runs
    typer.echo("\n".join(map(printable, f"ferbook: {message}".split("\n")[:_LINES])), err=True)
    return typer.Exit(1)


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Commands of the executable book on facial expression recognition."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


def make_table(*columns: str) -> Table:
    """An empty table with a header."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "name", justify="right" if column in ("expected", "found") else "left")
    return table


def print_table(table: Table) -> None:
    """Print a table as wide as the terminal."""
    from rich.console import Console

    Console(highlight=False).print(table, markup=False)

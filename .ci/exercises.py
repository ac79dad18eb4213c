"""How exercises stand in a chapter: one reading of a notebook, for the student copies and for the guards.

The text of an exercise is a directive, ``{exercise}``. Its solution is a directive too, ``{solution}``, or all that stands between
``{solution-start}`` and ``{solution-end}``. A code cell tagged ``exercise`` is what a student changes, one tagged ``exercise-check``
tells whether it is right.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

STARTER, CHECK = "exercise", "exercise-check"
_BLOCK = re.compile(
    r"^(?P<fence>`{3,}|:{3,})\{(?P<name>exercise|solution|solution-start|solution-end)\}[ \t]*(?P<label>\S*)[ \t]*\n"
    r"(?P<body>.*?)^(?P=fence)[ \t]*$", re.MULTILINE | re.DOTALL,
)
_OPTION = re.compile(r"^:([\w-]+):[ \t]*(.*)\n", re.MULTILINE)


class Piece(NamedTuple):
    """A part of a notebook: prose, the question of an exercise, or a code cell; in a solution or not."""

    kind: str  # text, question, code, or the tag of a starter or check
    source: str
    label: str = ""  # of the exercise
    solution: bool = False
    cell: dict | None = None  # where it is code


def read_pieces(notebook) -> Iterator[Piece]:
    """The parts of a notebook in their order.

    Raises
    ------
    ValueError
        If a solution is not closed, or closes what was not opened; if a starter or a check stands before any exercise.
    """
    label, inside = "", ""  # of the last exercise; of the solution that is open
    for cell in notebook.cells:
        if cell.cell_type == "code":
            kind = next((tag for tag in (STARTER, CHECK) if tag in cell.metadata.get("tags", [])), "code")
            if kind != "code" and (inside or not label):
                raise ValueError(f"a cell tagged {kind!r} stands {'in a solution' if inside else 'before any exercise'}")
            yield Piece(kind, cell.source, inside or (label if kind != "code" else ""), bool(inside), cell)
        elif cell.cell_type == "markdown":
            for piece in _read_text(cell.source):
                if piece.kind == "solution-start":
                    if inside:
                        raise ValueError(f"the solution of {piece.label} starts in the one of {inside}")
                    inside = piece.label
                elif piece.kind == "solution-end":
                    if not inside:
                        raise ValueError("a solution ends that did not start")
                    inside = ""
                else:
                    label = piece.label if piece.kind == "question" else label
                    yield piece._replace(label=inside, solution=True) if inside else piece
    if inside:
        raise ValueError(f"the solution of {inside} does not end")


def _read_text(source: str) -> Iterator[Piece]:
    place = 0
    for block in _BLOCK.finditer(source):
        if before := source[place : block.start()].strip():
            yield Piece("text", before)
        place, name, label, body = block.end(), block["name"], block["label"], block["body"]
        if name == "exercise":
            options = dict(_OPTION.findall(body))
            yield Piece("question", _OPTION.sub("", body).strip(), options.get("label", ""))
        elif name == "solution":
            yield Piece("text", _OPTION.sub("", body).strip(), label, solution=True)
        else:
            yield Piece(name, "", label)
    if after := source[place:].strip():
        yield Piece("text", after)

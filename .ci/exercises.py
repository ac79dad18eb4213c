"""How exercises stand in a chapter: one reading of a notebook, for the student copies and for the guards.

The text of an exercise is a directive, ``{exercise}``. Its solution is a directive too, ``{solution}``, or all that stands
between ``{solution-start}`` and ``{solution-end}``. A code cell tagged ``exercise`` is what a student changes, one tagged
``exercise-check`` tells whether it is right.
"""

import ast
import re
import symtable
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
                where = "in a solution" if inside else "before any exercise"
                raise ValueError(f"a cell tagged {kind!r} stands {where}")
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


# -- what a chapter must keep ---------------------------------------------------------------------------------------------


def find_faults(notebook) -> list[str]:
    """Complaints about the exercises of an executed chapter.

    A check must have said *not yet* on the starter, and *right* after the solution. Both cells are compared when the chapter
    is run again, so the checks fail unsolved, and pass with the solution put back. This holds in the student copy too, as long
    as no cell outside a solution uses a name that a solution bound.
    """
    try:
        pieces = list(read_pieces(notebook))
    except ValueError as error:
        return [str(error)]
    faults = []
    for label in dict.fromkeys(piece.label for piece in pieces if piece.kind in (STARTER, CHECK)):
        starters, checks = ([p.cell for p in pieces if (p.kind, p.label) == (kind, label)] for kind in (STARTER, CHECK))
        solution = [p.cell for p in pieces if p.label == label and p.solution and p.cell is not None]
        if len(starters) != 1 or len(checks) > 1:
            found = f"{len(starters)} starters and {len(checks)} checks"
            faults.append(f"{label} has {found}, expected one starter, and a check or none")
        if checks and not _says(checks[0], "not yet"):
            faults.append(f"{label}: the check of the starter is not a compared cell that says not yet")
        if checks and not any(_says(cell, "right") for cell in solution):
            faults.append(f"{label}: no compared cell of the solution says right")
        if checks and not any(_last_line(cell.source) == _last_line(checks[0].source) for cell in solution):
            faults.append(f"{label}: no cell of the solution ends with the check, {_last_line(checks[0].source)}")
    if not any(piece.kind == CHECK for piece in pieces):
        faults.append("no exercise has a check")
    return faults + _find_borrowed(pieces)


def _says(cell, word: str) -> bool:
    printed = "".join(output.get("text", "") for output in cell.outputs if output.get("name") == "stdout")
    return "nbval-check-output" in cell.metadata.get("tags", []) and _last_line(printed).startswith(word)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def _find_borrowed(pieces: list[Piece]) -> list[str]:
    """Names that a solution bound and that a later cell outside all solutions reads."""
    bound: dict[str, str] = {}
    faults = []
    for piece in pieces:
        if piece.cell is None:
            continue
        for statement in ast.parse(re.sub(r"^(\s*)[!%].*", r"\1pass", piece.source, flags=re.MULTILINE)).body:
            reads, binds = _read_names(statement)
            if not piece.solution:
                late = sorted(reads & set(bound))
                faults += [f"{name}, from the solution of {bound[name]}, is used after it" for name in late]
                bound = {name: label for name, label in bound.items() if name not in binds}
            else:
                bound |= dict.fromkeys(binds, piece.label)
    return faults


def _read_names(statement: ast.stmt) -> tuple[set[str], set[str]]:
    """Names that a statement reads from before it, and names that it binds; what is a function's own is neither."""
    table = symtable.symtable(ast.unparse(statement), "cell", "exec")
    binds = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    reads = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_referenced()}
    for scope in _scopes(table):
        reads |= {symbol.get_name() for symbol in scope.get_symbols() if symbol.is_referenced() and symbol.is_global()}
    if isinstance(statement, ast.AugAssign):
        return reads | binds, binds
    # a loop binds its name before its body reads it; an assignment reads first
    return reads if isinstance(statement, ast.Assign) else reads - binds, binds


def _scopes(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    for child in table.get_children():
        yield child
        yield from _scopes(child)

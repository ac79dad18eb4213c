"""Write student copies of chapters: ``python .ci/student.py OUT CHAPTER.ipynb ...``.

A copy holds the chapter without outputs and without solutions, a cell to fill for each exercise, and the checks, which say
*not yet* until the cell is right.
"""

import sys
from pathlib import Path

import nbformat
from exercises import CHECK, STARTER, Piece, read_pieces
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

NOTE = (
    "> **Student copy.** Run the cells from the top; the first one sets things up. There are {count} exercises. "
    "Change the cells below them; where a check follows, it prints `right` or `not yet`."
)


def make_copy(notebook):
    """The student's copy of a chapter."""
    pieces = list(read_pieces(notebook))
    started = {piece.label for piece in pieces if piece.kind == STARTER}
    coded = {piece.label for piece in pieces if piece.solution and piece.cell is not None}
    cells, count = [], 0
    for piece in pieces:
        if piece.solution:
            if piece.label not in started:
                started.add(piece.label)
                cells.append(_make_blank(piece, code=piece.label in coded))
        elif piece.cell is not None:
            cells.append(_clear(piece))
        elif piece.kind == "question":
            count += 1
            cells.append(new_markdown_cell(f"### Exercise {count}\n\n{piece.source}", id=f"exercise-{count}"))
        else:
            cells.append(new_markdown_cell(piece.source, id=f"text-{len(cells)}"))
    cells.insert(1, new_markdown_cell(NOTE.format(count=count), id="student-copy"))
    return new_notebook(cells=cells, metadata={key: notebook.metadata[key] for key in {"kernelspec"} & set(notebook.metadata)})


def _make_blank(piece: Piece, code: bool):
    name = f"answer-{piece.label}"
    if code:
        return new_code_cell("# your code", id=name, metadata={"tags": [STARTER]})
    return new_markdown_cell("*Your answer:*", id=name)


def _clear(piece: Piece):
    """A code cell without outputs; what the page folds is folded in JupyterLab too."""
    tags = [tag for tag in piece.cell.metadata.get("tags", []) if tag in {STARTER, CHECK, "hide-input"}]
    metadata = {"tags": tags} if tags else {}
    if "hide-input" in tags:
        metadata["jupyter"] = {"source_hidden": True}
    return new_code_cell(piece.source, id=piece.cell.id, metadata=metadata)


def main(target: str, *chapters: str) -> None:
    """Write the copy of each chapter into the folder `target`."""
    folder = Path(target)
    folder.mkdir(parents=True, exist_ok=True)
    for path in map(Path, chapters):
        try:
            copy = make_copy(nbformat.read(path, as_version=4))
        except ValueError as error:
            sys.exit(f"error: {path}: {error}")
        nbformat.write(copy, folder / path.name)
        checks = sum(CHECK in cell.metadata.get("tags", []) for cell in copy.cells)
        print(f"{folder / path.name}: {checks} checks")


if __name__ == "__main__":
    main(*sys.argv[1:])

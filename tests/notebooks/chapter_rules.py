"""What every chapter must keep. Each rule takes a notebook and returns the complaints; an empty list is a pass."""

import base64
import re
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TAG = "nbval-check-output"
HOME_PATH = re.compile(r"(?:/home/|/root/|/Users/|[A-Z]:\\Users\\|/tmp/)[\w.-]+|/site-packages/")
NUMBER = re.compile(r"\d")


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(notebook) -> list:
    """Code cells that hold code; an empty one never gets an execution count."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def texts(cell) -> list[str]:
    """Every piece of text in the outputs of a cell."""
    found = []
    for output in cell.get("outputs", []):
        if output.output_type == "stream":
            found.append(output.text)
        elif output.output_type == "error":
            found += [output.evalue, *output.traceback]
        else:
            found += [value for kind, value in output.get("data", {}).items() if kind.startswith("text/") and isinstance(value, str)]
    return found


def pictures(cell) -> list[bytes]:
    data = [output.data["image/png"] for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
    return [base64.b64decode(picture) for picture in data]


def _name(cell) -> str:
    first = cell.source.strip().splitlines()[0] if cell.source.strip() else "(empty)"
    return f"cell {cell.get('id', '?')} `{first[:60]}`"


def ran_in_order(notebook) -> list[str]:
    counts = [cell.execution_count for cell in code_cells(notebook)]
    if not counts:
        return ["no code cells"]
    return [] if counts == list(range(1, len(counts) + 1)) else [f"execution counts are {counts}, expected 1..{len(counts)}"]


def tagged_cells(notebook, at_least: int = 3) -> list[str]:
    tagged = [cell for cell in code_cells(notebook) if TAG in tags(cell)]
    bad = [f"{_name(cell)} is tagged {TAG} but prints nothing" for cell in tagged if not "".join(texts(cell)).strip()]
    full = len(tagged) - len(bad)
    return bad + ([] if full >= at_least else [f"{full} cells tagged {TAG} with an output, expected {at_least} or more"])


def no_errors(notebook) -> list[str]:
    return [f"{_name(cell)} ended in an error" for cell in code_cells(notebook) if any(o.output_type == "error" for o in cell.outputs)]


def no_stderr_in_tagged(notebook) -> list[str]:
    """A compared cell must not print warnings: their text differs from machine to machine."""
    cells = [cell for cell in code_cells(notebook) if TAG in tags(cell)]
    return [f"{_name(cell)} writes to stderr" for cell in cells if any(o.get("name") == "stderr" for o in cell.outputs)]


def no_home_paths(notebook) -> list[str]:
    found = []
    for cell in code_cells(notebook):
        found += [f"{_name(cell)} shows {match}" for match in HOME_PATH.findall("\n".join(texts(cell)))]
    return found


def pictures_described(notebook) -> list[str]:
    """A picture has alt text of 20 characters or more and a caption, both in the metadata of its cell."""
    found = []
    for cell in code_cells(notebook):
        number = len(pictures(cell))
        if not number:
            continue
        if number > 1:
            found.append(f"{_name(cell)} shows {number} pictures: one a cell, so that each has its own alt text")
        mystnb = cell.metadata.get("mystnb", {})
        if len(str(mystnb.get("image", {}).get("alt", "")).strip()) < 20:
            found.append(f"{_name(cell)} lacks metadata mystnb.image.alt of 20 characters or more")
        if not str(mystnb.get("figure", {}).get("caption", "")).strip():
            found.append(f"{_name(cell)} lacks metadata mystnb.figure.caption")
    return found


def contract(notebook) -> list[str]:
    """Title, the box at the top, exercises with their solutions, the list at the end, references."""
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    text = "\n\n".join(prose)
    found = []
    if not prose or notebook.cells[0].cell_type != "markdown" or not re.match(r"(?:\([\w-]+\)=\s*)?# \S", prose[0]):
        found.append("the first cell is not a title")
    if not re.search(r"(?:`{3,}|:{3,})\{[^}]+\}(?:(?!^\s*(?:`{3,}|:{3,})\s*$).)*\bYou will\b", text, re.S | re.M):
        found.append("no box that says *You will*")
    exercises = re.findall(r"\{exercise(?:-start)?\}.*?\n:label:\s*(\S+)", text)
    if len(exercises) < 3:
        found.append(f"{len(exercises)} labelled exercises, expected 3 or more")
    solved = set(re.findall(r"\{solution(?:-start)?\}\s*(\S+)", text))
    found += [f"exercise {label} has no solution" for label in exercises if label not in solved]
    if not re.search(r"^##+ What to take away", text, re.M):
        found.append("no section *What to take away*")
    return found


RULES = (ran_in_order, tagged_cells, no_errors, no_stderr_in_tagged, no_home_paths, pictures_described, contract)


# -- the canary ---------------------------------------------------------------------------------------------------------


def tamper(text: str) -> str:
    """`text` with its first digit changed."""
    return NUMBER.sub(lambda match: str((int(match.group()) + 1) % 10), text, count=1)


def cut_at_first_number(notebook) -> tuple[nbformat.NotebookNode, int]:
    """The notebook up to its first tagged cell that prints a number, and that cell's rank among the code cells."""
    short = nbformat.from_dict(notebook)
    for position, cell in enumerate(short.cells):
        if cell.cell_type == "code" and TAG in tags(cell) and any(NUMBER.search(text) for text in _plain(cell)):
            short.cells = short.cells[: position + 1]
            return short, sum(c.cell_type == "code" for c in short.cells) - 1
    raise AssertionError(f"no cell tagged {TAG} prints a number")


def _plain(cell) -> list[str]:
    """The texts that are compared: printed ones and plain representations, not HTML."""
    printed = [o.text for o in cell.outputs if o.output_type == "stream" and o.name == "stdout"]
    return printed + [o.data["text/plain"] for o in cell.outputs if "text/plain" in o.get("data", {})]


def tampered(notebook) -> nbformat.NotebookNode:
    """A copy whose last cell shows one changed digit."""
    copy = nbformat.from_dict(notebook)
    for output in copy.cells[-1].outputs:
        if output.output_type == "stream" and output.name == "stdout" and NUMBER.search(output.text):
            output.text = tamper(output.text)
            return copy
        if NUMBER.search(output.get("data", {}).get("text/plain", "")):
            output.data["text/plain"] = tamper(output.data["text/plain"])
            return copy
    raise AssertionError("the last cell prints no number")

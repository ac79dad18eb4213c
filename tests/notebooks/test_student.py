"""Student copies: nothing of a solution is left, a cell waits for every exercise, and the checks tell right from wrong."""

import re
import subprocess
import sys

import chapter_rules as rules
import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

sys.path.insert(0, str(rules.ROOT / ".ci"))
import exercises
import student

by_chapter = pytest.mark.parametrize("chapter", rules.CHAPTERS, ids=lambda path: path.stem)
TAG = rules.TAG


def sources(notebook) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


@by_chapter
def test_the_exercises_keep_the_convention(chapter):
    assert exercises.find_faults(rules.read(chapter)) == []


@by_chapter
def test_a_copy_is_the_chapter_less_its_solutions_plus_cells_to_fill(chapter):
    notebook = rules.read(chapter)
    pieces = list(exercises.read_pieces(notebook))
    copy = student.make_copy(notebook)
    nbformat.validate(copy)
    blanks = [cell for cell in copy.cells if cell.id.startswith("answer-")]
    added = {cell.source for cell in blanks}
    kept = [source for source in sources(copy) if source not in added]
    assert kept == [piece.source for piece in pieces if piece.cell is not None and not piece.solution]
    whole = "\n".join(cell.source for cell in copy.cells)
    assert "{solution" not in whole and "{exercise}" not in whole
    for piece in pieces:  # no sentence of a solution is left, and none of the rest is lost
        assert (piece.source in whole) != piece.solution or piece.source in "".join(p.source for p in pieces if not p.solution)
    asked = {piece.label for piece in pieces if piece.kind == "question"}
    started = {piece.label for piece in pieces if piece.kind == exercises.STARTER}
    assert {cell.id.removeprefix("answer-") for cell in blanks} == asked - started
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in copy.cells)


def test_the_teaching_page_plans_every_chapter_and_hides_its_answers():
    page = (rules.ROOT / "book" / "teaching.md").read_text(encoding="utf-8")
    numbered = [path.stem for path in rules.CHAPTERS if re.match(r"\d\d_", path.stem)]
    assert [name for name in numbered if f"{{doc}}`../notebooks/{name}`" not in page] == []
    plans = re.split(r"^### ", page, flags=re.MULTILINE)[1 : len(numbered) + 1]
    for number, plan in enumerate(plans, 1):
        assert plan.startswith(f"Chapter {number}: ") and "**Show.**" in plan and "minutes" in plan and "**Where they stumble.**" in plan
    asked = re.findall(r"^\*\*(\d+)\.\*\* ", page, flags=re.MULTILINE)
    answers = re.findall(r"^\*\*\d+\.\*\*(?:(?!^\*\*\d).)*?^:::\{admonition\} Answer\n:class: dropdown$", page, re.MULTILINE | re.DOTALL)
    assert asked == [str(number) for number in range(1, len(asked) + 1)] and len(answers) == len(asked)


# -- a chapter of two exercises, run as a student has it, and with the solution put back ------------------------------------


def fence(kind: str, label: str = "") -> str:
    return f"```{{{kind}}} {label}\n:class: dropdown\n```" if label else f"```{{{kind}}}\n```"


def code(source: str, *tags: str, says: str = ""):
    outputs = [nbformat.v4.new_output("stream", name="stdout", text=says)] if says else []
    return new_code_cell(source, metadata={"tags": list(tags)}, outputs=outputs)


@pytest.fixture
def chapter():
    check = "def check_double():\n    print('right' if double(4) == 8 else f'not yet: {double(4)}')\n\n\ncheck_double()"
    paper = "```{exercise}\n:label: ex-sum\n**On paper.** 1 + 1?\n```\n\n```{solution} ex-sum\n:class: dropdown\nTwo.\n```\n\nThen:"
    return new_notebook(cells=[
        new_markdown_cell("# A chapter"),
        code("import math\nfour = 4"),
        new_markdown_cell(f"{paper}\n\n```{{exercise}}\n:label: ex-double\nDouble it.\n```"),
        code("def double(x):\n    return x", exercises.STARTER),
        code(check, exercises.CHECK, TAG, says="not yet: 4\n"),
        new_markdown_cell(fence("solution-start", "ex-double")),
        code("def double(x):\n    return 2 * x\n\n\nprint(four)\ncheck_double()", TAG, says="4\nright\n"),
        new_markdown_cell(f"Twice.\n\n{fence('solution-end')}\n\nAfter."),
        code("print(four, math.pi)"),
    ])


def printed(notebook) -> list[str]:
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    return ["".join(output.get("text", "") for output in cell.outputs) for cell in notebook.cells if cell.cell_type == "code"]


def test_checks_fail_unsolved_and_pass_with_the_solution_put_back(chapter):
    assert exercises.find_faults(chapter) == []
    copy = student.make_copy(chapter)
    texts = [cell.source for cell in copy.cells if cell.cell_type == "markdown"]
    assert texts[2:] == ["### Exercise 1\n\n**On paper.** 1 + 1?", "*Your answer:*", "Then:", "### Exercise 2\n\nDouble it.", "After."]
    solved = student.make_copy(chapter)
    place = next(place for place, cell in enumerate(solved.cells) if exercises.STARTER in cell.metadata.get("tags", []))
    solved.cells[place].source = chapter.cells[6].source.replace("check_double()", "")
    solved.cells += copy.cells  # one kernel for both: the solved copy runs first, then the unsolved one from its first cell
    assert [said for said in printed(solved) if said.startswith(("right", "not yet"))] == ["right\n", "not yet: 4\n"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda cells: cells[4].outputs[0].update(text="right\n"), "not a compared cell that says not yet"),
        (lambda cells: cells[4].metadata.update(tags=[exercises.CHECK]), "not a compared cell that says not yet"),
        (lambda cells: cells[6].outputs[0].update(text="not yet\n"), "no compared cell of the solution says right"),
        (lambda cells: cells[6].update(source="print('right')"), "no cell of the solution ends with the check"),
        (lambda cells: cells[8].update(source="x = double(3)"), "double, from the solution of ex-double"),
        (lambda cells: cells[8].update(source="def f():\n    return double(3)"), "double, from the solution of ex-double"),
        (lambda cells: cells.insert(4, cells[3]), "2 starters and 1 checks"),
        (lambda cells: cells.pop(3), "0 starters and 1 checks"),
        (lambda cells: cells.pop(4), "no exercise has a check"),
        (lambda cells: cells.insert(1, cells[3]), "before any exercise"),
        (lambda cells: cells[6].metadata.update(tags=[exercises.STARTER]), "in a solution"),
        (lambda cells: cells[7].update(source="Twice."), "does not end"),
        (lambda cells: cells.pop(5), "that did not start"),
    ],
)
def test_a_fault_is_found(chapter, change, complaint):
    change(chapter.cells)
    assert [fault for fault in exercises.find_faults(chapter) if complaint in fault]


def test_names_that_are_bound_again_may_be_used(chapter):
    chapter.cells[8].source = "double = 3\nfor x in [double]:\n    print(x)\ndef f(double):\n    return double"
    assert exercises.find_faults(chapter) == []


def test_the_command_writes_copies_and_names_a_broken_chapter(chapter, tmp_path):
    nbformat.write(chapter, tmp_path / "good.ipynb")
    chapter.cells.pop(5)
    nbformat.write(chapter, tmp_path / "bad.ipynb")
    command = [sys.executable, str(rules.ROOT / ".ci" / "student.py"), str(tmp_path / "out")]
    done = subprocess.run([*command, str(tmp_path / "good.ipynb")], capture_output=True, text=True, check=True)
    assert "1 checks" in done.stdout and (tmp_path / "out" / "good.ipynb").is_file()
    done = subprocess.run([*command, str(tmp_path / "bad.ipynb")], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "bad.ipynb: a solution ends that did not start" in done.stderr

"""The committed chapters keep the rules, and the comparison of their outputs is able to fail."""

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import chapter_rules as rules
import nbformat
import pytest

by_chapter = pytest.mark.parametrize("chapter", rules.CHAPTERS, ids=lambda path: path.stem)


def test_there_are_chapters_and_the_contents_name_them():
    assert rules.CHAPTERS, "no notebooks"
    contents = (rules.ROOT / "_toc.yml").read_text(encoding="utf-8")
    assert [path.stem for path in rules.CHAPTERS if f"notebooks/{path.stem}" not in contents] == []


@by_chapter
@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_chapter(chapter, rule):
    complaints = rule(rules.read(chapter))
    assert not complaints, "\n".join([chapter.name, *complaints])


# -- canary: one wrong digit must be noticed, in exactly its own cell ----------------------------------------------------


def run_nbval(path: Path) -> tuple[dict[int, bool], str]:
    """Run a notebook under nbval; for each code cell whether it passed, and the log."""
    report = path.with_suffix(".xml")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--nbval-lax", "--nbval-current-env"]
    command += ["--nbval-cell-timeout=300", f"--rootdir={path.parent}", "-c", os.devnull, f"--junitxml={report}", str(path)]
    done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, timeout=900, check=False)
    log = done.stdout + done.stderr
    assert report.is_file(), log
    passed = {}
    for case in ET.parse(report).iter("testcase"):
        number = re.search(r"(\d+)$", case.get("name", ""))
        assert number, log
        passed[int(number.group())] = case.find("failure") is None and case.find("error") is None
    return passed, log


def beside_the_chapters(folder: Path, notebook, name: str) -> Path:
    """Write a notebook to `folder`/notebooks, with the package data beside it as in the repository."""
    (folder / "notebooks").mkdir(exist_ok=True)
    for part in ("data", "book"):
        if (rules.ROOT / part).is_dir() and not (folder / part).exists():
            (folder / part).symlink_to(rules.ROOT / part, target_is_directory=True)
    path = folder / "notebooks" / name
    nbformat.write(notebook, path)
    return path


@by_chapter
def test_one_wrong_digit_fails_in_its_own_cell(chapter, tmp_path):
    honest, last = rules.cut_at_first_number(rules.read(chapter))
    passed, log = run_nbval(beside_the_chapters(tmp_path, honest, "honest.ipynb"))
    assert set(passed) == set(range(last + 1)) and all(passed.values()), log
    passed, log = run_nbval(beside_the_chapters(tmp_path, rules.tampered(honest), "tampered.ipynb"))
    assert [cell for cell, good in passed.items() if not good] == [last], log


# -- the guards themselves must be able to fail --------------------------------------------------------------------------

BOX = "# Title\n\n:::{admonition} This chapter\n*You will*\n- count\n:::"
EXERCISE = "```{{exercise}}\n:label: ex-{0}\nDo.\n```\n\n```{{solution}} ex-{0}\n:class: dropdown\nDone.\n```"
EXERCISES = "\n\n".join(EXERCISE.format(n) for n in (1, 2, 3))
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def printing(source: str, text: str, count: int | None, *names: str, stream: str = "stdout"):
    cell = nbformat.v4.new_code_cell(source, execution_count=count, outputs=[nbformat.v4.new_output("stream", name=stream, text=text)])
    cell.metadata["tags"] = list(names)
    return cell


def picture(count: int, alt: str, caption: str):
    cell = nbformat.v4.new_code_cell("draw()", execution_count=count)
    cell.outputs = [nbformat.v4.new_output("display_data", data={"image/png": PIXEL, "text/plain": "<Figure>"})]
    cell.metadata["mystnb"] = {"image": {"alt": alt}, "figure": {"caption": caption}}
    return cell


@pytest.fixture
def good():
    """A notebook that keeps every rule."""
    cells = [nbformat.v4.new_markdown_cell(BOX), nbformat.v4.new_code_cell("first = 7", execution_count=1)]
    cells += [printing(f"print(first + {n})", f"{first}\n", n, rules.TAG) for n, first in ((2, 9), (3, 10), (4, 11))]
    cells += [picture(5, "A single grey pixel on nothing at all", "A pixel.")]
    cells += [nbformat.v4.new_markdown_cell(EXERCISES), nbformat.v4.new_markdown_cell("## What to take away\n- counting")]
    return nbformat.v4.new_notebook(cells=cells)


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_a_good_notebook_passes(good, rule):
    assert rule(good) == []


def _cleared(notebook):
    notebook.cells[2].execution_count = None


def _out_of_order(notebook):
    notebook.cells[2].execution_count, notebook.cells[3].execution_count = 3, 2


def _untagged(notebook):
    notebook.cells[3].metadata["tags"] = []


def _silent(notebook):
    notebook.cells[3].outputs = []


def _failing(notebook):
    notebook.cells[1].outputs = [nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=["no"])]


def _warning(notebook):
    notebook.cells[2].outputs.append(nbformat.v4.new_output("stream", name="stderr", text="FutureWarning: soon"))


def _with_path(notebook):
    notebook.cells[2].outputs[0].text = "saved to /home/reader/faces.png\n"


def _without_alt(notebook):
    notebook.cells[5].metadata["mystnb"]["image"]["alt"] = "A plot"


def _without_caption(notebook):
    del notebook.cells[5].metadata["mystnb"]["figure"]


def _two_pictures(notebook):
    notebook.cells[5].outputs *= 2


def _without_title(notebook):
    notebook.cells[0].source = notebook.cells[0].source.replace("# Title", "Title")


def _without_box(notebook):
    notebook.cells[0].source = "# Title\n\n*You will* count"


def _two_exercises(notebook):
    notebook.cells[6].source = notebook.cells[6].source.replace("{exercise}", "{note}", 1)


def _unsolved(notebook):
    notebook.cells[6].source = notebook.cells[6].source.replace("{solution} ex-2", "{solution} ex-1")


def _without_end(notebook):
    notebook.cells[7].source = "Good-bye"


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (_cleared, rules.ran_in_order),
        (_out_of_order, rules.ran_in_order),
        (_untagged, rules.tagged_cells),
        (_silent, rules.tagged_cells),
        (_failing, rules.no_errors),
        (_warning, rules.no_stderr_in_tagged),
        (_with_path, rules.no_home_paths),
        (_without_alt, rules.pictures_described),
        (_without_caption, rules.pictures_described),
        (_two_pictures, rules.pictures_described),
        (_without_title, rules.contract),
        (_without_box, rules.contract),
        (_two_exercises, rules.contract),
        (_unsolved, rules.contract),
        (_without_end, rules.contract),
    ],
    ids=lambda value: value.__name__.strip("_"),
)
def test_a_bad_notebook_is_caught(good, spoil, rule):
    spoil(good)
    assert rule(good), f"{rule.__name__} let it pass"


def test_the_comparison_notices_a_digit(good, tmp_path):
    short, last = rules.cut_at_first_number(good)
    assert last == 1
    passed, log = run_nbval(beside_the_chapters(tmp_path, short, "honest.ipynb"))
    assert passed == {0: True, 1: True}, log
    passed, log = run_nbval(beside_the_chapters(tmp_path, rules.tampered(short), "tampered.ipynb"))
    assert passed == {0: True, 1: False}, log

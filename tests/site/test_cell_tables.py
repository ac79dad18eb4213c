"""A table that a cell shows is numbered and captioned like one in the text. BUILD_DIR says where the site is."""

import os
import sys
from pathlib import Path

import nbformat
import pandas as pd
from bs4 import BeautifulSoup
from docutils import nodes
from docutils.frontend import get_default_settings
from docutils.parsers.rst import Parser
from docutils.utils import new_document

ROOT = Path(__file__).resolve().parents[2]
SITE = (ROOT / os.environ.get("BUILD_DIR", "_build_test/_build/html")).resolve()
sys.path.insert(0, str(ROOT / "book" / "_ext"))
import book_site  # noqa: E402


def captioned_tables(notebook: Path) -> list[str]:
    """The names of a notebook's cells that have a caption and show no picture."""
    found = []
    for cell in nbformat.read(notebook, 4).cells:
        shown = [output.get("data", {}) for output in cell.get("outputs", [])]
        name = cell.metadata.get("mystnb", {}).get("figure", {}).get("name")
        if name and not any("image/png" in data for data in shown):
            found.append(name)
    return found


def test_captioned_cells_without_a_picture_are_tables_of_the_site():
    names = {path.stem: captioned_tables(path) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
    assert any(names.values())
    for chapter, expected in names.items():
        page = BeautifulSoup((SITE / "notebooks" / f"{chapter}.html").read_text(encoding="utf-8"), "html.parser")
        shown = {figure["id"]: figure for figure in page.select("figure.cell-table")}
        assert sorted(shown) == sorted(expected), chapter
        for name, figure in shown.items():
            assert figure.figcaption.get_text().split()[0] == "Table" and figure.select_one("table"), name
            assert figure.find(True).name == "figcaption", name


def test_only_a_figure_without_a_picture_becomes_a_table():
    document = new_document("page", get_default_settings(Parser))
    for name, content in (("tab", nodes.raw("", "<table></table>", format="html")), ("fig", nodes.image(uri="a.png"))):
        figure = nodes.figure("", nodes.container("", content), nodes.caption("", "What it shows."), names=[name])
        document.append(figure)
        document.note_explicit_target(figure)
    book_site.TablesOfCells(document).apply()
    table, figure = document.children
    assert isinstance(table, book_site.cell_table) and document.ids["tab"] is table and table["classes"] == ["cell-table"]
    assert type(figure) is nodes.figure and document.ids["fig"] is figure and len(table.children) == 2


def test_the_caption_of_a_table_stands_above_it():
    soup = BeautifulSoup('<figure class="cell-table"><table></table><figcaption>T</figcaption></figure>'
                         '<figure><img><figcaption>F</figcaption></figure>', "html.parser")
    book_site.mend_markup(soup)
    assert [[part.name for part in figure.find_all(True)] for figure in soup.select("figure")] == [
        ["figcaption", "table"], ["img", "figcaption"],
    ]


def lines(table) -> list[list[str]]:
    """The texts of a table's cells, row by row."""
    return [[cell.get_text() for cell in row.find_all(["th", "td"])] for row in table.select("tr")]


def test_names_of_an_index_stand_in_the_one_header_row():
    frame = pd.DataFrame({"recall": [0.5, 0.7], "n": [3, 4]}, pd.Index(["wild", "lab"], name="faces"))
    named, bare = (BeautifulSoup(table.to_html(), "html.parser").table for table in (frame, frame.rename_axis(None)))
    columns = BeautifulSoup(frame.rename_axis("measure", axis="columns").to_html(), "html.parser").table
    for table, expected in ((named, ["faces", "recall", "n"]), (bare, ["", "recall", "n"])):
        book_site.merge_index_names(table)
        assert lines(table) == [expected, ["wild", "0.5", "3"], ["lab", "0.7", "4"]]
    before = lines(columns)
    book_site.merge_index_names(columns)  # both rows name something: neither can go
    assert lines(columns) == before


def test_columns_of_numbers_are_marked_and_numbers_stay_whole():
    frame = pd.DataFrame({
        "ours": ["+1 (-6 to 7) points", "", "-0.5"], "verdict": ["open", "3 of 4 hold", "closed"], "why": ["word " * 20] * 3,
    })
    table = BeautifulSoup(frame.to_html(), "html.parser").table
    book_site.mark_cells(table)
    body = [row.find_all("td") for row in table.select("tbody tr")]
    assert [["number" in cell.get("class", []) for cell in row] for row in body] == [[True, False, False]] * 3
    assert [cell.get_text() for cell in table.select("th.number")] == ["ours"]
    whole = "+1 (\N{MINUS SIGN}6\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}7) points"
    assert [row[0].get_text() for row in body] == [whole, "", "\N{MINUS SIGN}0.5"]
    assert [row[1].get_text() for row in body] == ["open", "3 of 4 hold", "closed"]
    assert [row[1].get("class") for row in body] == [["short"], None, ["short"]] and all("long" in row[2]["class"] for row in body)


def test_a_link_is_underlined_without_the_blank_before_it():
    title = '<p class="admonition-title">Solution to<a href="#a"> Exercise 2</a></p>'
    soup = BeautifulSoup(f'<div class="solution">{title}</div>', "html.parser")
    book_site.mend_markup(soup)
    assert soup.a.string == "Exercise 2" and soup.p.get_text() == "Solution to Exercise 2"

"""What the pages of the site need beyond what the theme gives.

- Pictures weigh little (WebP), have their size written, so that nothing jumps while a page loads, and are fetched when they come into
  sight. A wide one is a link to itself, so that a phone can open and enlarge it.
- A table that a cell shows is numbered among the tables, as one that is written in the text.
- Tables that pandas writes have one header row, numbers stand under each other, and no number is torn from its sign or its unit.
- The lists of sources are lists, and no id stands twice on a page.
- Pages that Sphinx makes (index, search, code) have a description, too.
- What is said of a constant in the reference is one sentence, colon or not.
"""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup, Tag
from docutils import nodes
from PIL import Image
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform

HEAVY = 40_000  # bytes: below it a chart is sharp and light enough as it is
LOSSLESS_LIMIT = 150_000  # bytes: charts stay below it without a loss, photographs and contact sheets do not
#: Pages that Sphinx makes and names in their templates alone.
NAMES = {"genindex": "Index", "py-modindex": "List of modules", "search": "Search"}
WIDE = 600  # pixels: a picture that a phone shows smaller than it is
LONG = 40  # characters: a cell of words, which needs some width
SHORT = 8  # characters: a cell that stays on one line
NUMBER = re.compile(r"[+-]?[\d.,]+\b[^a-z]*( (to|ms|points|million)\b[^a-z]*)*")  # 62 %, 3.3 ± 0.5, +26 (+20 to +32) points


def save_lighter(source: Path, target: Path) -> Path:
    """Write `source` as WebP to `target`, without a loss where that is light; return what is lighter, source or target."""
    with Image.open(source) as picture:
        picture.save(target, "WEBP", lossless=True, quality=40, method=3)
        if target.stat().st_size > LOSSLESS_LIMIT:
            picture.convert("RGB").save(target, "WEBP", quality=86, method=4, use_sharp_yuv=True)
    return target if target.stat().st_size < source.stat().st_size else source


class cell_table(nodes.figure):
    """The output of a cell that has a caption and no picture."""


class TablesOfCells(SphinxTransform):
    """MyST-NB knows figures only (cell metadata ``mystnb.figure``): those without a picture become tables."""

    default_priority = 210

    def apply(self, **kwargs: Any) -> None:
        """Replace them before Sphinx gives numbers."""
        for figure in list(self.document.findall(nodes.figure)):
            if next(figure.findall(nodes.image), None) is None:
                table = cell_table("", *figure.children, **figure.attributes)
                table["classes"].append("cell-table")
                figure.parent.replace(figure, table)
                self.document.ids.update(dict.fromkeys(table["ids"], table))


class LighterPictures(SphinxPostTransform):
    """Heavy PNG pictures of the pages become WebP; what the notebooks hold stays as it is."""

    default_priority = 200
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        """Write them beside the doctrees."""
        folder = Path(self.env.doctreedir) / "images"
        folder.mkdir(parents=True, exist_ok=True)
        for node in self.document.findall(nodes.image):
            source = Path(self.app.srcdir, node["uri"])
            if source.suffix != ".png" or not source.is_file() or source.stat().st_size < HEAVY:
                continue
            target = folder / f"{source.stem}.webp"
            if (target if target.is_file() else save_lighter(source, target)) == target:
                node["uri"] = node["candidates"]["*"] = str(target)
                self.env.images.add_file(self.env.docname, str(target))


def describe_pictures(soup: BeautifulSoup, files: dict[str, Path]) -> None:
    """Write size and way of loading at each picture of which the file is known; link wide ones to themselves."""
    for number, picture in enumerate(soup.find_all("img")):
        path = files.get(Path(picture.get("src", "")).name)
        if path is None or path.suffix == ".svg":
            continue
        with Image.open(path) as image:
            width, height = image.size
        if not picture.has_attr("width"):
            picture["width"], picture["height"] = width, height
        picture["decoding"] = "async"
        if number:  # the first may be in sight at once
            picture["loading"] = "lazy"
        if width > WIDE and picture.find_parent("a") is None:
            picture.wrap(soup.new_tag("a", href=picture["src"], attrs={"class": "enlarge", "title": "Open the picture alone"}))


def mend_markup(soup: BeautifulSoup) -> None:
    """Mend what Sphinx and its extensions write: lists without items, and one id for many exercises."""
    for listing in soup.select('[role="list"]'):
        for entry in listing.find_all(recursive=False):
            entry["role"] = "listitem"
    for content in soup.select("section#exercise-content, section#solution-content"):
        content.name = "div"
        del content["id"]
    for summary in soup.select("summary[aria-label]"):  # "Toggle hidden content": another name than the words that it shows
        del summary["aria-label"]
    for caption in soup.select("figure.cell-table > figcaption"):
        caption.parent.insert(0, caption)  # above the table, as that of a table in the text
    for link in soup.select(".solution > .admonition-title > a"):  # its first blank is underlined, too
        if link.string and link.string.startswith(" "):
            link.string = link.string.strip()
            link.insert_before(" ")
    for table in soup.select("table:not(.front-result)"):
        merge_index_names(table)
        mark_cells(table)
    for text in soup.find_all(string=re.compile(r"\d %")):
        if text.find_parent(["pre", "code", "script", "style"]) is None:
            text.replace_with(re.sub(r"(?<=\d) (?=%)", "\N{NO-BREAK SPACE}", text))
    for inner in soup.select("ul > ul"):  # the list of the package's sources
        inner.find_previous_sibling("li").append(inner)


def merge_index_names(table: Tag) -> None:
    """Pandas writes the names of the index into a header row of their own, below that of the columns: join the two."""
    rows = table.select("thead > tr")
    if len(rows) != 2 or any(cell.has_attr("colspan") for cell in table.select("thead th")):
        return
    columns, names = (row.find_all("th", recursive=False) for row in rows)
    if len(columns) == len(names) and not any(a.get_text() and b.get_text() for a, b in zip(columns, names, strict=True)):
        for column, name in zip(columns, names, strict=True):
            if name.get_text():
                column.replace_with(name.extract())
        rows[1].decompose()


def mark_cells(table: Tag) -> None:
    """Mark columns of numbers, long and short cells by a class, and keep what belongs together on one line."""
    columns: dict[int, list[Tag]] = {}
    for row in table.select("tbody > tr"):
        cells = row.find_all(["td", "th"], recursive=False)
        for cell in cells:
            text = cell.get_text().strip()
            if cell.find(class_="math"):  # TeX says nothing of its width
                continue
            if text and len(text) <= (SHORT if cell.name == "td" else 2 * SHORT):
                cell["class"] = [*cell.get("class", []), "short"]
            elif len(text) > LONG:
                cell["class"] = [*cell.get("class", []), "long"]
        for place, cell in enumerate(cells[:0:-1]):  # from behind, as row headers may span the rows below; the first cell is a name
            if cell.name == "td":
                columns.setdefault(place, []).append(cell)
    for place, cells in columns.items():
        numbers = [cell for cell in cells if NUMBER.fullmatch(cell.get_text().strip())]
        for cell in numbers:
            if cell.string:  # an interval in brackets may take a line of its own, and so may the unit behind it
                text = re.sub(r" (?!\(|points)(?<!\) )", "\N{NO-BREAK SPACE}", cell.string.strip())
                cell.string = re.sub(r"(?<![\w.])-(?=\d)", "\N{MINUS SIGN}", text)
        if numbers and all(cell in numbers or cell.get_text().strip() in ("", "none") for cell in cells):
            heads = [row.find_all("th", recursive=False)[::-1] for row in table.select("thead > tr")]
            for cell in [*cells, *(head[place] for head in heads if place < len(head))]:
                cell["class"] = [*cell.get("class", []), "number"]


def finish_page(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Work on the body of a page just before it is written."""
    if app.builder.format != "html":
        return
    if doctree is None:
        title = BeautifulSoup(context.get("title") or NAMES.get(pagename, pagename), "html.parser").get_text()
        text = html.escape(f"{title}, a page of {app.config.project}")
        context["metatags"] = context.get("metatags", "") + f'\n<meta name="description" content="{text}" />'
    if context.get("body"):
        soup = BeautifulSoup(context["body"], "html.parser")
        files = {Path(name).name: Path(app.srcdir, source) for source, name in app.builder.images.items()}
        describe_pictures(soup, files)
        mend_markup(soup)
        context["body"] = str(soup)


def keep_sentence(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Keep napoleon from taking what stands before a colon for a type: comments of constants and fields are sentences."""
    if what in ("attribute", "data", "property"):
        lines[:0] = ["..", ""]  # an empty comment of reST


def take_address(app: Sphinx, config: Any) -> None:
    """The cards for other sites take the address of this one from where the canonical links have it."""
    config.ogp_site_url = config.html_baseurl


def setup(app: Sphinx) -> dict[str, bool]:
    """Add all of it to Sphinx."""
    as_figure = (lambda writer, node: writer.visit_figure(node), lambda writer, node: writer.depart_figure(node))
    app.add_enumerable_node(cell_table, "table", html=as_figure, latex=as_figure, text=as_figure)
    app.add_transform(TablesOfCells)
    app.add_post_transform(LighterPictures)
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", keep_sentence, priority=400)  # napoleon's is 500
    app.connect("config-inited", take_address)
    app.connect("html-page-context", finish_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

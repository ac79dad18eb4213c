"""Make a deck of each chapter from the built site: ``python .ci/slides.py SITE OUT``.

A deck is one HTML file with all that it shows: what the chapter is about, its figures with their numbers and captions, its exercises,
and what to take away. It is read off the pages, where numbers, citations and formulas are already in place.
"""

import base64
import mimetypes
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from bs4 import BeautifulSoup, SoupStrainer, Tag
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

#: TeX that the converter does not know, and how it is written for it.
_SPELLINGS = ((r"\\dots\b", r"\\ldots"), (r"\\frac(\d)(\d)", r"\\frac{\1}{\2}"), (r"\\[bB]ig[lr]?(?![a-z])", ""))
TEMPLATE = Path(__file__).with_name("slides.html")


def make_deck(page: Path) -> str:
    """The deck of one page of the site."""
    article = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser", parse_only=SoupStrainer("article"))
    slides = [Markup(slide) for slide in _find_slides(_make_whole(article, page.parent))]
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    title = article.select_one("h1").get_text().strip()
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(title=title, slides=slides)


def _find_slides(article: Tag) -> Iterator[str]:
    title, box = article.select_one("h1"), article.select_one(".admonition")
    about, aims = box.select_one("p:not(.admonition-title)"), box.select_one("ul")
    yield f"{title}{about}"
    yield f"<h2>You will</h2>{aims}"
    heading = ""
    for part in article.select("h2, h3, figure, .exercise"):
        if part.name in ("h2", "h3"):
            heading = part.get_text()
            if "What to take away" in heading:
                yield f"<h2>{heading}</h2>{part.find_next('ul')}"
        elif part.name == "figure":
            yield f"<h2>{heading}</h2>{part}"
        else:
            name = part.select_one(".admonition-title").extract().get_text()
            for section in part.select("section"):  # a section is a slide
                section.unwrap()
            yield f"<h2>{name}</h2><div>{part.decode_contents()}</div>"


def _make_whole(article: Tag, folder: Path) -> Tag:
    """Take pictures in, write formulas as MathML, and drop what leads out of the page or repeats an id."""
    for part in article.select("a.headerlink, .solution"):
        part.decompose()
    for link in article.select("a"):
        link.unwrap()
    for formula in article.select(", ".join(f"{part} .math" for part in ("figure", ".admonition", "ul"))):
        tex = formula.get_text().strip()
        for pattern, known in _SPELLINGS:
            tex = re.sub(pattern, known, tex)
        formula.replace_with(BeautifulSoup(tex2mathml(tex[2:-2], as_block=tex.startswith(r"\[")), "html.parser"))
    for picture in article.select("img"):
        picture.attrs.pop("loading", None)
        if not picture["src"].startswith("data:"):
            file = folder / unquote(picture["src"])
            kind = mimetypes.guess_type(file.name)[0]
            picture["src"] = f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"
    for part in article.select("[id]"):
        del part["id"]
    return article


def main(site: str, target: str) -> None:
    """Write a deck of each chapter of `site` into the folder `target`."""
    pages = sorted(Path(site).glob("notebooks/*.html"))
    if not pages:
        sys.exit(f"error: no chapters in {site}; expected a built site, see make book")
    Path(target).mkdir(parents=True, exist_ok=True)
    for page in pages:
        deck = Path(target) / page.name
        try:
            deck.write_text(make_deck(page), encoding="utf-8")
        except MathError as error:
            sys.exit(f"error: {page}: {error}; write the formula in other words, or add it to .ci/slides.py")
        print(f"{deck}: {deck.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(*sys.argv[1:3])

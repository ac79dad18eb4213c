"""A deck of each chapter: whole in one file, with every figure, caption and exercise of its page. BUILD_DIR says where the site is."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parents[2]
SITE = (ROOT / os.environ.get("BUILD_DIR", "_build_test/_build/html")).resolve()
sys.path.insert(0, str(ROOT / ".ci"))
import slides  # noqa: E402

PAGE = """<article><h1>7. A title<a class="headerlink" href="#a">#</a></h1>
<div class="tip admonition"><p class="admonition-title">This chapter</p><p><b>Paper</b>: <a href="../x.html">Li</a>.</p>
<p>You will</p><ul><li>see \
<span class="math">\\(x^2 \\cdot \\frac12 \\big( \\dots \\big)\\)</span></li></ul></div>
<h2>7.1. Look</h2><figure id="fig-a"><a href="../a.png"><img src="../a.png" alt="A dot" loading="lazy"></a>
<figcaption><span>Fig. 7.1</span> A dot.</figcaption></figure>
<div class="exercise admonition" id="ex"><p class="admonition-title">Exercise 7.1</p>
<section id="exercise-content"><p>Count.</p></section></div>
<div class="solution admonition"><p class="admonition-title">Solution</p><p>Forty-two.</p></div>
<h2>7.2. What to take away</h2><ul><li>Dots.</li></ul></article>"""


def outside(deck: str) -> list[str]:
    """What a deck would ask another file or machine for."""
    found = BeautifulSoup(deck, "html.parser").find_all(lambda tag: tag.name == "link" or any(tag.get(a) for a in ("src", "href")))
    return [str(tag)[:80] for tag in found if not tag.get("src", "").startswith("data:image/")] + re.findall(r"url\(|@import", deck)


@pytest.fixture
def site(tmp_path):
    (tmp_path / "site" / "notebooks").mkdir(parents=True)
    (tmp_path / "site" / "notebooks" / "07_title.html").write_text(PAGE, encoding="utf-8")
    (tmp_path / "site" / "a.png").write_bytes(b"a picture")
    return tmp_path / "site"


def test_a_deck_holds_what_the_page_shows_and_no_solution(site, tmp_path):
    slides.main(str(site), str(tmp_path / "decks"))
    deck = (tmp_path / "decks" / "07_title.html").read_text(encoding="utf-8")
    page = BeautifulSoup(deck, "html.parser")
    assert [part.get_text(" ", strip=True).split()[0] for part in page.select("section")] == ["7.", "You", "7.1.", "Exercise", "7.2."]
    assert outside(deck) == [] and page.title.get_text() == "7. A title"
    picture = page.select_one("figure img")
    assert picture["src"] == "data:image/png;base64,YSBwaWN0dXJl" and picture["alt"] == "A dot" and "loading" not in picture.attrs
    assert page.select_one("li msup") and page.select_one("li mfrac") and "Forty-two" not in deck and page.select("[id]") == []


def test_what_leads_outside_is_noticed():
    assert outside('<img src="a.png">') and outside('<link rel="stylesheet">') and outside("<style>@import 'x'</style>")


def test_no_site_and_an_odd_formula_end_in_one_line(site, tmp_path):
    with pytest.raises(SystemExit, match=r"no chapters in .*expected a built site"):
        slides.main(str(tmp_path), str(tmp_path / "decks"))
    file = site / "notebooks" / "07_title.html"
    file.write_text(PAGE.replace("x^2", r"\nonsense"), encoding="utf-8")
    with pytest.raises(SystemExit, match=r"07_title\.html: Unknown LaTeX command"):
        slides.main(str(site), str(tmp_path / "decks"))


def test_every_chapter_has_a_whole_deck(tmp_path):
    command = [sys.executable, str(ROOT / ".ci" / "slides.py"), str(SITE), str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    pages = sorted(SITE.glob("notebooks/*.html"))
    assert pages and [deck.name for deck in sorted(tmp_path.iterdir())] == [page.name for page in pages]
    for page in pages:
        # the pictures themselves are long to read
        deck = re.sub(r'src="data:image/[^"]+"', 'src="data:image/"', (tmp_path / page.name).read_text(encoding="utf-8"))
        shown, source = (BeautifulSoup(text, "html.parser") for text in (deck, page.read_text(encoding="utf-8")))
        for solution in source.select(".solution"):
            solution.decompose()
        assert outside(deck) == [], page.name
        assert [p["alt"] for p in shown.select("figure img")] == [p["alt"] for p in source.select("article figure img")]
        captions = [[" ".join(c.get_text().rstrip("#\n").split()) for c in s.select("figure .caption-number")] for s in (shown, source)]
        assert captions[0] == captions[1]
        titles = [heading.get_text() for heading in shown.select("h2")]
        assert titles[0] == "You will" and len([t for t in titles if t.startswith("Exercise ")]) == len(source.select("article .exercise"))
        assert re.search(r"What to take away", titles[-1]), f"{page.name}: {titles[-1]}"
        assert r"\(" not in shown.get_text(), page.name

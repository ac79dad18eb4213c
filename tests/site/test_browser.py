"""The built site in a browser, without a network. Skipped where there is no browser. BUILD_DIR says where the site is."""

import base64
import os
import struct
import zlib
from pathlib import Path

import pytest
from site_rules import listed

pytest.importorskip("playwright", reason="the browser checks need playwright (pip install playwright)")
pytest.importorskip("axe_playwright_python", reason="the browser checks need axe (pip install axe-playwright-python)")
import browser_rules as rules

BROWSER = rules.find_browser()
if BROWSER is None:
    pytest.skip(f"the browser checks need one of {', '.join(rules.NAMES)} on PATH (apt install chromium)", allow_module_level=True)

ROOT = Path(__file__).resolve().parents[2]
SITE = (ROOT / os.environ.get("BUILD_DIR", "_build_test/_build/html")).resolve()
CONTENTS = ROOT / "_toc.yml"
CHECKS = ("errors", "foreign", "head", "formulas", "pictures", "solutions", "keyboard", "axe", "dark text", "dark pictures", "sideways")


@pytest.fixture(scope="module")
def reader():
    with rules.read(BROWSER) as windows:
        yield windows


@pytest.fixture(scope="module")
def base():
    assert (SITE / "index.html").is_file(), f"no site in {SITE.name}: build the book first (make site)"
    with rules.serve(SITE) as address:
        yield address


@pytest.fixture(scope="module")
def found(base):
    """For each page, what every rule says of it. Each page is opened once for all tests."""
    return rules.survey(BROWSER, base, rules.list_pages(SITE))


@pytest.mark.parametrize("check", CHECKS)
def test_every_page(found, check):
    complaints = [f"{name}: {text}" for name, texts in found.items() for text in texts[check]]
    assert not complaints, "\n".join([f"{len(complaints)} complaints", *complaints])


def test_every_page_of_the_contents_was_opened(found):
    assert {f"{name}.html" for name in listed(CONTENTS)} <= set(found)


def test_search_finds_a_chapter(reader, base):
    assert "notebooks/05_from_softmax_to_locality.html" in rules.search(reader, base, "book/index.html", "locality preserving")
    assert rules.search(reader, base, "book/index.html", "zyzzyva") == []


def test_a_key_makes_the_page_dark(reader, base):
    with reader[0].new_page() as page:
        page.goto(base + "book/index.html")
        button = page.locator(".theme-switch-button:visible").first
        grounds = {}
        for _ in range(3):  # light, dark, as the system has it
            button.press("Enter")
            theme = page.evaluate("document.documentElement.dataset.theme")
            grounds[theme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert set(grounds) == {"light", "dark"}
        assert grounds["light"] != grounds["dark"]


def test_a_dark_page_is_printed_on_white_paper_and_alone(reader, base):
    assert rules.print_dark(reader, base, "notebooks/05_from_softmax_to_locality.html") == ("light", [], "dark")


def test_the_front_page_shows_the_book_within_one_screen(reader, base):
    with reader[0].new_page() as page:
        page.goto(base + "book/index.html")
        parts = ("h1", "img.front-faces", "table.front-result", ".front-status", ".front-doors")
        ends = {part: page.eval_on_selector(f"article {part}", "e => e.getBoundingClientRect().bottom") for part in parts}
        assert {part: end for part, end in ends.items() if end > rules.WIDE["height"]} == {}


# -- the rules must be able to fail ---------------------------------------------------------------------------------------


def png(*colour: int) -> bytes:
    """A picture of 40 x 20 pixels: lines of one colour (RGBA) on a ground that is not there."""
    rows = [b"\0" + bytes(colour if y % 4 == 2 else (0, 0, 0, 0)) * 40 for y in range(20)]

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 40, 20, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"".join(rows))) + chunk(b"IEND", b"")


INK = "data:image/png;base64," + base64.b64encode(png(0, 0, 0, 255)).decode()
GOOD = f"""<!DOCTYPE html>
<html lang="en" data-theme="light"><head><meta charset="utf-8"><title>A page</title>
<link rel="icon" href="{INK}">
<meta name="description" content="d"><meta property="og:title" content="t">
<meta property="og:description" content="d"><meta property="og:image" content="i">
<style>
body {{ color: #111; background: #fff }}
[data-theme="dark"] body {{ color: #eee; background: #111 }}
img {{ background: #fff }}
.toggle-hidden > div {{ display: none }}
:focus-visible {{ outline: 2px solid #888 }}
</style></head>
<body><input type="search" aria-label="Find"><main><article><h1>A page</h1>
<p>Words, <button type="button">a button</button> and a formula
<span class="math"><svg width="9" height="9" aria-hidden="true"></svg></span>.</p>
<p><img src="{INK}" alt="lines" width="40" height="20"></p>
<details><summary>More</summary><p>inside</p></details>
<div class="solution dropdown admonition toggle toggle-hidden"><p>Solution
<button class="toggle-button" onclick="this.closest('.toggle').classList.toggle('toggle-hidden')">Show</button></p><div>It is 3.</div></div>
</article></main></body></html>
"""
FAULTS = {
    "a script throws": ("errors", "<main>", "<main><script>throw Error('no')</script>"),
    "a script is missing": ("errors", "<main>", "<main><script src='gone.js'></script>"),
    "another host is asked": ("foreign", "<main>", "<main><link rel='stylesheet' href='https://example.org/a.css'>"),
    "no title": ("head", "<title>A page</title>", "<title> </title>"),
    "a second search field": ("head", "<main>", '<input type="search" aria-label="Search"><main>'),
    "no description": ("head", 'name="description"', 'name="nothing"'),
    "a formula is raw": ("formulas", '<svg width="9" height="9" aria-hidden="true"></svg>', r"\(x\)"),
    "TeX in the text": ("formulas", "Words,", r"Words \(x\),"),
    "no alt text": ("pictures", 'alt="lines"', 'alt=""'),
    "no height": ("pictures", 'height="20">', ">"),
    "another shape": ("pictures", 'height="20">', 'height="40">'),
    "a picture is missing": ("pictures", f'<img src="{INK}"', '<img src="data:image/png;base64,AAAA"'),
    "a solution stands open": ("solutions", "toggle toggle-hidden", "toggle"),
    "a solution does not open": ("solutions", "classList.toggle", "classList.contains"),
    "Tab passes by": ("keyboard", '<button type="button">', '<button type="button" tabindex="-1">'),
    "the focus is not seen": ("keyboard", "outline: 2px solid #888", "outline: none"),
    "a button without a name": ("axe", ">a button<", "><"),
    "a button of another name": ("axe", '<button type="button">', '<button type="button" aria-label="Search">'),
    "pale text": ("axe", "color: #111; background: #fff", "color: #aaa; background: #fff"),
    "pale text when dark": ("dark text", "color: #eee; background: #111", "color: #444; background: #111"),
    "black ink when dark": ("dark pictures", "img { background: #fff }", ""),
    "too wide for a phone": ("sideways", "<p>Words", "<p style='width: 380px'>Words"),
}


def file_of(fault: str) -> str:
    return fault.replace(" ", "_") + ".html"


@pytest.fixture(scope="module")
def canaries(tmp_path_factory):
    """What the rules say of a page that is right, and of the same page with each of the faults."""
    folder = tmp_path_factory.mktemp("canaries")
    pages = {"good.html": GOOD} | {file_of(fault): GOOD.replace(old, new) for fault, (_, old, new) in FAULTS.items()}
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")
    with rules.serve(folder) as address:
        return rules.survey(BROWSER, address, list(pages))


def test_a_good_page_passes(canaries):
    assert {check: complaints for check, complaints in canaries["good.html"].items() if complaints} == {}


def test_what_is_printed_beside_the_text_is_noticed(reader, tmp_path):
    (tmp_path / "page.html").write_text(GOOD.replace("<main>", "<nav>Pages</nav><main>"), encoding="utf-8")
    with rules.serve(tmp_path) as address:
        paper, beside, _ = rules.print_dark(reader, address, "page.html")
    assert paper == "dark" and [text.split()[0] for text in beside] == ["nav", "details", "div.solution.dropdown"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(canaries, fault):
    check, old, _ = FAULTS[fault]
    assert GOOD.count(old) == 1
    assert canaries[file_of(fault)][check]

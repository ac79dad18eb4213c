"""The built site: complete, whole links, no traceback, every picture described. BUILD_DIR says where it is."""

import os
from pathlib import Path

import pytest
import site_rules as rules

ROOT = Path(__file__).resolve().parents[2]
SITE = (ROOT / os.environ.get("BUILD_DIR", "_build_test/_build/html")).resolve()
CONTENTS = ROOT / "_toc.yml"


@pytest.fixture(scope="module")
def site():
    assert (SITE / "index.html").is_file(), f"no site in {SITE.name}: build the book first (make site)"
    return SITE


def test_every_page_of_the_contents_is_there(site):
    assert rules.missing_pages(site, CONTENTS) == []


def test_no_traceback(site):
    assert rules.tracebacks(site) == []


def test_no_broken_internal_link(site):
    assert rules.broken_links(site) == []


def test_every_picture_has_alt_text(site):
    assert rules.silent_pictures(site, CONTENTS) == []


def test_nothing_comes_from_another_host(site):
    assert rules.outside_loads(site) == []
    assert (site / "_static" / "mathjax" / "tex-chtml.js").is_file(), "the formulas' script is not part of the site"


def test_every_page_has_one_title_a_card_and_pictures_that_wait(site):
    assert rules.unfinished_pages(site, CONTENTS) == []


def test_no_id_stands_twice(site):
    assert rules.repeated_ids(site) == []


def test_every_page_is_in_the_sitemap(site):
    assert rules.unlisted_pages(site, CONTENTS) == []


def test_a_chapter_weighs_little(site):
    """Pictures were 6 MB of chapter 1, as PNG: a phone waits for each of them."""
    for name in rules.listed(CONTENTS):
        sources = {source for source, _ in rules.read(site / f"{name}.html").pictures if not source.startswith("data:")}
        pictures = [(site / f"{name}.html").parent / source for source in sources]
        size = sum(picture.stat().st_size for picture in pictures if picture.is_file())
        assert size < 2_500_000, f"the pictures of {name} weigh {size / 1e6:.1f} MB"


def test_a_page_weighs_little(site):
    """The package was described on one page of 2 MB, which a phone scrolls badly and a search answers with one hit."""
    sizes = {name: (site / f"{name}.html").stat().st_size for name in rules.listed(CONTENTS)}
    assert {name: size for name, size in sizes.items() if size > 500_000} == {}


def test_chapters_show_outputs(site):
    for name in rules.listed(CONTENTS):
        if name.startswith("notebooks/"):
            assert "cell_output" in (site / f"{name}.html").read_text(encoding="utf-8"), f"{name} shows no output"


# -- the rules must be able to fail ---------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path):
    """A site of two pages that keeps every rule, and its contents."""
    (tmp_path / "toc.yml").write_text("format: jb-book\nroot: a\nparts:\n- caption: B\n  chapters:\n  - file: sub/b\n", encoding="utf-8")
    folder = tmp_path / "site"
    (folder / "sub").mkdir(parents=True)
    (folder / "face.png").write_bytes(b"")
    head = (
        '<link rel="canonical" href="https://book.example.org/"><meta name="description" content="A"><meta property="og:title" content="A">'
        '<meta property="og:description" content="A"><meta property="og:image" content="A">'
    )
    picture = '<img src="face.png" alt="a face" width="2" height="3">'
    first = (
        f'{head}<article id="top"><h1>A</h1><a href="sub/b.html#here">b</a>{picture}{picture.replace(">", " loading=lazy>")}</article>'
    )
    second = f'{head}<article><h1 id="here">B</h1><a href="../a.html">a</a><a href="#here">up</a></article>'
    (folder / "a.html").write_text(first, encoding="utf-8")
    (folder / "sub" / "b.html").write_text(second, encoding="utf-8")
    listing = "".join(f"<loc>https://book.example.org/{name}.html</loc>" for name in ("a", "sub/b"))
    (folder / "sitemap.xml").write_text(listing, encoding="utf-8")
    return folder, tmp_path / "toc.yml"


def complaints(small):
    folder, contents = small
    found = rules.missing_pages(folder, contents) + rules.tracebacks(folder) + rules.broken_links(folder)
    found += rules.silent_pictures(folder, contents) + rules.outside_loads(folder) + rules.unfinished_pages(folder, contents)
    return found + rules.repeated_ids(folder) + rules.unlisted_pages(folder, contents)


def test_a_good_site_passes(small):
    assert rules.listed(small[1]) == ["a", "sub/b"]
    assert complaints(small) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("sub/b.html#here", "sub/c.html"),
        ("sub/b.html#here", "sub/b.html#there"),
        ("sub/b.html#here", "../../secret.html"),
        ('src="face.png" alt="a face" width="2" height="3">', 'src="gone.png" alt="a face" width="2" height="3">'),
        ('alt="a face" width="2" height="3">', 'alt=" " width="2" height="3">'),
        ("b</a>", "Traceback (most <b>recent</b> call last)</a>"),
        ("<h1>A</h1>", "<h1>A</h1><h1>A</h1>"),
        ('name="description" content="A"', 'name="description" content=""'),
        ('rel="canonical"', 'rel="next"'),
        ("og:image", "image"),
        ('height="3">', 'height="">'),
        (" loading=lazy", ""),
        ("b</a>", '<b id="top">b</b></a>'),
        ("b</a>", 'b</a><script src="https://cdn.example.org/x.js"></script>'),
        ("b</a>", 'b</a><link rel="stylesheet" href="//cdn.example.org/x.css">'),
        ("b</a>", "b</a><style>@font-face { src: url(https://cdn.example.org/x.woff2) }</style>"),
        ("b</a>", 'b</a><script>const URL = "https://cdn.example.org/index.js"</script>'),
        ("b</a>", 'b</a><iframe src="https://cdn.example.org/"></iframe>'),
    ],
)
def test_a_bad_page_is_caught(small, old, new):
    page = small[0] / "a.html"
    text = page.read_text(encoding="utf-8")
    assert old in text
    page.write_text(text.replace(old, new), encoding="utf-8")
    assert len(complaints(small)) == 1


def test_a_page_that_the_sitemap_lacks_is_caught(small):
    (small[0] / "sitemap.xml").unlink()
    assert len(complaints(small)) == 2


def test_a_missing_page_is_caught(small):
    (small[0] / "sub" / "b.html").unlink()
    assert any("in the contents" in text for text in complaints(small))

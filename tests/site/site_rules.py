"""Checks on the built HTML. Each rule takes the folder of the site and returns the complaints."""

import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml

TRACEBACK = "Traceback (most recent call last)"
ADDRESS = re.compile(r"""(?:url\(|@import)\s*["']?([^"')\s;]+)""")  # what a style loads
SCRIPT_ADDRESS = re.compile(r"""["'](https?://[^"'\s]+\.(?:m?js|css|woff2?|json))["']""")  # what a script on the page might load


class Page(HTMLParser):
    """What one page points to, what it can be pointed at, and its pictures."""

    def __init__(self, path: Path):
        super().__init__(convert_charrefs=True)
        self.targets: list[str] = []
        self.anchors: set[str] = set()
        self.pictures: list[tuple[str, str]] = []  # source, alt; those of the article only
        self.unsized: list[str] = []  # pictures without width and height
        self.hasty: list[str] = []  # pictures of a file that are fetched before they come into sight
        self.twice: set[str] = set()  # ids that stand more than once
        self.heads: set[str] = set()  # what the head says of the page: names and properties with a content, kinds of links
        self.loaded: list[str] = []  # scripts, styles, fonts, pictures and frames that a browser fetches by itself
        self.script = False
        self.titles = 0
        self.text: list[str] = []
        self._article = 0
        self._ids: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if values.get("id"):
            self.twice |= {values["id"]} & self._ids
            self._ids.add(values["id"])
        self.anchors |= {values[name] for name in ("id", "name") if values.get(name)}
        if tag == "article":
            self._article += 1
        for name in ("href", "src"):
            if values.get(name):
                self.targets.append(values[name])
        if tag == "img" and self._article:
            self.pictures.append((values.get("src") or "", values.get("alt") or ""))
            if not (values.get("width") and values.get("height")):
                self.unsized.append(values.get("src") or "")
            if values.get("loading") != "lazy" and not (values.get("src") or "").startswith("data:"):
                self.hasty.append(values.get("src") or "")
        if tag == "meta" and values.get("content"):
            self.heads.add(values.get("name") or values.get("property") or "")
        if tag == "link" and values.get("href"):
            self.heads |= set((values.get("rel") or "").split())
        self.titles += tag == "h1"
        self.script = tag in ("script", "style")
        self.loaded += [values[name] for name in ("src", "srcset", "poster", "data") if values.get(name)]
        if tag == "link" and not {"canonical", "next", "prev", "search", "index"} & set((values.get("rel") or "").split()):
            self.loaded.append(values.get("href") or "")
        self.loaded += ADDRESS.findall(values.get("style") or "")

    handle_startendtag = handle_starttag

    def handle_endtag(self, tag):
        self.script = False
        if tag == "article":
            self._article -= 1

    def handle_data(self, data):
        self.text.append(data)
        if self.script:
            self.loaded += ADDRESS.findall(data) + SCRIPT_ADDRESS.findall(data)


def listed(contents: Path) -> list[str]:
    """The pages that the table of contents names, in its order."""
    found: list[str] = []

    def walk(node):
        if isinstance(node, list):
            for item in node:
                walk(item)
        elif isinstance(node, dict):
            found.extend(node[key] for key in ("root", "file") if key in node)
            for value in node.values():
                if isinstance(value, list):
                    walk(value)

    walk(yaml.safe_load(contents.read_text(encoding="utf-8")))
    return found


@cache
def _read(path: Path, written: int) -> Page:
    return Page(path)


def read(path: Path) -> Page:
    """The page, parsed once for all rules, and again if its file has changed."""
    return _read(path, path.stat().st_mtime_ns)


def pages(site: Path) -> dict[Path, Page]:
    """Every page of the site."""
    return {path: read(path) for path in sorted(site.rglob("*.html")) if "_static" not in path.relative_to(site).parts}


def missing_pages(site: Path, contents: Path) -> list[str]:
    return [f"{name} is in the contents but not in the site" for name in listed(contents) if not (site / f"{name}.html").is_file()]


def tracebacks(site: Path) -> list[str]:
    found = pages(site)
    return [f"{path.relative_to(site)} shows a traceback" for path, page in found.items() if TRACEBACK in "".join(page.text)]


def broken_links(site: Path) -> list[str]:
    """Internal links, anchors, pictures, scripts and styles that lead nowhere."""
    found, complaints = pages(site), set()
    for path, page in found.items():
        here = path.relative_to(site)
        for target in page.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            goal = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
            if goal.is_dir():
                goal = goal / "index.html"
            if not goal.is_relative_to(site.resolve()) and goal != path:
                complaints.add(f"{here} points out of the site: {target}")
            elif not goal.is_file():
                complaints.add(f"{here} points to {target}, which does not exist")
            elif parts.fragment and goal in found and unquote(parts.fragment) not in found[goal].anchors | {"top"}:
                complaints.add(f"{here} points to {target}, an anchor that does not exist")
    return sorted(complaints)


def silent_pictures(site: Path, contents: Path) -> list[str]:
    """Pictures without alt text on the pages of the contents."""
    complaints = []
    for name in listed(contents):
        path = site / f"{name}.html"
        if path.is_file():
            complaints += [f"{name}: {source} has no alt text" for source, alt in read(path).pictures if not alt.strip()]
    return complaints


def outside_loads(site: Path) -> list[str]:
    """Scripts, styles, fonts, pictures and frames that come from another host: they fail offline, and tell others who reads."""
    complaints = []
    for path, page in pages(site).items():
        complaints += [f"{path.relative_to(site)} loads {target}" for target in page.loaded if is_outside(target)]
    for path in sorted(site.rglob("*.css")):
        addresses = ADDRESS.findall(path.read_text(encoding="utf-8"))
        complaints += [f"{path.relative_to(site)} loads {target}" for target in addresses if is_outside(target)]
    return complaints


def is_outside(target: str) -> bool:
    parts = urlsplit(target)
    return parts.scheme in ("http", "https") or (not parts.scheme and bool(parts.netloc))


#: What the head of a page tells search engines, and others who show a link to it.
HEADS = ("description", "canonical", "og:title", "og:description", "og:image")


def unfinished_pages(site: Path, contents: Path) -> list[str]:
    """Pages of the contents that say too little of themselves, have several titles, or jump or wait while their pictures load."""
    complaints = []
    for name in listed(contents):
        path = site / f"{name}.html"
        if path.is_file():
            page = read(path)
            complaints += [f"{name} has no {part}" for part in HEADS if part not in page.heads]
            complaints += [] if page.titles == 1 else [f"{name} has {page.titles} h1, not one"]
            complaints += [f"{name}: {source} has no width and height" for source in page.unsized]
            complaints += [f"{name}: {source} is fetched before it is seen" for source in page.hasty[1:]]  # the first may be in sight
    return complaints


def repeated_ids(site: Path) -> list[str]:
    """Ids that stand twice on a page: a link to one leads to the first of them."""
    return [f"{path.relative_to(site)}: the id {name!r} stands twice" for path, page in pages(site).items() for name in sorted(page.twice)]


def unlisted_pages(site: Path, contents: Path) -> list[str]:
    """Pages of the contents that the sitemap lacks."""
    listing = site / "sitemap.xml"
    known = listing.read_text(encoding="utf-8") if listing.is_file() else ""
    return [f"{name} is not in the sitemap" for name in listed(contents) if f"/{name}.html</loc>" not in known]

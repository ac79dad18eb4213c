"""What a reader's browser finds on a page of the site. Each rule returns complaints; those about a page stand in browser_rules.js."""

import re
import shutil
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue
from urllib.parse import urljoin

from axe_playwright_python.base import AXE_FILE_PATH
from playwright.sync_api import sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# no name of another host is ever looked up: whatever a page asks of it fails, and is noted
ALONE = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"
RULES = Path(__file__).with_name("browser_rules.js").read_text(encoding="utf-8")
AXE = AXE_FILE_PATH.read_text(encoding="utf-8")
WIDE = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 740}
LARGER_PHONE = {"width": 390, "height": 844}
# off in axe as it comes: a button must be called what it says
NAMED = {"label-content-name-mismatch": {"enabled": True}}
TEXT = {"runOnly": ["color-contrast"]}


def find_browser() -> str | None:
    """A Chromium on PATH."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class _Quiet(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass


@contextmanager
def serve(folder: Path):
    """The folder as a site of this machine: yields its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def list_pages(site: Path) -> list[str]:
    """Every page but the reprinted sources, of which the longest stands for all; no page that only leads to another."""
    pages = [path for path in site.rglob("*.html") if "_static" not in path.relative_to(site).parts]
    sources = [path for path in pages if path.relative_to(site).parts[0] == "_modules" and path.name != "index.html"]
    longest = max(sources, key=lambda path: path.stat().st_size, default=None)
    kept = [path for path in pages if path not in sources or path == longest]
    return sorted(str(p.relative_to(site)) for p in kept if not re.search(r'http-equiv="refresh"', p.read_text(encoding="utf-8"), re.I))


def run_axe(page, options: dict) -> list[str]:
    """What axe calls serious or critical, an element each."""
    page.evaluate(AXE)
    options = {"resultTypes": ["violations"], "preload": False, **options}
    found = page.evaluate("async options => (await axe.run(options)).violations", options)
    return [
        f"{rule['id']} ({rule['impact']}): {' '.join(map(str, node['target']))}: "
        + "; ".join(check["message"] for check in node["any"] + node["all"] + node["none"])
        for rule in found
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


def _listen(page, base: str, found: dict[str, list[str]]) -> None:
    """Note what the page says on the console, what fails, and what it asks of others."""

    def on_console(message):
        if message.type in ("error", "warning"):
            found["errors"].append(f"{message.text} {message.location.get('url', '')}")

    def on_request(request):
        if not request.url.startswith((base, "data:", "blob:")):
            found["foreign"].append(request.url)

    page.on("console", on_console)
    page.on("pageerror", lambda error: found["errors"].append(f"script: {error}"))
    page.on("request", on_request)


def _walk(page) -> list[str]:
    """Press Tab until the focus is back where it began."""
    page.evaluate("rules.startWalk()")
    for _ in range(40):
        for _ in range(25):
            page.keyboard.press("Tab")
        if page.evaluate("rules.walkEnded()"):
            break
    return page.evaluate("rules.endWalk()")


def _unfold(page) -> list[str]:
    """Open all that folds with the Enter key; then what lies folded inside it."""
    for index in range(page.evaluate("rules.folds().length")):
        if page.evaluate("index => rules.focusHandle(index)", index):
            page.keyboard.press("Enter")
    found = page.evaluate("rules.stillFolded()")
    page.evaluate("rules.unfold()")
    return found


def _open(context, base: str, name: str, found: dict[str, list[str]]):
    """The page, loaded whole, in a tab of its own."""
    page = context.new_page()
    _listen(page, base, found)
    page.goto(base + name, wait_until="load")
    page.evaluate(RULES)
    page.evaluate("rules.settle()")
    return page


@contextmanager
def read(chromium: str):
    """Start the browser: yields a window of a computer and one of a phone, in which `inspect` opens pages."""
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=chromium, args=[ALONE]) as browser:
        look = {"reduced_motion": "reduce", "color_scheme": "light"}
        yield browser.new_context(viewport=WIDE, **look), browser.new_context(viewport=PHONE, **look)


def inspect(reader, base: str, name: str) -> dict[str, list[str]]:
    """Open the page on a computer and on a phone, once each: the complaints of every rule."""
    desk, phone = reader
    found: dict[str, list[str]] = defaultdict(list)
    with _open(desk, base, name, found) as page:
        for rule in ("head", "formulas", "pictures", "solutions"):
            found[rule] += page.evaluate(f"rules.{rule}()")
        page.evaluate("rules.thin()")
        found["keyboard"] = _walk(page)
        found["solutions"] += _unfold(page)
        found["axe"] = run_axe(page, {"rules": NAMED})
        page.evaluate("rules.rememberPictures()")
        page.evaluate("document.documentElement.dataset.theme = 'dark'")
        found["dark text"] = run_axe(page, TEXT)
        found["dark pictures"] = page.evaluate("rules.darkPictures()")
    with _open(phone, base, name, defaultdict(list)) as page:
        page.evaluate("rules.unfold()")
        found["sideways"] += page.evaluate("rules.sideways()")
        page.evaluate("rules.thin()")
        found["axe"] += [f"phone: {text}" for text in run_axe(page, {"rules": NAMED | {"color-contrast": {"enabled": False}}})]
        page.set_viewport_size(LARGER_PHONE)
        found["sideways"] += page.evaluate("rules.sideways()")
    return found


def survey(chromium: str, base: str, names: list[str], browsers: int = 2) -> dict[str, dict[str, list[str]]]:
    """What `inspect` says of each page; browsers read side by side."""
    waiting, found = SimpleQueue(), {}
    for name in [*names, *[None] * browsers]:
        waiting.put(name)

    def work() -> None:
        with read(chromium) as reader:
            while (name := waiting.get()) is not None:
                found[name] = inspect(reader, base, name)

    with ThreadPoolExecutor(browsers) as pool:
        for worker in [pool.submit(work) for _ in range(browsers)]:
            worker.result()
    return {name: found[name] for name in names}


def search(reader, base: str, start: str, words: str) -> list[str]:
    """The pages that a reader finds who presses Ctrl+K, types the words and presses Enter."""
    with reader[0].new_page() as page:
        page.goto(base + start, wait_until="load")
        page.keyboard.press("Control+k")
        page.keyboard.type(words)
        page.keyboard.press("Enter")
        page.wait_for_url("**/search.html*")
        page.wait_for_function("/found|did not match/i.test(document.querySelector('#search-results')?.innerText)")
        links = page.locator("#search-results ul.search > li > a").all()
        return [urljoin(page.url, link.get_attribute("href")).removeprefix(base).split("?")[0].split("#")[0] for link in links]


def print_dark(reader, base: str, name: str) -> tuple[str, list[str], str]:
    """Print a page that is dark: the colours on paper, what is printed beside the article, and the colours afterwards."""
    with reader[0].new_page() as page:
        page.goto(base + name, wait_until="load")
        page.evaluate(RULES)
        page.evaluate("document.documentElement.dataset.theme = 'dark'")
        page.evaluate("addEventListener('beforeprint', () => { window.paper = document.documentElement.dataset.theme })")
        page.pdf()
        page.emulate_media(media="print")
        return page.evaluate("window.paper"), page.evaluate("rules.onPaper()"), page.evaluate("document.documentElement.dataset.theme")

"""What a reader can move works without a server, without a network, by keyboard, and beside others of its kind."""

import base64
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt
from PIL import Image

from fer_utils.plotting.interactive import ask_faces, show_frames
from fer_utils.plotting.style import use_style

mpl.use("Agg")
WORDS = ("surprise", "fear", "joy & more")
SHARES = [[0.2, 0.5, 0.3], [0.0, 0.1, 0.9]]
FACES = np.arange(2 * 8 * 8, dtype=np.uint8).reshape(2, 8, 8)
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Elements(HTMLParser):
    """Every start tag with its attributes."""

    def __init__(self, page: str):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def named(self, tag):
        return [attrs for name, attrs in self.found if name == tag]


def draw(height: float, size=(3, 2)):
    figure, axes = plt.subplots(figsize=size)
    axes.bar([0, 1], [height, 1])
    return figure


@pytest.fixture
def slider():
    use_style()
    yield show_frames({f"{n} %": draw(n) for n in (0, 20, 40)}, "spam <share>", "Two bars.")
    plt.close("all")


@pytest.fixture
def quiz():
    return ask_faces(FACES, [1, 2], SHARES, WORDS)


def test_one_frame_is_seen_and_all_are_described(slider):
    page = Elements(slider.html)
    frames = [attrs for attrs in page.named("div") if attrs["class"] == "frame"]
    assert ["hidden" in frame for frame in frames] == [False, True, True]
    assert [attrs["alt"] for attrs in page.named("img")] == [f"Two bars. spam <share>: {n} %." for n in (0, 20, 40)]
    (control,) = page.named("input")
    assert (control["type"], control["max"], control["aria-valuetext"]) == ("range", "2", "0 %")
    assert "spam &lt;share&gt;" in slider.html and "<share>" not in slider.html


def test_frames_are_the_figures_to_the_pixel_and_of_one_size(slider):
    sources = [attrs["src"] for attrs in Elements(slider.html).named("img")]
    pictures = [Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))) for source in sources]
    shown = Elements(slider.html).named("img")[0]
    assert {picture.size for picture in pictures} == {(int(shown["width"]), int(shown["height"]))}
    assert len({picture.tobytes() for picture in pictures}) == 3
    first = Image.open(io.BytesIO(slider.png)).convert("RGB")
    assert first.tobytes() == pictures[0].convert("RGB").tobytes()


def test_the_slider_and_its_picture_start_where_they_are_told():
    use_style()
    shown = show_frames({name: draw(n) for n, name in enumerate("abc")}, "x", "A bar.", start="b")
    page = Elements(shown.html)
    (control,) = page.named("input")
    assert (control["value"], control["aria-valuetext"]) == ("1", "b")
    assert ["hidden" in attrs for attrs in page.named("div") if attrs["class"] == "frame"] == [True, False, True]
    second = Image.open(io.BytesIO(base64.b64decode(page.named("img")[1]["src"].split(",")[1])))
    assert Image.open(io.BytesIO(shown.png)).convert("RGB").tobytes() == second.convert("RGB").tobytes()


def test_figures_are_closed_lest_the_notebook_shows_them_again(slider):
    assert plt.get_fignums() == []


@pytest.mark.parametrize("kind", ["slider", "quiz"])
def test_nothing_outside_is_asked_for_and_a_picture_stands_in(kind, request):
    shown = request.getfixturevalue(kind)
    for tag, attrs in Elements(shown.html).found:
        assert tag not in {"script", "link", "iframe"} and "id" not in attrs
        assert all(attrs[name].startswith("data:image/webp;base64,") for name in ("src", "href") if name in attrs)
    assert "url(" not in shown.html and "http" not in shown.html
    bundle = shown._repr_mimebundle_()
    assert bundle["text/html"] == shown.html and "0x" not in bundle["text/plain"]
    assert Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))).format == "PNG"


def test_bad_frames():
    use_style()
    for figures, alt, message in (
        ({"a": draw(1)}, "A bar.", "two frames or more, not 1"),
        ({"a": draw(1), "b": draw(1, (4, 2))}, "A bar.", "one size"),
        ({"a": draw(1), "b": draw(2)}, {"a": "A bar."}, r"no alternative text for the frames \['b'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            show_frames(figures, "x", alt)
    with pytest.raises(ValueError, match=r"start must be one of the frames \['a', 'b'\], not 'c'"):
        show_frames({"a": draw(1), "b": draw(2)}, "x", "A bar.", start="c")
    plt.close("all")


@pytest.mark.parametrize(
    ("truth", "shares", "message"),
    [([1], SHARES, "2 faces, 1 truths"), ([1, 2], [[0.5, 0.5]] * 2, r"shape \(2, 2\)"), ([1, 2], [[1, 1, 1]] * 2, "sum to 1")],
)
def test_bad_faces(truth, shares, message):
    with pytest.raises(ValueError, match=message):
        ask_faces(FACES, truth, shares, WORDS)


def test_the_answer_waits_until_it_is_asked_for(quiz):
    page = Elements(quiz.html)
    assert not any("open" in attrs for attrs in page.named("details"))
    assert all("fear" not in attrs["alt"] and "joy" not in attrs["alt"] for attrs in page.named("img"))
    assert re.findall(r"<td>([^<]+?) \(rendered\)</td><td>([^<]+)</td>", quiz.html) == [("fear", "50 %"), ("joy &amp; more", "90 %")]


@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
def test_moving_one_leaves_its_neighbour_alone(slider, quiz, tmp_path):
    steps = """<script>
    var sliders = document.querySelectorAll('[type=range]'), forms = document.querySelectorAll('form');
    sliders[1].value = 2; sliders[1].dispatchEvent(new Event('input', {bubbles: true}));
    forms[1].querySelectorAll('[name=face-0]')[1].click(); forms[1].querySelectorAll('[name=face-1]')[0].click();
    function seen(part) { return [].map.call(part.querySelectorAll('.frame:not([hidden]) b'), one => one.textContent).join() }
    document.title = [].map.call(document.querySelectorAll('.fer-frames'), seen).join('|') + '|'
      + [].map.call(forms, form => form.querySelectorAll('details[open]').length + form.lastChild.textContent).join('|')
      + '|' + sliders[1].getAttribute('aria-valuetext');
    </script>"""
    file = tmp_path / "page.html"
    file.write_text(f"<meta charset=utf-8><title></title>{2 * slider.html}{2 * quiz.html}{steps}", encoding="utf-8")
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    done = subprocess.run([BROWSER, *options, file.as_uri()], capture_output=True, text=True, timeout=60, check=True)
    told = "Of 2 faces named, you agree with what was rendered on 1 and with the crowd on 1."
    assert re.search("<title>(.*?)</title>", done.stdout)[1] == f"0 %|40 %|0|2{told}|40 %"

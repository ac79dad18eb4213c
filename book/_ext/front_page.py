"""The directive ``front-result``: a few results of the ledger as bars, and what the ledger holds, computed when the site is built."""

from __future__ import annotations

from collections import Counter

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

#: What a reader sees: experiment, row of its table, name. All are mean recall on the wild test faces of FACSynth.
ROWS = (
    ("dlp-cnn/table-5", "mSVM LBP", "LBP (textures), SVM"),
    ("dlp-cnn/table-5", "mSVM HOG", "HOG (edges), SVM"),
    ("dlp-cnn/table-5", "mSVM Gabor", "Gabor filters, SVM"),
    ("dlp-cnn/table-6", "mSVM baseDCNN", "network, softmax loss"),
    ("dlp-cnn/table-6", "mSVM DLP-CNN", "network, locality-preserving loss"),
)


def write_result() -> str:
    """The bars and the line below them, as HTML."""
    from fer_utils.experiments import list_ledgers, summarise_ledger

    tables = {id: summarise_ledger(id, "book", "facsynth") for id in dict.fromkeys(id for id, _, _ in ROWS)}
    bars, counts = [], set()
    for id, row, name in ROWS:
        table = tables[id]
        line = table[(table.row == row) & (table.role == "basic") & (table.metric == "mean diagonal")].iloc[0]
        counts.add(line["count"])
        value, low, high = (100 * line[key] for key in ("value", "low", "high"))
        bars.append(
            f'<tr><th scope="row">{name}</th><td class="front-bar"><span style="width:{value:.1f}%"></span>'
            f'<i style="left:{low:.1f}%;width:{high - low:.1f}%"></i></td><td>{value:.0f} %</td><td>{low:.0f} to {high:.0f}</td></tr>'
        )
    kept = Counter(where for _, where in list_ledgers(profile="book"))
    (count,) = counts
    return (
        '<table class="front-result"><caption>Mean recall over seven words, with 95 % intervals, on '
        f"{count:,} rendered test faces in the wild. Guessing gives {100 / 7:.0f} %.</caption>"
        '<thead><tr><th scope="col">method</th><th scope="col" aria-label="bar"></th><th scope="col">recall</th>'
        f'<th scope="col">interval</th></tr></thead><tbody>{"".join(bars)}</tbody></table>'
        f'<p class="front-status">The ledger holds {kept.total()} results: {kept["facsynth"]} tables and figures measured on rendered '
        f'faces and {kept["muxspace"]} on photographs, which no page shows.</p>'
    )


class FrontResult(Directive):
    """Bars from the ledger, without arguments."""

    def run(self) -> list[nodes.Node]:
        """Compute them now."""
        return [nodes.raw("", write_result(), format="html")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive to Sphinx."""
    app.add_directive("front-result", FrontResult)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

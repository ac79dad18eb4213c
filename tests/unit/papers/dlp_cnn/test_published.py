"""The numbers and claims of Li & Deng 2019."""

import numpy as np
import pytest

from fer_utils.experiments.published import Cell, load_published
from fer_utils.labels import BASIC, COMPOUND


@pytest.fixture(scope="module")
def paper():
    return load_published("dlp-cnn")


def means(item, columns):
    return {row: float(np.mean(values[columns])) for row, values in item.rows.items()}


def test_every_table_and_figure_with_numbers_is_there(paper):
    tables = {f"table-{i}" for i in (1, 3, 4, 5, 6, 7, 8, 9)} | {f"figure-{i}" for i in (6, 8, 9, 10)}
    assert tables <= set(paper.items) and {"section-3", "algorithm-1", "section-5-b", "section-5-c"} <= set(paper.items)
    for item in paper.items.values():
        lost = [cell for cell, _, value in item.cells() if value is None]
        assert item.damaged or item.notes or not lost, f"{item.id}: cells are empty and nobody says why"


def test_averages_of_table_6_follow_from_its_rows(paper):
    item = paper.item("table-6")
    found = means(item, slice(0, 7))
    off = {row for row, value in found.items() if abs(value - item.rows[row][7]) > 0.0051}
    assert off == {"mSVM DLP-CNN"}, "52.15 for disgust is a misprint, and nothing else"


def test_table_7_is_the_matrix_of_the_best_row(paper):
    item = paper.item("table-7")
    matrix = np.array(list(item.rows.values()))
    assert tuple(item.rows) == BASIC and [c.metric for c in item.columns] == [f"as {name}" for name in BASIC]
    assert np.allclose(matrix.sum(axis=1), 100, atol=0.03)
    assert matrix.diagonal().mean() == pytest.approx(74.20, abs=0.005)
    # Table VI in the order of its header, but for the misprint
    best = dict(zip(("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"),
                    paper.item("table-6").rows["mSVM DLP-CNN"], strict=False))
    assert [name for name, value in zip(BASIC, matrix.diagonal(), strict=True) if best[name] != value] == ["disgust"]
    assert paper.value(Cell("dlp-cnn/table-7", "mSVM DLP-CNN", "basic", "fear as surprise")) == 9.46


def test_table_8_counts_the_test_faces(paper):
    item = paper.item("table-8")
    matrix = np.array(list(item.rows.values()))
    assert tuple(item.rows) == COMPOUND and np.allclose(matrix.sum(axis=1), 100, atol=0.31)
    sizes = np.array([135, 47, 22, 33, 18, 141, 33, 116, 38, 174, 35])
    counts = np.rint(matrix * sizes[:, None] / 100)
    assert np.abs(counts / sizes[:, None] * 100 - matrix).max() < 0.051 and (counts.sum(axis=1) == sizes).all()
    assert matrix.diagonal().mean() == pytest.approx(44.55, abs=0.02)


def test_numbers_of_the_text(paper):
    def value(item, row, role="", metric="value"):
        return paper.value(Cell(f"dlp-cnn/{item}", row, role, metric))

    slow, fast = (value("section-5-c", row, metric="step time") for row in ("DLP-CNN", "center loss"))
    assert slow / fast == pytest.approx(1.427, abs=1e-3)
    assert value("algorithm-1", "annotators kept", "basic") == 285 and value("algorithm-1", "Cronbach's alpha", "basic") == 0.966
    assert value("table-3", "two coders", "basic", "kappa") == 0.83
    assert value("table-5", "LDA HOG", "compound", "mean diagonal") is None, "lost in our copy"
    assert value("no-table", "x") is None


def test_what_the_paper_says_follows_from_what_it_prints(paper):
    """All claims with whole numbers agree with them, except one: VGG and AlexNet are below Gabor."""
    wrong = set()
    for claim in paper.claims:
        for comparison in claim.comparisons:
            difference = paper.difference(comparison)
            if difference is not None and difference <= comparison.bound:
                wrong.add((claim.id, comparison.terms[0][1].row))
    assert wrong == {("dlp-cnn/others-over-descriptors", "mSVM VGG"), ("dlp-cnn/others-over-descriptors", "mSVM AlexNet")}
    checked = [c.id for c in paper.claims if paper.difference(c.comparisons[0]) is not None]
    assert len(checked) >= 15


def test_claims_become_comparisons(paper):
    order = paper.claim("descriptor-order")
    assert [str(c) for c in order.comparisons] == [
        "mSVM Gabor > mSVM HOG (mean diagonal, basic)", "mSVM HOG > mSVM LBP (mean diagonal, basic)",
        "mSVM LBP > mSVM shape (mean diagonal, basic)",
    ]
    assert paper.difference(order.comparisons[0]) == pytest.approx(65.12 - 58.45)
    interaction = paper.claim("dlp-cnn/lda-better-on-small").comparisons[1]
    assert paper.difference(interaction) == pytest.approx((91.77 - 90.50) - (51.36 - 58.45))
    assert [weight for weight, _ in interaction.terms] == [1, -1, -1, 1]
    assert len(paper.claim("easy-emotions").comparisons) == 18
    best = paper.claim("k-best").comparisons
    assert [tuple(cell.row for _, cell in c.terms) for c in best] == [("k 20", "k 10"), ("k 20", "k 60")]
    above = paper.claim("intensity-ordered").comparisons[0]
    assert str(above) == "DLP-CNN, intensity correlation surprise, basic > 0"

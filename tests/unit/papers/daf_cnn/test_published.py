"""The numbers and claims of Zhou et al., and what does not add up in them."""

import numpy as np
import pytest

from fer_utils.experiments.published import Cell, load_published
from fer_utils.labels import BASIC

#: The order in which the paper prints its classes.
CLASSES = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
#: Faces of each class in the part that is tested on: FER2013's test part; SFEW's validation part, aligned and before alignment.
FER2013 = np.array([491, 55, 528, 879, 594, 416, 626])
SFEW, SFEW_UNALIGNED = np.array([77, 23, 46, 72, 73, 56, 84]), np.array([77, 23, 47, 73, 73, 57, 86])
VARIANTS = ("DAF-CNN_NOatt&tcl", "DAF-CNN_NOatt", "DAF-CNN_NOtcl", "DAF-CNN")


@pytest.fixture(scope="module")
def paper():
    return load_published("daf-cnn")


def find_counts(share, total, digits):
    """Every count whose share of the total is printed so."""
    return [count for count in range(total + 1) if abs(count / total - share) <= 0.5 * 10.0**-digits + 1e-9]


def digits_of(percent):
    """Digits behind the point of a share that is printed in percent."""
    return 2 + len(f"{percent:g}".partition(".")[2])


def are_counts(row, size):
    """Whether shares with two digits can be those of ``size`` faces, all of which are counted."""
    counts = [find_counts(share, size, 2) for share in row]
    return all(counts) and sum(map(min, counts)) <= size <= sum(map(max, counts))


def matrix_of(paper, figure):
    item = paper.item(figure)
    assert item.confusion == "DAF-CNN" and [column.metric for column in item.columns] == [f"as {name}" for name in CLASSES]
    assert tuple(item.rows) == CLASSES and set(CLASSES) == set(BASIC)
    return np.array([item.rows[name] for name in CLASSES])


def test_everything_with_numbers_is_there(paper):
    assert set(paper.items) == {
        "section-3", "section-3-2-3", "section-4-1", "section-4-2", "section-4-3-2", "equation-12", "gaps", "channel-attention",
        "attention-regions", "step-time",
        *(f"table-{i}" for i in (1, 2, 3)), *(f"figure-{i}" for i in (2, 3, 4, 5)),
    }
    for item in paper.items.values():
        lost = [cell for cell, _, value in item.cells() if value is None]
        assert item.damaged or item.notes or not lost, f"{item.id}: cells are empty and nobody says why"
    assert tuple(paper.item("table-1").rows) == VARIANTS
    for figure in ("figure-4", "figure-5"):
        assert set(paper.item(figure).rows) == set(VARIANTS)
    assert len(paper.item("table-2").rows) == len(paper.item("table-3").rows) == 10
    assert paper.value(Cell("daf-cnn/section-4-2", "margin m", "lab", "value")) == 13


def test_the_headline_is_the_same_everywhere(paper):
    for table, role, value in (("table-1", "basic", 72.39), ("table-2", "basic", 72.39), ("table-3", "lab", 52.98)):
        assert paper.value(Cell(f"daf-cnn/{table}", "DAF-CNN", role, "accuracy")) == value


def test_the_ablation_is_of_whole_faces(paper):
    counts = {row: find_counts(values[0] / 100, FER2013.sum(), 4) for row, values in paper.item("table-1").rows.items()}
    assert counts == dict(zip(VARIANTS, ([2527], [2562], [2577], [2598]), strict=True))


def test_the_two_parts_gain_less_together_than_the_sum_of_what_they_gain(paper):
    neither, loss, attention, both = (paper.item("table-1").rows[name][0] for name in VARIANTS)
    assert (both - neither, loss - neither + attention - neither) == pytest.approx((1.98, 2.36))
    half_width = 1.96 * np.sqrt(0.7239 * (1 - 0.7239) / FER2013.sum()) * 100
    assert half_width == pytest.approx(1.46, abs=0.01), "of one accuracy, in points"
    values = [values[0] for values in paper.item("table-1").rows.values()]
    gaps = [high - low for i, low in enumerate(values) for high in values[i + 1 :]]
    assert sum(gap > half_width for gap in gaps) == 1, "only that between both and neither"


def test_shares_that_no_count_gives(paper):
    """Of numbers that others published: the sets of images cannot all be those that this paper names."""
    impossible = {}
    for table, total in (("table-2", 3589), ("table-3", 431), ("table-3", 436)):
        cells = [(row, value) for row, values in paper.item(table).rows.items() for value in values if value is not None]
        possible = [(row, value) for row, value in cells if find_counts(value / 100, total, digits_of(value))]
        impossible[table, total] = {cell for cell in cells if cell not in possible}
    assert impossible["table-2", 3589] == {("Connie et al.", 73.58), ("Shao et al.", 71.14)}
    everybody = {(row, value) for row, values in paper.item("table-3").rows.items() for value in values if value is not None}
    assert impossible["table-3", 431] == everybody - {("Ng et al.", 48.5)}
    assert everybody - impossible["table-3", 436] == {
        ("Yu et al.", 52.29), ("Yu et al.", 55.96), ("Mollahosseini et al.", 47.7), ("IL-CNN", 51.83), ("IL-CNN", 52.52),
        ("DAF-CNN", 52.98),
    }


def test_figure_2_agrees_with_table_1(paper):
    matrix = matrix_of(paper, "figure-2")
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=0.0101)
    assert all(are_counts(row, size) for row, size in zip(matrix, FER2013, strict=True))
    low, high = ((matrix.diagonal() + shift) @ FER2013 / FER2013.sum() for shift in (-0.005, 0.005))
    assert (low, high) == pytest.approx((0.7203, 0.7303), abs=1e-4) and low < 0.7239 < high
    assert matrix.diagonal().mean() == pytest.approx(0.7157, abs=1e-4)


def test_figure_3_is_not_of_the_run_of_table_3(paper):
    """Its rows are counts of the 431 aligned faces and of no other set; they give 52.44 %, and no rounding gives 52.98 %."""
    matrix = matrix_of(paper, "figure-3")
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=0.0101)
    assert all(are_counts(row, size) for row, size in zip(matrix, SFEW, strict=True)) and SFEW.sum() == 431
    other = [name for name, row, size in zip(CLASSES, matrix, SFEW_UNALIGNED, strict=True) if not are_counts(row, size)]
    assert other == ["fear", "surprise", "neutral"] and SFEW_UNALIGNED.sum() == 436
    right = [find_counts(share, size, 2) for share, size in zip(matrix.diagonal(), SFEW, strict=True)]
    assert all(len(counts) == 1 for counts in right) and sum(counts[0] for counts in right) == 226
    assert find_counts(0.5244, 431, 4) == [226]
    assert find_counts(0.5298, 431, 4) == [] and find_counts(0.5298, 436, 4) == [231]
    for sizes in (SFEW, SFEW_UNALIGNED):
        assert (matrix.diagonal() + 0.005) @ sizes / sizes.sum() < 0.5298
    assert matrix.diagonal().mean() == pytest.approx(0.4486, abs=1e-4)


def test_what_the_paper_says_follows_from_what_it_prints(paper):
    """All claims with numbers agree with them; figures 4 and 5, two sections and the book's own tables have none."""
    wrong, unknown = set(), set()
    for claim in paper.claims:
        differences = [(paper.difference(comparison), comparison.bound) for comparison in claim.comparisons]
        if any(found is None for found, _ in differences):
            unknown.add(claim.id.removeprefix("daf-cnn/"))
        elif any(found <= bound for found, bound in differences):
            wrong.add(claim.id)
    assert wrong == set()
    assert unknown == {
        "cascade-better", "negative-confused", "pre-training-needed", "pre-train-with-softmax", "fine-tune-with-tc-loss",
        "softmax-most-mixed", "attention-compacts", "tc-loss-denser", "both-most-compact", "channels-follow-expression",
        "places-follow-expression",
    }


def test_anger_fear_and_sadness_are_confused(paper):
    """What a claim's "average wrong" is in the paper's own matrix. Sadness is taken for neutral even more often."""
    matrix = matrix_of(paper, "figure-2")
    for comparison in paper.claim("negative-confused").comparisons:
        truth, _, taken = comparison.terms[0][1].metric.partition(" as ")
        row = matrix[CLASSES.index(truth)]
        assert row[CLASSES.index(taken)] > (1 - row[CLASSES.index(truth)]) / 6
    sadness = matrix[CLASSES.index("sadness")]
    assert sadness[CLASSES.index("neutral")] > max(sadness[[CLASSES.index("anger"), CLASSES.index("fear")]])


def test_claims_become_comparisons(paper):
    assert len({claim.id for claim in paper.claims}) == len(paper.claims) == 21
    assert [str(c) for c in paper.claim("both-best").comparisons] == [
        f"DAF-CNN > {name} (accuracy, basic)" for name in VARIANTS[:3]
    ]
    assert paper.difference(paper.claim("attention-helps").comparisons[0]) == pytest.approx(1.39)
    assert paper.difference(paper.claim("small-set-hardest").comparisons[0]) == pytest.approx(0.53 - 0.04)
    assert {claim.id for claim in paper.claims if claim.not_attempted} == {
        f"daf-cnn/{name}" for name in ("best-single-wild", "beats-owners-baseline", "best-single-small-set", "competes-with-ensembles")
    }

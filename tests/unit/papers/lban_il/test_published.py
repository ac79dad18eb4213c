"""The numbers and claims of Li et al. 2021, and what does not fit together in them."""

import math

import numpy as np
import pytest
import torch

from fer_utils.experiments.published import Cell, load_published
from fer_utils.labels import BASIC
from fer_utils.losses import IsletsLoss

#: RAF-DB's test faces, in the order of BASIC.
SIZES = np.array([329, 74, 160, 1185, 478, 162, 680])


@pytest.fixture(scope="module")
def paper():
    return load_published("lban-il")


def rows(paper, item):
    return {row: np.array(values, float) for row, values in paper.item(item).rows.items()}


def count_right(recalls, sizes=SIZES, digits=2):
    """Faces recognised, and whether each printed recall is such a count over its class, rounded."""
    counts = np.rint(recalls * sizes / 100)
    return counts, np.abs(100 * counts / sizes - recalls) <= 0.5 * 10.0**-digits + 1e-9


def test_every_table_and_figure_with_numbers_is_there(paper):
    assert {f"table-{i}" for i in range(1, 8)} | {f"figure-{i}" for i in (1, 4, 5, 6)} <= set(paper.items)
    assert {"section-2", "section-3", "section-4-1", "section-4-2", "section-4-5", "table-2-parameters"} <= set(paper.items)
    for item in paper.items.values():
        lost = [cell for cell, _, value in item.cells() if value is None]
        assert item.damaged or item.notes or not lost, f"{item.id}: cells are empty and nobody says why"


def test_one_number_is_one_number_in_all_tables(paper):
    def value(item, row, metric, role="basic"):
        return paper.value(Cell(f"lban-il/{item}", row, role, metric))

    for metric, places in {
        "mean diagonal": [("table-1", "LBSL + encoder-decoder"), ("table-2", "LBAN"), ("table-3", "LBAN-IL"), ("table-4", "Islets loss")],
        "accuracy": [("table-1", "LBSL + encoder-decoder"), ("table-2", "LBAN"), ("table-6", "LBAN-IL")],
    }.items():
        assert len({value(*place, metric) for place in places}) == 1
    for ours, theirs in (("VGG19 + softmax", "VGG (baseline 1)"), ("ResNet18 + softmax", "ResNet (baseline 2)")):
        assert value("table-2", ours, "mean diagonal") == value("table-3", theirs, "mean diagonal")
        assert value("table-2", ours, "accuracy") == value("table-6", theirs, "accuracy")
    np.testing.assert_array_equal(rows(paper, "table-3")["LBAN-IL"][:8], rows(paper, "table-4")["Islets loss"])
    diagonal = np.array([value("figure-4", "LBAN-IL", f"{name} as {name}") for name in BASIC])
    np.testing.assert_array_equal(diagonal, rows(paper, "table-4")["Islets loss"][:7])
    dlp = load_published("dlp-cnn").item("table-6")
    here = dict(zip(BASIC, rows(paper, "table-3")["DLP-CNN"], strict=False))
    there = {column.metric.removeprefix("recall "): cell for column, cell in zip(dlp.columns, dlp.rows["mSVM DLP-CNN"], strict=True)}
    assert all(here[name] == there[name] for name in BASIC), "the misprint was copied with the rest"
    assert value("table-3", "DLP-CNN", "mean diagonal", "compound") == 44.55


# -- the audit: exactly these do not fit ----------------------------------------------------------------------------------


def test_means_of_tables_3_and_4_follow_from_their_rows(paper):
    off = {}
    for row, values in {**rows(paper, "table-3"), **rows(paper, "table-4")}.items():
        if not np.isnan(values[:7]).any() and abs(values[:7].mean() - values[7]) > 0.0051:
            off[row] = round(float(values[:7].mean()), 2)
    # whole percents allow 73.19; 52.15 for disgust is a misprint
    assert off == {"DLP-CNN": 74.33, "Boosting-POOF": 73.29}
    poof = rows(paper, "table-3")["Boosting-POOF"]
    assert abs(poof[:7].mean() - poof[7]) < 0.5
    recalls = rows(paper, "table-3")["DLP-CNN"][:7]
    recalls[BASIC.index("disgust")] = 51.25
    assert recalls.mean() == pytest.approx(74.20, abs=0.005)


def test_recalls_are_shares_of_the_test_faces(paper):
    wrong = {}
    for row, values in {**rows(paper, "table-3"), **rows(paper, "table-4")}.items():
        if row not in ("Boosting-POOF", "DeepEmo"):
            wrong[row] = [name for name, fits in zip(BASIC, count_right(values[:7])[1], strict=True) if not fits]
    assert {row: names for row, names in wrong.items() if names} == {
        "VGG (baseline 1)": ["neutral"], "ResNet (baseline 2)": ["neutral"], "DLP-CNN": ["disgust"],
        "Visual Attention": ["fear", "happiness", "sadness"],
    }
    attention = rows(paper, "table-3")["Visual Attention"][:7]
    exact = 100 * count_right(attention)[0] / SIZES
    np.testing.assert_allclose(np.floor(100 * exact + 1e-6) / 100, attention, atol=1e-9, err_msg="all of that row is cut off, not rounded")


def test_accuracies_follow_from_recalls(paper):
    right = {row: int(count_right(values[:7])[0].sum()) for row, values in rows(paper, "table-4").items()}
    assert right == {"Softmax loss": 2568, "Center loss": 2601, "Island loss": 2623, "Islets loss": 2635} and SIZES.sum() == 3068
    printed = {row: values[0] for row, values in rows(paper, "table-5").items()}
    assert round(100 * right["Islets loss"] / 3068, 2) == printed["LBAN-IL"]
    assert round(100 * count_right(rows(paper, "table-3")["Visual Attention"][:7])[0].sum() / 3068, 2) == printed["Visual Attention"]
    # DLP-CNN's accuracy is not that of its recalls, whichever count of disgusted faces is taken
    counts = count_right(rows(paper, "table-3")["DLP-CNN"][:7])[0]
    counts[BASIC.index("disgust")] = 82
    assert round(100 * counts.sum() / 3068, 2) == 82.79 != printed["DLP-CNN"] == 84.13


def test_the_gain_over_island_loss_is_in_a_few_faces(paper):
    islets, island = (rows(paper, "table-4")[row] for row in ("Islets loss", "Island loss"))
    gained = dict(zip(BASIC, (count_right(islets[:7])[0] - count_right(island[:7])[0]).astype(int), strict=True))
    assert gained == {"surprise": 7, "fear": 6, "disgust": 13, "happiness": 14, "sadness": -3, "anger": 4, "neutral": -29}
    assert islets[7] - island[7] == pytest.approx(2.44) and sum(gained.values()) / 3068 == pytest.approx(0.0039, abs=5e-5)
    share = {name: 100 * gained[name] / size / 7 for name, size in zip(BASIC, SIZES, strict=True)}
    assert share["fear"] + share["disgust"] == pytest.approx(2.32, abs=0.005)


def test_the_best_of_table_4(paper):
    """Five of seven, as the text says; but of the other two it names one."""
    table = rows(paper, "table-4")
    best = {name: max(table, key=lambda row: table[row][i]) for i, name in enumerate(BASIC)}
    assert {name for name, row in best.items() if row != "Islets loss"} == {"neutral", "sadness"}
    neutral = paper.claim("neutral-is-the-exception").comparisons[0]
    assert paper.difference(neutral) > 0 and table["Softmax loss"][4] > table["Island loss"][4] > table["Islets loss"][4]


def test_accuracies_are_shares_of_the_test_faces(paper):
    fer = {row: values[-1] for item in ("table-1", "table-2", "table-6") for row, values in rows(paper, item).items()}
    fits = {row: bool(count_right(np.array([rate]), np.array([3589]), 1 if round(rate, 1) == rate else 2)[1]) for row, rate in fer.items()}
    assert all(fits.values()) and len(fits) > 20
    film = {row: values[1] for row, values in rows(paper, "table-5").items() if not np.isnan(values[1])}
    assert count_right(np.array([film["LBAN-IL"]]), np.array([436]))[0] == 241
    whole = {row for row, rate in film.items() if round(rate, 1) != rate and count_right(np.array([rate]), np.array([436]))[1]}
    # IPA2LT's is the authors' own measurement; the others' are from their papers, and may be of other faces
    assert whole == {"LBAN-IL"} and film["IPA2LT"] == 53.15


def test_means_of_table_7(paper):
    table = rows(paper, "table-7")
    losses = ("Softmax loss", "Center loss", "Island loss", "Islets loss")
    groups = np.array([[table[f"{loss}, crop {i}"][0] for i in range(1, 11)] for loss in losses])
    printed = np.array([table[loss][0] for loss in losses])
    off = np.abs(groups.mean(1) - printed)
    assert [loss for loss, gap in zip(losses, off, strict=True) if gap > 0.0051] == ["Softmax loss"]
    assert groups[0].mean() == pytest.approx(65.587) and printed[0] == math.floor(6558.7) / 100
    assert (np.diff(groups, axis=0) > 0).all() and np.diff(groups[2:], axis=0).min() == pytest.approx(0.46)
    assert np.diff(groups[2:], axis=0).max() == pytest.approx(1.65)
    drawn = 100 * math.sqrt(printed[3] / 100 * (1 - printed[3] / 100) / 4175)
    assert drawn == pytest.approx(0.72, abs=0.005) and (groups.std(1, ddof=1) > 9 * drawn).all(), "groups that were not drawn at random"
    counts = [paper.item("section-4-1").rows[name][3] for name in ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")]
    assert sum(counts) == paper.item("section-4-1").rows["images chosen"][3]


def test_weights_of_table_2_against_the_text(paper):
    count = {row: values[0] for row, values in rows(paper, "table-2-parameters").items()}
    assert count["LBAN"] - count["LBCNN"] == pytest.approx(1.8)
    assert paper.difference(paper.claim("standard-convolution-needed").comparisons[0]) == pytest.approx(5.59)
    one = 9 * 512**2 / 1e6
    assert one > 1.8 + 0.1, "one standard convolution has more weights than all that LBCNN lacks"
    shortcuts = {kernel: kernel**2 * (64 * 128 + 128 * 256 + 256 * 512) / 1e6 for kernel in (1, 3)}
    assert {kernel: round(weights, 2) for kernel, weights in shortcuts.items()} == {1: 0.17, 3: 1.55}
    for row, without in (("LBCNN", "LBC"), ("SC + STD Conv + SK CONN", "SC + STD Conv")):
        difference = count[row] - count[without]
        assert difference == pytest.approx(1.3) and all(abs(difference - weights) > 0.1 for weights in shortcuts.values())
    saved = paper.item("section-2").rows
    inputs, outputs = (saved[f"{which} of the first LBSL, channels"][0] for which in ("inputs", "outputs"))
    assert saved["weights saved in the first LBSL"][0] == 9 * inputs * outputs


def test_the_penalty_vanishes_and_eq_4_is_no_derivative_of_it(paper):
    assert [math.exp(-21 * distance) for distance in (0.5, 1, 2)] == pytest.approx([2.8e-5, 7.6e-10, 5.7e-19], rel=0.02)
    lambda1, lambda2 = (paper.item("section-4-2").rows[f"lambda {i}"][0] for i in (1, 2))
    centres = torch.randn(7, 4, dtype=torch.float64) / 40
    features, labels = torch.zeros(1, 4, dtype=torch.float64), torch.zeros(1, dtype=torch.int64)

    def step(rule, **weights):
        loss = IsletsLoss(7, 4, **weights, centre_rule=rule, alpha=1).double()
        loss.centres.copy_(centres)
        pull = (centres[0] - features[0]) / 2
        loss(features.requires_grad_(), labels)
        moved = centres - loss.centres
        moved[0] -= pull
        return moved

    for weights, factor in (({"lambda1": 0.0, "lambda2": lambda2}, 14), ({"lambda1": lambda1, "lambda2": 0.0}, 12)):
        torch.testing.assert_close(step("corrected", **weights), factor * step("printed", **weights))


def test_what_the_paper_says_follows_from_what_it_prints(paper):
    """Every claim with whole numbers agrees with them: what is wrong is elsewhere."""
    for claim in paper.claims:
        for comparison in claim.comparisons:
            difference = paper.difference(comparison)
            assert difference is None or difference > comparison.bound, f"{claim.id}: {comparison}"
    checked = [c.id for c in paper.claims if paper.difference(c.comparisons[0]) is not None]
    assert len(checked) >= 25 and len(paper.claims) >= 40


def test_claims_become_comparisons(paper):
    assert [str(c) for c in paper.claim("loss-order").comparisons] == [
        "Islets loss > Island loss (mean diagonal, basic)", "Island loss > Center loss (mean diagonal, basic)",
        "Center loss > Softmax loss (mean diagonal, basic)",
    ]
    assert len(paper.claim("best-in-every-group").comparisons) == 30 and len(paper.claim("five-classes").comparisons) == 15
    assert {cell.role for _, cell in paper.claim("fewer-weights").comparisons[0].terms} == {""}

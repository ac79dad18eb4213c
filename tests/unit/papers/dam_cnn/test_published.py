"""The numbers and claims of Xie, Hu & Wu 2019, and what follows from them: each finding of the file's notes is computed here."""

import re
from itertools import combinations_with_replacement, pairwise

import numpy as np
import pytest

from fer_utils.datasets import catalog
from fer_utils.experiments.published import Cell, load_published

PAPER = "dam-cnn"
EMOTIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
#: The owners' counts of these, in this order: sequences of CK+, images of JAFFE.
CKPLUS_SIZES, JAFFE_SIZES = (
    np.array([next(iter(catalog.find(key).published[0].classes.values()))[name] for name in EMOTIONS]) for key in ("ckplus", "jaffe")
)
ROLES = ("lab", "lab-small", "tfeid", "baum2i", "fer2013", "fer2013-val", "film")
PATHS = [f"DAM-CNN, {n} paths" for n in (2, 3, 4, 5)]


@pytest.fixture(scope="module")
def paper():
    return load_published(PAPER)


@pytest.fixture(scope="module")
def value(paper):
    """A printed number, by item, row, role and metric."""
    return lambda item, row, role="", metric="value": paper.value(Cell(f"{PAPER}/{item}", row, role, metric))


def is_share(printed, count):
    """Whether a percentage with two decimals is ``k / count`` for a whole ``k``."""
    k = np.rint(printed * count / 100)
    return bool(abs(100 * k / count - printed) < 0.005 + 1e-9)


def film(paper):
    """The eight different accuracies on SFEW of Tables 2 to 4."""
    cells = [paper.item("table-4").rows[row][6] for row in ("VGG-SERD", *PATHS)]
    return [paper.value(Cell(f"{PAPER}/table-2", "VGG-Face", "film", "accuracy")), 39.61, 39.20, *cells]


# -- the file itself ------------------------------------------------------------------------------------------------------


def test_every_table_and_figure_with_numbers_is_there(paper):
    assert {f"table-{i}" for i in range(1, 12)} | {f"figure-{i}" for i in (6, 9, 10)} <= set(paper.items)
    assert {"section-3", "section-4-1-1", "section-4-1-2", "section-4-3-2", "section-4-4-1", "section-4-5"} <= set(paper.items)
    for item in paper.items.values():
        cells = [cell for cell, _, _ in item.cells()]
        assert len(cells) == len(set(cells)), f"{item.id}: two cells go by one name"
        lost = [cell for cell, _, found in item.cells() if found is None]
        assert item.damaged or item.notes or not lost, f"{item.id}: cells are empty and nobody says why"


def test_tables_that_repeat_a_number_agree(paper, value):
    """But for JAFFE's 99.32, which is 99.22 in Table 4, and TFEID's 93.36, which is 93.20 in the text."""
    for role in set(ROLES) - {"fer2013-val"}:
        assert value("table-2", "VGG-SERD", role, "accuracy") == value("table-4", "VGG-SERD", role, "accuracy")
    assert value("table-3", "VGG-SERD", "film", "accuracy") == value("table-4", "VGG-SERD", "film", "accuracy")
    assert value("section-4-3-2", "DAM-CNN-r", "baum2i", "accuracy") == value("table-4", PATHS[0], "baum2i", "accuracy")
    compared = {"lab": ("table-6", "DAM-CNN"), "lab-small": ("table-8", "DAM-CNN"), "tfeid": ("table-9", "DAM-CNN, 7 classes"),
                "baum2i": ("table-10", "DAM-CNN, 7 classes")}
    compared |= dict.fromkeys(("fer2013", "fer2013-val", "film"), ("table-10", "DAM-CNN"))
    best = {}
    for role, (item, row) in compared.items():
        by_paths = [value("table-4", path, role, "accuracy") for path in PATHS]
        best[role] = int(np.argmax(by_paths)) + 2
        assert (max(by_paths) == value(item, row, role, "accuracy")) == (role != "lab-small")
    assert best == {"lab": 5, "lab-small": 5, "tfeid": 4, "baum2i": 5, "fer2013": 3, "fer2013-val": 5, "film": 5}, "chosen on test faces"
    assert value("table-8", "DAM-CNN", "lab-small", "accuracy") == 99.32 and value("table-4", PATHS[3], "lab-small", "accuracy") == 99.22
    assert value("section-4-4-1", "DAM-CNN, 7 classes", "tfeid", "accuracy") == value("table-4", PATHS[3], "tfeid", "accuracy") == 93.20
    assert value("section-4-4-1", "DAM-CNN, 6 classes", "tfeid", "accuracy") == value("table-9", "DAM-CNN, 6 classes", "tfeid", "accuracy")


def test_what_the_paper_says_follows_from_what_it_prints(paper):
    """All claims with whole numbers agree with them, except 12 of their comparisons."""
    wrong = set()
    for claim in paper.claims:
        for comparison in claim.comparisons:
            difference = paper.difference(comparison)
            if difference is not None and difference <= comparison.bound:
                rows = tuple(cell.row.removeprefix("DAM-CNN, ") for _, cell in comparison.terms)
                wrong.add((claim.id.removeprefix(f"{PAPER}/"), comparison.terms[0][1].role, *rows))
    three, four, five = ("3 paths", "2 paths"), ("4 paths", "3 paths"), ("5 paths", "4 paths")
    assert wrong == {
        *(("more-paths-better", role, *four) for role in ("lab-small", "baum2i", "fer2013", "fer2013-val")),
        ("more-paths-better", "tfeid", *five),
        ("gains-diminish", "lab", *three, *four),
        *(("gains-diminish", role, *four, *five) for role in ("lab-small", "baum2i", "fer2013", "fer2013-val")),
        ("ckplus-beats-all-but-three", "lab", "DAM-CNN", "LPQ-SLPM-NN"),
        ("crosses-datasets-better", "film", "DAM-CNN from CK+", "AUDN from CK+"),
    }
    unknown = {c.id.removeprefix(f"{PAPER}/") for c in paper.claims if paper.difference(c.comparisons[0]) is None}
    own = {claim.id.removeprefix(f"{PAPER}/") for claim in paper.claims if "the book's" in claim.where}
    assert len(own) == 7, "measured by the book alone"
    assert unknown - own == {"mask-on-expression", "first-part-scatters", "second-part-lifts-all", "paths-cost-parameters",
                             "classes-part", "film-overlaps", "serd-effective"}


def test_claims_become_comparisons(paper):
    assert len(paper.claim("paths-over-serd").comparisons) == 24 and len(paper.claim("gains-diminish").comparisons) == 16
    even = paper.claim("even-classes-even-recalls").comparisons[0]
    assert [cell.item for _, cell in even.terms] == [f"{PAPER}/table-{i}" for i in (5, 5, 7, 7)]
    assert paper.difference(even) == pytest.approx((100 - 74.44) - (100 - 99))


# -- sizes ----------------------------------------------------------------------------------------------------------------


def count_parameters(item):
    """By layer, biases included, of what Table 1 has whole; its first layer takes the three colours."""
    found = {}
    for row, (side, inputs, outputs, layers) in item.rows.items():
        if row != "input" and outputs is not None:
            inputs = item.rows["input"][2] if row == "conv 1-1" else inputs
            found[row] = ((side or 1) ** 2 * inputs + 1) * outputs * (layers or 1)
    return found


def test_layers_of_table_1(paper, value):
    item = paper.item("table-1")
    convolutions = [row for row in item.rows if row.startswith("conv")]
    assert sum(item.rows[row][3] for row in convolutions) == 13 != value("section-3", "convolutional layers of VGG-Face")
    assert 13 + value("section-3", "dense layers of VGG-Face") == 16
    assert sum(row.startswith("pool") for row in item.rows) == value("section-3", "pooling layers of VGG-Face") == 5
    side, channels = value("section-3", "side of the last maps"), value("section-3", "channels of the last maps")
    assert value("section-4-1-2", "side of the input, pixels") / 2**5 == side == value("section-3", "side of the mask")
    assert side**2 * channels == item.rows["encoder"][1] == item.rows["decoders"][2] == 25088


def test_parameters_of_table_1(paper):
    item = paper.item("table-1")
    found = count_parameters(item)
    assert sum(count for row, count in found.items() if row.startswith("conv")) == 14_714_688 and found["SERD"] == 513
    assert (found["encoder"], found["decoders"], found["dense"]) == (102_764_544, 102_785_536, 16_781_312)
    kept = found["encoder"] + found["dense"] + (item.rows["last dense"][1] + 1) * 7
    assert round(kept / 1e6, 1) == 119.6
    assert [round((kept + n * found["decoders"]) / 1e6, 1) for n in (2, 3, 4, 5)] == [325.1, 427.9, 530.7, 633.5]
    assert "325.1, 427.9, 530.7 and 633.5 million" in " ".join(paper.item("section-4-5").notes)


def test_numbers_of_images(value):
    def count(row):
        return value("section-4-1-1", row)

    assert CKPLUS_SIZES.tolist() == [45, 59, 25, 69, 28, 83] and JAFFE_SIZES.tolist() == [30, 29, 32, 31, 31, 30]
    assert CKPLUS_SIZES.sum() == count("CK+ sequences of six emotions") == 309
    assert (count("CK+ images, six classes"), count("CK+ images, seven classes")) == (3 * 309, 4 * 309)
    assert 3 * CKPLUS_SIZES.min() == count("CK+ images of fear to train on") and EMOTIONS[CKPLUS_SIZES.argmin()] == "fear"
    assert JAFFE_SIZES.sum() == count("JAFFE images without neutral") == 183
    assert count("JAFFE images after augmentation") == 5 * count("JAFFE images") != 5 * 183 == 915
    assert count("TFEID images") > count("TFEID people") * (count("TFEID classes of the owners") - 1) * count("TFEID intensities") == 560
    parts = ("training", "validation", "test")
    assert sum(count(f"FER2013 {part} images") for part in parts) == count("FER2013 images")


def test_the_regularizer_is_least_for_the_trivial_mask(value):
    """Eq. 3 with the printed weights: no mask is below the one of zeros."""
    gamma1, gamma2, side = (value(*what) for what in (("section-4-1-2", "gamma1"), ("section-4-1-2", "gamma2"),
                                                      ("section-3", "side of the mask")))

    def regularizer(mask, gamma2=gamma2):
        return gamma1 * np.abs(mask).sum(-1) ** 2 + gamma2 * ((1 - mask**2) ** 2).sum(-1)

    size = int(side) ** 2
    assert gamma1 > 2 * gamma2, "so each term of the lower bound rises with m^2"
    zero = regularizer(np.zeros(size))
    masks = np.random.default_rng(0).uniform(-1, 1, (2000, size)) * np.random.default_rng(1).uniform(0, 1, (2000, 1))
    one = np.zeros((99, size))
    one[:, 0] = np.linspace(0.01, 0.99, 99)
    even = np.linspace(0.01, 0.99, 99)[:, None] * np.ones(size)
    assert min(regularizer(each).min() for each in (masks, one, even)) > zero
    assert np.isclose(gamma2 / (24.5 * gamma1), 1 / 245), "too small by far for another minimum among even masks"
    assert (regularizer(even, 24.4 * gamma1) > regularizer(np.zeros(size), 24.4 * gamma1)).all()
    fine = np.linspace(0.001, 0.99, 990)[:, None] * np.ones(size)
    assert (regularizer(fine, 25 * gamma1) < regularizer(np.zeros(size), 25 * gamma1)).any()


# -- accuracies -----------------------------------------------------------------------------------------------------------


def test_film_accuracies_are_means_of_three_runs(paper):
    printed, faces = film(paper), 409
    assert len(set(printed)) == 8
    fits = {runs: sum(is_share(each, faces * runs) for each in printed) for runs in range(1, 11)}
    assert fits == {runs: 8 if runs % 3 == 0 else 3 for runs in range(1, 11)}
    by_chance = np.mean([is_share(each, 3 * faces) for each in np.arange(3000, 5000) / 100])
    assert by_chance == pytest.approx(0.12, abs=0.005) and 15e6 < by_chance**-8 < 25e6
    for other in (431, 436, 372, 847, 1256):
        assert not any(all(is_share(each, other * runs) for each in printed) for runs in range(1, 5)), "no other part of SFEW fits"


@pytest.mark.parametrize(("row", "runs"), [("VGG-Face", (158, 160, 161)), ("VGG-SERD", (163, 163, 174))])
def test_film_runs_follow_from_mean_and_deviation(value, row, runs):
    mean, spread = (value("table-2", row, "film", metric) for metric in ("accuracy", "accuracy spread"))
    total = int(np.rint(mean * 3 * 409 / 100))
    found = {0: set(), 1: set()}
    for three in combinations_with_replacement(range(total // 3 - 20, total // 3 + 21), 3):
        if sum(three) == total:
            for less, matches in found.items():
                if abs(np.std(three, ddof=less) / 409 * 100 - spread) < 0.005:
                    matches.add(three)
    assert found == {0: {runs}, 1: set()}


def test_the_gain_on_film_rests_on_one_run():
    face, serd = np.array([158, 160, 161]), np.array([163, 163, 174])
    assert round(100 * (serd.mean() - face.mean()) / 409, 2) == 1.71
    assert int(100 * (serd[:2].mean() - face.mean()) / 409 * 100) == 81


def test_fer2013_accuracies_are_averages(paper):
    numbers = {each for values in paper.item("table-4").rows.values() for each in values[4:6]} | {62.99}
    assert {each for each in numbers if not is_share(each, 3589)} == {62.99, 65.32, 65.82, 65.96, 60.65, 64.33, 64.49}


def test_what_serd_gains_and_what_varies(value):
    gain, face, serd = {}, {}, {}
    for role in set(ROLES) - {"fer2013-val"}:
        gain[role] = value("table-2", "VGG-SERD", role, "accuracy") - value("table-2", "VGG-Face", role, "accuracy")
        face[role], serd[role] = (value("table-2", row, role, "accuracy spread") for row in ("VGG-Face", "VGG-SERD"))
    assert {role for role in gain if serd[role] < face[role]} == {"lab", "lab-small", "tfeid"}
    assert {role for role in gain if abs(gain[role]) > max(face[role], serd[role])} == {"fer2013", "film"}
    assert gain["fer2013"] < 0 < gain["film"]
    assert value("table-3", "VGG-SERD", "film", "accuracy") - value("table-3", "VGG-SERD-reg1", "film", "accuracy") < serd["film"]


def test_paths_of_table_4(paper, value):
    table = np.array([paper.item("table-4").rows[row] for row in ("VGG-SERD", *PATHS)])
    assert [column.role for column in paper.item("table-4").columns] == list(ROLES)
    steps = dict(zip(ROLES, np.diff(table, axis=0).T, strict=True))  # to 2 paths, then 3, 4, 5
    assert {role for role, each in steps.items() if each[0] < 0} == {"tfeid", "baum2i", "film"}, "two paths are worse than none"
    falls = {(role, n) for role, each in steps.items() for n in (3, 4, 5) if each[n - 2] < 0}
    assert falls == {("lab-small", 4), ("baum2i", 4), ("fer2013", 4), ("fer2013-val", 4), ("tfeid", 5)}
    assert {role for role, each in steps.items() if each[1] > each[2] > each[3]} == {"tfeid", "film"}
    assert {role for role, each in steps.items() if each[3] > each[1]} == {"lab-small", "baum2i", "fer2013-val"}
    spread = {role: value("table-2", "VGG-SERD", role, "accuracy spread") for role in ROLES if role != "fer2013-val"}
    assert {(role, n) for role in spread for n in (3, 4, 5) if abs(steps[role][n - 2]) > spread[role]} == {("fer2013", 3), ("film", 3)}


def test_gender(value):
    guided, random = (value("section-4-3-2", row, "baum2i", "accuracy") for row in ("DAM-CNN-g", "DAM-CNN-r"))
    assert round((guided - random) * 998 / 100) == 7
    assert value("table-4", PATHS[1], "baum2i", "accuracy") - guided == pytest.approx(1.66)


def matrix_of(item):
    assert tuple(item.rows) == EMOTIONS and [column.metric for column in item.columns] == [f"as {name}" for name in EMOTIONS]
    return np.array(list(item.rows.values()))


def test_confusions_on_ckplus(paper, value):
    matrix = matrix_of(paper.item("table-5"))
    sums = dict(zip(EMOTIONS, matrix.sum(axis=1).round(2), strict=True))
    assert {name: total for name, total in sums.items() if total != 100} == {"fear": 99.99, "sadness": 99.99, "surprise": 99.95}
    roundings = {name: 0.005 * (row > 0).sum() + 1e-9 for name, row in zip(EMOTIONS, matrix, strict=True)}
    assert {name for name in EMOTIONS if abs(sums[name] - 100) > roundings[name]} == {"surprise"}

    printed = value("table-6", "DAM-CNN", "lab", "accuracy")
    mean, weighted = matrix.diagonal().mean(), (matrix.diagonal() * CKPLUS_SIZES).sum() / CKPLUS_SIZES.sum()
    assert (round(mean, 2), round(weighted, 2), printed) == (92.23, 95.40, 95.88)
    assert (round(printed - mean, 2), round(printed - weighted, 2)) == (3.65, 0.48), "no mean over classes"
    shares = {e: is_share(p, 3 * n) for e, p, n in zip(EMOTIONS, matrix.diagonal(), CKPLUS_SIZES, strict=True)}
    assert [name for name, fits in shares.items() if fits] == ["happiness"]
    assert round((9 * 100 + 100 * 8 / 9) / 10, 2) == value("table-5", PATHS[3], "lab", "anger as anger"), "an average over ten folds"


def test_confusions_on_jaffe(paper, value):
    matrix = matrix_of(paper.item("table-7"))
    sums = matrix.sum(axis=1).round(2)
    assert {name: total for name, total in zip(EMOTIONS, sums, strict=True) if total != 100} == {"anger": 99.70, "sadness": 99.36}
    matrix[0, 1], matrix[4, 0] = 0.33, 0.67
    assert np.allclose(matrix.sum(axis=1), 100)
    mean, weighted = matrix.diagonal().mean(), (matrix.diagonal() * JAFFE_SIZES).sum() / JAFFE_SIZES.sum()
    assert (round(mean, 2), round(weighted, 2)) == (99.08, 99.10)
    assert {value("table-8", "DAM-CNN", "lab-small", "accuracy"), value("table-4", PATHS[3], "lab-small", "accuracy")} == {99.32, 99.22}


# -- beside the literature ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "role", "row", "better"),
    [
        ("table-6", "lab", "DAM-CNN", {"LPQ-SLPM-NN", "CDMML", "DTAGN", "DF-KSOM"}),  # the text names three
        ("table-8", "lab-small", "DAM-CNN", {"PCA+LDA+LS-SVM(Linear)", "PCA+LDA+LS-SVM(RBF)"}),
        ("table-9", "tfeid", "DAM-CNN, 6 classes", {"DSNGE, 6 classes", "SLPM, 6 classes"}),
        ("table-9", "tfeid", "DAM-CNN, 7 classes", {"LGBPHS, 7 classes", "LTeP, 7 classes"}),
        ("table-10", "fer2013", "DAM-CNN", {"DFEITF"}),
        ("table-10", "fer2013-val", "DAM-CNN", {"DFEITF"}),
        ("table-10", "film", "DAM-CNN", set()),
        ("table-10", "baum2i", "DAM-CNN, 6 classes", set()),
        ("table-10", "baum2i", "DAM-CNN, 7 classes", set()),
    ],
)
def test_who_is_above_it(paper, value, item, role, row, better):
    classes = row.partition(", ")[2]
    others = [name for name in paper.item(item).rows if name != row and name.partition(", ")[2] == classes]
    own = value(item, row, role, "accuracy")
    assert {name for name in others if (value(item, name, role, "accuracy") or 0) > own} == better
    if item == "table-8":
        assert {name for name in others if value(item, name, role, "accuracy") > 99.22} == better


def test_what_the_text_says_of_pictures_sizes(value):
    """SERD loses where pictures are small (FER2013), and where they are not (BAUM-2i); SFEW and BAUM-2i are below FER2013."""
    for role in ("fer2013", "baum2i"):
        assert value("table-2", "VGG-SERD", role, "accuracy") < value("table-2", "VGG-Face", role, "accuracy")
    own = value("table-10", "DAM-CNN", "fer2013", "accuracy")
    assert max(value("table-10", "DAM-CNN", "film", "accuracy"), value("table-10", "DAM-CNN, 7 classes", "baum2i", "accuracy")) < own
    assert value("table-2", "VGG-SERD", "film", "accuracy") > value("table-10", "CNN-VA", "film", "accuracy")
    assert load_published("dlp-cnn").value(Cell("dlp-cnn/table-9", "AUDN", "film", "accuracy")) == 26.14
    assert value("table-10", "AUDN", "film", "accuracy") == 30.14


def test_across_datasets(paper, value):
    groups = {name: {m: float(p) for m, p in re.findall(r"([\w-]+) (\d+\.\d+)", text)}
              for name, text in paper.item("table-11").sequences.items()}
    assert [len(group) for group in groups.values()] == [3, 4, 4]
    above = {name: {m for m, p in group.items() if p > group["DAM-CNN"]} for name, group in groups.items()}
    assert above == {"third group": set(), "fourth group": {"LGBPHS"}, "fifth group": {"MBC_P"}}
    own = value("table-11", "DAM-CNN from CK+", "film", "accuracy")
    assert value("table-11", "AUDN from CK+", "film", "accuracy") - own == pytest.approx(4.99)

    twice = value("table-11", "DAM-CNN from CK+", "lab-small", "accuracy")
    assert twice == groups["fifth group"]["DAM-CNN"] and not is_share(twice, 213)
    assert is_share(twice, 1065) and round(twice * 10.65) == 462
    assert not is_share(own, 3 * 409) and is_share(own, 847 + 409) and round(own * 12.56) == 307
    chances = [np.mean([is_share(each, n) for each in np.arange(2000, 6000) / 100]) for n in (1065, 1256)]
    assert np.round(chances, 2).tolist() == [0.11, 0.13]


def test_steps_are_as_far_apart_as_they_look():
    """The helper that tells shares: each of three neighbouring counts is one, what lies between is not."""
    assert is_share(39.61, 409) and not is_share(39.20, 409) and is_share(39.20, 3 * 409)
    assert all(not is_share(round((a + b) / 2, 2), 409) for a, b in pairwise([100 * k / 409 for k in range(150, 180)]))

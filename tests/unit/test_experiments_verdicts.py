import math

import numpy as np
import pytest
import toy_experiments as toy
from scipy import stats

from fer_utils import metrics
from fer_utils.errors import DataError
from fer_utils.experiments import (
    LedgerReader,
    Run,
    Score,
    compare_with_paper,
    estimates,
    format_ledger,
    judge_claim,
    judge_claims,
    register_experiment,
    registry,
    run_experiment,
    score_predictions,
    summarise_ledger,
)
from fer_utils.experiments.ledger import Ledger
from fer_utils.experiments.published import Cell, Comparison, load_published
from fer_utils.experiments.scores import pack_labels, unpack_labels
from fer_utils.labels import BASIC


@pytest.fixture
def run(empty_registry, tmp_path):
    """Runs a plan as an experiment of the paper; the results are below tmp_path."""

    def run(plan, id="dlp-cnn/table-5", dataset="muxspace", seeds=3, **options):
        register_experiment(id, **options)(plan)
        return run_experiment(id, dataset=dataset, seeds=seeds, data=tmp_path)

    return run


def skills(gabor=0.9, hog=0.75, lbp=0.6, shape=0.45, **options):
    rows = {"mSVM Gabor": gabor, "mSVM HOG": hog, "mSVM LBP": lbp, "mSVM shape": shape}
    return lambda setup: toy.plan_skills(setup, rows, **options)


def cell(row="mSVM HOG", metric="mean diagonal", item="dlp-cnn/table-5", role="basic"):
    return Cell(item, row, role, metric)


def versus(first, second, **options):
    return Comparison(((1, cell(first, **options)), (-1, cell(second, **options))))


# -- the words ------------------------------------------------------------------------------------------------------------


def judge(tmp_path, claim="dlp-cnn/descriptor-order"):
    return judge_claim(claim, "book", "muxspace", tmp_path)


def test_reproduced(run, tmp_path):
    run(skills())
    verdict = judge(tmp_path)
    assert verdict.word == "reproduced" and (verdict.dataset, verdict.profile) == ("muxspace", "book")
    assert verdict.reason.startswith("3 of 3 comparisons hold; closest: mSVM ")
    assert "limited by the test set (420 test faces)" in verdict.reason
    table = verdict.table()
    assert table["paper"].tolist() == pytest.approx([6.67, 2.47, 5.46]) and table["holds"].tolist() == [True] * 3
    assert (table["low"] > 0).all() and set(table["limit"]) == {"test set"}
    assert str(verdict) == f"reproduced: {verdict.reason}"


def test_not_reproduced(run, tmp_path):
    run(skills(gabor=0.7, hog=0.9))
    verdict = judge(tmp_path)
    assert verdict.word == "not reproduced" and "2 of 3 comparisons hold; furthest off: mSVM Gabor > mSVM HOG" in verdict.reason
    assert verdict.table()["holds"].tolist() == [False, True, True]


def test_inconclusive_for_lack_of_faces(run, tmp_path):
    run(skills(gabor=0.757))
    verdict = judge(tmp_path)
    assert verdict.word == "inconclusive" and "limited by the test set" in verdict.reason
    assert verdict.table()["holds"].tolist() == [None, True, True]


def test_inconclusive_for_lack_of_seeds(run, tmp_path):
    """The test faces would tell the two apart; the seeds differ too much."""
    run(skills(gabor=0.80, wobble=0.3, seeded=True))
    verdict = judge(tmp_path)
    assert verdict.word == "inconclusive" and "limited by the seeds (3 seeds, 420 test faces)" in verdict.reason
    assert verdict.estimates[0].seed_error > 2 * verdict.estimates[0].test_error > 0


def test_one_seed_decides_nothing(run, tmp_path):
    run(skills(wobble=0.01, seeded=True), seeds=1)
    verdict = judge(tmp_path)
    assert verdict.word == "inconclusive" and "from one seed; its spread over seeds is not known" in verdict.reason
    run(skills(wobble=0.01, seeded=True), seeds=3)
    assert judge(tmp_path).word == "reproduced"


def test_not_attempted(run, tmp_path):
    assert str(judge(tmp_path)) == "not attempted: nothing runs dlp-cnn/table-5 yet"
    run(lambda setup: [], omits={"mSVM shape": "no landmarks"})
    assert str(judge(tmp_path)) == "not attempted: no book result of mSVM Gabor, mean diagonal, basic on muxspace"
    registry._REGISTRY.clear()
    plan = lambda setup: toy.plan_skills(setup, {name: skill for name, skill in toy.SKILLS.items() if "shape" not in name})  # noqa: E731
    run(plan, omits={"mSVM shape": "no landmarks"})
    assert str(judge(tmp_path)) == "not attempted: mSVM shape: no landmarks"
    assert str(judge(tmp_path, "dlp-cnn/lab-easier")) == "not attempted: muxspace has no lab faces"
    assert str(judge(tmp_path, "dlp-cnn/transfer-beats-others")) == "not attempted: the other methods are not rebuilt in this book"
    verdicts = judge_claims("dlp-cnn", "book", "muxspace", tmp_path)
    assert len(verdicts) == len(load_published("dlp-cnn").claims) and {verdict.word for verdict in verdicts} == {"not attempted"}


def test_wrong_names(tmp_path):
    for claim, profile, dataset, message in (
        ("dlp-cnn/best", "book", "facsynth", "no claim 'dlp-cnn/best'"),
        ("nobody/best", "book", "facsynth", "unknown paper 'nobody'; expected one of dlp-cnn"),
        ("dlp-cnn/dlp-order", "huge", "facsynth", "unknown profile"), ("dlp-cnn/dlp-order", "book", "imagenet", "unknown dataset"),
    ):
        with pytest.raises(ValueError, match=message):
            judge_claim(claim, profile, dataset, tmp_path)


def test_a_bound_is_in_the_papers_unit(run, tmp_path):
    """Above 0 for a correlation, whose error comes with it."""
    values = {f"intensity correlation {name}": 0.3 for name in BASIC}

    def plan(setup):
        return [Run("features", correlate, {"values": values, "error": setup.seeds[-1] * 0.1})]

    run(plan, "dlp-cnn/figure-9", seeds=2)
    verdict = judge(tmp_path, "dlp-cnn/intensity-ordered")
    assert verdict.word == "reproduced" and verdict.table()["low"].tolist() == pytest.approx([0.3 - 1.96 * 0.1] * 5, abs=1e-4)
    run(plan, "dlp-cnn/figure-9", seeds=4)  # an error of 0.3
    assert judge(tmp_path, "dlp-cnn/intensity-ordered").word == "inconclusive"


def correlate(context, values, error):
    return [Score("DLP-CNN", "basic", values, errors=dict.fromkeys(values, error) if error else {})]


def test_other_numbers_are_compared_too(run, tmp_path):
    run(lambda setup: [Run("timing", tick, {}, seed) for seed in setup.seeds], "dlp-cnn/section-5-c")
    verdict = judge(tmp_path, "dlp-cnn/locality-costs-time")
    assert verdict.word == "reproduced" and "limited by the seeds (3 seeds)" in verdict.reason
    assert verdict.table()["paper"].item() == pytest.approx(142.29) and verdict.table()["ours"].item() == pytest.approx(10)


def tick(context):
    times = {"DLP-CNN": 40.0 + 20 * context.seed, "center loss": 30.1 + 19.9 * context.seed}
    return [Score(row, "", {"step time": time}) for row, time in times.items()]


# -- the numbers behind the words -----------------------------------------------------------------------------------------


def test_the_test_error_is_that_of_a_paired_bootstrap(run, tmp_path):
    run(skills())
    ledger = Ledger("dlp-cnn/table-5", "book", "muxspace", tmp_path)
    name = next(iter(ledger.test_sets))
    guesses = {r["outcomes"][0]["row"]: unpack_labels(r["outcomes"][0]["guess"]) for r in ledger.runs}
    drawn = {row: metrics.bootstrap_counts(toy.TRUTH, guess, range(7), seed=int(name, 16) % 2**32) for row, guess in guesses.items()}
    (found,) = LedgerReader("book", "muxspace", tmp_path).estimate([versus("mSVM Gabor", "mSVM HOG")])
    gap = metrics.mean_diagonal(drawn["mSVM Gabor"]) - metrics.mean_diagonal(drawn["mSVM HOG"])
    assert found.test_error == pytest.approx(gap.std(ddof=1)) and found.seed_error == 0 and found.seeds == 0 and found.count == 420
    assert found.high - found.low == pytest.approx(2 * stats.norm.ppf(0.975) * found.test_error)
    alone = [metrics.mean_diagonal(drawn[row]).std(ddof=1) for row in ("mSVM Gabor", "mSVM HOG")]
    assert found.test_error < math.hypot(*alone) * 0.9, "pairing helps"
    assert (found.test_low, found.test_high) == pytest.approx(tuple(np.quantile(gap, (0.025, 0.975))))


def test_people_are_drawn_where_they_are_known(run, tmp_path):
    people = np.repeat(np.arange(21), 20).tolist()
    plan = lambda setup: [  # noqa: E731
        Run("known", toy.answer, {"row": "mSVM HOG", "skill": 0.7, "people": people}),
        Run("unknown", toy.answer, {"row": "mSVM LBP", "skill": 0.7}),
    ]
    run(plan)
    frame = summarise_ledger("dlp-cnn/table-5", "book", "muxspace", tmp_path, metrics=["mean diagonal"]).set_index("row")
    assert frame.loc["mSVM HOG", "value"] == frame.loc["mSVM LBP", "value"]
    assert frame.loc["mSVM HOG", "test_high"] != frame.loc["mSVM LBP", "test_high"]
    ledger = Ledger("dlp-cnn/table-5", "book", "muxspace", tmp_path)
    assert sorted("people" in known for known in ledger.test_sets.values()) == [False, True]


def test_different_test_sets_are_drawn_apart(run, tmp_path):
    run(skills(), dataset="facsynth")
    first, second = cell(), cell(role="lab")
    reader = LedgerReader("book", "facsynth", tmp_path)
    gap, one, two = reader.estimate([Comparison(((1, first), (-1, second))), Comparison(((1, first),)), Comparison(((1, second),))])
    assert gap.test_error == pytest.approx(math.hypot(one.test_error, two.test_error), rel=1e-9)


VALUES = {"a": (0.60, 0.64, 0.65), "b": (0.50, 0.51, 0.58)}


def tell(context, values):
    return [Score(row, "basic", {"loss": numbers[context.seed]}) for row, numbers in values.items()]


def test_seeds_are_pooled(run, tmp_path):
    """Without test faces, an interval is that of a t-test with one variance for both."""
    run(lambda setup: [Run(row, tell, {"values": {row: VALUES[row]}}, seed) for row in VALUES for seed in setup.seeds], "toy/table-1")
    (found,) = LedgerReader("book", "muxspace", tmp_path).estimate([versus("a", "b", metric="loss", item="toy/table-1")])
    test = stats.ttest_ind(VALUES["a"], VALUES["b"]).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((test.low, test.high)) and found.limit == "seeds" and found.seeds == 3


def test_a_row_in_several_comparisons_counts_once(run, tmp_path):
    values = {**VALUES, "c": (0.40, 0.43, 0.52)}
    run(lambda setup: [Run(row, tell, {"values": {row: values[row]}}, seed) for row in values for seed in setup.seeds], "toy/table-1")
    pairs = [versus(*pair, metric="loss", item="toy/table-1") for pair in (("a", "b"), ("b", "c"), ("a", "c"))]
    within = math.sqrt(np.mean([np.var(found, ddof=1) for found in values.values()]))
    for found in LedgerReader("book", "muxspace", tmp_path).estimate(pairs):
        assert (found.high - found.low) / 2 == pytest.approx(stats.t.ppf(0.975, 6) * within * math.sqrt(2 / 3))


def test_rows_of_one_run_are_paired_over_seeds(run, tmp_path):
    run(lambda setup: [Run("both", tell, {"values": VALUES}, seed) for seed in setup.seeds], "toy/table-1")
    (found,) = LedgerReader("book", "muxspace", tmp_path).estimate([versus("a", "b", metric="loss", item="toy/table-1")])
    test = stats.ttest_rel(VALUES["a"], VALUES["b"]).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((test.low, test.high))


def test_degrees_of_freedom_grow_as_the_seeds_matter_less():
    def half(variance):
        part = estimates._Parts(0.0, [("x", None, np.array([0.1, 0.2, 0.3]))], variance, (math.nan, math.nan), 3, 0)
        found = estimates._combine(part, {"x": (0.01, 2)})
        return found.high / math.hypot(found.seed_error, found.test_error)

    assert half(0.0) == pytest.approx(stats.t.ppf(0.975, 2)) and half(100.0) == pytest.approx(stats.norm.ppf(0.975), abs=1e-3)
    assert stats.norm.ppf(0.975) < half(0.003) < stats.t.ppf(0.975, 2)


def test_two_runs_of_one_seed_cannot_measure_one_cell(run, tmp_path):
    run(lambda setup: [Run(name, toy.answer, {"row": "mSVM HOG", "skill": 0.7}, 0) for name in ("x", "y")])
    with pytest.raises(DataError, match=r"table-5\.json: two runs of one seed measured mSVM HOG, mean diagonal, basic"):
        judge_claim("dlp-cnn/deep-over-descriptors", reader=_with_hog(tmp_path))


def _with_hog(tmp_path):
    reader = LedgerReader("book", "muxspace", tmp_path)
    reader.measure(cell())
    return reader


def test_a_missing_cell_is_named(tmp_path):
    with pytest.raises(LookupError, match="no book result of mSVM HOG, mean diagonal, basic on muxspace"):
        LedgerReader("book", "muxspace", tmp_path).estimate([versus("mSVM HOG", "mSVM LBP")])


def test_labels_are_packed():
    labels = np.array([0, 9, 10, 35, 3])
    assert pack_labels(labels) == "09az3" and (unpack_labels("09az3") == labels).all() and unpack_labels("").shape == (0,)
    for wrong in ([36], [-1]):
        with pytest.raises(ValueError, match="labels must be 0 to 35"):
            pack_labels(wrong)


# -- tables ---------------------------------------------------------------------------------------------------------------


def test_summary(run, tmp_path):
    run(skills(wobble=0.1, seeded=True))
    frame = summarise_ledger("dlp-cnn/table-5", "book", "muxspace", tmp_path)
    assert list(dict.fromkeys(frame["row"])) == ["mSVM shape", "mSVM LBP", "mSVM HOG", "mSVM Gabor"], "in the order of the paper's table"
    line = frame[(frame["row"] == "mSVM HOG") & (frame["metric"] == "accuracy")].iloc[0]
    ledger = Ledger("dlp-cnn/table-5", "book", "muxspace", tmp_path)
    values = [r["outcomes"][0]["metrics"]["accuracy"] for r in ledger.runs if r["name"] == "mSVM HOG basic"]
    assert (line["value"], line["seed_low"], line["seed_high"]) == pytest.approx(tuple(metrics.seed_interval(values)))
    assert line["low"] < line["test_low"] < line["value"] < line["test_high"] < line["high"] and line["seeds"] == 3 and line["count"] == 420
    recalls = summarise_ledger("dlp-cnn/table-5", "book", "muxspace", tmp_path, metrics=["recall fear", "fear as disgust"])
    assert len(recalls) == 8 and recalls.groupby("row")["value"].sum().to_numpy() == pytest.approx(np.ones(4))
    assert summarise_ledger("dlp-cnn/table-9", "book", "muxspace", tmp_path).empty


def test_beside_the_paper(run, tmp_path):
    run(skills())
    frame = compare_with_paper("dlp-cnn/table-5", "book", "muxspace", tmp_path, metrics=["mean diagonal"])
    line = frame[(frame["row"] == "mSVM HOG") & (frame["role"] == "basic")].iloc[0]
    assert line["paper"] == 58.45 and line["paper_dataset"] == "RAF-DB" and line["our_dataset"] == "muxspace"
    assert line["ours"] == pytest.approx(75, abs=5) and line["low"] < line["ours"] < line["high"]
    lab = frame[(frame["row"] == "mSVM HOG") & (frame["role"] == "lab")].iloc[0]
    assert lab["paper"] == 90.5 and np.isnan(lab["ours"])
    assert not (frame["paper"].isna() & frame["ours"].isna()).any() and set(frame["metric"]) == {"mean diagonal"}
    matrix = compare_with_paper("dlp-cnn/table-7", "book", "muxspace", tmp_path)
    assert len(matrix) == 49 and matrix["ours"].isna().all() and matrix["paper"].sum() == pytest.approx(700, abs=0.2)
    words = compare_with_paper("dlp-cnn/table-1", "book", "muxspace", tmp_path)
    assert "29,672" in words["paper"].tolist()


def test_rows_of_our_own_come_last(run, tmp_path):
    run(lambda setup: [*skills()(setup), Run("majority", majority)])
    frame = compare_with_paper("dlp-cnn/table-5", "book", "muxspace", tmp_path)
    assert frame["row"].iloc[-1] == "majority" and np.isnan(frame["paper"].iloc[-1]) and frame["ours"].iloc[-1] == pytest.approx(100 / 7)


def majority(context):
    return [score_predictions("majority", "basic", toy.TRUTH, np.zeros(420, dtype=int), BASIC)]


def test_printed_ledger(run, tmp_path):
    run(skills(wobble=0.1, seeded=True))
    run(lambda setup: [Run("timing", tick, {}, seed) for seed in setup.seeds], "dlp-cnn/section-5-c")
    frame = format_ledger("dlp-cnn", data=tmp_path)
    assert len(frame) == 10
    line = frame[(frame["row"] == "mSVM HOG") & (frame["metric"] == "mean diagonal")].iloc[0]
    assert line["value"].endswith(" %") and " to " in line["95 % over seeds"] and " to " in line["95 % over faces"]
    time = frame[frame["row"] == "DLP-CNN"].iloc[0]
    assert (time["value"], time["95 % over faces"], time["n"], time["role"], time["seeds"]) == ("60.000", "-", "-", "-", "3")
    assert len(format_ledger("dlp-cnn/section-5-c", data=tmp_path)) == 2 and format_ledger("dam-cnn", data=tmp_path).empty


def test_metrics_of_claims_can_be_computed():
    for claim in load_published("dlp-cnn").claims:
        for comparison in claim.comparisons:
            for _, each in comparison.terms:
                if each.metric in ("accuracy", "mean diagonal") or " as " in each.metric or each.metric.startswith("recall "):
                    metrics.compute_metric(each.metric, np.eye(7), BASIC)

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, recall_score

from fer_utils import metrics
from fer_utils.facsynth import report
from fer_utils.labels import BASIC

ANSWERS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60)


def sample(n=300, skill=0.7, seed=0, classes=7):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, n)
    return truth, np.where(rng.random(n) < skill, truth, rng.integers(0, classes, n))


# -- counts and what is measured on them ----------------------------------------------------------------------------------


@given(ANSWERS)
def test_metrics_agree_with_scikit_learn(pairs):
    truth, guess = np.array(pairs).T
    counts = metrics.count_confusions(truth, guess, range(5))
    assert (counts == confusion_matrix(truth, guess, labels=range(5))).all()
    assert metrics.accuracy(counts) == pytest.approx(accuracy_score(truth, guess))
    present = np.unique(truth)
    recalls = recall_score(truth, guess, labels=present, average=None, zero_division=0)
    assert metrics.per_class_recall(counts)[present] == pytest.approx(recalls)
    assert np.isnan(np.delete(metrics.per_class_recall(counts), present)).all()
    if set(guess) <= set(truth) and len(set(truth)) > 1:  # else scikit-learn warns
        assert metrics.mean_diagonal(counts) == pytest.approx(balanced_accuracy_score(truth, guess))


def test_an_absent_class_has_no_recall_and_no_weight():
    counts = np.array([[3, 1, 0], [0, 0, 0], [0, 0, 4]])
    assert metrics.per_class_recall(counts)[[0, 2]].tolist() == [0.75, 1.0] and np.isnan(metrics.per_class_recall(counts)[1])
    assert metrics.mean_diagonal(counts) == 0.875


def test_a_rare_class_weighs_as_much_as_a_common_one():
    counts = np.array([[990, 10], [5, 5]])
    assert metrics.accuracy(counts) == pytest.approx(995 / 1010) and metrics.mean_diagonal(counts) == pytest.approx(0.745)


def test_names_are_classes_too():
    counts = metrics.count_confusions(["fear", "anger"], ["anger", "anger"], ("fear", "anger"))
    assert counts.tolist() == [[0, 1], [0, 1]]


@pytest.mark.parametrize(
    ("truth", "guess", "classes", "message"),
    [
        ([0, 1], [0, 2], range(2), r"guess holds 2; expected one of 0, 1"),
        ([0, 3], [0, 1], range(2), r"truth holds 3"),
        ([0, 1], [0], range(2), r"one length"),
        ([], [], range(2), r"above 0"),
        (["a"], ["a"], ("a", "a"), r"classes must differ"),
    ],
)
def test_wrong_labels(truth, guess, classes, message):
    with pytest.raises(ValueError, match=message):
        metrics.count_confusions(truth, guess, classes)


def test_metrics_by_name():
    counts = np.array([[6, 3, 1], [0, 5, 0], [2, 2, 6]])
    names = ("fear", "anger", "disgust")

    def measured(name):
        return float(metrics.compute_metric(name, counts, names))

    assert measured("recall fear") == 0.6 and measured("fear as fear") == 0.6
    assert measured("disgust as anger") == 0.2
    assert measured("disgust as average wrong") == pytest.approx(0.2)
    assert measured("fear as average wrong") == pytest.approx((0.3 + 0.1) / 2)
    assert measured("accuracy") == pytest.approx(17 / 25) and measured("mean diagonal") == pytest.approx(2.2 / 3)
    many = np.stack([counts, counts.T])
    assert metrics.compute_metric("recall fear", many, names).tolist() == [0.6, 6 / 8]
    for wrong in ("recall joy", "fear as joy", "precision"):
        with pytest.raises(ValueError, match=f"unknown metric '{wrong}'.*fear, anger, disgust"):
            measured(wrong)


# -- resampling -----------------------------------------------------------------------------------------------------------


def by_hand(truth, guess, classes, draws, seed):
    """The same resamples, face by face."""
    rng = np.random.default_rng(seed)
    found = []
    for weights in rng.multinomial(len(truth), np.full(len(truth), 1 / len(truth)), size=draws):
        rows = np.repeat(np.arange(len(truth)), weights)
        found.append(confusion_matrix(truth[rows], guess[rows], labels=range(classes)))
    return np.array(found)


def test_resamples_are_resamples():
    truth, guess = sample(50)
    assert (metrics.bootstrap_counts(truth, guess, range(7), draws=300, seed=4) == by_hand(truth, guess, 7, 300, 4)).all()


def test_whole_people_are_drawn():
    truth, guess = sample(60)
    people = np.arange(60) // 6
    own = np.array([metrics.count_confusions(truth[people == p], guess[people == p], range(7)) for p in range(10)])
    drawn = metrics.bootstrap_counts(truth, guess, range(7), groups=people, draws=200)
    weights = np.random.default_rng(0).multinomial(10, np.full(10, 0.1), size=200)
    assert (drawn == np.einsum("bp,pij->bij", weights, own)).all()


def test_stratified_draws_keep_the_classes():
    truth, guess = sample(80)
    drawn = metrics.bootstrap_counts(truth, guess, range(7), stratified=True, draws=100)
    assert (drawn.sum(axis=-1) == np.bincount(truth, minlength=7)).all()
    assert len(np.unique(drawn, axis=0)) > 90
    loose = metrics.bootstrap_counts(truth, guess, range(7), draws=100)
    assert (loose.sum(axis=-1) != np.bincount(truth, minlength=7)).any()
    with pytest.raises(ValueError, match="leave groups out"):
        metrics.bootstrap_counts(truth, guess, range(7), stratified=True, groups=truth)
    with pytest.raises(ValueError, match="one entry an image, 80, got 3"):
        metrics.bootstrap_counts(truth, guess, range(7), groups=[1, 2, 3])


def test_the_interval_covers_what_it_should():
    """Of 200 test sets, about 95 % have an interval around the true mean diagonal, here 0.7 + 0.3 / 3."""
    intervals = [metrics.bootstrap_interval(*sample(120, seed=s, classes=3), range(3), draws=250, seed=s) for s in range(200)]
    assert 0.90 < np.mean([low <= 0.8 <= high for _, low, high in intervals]) < 0.99


def test_the_level_widens_the_interval():
    truth, guess = sample()
    _, low, high = metrics.bootstrap_interval(truth, guess, range(7))
    _, lower, higher = metrics.bootstrap_interval(truth, guess, range(7), level=0.99)
    assert lower < low < high < higher
    assert metrics.bootstrap_interval(truth, guess, range(7)) == metrics.bootstrap_interval(truth, guess, range(7))


def test_people_seen_often_widen_the_interval():
    people = np.arange(200) // 20
    truth = np.arange(200) % 2
    guess = np.where(people % 2 == 0, truth, 1 - truth)
    _, low, high = metrics.bootstrap_interval(truth, guess, range(2))
    _, lower, higher = metrics.bootstrap_interval(truth, guess, range(2), groups=people)
    assert higher - lower > 2 * (high - low)


def old_summary(truth, guess, people, classes):
    """Mean recall and its interval as the report on the shipped faces computed them before there was this module."""
    recalls = {c: float(np.mean(guess[truth == c] == c)) for c in classes if np.any(truth == c)}
    ids, who = np.unique(people, return_inverse=True)
    hits, totals = np.zeros((len(ids), len(classes))), np.zeros((len(ids), len(classes)))
    for k, c in enumerate(classes):
        np.add.at(totals[:, k], who, truth == c)
        np.add.at(hits[:, k], who, (truth == c) & (truth == guess))
    draws = np.random.default_rng(0).multinomial(len(ids), np.full(len(ids), 1 / len(ids)), size=2000)
    with np.errstate(invalid="ignore"):
        means = np.nanmean((draws @ hits) / (draws @ totals), axis=1)
    return float(np.mean(list(recalls.values()))), *map(float, np.quantile(means, (0.025, 0.975))), recalls


@pytest.mark.parametrize("classes", [BASIC, BASIC[:6]])
def test_the_kept_report_would_not_change(classes):
    rng = np.random.default_rng(3)
    names = np.array(BASIC, dtype=object)
    truth = names[rng.choice(len(classes), 400, p=np.arange(1, len(classes) + 1) / np.arange(1, len(classes) + 1).sum())]
    guess = np.where(rng.random(400) < 0.7, truth, names[rng.integers(0, 7, 400)])
    people = rng.integers(0, 90, 400)
    found = report._summarise("m", "f", truth, guess, people, classes)
    assert (found.value, found.low, found.high, found.recalls) == old_summary(truth, guess, people, classes)


# -- other intervals ------------------------------------------------------------------------------------------------------


def test_wilson():
    # Newcombe 1998, Table I: 81 of 263, and 0 of 20
    assert metrics.proportion_interval(81, 263) == pytest.approx((81 / 263, 0.2553, 0.3662), abs=1e-4)
    assert metrics.proportion_interval(0, 20) == pytest.approx((0, 0, 0.1611), abs=1e-4)
    for hits, count in ((1, 0), (3, 2), (-1, 5)):
        with pytest.raises(ValueError, match=f"got {hits} of {count}"):
            metrics.proportion_interval(hits, count)


# -- two methods ----------------------------------------------------------------------------------------------------------


def test_a_method_does_not_differ_from_itself():
    truth, guess = sample()
    test = metrics.paired_test(truth, guess, guess, range(7))
    assert test.difference == (0, 0, 0) and test.p_bootstrap == test.p_mcnemar == 1 and test.only_first == test.only_second == 0


def test_mcnemar_is_a_coin():
    truth = np.zeros(100, dtype=int)
    first, second = np.zeros(100, dtype=int), np.zeros(100, dtype=int)
    first[:3], second[10:22] = 1, 1
    test = metrics.paired_test(truth, first, second, range(2), "accuracy")
    assert (test.only_first, test.only_second) == (12, 3)
    assert test.p_mcnemar == pytest.approx(2 * stats.binom.cdf(3, 15, 0.5))
    assert test.difference.value == pytest.approx(0.09) and 0 < test.difference.low < 0.09 < test.difference.high
    assert test.p_bootstrap < 0.05


def test_pairing_narrows_the_difference():
    """Two methods that fail on nearly the same faces: each is uncertain, the difference is not."""
    truth, first = sample(500, 0.6)
    second = first.copy()
    right = np.flatnonzero(first == truth)[:15]
    second[right] = (truth[right] + 1) % 7
    test = metrics.paired_test(truth, first, second, range(7))
    one = metrics.bootstrap_interval(truth, first, range(7))
    assert test.difference.low > 0 and test.difference.high - test.difference.low < (one.high - one.low) / 2
    back = metrics.paired_test(truth, second, first, range(7))
    assert back.difference.value == -test.difference.value and back.p_bootstrap == test.p_bootstrap

import numpy as np
import pandas as pd
import pytest
from crowd_votes import simulate

from fer_utils.crowd import ReliabilityEM, cronbach_alpha, filter_annotators


def table(scores):
    """Scores ``[faces, annotators]`` as votes; NaN is no vote."""
    rows = [(j, i, value) for j, row in enumerate(scores) for i, value in enumerate(row) if not np.isnan(value)]
    return pd.DataFrame(rows, columns=["task", "worker", "label"])


def test_cronbach_by_hand():
    # Items 1,2,3,4 / 2,2,4,4 / 1,3,3,5: variances 5/3, 4/3, 8/3; sums 4,7,10,13 with variance 15: 3/2 (1 - (17/3)/15) = 14/15.
    votes = table(np.array([[1, 2, 1], [2, 2, 3], [3, 4, 3], [4, 4, 5]], dtype=float))
    assert cronbach_alpha(votes, nominal=False) == pytest.approx(14 / 15)


def test_cronbach_is_the_textbook_formula_where_everybody_votes():
    rng = np.random.default_rng(0)
    scores = np.clip(rng.integers(1, 6, (30, 1)) + rng.integers(-1, 2, (30, 8)), 1, 5).astype(float)
    k = scores.shape[1]
    textbook = k / (k - 1) * (1 - scores.var(axis=0, ddof=1).sum() / scores.sum(axis=1).var(ddof=1))
    assert cronbach_alpha(table(scores), nominal=False) == pytest.approx(textbook)
    indicators = np.stack([scores == c for c in np.unique(scores)]).astype(float)
    items = indicators.var(axis=1, ddof=1).sum()
    textbook = k / (k - 1) * (1 - items / indicators.sum(axis=2).var(axis=1, ddof=1).sum())
    assert cronbach_alpha(table(scores)) == pytest.approx(textbook)


def test_cronbach_of_a_sparse_crowd_estimates_the_full_one():
    full = simulate(tasks=1500, workers=60, votes=60)[0]
    sparse = full.sample(frac=1, random_state=0).groupby("task").head(20)
    assert cronbach_alpha(sparse, raters=60) == pytest.approx(cronbach_alpha(full), abs=0.003)
    fewer = cronbach_alpha(sparse)
    assert fewer < cronbach_alpha(full)
    rho = cronbach_alpha(full, raters=1)
    assert fewer == pytest.approx(20 * rho / (1 + 19 * rho), abs=0.003), "Spearman and Brown"


def test_cronbach_knows_guessing_from_agreement():
    rng = np.random.default_rng(0)
    guesses = table(rng.integers(1, 8, (400, 10)).astype(float))
    assert abs(cronbach_alpha(guesses)) < 0.15
    agreed = table(np.repeat(rng.integers(1, 8, (20, 1)), 10, axis=1).astype(float))
    assert cronbach_alpha(agreed) == pytest.approx(1)
    recoded = agreed.assign(label=agreed["label"].map(dict(zip(range(1, 8), "gfedcba", strict=True))))
    assert cronbach_alpha(recoded) == pytest.approx(1)


def test_filtering_raises_agreement():
    votes = simulate(tasks=600, workers=40, votes=12, spammers=8)[0]
    kept = filter_annotators(ReliabilityEM().fit(votes).alphas_)
    assert sorted(kept.index) == list(range(8, 40))
    raters = 12
    assert cronbach_alpha(votes[votes["worker"].isin(kept.index)], raters=raters) > cronbach_alpha(votes, raters=raters)


@pytest.mark.parametrize(
    ("votes", "options", "message"),
    [
        (table(np.ones((3, 2))), {}, "all votes are for one class"),
        (table(np.array([[1.0, 2.0]])), {}, "expected two faces or more"),
        (table(np.array([[1.0, np.nan], [np.nan, 2.0]])), {}, "two votes on one of them, got 2 faces and at most 1"),
        (pd.concat([table(np.array([[1.0, 2.0], [2.0, 2.0]]))] * 2), {}, "somebody votes twice on a face"),
        (table(np.array([[1.0, 2.0], [2.0, 2.0]])).replace({"label": {1.0: "a", 2.0: "b"}}), {"nominal": False}, "labels must be numbers"),
        (pd.DataFrame({"task": [1]}), {}, "votes have no column 'worker'"),
        (table(np.array([[1.0, 2.0], [2.0, 2.0]])), {"raters": 0}, "raters must be a number above 0, got 0"),
        (table(np.array([[1.0, 2.0], [2.0, 2.0]])), {"raters": -3}, "raters must be a number above 0, got -3"),
        (table(np.array([[1.0, 2.0], [2.0, 2.0]])), {"raters": np.nan}, "raters must be a number above 0, got nan"),
    ],
)
def test_cronbach_refuses(votes, options, message):
    with pytest.raises(ValueError, match=message):
        cronbach_alpha(votes, **options)


def test_filter():
    alphas = pd.Series({"a": -1.2, "b": 0.4, "c": -0.9, "d": 0.0, "e": 1.1, "f": 1.3, "g": 2.0})
    assert filter_annotators(alphas).index.tolist() == ["b", "e", "f", "g"]
    assert filter_annotators(alphas, 1.1).index.tolist() == ["f", "g"]
    assert filter_annotators(alphas, "gap").index.tolist() == ["b", "d", "e", "f", "g"], "0.9 from c to d"
    shifted = filter_annotators(alphas - 5, "gap")
    assert shifted.index.tolist() == ["b", "d", "e", "f", "g"], "the gap does not depend on where 0 is"


@pytest.mark.parametrize(
    ("alphas", "threshold", "message"),
    [
        ([1.0, np.nan], 0.0, "one is missing"),
        ([], 0.0, "none are given"),
        ([-1.0, -2.0], 0.0, "nobody's reliability is above 0; the highest is -1"),
        ([1.0, 2.0], "otsu", "threshold must be a number or 'gap', got 'otsu'"),
        ([1.0, 2.0], None, "threshold must be a number or 'gap', got None"),
        ([1.0, 2.0], np.nan, "threshold must be a number or 'gap', got nan"),
        ([1.0, 2.0], "gap", "a gap needs at least two annotators below the median, got 1"),
    ],
)
def test_filter_refuses(alphas, threshold, message):
    with pytest.raises(ValueError, match=message):
        filter_annotators(pd.Series(alphas, dtype=float), threshold)

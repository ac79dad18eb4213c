import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fer_utils.crowd import partition_labels, soft_labels

VOTES = pd.DataFrame(
    [("a", "x", 1), ("a", "y", 1), ("a", "z", 2), ("b", "x", 3), ("b", "z", 1), ("c", "w", 2)], columns=["task", "worker", "label"]
)
ALPHAS = pd.Series({"x": 2.0, "y": 1.0, "z": 0.5})


def test_votes_are_weighed():
    g = soft_labels(VOTES, ALPHAS, classes=[1, 2, 3, 4], normalise=False)
    expected = pd.DataFrame([[3.0, 0.5, 0, 0], [0.5, 0, 2.0, 0], [0, 0, 0, 0]], index=list("abc"), columns=[1, 2, 3, 4], dtype=float)
    pd.testing.assert_frame_equal(g, expected, check_names=False, check_column_type=False)
    shares = soft_labels(VOTES, ALPHAS, classes=[1, 2, 3, 4])
    np.testing.assert_allclose(shares.loc["a"], [3 / 3.5, 0.5 / 3.5, 0, 0])
    assert shares.sum(axis=1).tolist() == [1, 1, 0], "of c only w, who is not in alphas, knows anything"


def test_negative_reliabilities():
    against = ALPHAS.replace(0.5, -0.5)
    assert soft_labels(VOTES, against, normalise=False).loc["a"].tolist() == [3, 0, 0]
    assert soft_labels(VOTES, against, normalise=False, negative="keep").loc["a"].tolist() == [3, -0.5, 0]


@pytest.mark.parametrize(
    ("alphas", "options", "message"),
    [
        (ALPHAS.replace(0.5, np.nan), {}, "a value is missing or a worker stands twice"),
        (pd.concat([ALPHAS, ALPHAS]), {}, "stands twice"),
        (pd.Series({"nobody": 1.0}), {}, "no voter is in alphas, such as worker 'x'"),
        (ALPHAS, {"negative": "flip"}, "negative must be drop or keep, got 'flip'"),
        (ALPHAS, {"classes": [1, 2]}, "label 3 is no class"),
    ],
)
def test_soft_labels_refuse(alphas, options, message):
    with pytest.raises(ValueError, match=message):
        soft_labels(VOTES, alphas, **options)


def test_partition():
    rows = {
        "one class": ([0.70, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05], "single-label", 1, None, 1),
        "neutral alone": ([0.05, 0.05, 0.05, 0.05, 0.05, 0.05, 0.70], "single-label", 7, None, 1),
        "two": ([0.30, 0.05, 0.05, 0.45, 0.05, 0.05, 0.05], "two-tab", 4, 1, 2),
        "two, one neutral": ([0.30, 0.05, 0.05, 0.05, 0.05, 0.05, 0.45], "excluded", None, None, 2),
        "two and weak neutral": ([0.40, 0.39, 0.05, 0.01, 0.01, 0.00, 0.14], "two-tab", 1, 2, 2),
        "three": ([0.30, 0.30, 0.30, 0.10, 0.00, 0.00, 0.00], "excluded", None, None, 3),
        "even": ([1 / 8] * 7, "excluded", None, None, 0),
        "nothing": ([0.0] * 7, "excluded", None, None, 0),
        "tie": ([0.0, 0.5, 0.0, 0.0, 0.5, 0.0, 0.0], "two-tab", 2, 5, 2),
    }
    shares = pd.DataFrame([row[0] for row in rows.values()], index=list(rows), columns=range(1, 8))
    parts = partition_labels(shares)
    expected = pd.DataFrame([row[1:] for row in rows.values()], index=list(rows), columns=["set", "first", "second", "valid"], dtype=object)
    assert parts.to_dict("index") == expected.to_dict("index")
    scaled = partition_labels(shares * 40)
    pd.testing.assert_frame_equal(scaled, parts)
    assert partition_labels(shares, neutral=None).loc["two, one neutral"].tolist() == ["two-tab", 7, 1, 2]


@settings(max_examples=60, deadline=None)
@given(arrays(float, (6, 7), elements=st.integers(0, 20).map(float)))
def test_partition_follows_the_rule(values):
    shares = pd.DataFrame(values, columns=range(1, 8))
    parts = partition_labels(shares)
    for task, row in shares.iterrows():
        above = [k for k in range(1, 8) if row[k] * 7 > row.sum()]
        found = parts.loc[task]
        assert found["valid"] == len(above)
        kind = "single-label" if len(above) == 1 else "two-tab" if len(above) == 2 and 7 not in above else "excluded"
        assert found["set"] == kind
        if kind == "two-tab":
            assert {found["first"], found["second"]} == set(above) and row[found["first"]] >= row[found["second"]]


def test_partition_refuses():
    shares = pd.DataFrame([[0.5, 0.5]], index=["a"], columns=["fear", "neutral"])
    assert partition_labels(shares, neutral="neutral")["set"].tolist() == ["excluded"]
    with pytest.raises(ValueError, match="neutral=7 is no class; expected one of fear, neutral, or None"):
        partition_labels(shares)
    with pytest.raises(ValueError, match="shares of task 'a' are missing"):
        partition_labels(shares.assign(fear=np.nan), neutral="neutral")

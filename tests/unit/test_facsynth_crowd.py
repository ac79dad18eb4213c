import numpy as np
import pandas as pd
import pytest

from fer_utils.facsynth.annotators import ANNOTATORS, UNRELIABLE, clarity, confusion_shares, sample_annotators, simulate_votes
from fer_utils.facsynth.expressions import ACTION_UNITS, sample_wild
from fer_utils.labels import BASIC, COMPOUND_PARTS


def truth_of(emotions, **columns):
    rows = []
    for i, emotion in enumerate(emotions):
        face = sample_wild(emotion, np.random.default_rng(i))
        row = {"name": f"train_{i + 1:05d}", "emotion": emotion, "intensity": face.intensity, "occlusion": "none", "yaw": 0.0, "pitch": 0.0,
               "blur": 0.0, "scale": 1.0, "light": "soft"}
        row |= {f"au_{au}": face.aus.get(au, 0.0) for au in ACTION_UNITS}
        rows.append(row | columns)
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def crowd():
    return sample_annotators(7)


@pytest.fixture(scope="module")
def basic():
    return truth_of(list(BASIC) * 60)


def test_the_crowd(crowd):
    assert len(crowd) == ANNOTATORS and (~crowd["reliable"]).sum() == UNRELIABLE
    assert crowd.loc[crowd["reliable"], "reliability"].min() > crowd.loc[~crowd["reliable"], "reliability"].max()
    pd.testing.assert_frame_equal(crowd, sample_annotators(7))


def test_votes(crowd, basic):
    votes = simulate_votes(basic, crowd, 3)
    assert list(votes.columns) == ["task", "worker", "label"]
    assert votes["label"].between(1, 7).all() and votes["worker"].between(0, ANNOTATORS - 1).all()
    assert 38 < len(votes) / len(basic) < 42
    assert not votes.duplicated(["task", "worker"]).any()
    assert set(votes["task"]) == {f"{n}.jpg" for n in basic["name"]}
    pd.testing.assert_frame_equal(votes, simulate_votes(basic, crowd, 3))


def test_reliable_people_are_right_more_often(crowd, basic):
    votes = simulate_votes(basic, crowd, 3)
    label = {f"{n}.jpg": BASIC.index(e) + 1 for n, e in zip(basic["name"], basic["emotion"], strict=True)}
    right = votes["label"] == votes["task"].map(label)
    reliable = votes["worker"].map(crowd["reliable"])
    assert right[reliable].mean() > right[~reliable].mean() + 0.3


@pytest.mark.parametrize(
    "harder", [{"occlusion": "mask"}, {"yaw": 50.0}, {"pitch": 25.0}, {"intensity": 0.4}, {"blur": 2.0}, {"light": "night"}]
)
def test_conditions_cost_clarity(harder):
    easy = truth_of(["happiness"] * 20)
    easy["intensity"] = 0.9
    hard = easy.assign(**harder)
    assert (clarity(hard) < clarity(easy)).all()


def test_mistakes_follow_looks():
    truth = truth_of(["fear"] * 100 + ["disgust"] * 100)
    shares = confusion_shares(truth)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert (shares[:100, BASIC.index("fear")] == 0).all()
    mean = shares[:100].mean(axis=0)
    assert mean.argmax() == BASIC.index("surprise")
    assert shares[100:].mean(axis=0).argmax() == BASIC.index("anger")


def test_faint_faces_look_neutral():
    strong, faint = (truth_of(["sadness"] * 50).assign(intensity=v) for v in (1.0, 0.35))
    neutral = BASIC.index("neutral")
    assert (confusion_shares(faint)[:, neutral] > confusion_shares(strong)[:, neutral]).all()


def test_compound_faces_have_two_peaks(crowd):
    emotion = "happily surprised"
    truth = truth_of([emotion] * 80)
    votes = simulate_votes(truth, crowd, 5)
    counts = np.bincount(votes["label"], minlength=8)[1:]
    assert {BASIC[k] for k in np.argsort(counts)[-2:]} == set(COMPOUND_PARTS[emotion])

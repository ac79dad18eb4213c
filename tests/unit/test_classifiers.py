"""Classifiers: LibSVM's answers, scikit-learn's discriminant analysis, and a choice by the mean diagonal."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import NotFittedError
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import check_estimator

from fer_utils.classifiers import RBFSVM, LDANearestNeighbour, LinearSVM, RandomLabelDetector
from fer_utils.labels import BASIC
from fer_utils.splits import Split

SHARES = (0.1, 0.03, 0.06, 0.4, 0.16, 0.05, 0.2)


def make_features(faces: int, values: int, seed: int = 0, spread: float = 0.25) -> tuple[np.ndarray, np.ndarray]:
    """Features in [0, 1], some noisier than others, of seven unbalanced classes that overlap; every class occurs."""
    rng = np.random.default_rng(seed)
    codes = np.concatenate([np.arange(7), rng.choice(7, faces - 7, p=SHARES)])
    centres = 0.5 + np.random.default_rng(99).normal(0, 0.06, (7, values))
    return np.clip(rng.normal(centres[codes], spread * np.linspace(0.3, 1.5, values)), 0, 1).astype(np.float32), np.array(BASIC)[codes]


def make_split(faces: int, test: np.ndarray, name: str = "toy") -> Split:
    test = np.sort(test)
    return Split(np.setdiff1d(np.arange(faces), test), test, name, 0, np.array([f"{i}.png" for i in range(faces)]))


# -- support vector machines ----------------------------------------------------------------------------------------------


def clear_faces(svc: SVC, X: np.ndarray) -> np.ndarray:
    """Which faces lie near no border between two classes, where rounding would decide: bool ``[N]``."""
    pairs = svc.set_params(decision_function_shape="ovo").decision_function(X)
    svc.set_params(decision_function_shape="ovr")
    return np.abs(pairs).min(1) > 4e-3 * np.abs(pairs).max()


@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("C", [0.01, 1.0])
def test_linear_machine_agrees_with_libsvm(C, class_weight):
    X, y = make_features(400, 150)
    test, _ = make_features(300, 150, seed=1)
    ours = LinearSVM(C=C, class_weight=class_weight).fit(X, y)
    theirs = SVC(C=C, kernel="linear", class_weight=class_weight).fit(X, y)
    clear = clear_faces(theirs, test)
    assert clear.mean() > 0.5
    np.testing.assert_allclose(ours.decision_function(test)[clear], theirs.decision_function(test)[clear], atol=2e-3)
    assert np.array_equal(ours.predict(test)[clear], theirs.predict(test)[clear])
    assert ours.C_ == C and ours.scores_ == {}


@pytest.mark.parametrize("gamma", [0.01, 0.3])
def test_gaussian_machine_agrees_with_libsvm(gamma):
    X, y = make_features(300, 60)
    test, _ = make_features(1100, 60, seed=1)
    ours = RBFSVM(C=4.0, gamma=gamma).fit(X, y)
    theirs = SVC(C=4.0, gamma=gamma).fit(X, y)
    clear = clear_faces(theirs, test)
    assert clear.mean() > 0.5
    np.testing.assert_allclose(ours.decision_function(test)[clear], theirs.decision_function(test)[clear], atol=5e-3)
    assert np.mean(ours.predict(test) == theirs.predict(test)) > 0.98 and ours.gamma_ == gamma


def test_two_classes_keep_scikit_learns_sign():
    X, y = make_features(120, 20)
    two = np.isin(y, ("happiness", "neutral"))
    ours, theirs = LinearSVM(C=1.0).fit(X[two], y[two]), SVC(C=1.0, kernel="linear").fit(X[two], y[two])
    np.testing.assert_allclose(ours.decision_function(X), theirs.decision_function(X), atol=5e-3)
    assert np.array_equal(ours.predict(X), ours.classes_[(ours.decision_function(X) > 0).astype(int)])


def test_ties_go_to_the_first_class():
    """Three classes in a circle of votes, and LibSVM's answer to it."""
    X = np.array([[0, 2], [2, -1], [-2, -1]], dtype=np.float32)
    probe = np.array([[0.0, 0.0], [5.0, 5.0]], dtype=np.float32)
    ours, theirs = LinearSVM(C=10.0).fit(X, [0, 1, 2]), SVC(C=10.0, kernel="linear").fit(X, [0, 1, 2])
    assert np.array_equal(ours.predict(probe), theirs.predict(probe))


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000))
def test_every_choice_is_the_best_mean_diagonal(seed):
    X, y = make_features(150, 12, seed)
    split = make_split(150, np.random.default_rng(seed).choice(np.arange(7, 150), 50, replace=False))
    costs = (1e-4, 0.1, 10.0)
    ours = LinearSVM(C=costs).fit(X, y, validation=split)
    expected = {}
    for C in costs:
        guess = LinearSVM(C=C).fit(X[split.train], y[split.train]).predict(X[split.test])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a class that was guessed but is not there
            expected[C] = balanced_accuracy_score(y[split.test], guess)
    assert ours.scores_ == pytest.approx(expected)
    assert next(C for C in costs if ours.scores_[C] == max(ours.scores_.values())) == ours.C_
    whole = LinearSVM(C=ours.C_).fit(X, y)
    assert np.array_equal(ours.decision_function(X), whole.decision_function(X))


def test_the_mean_diagonal_is_not_accuracy():
    """A rare class that only a costly error finds: accuracy prefers to ignore it, the mean diagonal does not."""
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(0, 1, (600, 2)), rng.normal(1.6, 0.7, (40, 2))]).astype(np.float32)
    y = np.repeat(["neutral", "fear"], [600, 40])
    split = make_split(640, np.arange(0, 640, 2))
    ours = LinearSVM(C=(1e-4, 1.0), class_weight=None).fit(X, y, validation=split)
    guesses = {C: LinearSVM(C=C).fit(X[split.train], y[split.train]).predict(X[split.test]) for C in (1e-4, 1.0)}
    recalls = {C: np.mean([np.mean(g[y[split.test] == c] == c) for c in ("neutral", "fear")]) for C, g in guesses.items()}
    assert ours.scores_ == pytest.approx(recalls) and ours.C_ == 1.0
    accuracies = {C: np.mean(g == y[split.test]) for C, g in guesses.items()}
    assert abs(accuracies[1.0] - accuracies[1e-4]) < 0.5 * (recalls[1.0] - recalls[1e-4])


def test_folds_are_scored_together():
    X, y = make_features(140, 20)
    order = np.random.default_rng(0).permutation(np.arange(7, 140))
    folds = [make_split(140, part, f"fold {i}") for i, part in enumerate(np.array_split(order, 3))]
    ours = RBFSVM(C=(1.0, 8.0), gamma=(0.02, 0.2)).fit(X, y, validation=folds)
    assert set(ours.scores_) == {(C, gamma) for C in (1.0, 8.0) for gamma in (0.02, 0.2)}
    guesses = [RBFSVM(C=8.0, gamma=0.2).fit(X[f.train], y[f.train]).predict(X[f.test]) for f in folds]
    truth = y[np.concatenate([f.test for f in folds])]
    assert ours.scores_[8.0, 0.2] == pytest.approx(balanced_accuracy_score(truth, np.concatenate(guesses)))
    assert ours.scores_[ours.C_, ours.gamma_] == max(ours.scores_.values())


@pytest.mark.parametrize("classifier", [LinearSVM(C=1.0), RBFSVM(C=1.0, gamma=0.1), LDANearestNeighbour()], ids=lambda c: type(c).__name__)
def test_manners_of_a_classifier(classifier):
    X, y = make_features(120, 30)
    fitted = clone(classifier).fit(X, y)
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.predict(X), fitted.predict(X)) and 0.3 < fitted.score(X, y) <= 1
    assert fitted.classes_.tolist() == sorted(BASIC)
    with pytest.raises(ValueError, match=r"X has 29 features, but \w+ is expecting 30 features"):
        fitted.predict(X[:, 1:])
    with pytest.raises(ValueError, match="at least 2 classes"):
        clone(classifier).fit(X, np.zeros(len(X)))
    with pytest.raises(NotFittedError):
        clone(classifier).predict(X)
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        clone(classifier).fit(X, X[:, 0])
    with pytest.raises(ValueError, match="NaN"):
        clone(classifier).fit(np.full_like(X, np.nan), y)


def test_a_split_goes_through_a_pipeline():
    X, y = make_features(120, 30)
    split = make_split(120, np.arange(80, 120))
    pipeline = make_pipeline(FunctionTransformer(), LinearSVM(C=(0.1, 1.0))).fit(X, y, linearsvm__validation=split)
    assert len(pipeline[-1].scores_) == 2


def test_bad_input_choice():
    X, y = make_features(60, 5)
    with pytest.raises(ValueError, match="toy is a split of 50 faces, but there are 60"):
        LinearSVM(C=(1.0, 2.0)).fit(X, y, validation=make_split(50, np.arange(10)))
    with pytest.raises(ValueError, match="no validation split"):
        LinearSVM(C=(1.0, 2.0)).fit(X, y, validation=[])
    with pytest.raises(ValueError, match="leaves nothing of fear to train on"):
        LinearSVM(C=(1.0, 2.0)).fit(X, y, validation=make_split(60, np.flatnonzero(y == "fear")))


@pytest.mark.parametrize("machine", [LinearSVM(C=0.0), LinearSVM(C=(1.0, -1.0)), LinearSVM(C=()), LinearSVM(C=np.inf)], ids=str)
def test_bad_input_cost(machine):
    with pytest.raises(ValueError, match="C must be above 0"):
        machine.fit(*make_features(30, 5))
    with pytest.raises(ValueError, match="gamma must be above 0"):
        RBFSVM(C=1.0, gamma=0.0).fit(*make_features(30, 5))


# -- discriminant analysis ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("faces", "values"), [(200, 40), (60, 90)], ids=["many faces", "few faces"])
@pytest.mark.parametrize("shrinkage", [None, 0.3, 1.0])
def test_distances_are_those_of_scikit_learn(faces, values, shrinkage):
    """A discriminant function is half the squared distance to a class's mean, and the class's share."""
    X, y = make_features(faces, values)
    test, _ = make_features(80, values, seed=1)
    ours = LDANearestNeighbour(shrinkage).fit(X, y)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=ours.shrinkage_).fit(X.astype(np.float64), y)
    means = ours.transform(np.stack([X[y == name].mean(0) for name in ours.classes_]))
    distances = np.square(ours.transform(test)[:, None] - means).sum(-1)
    found, expected = np.log(theirs.priors_) - distances / 2, theirs.decision_function(test)
    np.testing.assert_allclose(found - found[:, :1], expected - expected[:, :1], atol=1e-5 * np.abs(expected).max())
    assert ours.scalings_.shape == (values, 6)


def test_directions_are_those_of_scikit_learn():
    X, y = make_features(300, 40)
    ours, theirs = LDANearestNeighbour(0.0).fit(X, y), LinearDiscriminantAnalysis(solver="eigen").fit(X.astype(np.float64), y)
    expected = theirs.transform(X) - ours.mean_ @ theirs.scalings_[:, :6]
    signs = np.sign((ours.transform(X) * expected).sum(0))
    np.testing.assert_allclose(ours.transform(X) * signs, expected, atol=1e-6 * np.abs(expected).max())
    nearest = KNeighborsClassifier(1).fit(expected, y)
    test, _ = make_features(80, 40, seed=1)
    assert np.array_equal(ours.predict(test), nearest.predict(theirs.transform(test) - ours.mean_ @ theirs.scalings_[:, :6]))


@pytest.mark.parametrize(("faces", "values"), [(300, 20), (1500, 60), (60, 90)])
def test_shrinkage_is_that_of_ledoit_and_wolf(faces, values):
    X, y = make_features(faces, values)
    X = X.astype(np.float64)
    centred = X - np.stack([X[y == name].mean(0) for name in y])
    expected = ledoit_wolf_shrinkage(centred, assume_centered=True)
    assert 0.01 < expected < 1
    assert LDANearestNeighbour().fit(X, y).shrinkage_ == pytest.approx(expected, rel=1e-8)


def test_whitened_within_classes():
    X, y = make_features(500, 30)
    ours = LDANearestNeighbour(0.0).fit(X, y)
    points = ours.transform(X)
    within = np.concatenate([points[y == name] - points[y == name].mean(0) for name in ours.classes_])
    np.testing.assert_allclose(within.T @ within / len(X), np.eye(6), atol=1e-8)


def test_a_class_of_one_face_does_no_harm():
    X, y = make_features(200, 300)
    y = np.where(y == "fear", "neutral", y)
    y[0] = "fear"
    ours = LDANearestNeighbour().fit(X, y)
    assert np.isfinite(ours.transform(X)).all() and ours.predict(X[:1]) == ["fear"]


def test_bad_input_covariance():
    X, y = make_features(60, 90)
    with pytest.raises(ValueError, match=r"90 values within classes cannot be inverted from 60 faces with a shrinkage of 0"):
        LDANearestNeighbour(0.0).fit(X, y)
    X, y = make_features(90, 30)
    with pytest.raises(ValueError, match="cannot be inverted"):
        LDANearestNeighbour(0.0).fit(np.concatenate([X, X[:, :1]], axis=1) * 0 + np.round(X[:, :1]), y)
    with pytest.raises(ValueError, match="shrinkage must be from 0 to 1, got 2"):
        LDANearestNeighbour(2.0).fit(X, y)
    with pytest.raises(ValueError, match="all alike"):
        LDANearestNeighbour().fit(np.stack([np.full(4, BASIC.index(name)) for name in y]), y)


# -- the naive detector ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("labels", "shares"), [("uniform", [1 / 7] * 7), ("prior", None)])
def test_random_labels(labels, shares):
    X, y = make_features(3000, 2)
    naive = RandomLabelDetector(labels=labels).fit(X, y)
    drawn = np.array([np.mean(naive.predict(X) == name) for name in naive.classes_])
    shares = [np.mean(y == name) for name in naive.classes_] if shares is None else shares
    np.testing.assert_allclose(drawn, shares, atol=0.03)
    assert np.array_equal(naive.predict(X), clone(naive).fit(X, y).predict(X)), "a seed, the same labels"
    assert not np.array_equal(naive.predict(X), RandomLabelDetector(labels=labels, random_state=1).fit(X, y).predict(X))


def test_a_machine_that_learns_random_labels_knows_nothing():
    X, y = make_features(300, 40, spread=0.05)
    test, truth = make_features(2000, 40, seed=1, spread=0.05)
    machine = LinearSVM(C=1.0)
    naive = RandomLabelDetector(machine).fit(X, y)
    assert naive.estimator_ is not machine and not hasattr(machine, "svc_")
    assert balanced_accuracy_score(truth, clone(machine).fit(X, y).predict(test)) > 0.9
    assert balanced_accuracy_score(truth, naive.predict(test)) < 0.45


def test_fit_parameters_reach_the_machine():
    X, y = make_features(150, 10)
    split = make_split(150, np.arange(100, 150))
    naive = RandomLabelDetector(LinearSVM(C=(0.1, 1.0))).fit(X, y, validation=split)
    assert len(naive.estimator_.scores_) == 2


def test_bad_input_labels():
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[30, 20\]"):
        RandomLabelDetector().fit(np.zeros((30, 3)), np.zeros(20))
    with pytest.raises(ValueError, match="labels must be 'uniform' or 'prior', got 'even'"):
        RandomLabelDetector(labels="even").fit(*make_features(30, 3))


@pytest.mark.parametrize("classifier", [LDANearestNeighbour(), LinearSVM(), RBFSVM()], ids=["lda", "linear", "rbf"])
def test_scikit_learns_own_checks(classifier):
    check_estimator(classifier, on_skip=None)


@pytest.mark.parametrize("machine", [LinearSVM(), RBFSVM(gamma=(0.02, 0.2))], ids=["linear", "rbf"])
def test_parameters_are_chosen_without_a_validation_part(machine):
    X, y = make_features(150, 12)
    fitted, again = clone(machine).fit(X, y), clone(machine).fit(X, y)
    assert len(fitted.scores_) >= 6 and fitted.scores_ == again.scores_ and np.array_equal(fitted.predict(X), again.predict(X))
    assert fitted.scores_[fitted.C_ if "gamma" not in machine.get_params() else (fitted.C_, fitted.gamma_)] == max(fitted.scores_.values())
    decisions = fitted.decision_function(X)
    assert decisions.shape == (150, 7)
    assert np.mean(fitted.classes_[decisions.argmax(1)] == fitted.predict(X)) > 0.95, "but for ties of votes"


def test_a_class_of_one_face_is_trained_on():
    X, y = make_features(150, 12)
    y[y == "fear"] = "neutral"
    y[0] = "fear"
    for C in ((0.1, 1.0), 1.0):
        assert "fear" in LinearSVM(C=C).fit(X, y).classes_
    rare = np.r_[0, np.flatnonzero(y == "neutral")[:3]]
    with pytest.raises(ValueError, match="no class has 5 faces, which choosing takes: give fit a validation split"):
        LinearSVM(C=(0.1, 1.0)).fit(X[rare], y[rare])


def test_scikit_learn_searches_and_calibrates():
    X, y = make_features(200, 40, spread=0.05)
    cv = StratifiedKFold(3)
    search = GridSearchCV(RBFSVM(C=1.0), {"C": [0.1, 4.0], "gamma": [0.02, 0.2]}, scoring="balanced_accuracy", cv=cv).fit(X, y)
    reference = GridSearchCV(SVC(), {"C": [0.1, 4.0], "gamma": [0.02, 0.2]}, scoring="balanced_accuracy", cv=cv).fit(X, y)
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], reference.cv_results_["mean_test_score"], atol=0.02)
    shares = CalibratedClassifierCV(LinearSVM(C=0.1), cv=cv).fit(X, y).predict_proba(X)
    assert shares.shape == (200, 7) and np.allclose(shares.sum(1), 1)
    assert balanced_accuracy_score(y, search.classes_[shares.argmax(1)]) > 0.5

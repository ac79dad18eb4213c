import numpy as np
import pandas as pd
import pytest
from crowd_votes import simulate
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logsumexp
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from fer_utils.crowd import FLAT, ReliabilityEM, em, likelihood
from fer_utils.crowd.chunks import Held
from fer_utils.crowd.votes import encode_votes


def naive(votes, alphas, betas, classes, errors=None, priors=None):
    """The model by its definition, vote by vote: log joint of each task and class."""
    k = len(classes)
    weights = pd.Series(1.0, classes) if errors is None else errors
    priors = pd.Series(1 / k, classes) if priors is None else priors
    joint = pd.DataFrame({y: np.log(priors[y]) for y in classes}, index=votes["task"].unique())
    for task, worker, label in votes[["task", "worker", "label"]].itertuples(index=False):
        p = expit(alphas[worker] * betas[task])
        for y in classes:
            share = weights[label] / (weights.sum() - weights[y])
            joint.loc[task, y] += np.log(p) if y == label else np.log((1 - p) * share)
    return joint


def random_votes(rng, tasks, workers, classes, n):
    frame = pd.DataFrame({"task": rng.integers(0, tasks, n), "worker": rng.integers(0, workers, n), "label": rng.integers(0, classes, n)})
    return frame


@pytest.fixture(scope="module")
def crowd():
    return simulate(spammers=6)


@pytest.fixture(scope="module")
def fitted(crowd):
    return ReliabilityEM(classes=range(1, 8)).fit(crowd[0])


# -- the model --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("errors", ["uniform", "shares"])
@pytest.mark.parametrize("class_prior", ["uniform", "estimated"])
def test_posterior_and_likelihood_follow_the_definition(errors, class_prior):
    votes = simulate(tasks=40, workers=9, votes=6, classes=4, seed=3)[0]
    votes = votes[(votes["label"] != 4) | (votes.index % 2 == 0)]  # frequencies that differ
    model = ReliabilityEM(errors=errors, class_prior=class_prior).fit(votes)
    shares = None if errors == "uniform" else votes["label"].value_counts() + 1
    joint = naive(votes, model.alphas_, model.betas_, [1, 2, 3, 4], shares, model.priors_)
    total = logsumexp(joint, axis=1)
    np.testing.assert_allclose(model.probas_, np.exp(joint.to_numpy() - total[:, None])[joint.index.get_indexer(model.probas_.index)])
    np.testing.assert_allclose(model.log_likelihood_, total.sum(), rtol=1e-10)
    if class_prior == "estimated":
        assert model.priors_.std() > 0.01
        np.testing.assert_allclose(model.priors_, (model.probas_.sum() + 1) / (len(model.probas_) + 4), atol=1e-4)
    else:
        np.testing.assert_allclose(model.priors_, 0.25)


@pytest.mark.parametrize(("prior", "class_prior"), [(1.0, "uniform"), (0.5, "estimated")])
def test_objective_is_likelihood_and_priors(crowd, prior, class_prior):
    model = ReliabilityEM(prior=prior, class_prior=class_prior).fit(crowd[0])
    penalty = (((model.alphas_ / np.e - 1) ** 2).sum() + (np.log(model.betas_) ** 2).sum()) / prior**2
    counted = np.log(model.priors_).sum() if class_prior == "estimated" else 0  # one more face of each class
    np.testing.assert_allclose(model.loss_history_[-1], model.log_likelihood_ - penalty / 2 + counted, rtol=1e-10)


@pytest.mark.parametrize(("errors", "reach"), [("uniform", 1.0), ("shares", 1.0), ("uniform", 1e4)])  # the last steps too far: refused
def test_gradients_match_finite_differences(errors, reach):
    coded = encode_votes(simulate(tasks=12, workers=5, votes=4, classes=3, seed=1, spammers=1)[0])
    rng = np.random.default_rng(0)
    weights = np.array([5.0, 1.0, 2.0]) if errors == "shares" else np.ones(3)
    errors = likelihood.log_error_shares(weights)
    rules = likelihood.Rules(rng.normal(0.5, 1, 5), np.log([0.5, 0.2, 0.3]), errors, 0.25, "gradient", "agreement")
    source = Held(coded)
    start = likelihood.State(rng.normal(0, 0.5, 12), np.full(12, reach))
    sweep = likelihood.add_sweeps(source.map(lambda b, s: likelihood.sweep_chunk(b, s, rules), start))
    assert (sweep.state.log_betas == start.log_betas).any() == (reach > 1)
    posterior, _ = next(source.map(lambda b, s: likelihood.find_posterior(b, s, rules), sweep.state))
    np.testing.assert_allclose(sweep.mass, posterior.sum(axis=0))

    def evidence(alphas, log_betas):
        state = likelihood.State.start(log_betas)
        return next(source.map(lambda b, s: likelihood.find_posterior(b, s, rules._replace(alphas=alphas)), state))[1]

    h, log_betas = 1e-5, sweep.state.log_betas
    slopes = [(evidence(rules.alphas + d, log_betas) - evidence(rules.alphas - d, log_betas)) / (2 * h) for d in h * np.eye(5)]
    np.testing.assert_allclose(sweep.gradient, slopes, rtol=1e-6, atol=1e-6)

    (block,) = source._blocks
    reliability = rules.alphas[block.workers]
    now = likelihood._expect(block, log_betas, reliability, rules)
    moved = likelihood._step_betas(block, now, reliability, likelihood.State(log_betas, np.full(12, 1e-3)), rules)
    gradient = (np.exp(moved) - np.exp(log_betas)) / 1e-3 * block.counts  # in beta, with the prior on log beta
    slopes = [(evidence(rules.alphas, log_betas + d) - evidence(rules.alphas, log_betas - d)) / (2 * h) for d in h * np.eye(12)]
    np.testing.assert_allclose(gradient * np.exp(log_betas), np.array(slopes) - 0.25 * log_betas, rtol=1e-6, atol=1e-6)


def test_newton_ends_where_the_gradient_is_zero(crowd, fitted):
    votes = crowd[0]
    p = expit(fitted.alphas_[votes["worker"]].to_numpy() * fitted.betas_[votes["task"]].to_numpy())
    q = fitted.probas_.to_numpy()[fitted.probas_.index.get_indexer(votes["task"]), votes["label"] - 1]
    pull = (q - p) * fitted.betas_[votes["task"]].to_numpy()
    slope = pd.Series(pull).groupby(votes["worker"].to_numpy()).sum() - (fitted.alphas_.sort_index() / np.e - 1) / np.e
    scale = pd.Series(np.abs(pull)).groupby(votes["worker"].to_numpy()).sum()
    assert (slope.abs() < 1e-3 * scale).all()


# -- climbing -----------------------------------------------------------------------------------------------------------------

OPTIONS = st.fixed_dictionaries({
    "prior": st.sampled_from([0.5, 1.0, FLAT]), "init": st.sampled_from(["agreement", "entropy", "summed entropy", "prior"]),
    "errors": st.sampled_from(["uniform", "shares"]), "class_prior": st.sampled_from(["uniform", "estimated"]),
    "m_step": st.sampled_from(["newton", "gradient"]),
})


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 6), st.integers(2, 5), st.integers(1, 60), OPTIONS)
def test_objective_never_falls(seed, tasks, workers, classes, n, options):
    votes = random_votes(np.random.default_rng(seed), tasks, workers, classes, n)
    model = ReliabilityEM(classes=range(classes), max_iter=60, **options).fit(votes)
    assert (np.diff(model.loss_history_) >= 0).all()
    assert np.isfinite(model.alphas_).all() and (model.betas_ > 0).all() and np.isfinite(model.betas_).all()
    np.testing.assert_allclose(model.probas_.sum(axis=1), 1)
    assert model.n_iter_ == len(model.loss_history_) <= 60


def test_scale_does_not_change_the_likelihood_but_the_priors_choose_it(fitted):
    def prior(c):
        return -((fitted.alphas_ * c / np.e - 1) ** 2).sum() - (np.log(fitted.betas_ / c) ** 2).sum()

    assert prior(1.0) > max(prior(0.99), prior(1.01))
    assert abs(np.log(fitted.betas_).mean()) < 0.2, "with 300 faces and 40 annotators the betas decide"


def test_changing_the_scale_keeps_the_model():
    rng = np.random.default_rng(0)
    alphas, log_betas = rng.normal(0.3, 0.2, 5), rng.normal(1.0, 0.5, 50)
    at_rest = (alphas / likelihood.CENTRE - 1) / likelihood.CENTRE  # a likelihood that pulls as much as the prior: no step in alpha
    point = em._Point(alphas, np.log([0.5, 0.5]), log_betas, np.ones(50), at_rest, np.ones(5), np.array([25.0, 25.0]), np.array(1.0))
    moved, _, state = ReliabilityEM()._move(point, np.ones(5))
    np.testing.assert_allclose(np.outer(moved, np.exp(state.log_betas)), np.outer(alphas, np.exp(log_betas)))
    assert abs(state.log_betas.mean()) < 0.1 < log_betas.mean()


def test_plain_gradient_ascent_ends_at_the_same_place(crowd, fitted):
    slow = ReliabilityEM(classes=range(1, 8), m_step="gradient", max_iter=3000).fit(crowd[0])
    assert slow.n_iter_ > 3 * fitted.n_iter_
    np.testing.assert_allclose(slow.alphas_, fitted.alphas_, atol=0.03)
    assert (slow.labels_ == fitted.labels_).mean() > 0.99


def test_steps_are_told(crowd):
    steps = []
    model = ReliabilityEM().fit(crowd[0], on_step=steps.append)
    assert [step.iteration for step in steps] == list(range(1, model.n_iter_ + 1))
    assert [step.objective for step in steps] == model.loss_history_
    np.testing.assert_array_equal(steps[-1].alphas, model.alphas_)
    assert steps[0].change == np.inf and steps[-1].change < steps[1].change
    assert steps[-1].change == pytest.approx(np.abs(steps[-1].alphas - steps[-2].alphas).max())


def test_too_few_iterations_warn(crowd):
    with pytest.warns(ConvergenceWarning, match="max_iter=2"):
        model = ReliabilityEM(max_iter=2).fit(crowd[0])
    assert model.n_iter_ == 2


# -- what it finds ------------------------------------------------------------------------------------------------------------


def test_truth_is_recovered():
    votes, alphas, betas, truth = simulate(tasks=2000, workers=40, votes=7, spammers=12, seed=5)
    model = ReliabilityEM().fit(votes)
    assert np.corrcoef(model.alphas_[alphas.index], alphas)[0, 1] > 0.97
    assert np.corrcoef(np.log(model.betas_[betas.index]), np.log(betas))[0, 1] > 0.5
    counts = votes.groupby(["task", "label"]).size().unstack(fill_value=0)
    right = (model.labels_[truth.index] == truth).mean()
    majority = (counts.idxmax(axis=1)[truth.index] == truth).mean()
    assert right > majority + 0.02, (right, majority)


def test_disputed_faces_are_less_clear(crowd, fitted):
    counts = crowd[0].groupby(["task", "label"]).size().unstack(fill_value=0)
    share = (counts.max(axis=1) / counts.sum(axis=1))[fitted.betas_.index]
    assert np.corrcoef(share, np.log(fitted.betas_))[0, 1] > 0.7


def test_as_printed_starts_at_the_entropy():
    votes = pd.DataFrame({"task": list("aaaabbbb"), "worker": [1, 2, 3, 4] * 2, "label": [1, 1, 1, 1, 1, 1, 2, 3]})
    (block,) = Held(encode_votes(votes))._blocks
    first = np.exp(likelihood._first_betas(block, "entropy"))
    np.testing.assert_allclose(first, [likelihood._LOWEST_START, -(0.5 * np.log(0.5) + 0.5 * np.log(0.25))])
    assert ReliabilityEM.as_printed().init == "entropy"
    summed = np.exp(likelihood._first_betas(block, "summed entropy"))
    votes = [0.5, 0.5, 0.25, 0.25]  # the share of each vote's label on the second face
    np.testing.assert_allclose(summed, [likelihood._LOWEST_START, -sum(p * np.log(p) for p in votes)])
    agreement = np.exp(likelihood._first_betas(block, "agreement"))
    np.testing.assert_allclose(agreement, [np.log(5), 0.1])  # log(3/3) is no clarity: the least is taken


def test_as_printed_climbs_and_unanimous_faces_are_not_stuck(crowd):
    votes = pd.concat([crowd[0], pd.DataFrame({"task": "same", "worker": range(20), "label": 3})])
    with pytest.warns(ConvergenceWarning):
        printed = ReliabilityEM.as_printed(max_iter=200, classes=range(1, 8)).fit(votes)
    assert printed.get_params()["prior"] == FLAT and printed.get_params()["m_step"] == "gradient"
    assert (np.diff(printed.loss_history_) >= 0).all()
    assert printed.betas_["same"] > 1 and printed.probas_.loc["same", 3] > 0.999


def test_the_sum_over_annotators_starts_too_far_for_plain_steps():
    votes, _, _, truth = simulate(tasks=100, votes=40, spammers=6)
    plain = ReliabilityEM.as_printed(init="summed entropy", classes=range(1, 8), tol=1e-6, max_iter=3000).fit(votes)
    assert (plain.alphas_ < 0).all() and (plain.labels_[truth.index] == truth).mean() < 0.05
    newton, other = (ReliabilityEM(init=init, classes=range(1, 8)).fit(votes) for init in ("summed entropy", "agreement"))
    assert newton.loss_history_[-1] == pytest.approx(other.loss_history_[-1]) and plain.log_likelihood_ < 2 * newton.log_likelihood_


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # in its use of pandas
def test_glad_agrees(crowd):
    GLAD = pytest.importorskip("crowdkit.aggregation").GLAD
    votes = crowd[0][crowd[0]["task"] < "t0060"]
    ours, glad = ReliabilityEM().fit(votes), GLAD(n_iter=2, m_step_max_iter=8).fit(votes)
    assert (ours.labels_ == glad.labels_[ours.labels_.index]).mean() > 0.97
    assert np.corrcoef(ours.alphas_, glad.alphas_[ours.alphas_.index])[0, 1] > 0.97
    # GLAD's parameters, its betas being logarithms, are a point of our space with the same prior: it may not beat our maximum.
    alphas, logs = glad.alphas_, glad.betas_
    penalty = ((alphas - 1) ** 2).sum() + ((logs - 1) ** 2).sum()
    theirs = logsumexp(naive(votes, alphas, np.exp(logs), range(1, 8)), axis=1).sum() - penalty / 2
    assert ours.loss_history_[-1] - 20 < theirs < ours.loss_history_[-1]


# -- symmetries -----------------------------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.permutations(range(1, 5)), st.permutations(range(12)), st.sampled_from(["uniform", "shares"]))
def test_naming_does_not_matter(seed, names, people, errors):
    votes = simulate(tasks=40, workers=12, votes=8, classes=4, seed=seed)[0]
    faces, workers = dict(zip(range(1, 5), names, strict=True)), dict(enumerate(people))
    other = pd.DataFrame({
        "task": votes["task"].str.upper(), "worker": votes["worker"].map(workers), "label": votes["label"].map(faces), "more": 1,
    })
    base = ReliabilityEM(errors=errors, classes=range(1, 5)).fit(votes)
    model = ReliabilityEM(errors=errors, classes=range(1, 5)).fit(other)
    np.testing.assert_allclose(model.alphas_, base.alphas_, atol=1e-6)
    assert model.alphas_.index.tolist() == base.alphas_.index.map(workers).tolist()
    np.testing.assert_allclose(model.probas_[[faces[k] for k in range(1, 5)]], base.probas_, atol=1e-6)
    sure = np.diff(np.sort(base.probas_.to_numpy(), axis=1)[:, -2:]).ravel() > 1e-5  # a tie goes to the first name
    np.testing.assert_array_equal(model.labels_[sure], base.labels_[sure].map(faces))


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_order_does_not_matter(seed):
    votes = simulate(tasks=60, workers=12, votes=8, seed=2)[0]
    model, shuffled = ReliabilityEM().fit(votes), ReliabilityEM().fit(votes.sample(frac=1, random_state=seed))
    np.testing.assert_allclose(shuffled.alphas_[model.alphas_.index], model.alphas_, atol=1e-6)
    np.testing.assert_allclose(shuffled.betas_[model.betas_.index], model.betas_, rtol=1e-4)
    pd.testing.assert_series_equal(shuffled.labels_[model.labels_.index], model.labels_)


def test_a_vote_that_comes_twice_counts_twice(crowd, fitted):
    twice = ReliabilityEM(classes=range(1, 8)).fit(pd.concat([crowd[0], crowd[0]]))
    assert (twice.labels_ == fitted.labels_[twice.labels_.index]).mean() > 0.99
    assert np.corrcoef(twice.alphas_, fitted.alphas_)[0, 1] > 0.99
    assert twice.probas_.max(axis=1).mean() > fitted.probas_.max(axis=1).mean(), "twice the votes, twice as sure"
    small = crowd[0][crowd[0]["task"] < "t0010"]
    joint = naive(small, twice.alphas_, twice.betas_, range(1, 8))
    doubled = 2 * (joint + np.log(7)) - np.log(7)
    np.testing.assert_allclose(twice.probas_.loc[joint.index], np.exp(doubled.sub(logsumexp(doubled, axis=1), axis=0)), atol=1e-9)


# -- doors ----------------------------------------------------------------------------------------------------------------------


def test_arrays_and_frames_agree(crowd, fitted):
    coded = encode_votes(crowd[0], range(1, 8))
    model = ReliabilityEM(classes=range(1, 8)).fit_arrays(coded.task, coded.worker, coded.label)
    np.testing.assert_array_equal(model.alphas_, fitted.alphas_)
    np.testing.assert_array_equal(model.probas_, fitted.probas_)
    assert model.labels_.tolist() == fitted.labels_.tolist() and model.betas_.index.tolist() == list(range(300))
    bare = ReliabilityEM().fit_arrays(coded.task, coded.worker.astype(np.uint8), coded.label)
    assert bare.probas_.columns.tolist() == list(range(7))


def test_a_worker_code_without_votes_gets_the_prior():
    model = ReliabilityEM().fit_arrays(np.array([0, 0, 1]), np.array([0, 2, 2]), np.array([0, 1, 1]))
    assert model.alphas_.index.tolist() == [0, 1, 2] and model.alphas_[1] == pytest.approx(np.e, abs=0.5)


def test_shapes_and_names(crowd, fitted):
    assert fitted.alphas_.index.name == "worker" and fitted.betas_.index.name == fitted.labels_.index.name == "task"
    assert fitted.probas_.columns.tolist() == list(range(1, 8)) and fitted.probas_.shape == (300, 7)
    np.testing.assert_array_equal(fitted.labels_, fitted.probas_.idxmax(axis=1))
    assert ReliabilityEM().fit_predict(crowd[0]).equals(fitted.labels_)
    assert ReliabilityEM().fit_predict_proba(crowd[0]).equals(fitted.probas_)
    assert clone(ReliabilityEM(prior=2.0, m_step="gradient")).get_params()["prior"] == 2.0


def test_predicting_what_was_fitted(crowd, fitted):
    np.testing.assert_allclose(fitted.predict_proba(crowd[0]), fitted.probas_, atol=1e-6)


def test_predicting_new_faces_weighs_the_voters(crowd, fitted):
    new, _, _, truth = simulate(seed=0, spammers=6, tasks=300)
    new = new.assign(task="new " + new["task"])
    assert (fitted.predict(new).to_numpy() == truth.to_numpy()).mean() > 0.97
    best, worst = fitted.alphas_.nlargest(2).index, fitted.alphas_.nsmallest(3).index
    duel = pd.DataFrame({"task": "duel", "worker": [*best, *worst], "label": [1, 1, 2, 2, 2]})
    assert fitted.predict(duel)["duel"] == 1, "two good annotators outweigh three bad ones"
    with pytest.raises(ValueError, match="nothing is known of worker 'stranger'"):
        fitted.predict(duel.assign(worker=duel["worker"].astype(object).where(duel.index > 0, "stranger")))
    with pytest.raises(ValueError, match="label 9 is no class"):
        fitted.predict(duel.assign(label=9))
    with pytest.raises(NotFittedError):
        ReliabilityEM().predict(duel)


# -- degenerate crowds ------------------------------------------------------------------------------------------------------------


def frame(*rows):
    return pd.DataFrame(rows, columns=["task", "worker", "label"])


def test_one_annotator_is_believed():
    model = ReliabilityEM().fit(frame(("a", "x", 1), ("b", "x", 2), ("c", "x", 2)))
    assert model.labels_.tolist() == [1, 2, 2] and model.alphas_["x"] > 0
    assert (model.probas_.max(axis=1) < 0.99).all(), "one vote leaves doubt"


def test_one_class_needs_the_others_named():
    votes = frame(("a", "x", 1), ("a", "y", 1), ("b", "x", 1))
    with pytest.raises(ValueError, match="every vote is for 1, and one class leaves nothing to decide; expected the other classes by name"):
        ReliabilityEM().fit(votes)
    model = ReliabilityEM(classes=[1, 2]).fit(votes)
    assert model.labels_.tolist() == [1, 1] and (model.probas_[2] > 0).all()


@pytest.mark.parametrize("prior", [1.0, FLAT])
def test_a_unanimous_crowd(prior):
    votes = pd.DataFrame([(t, w, t % 3) for t in range(30) for w in range(10)], columns=["task", "worker", "label"])
    model = ReliabilityEM(prior=prior).fit(votes)
    assert model.labels_.tolist() == [t % 3 for t in range(30)]
    assert np.isfinite(model.alphas_).all() and (model.alphas_ > 0).all() and np.ptp(model.alphas_) < 1e-6


def test_in_a_crowd_of_guessers_at_most_one_is_believed():
    rng = np.random.default_rng(0)
    votes = pd.DataFrame({"task": np.repeat(np.arange(400), 10), "worker": np.tile(np.arange(10), 400), "label": rng.integers(0, 4, 4000)})
    model = ReliabilityEM().fit(votes)
    assert (model.alphas_ > 0).sum() <= 1, "nobody contradicts a guesser better than by guessing, so one may pass for the truth"
    assert np.isfinite(model.probas_).all(axis=None)


def test_one_vote_of_an_annotator_says_little(crowd):
    votes = pd.concat([crowd[0], frame(("t0000", "new", 1), ("lone", 20, 5))], ignore_index=True)
    model = ReliabilityEM().fit(votes)
    assert model.alphas_.min() < model.alphas_["new"] < model.alphas_.max()
    assert model.labels_["lone"] == 5 and model.probas_.loc["lone", 5] < 0.999


def test_ties_go_to_the_first_class():
    model = ReliabilityEM().fit(frame(("a", "x", "no"), ("a", "y", "yes"), ("b", "x", "yes"), ("b", "y", "no")))
    assert model.labels_.tolist() == ["no", "no"]
    np.testing.assert_allclose(model.probas_, 0.5)


def test_labels_that_cannot_be_sorted():
    model = ReliabilityEM().fit(frame(("a", "x", "fear"), ("a", "y", "fear"), ("b", "x", 3), ("b", "y", 3)))
    assert model.labels_.tolist() == ["fear", 3]


@pytest.mark.parametrize(
    ("votes", "message"),
    [
        (frame(), "votes are empty; expected one row a vote"),
        (frame(("a", "x", 1), ("a", "y", None)), "row 1 has no label; expected a task, a worker and a label in each row"),
        (frame(("a", "x", 1), ("a", np.nan, 2)), "row 1 has no worker"),
        (frame((None, "x", 1), ("a", "y", 2)), "row 0 has no task"),
        (frame(("a", "x", 1), ("a", "y", 2)).rename(columns={"label": "vote"}), "no column 'label' .columns: task, worker, vote."),
        ([("a", "x", 1)], "must be a pandas.DataFrame with the columns task, worker, label, got list"),
    ],
)
def test_what_is_no_frame_of_votes(votes, message):
    with pytest.raises(ValueError, match=message):
        ReliabilityEM().fit(votes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": [1, 1, 2]}, "classes must differ"),
        ({"classes": [1, 3]}, "label 2 is no class; expected one of 1, 3"),
        ({"prior": 0}, "prior must be a width above 0, got 0"),
        ({"prior": None}, "prior must be a width above 0, got None"),
        ({"init": "zero"}, "init must be one of agreement, entropy, summed entropy, prior, got 'zero'"),
        ({"errors": "x"}, "errors must be one of uniform, shares"),
        ({"class_prior": "x"}, "class_prior must be one of uniform, estimated"),
        ({"m_step": "x"}, "m_step must be one of newton, gradient"),
        ({"tol": -1}, "tol must be 0 or more"),
        ({"max_iter": 0}, "max_iter 1 or more"),
    ],
)
def test_what_is_no_option(options, message):
    with pytest.raises(ValueError, match=message):
        ReliabilityEM(**options).fit(frame(("a", "x", 1), ("a", "y", 2)))


@pytest.mark.parametrize(
    ("task", "worker", "label", "message"),
    [
        ([0, 1], [0, 0], [0], "label has 1 entries and task 2"),
        ([], [], [], "task must be whole numbers"),
        (np.array([], int), np.array([], int), np.array([], int), "task has 0 entries"),
        ([0, 1], [0, -1], [0, 1], "worker must be codes from 0, got -1"),
        ([0, 2], [0, 0], [0, 1], "task 1 has no vote; expected all codes from 0 to 2"),
        ([0, 1], [0, 0], [0.0, 1.0], "label must be whole numbers in one row, got float64"),
        ([0, 1], [0, 0], [0, 0], "one class leaves nothing to decide"),
    ],
)
def test_what_is_no_code(task, worker, label, message):
    with pytest.raises(ValueError, match=message):
        ReliabilityEM().fit_arrays(task, worker, label)


def test_codes_beyond_the_classes():
    with pytest.raises(ValueError, match="label 2 is no class; expected one of 0, 1"):
        ReliabilityEM(classes=["a", "b"]).fit_arrays([0, 1], [0, 0], [0, 2])

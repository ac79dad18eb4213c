"""Probes find what features hold, and chance where they hold nothing."""

import numpy as np
import pytest

from fer_utils.probes import fit_probe, probe_identity, probe_labels, weigh_recall

PEOPLE = np.repeat(np.arange(40), 4)


def test_features_that_name_the_person_are_found_out():
    rng = np.random.default_rng(0)
    features = np.eye(40)[PEOPLE] + 0.05 * rng.standard_normal((160, 40))
    right = probe_identity(features, PEOPLE)
    assert np.nanmean(right) == 1 and np.isnan(right).sum() == 80


def test_noise_gives_chance():
    rng = np.random.default_rng(0)
    found = [np.nanmean(probe_identity(rng.standard_normal((160, 30)), PEOPLE)) for _ in range(5)]
    assert np.mean(found) < 3 / 40
    labels = (PEOPLE // 2) % 2
    chance = [np.nanmean(probe_labels(rng.standard_normal((160, 30)), labels, PEOPLE)) for _ in range(5)]
    assert abs(np.mean(chance) - 0.5) < 0.1


def test_knowing_the_person_does_not_help_with_the_gender():
    """Whoever is tested is not trained on, so that features which name people say nothing of other people."""
    labels = np.random.default_rng(0).permutation(40)[PEOPLE] % 2
    assert np.nanmean(probe_identity(np.eye(40)[PEOPLE], PEOPLE)) == 1
    assert np.nanmean(probe_labels(np.eye(40)[PEOPLE], labels, PEOPLE)) == pytest.approx(0.5, abs=0.05)
    assert np.nanmean(probe_labels(np.eye(2)[labels], labels, PEOPLE)) == pytest.approx(1)


def test_unknown_labels_are_left_out():
    labels = np.where(PEOPLE == 1, -1, (PEOPLE // 2) % 2)
    found = probe_labels(np.eye(2)[(PEOPLE // 2) % 2], labels, PEOPLE)
    assert np.isnan(found[PEOPLE == 1]).all() and np.isnan(found[PEOPLE % 2 == 0]).all()
    words = np.array(["", "a", "b"])[labels + 1]
    np.testing.assert_array_equal(found, probe_labels(np.eye(2)[(PEOPLE // 2) % 2], words, PEOPLE))


def test_the_mean_of_the_weights_is_the_mean_recall():
    truth, guess = np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 0, 1, 1, 0])
    assert weigh_recall(truth, guess).mean() == pytest.approx((3 / 4 + 1 / 2) / 2)


def test_scale_and_place_of_features_do_not_matter():
    rng = np.random.default_rng(1)
    features, labels = rng.standard_normal((60, 5)), np.arange(60) % 3
    features += 0.8 * np.eye(5)[labels]
    plain = fit_probe(features[:40], labels[:40], features[40:])
    np.testing.assert_array_equal(plain, fit_probe(1e3 * features[:40] + 7, labels[:40], 1e3 * features[40:] + 7))


def test_errors_say_what_was_expected():
    with pytest.raises(ValueError, match="needs two faces of each person, but 2 has 1"):
        probe_identity(np.eye(5), np.array([0, 0, 1, 1, 2]))
    with pytest.raises(ValueError, match="needs at least 2 classes, got 1"):
        fit_probe(np.eye(2), np.zeros(2), np.eye(2))

"""A stated probability must be how often the model is right."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from keras_finegrain.metrics import (
    expected_calibration_error,
    fit_temperature,
    reliability_bins,
)

pytestmark = pytest.mark.one_backend


def drawn(samples=400, classes=5, temperature=1.0, seed=0):
    """Scores whose softmax, at this temperature, draws the labels."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 2, (samples, classes))
    shares = softmax(scores, axis=1).cumsum(axis=1)
    labels = (rng.random((samples, 1)) > shares).sum(axis=1)
    return scores * temperature, labels


def test_the_error_is_that_of_the_formula_bin_by_bin():
    scores, labels = drawn(temperature=3)
    rows = softmax(scores, axis=1)
    confidence = rows.max(axis=1)
    right = rows.argmax(axis=1) == labels

    error = 0.0
    for i in range(7):
        inside = (confidence > i / 7) & (confidence <= (i + 1) / 7)
        if inside.any():
            gap = abs(right[inside].mean() - confidence[inside].mean())
            error += inside.mean() * gap

    assert expected_calibration_error(rows, labels, 7) == pytest.approx(error)


def test_a_model_that_is_sure_and_right_has_no_error_and_wrong_all():
    sure = np.eye(3)

    assert expected_calibration_error(sure, [0, 1, 2]) == 0
    assert expected_calibration_error(sure, [1, 2, 0]) == 1


def test_empty_bins_are_nan_and_every_sample_is_in_one():
    rows = [[0.5, 0.5], [1.0, 0.0], [0.6, 0.4]]

    found = reliability_bins(rows, np.eye(2)[[0, 0, 1]], bins=10)

    # 0.5 and 0.6 are limits, which belong to the bin below.
    assert found.counts.tolist() == [0] * 4 + [1, 1, 0, 0, 0, 1]
    np.testing.assert_array_equal(
        found.accuracy, [np.nan] * 4 + [1, 0] + [np.nan] * 3 + [1]
    )
    np.testing.assert_allclose(found.confidence[[4, 5, 9]], [0.5, 0.6, 1])


@pytest.mark.parametrize("temperature", [0.02, 1.0, 50.0])
def test_the_temperature_is_the_one_with_the_least_cross_entropy(temperature):
    scores, labels = drawn(temperature=temperature)

    def cross_entropy(log_t):
        rows = log_softmax(scores / np.exp(log_t), axis=1)
        return -rows[np.arange(len(labels)), labels].mean()

    best = minimize_scalar(
        cross_entropy, bounds=np.log([1e-3, 1e3]), options={"xatol": 1e-9}
    )

    found = fit_temperature(scores, labels)

    assert found == pytest.approx(np.exp(best.x), rel=1e-4)
    assert found == pytest.approx(temperature, rel=0.2)


def test_a_temperature_makes_the_probabilities_of_other_samples_hold():
    scores, labels = drawn(2000, temperature=6)
    t = fit_temperature(scores[:1000], labels[:1000])

    before, after = (
        expected_calibration_error(
            softmax(scores[1000:] / t, axis=1), labels[1000:]
        )
        for t in (1.0, t)
    )

    assert after < 0.06 < before / 3


def test_n_right_samples_support_no_more_than_n_plus_1_of_n_plus_2():
    scores = 5 * np.eye(3).repeat(6, axis=0)
    labels = np.arange(3).repeat(6)

    rows = softmax(scores / fit_temperature(scores, labels), axis=1)

    assert rows.max(axis=1).mean() == pytest.approx(19 / 20, rel=1e-6)


def test_a_constant_of_a_row_changes_nothing_and_a_scale_its_own():
    scores, labels = drawn()
    shift = np.random.default_rng(1).normal(0, 100, (len(scores), 1))

    t = fit_temperature(scores, labels)

    assert fit_temperature(scores + shift, labels) == pytest.approx(t)
    assert fit_temperature(1e-8 * scores, labels) == pytest.approx(1e-8 * t)


def test_scores_that_know_nothing_have_no_temperature():
    for scores in (np.ones((4, 2)), [[0.0, 1.0]] * 4):
        with pytest.raises(ValueError, match=r"fit_temperature.*order of the"):
            fit_temperature(scores, [0, 0, 0, 0])


@pytest.mark.parametrize(
    ("rows", "labels", "said"),
    [
        ([[2.0, 1.0]], [0], "probabilities must be rows.*sum of 3.*softmax"),
        ([[1.5, -0.5]], [0], "probabilities .*minimum of -0.5"),
        ([[np.nan, 1.0]], [0], "probabilities must be rows"),
        ([0.5, 0.5], [0], r"probabilities must have the shape.*\(2,\)"),
        ([[0.5, 0.5]], [2], r"labels must lie in \[0, 2\).*maximum of 2"),
        ([[0.5, 0.5]], [0, 1], "labels"),
    ],
)
def test_what_is_no_probability_is_refused(rows, labels, said):
    with pytest.raises(ValueError, match=f"expected_calibration_error: {said}"):
        expected_calibration_error(rows, labels)
    with pytest.raises(ValueError, match="reliability_bins: bins"):
        reliability_bins([[1.0, 0.0]], [0], bins=0)


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="fit_temperature: scores must be fin"):
        fit_temperature([[0.0, -np.inf]], [0])

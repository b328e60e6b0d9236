"""The shares of pairs must be exact, ties included."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from keras_finegrain.metrics import open_set

pytestmark = pytest.mark.one_backend


def drawn(decimals, seed=0, known=60, unknown=45):
    """Scores that overlap, rounded so that many are equal."""
    rng = np.random.default_rng(seed)
    return (
        np.round(rng.normal(1, 1, known), decimals),
        np.round(rng.normal(0, 1, unknown), decimals),
        rng.random(known) < 0.7,
    )


@pytest.mark.parametrize("decimals", [0, 1, 15])
def test_values_are_those_of_all_pairs_and_of_scikit_learn(decimals):
    known, unknown, correct = drawn(decimals)
    is_known = np.arange(len(known) + len(unknown)) < len(known)

    found = open_set(known, unknown, correct, resamples=1)

    assert found["auroc"].value == pytest.approx(
        roc_auc_score(is_known, np.concatenate([known, unknown])), abs=1e-12
    )
    wins = np.heaviside(known[:, None] - unknown, 0.5)
    assert found["oscr"].value == pytest.approx(
        np.mean(wins * correct[:, None]), abs=1e-12
    )
    strictest = max(t for t in known if np.mean(known >= t) >= 0.95)
    assert found["fpr_at_95"].value == np.mean(unknown >= strictest)


def test_oscr_is_the_area_under_the_curve_of_dhamija():
    known, unknown, correct = drawn(decimals=1)
    thresholds = [np.inf, *sorted({*known, *unknown}, reverse=True)]
    ccr = [np.mean((known >= t) & correct) for t in thresholds]
    fpr = [np.mean(unknown >= t) for t in thresholds]

    found = open_set(known, unknown, correct, resamples=1)

    area = np.sum(np.diff(fpr) * (np.array(ccr[1:]) + ccr[:-1]) / 2)
    assert found["oscr"].value == pytest.approx(area)


def test_95_percent_are_accepted_however_the_product_is_rounded():
    # 0.95 * 20 is 19 and 0.95 * 40 is 38, exactly.
    for size in (20, 40, 60, 180, 300):
        known = np.arange(size, dtype=float)
        least = known[size // 20]

        found = open_set(known, [least, least - 0.5], resamples=1)

        assert found["fpr_at_95"].value == 0.5


def test_a_perfect_score_is_1_and_its_reverse_0():
    assert open_set([2, 3], [0, 1], [1, 1])["oscr"] == (1, 1, 1)
    assert open_set([2, 3], [0, 1])["auroc"] == (1, 1, 1)
    assert open_set([0, 1], [2, 3])["auroc"] == (0, 0, 0)
    assert open_set([1, 1], [1, 1], [1, 0])["oscr"].value == 0.25


def test_intervals_contain_the_value_of_the_population_as_often_as_they_say():
    inside = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        known, unknown = rng.normal(1, 1, 80), rng.normal(0, 1, 80)
        found = open_set(known, unknown, resamples=200)["auroc"]
        # P(known > unknown) of two normals one deviation apart.
        inside.append(found.low <= 0.7602 <= found.high)
        assert found.low <= found.value <= found.high

    assert 0.85 <= np.mean(inside) <= 1


def test_wider_intervals_are_more_certain_and_a_seed_repeats_them():
    known, unknown, _ = drawn(decimals=2)

    narrow, wide = (
        open_set(known, unknown, confidence=share)["auroc"]
        for share in (0.5, 0.99)
    )

    assert wide.low < narrow.low < narrow.high < wide.high
    assert open_set(known, unknown) == open_set(known, unknown, seed=0)


def test_without_classes_there_is_no_oscr():
    assert list(open_set([1.0], [0.0])) == ["auroc", "fpr_at_95"]
    assert list(open_set([1.0], [0.0], [True])) == [
        "auroc",
        "fpr_at_95",
        "oscr",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([], [1.0]), r"known_scores must have the shape.*received \(0,\)"),
        (([1.0], [[1.0]]), r"unknown_scores .*received \(1, 1\).*highest"),
        (([1.0], [np.nan]), "unknown_scores must be finite, received nan at"),
        (([1.0, 2], [0.0], [True]), "known_correct .*2 known.*labels"),
        (([1.0, 2], [0.0], [1, 2]), "known_correct must be one bool"),
    ],
)
def test_what_is_no_score_is_refused(arguments, said):
    with pytest.raises(ValueError, match=f"open_set: {said}"):
        open_set(*arguments)


@pytest.mark.parametrize(
    "argument", [{"confidence": 1}, {"resamples": 0}, {"seed": -1}]
)
def test_arguments_out_of_their_range_are_refused(argument):
    with pytest.raises(ValueError, match=f"open_set: {next(iter(argument))}"):
        open_set([1.0], [0.0], **argument)

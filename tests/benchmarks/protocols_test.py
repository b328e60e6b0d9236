"""No photo that is tested may be trained on, and the draws must not change."""

import numpy as np
import pytest
from protocols import PROTOCOLS, metrics, predictions, split
from sklearn.metrics import roc_auc_score

from keras_finegrain.metrics import recall_at_k

pytestmark = pytest.mark.one_backend

# As of the sparrows: 21 classes of 200, some more common than others.
LABELS = np.random.default_rng(0).permutation(
    np.repeat(np.arange(112, 133), 58 + np.arange(21) % 3)
)
IS_TEST = np.arange(len(LABELS)) % 2 == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_tested_photo_is_trained_on_and_every_label_has_its_class(protocol):
    for seed in range(6):
        of_seed = split(protocol, LABELS, IS_TEST, seed)

        assert not np.intersect1d(of_seed.train, of_seed.tested).size
        assert len(np.unique(of_seed.tested)) == len(of_seed.tested)
        np.testing.assert_array_equal(
            of_seed.classes, np.unique(LABELS[of_seed.train])
        )
        assert of_seed.crop_to_boxes == (protocol == "boxes")
        assert len(of_seed.unknown) == 0 or protocol == "open_set"


@pytest.mark.parametrize("protocol", ["closed", "boxes"])
def test_the_official_split_is_kept_whatever_the_seed(protocol):
    for seed in (0, 3):
        official = split(protocol, LABELS, IS_TEST, seed)

        np.testing.assert_array_equal(official.train, np.flatnonzero(~IS_TEST))
        np.testing.assert_array_equal(official.test, np.flatnonzero(IS_TEST))


def test_tuning_never_sees_a_test_photo():
    for seed in range(5):
        fold = split("cv", LABELS, IS_TEST, seed)

        assert not IS_TEST[fold.train].any()
        assert not IS_TEST[fold.test].any()


def test_five_seeds_test_each_training_photo_once_and_each_class_evenly():
    folds = [split("cv", LABELS, IS_TEST, seed) for seed in range(5)]

    np.testing.assert_array_equal(
        np.sort(np.concatenate([fold.test for fold in folds])),
        np.flatnonzero(~IS_TEST),
    )
    assert np.ptp([len(fold.test) for fold in folds]) <= 1
    for label in np.unique(LABELS):
        counts = [np.sum(LABELS[fold.test] == label) for fold in folds]
        assert np.ptp(counts) <= 1
    again = split("cv", LABELS, IS_TEST, 7)
    np.testing.assert_array_equal(again.test, folds[2].test)


def test_folds_and_draws_are_those_of_earlier_runs():
    labels = np.repeat([3, 5, 9, 11], 5)
    is_test = np.zeros(20, bool)
    is_test[4::5] = True

    folds = [split("cv", labels, is_test, s).test.tolist() for s in range(5)]
    draws = [
        np.setdiff1d(labels, split("open_set", labels, is_test, s).classes)
        for s in range(5)
    ]

    assert folds == [
        *([2, 8, 10, 15], [0, 6, 13], [3, 5, 16], [1, 12, 18], [7, 11, 17])
    ]
    assert np.concatenate(draws).tolist() == [3, 9, 11, 5, 3]


def test_retrieval_is_among_classes_that_were_never_trained():
    halves = split("zero_shot", LABELS, IS_TEST, 0)

    assert set(LABELS[halves.train]) == set(range(112, 122))
    assert set(LABELS[halves.test]) == set(range(122, 133))
    assert len(halves.train) + len(halves.test) == len(LABELS)


def test_five_draws_hold_out_six_sparrows_and_each_once_or_twice():
    times = dict.fromkeys(range(112, 133), 0)
    for seed in range(5):
        draw = split("open_set", LABELS, IS_TEST, seed)
        held_out = set(LABELS[draw.unknown])
        for label in held_out:
            times[label] += 1

        assert len(held_out) == 6
        assert held_out.isdisjoint(draw.classes)
        assert len(draw.classes) == 15
        assert IS_TEST[draw.tested].all()
        assert len(draw.tested) == IS_TEST.sum()
        np.testing.assert_array_equal(
            draw.tested, np.concatenate([draw.test, draw.unknown])
        )
    assert set(times.values()) == {1, 2}


def test_what_cannot_be_split_is_refused_with_its_reason():
    few = np.array([1, 1, 2, 2, 3, 3])
    every_second = np.arange(6) % 2 == 1
    none = np.zeros(6, bool)
    for arguments, message in (
        (("closd", few, every_second, 0), "one of closed, boxes.*'closd'"),
        (("closed", few, none, 0), "needs test photos"),
        (("closed", few, few == 3, 0), "no training photo of class 3"),
        (("closed", few, every_second[:5], 0), r"shape \(6,\)"),
        (("closed", few / 2, every_second, 0), "labels must be integers"),
        (("closed", few, every_second, -1), "at least 0, received -1"),
        (("cv", few[::2], none[::2], 0), "no training photo of class"),
        (("zero_shot", few, every_second, 0), "4 classes.*received 3"),
        (("open_set", few, every_second, 0), "4 classes.*received 3"),
    ):
        with pytest.raises(ValueError, match=message):
            split(*arguments)


def outputs(protocol, seed=0):
    """A split of 8 classes of 30, with embeddings and scores of its photos."""
    labels = np.repeat(np.arange(8) * 10, 30)
    of_seed = split(protocol, labels, np.arange(240) % 2 == 1, seed)
    rng = np.random.default_rng(1)
    tested = len(of_seed.tested)
    embeddings = rng.normal(size=(tested, 4))
    embeddings += 0.1 * labels[of_seed.tested][:, None] % 7
    scores = rng.normal(size=(tested, len(of_seed.classes)))
    return of_seed, labels, embeddings, scores


@pytest.mark.parametrize("protocol", ["closed", "boxes", "cv"])
def test_classification_counts_ranks_as_a_sorted_list_does(protocol):
    of_seed, labels, embeddings, scores = outputs(protocol)
    order = of_seed.classes[np.argsort(-scores, axis=1)]
    tested = labels[of_seed.tested]

    found = metrics(protocol, of_seed, labels, embeddings, scores)
    taken_for = predictions(protocol, of_seed, labels, embeddings, scores)

    assert found["top_1"] == np.mean(order[:, 0] == tested)
    assert found["top_5"] == np.mean(np.any(order[:, :5] == tested[:, None], 1))
    assert found["recall_at_1"] == recall_at_k(embeddings, tested)
    assert 0 < found["intra_inter_distance_ratio"] < 2
    assert len(found) == 4
    assert taken_for == order[:, 0].tolist()
    assert all(type(label) is int for label in taken_for)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_scores_that_say_nothing_are_no_right_answers(value):
    of_seed, labels, embeddings, scores = outputs("closed")

    found = metrics(
        "closed", of_seed, labels, embeddings, np.full_like(scores, value)
    )

    assert found["top_1"] == found["top_5"] == 0


def test_zero_shot_takes_a_photo_for_its_nearest_other_one():
    of_seed, labels, embeddings, scores = outputs("zero_shot")
    tested = labels[of_seed.tested]
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    nearest = tested[similarity.argmax(axis=1)]

    found = metrics("zero_shot", of_seed, labels, embeddings, scores)

    assert (
        predictions("zero_shot", of_seed, labels, embeddings, scores)
        == nearest.tolist()
    )
    assert found["recall_at_1"] == np.mean(nearest == tested)
    assert found["recall_at_8"] == recall_at_k(embeddings, tested, 8)
    assert list(found) == [*(f"recall_at_{k}" for k in (1, 2, 4, 8)), "nmi"]
    assert 0 <= found["nmi"] <= 1


def test_open_set_tells_known_from_unknown_by_the_highest_score():
    of_seed, labels, embeddings, scores = outputs("open_set", seed=3)
    known, unknown = len(of_seed.test), len(of_seed.unknown)
    highest = scores.max(axis=1)

    found = metrics("open_set", of_seed, labels, embeddings, scores)
    taken_for = predictions("open_set", of_seed, labels, embeddings, scores)

    right = np.array(taken_for[:known]) == labels[of_seed.test]
    assert found["top_1"] == np.mean(right)
    assert found["auroc"] == roc_auc_score([1] * known + [0] * unknown, highest)
    # Of thresholds that accept enough known photos the strictest counts.
    strictest = max(
        score for score in highest if np.mean(highest[:known] >= score) >= 0.95
    )
    assert found["fpr_at_95"] == np.mean(highest[known:] >= strictest)
    pairs = highest[:known, None] - highest[known:]
    assert found["oscr"] == pytest.approx(
        np.mean(right[:, None] * np.heaviside(pairs, 0.5))
    )
    assert len(found) == 4
    assert len(taken_for) == known + unknown
    assert set(taken_for) <= set(of_seed.classes)


def test_a_perfect_open_set_score_accepts_no_unknown_and_the_reverse_all():
    of_seed, labels, embeddings, scores = outputs("open_set")
    is_known = np.arange(len(scores)) < len(of_seed.test)

    for sign, auroc, fpr in ((1, 1, 0), (-1, 0, 1)):
        apart = scores + sign * 100 * is_known[:, None]
        found = metrics("open_set", of_seed, labels, embeddings, apart)
        assert (found["auroc"], found["fpr_at_95"]) == (auroc, fpr)


def test_95_percent_of_known_photos_are_accepted_not_94():
    of_seed, labels, embeddings, scores = outputs("open_set")
    # 86 of the 90 known photos have at least 5, and 85 more than that.
    highest = [*range(1, 91), *([5] * 10), *([4.5] * 20)]
    scores = np.repeat(np.reshape(highest, (120, 1)), 6, axis=1)

    found = metrics("open_set", of_seed, labels, embeddings, scores)

    assert found["fpr_at_95"] == pytest.approx(1 / 3)


def test_outputs_of_other_photos_or_classes_are_refused():
    of_seed, labels, embeddings, scores = outputs("open_set")

    for function in (metrics, predictions):
        with pytest.raises(ValueError, match="embeddings must have 120 rows"):
            function("open_set", of_seed, labels, embeddings[1:], scores)
        with pytest.raises(ValueError, match=r"scores .*\(120, 6\)"):
            function("open_set", of_seed, labels, embeddings, scores[:, 1:])

"""Confusions must point from the true class to the one found."""

import numpy as np
import pytest

from keras_finegrain.metrics import nearest_class_confusions, recall_at_k

pytestmark = pytest.mark.one_backend


def noisy(classes=5, samples=70):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, samples) * 10
    return rng.normal(size=(samples, 3)) + 0.1 * labels[:, None], labels


def test_counts_the_class_of_each_nearest_neighbour():
    embeddings, labels = noisy()
    classes = np.unique(labels)
    expected = np.zeros((5, 5), int)
    for query in range(70):
        distances = np.linalg.norm(embeddings - embeddings[query], axis=1)
        distances[query] = np.inf
        found = labels[distances.argmin()]
        expected[labels[query] // 10, found // 10] += 1

    confusions = nearest_class_confusions(
        embeddings, labels, distance="euclidean", chunk_size=8
    )

    np.testing.assert_array_equal(confusions.classes, classes)
    np.testing.assert_array_equal(confusions.counts, expected)
    hits = np.trace(confusions.counts) / confusions.counts.sum()
    assert hits == recall_at_k(embeddings, labels, distance="euclidean")


def test_the_worst_pairs_come_first_and_right_answers_are_none():
    confusions = nearest_class_confusions(*noisy(), distance="euclidean")

    worst = confusions.worst(4)

    counts = [pair.count for pair in worst]
    assert len(worst) == 4
    assert counts == sorted(counts, reverse=True)
    for pair in worst:
        assert pair.label != pair.taken_for
        row = confusions.counts[pair.label // 10]
        assert pair.count == row[pair.taken_for // 10]
        assert pair.share == pair.count / row.sum()


def test_no_errors_are_no_pairs():
    labels = np.repeat(np.arange(4), 5)

    assert nearest_class_confusions(np.eye(4)[labels], labels).worst() == []


def test_a_gallery_may_hold_classes_that_are_never_asked_for():
    confusions = nearest_class_confusions(
        np.array([[0.0], [1.0]]),
        np.array([3, 3]),
        gallery_embeddings=np.array([[0.1], [0.9], [7.0]]),
        gallery_labels=np.array([3, 8, 8]),
        distance="euclidean",
    )

    np.testing.assert_array_equal(confusions.classes, [3, 8])
    np.testing.assert_array_equal(confusions.counts, [[1, 1], [0, 0]])
    assert confusions.worst()[0].taken_for == 8


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"chunk_size must be .* received 0"):
        nearest_class_confusions(*noisy(), chunk_size=0)

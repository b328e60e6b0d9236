"""Retrieval metrics against those of the peer, and in special cases."""

import tracemalloc
import warnings

import keras
import numpy as np
import pytest
import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN
from sklearn import datasets

from keras_finegrain.metrics import (
    knn_accuracy,
    map_at_r,
    precision_at_k,
    r_precision,
    recall_at_k,
)

pytestmark = pytest.mark.one_backend


def brute_force_recall(embeddings, labels, k):
    hits = []
    for query in range(len(labels)):
        others = [i for i in range(len(labels)) if i != query]
        if not any(labels[i] == labels[query] for i in others):
            continue
        others.sort(
            key=lambda i: np.linalg.norm(embeddings[i] - embeddings[query])
        )
        hits.append(any(labels[i] == labels[query] for i in others[:k]))
    return np.mean(hits)


@pytest.mark.parametrize("k", [1, 2, 8])
@pytest.mark.parametrize("chunk_size", [1, 7, 1000])
def test_equals_a_count_by_sorting_for_every_chunk_size(k, chunk_size):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 12, 90)
    embeddings = rng.normal(size=(90, 5)) + 0.5 * labels[:, None]

    recall = recall_at_k(
        embeddings, labels, k, distance="euclidean", chunk_size=chunk_size
    )

    assert recall == pytest.approx(brute_force_recall(embeddings, labels, k))
    assert 0.0 < recall < 1.0


class WholeRanking(CustomKNN):
    """The peer's own search, without FAISS."""

    def __init__(self):
        super().__init__(LpDistance(normalize_embeddings=False))


def peers_metrics(queries, labels, gallery=None, gallery_labels=None):
    peer = AccuracyCalculator(
        include=(
            "precision_at_1",
            "r_precision",
            "mean_average_precision_at_r",
        ),
        k="max_bin_count" if gallery is None else None,
        knn_func=WholeRanking(),
        kmeans_func=None,
    )
    arrays = [queries, labels]
    if gallery is not None:
        arrays += [gallery, gallery_labels]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return peer.get_accuracy(*map(torch.tensor, arrays))


def our_metrics(queries, labels, **arguments):
    arguments["distance"] = "euclidean"
    return {
        "precision_at_1": recall_at_k(queries, labels, **arguments),
        "r_precision": r_precision(queries, labels, **arguments),
        "mean_average_precision_at_r": map_at_r(queries, labels, **arguments),
    }


@pytest.mark.parametrize("classes", [3, 12, 80])
@pytest.mark.parametrize("chunk_size", [7, 1000])
def test_equals_the_peers_metrics_lone_samples_included(classes, chunk_size):
    rng = np.random.default_rng(1)
    labels = rng.integers(0, classes, 90)
    embeddings = rng.normal(size=(90, 5)) + 0.5 * labels[:, None]

    ours = our_metrics(embeddings, labels, chunk_size=chunk_size)

    assert ours == pytest.approx(peers_metrics(embeddings, labels), rel=1e-12)
    assert 0 < ours["mean_average_precision_at_r"] < ours["r_precision"] < 1


@pytest.mark.parametrize("classes", [3, 12, 80])
def test_equals_the_peers_metrics_over_a_gallery(classes):
    rng = np.random.default_rng(2)
    labels, gallery_labels = np.split(rng.integers(0, classes, 150), [60])
    queries = rng.normal(size=(60, 5)) + 0.5 * labels[:, None]
    gallery = rng.normal(size=(90, 5)) + 0.5 * gallery_labels[:, None]

    ours = our_metrics(
        queries,
        # Any integers will do, as long as they mean the same in both.
        10 * labels - 7,
        gallery_embeddings=gallery,
        gallery_labels=10 * gallery_labels - 7,
        chunk_size=11,
    )

    expected = peers_metrics(queries, labels, gallery, gallery_labels)
    assert ours == pytest.approx(expected, rel=1e-12)
    assert 0 < ours["mean_average_precision_at_r"] < ours["r_precision"] < 1


def test_equals_the_peers_metrics_on_real_images():
    digits = datasets.load_digits()
    # (Whole numbers of pixels tie; the peer breaks ties by chance.)
    turn = np.random.default_rng(0).normal(size=(64, 20))
    embeddings, labels = (digits.data @ turn)[:900], digits.target[:900]

    ours = our_metrics(embeddings, labels)

    assert ours == pytest.approx(peers_metrics(embeddings, labels), rel=1e-12)
    assert ours["precision_at_1"] > 0.9


def test_a_gallery_that_is_the_queries_finds_each_query_itself():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 5, 40)
    embeddings = rng.normal(size=(40, 3))
    gallery = {"gallery_embeddings": embeddings, "gallery_labels": labels}

    assert recall_at_k(embeddings, labels, **gallery) == 1.0
    assert recall_at_k(embeddings, labels) < 0.5


def test_precision_counts_the_matches_among_k():
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 6, 80)
    embeddings = rng.normal(size=(80, 4)) + 0.4 * labels[:, None]
    distances = np.linalg.norm(embeddings[:, None] - embeddings, axis=-1)
    np.fill_diagonal(distances, np.inf)
    nearest = np.argsort(distances, axis=1)

    for k in (1, 3, 79):
        expected = np.mean(labels[nearest[:, :k]] == labels[:, None])
        ours = precision_at_k(embeddings, labels, k, distance="euclidean")
        assert ours == pytest.approx(expected)
        assert 0 < ours < 1


@pytest.mark.parametrize("k", [1, 2, 5, 20])
def test_equals_a_vote_counted_by_hand(k):
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 6, 80)
    embeddings = rng.normal(size=(80, 4)) + 0.4 * labels[:, None]
    right = []
    for query in range(80):
        distances = np.linalg.norm(embeddings - embeddings[query], axis=1)
        order = [i for i in np.argsort(distances) if i != query][:k]
        votes = np.bincount(labels[order], minlength=6)
        tied = np.flatnonzero(votes == votes.max())
        winner = next(labels[i] for i in order if labels[i] in tied)
        right.append(winner == labels[query])

    ours = knn_accuracy(
        embeddings, labels, k, distance="euclidean", chunk_size=9
    )

    assert ours == pytest.approx(np.mean(right))
    assert 0.2 < ours < 0.9


def test_one_neighbour_votes_as_recall_counts():
    rng = np.random.default_rng(6)
    labels = rng.integers(0, 6, 80)
    embeddings = rng.normal(size=(80, 4))

    assert knn_accuracy(embeddings, labels, 1) == recall_at_k(
        embeddings, labels
    )


def test_memory_grows_with_the_chunk_and_not_with_the_square():
    rng = np.random.default_rng(7)
    labels = np.arange(4000) % 100
    embeddings = rng.normal(size=(4000, 16))
    tracemalloc.start()
    map_at_r(embeddings, labels, chunk_size=16)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    # All distances at once are 128 MB.
    assert peak < 8e6


def test_perfect_and_useless_embeddings_score_one_and_zero():
    labels = np.repeat(np.arange(4), 5)
    for metric in (r_precision, map_at_r):
        assert metric(np.eye(4)[labels], labels) == 1.0
        assert metric(np.ones((20, 3)), labels) == 0.0
        with pytest.raises(ValueError, match=f"{metric.__name__}: .*two samp"):
            metric(np.ones((4, 2)), np.arange(4))
        with pytest.raises(ValueError, match="received 'manhattan'"):
            metric(np.ones((20, 3)), labels, distance="manhattan")


def test_cosine_ignores_the_length_of_an_embedding():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 60)
    embeddings = rng.normal(size=(60, 4)) + np.eye(5, 4)[labels]
    stretched = embeddings * rng.uniform(0.1, 50.0, size=(60, 1))

    assert recall_at_k(stretched, labels) == recall_at_k(embeddings, labels)
    assert recall_at_k(stretched, labels) != recall_at_k(
        stretched, labels, distance="euclidean"
    )


def test_the_memory_layout_of_the_embeddings_changes_nothing():
    embeddings = np.random.default_rng(0).normal(size=(60, 4))
    labels = np.arange(60) % 4

    assert map_at_r(np.asfortranarray(embeddings), labels) == map_at_r(
        embeddings, labels
    )


def test_a_query_is_no_neighbour_of_its_own():
    embeddings = np.array([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0], [0.01, 1.0]])

    assert recall_at_k(embeddings, np.array([0, 1, 0, 1])) == 0.0


def test_a_sample_alone_in_its_class_is_left_out_of_the_mean():
    embeddings = np.array([[0.0, 1.0], [0.0, 1.1], [1.0, 0.0]])

    assert recall_at_k(embeddings, np.array([4, 4, 9])) == 1.0


def test_a_collapsed_embedding_scores_zero_in_any_order():
    labels = np.repeat(np.arange(4), 5)

    assert recall_at_k(np.ones((20, 3)), labels) == 0.0
    assert recall_at_k(np.ones((20, 3)), labels[::-1]) == 0.0


def test_takes_tensors_of_the_backend():
    embeddings = np.random.default_rng(0).normal(size=(20, 3))
    labels = np.arange(20) % 3

    assert recall_at_k(
        keras.ops.convert_to_tensor(embeddings, "float32"),
        keras.ops.convert_to_tensor(labels, "int32"),
    ) == recall_at_k(embeddings.astype("float32"), labels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((4, 2)), np.zeros(4, int), 0), "k must be .* received 0"),
        ((np.ones((4, 2, 2)), np.zeros(4, int)), r"received \(4, 2, 2\)"),
        ((np.ones((4, 2)), np.zeros(3, int)), r"received the shape \(3,\)"),
        ((np.ones((4, 2)), np.ones((4, 4))), "name one class .* in row 0"),
        (
            (np.ones((4, 2)), np.zeros(4)),
            "or one-hot, received .*float64",
        ),
        ((np.full((4, 2), np.nan), np.zeros(4, int)), "finite"),
        ((np.ones((4, 2)), np.arange(4)), "two samples"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        recall_at_k(*arguments)


def test_an_unknown_distance_is_named():
    with pytest.raises(ValueError, match="received 'manhattan'"):
        recall_at_k(np.ones((4, 2)), np.zeros(4, int), distance="manhattan")


@pytest.mark.parametrize("metric", [precision_at_k, knn_accuracy])
def test_more_neighbours_than_there_are_is_an_error(metric):
    with pytest.raises(ValueError, match=r"at most .* 3, received 4"):
        metric(np.ones((4, 2)), np.zeros(4, int), 4)


@pytest.mark.parametrize(
    ("gallery", "message"),
    [
        ({"gallery_embeddings": np.ones((3, 2))}, "no gallery_labels"),
        ({"gallery_labels": np.zeros(3, int)}, "no gallery_embeddings"),
        (
            {
                "gallery_embeddings": np.ones((3, 5)),
                "gallery_labels": np.zeros(3, int),
            },
            "dim of 2, received 5",
        ),
        (
            {
                "gallery_embeddings": np.ones((3, 2)),
                "gallery_labels": np.ones(3, int),
            },
            "some query's class",
        ),
        (
            {
                "gallery_embeddings": np.full((3, 2), np.inf),
                "gallery_labels": np.zeros(3, int),
            },
            "gallery_embeddings must be finite",
        ),
    ],
)
def test_a_gallery_that_does_not_fit_is_named(gallery, message):
    with pytest.raises(ValueError, match=message):
        recall_at_k(np.ones((4, 2)), np.zeros(4, int), **gallery)


def test_votes_of_two_queries_stay_apart_where_the_gallery_lacks_a_class():
    accuracy = knn_accuracy(
        np.array([[0.0], [10.0], [5.0]]),
        np.array([0, 2, 1]),
        2,
        gallery_embeddings=np.array([[1.0], [9.0]]),
        gallery_labels=np.array([0, 2]),
        distance="euclidean",
    )

    assert accuracy == 1.0


def test_memory_does_not_grow_with_the_square_of_a_large_class():
    embeddings = np.random.default_rng(7).normal(size=(4000, 16))
    labels = np.where(np.arange(4000) < 20, 1, 0)
    tracemalloc.start()
    recall_at_k(embeddings, labels, chunk_size=16)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    # (28 MB if a whole tile of queries met its class at once.)
    assert peak < 8e6

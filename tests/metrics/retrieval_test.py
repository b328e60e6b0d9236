"""The figures of retrieval against their peers and at their corners."""

import warnings

import keras
import numpy as np
import pytest
import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN

from keras_finegrain.metrics import map_at_r, r_precision, recall_at_k


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
    """The peer's own search, in float64."""

    def __init__(self):
        super().__init__(LpDistance(normalize_embeddings=False))


@pytest.mark.parametrize("classes", [3, 12, 80])
@pytest.mark.parametrize("chunk_size", [7, 1000])
def test_equals_the_peers_figures_lone_samples_included(classes, chunk_size):
    rng = np.random.default_rng(1)
    labels = rng.integers(0, classes, 90)
    embeddings = rng.normal(size=(90, 5)) + 0.5 * labels[:, None]
    peer = AccuracyCalculator(
        include=(
            "precision_at_1",
            "r_precision",
            "mean_average_precision_at_r",
        ),
        k="max_bin_count",
        knn_func=WholeRanking(),
        kmeans_func=None,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = peer.get_accuracy(
            torch.tensor(embeddings), torch.tensor(labels)
        )

    arguments = {"distance": "euclidean", "chunk_size": chunk_size}
    ours = {
        "precision_at_1": recall_at_k(embeddings, labels, **arguments),
        "r_precision": r_precision(embeddings, labels, **arguments),
        "mean_average_precision_at_r": map_at_r(
            embeddings, labels, **arguments
        ),
    }
    assert ours == pytest.approx(expected, rel=1e-12)
    assert 0 < ours["mean_average_precision_at_r"] < ours["r_precision"] < 1


def test_perfect_and_useless_embeddings_score_one_and_zero():
    labels = np.repeat(np.arange(4), 5)
    for figure in (r_precision, map_at_r):
        assert figure(np.eye(4)[labels], labels) == 1.0
        assert figure(np.ones((20, 3)), labels) == 0.0
        with pytest.raises(ValueError, match=f"{figure.__name__}: .*two samp"):
            figure(np.ones((4, 2)), np.arange(4))
        with pytest.raises(ValueError, match="received 'manhattan'"):
            figure(np.ones((20, 3)), labels, distance="manhattan")


def test_cosine_ignores_the_length_of_an_embedding():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 60)
    embeddings = rng.normal(size=(60, 4)) + np.eye(5, 4)[labels]
    stretched = embeddings * rng.uniform(0.1, 50.0, size=(60, 1))

    assert recall_at_k(stretched, labels) == recall_at_k(embeddings, labels)
    assert recall_at_k(stretched, labels) != recall_at_k(
        stretched, labels, distance="euclidean"
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
        ((np.ones((4, 2)), np.zeros(3, int)), r"received \(3,\)"),
        ((np.ones((4, 2)), np.eye(4)), "argmax"),
        ((np.ones((4, 2)), np.zeros(4)), "integers, received .* float64"),
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

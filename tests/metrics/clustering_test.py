"""Clusterings against the peer's calculator and against the definitions."""

import numpy as np
import pytest
import torch
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from sklearn import datasets

from keras_finegrain.metrics import ami, nmi, silhouette
from keras_finegrain.metrics.clustering import RESTARTS, k_means
from keras_finegrain.metrics.embedding_set import unit_rows

pytestmark = pytest.mark.one_backend


def noisy(classes=6, samples=120, dim=5):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, samples)
    return rng.normal(size=(samples, dim)) + 3 * np.eye(classes, dim)[
        labels
    ], labels


def digits():
    images = datasets.load_digits()
    return images.data[:600], images.target[:600]


@pytest.mark.parametrize("data", [noisy, digits])
def test_equals_the_peers_scores_on_the_same_clusters(data):
    embeddings, labels = data()
    scores = {"NMI": [], "AMI": []}
    for seed in range(RESTARTS):
        peer = AccuracyCalculator(
            include=tuple(scores),
            knn_func=0,
            kmeans_func=lambda x, count, seed=seed: torch.tensor(
                k_means(unit_rows(embeddings), count, seed)
            ),
        )
        runs = peer.get_accuracy(torch.tensor(embeddings), torch.tensor(labels))
        for name, values in scores.items():
            values.append(runs[name])

    assert nmi(embeddings, labels) == pytest.approx(np.mean(scores["NMI"]))
    assert ami(embeddings, labels) == pytest.approx(np.mean(scores["AMI"]))
    assert 0.1 < ami(embeddings, labels) < nmi(embeddings, labels) < 1


def test_only_ami_gives_nothing_to_chance():
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 40
    noise = rng.normal(size=(200, 8))

    assert nmi(noise, labels) > 0.5
    assert abs(ami(noise, labels)) < 0.05


def test_labels_need_not_be_consecutive_and_the_same_seed_gives_the_same():
    embeddings, labels = noisy()

    assert ami(embeddings, 7 * labels - 3) == ami(embeddings, labels)
    assert ami(embeddings, labels, seed=9, restarts=1) != ami(
        embeddings, labels, seed=10, restarts=1
    )


@pytest.mark.filterwarnings("error")
def test_a_collapsed_embedding_has_no_clusters_and_no_warning():
    assert nmi(np.ones((20, 3)), np.arange(20) % 4) == 0.0
    # More numbers in a vector than classes, and fewer points.
    assert nmi(np.eye(5)[np.arange(20) % 2], np.arange(20) % 4) > 0


def test_silhouette_equals_its_definition_lone_samples_included():
    embeddings, labels = noisy(samples=60)
    labels[0] = 99
    expected = []
    for i in range(60):
        distances = np.linalg.norm(embeddings - embeddings[i], axis=1)
        means = {
            label: distances[(labels == label) & (np.arange(60) != i)]
            for label in np.unique(labels)
        }
        own = means.pop(labels[i])
        if not len(own):
            expected.append(0.0)
            continue
        a, b = own.mean(), min(values.mean() for values in means.values())
        expected.append((b - a) / max(a, b))

    ours = silhouette(embeddings, labels, distance="euclidean")

    assert ours == pytest.approx(np.mean(expected))
    assert 0 < ours < 1


def test_two_classes_have_a_silhouette():
    embeddings = np.array([[0.0], [1.0], [10.0], [11.0]])
    ours = silhouette(embeddings, [0, 0, 1, 1], distance="euclidean")
    # a = 1 for all; b is 10.5 for the outer ones and 9.5 for the inner ones.
    assert ours == pytest.approx(1 - (1 / 10.5 + 1 / 9.5) / 2)


def test_rows_of_any_size_get_the_length_one():
    rows = np.array([[-3e200, -4e200], [3e-200, 4e-200], [0.0, 0.0]])
    expected = [[-0.6, -0.8], [0.6, 0.8], [0.0, 0.0]]
    np.testing.assert_allclose(unit_rows(rows), expected, rtol=1e-15)


def test_cosine_ignores_the_length_of_an_embedding():
    embeddings, labels = noisy()
    stretched = embeddings * np.random.default_rng(1).uniform(
        0.1, 50.0, size=(len(labels), 1)
    )

    for metric in (nmi, ami, silhouette):
        assert metric(stretched, labels) == pytest.approx(
            metric(embeddings, labels)
        )


@pytest.mark.parametrize("labels", [np.zeros(4, int), np.arange(4)])
def test_a_silhouette_that_does_not_exist_is_an_error(labels):
    with pytest.raises(ValueError, match=r"silhouette: .* of 4 samples"):
        silhouette(np.eye(4), labels)


@pytest.mark.parametrize("metric", [nmi, ami, silhouette])
def test_bad_arguments_are_named(metric):
    with pytest.raises(
        ValueError, match=f"{metric.__name__}: .*received 'manhattan'"
    ):
        metric(np.eye(4), np.arange(4) % 2, distance="manhattan")
    with pytest.raises(ValueError, match=f"{metric.__name__}: .*finite"):
        metric(np.full((4, 2), np.nan), np.arange(4) % 2)

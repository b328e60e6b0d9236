"""The intra/inter-class distance ratio against all pairs, one by one."""

import functools
from itertools import combinations

import keras
import numpy as np
import pytest

from keras_finegrain.metrics import intra_inter_distance_ratio

pytestmark = pytest.mark.one_backend


def ratio_over_pairs(embeddings, labels):
    distances = {True: [], False: []}
    for i, j in combinations(range(len(labels)), 2):
        same_class = bool(labels[i] == labels[j])
        distances[same_class].append(
            np.linalg.norm(embeddings[i] - embeddings[j])
        )
    return np.mean(distances[True]) / np.mean(distances[False])


@pytest.mark.parametrize("chunk_size", [1, 7, 1000])
def test_equals_the_mean_over_all_pairs_for_every_chunk_size(chunk_size):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 6, 40) * 10
    embeddings = rng.normal(size=(40, 5)) + labels[:, None] + 1e3

    ratio = intra_inter_distance_ratio(
        embeddings, labels, distance="euclidean", chunk_size=chunk_size
    )

    assert ratio == pytest.approx(ratio_over_pairs(embeddings, labels))


def test_normalize_compares_directions():
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 4
    embeddings = rng.normal(size=(40, 5)) + np.eye(4, 5)[labels]
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)

    assert intra_inter_distance_ratio(
        embeddings * rng.uniform(0.1, 9.0, size=(40, 1)), labels
    ) == pytest.approx(ratio_over_pairs(unit, labels))


def test_runs_from_zero_for_points_to_one_for_noise():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), 100)

    assert intra_inter_distance_ratio(np.eye(5)[labels], labels) < 1e-7
    assert intra_inter_distance_ratio(
        rng.normal(size=(500, 8)), labels
    ) == pytest.approx(1.0, abs=0.02)


def test_takes_tensors_of_the_backend():
    embeddings = np.random.default_rng(0).normal(size=(20, 3))
    labels = np.arange(20) % 3

    assert intra_inter_distance_ratio(
        keras.ops.convert_to_tensor(embeddings, "float32"),
        keras.ops.convert_to_tensor(labels, "int32"),
    ) == pytest.approx(intra_inter_distance_ratio(embeddings, labels), rel=1e-5)


@pytest.mark.parametrize(
    ("embeddings", "labels", "message"),
    [
        (np.ones((4, 2)), np.zeros(4, int), "two classes"),
        (np.eye(4), np.arange(4), "two samples"),
        (np.ones((4, 2)), np.arange(4) % 2, "collapsed"),
    ],
)
def test_a_ratio_that_does_not_exist_is_an_error(embeddings, labels, message):
    with pytest.raises(ValueError, match=message):
        intra_inter_distance_ratio(embeddings, labels)


def test_a_ratio_does_not_depend_on_where_the_embeddings_lie():
    # (Numbers that float32 holds exactly, there too.)
    x = np.random.default_rng(0).integers(-8, 9, (12, 512)).astype("float64")
    ratio = functools.partial(
        intra_inter_distance_ratio,
        labels=np.arange(12) % 3,
        distance="euclidean",
    )
    np.testing.assert_allclose(ratio(x + 2.0**23 - 8), ratio(x), rtol=1e-12)

"""The search must find what comparing every pair in float64 finds, exactly.

The matrix product and its bound are only there for speed. So everything is
compared with `==`, on data in which the product decides all, and on data in
which it decides nothing: duplicates, grids, collapsed embeddings, outliers.
"""

import numpy as np
import pytest

from keras_finegrain.metrics import nearest_class_confusions, recall_at_k
from keras_finegrain.metrics import neighbours as module
from keras_finegrain.metrics.embedding_set import retrieval_set
from keras_finegrain.metrics.neighbours import Search, neighbours

pytestmark = pytest.mark.one_backend


def clusters(seed=0, samples=150, dim=12, classes=9, spread=0.5):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, samples)
    means = rng.normal(size=(classes, dim))
    return means[labels] + spread * rng.normal(size=(samples, dim)), labels


def duplicates():
    vectors, labels = clusters()
    rng = np.random.default_rng(1)
    # Half of them a second time, most in another class.
    vectors[75:] = vectors[rng.integers(0, 75, 75)]
    return vectors, labels


def nearly_duplicates(apart=1e-7):
    vectors, labels = duplicates()
    rng = np.random.default_rng(2)
    return vectors * (1 + apart * rng.normal(size=vectors.shape)), labels


def whole_numbers():
    rng = np.random.default_rng(3)
    return rng.integers(0, 3, (150, 4)).astype(float), rng.integers(0, 9, 150)


def far_from_the_origin():
    vectors, labels = clusters()
    return vectors + 1e6, labels


def an_outlier():
    vectors, labels = clusters()
    vectors[17] *= 1e5
    vectors[0] += 1e4
    return vectors, labels


def half_dead():
    vectors, labels = clusters()
    vectors[::2] = 0.0
    return vectors, labels


def collapsed():
    return np.full((150, 5), 0.3), np.arange(150) % 7


def collapsed_but_one():
    vectors, labels = collapsed()
    vectors[40] = 1.7
    return vectors, labels


def lone_labels():
    vectors, labels = clusters(classes=100)
    assert (np.bincount(labels) == 1).sum() > 10
    return vectors, labels


def one_large_class():
    vectors, labels = clusters(samples=500, spread=2.0)
    labels[np.random.default_rng(4).random(500) < 0.7] = 3
    return vectors, labels


def one_hot():
    vectors, labels = clusters()
    return np.eye(12)[vectors.argmax(axis=1)], labels


def lengths_of_all_sizes():
    vectors, labels = clusters()
    rng = np.random.default_rng(5)
    return vectors * 10.0 ** rng.integers(-9, 9, (150, 1)), labels


def one_line():
    """All products of a pair are equal, and so are all errors of their sum."""
    rng = np.random.default_rng(6)
    places = rng.uniform(1.0, 1.1, 150) * np.where(np.arange(150) % 2, 1, -1)
    return places[:, None] * np.full(300, 0.1), np.arange(150) % 2


DATA = {
    "clusters apart": lambda: clusters(spread=0.1),
    "clusters": clusters,
    "noise": lambda: clusters(spread=9.0),
    "many dimensions": lambda: clusters(dim=700, spread=3.0),
    "one dimension": lambda: clusters(dim=1),
    "duplicates": duplicates,
    "nearly duplicates": nearly_duplicates,
    "duplicates but for the last bits": lambda: nearly_duplicates(2e-16),
    "whole numbers": whole_numbers,
    "far from the origin": far_from_the_origin,
    "outlier": an_outlier,
    "half dead": half_dead,
    "collapsed": collapsed,
    "collapsed but one": collapsed_but_one,
    "lone labels": lone_labels,
    "one line": one_line,
    "one large class": one_large_class,
    "one hot": one_hot,
    "lengths of all sizes": lengths_of_all_sizes,
    "huge": lambda: (1e150 * clusters()[0], clusters()[1]),
    "tiny": lambda: (1e-150 * clusters()[0], clusters()[1]),
}
# k, and whether the whole class is searched.
DEPTHS = [(1, False), (8, False), (1, True), (9, True), (60, False)]


def every_pair(found):
    """Distances that decide, `(queries, gallery)`: one pair at a time."""
    return np.array(
        [[np.square(q - g).sum() for g in found.gallery] for q in found.queries]
    )


def by_comparing_every_pair(found, distances, query):
    """Ranks of a query's own, and the classes of the others by distance."""
    label = found.query_labels[query]
    is_own = found.gallery_labels == label
    others = np.flatnonzero(~is_own)
    if found.own:
        is_own[query] = False
    own = np.sort(distances[query, is_own])
    labels = found.gallery_labels[others]
    nearer = distances[query, others][None] <= own[:, None]
    ranks = np.arange(1, len(own) + 1) + nearer.sum(axis=1)
    return ranks, labels[np.lexsort([labels, distances[query, others]])]


def assert_found_as_by_every_pair(
    found, distances, k, whole_class, chunk_size=256
):
    seen = np.zeros(len(found.queries), bool)
    for chunk in neighbours(found, k, whole_class, chunk_size):
        assert not seen[chunk.queries].any()
        seen[chunk.queries] = True
        np.testing.assert_array_equal(
            chunk.own, found.query_labels[chunk.queries]
        )
        np.testing.assert_array_equal(
            chunk.matches, found.matches[chunk.queries]
        )
        depth = chunk.classes.shape[1]
        least = max([k, *chunk.matches * whole_class])
        assert depth == min(least, found.neighbours)
        for query, classes in zip(chunk.queries, chunk.classes, strict=True):
            ranks, others = by_comparing_every_pair(found, distances, query)
            is_own = classes == found.query_labels[query]
            np.testing.assert_array_equal(
                1 + np.flatnonzero(is_own), ranks[ranks <= depth]
            )
            np.testing.assert_array_equal(
                classes[~is_own], others[: depth - is_own.sum()]
            )
    np.testing.assert_array_equal(seen, found.matches > 0)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("name", DATA)
def test_equals_every_pair_in_float64(name, distance):
    vectors, labels = DATA[name]()
    found = retrieval_set("test", vectors, labels, None, None, distance)
    distances = every_pair(found)
    for depth in DEPTHS:
        assert_found_as_by_every_pair(found, distances, *depth)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("name", DATA)
def test_equals_every_pair_over_a_gallery(name, distance):
    vectors, labels = DATA[name]()
    # With queries whose class the gallery lacks, and the reverse.
    labels[:9] = 1000
    found = retrieval_set(
        "test", vectors[:60], labels[:60], vectors[40:], labels[40:], distance
    )
    distances = every_pair(found)
    for depth in DEPTHS:
        assert_found_as_by_every_pair(found, distances, *depth)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("name", DATA)
def test_products_stay_within_their_bound(name, distance, dtype):
    vectors, labels = DATA[name]()
    found = retrieval_set(
        "test", vectors, labels, vectors[50:], labels[50:], distance
    )
    order = np.argsort(found.gallery_labels, kind="stable")
    exact = every_pair(found)[:, order]
    search = Search(found, dtype)

    lower, slack = search.bounds(np.arange(len(found.queries)))

    slack = slack[:, None] + search.slack
    assert np.all(lower <= exact)
    assert np.all(exact <= lower + slack)
    # They are bounds, and no more than that.
    dim = vectors.shape[1]
    assert np.all(slack <= 70 * dim * (dim + 4) * np.finfo(dtype).eps)


@pytest.mark.parametrize("limit", [0, 10**9])
@pytest.mark.parametrize("name", DATA)
def test_the_precision_of_the_product_changes_nothing(name, limit, monkeypatch):
    monkeypatch.setattr(module, "FLOAT32_DEPTH", limit)
    vectors, labels = DATA[name]()
    vectors, labels = vectors[:150], labels[:150]
    found = retrieval_set("test", vectors, labels, None, None, "euclidean")
    distances = every_pair(found)
    for depth in DEPTHS[1:-1]:
        assert_found_as_by_every_pair(found, distances, *depth, 40)


@pytest.mark.parametrize("chunk_size", [1, 30, 100_000])
@pytest.mark.parametrize("name", ["clusters", "duplicates", "one large class"])
def test_the_chunk_size_changes_nothing(name, chunk_size):
    vectors, labels = DATA[name]()
    for gallery in ((None, None), (vectors[30:], labels[30:])):
        found = retrieval_set("test", vectors, labels, *gallery, "cosine")
        distances = every_pair(found)
        for depth in DEPTHS[1::2]:
            assert_found_as_by_every_pair(found, distances, *depth, chunk_size)


@pytest.mark.parametrize("chunk_size", [1, 30])
@pytest.mark.parametrize("name", DATA)
def test_the_order_of_the_samples_changes_nothing(name, chunk_size):
    vectors, labels = DATA[name]()
    order = np.random.default_rng(0).permutation(len(labels))
    found, shuffled = (
        nearest_class_confusions(
            vectors[rows], labels[rows], chunk_size=chunk_size
        ).counts
        for rows in (slice(None), order)
    )
    np.testing.assert_array_equal(found, shuffled)


@pytest.mark.parametrize("dead", [0.5, 1.0])
def test_equal_embeddings_are_compared_once(dead, monkeypatch):
    vectors, labels = clusters(samples=400)
    vectors[: int(dead * 400)] = 0.0
    compared = []
    square = np.square

    def counted(difference, **options):
        compared.append(len(difference))
        return square(difference, **options)

    found = retrieval_set("test", vectors, labels, None, None, "cosine")
    monkeypatch.setattr(np, "square", counted)
    list(neighbours(found, 1, False, 256))

    assert 0 < sum(compared) < 2 * 400


@pytest.mark.parametrize("dim", [2048, 9216])
def test_a_copy_in_another_class_is_as_near_however_long_the_vectors(dim):
    for seed in range(8):
        query, sample = np.random.default_rng(seed).normal(size=(2, 1, dim))
        recall = recall_at_k(
            query,
            np.array([0]),
            gallery_embeddings=np.repeat(sample, 3, axis=0),
            gallery_labels=np.arange(3),
        )

        assert recall == 0.0


@pytest.mark.parametrize("k", [4, 1000, 2**70])
def test_more_neighbours_than_there_are_is_refused(k):
    embeddings, labels = np.eye(4), np.array([0, 0, 1, 1])

    assert recall_at_k(embeddings, labels, 3) == 1.0
    with pytest.raises(ValueError, match="k must be "):
        recall_at_k(embeddings, labels, k)

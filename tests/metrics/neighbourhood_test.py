"""The search must find what comparing every pair in float64 finds, exactly.

Bounds, blocks and tiles are only there for speed. So everything is compared
with `==`, on data on which float32 decides most, and on data on which it
decides nothing: duplicates, grids, collapsed embeddings, outliers.
"""

import numpy as np
import pytest

from keras_finegrain.metrics import recall_at_k, search, shortlist
from keras_finegrain.metrics.embedding_set import retrieval_set
from keras_finegrain.metrics.nearness import Nearness
from keras_finegrain.metrics.neighbourhood import neighbourhoods
from keras_finegrain.metrics.search import Reach


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
REACHES = [
    Reach(1),
    Reach(1, voters=1),
    Reach(8),
    Reach(1, whole_class=True),
    Reach(9, whole_class=True, voters=5),
    Reach(60, voters=60),
]


def every_pair(found):
    """Distances that decide, `(queries, gallery)`: one pair at a time."""
    return np.array(
        [
            [np.einsum("d,d->", q - g, q - g) for g in found.gallery]
            for q in found.queries
        ]
    )


def by_comparing_every_pair(found, distances, query, reach):
    """Ranks of a query's own up to the limit, and the nearest others."""
    label = found.query_labels[query]
    is_own = found.gallery_labels == label
    others = np.flatnonzero(~is_own)
    if found.own:
        is_own[query] = False
    own = np.sort(distances[query, is_own])
    order = np.lexsort(
        [others, found.gallery_labels[others], distances[query, others]]
    )
    others = others[order]
    nearer = distances[query, others][None] <= own[:, None]
    ranks = np.arange(1, len(own) + 1) + nearer.sum(axis=1)
    limit = max(reach.depth, len(own) * reach.whole_class)
    return ranks[ranks <= limit], limit, others


def assert_found_as_by_every_pair(found, distances, reach, chunk_size=256):
    seen = np.zeros(len(found.queries), bool)
    for around in neighbourhoods(found, reach, chunk_size):
        assert not seen[around.queries].any()
        seen[around.queries] = True
        labels = None
        if reach.voters:
            rows = np.arange(len(around.queries))
            labels = around.other_labels(rows, reach.voters)
        for row, query in enumerate(around.queries):
            ranks, limit, others = by_comparing_every_pair(
                found, distances, query, reach
            )
            ours = around.ranks[row]
            np.testing.assert_array_equal(ours[ours <= limit], ranks)
            assert around.matches[row] == found.matches[query]
            if labels is None:
                continue
            # Only others among the `voters` nearest of all are voters.
            own = np.sum(ranks <= reach.voters)
            expected = found.gallery_labels[others][: reach.voters - own]
            np.testing.assert_array_equal(
                labels[row, : len(expected)], expected
            )
    np.testing.assert_array_equal(seen, found.matches > 0)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("name", DATA)
def test_equals_every_pair_in_float64(name, distance):
    vectors, labels = DATA[name]()
    found = retrieval_set("test", vectors, labels, None, None, distance)
    distances = every_pair(found)
    for reach in REACHES:
        assert_found_as_by_every_pair(found, distances, reach)


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
    for reach in REACHES:
        assert_found_as_by_every_pair(found, distances, reach)


@pytest.mark.parametrize("dtype_limit", [0, 10**9])
@pytest.mark.parametrize("side", [9, 40])
@pytest.mark.parametrize("name", DATA)
def test_tiles_short_lists_and_precision_change_nothing(
    name, side, dtype_limit, monkeypatch
):
    # Lists that are cleared again and again, and settled pair by pair.
    monkeypatch.setattr(shortlist, "list_size", lambda limit, _: 2 * limit + 2)
    monkeypatch.setattr(search, "TILE", side)
    monkeypatch.setattr(search, "LEAST_BYTES", 2**14)
    monkeypatch.setattr(search, "FLOAT32_LIMIT", dtype_limit)
    vectors, labels = DATA[name]()
    vectors, labels = vectors[:150], labels[:150]
    found = retrieval_set("test", vectors, labels, None, None, "euclidean")
    distances = every_pair(found)
    for reach in REACHES[1:-1]:
        assert_found_as_by_every_pair(found, distances, reach, 1)


@pytest.mark.parametrize("chunk_size", [1, 30, 100_000])
@pytest.mark.parametrize("name", ["clusters", "duplicates", "one large class"])
def test_the_chunk_size_changes_nothing(name, chunk_size, monkeypatch):
    monkeypatch.setattr(search, "LEAST_BYTES", 2**15)
    vectors, labels = DATA[name]()
    for gallery in ((None, None), (vectors[30:], labels[30:])):
        found = retrieval_set("test", vectors, labels, *gallery, "cosine")
        distances = every_pair(found)
        for reach in REACHES[1::2]:
            assert_found_as_by_every_pair(found, distances, reach, chunk_size)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("name", DATA)
def test_products_stay_within_their_bound(name, distance, dtype):
    vectors, labels = DATA[name]()
    found = retrieval_set(
        "test", vectors, labels, vectors[50:], labels[50:], distance
    )
    rng = np.random.default_rng(0)
    query_order = rng.permutation(len(found.queries))
    order = rng.permutation(len(found.gallery))
    nearness = Nearness(found, query_order, order, dtype)
    rows, columns = slice(3, 90), slice(11, 83)
    pairs = np.mgrid[rows, columns].reshape(2, -1)

    exact = nearness.exact(*pairs).reshape(87, 72)
    upper = nearness.upper(
        nearness.left(rows), columns, np.empty(87 * 72, dtype)
    ).astype(np.float64)
    close, error = nearness.close(rows, columns)

    slack = (
        nearness.query_slack[rows][:, None] + nearness.gallery_slack[columns]
    )
    assert np.all(upper >= exact)
    assert np.all(upper - slack <= exact)
    assert np.all(np.abs(close - exact) <= error[:, None])
    # They are bounds, and no more than that.
    unit = np.finfo(dtype).eps / 2
    assert np.all(slack <= 20 * (vectors.shape[1] + 10) * unit + 1e-30)
    assert exact.min() >= -2
    assert upper.max() < 0.1
    # A pair alone is the same number, whichever of the two is the query.
    for query, sample in pairs[:, ::97].T:
        alone = nearness.exact(np.array([query]), np.array([sample]))
        assert alone[0] == exact[query - 3, sample - 11]


def test_no_pair_is_multiplied_twice_and_few_after_a_collapse(monkeypatch):
    vectors, labels = clusters(samples=400, spread=0.01)
    counts = []
    upper = Nearness.upper

    def counted(self, left, gallery, out):
        tile = upper(self, left, gallery, out)
        counts.append(tile.size)
        return tile

    monkeypatch.setattr(Nearness, "upper", counted)
    monkeypatch.setattr(search, "TILE", 20)
    found = retrieval_set("test", vectors, labels, None, None, "cosine")
    list(neighbourhoods(found, Reach(1), 256))

    # A little more than half of all pairs.
    assert sum(counts) == 400 * 420 / 2

    counts.clear()
    found = retrieval_set("test", *collapsed(), None, None, "cosine")
    list(neighbourhoods(found, Reach(1), 256))
    assert sum(counts) < 150 * 170 / 2


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


def test_a_depth_beyond_every_integer_is_that_of_the_gallery():
    embeddings, labels = np.eye(4), np.array([0, 0, 1, 1])

    assert recall_at_k(embeddings, labels, 2**70) == 1.0

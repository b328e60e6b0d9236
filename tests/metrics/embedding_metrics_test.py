"""One call gives what the single functions give, and intervals that hold."""

import numpy as np
import pytest
from scipy import stats

from keras_finegrain import metrics
from keras_finegrain.metrics import EMBEDDING_METRICS, embedding_metrics
from keras_finegrain.metrics.geometry import distance_sums

pytestmark = pytest.mark.one_backend


def noisy(samples=120, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 6, samples)
    return rng.normal(size=(samples, 5)) + 1.5 * np.eye(6, 5)[labels], labels


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_every_metric_equals_the_function_of_its_name(distance):
    data = noisy()

    estimates = embedding_metrics(
        *data, (*EMBEDDING_METRICS, "precision@3"), distance=distance
    )

    alone = {"distance": distance}
    assert {name: estimate.value for name, estimate in estimates.items()} == {
        "recall@1": metrics.recall_at_k(*data, 1, **alone),
        "recall@2": metrics.recall_at_k(*data, 2, **alone),
        "recall@4": metrics.recall_at_k(*data, 4, **alone),
        "recall@8": metrics.recall_at_k(*data, 8, **alone),
        "precision@1": metrics.precision_at_k(*data, 1, **alone),
        "precision@3": metrics.precision_at_k(*data, 3, **alone),
        "r_precision": metrics.r_precision(*data, **alone),
        "map@r": metrics.map_at_r(*data, **alone),
        "knn_accuracy@5": metrics.knn_accuracy(*data, 5, **alone),
        "nmi": metrics.nmi(*data, **alone),
        "ami": metrics.ami(*data, **alone),
        "silhouette": metrics.silhouette(*data, **alone),
        "intra_inter_distance_ratio": metrics.intra_inter_distance_ratio(
            *data, **alone
        ),
    }
    assert all(f.low < f.value < f.high for f in estimates.values())


def test_names_of_the_release_before_still_work_and_warn():
    with pytest.warns(DeprecationWarning, match="Use .*EMBEDDING_METRICS"):
        assert metrics.FIGURES is EMBEDDING_METRICS
    with pytest.warns(DeprecationWarning, match="Use .*Estimate"):
        assert metrics.Figure is metrics.Estimate
    with pytest.warns(DeprecationWarning, match="Use .*embedding_metrics"):
        embedding_figures = metrics.embedding_figures

    found = embedding_figures(*noisy(), figures=("map@r",))

    assert found == embedding_metrics(*noisy(), metrics=("map@r",))
    with pytest.raises(
        AttributeError, match="no attribute 'embedding_numbers'"
    ):
        _ = metrics.embedding_numbers


def test_completion_shows_the_public_names_alone():
    assert dir(metrics) == sorted(metrics.__all__)
    assert all(hasattr(metrics, name) for name in metrics.__all__)


def test_a_gallery_is_searched():
    queries, labels = noisy()
    gallery, gallery_labels = noisy(seed=1)
    arguments = {
        "gallery_embeddings": gallery,
        "gallery_labels": gallery_labels,
    }

    estimates = embedding_metrics(
        queries, labels, ("map@r", "silhouette"), **arguments
    )

    assert estimates["map@r"].value == metrics.map_at_r(
        queries, labels, **arguments
    )
    assert estimates["silhouette"].value == metrics.silhouette(queries, labels)


@pytest.mark.parametrize("name", ["recall@1", "knn_accuracy@3", "precision@1"])
def test_shares_have_wilsons_interval(name):
    estimate = embedding_metrics(*noisy(), (name,))[name]

    expected = stats.binomtest(round(120 * estimate.value), 120).proportion_ci(
        method="wilson"
    )
    assert estimate[1:] == pytest.approx((expected.low, expected.high))


def test_all_right_is_no_certainty():
    labels = np.repeat(np.arange(4), 5)

    estimates = embedding_metrics(np.eye(4)[labels], labels, ("recall@1",))

    assert estimates["recall@1"].low < 0.9
    assert estimates["recall@1"].high == 1.0


def test_means_have_the_normal_interval():
    estimate = embedding_metrics(*noisy(), ("silhouette",))["silhouette"]
    values = metrics.clustering.silhouettes("test", *noisy(), "cosine")

    expected = stats.norm.interval(0.95, values.mean(), stats.sem(values))
    assert estimate[1:] == pytest.approx(expected)


def test_clusterings_have_the_t_interval_of_their_runs():
    estimate = embedding_metrics(*noisy(), ("nmi",), seed=7)["nmi"]
    runs = metrics.clustering.clustering_scores(
        "test", *noisy(), "cosine", 7, metrics.clustering.RESTARTS
    )[0]

    expected = stats.t.interval(
        0.95, len(runs) - 1, np.mean(runs), stats.sem(runs)
    )
    assert estimate[1:] == pytest.approx(expected)


def test_the_ratios_interval_is_that_of_a_jackknife_done_by_hand():
    embeddings, labels = noisy(40)
    without = [
        metrics.intra_inter_distance_ratio(
            np.delete(embeddings, i, axis=0), np.delete(labels, i)
        )
        for i in range(40)
    ]

    sums = distance_sums("test", embeddings, labels, "cosine", 7)

    assert sums.deviation() == pytest.approx(
        np.sqrt(39 / 40 * np.sum((without - np.mean(without)) ** 2))
    )


def test_nine_of_ten_draws_lie_within_the_ratios_interval():
    name = "intra_inter_distance_ratio"
    truth = embedding_metrics(*noisy(3000), (name,))[name].value
    intervals = [
        embedding_metrics(*noisy(seed=seed), (name,), confidence=0.9)[name]
        for seed in range(1, 201)
    ]

    covered = np.mean([f.low <= truth <= f.high for f in intervals])

    # Three standard deviations of a share of 200 draws.
    assert 0.83 < covered < 0.97


def test_more_confidence_is_a_wider_interval():
    for name in EMBEDDING_METRICS:
        narrow = embedding_metrics(*noisy(), (name,), confidence=0.5)[name]
        wide = embedding_metrics(*noisy(), (name,), confidence=0.99)[name]
        assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metrics": ("recall@0",)}, "received 'recall@0'"),
        ({"metrics": "recall@1"}, "list of names, received 'recall@1'"),
        ({"metrics": 1}, "list of names, received 1"),
        ({"metrics": ("f1",)}, "received 'f1'"),
        ({"metrics": ("precision@200",)}, "precision@200: k must be at most"),
        ({"confidence": 1.0}, "confidence must be .* received 1.0"),
        ({"distance": "dot"}, "received 'dot'"),
        ({"chunk_size": 0}, "received 0"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        embedding_metrics(*noisy(), **arguments)

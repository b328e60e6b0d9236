"""Many metrics of a set of embeddings in one call, with intervals."""

import re
import statistics
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from keras_finegrain._base.checks import number, positive_integer, shown
from keras_finegrain._base.checks import seed as check_seed
from keras_finegrain._base.optional import import_optional
from keras_finegrain.metrics.clustering import (
    RESTARTS,
    clustering_scores,
    silhouettes,
)
from keras_finegrain.metrics.embedding_set import (
    CHUNK_SIZE,
    RetrievalSet,
    check_distance,
    retrieval_set,
)
from keras_finegrain.metrics.geometry import distance_sums
from keras_finegrain.metrics.neighbours import (
    Neighbours,
    QueryMetric,
    of_each_query,
)
from keras_finegrain.metrics.retrieval import number_of_neighbours

EMBEDDING_METRICS = (
    "recall@1",
    "recall@2",
    "recall@4",
    "recall@8",
    "precision@1",
    "r_precision",
    "map@r",
    "knn_accuracy@5",
    "nmi",
    "ami",
    "silhouette",
    "intra_inter_distance_ratio",
)
_AT_K: dict[str, Callable[[Neighbours, int], np.ndarray]] = {
    "recall": Neighbours.hit,
    "precision": Neighbours.precision,
    "knn_accuracy": Neighbours.vote,
}
_OF_WHOLE_CLASS: dict[str, QueryMetric] = {
    "r_precision": Neighbours.r_precision,
    "map@r": Neighbours.average_precision,
}
_OF_ALL_SAMPLES = ("nmi", "ami", "silhouette", "intra_inter_distance_ratio")


class Estimate(NamedTuple):
    """The value of a metric and its confidence interval.

    Attributes:
        value: The value.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    value: float
    low: float
    high: float


def embedding_metrics(
    embeddings: Any,
    labels: Any,
    metrics: Iterable[str] = EMBEDDING_METRICS,
    *,
    gallery_embeddings: Any = None,
    gallery_labels: Any = None,
    distance: str = "cosine",
    confidence: float = 0.95,
    seed: int = 0,
    chunk_size: int = CHUNK_SIZE,
) -> dict[str, Estimate]:
    """Computes many metrics at once, each with a confidence interval.

    Metrics of neighbours share one search. Their intervals, and those of
    `silhouette` and `intra_inter_distance_ratio`, are over the draw of the
    samples, from these classes and for this model: another training run, or
    other classes, may lie outside. Those of `nmi` and `ami` are over five
    starts of k-means.

    | metric | interval |
    |---|---|
    | `recall@K`, `precision@1`, `knn_accuracy@K` | Wilson's, of a share |
    | `precision@K`, `r_precision`, `map@r`, `silhouette` | normal, of a mean |
    | `intra_inter_distance_ratio` | normal, by the jackknife |
    | `nmi`, `ami` | Student's t, over the starts |

    Args:
        embeddings: Array or tensor of any backend, `(samples, dim)`.
        labels: Integers `(samples,)`.
        metrics: Their names: `"recall@K"`, `"precision@K"`,
            `"knn_accuracy@K"` for any K from 1, `"r_precision"`, `"map@r"`,
            `"nmi"`, `"ami"`, `"silhouette"`, `"intra_inter_distance_ratio"`.
            Defaults to `EMBEDDING_METRICS`, which has all of them.
        gallery_embeddings: Embeddings among which neighbours are searched,
            `(gallery, dim)`; the last four metrics do not use it. Defaults to
            the samples themselves.
        gallery_labels: Labels of the gallery, `(gallery,)`.
        distance: `"cosine"` or `"euclidean"`. Defaults to `"cosine"`.
        confidence: Share of draws whose interval contains the true value, in
            (0, 1). Defaults to 0.95.
        seed: Seed of k-means. Defaults to 0.
        chunk_size: Bounds the memory, which is O(chunk_size · gallery).
            Defaults to 256.

    Returns:
        An `Estimate(value, low, high)` for each name.

    Raises:
        ImportError: If a metric needs scikit-learn, and it is missing.
        ValueError: If a name is unknown, an argument is out of its range, the
            shapes disagree, an embedding is not finite, or a metric does not
            exist for the data (every sample alone in its class, one class
            alone).

    Example:
    >>> import numpy as np
    >>> embeddings = np.array([[0.0], [1.0], [2.5], [3.0], [9.0]])
    >>> estimates = embedding_metrics(
    ...     embeddings,
    ...     np.array([0, 0, 0, 1, 1]),
    ...     ("recall@1", "map@r"),
    ...     distance="euclidean",
    ... )
    >>> print(estimates["recall@1"].value, estimates["map@r"].value)
    0.6 0.65
    >>> [round(float(end), 3) for end in estimates["recall@1"][1:]]
    [0.231, 0.882]
    """
    who = "embedding_metrics"
    names = metric_names(who, metrics)
    parsed = {name: parse_metric(who, name) for name in names}
    seed = check_seed(who, "seed", seed)
    check_distance(who, distance)
    positive_integer(who, "chunk_size", chunk_size)
    confidence = number(who, "confidence", confidence, above=0, below=1)
    quantile = statistics.NormalDist().inv_cdf(0.5 + confidence / 2)

    results: dict[str, Estimate] = {}
    of_neighbours = {
        name: kind_and_k
        for name, kind_and_k in parsed.items()
        if name not in _OF_ALL_SAMPLES
    }
    if of_neighbours:
        found = retrieval_set(
            who,
            embeddings,
            labels,
            gallery_embeddings,
            gallery_labels,
            distance,
        )
        results |= _of_neighbours(
            who, found, of_neighbours, quantile, chunk_size
        )
    if {"nmi", "ami"} & set(names):
        scores = clustering_scores(
            who, embeddings, labels, distance, seed, RESTARTS
        )
        results["nmi"] = _mean_of_runs(scores[0], confidence)
        results["ami"] = _mean_of_runs(scores[1], confidence)
    if "silhouette" in names:
        per_sample = silhouettes(who, embeddings, labels, distance)
        results["silhouette"] = _normal_mean(per_sample, quantile, lowest=-1.0)
    if "intra_inter_distance_ratio" in names:
        sums = distance_sums(who, embeddings, labels, distance, chunk_size)
        ratio, half = sums.ratio(), quantile * sums.deviation()
        results["intra_inter_distance_ratio"] = Estimate(
            ratio, max(0.0, ratio - half), ratio + half
        )
    return {name: results[name] for name in names}


def metric_names(who: str, metrics: Any) -> tuple[str, ...]:
    """The names of metrics as a tuple; one string is no list of them."""
    if isinstance(metrics, str) or not isinstance(metrics, Iterable):
        raise ValueError(
            f"{who}: metrics must be a list of names, received "
            f"{shown(metrics)}."
        )
    return tuple(metrics)


def parse_metric(who: str, name: str) -> tuple[str, int]:
    """The kind of a metric and its K, which is 1 where it has none."""
    if name in (*_OF_WHOLE_CLASS, *_OF_ALL_SAMPLES):
        return name, 1
    match = re.fullmatch(rf"({'|'.join(_AT_K)})@([1-9]\d*)", str(name))
    if match is None:
        raise ValueError(
            f"{who}: metrics must be recall@K, precision@K or "
            "knn_accuracy@K with K from 1, "
            f"{', '.join((*_OF_WHOLE_CLASS, *_OF_ALL_SAMPLES))}; "
            f"received {name!r}."
        )
    return match[1], int(match[2])


def _of_neighbours(
    who: str,
    found: RetrievalSet,
    parsed: dict[str, tuple[str, int]],
    quantile: float,
    chunk_size: int,
) -> dict[str, Estimate]:
    """Metrics of neighbours, from one search."""
    metrics: list[QueryMetric] = []
    for name, (kind, k) in parsed.items():
        if kind in _AT_K:
            number_of_neighbours(f"{who}: {name}", k, found)
        if kind in _AT_K:
            metrics.append(_at_k(_AT_K[kind], k))
        else:
            metrics.append(_OF_WHOLE_CLASS[kind])
    depth = max(k for _, k in parsed.values())
    whole_class = any(name in _OF_WHOLE_CLASS for name in parsed)
    table = of_each_query(metrics, found, depth, whole_class, chunk_size)
    results = {}
    for name, values in zip(parsed, table, strict=True):
        interval = share if _is_share(*parsed[name]) else _normal_mean
        results[name] = interval(values, quantile)
    return results


def _at_k(
    metric: Callable[[Neighbours, int], np.ndarray], k: int
) -> QueryMetric:
    return lambda near: metric(near, k)


def _is_share(kind: str, k: int) -> bool:
    """Whether each query counts either 0 or 1."""
    return kind in ("recall", "knn_accuracy") or (kind, k) == ("precision", 1)


def share(hits: np.ndarray, quantile: float = 1.96) -> Estimate:
    """The share of hits, with Wilson's interval.

    Args:
        hits: Bool, or 0 and 1, `(samples,)`.
        quantile: Half the width of the interval in standard deviations.
            Defaults to 1.96, of a confidence of 95 %.

    Example:
    >>> [round(float(number), 2) for number in share(np.ones(10))]
    [1.0, 0.72, 1.0]
    """
    count, mean = len(hits), float(np.mean(hits))
    middle = mean + quantile**2 / (2 * count)
    half = quantile * np.sqrt(
        mean * (1 - mean) / count + (quantile / (2 * count)) ** 2
    )
    scale = 1 + quantile**2 / count
    return Estimate(
        mean,
        max(0.0, float((middle - half) / scale)),
        min(1.0, float((middle + half) / scale)),
    )


def _normal_mean(
    values: np.ndarray, quantile: float, lowest: float = 0.0
) -> Estimate:
    """The interval of a mean, cut at the range of the metric."""
    mean = float(np.mean(values))
    half = float("inf")
    if len(values) > 1:
        half = quantile * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return Estimate(mean, max(lowest, mean - half), min(1.0, mean + half))


def _mean_of_runs(values: np.ndarray, confidence: float) -> Estimate:
    """The interval of a mean over few runs."""
    # SciPy is a dependency of scikit-learn, which computed the runs.
    stats = import_optional("scipy.stats", "embedding_metrics")
    mean = float(np.mean(values))
    quantile = float(stats.t.ppf(0.5 + confidence / 2, len(values) - 1))
    half = quantile * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return Estimate(mean, mean - half, mean + half)

"""All figures of a set of embeddings in one call, with intervals."""

import functools
import re
import statistics
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from keras_finegrain._base.checks import number
from keras_finegrain._base.optional import import_optional
from keras_finegrain.metrics.clustering import (
    RESTARTS,
    cluster_figures,
    silhouettes,
)
from keras_finegrain.metrics.embedding_set import (
    CHUNK_SIZE,
    check_chunk_size,
    check_distance,
    retrieval_set,
)
from keras_finegrain.metrics.geometry import distance_sums
from keras_finegrain.metrics.neighbourhood import (
    Neighbourhoods,
    OfEachQuery,
    of_each_query,
)
from keras_finegrain.metrics.retrieval import number_of_neighbours
from keras_finegrain.metrics.search import Reach

FIGURES = (
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
_OF_ALL_SAMPLES = ("nmi", "ami", "silhouette", "intra_inter_distance_ratio")


class Figure(NamedTuple):
    """A figure and its confidence interval.

    Attributes:
        value: The figure.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    value: float
    low: float
    high: float


def embedding_figures(
    embeddings: Any,
    labels: Any,
    figures: Iterable[str] = FIGURES,
    *,
    gallery_embeddings: Any = None,
    gallery_labels: Any = None,
    distance: str = "cosine",
    confidence: float = 0.95,
    seed: int = 0,
    chunk_size: int = CHUNK_SIZE,
) -> dict[str, Figure]:
    """Computes many figures at once, each with a confidence interval.

    All that look at neighbours share one search. Their intervals, and those
    of `silhouette` and `intra_inter_distance_ratio`, are over the draw of the
    samples, of these classes and from this model: they do not say how far
    another training run, or other classes, would be off. Those of `nmi` and
    `ami` are over five starts of k-means.

    | figure | interval |
    |---|---|
    | `recall@K`, `precision@1`, `knn_accuracy@K` | Wilson's, of a share |
    | `precision@K`, `r_precision`, `map@r`, `silhouette` | normal, of a mean |
    | `intra_inter_distance_ratio` | normal, by the jackknife |
    | `nmi`, `ami` | Student's t, over the starts |

    Args:
        embeddings: Array or tensor of any backend, `(samples, dim)`.
        labels: Integers `(samples,)`.
        figures: Their names: `"recall@K"`, `"precision@K"`,
            `"knn_accuracy@K"` for any K from 1, `"r_precision"`, `"map@r"`,
            `"nmi"`, `"ami"`, `"silhouette"`, `"intra_inter_distance_ratio"`.
            Defaults to all of them, with `metrics.FIGURES`'s K.
        gallery_embeddings: Where neighbours are looked up, `(gallery, dim)`;
            the last four figures do not use it. Defaults to the samples
            themselves.
        gallery_labels: Labels of the gallery, `(gallery,)`.
        distance: `"cosine"` or `"euclidean"`. Defaults to `"cosine"`.
        confidence: Share of draws whose interval holds the figure, in (0, 1).
            Defaults to 0.95.
        seed: Seed of k-means. Defaults to 0.
        chunk_size: Bounds the memory, which is O(chunk_size · gallery).
            Defaults to 256.

    Returns:
        A `Figure(value, low, high)` for each name.

    Raises:
        ImportError: If a figure needs scikit-learn, and it is missing.
        ValueError: If a name is unknown, an argument is out of its range, the
            shapes disagree, an embedding is not finite, or the data has no
            such figure (every sample alone in its class, one class alone).

    Example:
    >>> import numpy as np
    >>> embeddings = np.array([[0.0], [1.0], [2.5], [3.0], [9.0]])
    >>> figures = embedding_figures(
    ...     embeddings,
    ...     np.array([0, 0, 0, 1, 1]),
    ...     ("recall@1", "map@r"),
    ...     distance="euclidean",
    ... )
    >>> print(figures["recall@1"].value, figures["map@r"].value)
    0.6 0.65
    >>> [round(float(end), 3) for end in figures["recall@1"][1:]]
    [0.231, 0.882]
    """
    who = "embedding_figures"
    names = tuple(figures)
    parsed = {name: figure_kind(who, name) for name in names}
    check_distance(who, distance)
    check_chunk_size(who, chunk_size)
    confidence = number(who, "confidence", confidence, above=0, below=1)
    quantile = statistics.NormalDist().inv_cdf(0.5 + confidence / 2)

    results: dict[str, Figure] = {}
    if any(name not in _OF_ALL_SAMPLES for name in names):
        found = retrieval_set(
            who,
            embeddings,
            labels,
            gallery_embeddings,
            gallery_labels,
            distance,
        )
        values: dict[str, OfEachQuery] = {}
        for name, (kind, k) in parsed.items():
            if kind in ("precision", "knn_accuracy"):
                number_of_neighbours(f"{who}: {name}", k, found)
            if kind in _OF_A_QUERY:
                values[name] = functools.partial(_OF_A_QUERY[kind], k=k)
        kinds = {kind for kind, _ in parsed.values()}
        reach = Reach(
            depth=max(k for _, k in parsed.values()),
            whole_class=bool(kinds & _OF_THE_CLASS),
            voters=max(
                [k for kind, k in parsed.values() if kind == "knn_accuracy"],
                default=0,
            ),
        )
        table = of_each_query(found, values.values(), reach, chunk_size)
        for name, column in zip(values, table, strict=True):
            kind, k = parsed[name]
            is_share = kind in ("recall", "knn_accuracy") or k == 1
            interval = share if is_share and kind in _AT_K else _normal_mean
            results[name] = interval(column, quantile)
    if {"nmi", "ami"} & set(names):
        runs = cluster_figures(
            who, embeddings, labels, distance, seed, RESTARTS
        )
        results["nmi"] = _over_runs(runs[0], confidence)
        results["ami"] = _over_runs(runs[1], confidence)
    if "silhouette" in names:
        per_sample = silhouettes(who, embeddings, labels, distance)
        results["silhouette"] = _normal_mean(per_sample, quantile, lowest=-1.0)
    if "intra_inter_distance_ratio" in names:
        sums = distance_sums(who, embeddings, labels, distance, chunk_size)
        ratio, half = sums.ratio(), quantile * sums.deviation()
        results["intra_inter_distance_ratio"] = Figure(
            ratio, max(0.0, ratio - half), ratio + half
        )
    return {name: results[name] for name in names}


_AT_K: dict[str, Callable[[Neighbourhoods, int], np.ndarray]] = {
    "recall": Neighbourhoods.hit,
    "precision": Neighbourhoods.precision,
    "knn_accuracy": Neighbourhoods.vote,
}
_OF_A_QUERY: dict[str, Callable[..., np.ndarray]] = {
    **_AT_K,
    "r_precision": lambda around, k: around.r_precision(),
    "map": lambda around, k: around.average_precision(),
}
_OF_THE_CLASS = {"r_precision", "map"}


def figure_kind(who: str, name: str) -> tuple[str, int]:
    """The kind of a figure and its K, which is 1 where it has none."""
    if name in ("r_precision", *_OF_ALL_SAMPLES):
        return name, 1
    if name == "map@r":
        return "map", 1
    match = re.fullmatch(rf"({'|'.join(_AT_K)})@([1-9]\d*)", str(name))
    if match is None:
        raise ValueError(
            f"{who}: figures must be recall@K, precision@K or "
            "knn_accuracy@K with K from 1, r_precision, map@r, "
            f"{', '.join(_OF_ALL_SAMPLES)}; received {name!r}."
        )
    return match[1], int(match[2])


def share(hits: np.ndarray, quantile: float = 1.96) -> Figure:
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
    return Figure(
        mean,
        max(0.0, float((middle - half) / scale)),
        min(1.0, float((middle + half) / scale)),
    )


def _normal_mean(
    values: np.ndarray, quantile: float, lowest: float = 0.0
) -> Figure:
    """The interval of a mean, within the range of the figure."""
    mean = float(np.mean(values))
    half = float("inf")
    if len(values) > 1:
        half = quantile * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return Figure(mean, max(lowest, mean - half), min(1.0, mean + half))


def _over_runs(values: np.ndarray, confidence: float) -> Figure:
    """The interval of a mean over few runs."""
    # (SciPy comes with scikit-learn, which made the runs.)
    stats = import_optional("scipy.stats", "embedding_figures")
    mean = float(np.mean(values))
    quantile = float(stats.t.ppf(0.5 + confidence / 2, len(values) - 1))
    half = quantile * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return Figure(mean, mean - half, mean + half)

"""Whether the classes form clusters."""

from typing import Any

import numpy as np

from keras_finegrain._base.checks import positive_integer
from keras_finegrain._base.checks import seed as check_seed
from keras_finegrain._base.optional import import_optional
from keras_finegrain.metrics.embedding_set import embedding_set

# The result of k-means depends on its start. Five starts show by how much.
RESTARTS = 5


def nmi(
    embeddings: Any,
    labels: Any,
    *,
    distance: str = "cosine",
    seed: int = 0,
    restarts: int = RESTARTS,
) -> float:
    """Normalised mutual information of the classes and the k-means clusters.

    ```
    NMI = I(y; z) / ((H(y) + H(z)) / 2)
    ```

    with y the class and z the cluster of each sample, and as many clusters as
    classes. It rises with the number of classes even for a random embedding:
    `ami` is corrected for chance.

    Args:
        embeddings: Array or tensor of any backend, `(samples, dim)`.
        labels: Integers `(samples,)`.
        distance: `"cosine"` scales embeddings to length 1 first,
            `"euclidean"` does not. Defaults to `"cosine"`.
        seed: Seed of the first k-means run; each next run adds 1. Defaults
            to 0.
        restarts: Number of k-means runs, over which the mean is taken, at
            least 1. Defaults to 5.

    Returns:
        The mean NMI, in [0, 1].

    Raises:
        ImportError: If scikit-learn is missing.
        ValueError: If an argument is out of its range, the shapes disagree,
            or an embedding is not finite.

    Example:
    >>> import numpy as np
    >>> embeddings = np.array([[0.0], [0.1], [5.0], [5.1]])
    >>> print(nmi(embeddings, np.array([0, 0, 1, 1]), distance="euclidean"))
    1.0

    Reference:

    - [Manning et al., Introduction to Information Retrieval,
      2008](https://nlp.stanford.edu/IR-book/html/htmledition/evaluation-of-clustering-1.html);
      [Vinh et al., JMLR 2010](https://jmlr.org/papers/v11/vinh10a.html).
    """
    scores = clustering_scores(
        "nmi", embeddings, labels, distance, seed, restarts
    )
    return float(np.mean(scores[0]))


def ami(
    embeddings: Any,
    labels: Any,
    *,
    distance: str = "cosine",
    seed: int = 0,
    restarts: int = RESTARTS,
) -> float:
    """Adjusted mutual information of the classes and the k-means clusters.

    ```
    AMI = (I(y; z) − E[I]) / ((H(y) + H(z)) / 2 − E[I])
    ```

    with E[I] the mutual information that clusters of these sizes have by
    chance: a random embedding scores 0 for any number of classes.

    Args:
        embeddings: As in `nmi`.
        labels: As in `nmi`.
        distance: As in `nmi`.
        seed: As in `nmi`.
        restarts: As in `nmi`.

    Returns:
        The mean AMI, at most 1; slightly negative below chance.

    Raises:
        ImportError: If scikit-learn is missing.
        ValueError: As in `nmi`.

    Example:
    >>> import numpy as np
    >>> embeddings = np.array([[0.0], [0.1], [5.0], [5.1]])
    >>> print(ami(embeddings, np.array([0, 0, 1, 1]), distance="euclidean"))
    1.0

    Reference:

    - [Vinh et al., Information Theoretic Measures for Clusterings Comparison,
      JMLR 2010](https://jmlr.org/papers/v11/vinh10a.html).
    """
    scores = clustering_scores(
        "ami", embeddings, labels, distance, seed, restarts
    )
    return float(np.mean(scores[1]))


def silhouette(
    embeddings: Any, labels: Any, *, distance: str = "cosine"
) -> float:
    """Mean silhouette: how much nearer the own class is than the next one.

    ```
    s_i = (b_i − a_i) / max(a_i, b_i)
    ```

    with a_i the mean distance of i to the others of its class and b_i the mean
    distance to the samples of the nearest other class. It is 1 for classes
    that are points, 0 where classes overlap, negative where another class is
    nearer, and 0 for a sample that is alone in its class.

    Args:
        embeddings: Array or tensor of any backend, `(samples, dim)`.
        labels: Integers `(samples,)`, of at least two classes and of fewer
            classes than samples.
        distance: `"cosine"` takes the Euclidean distance of embeddings that
            are scaled to length 1, `"euclidean"` that of the raw ones.
            Defaults to `"cosine"`.

    Returns:
        The mean of s_i, in [-1, 1].

    Raises:
        ImportError: If scikit-learn is missing.
        ValueError: If an argument is out of its range, the shapes disagree,
            an embedding is not finite, there is one class only, or no class
            has two samples.

    Example:
    >>> import numpy as np
    >>> embeddings = np.array([[0.0], [1.0], [10.0], [11.0]])
    >>> labels = np.array([0, 0, 1, 1])
    >>> print(round(silhouette(embeddings, labels, distance="euclidean"), 3))
    0.9

    Reference:

    - [Rousseeuw, Silhouettes: A graphical aid to the interpretation and
      validation of cluster analysis, 1987](https://doi.org/10.1016/0377-0427(87)90125-7)
    """
    return float(
        np.mean(silhouettes("silhouette", embeddings, labels, distance))
    )


def silhouettes(
    who: str, embeddings: Any, labels: Any, distance: str
) -> np.ndarray:
    """The silhouette of each sample, `(samples,)`."""
    vectors, numbers = embedding_set(who, embeddings, labels, distance)
    classes = numbers.max() + 1
    if not 2 <= classes < len(numbers):
        raise ValueError(
            f"{who}: the silhouette needs at least two classes and a class "
            f"with two samples, received {classes} classes of {len(numbers)} "
            "samples."
        )
    metrics = import_optional("sklearn.metrics", who)
    return np.asarray(metrics.silhouette_samples(vectors, numbers))


def clustering_scores(
    who: str,
    embeddings: Any,
    labels: Any,
    distance: str,
    seed: int,
    restarts: int,
) -> np.ndarray:
    """NMI and AMI of each run of k-means, `(2, restarts)`."""
    positive_integer(who, "restarts", restarts)
    seed = check_seed(who, "seed", seed)
    vectors, numbers = embedding_set(who, embeddings, labels, distance)
    metrics = import_optional("sklearn.metrics", who)
    count = int(numbers.max()) + 1
    runs = [
        k_means(vectors, count, (seed + run) % 2**32) for run in range(restarts)
    ]
    return np.array(
        [
            [score(numbers, clusters) for clusters in runs]
            for score in (
                metrics.normalized_mutual_info_score,
                metrics.adjusted_mutual_info_score,
            )
        ]
    )


def k_means(vectors: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """The cluster of each vector, `(samples,)`.

    Args:
        vectors: Floats `(samples, dim)`.
        clusters: Number of clusters.
        seed: Seed of the starting points (k-means++).

    Raises:
        ImportError: If scikit-learn is missing.
    """
    cluster = import_optional("sklearn.cluster", "k_means")
    threads = import_optional("threadpoolctl", "k_means")
    # Collapsed embeddings have fewer points than classes. scikit-learn would
    # warn about it, and the scores show it.
    points = len(np.unique(vectors, axis=0))
    means = cluster.KMeans(min(clusters, points), n_init=1, random_state=seed)
    # The products of k-means++ are so small that threads take longer: they wait
    # for one another. (scikit-learn limits those of its main loop itself.)
    with threads.threadpool_limits(1, user_api="blas"):
        return np.asarray(means.fit(vectors).labels_)

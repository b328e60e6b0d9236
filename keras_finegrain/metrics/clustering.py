"""Whether the classes are clusters."""

from typing import Any

import numpy as np

from keras_finegrain._base.checks import positive_integer
from keras_finegrain._base.optional import import_optional
from keras_finegrain.metrics.embedding_set import (
    check_distance,
    embedding_set,
    unit_rows,
)

# k-means depends on where it starts. Five starts show by how much.
RESTARTS = 5


def nmi(
    embeddings: Any,
    labels: Any,
    *,
    distance: str = "cosine",
    seed: int = 0,
    restarts: int = RESTARTS,
) -> float:
    """Normalised mutual information of the classes and of k-means clusters.

    ```
    NMI = I(y; z) / ((H(y) + H(z)) / 2)
    ```

    with z the cluster of each sample among as many clusters as there are
    classes. It rises with the number of classes even for a random embedding:
    `ami` is corrected for chance.

    Args:
        embeddings: Array or tensor of any backend, `(samples, dim)`.
        labels: Integers `(samples,)`.
        distance: `"cosine"` scales embeddings to length 1 first,
            `"euclidean"` does not. Defaults to `"cosine"`.
        seed: Seed of the first k-means; the others follow it. Defaults to 0.
        restarts: Number of k-means runs, over which the mean is taken.
            Defaults to 5.

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
    return float(
        np.mean(
            cluster_figures(
                "nmi", embeddings, labels, distance, seed, restarts
            )[0]
        )
    )


def ami(
    embeddings: Any,
    labels: Any,
    *,
    distance: str = "cosine",
    seed: int = 0,
    restarts: int = RESTARTS,
) -> float:
    """Adjusted mutual information of the classes and of k-means clusters.

    ```
    AMI = (I(y; z) − E[I]) / ((H(y) + H(z)) / 2 − E[I])
    ```

    with E[I] the mutual information that clusters of these sizes have by
    chance: a random embedding scores 0, whatever the number of classes.

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
    return float(
        np.mean(
            cluster_figures(
                "ami", embeddings, labels, distance, seed, restarts
            )[1]
        )
    )


def silhouette(
    embeddings: Any, labels: Any, *, distance: str = "cosine"
) -> float:
    """Mean silhouette: how much nearer its own class is than the next one.

    ```
    s_i = (b_i − a_i) / max(a_i, b_i)
    ```

    with a_i the mean distance of i to the others of its class and b_i that to
    the samples of the nearest other class: 1 for classes that are points, 0
    where they overlap, negative where another class is nearer. 0 for a sample
    that is alone in its class.

    Args:
        embeddings: Array or tensor of any backend, `(samples, dim)`.
        labels: Integers `(samples,)`, of at least two classes, and fewer than
            samples.
        distance: `"cosine"` is the Euclidean distance of embeddings that are
            scaled to length 1, `"euclidean"` that of the raw ones. Defaults to
            `"cosine"`.

    Returns:
        The mean of s_i, in [-1, 1].

    Raises:
        ImportError: If scikit-learn is missing.
        ValueError: If an argument is out of its range, the shapes disagree,
            an embedding is not finite, or there is one class alone or no
            class of two samples.

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
    vectors, numbers = _in_space(who, embeddings, labels, distance)
    classes = numbers.max() + 1
    if not 2 <= classes < len(numbers):
        raise ValueError(
            f"{who}: the silhouette needs at least two classes and a class "
            f"with two samples, received {classes} classes of {len(numbers)} "
            "samples."
        )
    metrics = import_optional("sklearn.metrics", who)
    return np.asarray(metrics.silhouette_samples(vectors, numbers))


def cluster_figures(
    who: str,
    embeddings: Any,
    labels: Any,
    distance: str,
    seed: int,
    restarts: int,
) -> np.ndarray:
    """NMI and AMI of each run of k-means, `(2, restarts)`."""
    positive_integer(who, "restarts", restarts)
    vectors, numbers = _in_space(who, embeddings, labels, distance)
    metrics = import_optional("sklearn.metrics", who)
    figures = []
    for run in range(restarts):
        clusters = k_means(vectors, int(numbers.max()) + 1, seed + run)
        figures.append(
            (
                metrics.normalized_mutual_info_score(numbers, clusters),
                metrics.adjusted_mutual_info_score(numbers, clusters),
            )
        )
    return np.transpose(figures)


def k_means(vectors: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """The cluster of each vector, `(samples,)`.

    Args:
        vectors: Floats `(samples, dim)`.
        clusters: How many clusters.
        seed: Seed of the starting points (k-means++).

    Raises:
        ImportError: If scikit-learn is missing.
    """
    cluster = import_optional("sklearn.cluster", "k_means")
    # Collapsed embeddings have fewer places than there are classes, which
    # scikit-learn warns of and the figures show.
    places = len(np.unique(vectors, axis=0))
    return np.asarray(
        cluster.KMeans(min(clusters, places), n_init=1, random_state=seed)
        .fit(vectors)
        .labels_
    )


def _in_space(
    who: str, embeddings: Any, labels: Any, distance: str
) -> tuple[np.ndarray, np.ndarray]:
    check_distance(who, distance)
    vectors, numbers = embedding_set(who, embeddings, labels)
    return (unit_rows(vectors) if distance == "cosine" else vectors), numbers

"""Whether the nearest neighbours of a sample are of its class."""

from typing import Any

import numpy as np

from keras_finegrain._base.checks import positive_integer
from keras_finegrain.metrics.embedding_set import (
    CHUNK_SIZE,
    RetrievalSet,
    retrieval_set,
)
from keras_finegrain.metrics.neighbours import (
    Neighbours,
    QueryMetric,
    of_each_query,
)


def recall_at_k(
    embeddings: Any,
    labels: Any,
    k: int = 1,
    *,
    gallery_embeddings: Any = None,
    gallery_labels: Any = None,
    distance: str = "cosine",
    chunk_size: int = CHUNK_SIZE,
) -> float:
    """Share of samples with one of their class among their k nearest.

    ```
    Recall@k = mean_i [ min_{j != i, y_j = y_i} rank_i(j) <= k ]
    ```

    Every sample is a query among all the others: it is no neighbour of its
    own. A sample that is alone in its class can have no hit and is left out
    of the mean.

    Equally near neighbours of another class count as nearer. The recall
    therefore does not depend on the order of the samples, and an embedding
    that maps everything to one point scores 0 rather than at random. Distances
    are compared as sums over (q_d - g_d)² in float64; a faster matrix product
    decides only where its rounding cannot change the order.

    Args:
        embeddings: Array or tensor of any backend, `(samples, dim)`.
        labels: Integers `(samples,)`.
        k: Number of neighbours, at least 1 and at most as many as there are.
            Defaults to 1, which papers on fine-grained retrieval report
            first.
        gallery_embeddings: Embeddings among which the neighbours are searched,
            `(gallery, dim)`. Defaults to the samples themselves.
        gallery_labels: Labels of the gallery, `(gallery,)`.
        distance: `"cosine"` or `"euclidean"`. Defaults to `"cosine"`, which
            compares directions: it treats a softmax classifier, whose
            embedding lengths mean little, and a normalised one alike.
        chunk_size: Queries that are compared with the gallery at a time,
            at least 1. Bounds the memory, O(chunk_size · gallery), and changes
            no result. Defaults to 256.

    Returns:
        The recall, in [0, 1].

    Raises:
        ValueError: If an argument is out of its range, the shapes disagree,
            an embedding is not finite, or no sample has a match.

    Example:
    >>> import numpy as np
    >>> embeddings = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    >>> recall_at_k(embeddings, np.array([0, 0, 1, 1]))
    1.0
    >>> recall_at_k(embeddings, np.array([0, 1, 0, 1]))
    0.0

    Reference:

    - [Jegou et al., Product quantization for nearest neighbor search, TPAMI
      2011](https://doi.org/10.1109/TPAMI.2010.57), section V; queries within
      the test set as in [Song et al., CVPR
      2016](https://arxiv.org/abs/1511.06452).
    """
    who = "recall_at_k"
    found = retrieval_set(
        who, embeddings, labels, gallery_embeddings, gallery_labels, distance
    )
    k = number_of_neighbours(who, k, found)
    return _mean(who, found, lambda n: n.hit(k), chunk_size, k=k)


def precision_at_k(
    embeddings: Any,
    labels: Any,
    k: int = 1,
    *,
    gallery_embeddings: Any = None,
    gallery_labels: Any = None,
    distance: str = "cosine",
    chunk_size: int = CHUNK_SIZE,
) -> float:
    """Share of a sample's own class among its k nearest neighbours.

    ```
    Precision@k = mean_i |{j : y_j = y_i, rank_i(j) <= k}| / k
    ```

    Precision@1 is Recall@1. In a class of fewer than k + 1 samples no query
    can reach 1: `r_precision` takes as many neighbours as the class has.
    Lone samples and ties count as in `recall_at_k`.

    Args:
        embeddings: Array or tensor of any backend, `(samples, dim)`.
        labels: Integers `(samples,)`.
        k: Number of neighbours, at least 1 and at most as many as there are.
            Defaults to 1.
        gallery_embeddings: As in `recall_at_k`.
        gallery_labels: As in `recall_at_k`.
        distance: As in `recall_at_k`.
        chunk_size: As in `recall_at_k`.

    Returns:
        The precision, in [0, 1].

    Raises:
        ValueError: As in `recall_at_k`.

    Example:
    >>> import numpy as np
    >>> embeddings = np.array([[0.0], [1.0], [2.5], [3.0]])
    >>> labels = np.array([0, 0, 0, 1])
    >>> precision_at_k(embeddings, labels, k=2, distance="euclidean")
    0.8333333333333334
    """
    who = "precision_at_k"
    found = retrieval_set(
        who, embeddings, labels, gallery_embeddings, gallery_labels, distance
    )
    k = number_of_neighbours(who, k, found)
    return _mean(who, found, lambda n: n.precision(k), chunk_size, k=k)


def r_precision(
    embeddings: Any,
    labels: Any,
    *,
    gallery_embeddings: Any = None,
    gallery_labels: Any = None,
    distance: str = "cosine",
    chunk_size: int = CHUNK_SIZE,
) -> float:
    """Share of a sample's own class among its R nearest neighbours.

    ```
    R-precision = mean_i |{j : y_j = y_i, rank_i(j) <= R_i}| / R_i
    ```

    with R_i the number of other samples of the class of i. It is 1 if all
    samples of the own class are nearer than any other. Unlike Recall@1 it
    depends on the whole class. Lone samples and ties count as in `recall_at_k`.

    Args:
        embeddings: Array or tensor of any backend, `(samples, dim)`.
        labels: Integers `(samples,)`.
        gallery_embeddings: As in `recall_at_k`.
        gallery_labels: As in `recall_at_k`.
        distance: As in `recall_at_k`.
        chunk_size: As in `recall_at_k`.

    Returns:
        The R-precision, in [0, 1].

    Raises:
        ValueError: As in `recall_at_k`.

    Example:
    >>> import numpy as np
    >>> embeddings = np.array([[0.0], [1.0], [2.5], [3.0]])
    >>> labels = np.array([0, 0, 0, 1])
    >>> print(round(r_precision(embeddings, labels, distance="euclidean"), 4))
    0.8333

    Reference:

    - [Musgrave et al., A Metric Learning Reality Check, ECCV
      2020](https://arxiv.org/abs/2003.08505), section 3.2.
    """
    who = "r_precision"
    found = retrieval_set(
        who, embeddings, labels, gallery_embeddings, gallery_labels, distance
    )
    return _mean(who, found, Neighbours.r_precision, chunk_size)


def map_at_r(
    embeddings: Any,
    labels: Any,
    *,
    gallery_embeddings: Any = None,
    gallery_labels: Any = None,
    distance: str = "cosine",
    chunk_size: int = CHUNK_SIZE,
) -> float:
    """Mean average precision over a sample's R nearest neighbours.

    ```
    MAP@R = mean_i 1/R_i Σ_{r <= R_i} [y_(r) = y_i] · P_i(r)
    ```

    with R_i the number of other samples of the class of i, (r) its r-th
    nearest neighbour and P_i(r) the precision among the first r. Unlike
    R-precision it depends on the order of the R neighbours. Lone samples and
    ties count as in `recall_at_k`.

    Args:
        embeddings: Array or tensor of any backend, `(samples, dim)`.
        labels: Integers `(samples,)`.
        gallery_embeddings: As in `recall_at_k`.
        gallery_labels: As in `recall_at_k`.
        distance: As in `recall_at_k`.
        chunk_size: As in `recall_at_k`.

    Returns:
        MAP@R, in [0, 1]; never above `r_precision`.

    Raises:
        ValueError: As in `recall_at_k`.

    Example:
    >>> import numpy as np
    >>> embeddings = np.array([[0.0], [1.0], [2.5], [3.0]])
    >>> labels = np.array([0, 0, 0, 1])
    >>> print(round(map_at_r(embeddings, labels, distance="euclidean"), 4))
    0.75

    Reference:

    - [Musgrave et al., A Metric Learning Reality Check, ECCV
      2020](https://arxiv.org/abs/2003.08505), section 3.2.
    """
    who = "map_at_r"
    found = retrieval_set(
        who, embeddings, labels, gallery_embeddings, gallery_labels, distance
    )
    return _mean(who, found, Neighbours.average_precision, chunk_size)


def knn_accuracy(
    embeddings: Any,
    labels: Any,
    k: int = 5,
    *,
    gallery_embeddings: Any = None,
    gallery_labels: Any = None,
    distance: str = "cosine",
    chunk_size: int = CHUNK_SIZE,
) -> float:
    """Share of samples that their k nearest neighbours classify correctly.

    The class with the most votes among the k nearest wins; of several with as
    many votes, that of the nearest sample. Lone samples and equal distances
    count as in `recall_at_k`.

    With the training set as the gallery this is the k-NN accuracy that
    evaluates embeddings without a classifier.

    Args:
        embeddings: Array or tensor of any backend, `(samples, dim)`.
        labels: Integers `(samples,)`.
        k: Number of voters, at least 1 and at most as many as there are.
            Defaults to 5: classes of fine-grained data sets have tens of
            samples.
        gallery_embeddings: As in `recall_at_k`.
        gallery_labels: As in `recall_at_k`.
        distance: As in `recall_at_k`.
        chunk_size: As in `recall_at_k`.

    Returns:
        The accuracy, in [0, 1].

    Raises:
        ValueError: As in `recall_at_k`.

    Example:
    >>> import numpy as np
    >>> embeddings = np.array([[0.0], [1.0], [2.5], [3.0], [9.0]])
    >>> labels = np.array([0, 0, 0, 1, 1])
    >>> knn_accuracy(embeddings, labels, k=3, distance="euclidean")
    0.6

    Reference:

    - [Wu et al., Unsupervised Feature Learning via Non-Parametric Instance
      Discrimination, CVPR 2018](https://arxiv.org/abs/1805.01978), section
      3.4, without its weights.
    """
    who = "knn_accuracy"
    found = retrieval_set(
        who, embeddings, labels, gallery_embeddings, gallery_labels, distance
    )
    k = number_of_neighbours(who, k, found)
    return _mean(who, found, lambda n: n.vote(k), chunk_size, k=k)


def number_of_neighbours(who: str, k: int, found: RetrievalSet) -> int:
    """Returns `k`, or raises if a query has fewer neighbours."""
    k = positive_integer(who, "k", k)
    if k > found.neighbours:
        raise ValueError(
            f"{who}: k must be at most the number of neighbours, "
            f"{found.neighbours}, received {k}."
        )
    return k


def _mean(
    who: str,
    found: RetrievalSet,
    metric: QueryMetric,
    chunk_size: int,
    k: int | None = None,
) -> float:
    """The mean over queries, of k neighbours or of the whole class."""
    positive_integer(who, "chunk_size", chunk_size)
    values = of_each_query([metric], found, k or 1, k is None, chunk_size)
    return float(np.mean(values))

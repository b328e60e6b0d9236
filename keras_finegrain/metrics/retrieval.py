"""How well the nearest neighbours of an embedding share its class."""

from typing import Any

import numpy as np

from keras_finegrain._base.checks import positive_integer
from keras_finegrain.metrics.embedding_set import (
    CHUNK_SIZE,
    RetrievalSet,
    check_chunk_size,
    retrieval_set,
)
from keras_finegrain.metrics.neighbourhood import (
    Neighbourhoods,
    OfEachQuery,
    of_each_query,
)
from keras_finegrain.metrics.search import Reach


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

    Every sample is a query against all the others: it is no neighbour of its
    own. A sample that is alone in its class can have no hit and is left out
    of the mean.

    Equally near neighbours of another class count as nearer. The figure
    therefore does not depend on the order of the samples, and an embedding
    that maps everything to one point scores 0 rather than at random. Distances
    are compared as sums over (q_d - g_d)² in float64; faster, rounded products
    only rule out what cannot matter.

    Args:
        embeddings: Array or tensor of any backend, `(samples, dim)`.
        labels: Integers `(samples,)`.
        k: Number of neighbours that are looked at, at least 1. Defaults to 1,
            the figure that papers on fine-grained retrieval report first.
        gallery_embeddings: Where the neighbours are looked up, `(gallery,
            dim)`. Defaults to the samples themselves.
        gallery_labels: Labels of the gallery, `(gallery,)`.
        distance: `"cosine"` or `"euclidean"`. Defaults to `"cosine"`, which
            compares directions and so treats a softmax classifier, whose
            embedding lengths mean little, and a normalised one alike.
        chunk_size: Bounds the memory, which is O(chunk_size · gallery). It
            changes no figure. Defaults to 256.

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
    k = positive_integer("recall_at_k", "k", k)
    found = retrieval_set(
        "recall_at_k",
        embeddings,
        labels,
        gallery_embeddings,
        gallery_labels,
        distance,
    )
    return _mean("recall_at_k", found, lambda n: n.hit(k), Reach(k), chunk_size)


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
    can reach 1: `r_precision` asks for as many neighbours as there are. Which
    samples count, and how ties do, is as in `recall_at_k`.

    Args:
        embeddings: Array or tensor of any backend, `(samples, dim)`.
        labels: Integers `(samples,)`.
        k: Number of neighbours that are looked at, at least 1 and at most as
            many as there are. Defaults to 1.
        gallery_embeddings: As in `recall_at_k`.
        gallery_labels: As in `recall_at_k`.
        distance: As in `recall_at_k`.
        chunk_size: As in `recall_at_k`.

    Returns:
        The precision, in [0, 1].

    Raises:
        ValueError: As in `recall_at_k`, and for a k above the number of
            neighbours.

    Example:
    >>> import numpy as np
    >>> embeddings = np.array([[0.0], [1.0], [2.5], [3.0]])
    >>> labels = np.array([0, 0, 0, 1])
    >>> precision_at_k(embeddings, labels, k=2, distance="euclidean")
    0.8333333333333334
    """
    found = retrieval_set(
        "precision_at_k",
        embeddings,
        labels,
        gallery_embeddings,
        gallery_labels,
        distance,
    )
    k = number_of_neighbours("precision_at_k", k, found)
    return _mean(
        "precision_at_k", found, lambda n: n.precision(k), Reach(k), chunk_size
    )


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

    with R_i the number of other samples of the class of i: 1 where each sees
    all of its own before any other. Unlike Recall@1 it looks at the whole
    class. Which samples count, and how ties do, is as in `recall_at_k`.

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
    found = retrieval_set(
        "r_precision",
        embeddings,
        labels,
        gallery_embeddings,
        gallery_labels,
        distance,
    )
    return _mean(
        "r_precision",
        found,
        Neighbourhoods.r_precision,
        Reach(1, whole_class=True),
        chunk_size,
    )


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
    nearest neighbour and P_i(r) the precision among the first r. It is
    R-precision that also asks in which order. Which samples count, and how
    ties do, is as in `recall_at_k`.

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
    found = retrieval_set(
        "map_at_r",
        embeddings,
        labels,
        gallery_embeddings,
        gallery_labels,
        distance,
    )
    return _mean(
        "map_at_r",
        found,
        Neighbourhoods.average_precision,
        Reach(1, whole_class=True),
        chunk_size,
    )


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
    """Share of samples that their k nearest neighbours classify rightly.

    The class with the most votes among the k nearest wins; of several with as
    many the one with the nearest sample. Which samples count, and how equal
    distances do, is as in `recall_at_k`.

    With the training set as the gallery this is the k-NN accuracy by which
    embeddings are probed where there is no classifier.

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
        ValueError: As in `recall_at_k`, and for a k above the number of
            neighbours.

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
    found = retrieval_set(
        "knn_accuracy",
        embeddings,
        labels,
        gallery_embeddings,
        gallery_labels,
        distance,
    )
    k = number_of_neighbours("knn_accuracy", k, found)
    return _mean(
        "knn_accuracy",
        found,
        lambda n: n.vote(k),
        Reach(k, voters=k),
        chunk_size,
    )


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
    figure: OfEachQuery,
    reach: Reach,
    chunk_size: int,
) -> float:
    check_chunk_size(who, chunk_size)
    return float(np.mean(of_each_query(found, [figure], reach, chunk_size)))

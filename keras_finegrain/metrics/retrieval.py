"""How well the nearest neighbours of an embedding share its class."""

from typing import Any

import numpy as np

from keras_finegrain.metrics.embedding_set import (
    CHUNK_SIZE,
    embedding_set,
    squared_distances,
    unit_rows,
)


def recall_at_k(
    embeddings: Any,
    labels: Any,
    k: int = 1,
    *,
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
    that maps everything to one point scores 0 rather than at random.

    Args:
        embeddings: Array or tensor of any backend, `(samples, dim)`.
        labels: Integers `(samples,)`.
        k: Number of neighbours that are looked at, at least 1. Defaults to 1,
            the figure that papers on fine-grained retrieval report first.
        distance: `"cosine"` or `"euclidean"`. Defaults to `"cosine"`, which
            compares directions and so treats a softmax classifier, whose
            embedding lengths mean little, and a normalised one alike.
        chunk_size: Queries compared at a time; memory is
            O(chunk_size · samples). Defaults to 1024.

    Returns:
        The recall, in [0, 1].

    Raises:
        ValueError: If an argument is out of its range, the shapes disagree,
            an embedding is not finite, or every sample is alone in its class.

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
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ValueError(
            f"recall_at_k: k must be an integer of at least 1, received {k!r}."
        )
    if distance not in ("cosine", "euclidean"):
        raise ValueError(
            "recall_at_k: distance must be 'cosine' or 'euclidean', received "
            f"{distance!r}."
        )
    if chunk_size < 1:
        raise ValueError(
            "recall_at_k: chunk_size must be at least 1, received "
            f"{chunk_size}."
        )
    ranks = first_match_ranks(
        *embedding_set("recall_at_k", embeddings, labels),
        distance=distance,
        chunk_size=chunk_size,
    )
    ranks = ranks[ranks > 0]
    if not len(ranks):
        raise ValueError(
            "recall_at_k: at least one class must have two samples, received "
            f"{len(embeddings)} samples that are each alone in their class."
        )
    return float(np.mean(ranks <= k))


def first_match_ranks(
    embeddings: np.ndarray,
    labels: np.ndarray,
    *,
    distance: str,
    chunk_size: int,
) -> np.ndarray:
    """Rank of each sample's nearest neighbour of its own class.

    The rank is one more than the number of samples of other classes that are
    at least as near. Counting needs no sort, and holds for every k at once.

    Args:
        embeddings: Floats `(samples, dim)`.
        labels: Integers `(samples,)`.
        distance: `"cosine"` or `"euclidean"`.
        chunk_size: Queries compared at a time.

    Returns:
        Integers `(samples,)` from 1, and 0 for a sample alone in its class.
    """
    if distance == "cosine":
        # |a - b|² = 2 - 2 cos(a, b) on unit vectors: the same order.
        embeddings = unit_rows(embeddings)
    ranks = np.zeros(len(embeddings), dtype=np.int64)
    for start in range(0, len(embeddings), chunk_size):
        queries = np.arange(start, min(start + chunk_size, len(embeddings)))
        distances = squared_distances(embeddings[queries], embeddings)
        same_class = labels[queries][:, None] == labels[None, :]
        distances[queries - start, queries] = np.inf
        nearest = np.where(same_class, distances, np.inf).min(axis=1)
        nearer = (distances <= nearest[:, None]) & ~same_class
        ranks[queries] = np.where(
            np.isfinite(nearest), 1 + nearer.sum(axis=1), 0
        )
    return ranks

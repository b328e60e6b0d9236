"""How well the nearest neighbours of an embedding share its class."""

from collections.abc import Iterator
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
    _check("recall_at_k", distance, chunk_size)
    ranks = first_match_ranks(
        *embedding_set("recall_at_k", embeddings, labels),
        distance=distance,
        chunk_size=chunk_size,
    )
    ranks = ranks[ranks > 0]
    if not len(ranks):
        raise _all_alone("recall_at_k", len(embeddings))
    return float(np.mean(ranks <= k))


def r_precision(
    embeddings: Any,
    labels: Any,
    *,
    distance: str = "cosine",
    chunk_size: int = CHUNK_SIZE,
) -> float:
    """Share of a sample's own class among its R nearest neighbours.

    ```
    R-precision = mean_i |{j : y_j = y_i, rank_i(j) <= R_i}| / R_i
    ```

    with R_i the number of other samples of the class of i: 1 where each sees
    all of its own before any other. Unlike Recall@1 it looks at the whole
    class. Samples alone in their class are left out, and equally near
    neighbours of another class count as nearer, as in `recall_at_k`.

    Args:
        embeddings: Array or tensor of any backend, `(samples, dim)`.
        labels: Integers `(samples,)`.
        distance: `"cosine"` or `"euclidean"`. Defaults to `"cosine"`.
        chunk_size: Queries compared at a time; memory is
            O(chunk_size · samples). Defaults to 1024.

    Returns:
        The R-precision, in [0, 1].

    Raises:
        ValueError: If an argument is out of its range, the shapes disagree,
            an embedding is not finite, or every sample is alone in its class.

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
    _check("r_precision", distance, chunk_size)
    figures = [
        np.mean(ranks <= len(ranks))
        for ranks in _match_ranks(
            "r_precision", embeddings, labels, distance, chunk_size
        )
    ]
    return float(np.mean(figures))


def map_at_r(
    embeddings: Any,
    labels: Any,
    *,
    distance: str = "cosine",
    chunk_size: int = CHUNK_SIZE,
) -> float:
    """Mean average precision over a sample's R nearest neighbours.

    ```
    MAP@R = mean_i 1/R_i Σ_{r <= R_i} [y_(r) = y_i] · P_i(r)
    ```

    with R_i the number of other samples of the class of i, (r) its r-th
    nearest neighbour and P_i(r) the precision among the first r. It is
    R-precision that also asks in which order. Samples alone in their class are
    left out, and equally near neighbours of another class count as nearer, as
    in `recall_at_k`.

    Args:
        embeddings: Array or tensor of any backend, `(samples, dim)`.
        labels: Integers `(samples,)`.
        distance: `"cosine"` or `"euclidean"`. Defaults to `"cosine"`.
        chunk_size: Queries compared at a time; memory is
            O(chunk_size · samples). Defaults to 1024.

    Returns:
        MAP@R, in [0, 1]; never above `r_precision`.

    Raises:
        ValueError: If an argument is out of its range, the shapes disagree,
            an embedding is not finite, or every sample is alone in its class.

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
    _check("map_at_r", distance, chunk_size)
    figures = []
    for ranks in _match_ranks(
        "map_at_r", embeddings, labels, distance, chunk_size
    ):
        # At the rank of the m-th match m of the neighbours were matches.
        precision = np.arange(1, len(ranks) + 1) / ranks
        figures.append(np.mean(np.where(ranks <= len(ranks), precision, 0.0)))
    return float(np.mean(figures))


def _match_ranks(
    caller: str,
    embeddings: Any,
    labels: Any,
    distance: str,
    chunk_size: int,
) -> Iterator[np.ndarray]:
    """The ranks of each sample's own class among its neighbours.

    Args:
        caller: The public function, for messages.
        embeddings: As there.
        labels: As there.
        distance: As there.
        chunk_size: As there.

    Yields:
        For every sample that is not alone in its class, the ranks `(R,)` of
        the R others of its class, from 1 and rising. Those above R are only
        known to be so.
    """
    embeddings, labels = embedding_set(caller, embeddings, labels)
    matches = np.bincount(labels) - 1
    if not matches.any():
        raise _all_alone(caller, len(labels))
    if distance == "cosine":
        embeddings = unit_rows(embeddings)
    for start in range(0, len(embeddings), chunk_size):
        chunk = slice(start, start + chunk_size)
        distances = squared_distances(embeddings[chunk], embeddings)
        for offset, row in enumerate(distances):
            query = start + offset
            count = matches[labels[query]]
            if count == 0:
                continue
            same_class = labels == labels[query]
            others = row[~same_class]
            same_class[query] = False
            own = np.sort(row[same_class])
            # More than R nearer strangers put a match beyond R, however many.
            if len(others) > count:
                others = np.partition(others, count - 1)[:count]
            nearer = np.searchsorted(np.sort(others), own, side="right")
            yield np.arange(1, count + 1) + nearer


def _check(caller: str, distance: str, chunk_size: int) -> None:
    if distance not in ("cosine", "euclidean"):
        raise ValueError(
            f"{caller}: distance must be 'cosine' or 'euclidean', received "
            f"{distance!r}."
        )
    if chunk_size < 1:
        raise ValueError(
            f"{caller}: chunk_size must be at least 1, received {chunk_size}."
        )


def _all_alone(caller: str, samples: int) -> ValueError:
    return ValueError(
        f"{caller}: at least one class must have two samples, received "
        f"{samples} samples that are each alone in their class."
    )


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

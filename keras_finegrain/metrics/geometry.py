"""How compact the classes are in relation to what separates them."""

from typing import Any, NamedTuple

import numpy as np

from keras_finegrain.metrics.embedding_set import (
    CHUNK_SIZE,
    check_chunk_size,
    check_distance,
    embedding_set,
    squared_distances,
    unit_rows,
)


def intra_inter_distance_ratio(
    embeddings: Any,
    labels: Any,
    *,
    distance: str = "cosine",
    chunk_size: int = CHUNK_SIZE,
) -> float:
    """Mean distance within the classes over mean distance between them.

    ```
            mean_{i<j, y_i = y_j}  |x_i - x_j|
    ratio = -----------------------------------
            mean_{i<j, y_i != y_j} |x_i - x_j|
    ```

    0 means that each class is one point, 1 that the classes cannot be told
    apart. Pairs of samples are compared, not class means: with means, a class
    of few samples would look more compact than it is.

    Args:
        embeddings: Array or tensor of any backend, `(samples, dim)`.
        labels: Integers `(samples,)`. A sample that is alone in its class
            counts in the distances between classes only.
        distance: `"cosine"` scales embeddings to length 1 first, so that the
            figure describes the same directions as `recall_at_k`;
            `"euclidean"` describes the raw space, and still has no unit.
            Defaults to `"cosine"`.
        chunk_size: Samples compared with all the others at a time; memory is
            O(chunk_size · samples). Defaults to 256.

    Returns:
        The ratio, not negative.

    Raises:
        ValueError: If the shapes disagree, an embedding is not finite, there
            are fewer than two classes, no class has two samples, or all
            samples of different classes coincide.

    Example:
    >>> import numpy as np
    >>> embeddings = np.array([[0.0], [1.0], [10.0], [11.0]])
    >>> intra_inter_distance_ratio(
    ...     embeddings, np.array([0, 0, 1, 1]), distance="euclidean"
    ... )
    0.1

    Reference:

    - [Wen et al., A discriminative feature learning approach for deep face
      recognition, ECCV 2016](https://doi.org/10.1007/978-3-319-46478-7_31),
      which names the two distances that a discriminative embedding trades.
    """
    return distance_sums(
        "intra_inter_distance_ratio", embeddings, labels, distance, chunk_size
    ).ratio()


class DistanceSums(NamedTuple):
    """What each sample adds to the two means.

    Attributes:
        intra: Sum of its distances within its class, `(samples,)`.
        inter: Sum of its distances to other classes, `(samples,)`.
        intra_pairs: How many distances the first sum has, `(samples,)`.
        inter_pairs: How many the second has, `(samples,)`.
    """

    intra: np.ndarray
    inter: np.ndarray
    intra_pairs: np.ndarray
    inter_pairs: np.ndarray

    def ratio(self) -> float:
        """The ratio over all pairs."""
        # Ordered pairs: each unordered one counts twice everywhere.
        intra = self.intra.sum() / self.intra_pairs.sum()
        return float(intra / (self.inter.sum() / self.inter_pairs.sum()))

    def deviation(self) -> float:
        """The standard error of the ratio over the draw of the samples.

        By the jackknife (Efron and Stein 1981): the ratio without each sample
        and its pairs. (The pairs of a sample hang together, so that their
        spread over the square root of their number would be far too small.)
        """
        # Both (i, j) and (j, i) go with sample i.
        intra, inter, intra_pairs, inter_pairs = (
            values.sum() - 2 * values for values in self
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            without = (intra / intra_pairs) / (inter / inter_pairs)
        # Without it there would be no pair of one class, or of two.
        without = without[np.isfinite(without)]
        if not len(without):
            return float("inf")
        count = len(without)
        return float(np.sqrt((count - 1) * np.var(without)))


def distance_sums(
    who: str,
    embeddings: Any,
    labels: Any,
    distance: str,
    chunk_size: int,
) -> DistanceSums:
    """Sums the distances of each sample, with errors that name the caller."""
    check_distance(who, distance)
    check_chunk_size(who, chunk_size)
    embeddings, labels = embedding_set(who, embeddings, labels)
    counts = np.bincount(labels)
    if len(counts) < 2 or counts.max() < 2:
        raise ValueError(
            f"{who}: there must be two classes and a class with two "
            f"samples, received {len(counts)} classes of at most "
            f"{counts.max()} samples."
        )
    if distance == "cosine":
        embeddings = unit_rows(embeddings)
    else:
        # Distances do not change, and |a|² + |b|² - 2ab cancels less.
        embeddings = embeddings - embeddings.mean(axis=0)
    intra, inter = np.zeros(len(labels)), np.zeros(len(labels))
    for start in range(0, len(embeddings), chunk_size):
        rows = slice(start, start + chunk_size)
        distances = squared_distances(embeddings[rows], embeddings)
        np.sqrt(distances, out=distances)
        own = np.arange(len(distances))
        # Rounding leaves up to 1e-8 between a sample and itself.
        distances[own, start + own] = 0.0
        same_class = labels[rows][:, None] == labels[None, :]
        intra[rows] = distances.sum(axis=1, where=same_class)
        inter[rows] = distances.sum(axis=1, where=~same_class)
    if not inter.any():
        raise ValueError(
            f"{who}: samples of different classes must not all coincide, "
            "received embeddings that are all equal. The model has "
            "collapsed: lower its learning rate or loss_weight."
        )
    sizes = counts[labels]
    return DistanceSums(intra, inter, sizes - 1, len(labels) - sizes)

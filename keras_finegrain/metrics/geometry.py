"""Distances within the classes over distances between them."""

from typing import Any, NamedTuple

import numpy as np

from keras_finegrain._base.checks import positive_integer
from keras_finegrain.metrics.embedding_set import (
    CHUNK_SIZE,
    embedding_set,
    squared_distances,
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

    0 means that each class is one point, 1 that the classes are mixed. Pairs
    of samples are compared, not class means: with means, a class of few
    samples would look more compact than it is.

    Args:
        embeddings: Array or tensor of any backend, `(samples, dim)`.
        labels: Integers `(samples,)`. A sample that is alone in its class
            counts in the distances between classes only.
        distance: `"cosine"` scales embeddings to length 1 first and so
            compares directions, as `recall_at_k` does; `"euclidean"` compares
            the raw embeddings. Defaults to `"cosine"`.
        chunk_size: Samples that are compared with all the others at a time, at
            least 1; memory is O(chunk_size · samples). Defaults to 256.

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
      which describes the two distances of a discriminative embedding.
    """
    return distance_sums(
        "intra_inter_distance_ratio", embeddings, labels, distance, chunk_size
    ).ratio()


class DistanceSums(NamedTuple):
    """Sums over the distances of each sample.

    Attributes:
        intra: Sum of its distances within its class, `(samples,)`.
        inter: Sum of its distances to other classes, `(samples,)`.
        intra_pairs: Number of distances in `intra`, `(samples,)`.
        inter_pairs: Number of distances in `inter`, `(samples,)`.
    """

    intra: np.ndarray
    inter: np.ndarray
    intra_pairs: np.ndarray
    inter_pairs: np.ndarray

    def ratio(self) -> float:
        """The ratio over all pairs."""
        # Each pair counts twice in all sums.
        intra = self.intra.sum() / self.intra_pairs.sum()
        return float(intra / (self.inter.sum() / self.inter_pairs.sum()))

    def deviation(self) -> float:
        """The standard error of the ratio over the draw of the samples.

        By the jackknife (Efron and Stein 1981): the ratio without each sample
        and its pairs. The pairs of one sample depend on one another, so that
        their standard deviation over the square root of their number would be
        far too small.
        """
        # Without sample i, both (i, j) and (j, i) are missing.
        intra, inter, intra_pairs, inter_pairs = (
            values.sum() - 2 * values for values in self
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            without = (intra / intra_pairs) / (inter / inter_pairs)
        # Not finite where the others have no pair within or between classes.
        without = without[np.isfinite(without)]
        if not len(without):
            return float("inf")
        return float(np.sqrt((len(without) - 1) * np.var(without)))


def distance_sums(
    who: str,
    embeddings: Any,
    labels: Any,
    distance: str,
    chunk_size: int,
) -> DistanceSums:
    """Sums the distances of each sample."""
    positive_integer(who, "chunk_size", chunk_size)
    embeddings, labels = embedding_set(who, embeddings, labels, distance)
    counts = np.bincount(labels)
    if len(counts) < 2 or counts.max() < 2:
        raise ValueError(
            f"{who}: labels must have two classes and a class with two "
            f"samples, received {len(counts)} classes of at most "
            f"{counts.max()} samples."
        )
    if distance == "euclidean":
        # Distances stay the same, and |a|² + |b|² - 2ab cancels less.
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

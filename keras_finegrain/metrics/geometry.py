"""How compact the classes are in relation to what separates them."""

from typing import Any

import numpy as np

from keras_finegrain.metrics.embedding_set import (
    CHUNK_SIZE,
    embedding_set,
    squared_distances,
    unit_rows,
)


def intra_inter_distance_ratio(
    embeddings: Any,
    labels: Any,
    *,
    normalize: bool = True,
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
        normalize: Whether embeddings are scaled to length 1 first. Defaults to
            `True`, so that the figure describes the same directions as
            `recall_at_k`. With `False` it describes the raw space, and still
            has no unit.
        chunk_size: Samples compared with all the others at a time; memory is
            O(chunk_size · samples). Defaults to 1024.

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
    ...     embeddings, np.array([0, 0, 1, 1]), normalize=False
    ... )
    0.1

    Reference:

    - [Wen et al., A discriminative feature learning approach for deep face
      recognition, ECCV 2016](https://doi.org/10.1007/978-3-319-46478-7_31),
      which names the two distances that a discriminative embedding trades.
    """
    embeddings, labels = embedding_set(
        "intra_inter_distance_ratio", embeddings, labels
    )
    if chunk_size < 1:
        raise ValueError(
            "intra_inter_distance_ratio: chunk_size must be at least 1, "
            f"received {chunk_size}."
        )
    counts = np.bincount(labels)
    if len(counts) < 2 or counts.max() < 2:
        raise ValueError(
            "intra_inter_distance_ratio: there must be two classes and a "
            f"class with two samples, received {len(counts)} classes of at "
            f"most {counts.max()} samples."
        )
    if normalize:
        embeddings = unit_rows(embeddings)
    else:
        # Distances do not change, and |a|² + |b|² - 2ab cancels less.
        embeddings = embeddings - embeddings.mean(axis=0)
    intra, inter = 0.0, 0.0
    for start in range(0, len(embeddings), chunk_size):
        rows = slice(start, start + chunk_size)
        distances = np.sqrt(squared_distances(embeddings[rows], embeddings))
        own = np.arange(len(distances))
        # Rounding leaves up to 1e-8 between a sample and itself.
        distances[own, start + own] = 0.0
        same_class = labels[rows][:, None] == labels[None, :]
        intra += distances.sum(where=same_class)
        inter += distances.sum(where=~same_class)
    # Ordered pairs, as summed above: each unordered one counts twice in both.
    intra_pairs = np.sum(counts * (counts - 1))
    inter_pairs = len(labels) ** 2 - np.sum(counts**2)
    if inter == 0.0:
        raise ValueError(
            "intra_inter_distance_ratio: samples of different classes must "
            "not all coincide, received embeddings that are all equal. The "
            "model has collapsed: lower its learning rate or loss_weight."
        )
    return float((intra / intra_pairs) / (inter / inter_pairs))

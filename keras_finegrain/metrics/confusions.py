"""Which classes are confused with one another in an embedding."""

import dataclasses
from typing import Any

import numpy as np

from keras_finegrain._base.checks import positive_integer
from keras_finegrain.metrics.embedding_set import (
    CHUNK_SIZE,
    RetrievalSet,
    retrieval_set,
)
from keras_finegrain.metrics.neighbours import neighbours


@dataclasses.dataclass(frozen=True)
class ConfusedPair:
    """A class and another one that its samples are taken for.

    Attributes:
        label: The true class.
        taken_for: The other class.
        count: Number of samples of the true class that are taken for it.
        share: `count` over the number of samples of the true class.
    """

    label: int
    taken_for: int
    count: int
    share: float


@dataclasses.dataclass(frozen=True)
class Confusions:
    """Number of samples of each true class and each class found.

    Attributes:
        classes: The labels in rising order, `(classes,)`.
        counts: Samples of the class of a row that were taken for the class of
            a column, `(classes, classes)`.
    """

    classes: np.ndarray
    counts: np.ndarray

    def worst(self, most: int = 10) -> list[ConfusedPair]:
        """The pairs of classes with the most errors, worst first.

        Args:
            most: Number of pairs at most. Defaults to 10.

        Example:
        >>> counts = np.array([[4, 1], [0, 5]])
        >>> Confusions(np.array([3, 8]), counts).worst()
        [ConfusedPair(label=3, taken_for=8, count=1, share=0.2)]
        """
        most = positive_integer("Confusions.worst", "most", most)
        errors = self.counts.copy()
        np.fill_diagonal(errors, 0)
        order = np.argsort(-errors, axis=None, kind="stable")[:most]
        rows, columns = np.unravel_index(order, errors.shape)
        sizes = self.counts.sum(axis=1)
        return [
            ConfusedPair(
                int(self.classes[row]),
                int(self.classes[column]),
                int(errors[row, column]),
                float(errors[row, column] / sizes[row]),
            )
            for row, column in zip(rows, columns, strict=True)
            if errors[row, column]
        ]


def nearest_class_confusions(
    embeddings: Any,
    labels: Any,
    *,
    gallery_embeddings: Any = None,
    gallery_labels: Any = None,
    distance: str = "cosine",
    chunk_size: int = CHUNK_SIZE,
) -> Confusions:
    """Counts the class of the nearest neighbour of each sample.

    The diagonal counts the hits of `recall_at_k(k=1)`. Which samples count,
    and how ties do, is as there.

    Args:
        embeddings: Array or tensor of any backend, `(samples, dim)`.
        labels: Integers `(samples,)`.
        gallery_embeddings: As in `recall_at_k`.
        gallery_labels: As in `recall_at_k`.
        distance: As in `recall_at_k`.
        chunk_size: As in `recall_at_k`.

    Returns:
        `Confusions`: the labels, the counts, and `worst()`.

    Raises:
        ValueError: As in `recall_at_k`.

    Example:
    >>> import numpy as np
    >>> embeddings = np.array([[0.0], [1.0], [2.5], [3.0], [9.0]])
    >>> confusions = nearest_class_confusions(
    ...     embeddings, np.array([0, 0, 0, 1, 1]), distance="euclidean"
    ... )
    >>> confusions.counts.tolist()
    [[2, 1], [1, 1]]
    """
    who = "nearest_class_confusions"
    positive_integer(who, "chunk_size", chunk_size)
    found = retrieval_set(
        who, embeddings, labels, gallery_embeddings, gallery_labels, distance
    )
    nearest = nearest_classes(found, chunk_size)
    has_match = nearest >= 0
    counts = np.zeros((len(found.classes),) * 2, np.int64)
    np.add.at(counts, (found.query_labels[has_match], nearest[has_match]), 1)
    return Confusions(found.classes, counts)


def nearest_classes(found: RetrievalSet, chunk_size: int) -> np.ndarray:
    """The number of the class of each query's nearest neighbour.

    Of equally near ones those of another class come first, and of those the
    smallest.

    Returns:
        Integers `(queries,)`, -1 where the query can find no match.
    """
    classes = np.full(len(found.query_labels), -1)
    for chunk in neighbours(found, 1, False, chunk_size):
        classes[chunk.queries] = chunk.classes[:, 0]
    return classes

"""Checks of a set of embeddings, and the distances within it."""

import dataclasses
from typing import Any

import numpy as np

from keras_finegrain._base.checks import one_of, real_array
from keras_finegrain.labels.forms import integer_labels

# Rows that are compared with the whole set at a time. 256 rows and 100,000
# samples have 200 MB of float64 distances.
CHUNK_SIZE = 256
DISTANCES = ("cosine", "euclidean")


@dataclasses.dataclass(frozen=True)
class RetrievalSet:
    """Queries, and the gallery in which their neighbours are searched.

    Attributes:
        queries: Floats `(queries, dim)`, scaled to the range [-1, 1].
        query_labels: Integers `(queries,)`.
        gallery: Floats `(gallery, dim)` on the same scale; the queries where
            there is no other.
        gallery_labels: Integers `(gallery,)`, numbered as `query_labels`.
        classes: The caller's label of each number.
        own: Whether the gallery is the queries, so that none is its own
            neighbour.
    """

    queries: np.ndarray
    query_labels: np.ndarray
    gallery: np.ndarray
    gallery_labels: np.ndarray
    classes: np.ndarray
    own: bool

    @property
    def matches(self) -> np.ndarray:
        """Samples of its class that each query can find, `(queries,)`."""
        counts = np.bincount(self.gallery_labels, minlength=len(self.classes))
        return counts[self.query_labels] - int(self.own)

    @property
    def neighbours(self) -> int:
        """Number of neighbours of a query."""
        return len(self.gallery) - int(self.own)


def embedding_set(
    who: str, embeddings: Any, labels: Any, distance: str = "euclidean"
) -> tuple[np.ndarray, np.ndarray]:
    """Checks embeddings and labels and returns them as NumPy arrays.

    Args:
        who: Name of the public function, with which errors begin.
        embeddings: Array or tensor of any backend, `(samples, dim)`.
        labels: Integers `(samples,)` or `(samples, 1)`, which need not be
            consecutive, or one-hot rows `(samples, num_classes)`.
        distance: `"cosine"` scales the embeddings to length 1, `"euclidean"`
            leaves them as they are.

    Returns:
        The embeddings as float64 `(samples, dim)` and the labels as
        consecutive integers from 0, `(samples,)`.

    Raises:
        ValueError: If the distance is unknown, the shapes disagree, a label is
            not an integer, or an embedding is NaN or infinite.
    """
    check_distance(who, distance)
    vectors = _checked_embeddings(who, "embeddings", embeddings)
    if distance == "cosine":
        vectors = unit_rows(vectors)
    numbers = integer_labels(who, labels, len(vectors))
    return vectors, np.unique(numbers, return_inverse=True)[1]


def retrieval_set(
    who: str,
    embeddings: Any,
    labels: Any,
    gallery_embeddings: Any,
    gallery_labels: Any,
    distance: str,
) -> RetrievalSet:
    """Checks queries and gallery.

    Args:
        who: Name of the public function, with which errors begin.
        embeddings: As in `embedding_set`.
        labels: As in `embedding_set`.
        gallery_embeddings: Likewise `(gallery, dim)`, or `None` to look the
            queries up among themselves.
        gallery_labels: Likewise `(gallery,)`, or `None`.
        distance: As in `embedding_set`.

    Raises:
        ValueError: If an argument is out of its range, or no query has a
            sample of its class in the gallery.
    """
    check_distance(who, distance)
    if (gallery_embeddings is None) != (gallery_labels is None):
        missing = "embeddings" if gallery_embeddings is None else "labels"
        raise ValueError(
            f"{who}: gallery_embeddings and gallery_labels belong together, "
            f"received no gallery_{missing}. Pass both, or neither to search "
            "among the queries."
        )
    queries = _checked_embeddings(who, "embeddings", embeddings)
    own_labels = integer_labels(who, labels, len(queries))
    gallery, all_labels = queries, own_labels
    own = gallery_embeddings is None
    if not own:
        gallery = _checked_embeddings(
            who, "gallery_embeddings", gallery_embeddings
        )
        if gallery.shape[1] != queries.shape[1]:
            raise ValueError(
                f"{who}: gallery_embeddings must have the queries' dim of "
                f"{queries.shape[1]}, received {gallery.shape[1]}. Embed both "
                "with one model."
            )
        all_labels = np.concatenate(
            [
                own_labels,
                integer_labels(
                    who, gallery_labels, len(gallery), "gallery_labels"
                ),
            ]
        )
    classes, numbers = np.unique(all_labels, return_inverse=True)
    # Scaled by a power of two, neighbours keep their exact order and squares
    # do not overflow.
    largest = max(np.abs(queries).max(), np.abs(gallery).max())
    exponent = -int(np.frexp(largest)[1])
    queries = np.ldexp(queries, exponent)
    gallery = queries if own else np.ldexp(gallery, exponent)
    if distance == "cosine":
        # |a - b|² = 2 - 2 cos(a, b) on unit vectors: the same order.
        queries = unit_rows(queries)
        gallery = queries if own else unit_rows(gallery)
    found = RetrievalSet(
        queries,
        numbers[: len(queries)],
        gallery,
        numbers[0 if own else len(queries) :],
        classes,
        own,
    )
    if not found.matches.any():
        rule = (
            "at least one class must have two samples"
            if own
            else "the gallery must have a sample of some query's class"
        )
        raise ValueError(
            f"{who}: {rule}, received {len(queries)} samples that are each "
            "alone in their class."
        )
    return found


def _checked_embeddings(who: str, name: str, values: Any) -> np.ndarray:
    """Finite float64 `(samples, dim)`."""
    embeddings = real_array(who, name, values)
    if embeddings.ndim != 2 or embeddings.size == 0:
        raise ValueError(
            f"{who}: {name} must have the shape (samples, dim) with at "
            f"least one sample, received {embeddings.shape}. Pool a feature "
            "map and flatten a batch axis first."
        )
    embeddings = embeddings.astype(np.float64, order="C")
    finite = np.isfinite(embeddings).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"{who}: {name} must be finite, received NaN or infinity "
            f"in {np.sum(~finite)} of {len(finite)} rows, first in row "
            f"{np.argmin(finite)}."
        )
    return embeddings


def check_distance(who: str, distance: str) -> None:
    """Raises for a distance that is neither cosine nor Euclidean."""
    one_of(who, "distance", distance, DISTANCES)


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Scales each row to length 1; a row of zeros stays zero."""
    # (Squares of the largest numbers overflow, of the smallest vanish.)
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=0.0)
    vectors = vectors / np.where(largest > 0, largest, 1.0)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(
        vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0
    )


def squared_distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances `(len(left), len(right))`, never negative."""
    # In place, memory holds one array of this size instead of three.
    squared = left @ right.T
    squared *= -2.0
    squared += np.einsum("id,id->i", left, left)[:, None]
    squared += np.einsum("jd,jd->j", right, right)[None, :]
    return np.maximum(squared, 0.0, out=squared)

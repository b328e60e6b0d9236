"""What every figure over a set of embeddings asks of its input."""

from typing import Any

import keras
import numpy as np

# Rows compared with the whole set at a time. 1024 rows against 100,000
# samples are 800 MB of float64 distances: the most a laptop should be asked.
CHUNK_SIZE = 1024


def embedding_set(
    caller: str, embeddings: Any, labels: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Checks embeddings and labels and returns them as NumPy arrays.

    Args:
        caller: Name of the public function, with which errors begin.
        embeddings: Array or tensor of any backend, `(samples, dim)`.
        labels: Integers `(samples,)` or `(samples, 1)`. Any integers will do:
            they need not be consecutive.

    Returns:
        The embeddings as float64 `(samples, dim)` and the labels as
        consecutive integers from 0, `(samples,)`.

    Raises:
        ValueError: If the shapes disagree, a label is not an integer, or an
            embedding is NaN or infinite.
    """
    embeddings = to_numpy(embeddings)
    labels = to_numpy(labels)
    if embeddings.ndim != 2 or embeddings.size == 0:
        raise ValueError(
            f"{caller}: embeddings must have the shape (samples, dim) with at "
            f"least one sample, received {embeddings.shape}. Pool a feature "
            "map and flatten a batch axis first."
        )
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (len(embeddings),):
        raise ValueError(
            f"{caller}: labels must have the shape ({len(embeddings)},), one "
            f"integer an embedding, received {labels.shape}. Turn one-hot "
            "labels into integers with labels.argmax(axis=-1)."
        )
    if labels.dtype.kind not in "iub":
        raise ValueError(
            f"{caller}: labels must be integers, received the dtype "
            f"{labels.dtype}."
        )
    embeddings = embeddings.astype(np.float64)
    finite = np.isfinite(embeddings).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"{caller}: embeddings must be finite, received NaN or infinity "
            f"in {np.sum(~finite)} of {len(finite)} rows, first in row "
            f"{np.argmin(finite)}."
        )
    return embeddings, np.unique(labels, return_inverse=True)[1]


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Scales each row to length 1; a row of zeros stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(
        vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0
    )


def squared_distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances `(len(left), len(right))`, never negative."""
    squared = (
        np.einsum("id,id->i", left, left)[:, None]
        + np.einsum("jd,jd->j", right, right)[None, :]
        - 2.0 * (left @ right.T)
    )
    return np.maximum(squared, 0.0, out=squared)


def to_numpy(values: Any) -> np.ndarray:
    """A NumPy array of a sequence or of a tensor of any backend."""
    if isinstance(values, np.ndarray):
        return values
    if isinstance(values, list | tuple):
        return np.asarray(values)
    return np.asarray(keras.ops.convert_to_numpy(values))

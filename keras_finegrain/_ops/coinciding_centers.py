"""Which centers of a class have become one."""

import numpy as np


def first_coinciding(centers: np.ndarray, tolerance: float) -> np.ndarray:
    """The first of the centers of its class that each coincides with.

    Args:
        centers: `(classes, centers_per_class, dim)`, of any length.
        tolerance: Two centers of unit length at this distance or less
            coincide, and so do chains of them. At least 0.

    Returns:
        Integers `(classes, centers_per_class)`; its own number for a center
        that coincides with no earlier one.

    Example:
    >>> centers = np.array([[[1.0, 0.0], [0.0, 1.0], [2.0, 0.01]]])
    >>> first_coinciding(centers, 0.1)
    array([[0, 1, 0]])
    """
    centers = centers.astype("float64")
    length = np.linalg.norm(centers, axis=-1, keepdims=True)
    centers = centers / np.maximum(length, np.finfo("float64").tiny)
    cosine = np.einsum("csd,ctd->cst", centers, centers)
    joined = 2.0 - 2.0 * cosine <= max(tolerance**2, 1e-14)
    # A center of length 0 coincides with itself, too.
    joined |= np.eye(centers.shape[1], dtype=bool)
    # Squaring the adjacency doubles the length of the chains that it knows.
    for _ in range(centers.shape[1].bit_length()):
        joined = joined @ joined
    return joined.argmax(axis=-1)

"""How like a photo is to each class."""

import numpy as np

from keras_finegrain.gallery.index import Index
from keras_finegrain.metrics.embedding_set import unit_rows

# The nearest photos, and the nearest means of classes, whose classes are
# compared photo by photo.
NEAREST = 128


def class_scores(
    index: Index,
    classes: np.ndarray,
    means: np.ndarray,
    queries: np.ndarray,
    found: np.ndarray,
    bandwidth: float,
) -> np.ndarray:
    """The score of each query for each class.

    For the classes of the photos that were found, and for those whose mean is
    among the `NEAREST` ones, it is that of `to_class`. For all others, which
    are far, it is the cosine to the mean of the class.

    Args:
        index: The photos.
        classes: Class of each row, `(rows,)`, in `range(len(means))`.
        means: Unit vectors `(classes, dim)`.
        queries: Unit vectors `(queries, dim)`.
        found: Rows of the nearest photos of each query, from `index.search`;
            -1 for none.
        bandwidth: As in `to_class`.

    Returns:
        float64 `(queries, classes)` in [-1, 1].
    """
    scores = (queries @ means.T).astype(np.float64)
    near = np.zeros(scores.shape, bool)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :NEAREST]
    np.put_along_axis(near, best, True, axis=1)
    query, place = np.nonzero(found >= 0)
    near[query, classes[found[query, place]]] = True

    rows = np.flatnonzero(np.isin(classes, np.nonzero(near)[1]))
    rows = rows[np.argsort(classes[rows], kind="stable")]
    numbers, starts = np.unique(classes[rows], return_index=True)
    for number, own in zip(numbers, np.split(rows, starts[1:]), strict=True):
        asking = np.flatnonzero(near[:, number])
        photos = index.vectors(own)
        scores[asking, number] = to_class(queries[asking], photos, bandwidth)
    return np.clip(scores, -1.0, 1.0)


def to_class(
    queries: np.ndarray, photos: np.ndarray, bandwidth: float
) -> np.ndarray:
    """The cosine of each query to the mean of a class as the query sees it.

    A photo of the class has the weight `exp(cosine / bandwidth)` in that mean,
    with its cosine to the query.

    Args:
        queries: Unit vectors `(queries, dim)`.
        photos: Those of the class, unit vectors `(photos, dim)`.
        bandwidth: Above 0.

    Returns:
        `(queries,)`.
    """
    cosines = queries @ photos.T
    cosines -= cosines.max(axis=1, keepdims=True)
    means = unit_rows(np.exp(cosines / bandwidth) @ photos)
    return np.einsum("qd,qd->q", queries, means)

"""How like a photo is to each class."""

import numpy as np

from keras_finegrain.gallery.index import Index

# How many of the nearest photos and of the nearest means name the classes
# whose nearest photo is looked for first.
NEIGHBOURS, MEANS = 128, 32


def class_scores(
    index: Index,
    classes: np.ndarray,
    means: np.ndarray,
    queries: np.ndarray,
    found: tuple[np.ndarray, np.ndarray],
    mean_weight: float,
    k: int,
) -> np.ndarray:
    """The score of each query for each class.

    It is `mean_weight` times the cosine to the mean of the class, the rest
    times the cosine to its nearest photo. The `k` highest scores of a query
    are exact. A class of which no photo is among those that were found is not
    nearer than the last of them: where that tells that it has none of the
    highest scores, it gets this bound.

    Args:
        index: The photos.
        classes: Class of each row, `(rows,)`, in `range(len(means))`.
        means: Unit vectors `(classes, dim)`.
        queries: Unit vectors `(queries, dim)`.
        found: The nearest photos of each query, from `index.search`.
        mean_weight: Weight of the mean, in [0, 1].
        k: How many of the highest scores are exact.

    Returns:
        float64 `(queries, classes)` in [-1, 1].
    """
    to_mean = np.clip(queries @ means.T, -1.0, 1.0).astype(np.float64)
    if mean_weight == 1.0:
        return to_mean
    similarities, rows = found
    nearest = np.full(to_mean.shape, -np.inf)
    numbers = np.arange(len(queries))[:, None] + np.zeros_like(rows)
    is_found = rows >= 0
    np.maximum.at(
        nearest,
        (numbers[is_found], classes[rows[is_found]]),
        similarities[is_found],
    )

    def look_at(wanted: np.ndarray) -> None:
        for number in np.flatnonzero(wanted.any(axis=0)):
            vectors = index.vectors(np.flatnonzero(classes == number))
            asking = np.flatnonzero(wanted[:, number])
            nearest[asking, number] = (queries[asking] @ vectors.T).max(axis=1)

    def weighed() -> np.ndarray:
        return mean_weight * to_mean + (1.0 - mean_weight) * nearest

    looked_at = ~np.isneginf(nearest)
    best = np.argsort(-to_mean, axis=1, kind="stable")[:, : max(k, MEANS)]
    wanted = np.zeros(to_mean.shape, bool)
    np.put_along_axis(wanted, best, True, axis=1)
    look_at(wanted & ~looked_at)
    looked_at |= wanted
    # What still reaches the k-th of those that are exact is looked at too.
    lowest = -np.sort(-weighed(), axis=1)[:, min(k, to_mean.shape[1]) - 1]
    last = np.where(is_found, similarities, 1.0).min(axis=1, keepdims=True)
    nearest = np.where(looked_at, nearest, last)
    look_at(~looked_at & (weighed() >= lowest[:, None]))
    nearest = np.clip(nearest, -1.0, 1.0)
    return weighed()

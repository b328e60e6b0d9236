"""Which classes have centers that lie close together."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_finegrain._base.checks import names_or_none
from keras_finegrain.metrics.embedding_set import (
    check_distance,
    squared_distances,
    unit_rows,
)
from keras_finegrain.visualization.checks import class_centers
from keras_finegrain.visualization.class_matrix import (
    MOST_NAMES,
    at_least_two,
    draw_matrix,
    likeness_order,
)


def center_distances(
    centers: Any,
    class_names: Sequence[str] | None = None,
    distance: str = "cosine",
    most: int | None = None,
    ax: Any = None,
) -> Any:
    """Draws the distances between the classes' centers as a heat map.

    Two classes are as far apart as the nearest two of their centers:

        D_ab = min_{s,t} d(w_as, w_bt),    D_aa = max_{s,t} d(w_as, w_at)

    The diagonal says how far a class's own centers are spread: a class whose
    D_aa is above its D_ab reaches into class b. With one center for each
    class the diagonal is left blank. Near classes stand together: the order
    is that of the leaves of an average-linkage tree. The colours span the
    distances between classes. A larger spread has the last colour, and the
    colour bar then ends in a point.

    Of many classes those that are nearest to another one are drawn: the rest
    have no neighbour and would be a field of one colour. Up to 30 classes
    have their names, up to 250 their numbers, in two rows from 61 on. Of more
    classes some numbers are left out.

    Args:
        centers: Class centers, `(classes, centers_per_class, dim)` or
            `(classes, dim)`: the `centers` of a `SoftTriple`,
            `CosineSimilarity` or `CenterLoss` layer.
        class_names: Name of each class, written behind its number. Defaults
            to numbers alone.
        distance: `"cosine"`, 1 − cos in [0, 2], or `"euclidean"`. Defaults to
            `"cosine"`, by which the cosine heads compare; for `CenterLoss`
            take `"euclidean"`.
        most: How many classes are drawn, those nearest to another one; at
            least 2. Defaults to 30, which have their names.
        ax: matplotlib axis to draw into. Defaults to an axis in a new figure.

    Returns:
        The matplotlib axis.

    Raises:
        ImportError: If matplotlib or SciPy is missing.
        ValueError: If an argument is out of its range, a center is not finite,
            or there are fewer than two classes.

    Example:
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> centers = np.array([[0.0, 1.0], [5.0, 0.0], [0.0, 2.0]])
    >>> axis = center_distances(centers, distance="euclidean")
    >>> [text.get_text() for text in axis.get_yticklabels()]
    ['1', '0', '2']
    """
    who = "center_distances"
    check_distance(who, distance)
    centers = class_centers(who, centers)
    if len(centers) < 2:
        raise ValueError(
            f"{who}: centers must be of at least two classes, received one."
        )
    names_or_none(who, "class_names", class_names)
    if class_names is not None and len(class_names) < len(centers):
        raise ValueError(
            f"{who}: class_names must have one entry for each class, received "
            f"{len(class_names)} for {len(centers)} classes."
        )
    distances = _class_distances(centers, distance)
    apart = distances.copy()
    np.fill_diagonal(apart, np.inf)
    nearest_first = np.argsort(apart.min(axis=1), kind="stable")
    most = MOST_NAMES if most is None else at_least_two(who, most)
    classes = np.sort(nearest_first[:most])
    classes = classes[likeness_order(distances[np.ix_(classes, classes)])]
    shown = distances[np.ix_(classes, classes)]
    between = shown[np.triu_indices(len(classes), k=1)]
    if centers.shape[1] == 1:
        np.fill_diagonal(shown, np.nan)

    image = draw_matrix(
        ax,
        shown,
        classes,
        class_names,
        f"{distance} distance",
        extend=_ends(shown, between),
        cmap="viridis",
        vmin=between.min(),
        vmax=between.max(),
    )
    if len(classes) < len(centers):
        image.axes.set_title(
            f"the {len(classes)} of {len(centers)} classes that are nearest "
            "to another"
        )
    return image.axes


def _ends(shown: np.ndarray, spanned: np.ndarray) -> str:
    """The ends of the colours that some shown value lies beyond."""
    below = np.nanmin(shown) < spanned.min()
    above = np.nanmax(shown) > spanned.max()
    if below and above:
        return "both"
    return "min" if below else "max" if above else "neither"


def _class_distances(centers: np.ndarray, distance: str) -> np.ndarray:
    """D `(classes, classes)` of `center_distances`."""
    classes, per_class, dim = centers.shape
    flat = centers.reshape(-1, dim)
    if distance == "cosine":
        flat = unit_rows(flat)
    distances = np.empty((classes, classes))
    # One class against all: all against all may not fit in memory.
    for index, own in enumerate(flat.reshape(centers.shape)):
        squared = squared_distances(own, flat)
        # |a - b|² = 2 - 2 cos(a, b) on unit vectors.
        far = squared / 2 if distance == "cosine" else np.sqrt(squared)
        far = far.reshape(per_class, classes, per_class)
        distances[index] = far.min(axis=(0, 2))
        distances[index, index] = far[:, index].max()
    return distances

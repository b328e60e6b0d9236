"""Which classes' centers lie close together."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_finegrain._base.arrays import to_numpy
from keras_finegrain._base.checks import positive_integer
from keras_finegrain.metrics.embedding_set import (
    check_distance,
    squared_distances,
    unit_rows,
)
from keras_finegrain.visualization.requirements import import_for_pictures

# Names can be read up to here; then numbers, from 61 on in two rows, and from
# 251 on not every one.
MOST_NAMES = 30
MOST_NUMBERS_IN_A_ROW = 60
MOST_NUMBERS = 250


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

    The diagonal thus says how far a class's own centers are spread; a class
    whose D_aa is above its D_ab reaches into the other. With one center a
    class the diagonal is left blank. Near classes stand together: the order
    is that of the leaves of an average-linkage tree. The colours span the
    distances between classes: what is spread further has the last colour, and
    the colour bar then ends in a point.

    Up to 30 classes bear their names, up to 250 their numbers, in two rows
    from 61 on; beyond that some numbers are left out.

    Args:
        centers: Class centers, `(classes, centers_per_class, dim)` or
            `(classes, dim)`: the `centers` of a `SoftTriple`,
            `CosineSimilarity` or `CenterLoss` layer.
        class_names: Name of each class, written behind its number. Defaults
            to none: the numbers alone.
        distance: `"cosine"`, 1 − cos in [0, 2], or `"euclidean"`. Defaults to
            `"cosine"`, by which the cosine heads compare; for `CenterLoss`
            take `"euclidean"`.
        most: Draws only that many classes, those nearest to another one; at
            least 2. Defaults to all.
        ax: matplotlib axis to draw into. Defaults to an axis in a figure of
            its own.

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
    if class_names is not None and len(class_names) < len(centers):
        raise ValueError(
            f"{who}: class_names must have one entry a class, received "
            f"{len(class_names)} for {len(centers)} classes."
        )
    distances = _class_distances(centers, distance)
    apart = distances.copy()
    np.fill_diagonal(apart, np.inf)
    nearest_first = np.argsort(apart.min(axis=1), kind="stable")
    most = len(centers) if most is None else at_least_two(who, most)
    classes = np.sort(nearest_first[:most])
    classes = classes[likeness_order(distances[np.ix_(classes, classes)])]
    shown = distances[np.ix_(classes, classes)]
    between = shown[np.triu_indices(len(classes), k=1)]
    if centers.shape[1] == 1:
        np.fill_diagonal(shown, np.nan)

    ax = matrix_axis(ax, len(classes))
    image = ax.imshow(
        shown,
        cmap="viridis",
        vmin=between.min(),
        vmax=between.max(),
        interpolation="nearest",
    )
    write_classes(ax, classes, class_names)
    color_bar(image, f"{distance} distance", extend=_ends(shown, between))
    if len(classes) < len(centers):
        ax.set_title(
            f"the {len(classes)} of {len(centers)} classes that are nearest "
            "to another"
        )
    return ax


def at_least_two(who: str, most: int) -> int:
    """Returns the argument `most`, or raises if it is below 2."""
    if positive_integer(who, "most", most) < 2:
        raise ValueError(f"{who}: most must be at least 2, received {most}.")
    return most


def class_centers(who: str, centers: Any) -> np.ndarray:
    """Checks centers and gives them three axes.

    Args:
        who: Name of the public function, with which errors begin.
        centers: Array or tensor of any backend, `(classes, dim)` or
            `(classes, centers_per_class, dim)`.

    Returns:
        float64 `(classes, centers_per_class, dim)`.

    Raises:
        ValueError: If the shape is another or a center is not finite.
    """
    centers = to_numpy(centers).astype(np.float64)
    if centers.ndim not in (2, 3) or not centers.size:
        raise ValueError(
            f"{who}: centers must have the shape (classes, dim) or (classes, "
            f"centers_per_class, dim), received {centers.shape}."
        )
    if not np.isfinite(centers).all():
        raise ValueError(
            f"{who}: centers must be finite, received NaN or infinity. The "
            "training has diverged: lower its learning rate."
        )
    return centers[:, None] if centers.ndim == 2 else centers


def likeness_order(distances: np.ndarray) -> np.ndarray:
    """An order in which near things stand side by side.

    Args:
        distances: Symmetric, `(things, things)`; the diagonal does not matter.

    Returns:
        Integers `(things,)`: the leaves of an average-linkage tree, turned so
        that the distances between neighbours have the least sum and the
        lower number of both ends comes first. As they are where all distances
        are equal.
    """
    pairs = distances[np.triu_indices(len(distances), k=1)]
    if len(pairs) <= 1 or np.ptp(pairs) == 0:
        return np.arange(len(distances))
    hierarchy = import_for_pictures("scipy.cluster.hierarchy")
    tree = hierarchy.linkage(pairs, method="average", optimal_ordering=True)
    order = hierarchy.leaves_list(tree)
    return order if order[0] < order[-1] else order[::-1]


def matrix_axis(ax: Any, classes: int) -> Any:
    """The given axis, or one in a figure with room for so many classes."""
    if ax is not None:
        return ax
    pyplot = import_for_pictures("matplotlib.pyplot")
    # 0.3 inches a name, up to what still fits on a screen.
    side = float(np.clip(0.3 * classes, 4, 11)) + 1.5
    return pyplot.subplots(figsize=(side + 0.7, side), layout="constrained")[1]


def write_classes(
    ax: Any, classes: np.ndarray, class_names: Sequence[str] | None
) -> None:
    """Names the rows and columns of a matrix of classes.

    Args:
        ax: matplotlib axis with one unit a class.
        classes: The class of each row and column.
        class_names: Name of each class, or None.
    """
    count = len(classes)
    if count > MOST_NAMES:
        class_names = None
    step = -(-count // MOST_NUMBERS)
    positions = np.arange(0, count, step)
    titles = [
        str(index)
        if class_names is None
        else f"{index}  {class_names[index]}".replace("_", " ")
        for index in classes[positions]
    ]
    ax.tick_params(labelsize=8 if count <= MOST_NUMBERS_IN_A_ROW else 6)
    ax.tick_params(axis="x", rotation=90)
    if len(positions) <= MOST_NUMBERS_IN_A_ROW:
        ax.set_xticks(positions, titles)
        ax.set_yticks(positions, titles)
        return
    # Every other number stands further out, at the end of a longer tick.
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_ticks(positions[::2], titles[::2])
        axis.set_ticks(positions[1::2], titles[1::2], minor=True)
    ax.tick_params(which="minor", length=18, width=0.4, labelsize=6)
    ax.tick_params(which="minor", axis="x", rotation=90)


def color_bar(image: Any, label: str, extend: str = "neither") -> Any:
    """A colour bar as high as the axis of an image.

    Args:
        image: The matplotlib image.
        label: What the colours say.
        extend: Which ends of it are points, as matplotlib's `colorbar` has it.
    """
    beside = image.axes.inset_axes((1.02, 0, 0.03, 1))
    return image.figure.colorbar(image, cax=beside, label=label, extend=extend)


def _ends(shown: np.ndarray, spanned: np.ndarray) -> str:
    """At which ends of the colours something shown lies beyond them."""
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
    # One class against all, for all against all may not fit in memory.
    for index, own in enumerate(flat.reshape(centers.shape)):
        squared = squared_distances(own, flat)
        # |a - b|² = 2 - 2 cos(a, b) on unit vectors.
        far = squared / 2 if distance == "cosine" else np.sqrt(squared)
        far = far.reshape(per_class, classes, per_class)
        distances[index] = far.min(axis=(0, 2))
        distances[index, index] = far[:, index].max()
    return distances

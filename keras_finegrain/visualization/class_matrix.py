"""A matrix with one row and one column for each class."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_finegrain._base.checks import positive_integer
from keras_finegrain._base.optional import import_optional
from keras_finegrain.visualization.axes import axis_or_new
from keras_finegrain.visualization.checks import class_name

# Up to 30 classes have their names, up to 60 their numbers in one row, up to
# 250 in two rows. Of more classes some numbers are left out.
MOST_NAMES = 30
MOST_NUMBERS_IN_A_ROW = 60
MOST_NUMBERS = 250


def at_least_two(who: str, most: int) -> int:
    """Returns the argument `most`, or raises if it is below 2."""
    if positive_integer(who, "most", most) < 2:
        raise ValueError(f"{who}: most must be at least 2, received {most}.")
    return most


def likeness_order(distances: np.ndarray) -> np.ndarray:
    """An order in which near things stand side by side.

    Args:
        distances: Symmetric, `(things, things)`; the diagonal does not matter.

    Returns:
        Integers `(things,)`: the leaves of an average-linkage tree, turned so
        that the distances between neighbours have the least sum and the
        lower number of both ends comes first. The given order where all
        distances are equal.
    """
    pairs = distances[np.triu_indices(len(distances), k=1)]
    if len(pairs) <= 1 or np.ptp(pairs) == 0:
        return np.arange(len(distances))
    hierarchy = import_optional("scipy.cluster.hierarchy", "visualization")
    tree = hierarchy.linkage(pairs, method="average", optimal_ordering=True)
    order = hierarchy.leaves_list(tree)
    return order if order[0] < order[-1] else order[::-1]


def draw_matrix(
    ax: Any,
    values: np.ndarray,
    classes: np.ndarray,
    class_names: Sequence[str] | None,
    label: str,
    *,
    extend: str = "neither",
    **colors: Any,
) -> Any:
    """Draws a matrix with its classes at both axes and a colour bar.

    Args:
        ax: matplotlib axis, or `None` for one in a new figure with room for
            so many classes.
        values: `(classes, classes)`. NaN and masked cells are left blank.
        classes: The class of each row and column.
        class_names: Name of each class, or `None`.
        label: What the colours say.
        extend: Which ends of the colour bar are points, as in matplotlib's
            `colorbar`.
        **colors: `cmap`, and `norm` or `vmin` and `vmax`, of matplotlib's
            `imshow`.

    Returns:
        The matplotlib image.
    """
    # 0.3 inches for a name, up to what still fits on a screen.
    side = float(np.clip(0.3 * len(classes), 4, 11)) + 1.5
    ax = axis_or_new(ax, (side + 0.7, side))
    image = ax.imshow(values, interpolation="nearest", **colors)
    _write_classes(ax, classes, class_names)
    beside = ax.inset_axes((1.02, 0, 0.03, 1))
    ax.figure.colorbar(image, cax=beside, label=label, extend=extend)
    return image


def _write_classes(
    ax: Any, classes: np.ndarray, class_names: Sequence[str] | None
) -> None:
    """Names the rows and columns."""
    count = len(classes)
    if count > MOST_NAMES:
        class_names = None
    positions = np.arange(0, count, -(-count // MOST_NUMBERS))
    names = [class_name(index, class_names) for index in classes[positions]]
    ax.tick_params(labelsize=8 if count <= MOST_NUMBERS_IN_A_ROW else 6)
    ax.tick_params(axis="x", rotation=90)
    if len(positions) <= MOST_NUMBERS_IN_A_ROW:
        ax.set_xticks(positions, names)
        ax.set_yticks(positions, names)
        return
    # Every second number stands further out, at the end of a longer tick.
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_ticks(positions[::2], names[::2])
        axis.set_ticks(positions[1::2], names[1::2], minor=True)
    ax.tick_params(which="minor", length=18, width=0.4, labelsize=6)
    ax.tick_params(which="minor", axis="x", rotation=90)

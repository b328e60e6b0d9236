"""Which classes a model takes for one another."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_finegrain._base.arrays import to_numpy
from keras_finegrain.visualization.center_distances import (
    at_least_two,
    color_bar,
    likeness_order,
    matrix_axis,
    write_classes,
)
from keras_finegrain.visualization.class_grid import class_labels

DEFAULT_MOST = 25
# Smaller figures in the cells could not be read.
LEAST_FONT = 4.0


def look_alike_confusions(
    labels: Any,
    predictions: Any,
    class_names: Sequence[str] | None = None,
    most: int | None = None,
    ax: Any = None,
) -> Any:
    """Draws a confusion matrix of the classes that are confused the most.

    A row is a true class, a column a predicted one. Classes that are confused
    with each other stand side by side: the order is that of the leaves of an
    average-linkage tree on the errors between two classes, in both directions
    together. Colours count the errors only. The diagonal is grey, whatever
    its counts, for it would outshine them.

    The title states how many errors and how many right predictions lie
    outside of the classes shown: an error does as soon as one of its two
    classes does.

    Args:
        labels: True classes, integers `(samples,)`, not negative; they index
            `class_names`.
        predictions: Predicted classes, likewise: for a model's scores
            `scores.argmax(axis=-1)`.
        class_names: Name of each class, written behind its number for up to
            30 classes. Defaults to none: the numbers alone.
        most: How many classes are shown at most, those of the pairs with the
            most errors, in both directions together; at least 2. Defaults to
            25. Classes that occur in neither argument are left out.
        ax: matplotlib axis to draw into. Defaults to an axis in a figure of
            its own. Counts are written where they can be read, in own figures
            of up to 100 classes.

    Returns:
        The matplotlib axis.

    Raises:
        ImportError: If matplotlib or SciPy is missing.
        ValueError: If the shapes disagree, a class is not an integer, negative
            or without a name, or `most` is below 2.

    Example:
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> axis = look_alike_confusions(
    ...     [0, 1, 1], [0, 0, 1], ["Song Sparrow", "Fox Sparrow"]
    ... )
    >>> axis.get_title()
    '3 samples, 1 error'
    >>> [text.get_text() for text in axis.get_yticklabels()]
    ['0  Song Sparrow', '1  Fox Sparrow']
    """
    who = "look_alike_confusions"
    most = DEFAULT_MOST if most is None else at_least_two(who, most)
    labels = np.atleast_1d(to_numpy(labels))
    true = class_labels(who, labels, len(labels), class_names)
    predicted = class_labels(
        who, predictions, len(true), class_names, "predictions"
    )
    classes, numbers = np.unique([true, predicted], return_inverse=True)
    counts = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(counts, tuple(numbers.reshape(2, -1)), 1)
    shown = _most_confused(counts, most)
    shown_counts = counts[np.ix_(shown, shown)]

    ax = matrix_axis(ax, len(shown))
    errors = _errors(shown_counts)
    image = ax.imshow(
        np.ma.masked_equal(errors, 0),
        # Few errors are light, next to the white of none.
        cmap="cividis_r",
        vmin=1,
        vmax=max(errors.max(), 2),
        interpolation="nearest",
    )
    _grey_diagonal(ax, len(shown))
    _write_counts(ax, shown_counts, image)
    write_classes(ax, classes[shown], class_names)
    ax.set_xlabel("predicted class")
    ax.set_ylabel("true class")
    ax.set_title(_title(counts, shown_counts))
    bar = color_bar(image, "errors")
    bar.ax.yaxis.get_major_locator().set_params(integer=True)
    return ax


def _errors(counts: np.ndarray) -> np.ndarray:
    errors = counts.copy()
    np.fill_diagonal(errors, 0)
    return errors


def _most_confused(counts: np.ndarray, most: int) -> np.ndarray:
    """Indices of the classes to show, the confused ones side by side."""
    errors = _errors(counts)
    errors += errors.T
    if most >= len(errors):
        shown = np.arange(len(errors))
    else:
        # Whole pairs, worst first: an error whose other class is not shown
        # would not be seen.
        pairs = np.argsort(-np.triu(errors), axis=None, kind="stable")
        classes = np.stack(np.unravel_index(pairs, errors.shape), axis=1)
        shown = np.array(list(dict.fromkeys(classes.ravel().tolist()))[:most])
        shown.sort()
    between = errors[np.ix_(shown, shown)]
    return shown[likeness_order(between.max() - between)]


def _title(counts: np.ndarray, shown: np.ndarray) -> str:
    samples, errors = counts.sum(), _errors(counts).sum()
    title = f"{samples:,} samples, {_counted(errors, 'error')}"
    if len(shown) == len(counts):
        return title
    outside = samples - shown.sum()
    errors_outside = errors - _errors(shown).sum()
    return (
        f"{title}\noutside these {len(shown)} of {len(counts)} classes: "
        f"{_counted(errors_outside, 'error')}, "
        f"{outside - errors_outside:,} right"
    )


def _counted(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def _grey_diagonal(ax: Any, count: int) -> None:
    diagonal = np.where(np.eye(count), 0.88, np.nan)
    ax.imshow(diagonal, cmap="gray", vmin=0, vmax=1, interpolation="nearest")


def _write_counts(ax: Any, counts: np.ndarray, image: Any) -> None:
    """Writes what is not 0 where there is room for it."""
    room = ax.get_window_extent()
    cell = 72 / ax.figure.dpi * min(room.width, room.height) / len(counts)
    # A cell holds three digits.
    font = min(9.0, 0.5 * cell)
    if font < LEAST_FONT:
        return
    for row, column in np.argwhere(counts):
        count = counts[row, column]
        if row == column:
            style = {"color": "dimgrey", "style": "italic"}
        else:
            red, green, blue, _ = image.to_rgba(count)
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
            style = {"color": "white" if dark else "black"}
        ax.text(
            column,
            row,
            str(count),
            ha="center",
            va="center",
            fontsize=font,
            **style,
        )

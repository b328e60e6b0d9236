"""The confusion matrix of the classes that are confused the most."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_finegrain._base.optional import import_optional
from keras_finegrain.visualization.checks import class_labels
from keras_finegrain.visualization.class_matrix import (
    at_least_two,
    draw_matrix,
    likeness_order,
)
from keras_finegrain.visualization.photo import LUMA

DEFAULT_MOST = 25
# Points. Smaller counts in the cells could not be read.
LEAST_FONT = 4.0
COLOR_TICKS = (0, 0.01, 0.05, 0.1, 0.25, 0.5, 1)


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
    together. Colours are of the errors only: an error's share of its row's
    samples, always from 0 to 1, so that pictures can be compared. They follow
    its square root, by which one error in a hundred can be seen. A dot stands
    where there is none. The diagonal is grey: its counts would outshine the
    errors.

    The title states how many errors and how many right predictions lie
    outside of the classes shown. An error lies outside if one of its two
    classes does.

    Args:
        labels: True classes, integers `(samples,)`, not negative, or one-hot
            rows; they index `class_names`.
        predictions: Predicted classes in the same form: for a model's scores
            `scores.argmax(axis=-1)`.
        class_names: Name of each class, written behind its number for up to
            30 classes. Defaults to numbers alone.
        most: How many classes are shown at most, those of the pairs with the
            most errors, in both directions together; at least 2. Defaults to
            25. Classes that occur in neither argument are left out.
        ax: matplotlib axis to draw into. Defaults to an axis in a new figure.
            Counts are written where they can be read: in a new figure for up
            to 100 classes.

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
    true = class_labels(who, labels, None, class_names)
    predicted = class_labels(
        who, predictions, len(true), class_names, "predictions"
    )
    classes, numbers = np.unique([true, predicted], return_inverse=True)
    counts = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(counts, tuple(numbers.reshape(2, -1)), 1)
    shown = _most_confused(counts, most)
    shown_counts = counts[np.ix_(shown, shown)]

    sizes = np.maximum(counts.sum(axis=1)[shown, None], 1)
    colors = import_optional("matplotlib.colors", "visualization")
    ticker = import_optional("matplotlib.ticker", "visualization")
    image = draw_matrix(
        ax,
        np.ma.masked_equal(_errors(shown_counts) / sizes, 0),
        classes[shown],
        class_names,
        "errors, of the true class's samples",
        # Few errors are light, next to the white of none.
        cmap="Oranges",
        norm=colors.PowerNorm(0.5, vmin=0, vmax=1),
    )
    shares = image.colorbar.ax.yaxis
    shares.set_major_locator(ticker.FixedLocator(COLOR_TICKS))
    shares.set_major_formatter(ticker.PercentFormatter(1, decimals=0))
    ax = image.axes
    diagonal = np.where(np.eye(len(shown)), 0.88, np.nan)
    ax.imshow(diagonal, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    _write_counts(image, shown_counts)
    ax.set_xlabel("predicted class")
    ax.set_ylabel("true class")
    ax.set_title(_title(counts, shown_counts))
    return ax


def _errors(counts: np.ndarray) -> np.ndarray:
    """The counts without those of the right predictions."""
    errors = counts.copy()
    np.fill_diagonal(errors, 0)
    return errors


def _most_confused(counts: np.ndarray, most: int) -> np.ndarray:
    """Indices of the classes to show, the confused ones side by side."""
    errors = _errors(counts)
    errors += errors.T
    # Whole pairs, worst first: an error is not seen if one of its classes is
    # not shown.
    pairs = np.argsort(-np.triu(errors), axis=None, kind="stable")
    classes = np.stack(np.unravel_index(pairs, errors.shape), axis=1)
    shown = np.sort(list(dict.fromkeys(classes.ravel().tolist()))[:most])
    between = errors[np.ix_(shown, shown)]
    return shown[likeness_order(between.max() - between)]


def _title(counts: np.ndarray, shown: np.ndarray) -> str:
    samples, errors = counts.sum(), _errors(counts).sum()
    title = f"{samples:,} samples, {_in_words(errors)}"
    if len(shown) == len(counts):
        return title
    outside = samples - shown.sum()
    errors_outside = errors - _errors(shown).sum()
    return (
        f"{title}\noutside these {len(shown)} of {len(counts)} classes: "
        f"{_in_words(errors_outside)}, {outside - errors_outside:,} right"
    )


def _in_words(errors: int) -> str:
    return f"{errors:,} error{'' if errors == 1 else 's'}"


def _write_counts(image: Any, counts: np.ndarray) -> None:
    """Writes the counts, a dot for none, where there is room for them."""
    ax = image.axes
    room = ax.get_window_extent()
    cell = 72 / ax.figure.dpi * min(room.width, room.height) / len(counts)
    # A cell holds three digits.
    font = min(9.0, 0.5 * cell)
    if font < LEAST_FONT:
        return
    shares = image.get_array()
    for (row, column), count in np.ndenumerate(counts):
        if row == column:
            style = {"color": "dimgrey", "style": "italic"}
        elif count:
            dark = image.to_rgba(shares[row, column])[:3] @ LUMA < 0.5
            style = {"color": "white" if dark else "black"}
        else:
            style = {"color": "darkgrey"}
        ax.text(
            column,
            row,
            str(count) if count or row == column else "·",
            ha="center",
            va="center",
            fontsize=font,
            **style,
        )

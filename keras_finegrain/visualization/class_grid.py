"""Photos of every class side by side, as one picture."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_finegrain._base.checks import positive_integer
from keras_finegrain.visualization.checks import as_sequence, class_labels
from keras_finegrain.visualization.photo_sheet import (
    NAME_SIZE,
    PITCH,
    Photo,
    PhotoSheet,
    class_title,
    text_width,
)

# Up to here classes stand in one column, as high as a figure on a page.
ROWS_OF_ONE_COLUMN = 30
PAGE = 2**0.5


def class_grid(
    images: Any,
    labels: Any,
    class_names: Sequence[str] | None = None,
    images_per_class: int = 10,
    ax: Any = None,
) -> Any:
    """Draws the first photos of every class in a row, its name at the left.

    It introduces a fine-grained data set: what differs between the rows, and
    how much differs within one. Photos are cropped centrally to squares.

    Up to 30 classes stand below each other. More stand in as many columns of
    classes as make the sheet no taller than an upright page, √2 times its
    width, with photos two thirds as wide: 200 classes of 10 photos take four
    columns and 21 x 21 inches.

    Args:
        images: Photos, a list of arrays `(height, width, 3)` of any sizes or
            one array or tensor `(samples, height, width, 3)`: uint8, or
            floats in [0, 255]. Floats of at most 1 are taken as in [0, 1].
        labels: Integers `(samples,)`, not negative, or one-hot rows; they
            index `class_names`. Classes that do not occur are left out.
        class_names: Name of each class, written behind its number with spaces
            for underscores and in at most three lines. Defaults to numbers
            alone.
        images_per_class: Photos in a row, at least 1. Defaults to 10. The row
            of a class that has fewer ends blank.
        ax: matplotlib axis to draw into; text then scales with it. Defaults
            to an axis in a new figure.

    Returns:
        The matplotlib axis. A photo's side is its unit of length.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If an argument is out of its range, the numbers of images
            and labels disagree, a label lies outside `class_names`, or a photo
            is no image in [0, 255].

    Example:
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> photos = np.full((4, 6, 8, 3), 200, "uint8")
    >>> axis = class_grid(
    ...     photos, np.array([0, 1, 1, 0]), ["Song Sparrow", "Fox Sparrow"]
    ... )
    >>> [text.get_text() for text in axis.texts]
    ['0  Song Sparrow', '1  Fox Sparrow']
    """
    who = "class_grid"
    per_class = positive_integer(who, "images_per_class", images_per_class)
    images = as_sequence(who, "images", images)
    labels = class_labels(who, labels, len(images), class_names)
    classes, sizes = np.unique(labels, return_counts=True)
    per_class = min(per_class, sizes.max())
    titles = [class_title(index, class_names) for index in classes]
    name_width = text_width(titles, NAME_SIZE)
    block_width = name_width + per_class * PITCH
    columns = _columns(len(classes), block_width)
    rows = -(-len(classes) // columns)

    column, row = np.divmod(np.arange(len(classes)), rows)
    # Half a photo's side between two columns of classes.
    lefts, tops = column * (block_width + 0.5), row * PITCH
    photos = [
        Photo(images[sample], left + name_width + order * PITCH, top)
        for index, left, top in zip(classes, lefts, tops, strict=True)
        for order, sample in enumerate(
            np.flatnonzero(labels == index)[:per_class]
        )
    ]
    sheet = PhotoSheet(
        ax,
        width=columns * (block_width + 0.5) - 0.5,
        height=rows * PITCH,
        inches=0.6 if columns == 1 else 0.4,
    )
    sheet.draw(who, photos)
    for title, left, top in zip(titles, lefts, tops, strict=True):
        sheet.write(left, top + 0.5, title, size=NAME_SIZE)
    return sheet.ax


def _columns(classes: int, block_width: float) -> int:
    """The fewest columns with which a sheet is no taller than a page."""
    if classes <= ROWS_OF_ONE_COLUMN:
        return 1
    columns = 1
    while -(-classes // columns) * PITCH > PAGE * columns * block_width:
        columns += 1
    return columns

"""The photos that lie nearest to each center of a class."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_finegrain._base.checks import positive_integer
from keras_finegrain._ops.coinciding_centers import first_coinciding
from keras_finegrain.metrics.embedding_set import embedding_set, unit_rows
from keras_finegrain.visualization.checks import (
    as_sequence,
    check_indexed,
    class_centers,
    class_labels,
    index_array,
)
from keras_finegrain.visualization.palette import COLORS
from keras_finegrain.visualization.photo_sheet import (
    NAME_SIZE,
    PITCH,
    Photo,
    PhotoSheet,
    class_title,
    text_width,
)

# As `CosineSimilarity.distinct_centers`: a distance on the unit sphere.
MERGED_TOLERANCE = 0.1
MERGED_COLOR = COLORS[3]
MOST_ROWS = 25
# In sides of a photo.
CAPTION_SIZE = 0.16
GAP_OF_CLASSES = 0.3
HEADING_HEIGHT = 0.5


def center_images(
    centers: Any,
    embeddings: Any,
    labels: Any,
    images: Any,
    class_names: Sequence[str] | None = None,
    images_per_center: int = 5,
    classes: Any = None,
    ax: Any = None,
) -> Any:
    """Draws, for each center, the photos of its class that lie nearest.

    One row for each center, the rows of a class together; nearness is cosine
    similarity. A row says of how many of its class's samples its center is the
    nearest one of the class; of equally near centers the first counts. A
    center that has merged with an earlier one of its class says so: their
    distance on the unit sphere is at most 0.1, or a chain of such centers
    joins them, as in `CosineSimilarity.distinct_centers`.

    Args:
        centers: Class centers, `(classes, centers_per_class, dim)` or
            `(classes, dim)`, of any length: the `centers` of a `SoftTriple`,
            `CosineSimilarity` or `CenterLoss` layer.
        embeddings: Array or tensor of any backend, `(samples, dim)`.
        labels: Integers `(samples,)` or one-hot rows; they index `centers`
            and `class_names`.
        images: The photos of the samples, a list of arrays
            `(height, width, 3)` of any sizes or one array or tensor
            `(samples, height, width, 3)`, as in `class_grid`.
        class_names: Name of each class, written behind its number. Defaults
            to numbers alone.
        images_per_center: Photos in a row, at least 1. Defaults to 5.
        classes: The classes to draw, in this order; each needs a sample.
            Defaults to all that have samples, or the first of them that fill
            25 rows: a heading then says of how many.
        ax: matplotlib axis to draw into; text then scales with it. Defaults
            to an axis in a new figure.

    Returns:
        The matplotlib axis.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If an argument is out of its range, the shapes disagree,
            or an embedding or center is not finite.

    Example:
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> centers = np.array([[[1.0, 0.0], [0.0, 1.0]]])
    >>> embeddings = np.array([[1.0, 0.1], [0.9, 0.0], [0.1, 1.0]])
    >>> axis = center_images(
    ...     centers, embeddings, [0, 0, 0], np.full((3, 8, 8, 3), 200, "uint8")
    ... )
    >>> print(axis.texts[1].get_text())
    center 0
    nearest to 2 of 3
    """
    who = "center_images"
    per_center = positive_integer(who, "images_per_center", images_per_center)
    images = as_sequence(who, "images", images)
    embeddings = embedding_set(who, embeddings, labels)[0]
    labels = class_labels(who, labels, len(images), class_names)
    centers = class_centers(who, centers, embeddings.shape[1])
    check_indexed(who, "centers", centers, labels)
    per_class = centers.shape[1]
    present = np.unique(labels)
    drawn = _classes(classes, present, per_class)
    rows = [
        row
        for index in drawn
        for row in center_rows(
            centers[index], embeddings, np.flatnonzero(labels == index)
        )
    ]
    per_center = min(per_center, max(len(row.nearest) for row in rows))
    heading = ""
    if classes is None and len(drawn) < len(present):
        heading = f"the first {len(drawn)} of {len(present)} classes"

    titles = [class_title(index, class_names) for index in drawn]
    caption_left = text_width(titles, NAME_SIZE)
    photo_left = caption_left + text_width(
        [row.caption for row in rows], CAPTION_SIZE
    )
    gap = GAP_OF_CLASSES if per_class > 1 else 0.0
    order = np.arange(len(rows))
    tops = PITCH * order + gap * (order // per_class)
    tops += HEADING_HEIGHT if heading else 0.0
    sheet = PhotoSheet(
        ax,
        width=photo_left + per_center * PITCH,
        height=tops[-1] + PITCH,
        inches=0.65,
    )
    sheet.draw(
        who,
        [
            Photo(images[sample], photo_left + order * PITCH, top)
            for row, top in zip(rows, tops, strict=True)
            for order, sample in enumerate(row.nearest[:per_center])
        ],
    )
    if heading:
        sheet.write(0, 0.2, heading, NAME_SIZE)
    for title, top in zip(titles, tops[::per_class], strict=True):
        sheet.write(0, top + 0.5, title, NAME_SIZE)
    for row, top in zip(rows, tops, strict=True):
        sheet.write(
            caption_left,
            top + 0.5,
            row.caption,
            CAPTION_SIZE,
            color=MERGED_COLOR if row.is_merged else "black",
        )
    return sheet.ax


class CenterRow(NamedTuple):
    """What is shown of one center.

    Attributes:
        caption: What is written beside its photos.
        is_merged: Whether it coincides with an earlier center of its class.
        nearest: All of the class's samples, nearest first.
    """

    caption: str
    is_merged: bool
    nearest: np.ndarray


def center_rows(
    centers: np.ndarray, embeddings: np.ndarray, members: np.ndarray
) -> list[CenterRow]:
    """The rows of one class's centers.

    Args:
        centers: The centers of the class, `(centers_per_class, dim)`.
        embeddings: The embeddings of all samples, `(samples, dim)`.
        members: Indices of the samples of the class.
    """
    similarities = unit_rows(centers) @ unit_rows(embeddings[members]).T
    wins = np.bincount(similarities.argmax(axis=0), minlength=len(centers))
    order = np.argsort(-similarities, axis=1, kind="stable")
    rows = []
    for center, first in enumerate(
        first_coinciding(centers[None], MERGED_TOLERANCE)[0]
    ):
        caption = (
            f"center {center}\nnearest to {wins[center]} of {len(members)}"
        )
        if first != center:
            caption += f"\nmerged with center {first}"
        rows.append(CenterRow(caption, first != center, members[order[center]]))
    return rows


def _classes(
    classes: Any, present: np.ndarray, centers_per_class: int
) -> np.ndarray:
    """The classes to draw, `(classes,)`."""
    if classes is None:
        return present[: max(1, MOST_ROWS // centers_per_class)]
    chosen = index_array("center_images", "classes", classes)
    missing = np.setdiff1d(chosen, present)
    if len(missing):
        raise ValueError(
            "center_images: classes must each have a sample in labels, "
            f"received {missing.tolist()} without one."
        )
    return chosen

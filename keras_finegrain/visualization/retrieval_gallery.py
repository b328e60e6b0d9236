"""Query photos and their nearest neighbours in the embedding."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_finegrain._base.checks import positive_integer
from keras_finegrain._base.optional import import_optional
from keras_finegrain.metrics.embedding_set import (
    RetrievalSet,
    retrieval_set,
    squared_distances,
)
from keras_finegrain.visualization.checks import (
    as_sequence,
    class_labels,
    index_array,
)
from keras_finegrain.visualization.palette import COLORS
from keras_finegrain.visualization.photo_sheet import (
    LINE_HEIGHT,
    Photo,
    PhotoSheet,
    class_title,
    text_width,
)

DEFAULT_QUERIES = 6
RIGHT = {"edgecolor": COLORS[2], "linestyle": "solid"}
WRONG = {"edgecolor": COLORS[3], "linestyle": (0, (2, 1))}
# In sides of a photo: the pitch leaves room for a frame between two photos.
PITCH = 1.16
TITLE_SIZE = 0.16
CAPTION_SIZE = 0.12
CAPTION_LETTERS = 16
HEADING_HEIGHT = 0.4


def retrieval_gallery(
    images: Any,
    embeddings: Any,
    labels: Any,
    queries: Any = None,
    class_names: Sequence[str] | None = None,
    neighbours: int = 8,
    distance: str = "cosine",
    gallery_images: Any = None,
    gallery_embeddings: Any = None,
    gallery_labels: Any = None,
    ax: Any = None,
) -> Any:
    """Draws query photos, each with its nearest neighbours beside it.

    A neighbour of the query's class has a solid frame in bluish green, any
    other a dashed one in vermilion. Its class stands below it. Neighbours are
    exact; among equally near ones the first in the set comes first.

    Args:
        images: Photos, a list of arrays `(height, width, 3)` of any sizes or
            one array or tensor `(samples, height, width, 3)`, as in
            `class_grid`.
        embeddings: Array or tensor of any backend, `(samples, dim)`.
        labels: Integers `(samples,)`, not negative, or one-hot rows; they
            index `class_names`.
        queries: Indices of the samples to look up, one row each. Defaults to
            six, evenly spread over the samples in the order of their classes.
        class_names: Name of each class, written behind its number. Defaults
            to numbers alone.
        neighbours: Neighbours in a row, at least 1. Defaults to 8. A set that
            has fewer shows all.
        distance: `"cosine"` or `"euclidean"`. Defaults to `"cosine"`, as in
            `metrics.recall_at_k`.
        gallery_images: The photos to search in, like `images`. Defaults to
            none, together with the next two arguments: the search is then
            among the samples, and a query is not its own neighbour.
        gallery_embeddings: Their embeddings, `(gallery, dim)`.
        gallery_labels: Their labels, `(gallery,)`.
        ax: matplotlib axis to draw into; text then scales with it. Defaults
            to an axis in a new figure, 11 inches wide for 8 neighbours.

    Returns:
        The matplotlib axis. Its patches are the frames, row by row.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If an argument is out of its range, the shapes disagree,
            an embedding is not finite, a part of the gallery is missing, or
            the gallery has no sample of any query's class.

    Example:
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> photos = np.full((4, 8, 8, 3), 200, "uint8")
    >>> embeddings = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    >>> axis = retrieval_gallery(
    ...     photos, embeddings, np.array([0, 0, 1, 1]), queries=[0],
    ...     neighbours=3,
    ... )
    >>> [frame.get_linestyle() == "solid" for frame in axis.patches]
    [True, False, False]
    """
    who = "retrieval_gallery"
    neighbours = positive_integer(who, "neighbours", neighbours)
    images = as_sequence(who, "images", images)
    found = retrieval_set(
        who, embeddings, labels, gallery_embeddings, gallery_labels, distance
    )
    labels = class_labels(who, labels, len(images), class_names)
    if (gallery_images is None) != found.own:
        missing = "images" if gallery_images is None else "embeddings"
        raise ValueError(
            f"{who}: gallery_images, gallery_embeddings and gallery_labels "
            f"belong together, received no gallery_{missing}. Pass all three, "
            "or none to search among the samples."
        )
    searched, searched_labels = images, labels
    if not found.own:
        searched = as_sequence(who, "gallery_images", gallery_images)
        searched_labels = class_labels(
            who, gallery_labels, len(searched), class_names, "gallery_labels"
        )
    rows = _rows(queries, labels)
    nearest = nearest_samples(found, rows, neighbours)

    titles = [class_title(labels[query], class_names) for query in rows]
    captions = [
        [
            class_title(searched_labels[index], class_names, CAPTION_LETTERS)
            for index in indices
        ]
        for indices in nearest
    ]
    name_width = text_width(titles, TITLE_SIZE)
    # A third of a photo's side between a query and its neighbours.
    lefts = name_width + PITCH + 0.35 + PITCH * np.arange(nearest.shape[1])
    lines = 1 + max(text.count("\n") for row in captions for text in row)
    row_height = 1.3 + CAPTION_SIZE * LINE_HEIGHT * lines
    tops = HEADING_HEIGHT + row_height * np.arange(len(rows))
    sheet = PhotoSheet(
        ax,
        width=lefts[-1] + PITCH,
        height=HEADING_HEIGHT + row_height * len(rows),
        inches=0.85,
    )
    sheet.draw(
        who,
        [
            Photo(images[query], name_width, top)
            for query, top in zip(rows, tops, strict=True)
        ]
        + [
            Photo(searched[index], left, top)
            for indices, top in zip(nearest, tops, strict=True)
            for index, left in zip(indices, lefts, strict=True)
        ],
    )
    headings = ["query", "nearest", *map(str, range(2, len(lefts) + 1))]
    for left, heading in zip([name_width, *lefts], headings, strict=True):
        sheet.write(
            left + 0.5, 0.25, heading, TITLE_SIZE, ha="center", va="baseline"
        )
    for row, top in enumerate(tops):
        sheet.write(0, top + 0.5, titles[row], TITLE_SIZE)
        for order, left in enumerate(lefts):
            label = searched_labels[nearest[row, order]]
            _frame(sheet, left, top, right=label == labels[rows[row]])
            sheet.write(
                left + 0.5,
                top + 1.1,
                captions[row][order],
                CAPTION_SIZE,
                ha="center",
                va="top",
            )
    return sheet.ax


def _rows(queries: Any, labels: np.ndarray) -> np.ndarray:
    """The indices of the queries, `(rows,)`."""
    if queries is None:
        return spread_queries(labels)
    rows = index_array("retrieval_gallery", "queries", queries)
    if rows.min() < 0 or rows.max() >= len(labels):
        raise ValueError(
            "retrieval_gallery: queries must be indices of samples, in [0, "
            f"{len(labels)}), received {rows.min()} to {rows.max()}."
        )
    return rows


def spread_queries(labels: np.ndarray) -> np.ndarray:
    """Six samples, evenly spread in the order of their classes."""
    order = np.argsort(labels, kind="stable")
    count = min(DEFAULT_QUERIES, len(order))
    # The middles of `count` equal pieces.
    return order[(2 * np.arange(count) + 1) * len(order) // (2 * count)]


def nearest_samples(
    found: RetrievalSet, rows: np.ndarray, neighbours: int
) -> np.ndarray:
    """The samples of the gallery that are nearest to each query.

    Args:
        found: Queries and gallery.
        rows: Indices of the queries to look up, `(rows,)`.
        neighbours: How many samples a row holds at most.

    Returns:
        Indices `(rows, neighbours)`, nearest first.
    """
    distances = squared_distances(found.queries[rows], found.gallery)
    if found.own:
        distances[np.arange(len(rows)), rows] = np.inf
    order = np.argsort(distances, axis=1, kind="stable")
    return order[:, : min(neighbours, found.neighbours)]


def _frame(sheet: PhotoSheet, left: float, top: float, *, right: bool) -> None:
    """Frames a photo from outside, so that dashes stand on white."""
    patches = import_optional("matplotlib.patches", "visualization")
    sheet.ax.add_patch(
        patches.Rectangle(
            (left - 0.03, top - 0.03),
            1.06,
            1.06,
            fill=False,
            linewidth=0.05 * sheet.points,
            **(RIGHT if right else WRONG),
        )
    )

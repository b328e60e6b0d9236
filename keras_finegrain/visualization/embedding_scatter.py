"""The embeddings of samples as points in the plane."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_finegrain._base import checks
from keras_finegrain._base.checks import one_of
from keras_finegrain._base.optional import import_optional
from keras_finegrain.metrics.embedding_set import embedding_set
from keras_finegrain.visualization.axes import axis_or_new
from keras_finegrain.visualization.checks import (
    check_indexed,
    class_centers,
    class_labels,
    class_name,
)
from keras_finegrain.visualization.palette import class_legend, class_styles

SAMPLES_FOR_THREADS = 2000
METHODS = ("auto", "none", "pca", "tsne")
# 200 numbers in one place are apart after fewer.
MOST_PUSHES = 300


def embedding_scatter(
    embeddings: Any,
    labels: Any,
    class_names: Sequence[str] | None = None,
    centers: Any = None,
    method: str = "auto",
    ax: Any = None,
    seed: int = 0,
) -> Any:
    """Draws embeddings as points in the plane, one look for each class.

    Each class's number stands at its most central point, so that a picture of
    200 classes can be read without its legend. Numbers that would cover each
    other are moved apart, with a line to their places.

    Args:
        embeddings: Array or tensor of any backend, `(samples, dim)`.
        labels: Integers `(samples,)`, not negative, or one-hot rows; they
            index `class_names` and `centers`.
        class_names: Name of each class for the legend. Defaults to numbers
            alone.
        centers: Class centers, `(classes, dim)` or
            `(classes, centers_per_class, dim)`, drawn as stars in the class's
            colour. Defaults to none.
        method: How the plane is found. `"none"` takes two-dimensional
            embeddings as they are, `"pca"` their two directions of largest
            variance, `"tsne"` keeps neighbourhoods (distances between far
            groups then mean nothing). Defaults to `"auto"`: `"none"` for two
            dimensions, else `"tsne"`.
        ax: matplotlib axis to draw into. Defaults to an axis in a new figure
            with a legend; a given axis gets none, but `class_legend` can add
            it.
        seed: Seed of t-SNE. Defaults to 0.

    Returns:
        The matplotlib axis.

    Raises:
        ImportError: If matplotlib, or for t-SNE scikit-learn, is missing.
        ValueError: If the shapes disagree, an embedding is not finite, a label
            lies outside `class_names` or `centers`, or `method` is unknown.

    Example:
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import numpy as np
    >>> points = np.array([[0.0, 0.0], [0.0, 1.0], [5.0, 5.0], [5.0, 6.0]])
    >>> axis = embedding_scatter(
    ...     points, np.array([0, 0, 1, 1]), ["Song Sparrow", "Fox Sparrow"]
    ... )
    >>> axis.get_legend_handles_labels()[1]
    ['0  Song Sparrow', '1  Fox Sparrow']

    Reference:
    - [van der Maaten and Hinton, Visualizing data using t-SNE, JMLR
      2008](https://jmlr.org/papers/v9/vandermaaten08a.html)
    """
    who = "embedding_scatter"
    vectors = labelled_vectors(who, embeddings, labels, class_names, centers)
    plane = in_plane(who, vectors, method, seed)
    own_figure = ax is None
    ax = axis_or_new(ax, (6, 6))
    numbers = draw_classes(ax, plane, class_names)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_aspect("equal", adjustable="datalim")
    if own_figure:
        class_legend(ax.figure, ax)
    # Gives the axis its final place.
    ax.figure.canvas.figure.draw_without_rendering()
    place_class_numbers(ax, numbers)
    return ax


class LabelledVectors(NamedTuple):
    """Embeddings and centers, each with its class.

    Attributes:
        points: Floats `(samples, dim)`.
        labels: Integers `(samples,)`.
        stars: The centers, floats `(stars, dim)`; none are `(0, dim)`.
        star_labels: Integers `(stars,)`.
    """

    points: np.ndarray
    labels: np.ndarray
    stars: np.ndarray
    star_labels: np.ndarray


def labelled_vectors(
    who: str,
    embeddings: Any,
    labels: Any,
    class_names: Sequence[str] | None,
    centers: Any,
) -> LabelledVectors:
    """Checks what is to be drawn.

    Args:
        who: Name of the public function, with which errors begin.
        embeddings: As in `embedding_scatter`.
        labels: As in `embedding_scatter`.
        class_names: As in `embedding_scatter`.
        centers: As in `embedding_scatter`.

    Raises:
        ValueError: As `embedding_scatter`.
    """
    points, _ = embedding_set(who, embeddings, labels)
    labels = class_labels(who, labels, len(points), class_names)
    dim = points.shape[1]
    if centers is None:
        return LabelledVectors(points, labels, np.zeros((0, dim)), labels[:0])
    centers = class_centers(who, centers, dim)
    check_indexed(who, "centers", centers, labels)
    return LabelledVectors(
        points,
        labels,
        centers.reshape(-1, dim),
        np.repeat(np.arange(len(centers)), centers.shape[1]),
    )


def in_plane(
    who: str, vectors: LabelledVectors, method: str, seed: int
) -> LabelledVectors:
    """Brings embeddings and centers into the same plane.

    Args:
        who: Name of the public function, with which errors begin.
        vectors: Of any dim.
        method: As in `embedding_scatter`.
        seed: As in `embedding_scatter`.

    Returns:
        The vectors with a dim of 2.

    Raises:
        ImportError: If t-SNE is asked for and scikit-learn is missing.
        ValueError: If `method` is unknown, or `"none"` and `dim` is not 2.
    """
    one_of(who, "method", method, METHODS)
    seed = checks.seed(who, "seed", seed)
    dim = vectors.points.shape[1]
    if keeps_coordinates(method, dim):
        if dim != 2:
            raise ValueError(
                f"{who}: method='none' takes embeddings of 2 dimensions, "
                f"received {dim}. Use 'pca' or 'tsne'."
            )
        return vectors
    together = np.concatenate([vectors.points, vectors.stars])
    if method == "pca" or len(together) < 4:
        plane = _principal_components(together, 2)
    else:
        plane = _tsne(together, seed)
    points, stars = np.split(plane, [len(vectors.points)])
    return vectors._replace(points=points, stars=stars)


def keeps_coordinates(method: str, dim: int) -> bool:
    """Whether `in_plane` leaves vectors of this dim as they are."""
    return method == "none" or (method == "auto" and dim == 2)


def _tsne(vectors: np.ndarray, seed: int) -> np.ndarray:
    manifold = import_optional("sklearn.manifold", "visualization")
    threads = import_optional("threadpoolctl", "visualization")
    # Van der Maaten and Hinton too take 50 components: they keep what matters,
    # and the search for neighbours no longer depends on dim.
    components = _principal_components(vectors, 50)
    extent = np.abs(components).max()
    # scikit-learn divides by the extent of its start, and kills the process
    # where that is 0. What differs by rounding alone is equal.
    if extent <= np.finfo(np.float32).eps * np.abs(vectors).max():
        return np.zeros((len(vectors), 2))
    tsne = manifold.TSNE(
        init="pca",
        # scikit-learn's default of 30, where there are enough samples: it
        # refuses as many neighbours as samples.
        perplexity=min(30.0, (len(vectors) - 1) / 3),
        random_state=seed,
    )
    # With few samples a step takes 1 ms, but 40 ms where its threads wait for
    # one another because others use the cores too.
    limit = 1 if len(vectors) < SAMPLES_FOR_THREADS else None
    with threads.threadpool_limits(limit, user_api="openmp"):
        # Squares of its float32 neither overflow nor vanish.
        return tsne.fit_transform((components / extent).astype(np.float32))


def _principal_components(vectors: np.ndarray, dimensions: int) -> np.ndarray:
    """Coordinates along the directions of largest variance, zero-padded."""
    centered = vectors - vectors.mean(axis=0)
    left, scales, directions = np.linalg.svd(centered, full_matrices=False)
    signs = fixed_signs(directions)
    components = (left * scales * signs)[:, :dimensions]
    missing = max(0, 2 - components.shape[1])
    return np.pad(components, [(0, 0), (0, missing)])


def fixed_signs(directions: np.ndarray) -> np.ndarray:
    """The sign of the largest coordinate of each row.

    The sign of a principal direction is arbitrary: without this factor the
    same embedding is drawn mirrored on another machine.
    """
    largest = np.abs(directions).argmax(axis=1)
    return np.sign(directions[np.arange(len(directions)), largest])


def draw_classes(
    ax: Any, plane: LabelledVectors, class_names: Sequence[str] | None
) -> list[Any]:
    """Draws points, stars and numbers, class after class.

    Args:
        ax: matplotlib axis.
        plane: What to draw, of dim 2.
        class_names: As in `embedding_scatter`.

    Returns:
        The numbers, for `place_class_numbers`.
    """
    points, labels, stars, star_labels = plane
    classes = np.unique(labels)
    styles = class_styles(int(classes.max()) + 1)
    # 60 points² for a handful, 8 for thousands.
    size = float(np.clip(9000 / len(points), 8, 60))
    # Few stars can be seen among thousands of points.
    star_size = max(4 * size, min(100, 2000 / max(1, len(stars))))
    for index in classes:
        style = styles[index]
        ax.scatter(
            *points[labels == index].T,
            s=size,
            marker=style.marker,
            facecolors=style.color if style.filled else "none",
            edgecolors="white" if style.filled else style.color,
            linewidths=0.3 if style.filled else 0.8,
            alpha=0.85,
            label=class_name(index, class_names),
        )
        ax.scatter(
            *stars[star_labels == index].T,
            s=star_size,
            marker="*",
            facecolors=style.color,
            # A black edge would be lost on black stars.
            edgecolors="white" if style.color == "#000000" else "black",
            linewidths=0.8,
            zorder=3,
        )
    return _write_class_numbers(ax, plane, classes)


def place_class_numbers(ax: Any, numbers: Sequence[Any]) -> None:
    """Moves the numbers of classes apart until none covers another.

    A thin line leads from a number that has moved to its place.

    Args:
        ax: The axis of the numbers. Its limits and its place in the figure
            must be final.
        numbers: What `draw_classes` has written.
    """
    pixels = ax.figure.dpi / 72
    places = ax.transData.transform([text.xy for text in numbers])
    fonts = np.array([text.get_fontsize() for text in numbers])
    digits = np.array([len(text.get_text()) for text in numbers])
    # A bold digit is 0.7 as wide as high.
    sizes = pixels * np.stack([fonts * (0.7 * digits + 0.3), fonts], axis=-1)
    box = ax.get_window_extent()
    offsets = [text.get_position() for text in numbers]
    spots = _apart(
        places + pixels * np.array(offsets),
        sizes,
        np.array([box.p0 + sizes / 2, box.p1 - sizes / 2]),
    )
    for text, moved in zip(numbers, (spots - places) / pixels, strict=True):
        text.set_position(moved)


def _apart(
    spots: np.ndarray, sizes: np.ndarray, limits: np.ndarray
) -> np.ndarray:
    """Pushes boxes apart, away from one another, until none overlap.

    Args:
        spots: Middles of the boxes, `(boxes, 2)`.
        sizes: Widths and heights, `(boxes, 2)`.
        limits: Least and largest middles, `(2, boxes, 2)`.

    Returns:
        The new middles. (Boxes overlap where there is no room for all.)
    """
    # What lies in one place goes different ways, the same in each picture.
    turns = np.arange(len(spots)) * np.pi * (3 - np.sqrt(5))
    spots = spots + 0.01 * np.stack([np.cos(turns), np.sin(turns)], axis=-1)
    needed = (sizes[:, None] + sizes) / 2
    for _ in range(MOST_PUSHES):
        between = spots[:, None] - spots
        overlaps = (needed - np.abs(between)).min(axis=-1)
        np.fill_diagonal(overlaps, 0)
        pushes = np.maximum(overlaps, 0)
        if pushes.max() < 0.1:
            break
        lengths = np.linalg.norm(between, axis=-1, keepdims=True)
        ways = between / np.maximum(lengths, 1e-9)
        moves = np.einsum("ab,abc->ac", 0.4 * pushes, ways)
        # Many pushes at once would throw a number across the picture.
        steps = np.linalg.norm(moves, axis=-1, keepdims=True)
        most = sizes[:, 1:] / 2
        spots = spots + moves * np.minimum(1, most / np.maximum(steps, 1e-9))
        spots = np.clip(spots, *limits)
    return spots


def _write_class_numbers(
    ax: Any, plane: LabelledVectors, classes: np.ndarray
) -> list[Any]:
    """Writes each class's number at the point nearest to all its others.

    A little higher where the class has a star, which may lie there.
    """
    points, labels, _, star_labels = plane
    effects = import_optional("matplotlib.patheffects", "visualization")
    outline = effects.withStroke(linewidth=2.5, foreground="white")
    numbers = []
    for index in classes:
        mine = points[labels == index]
        median = np.median(mine, axis=0)
        nearest = np.linalg.norm(mine - median, axis=1).argmin()
        number = ax.annotate(
            str(index),
            mine[nearest],
            xytext=(0, 9 if index in star_labels else 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=9 if len(classes) <= 30 else 6,
            fontweight="bold",
            zorder=4,
            path_effects=[outline],
            arrowprops={
                "arrowstyle": "-",
                "linewidth": 0.6,
                "color": "dimgrey",
                "shrinkA": 0,
                "shrinkB": 0,
            },
        )
        numbers.append(number)
    return numbers

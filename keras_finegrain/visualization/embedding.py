"""An embedding as a picture in two dimensions."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_finegrain._base.arrays import to_numpy
from keras_finegrain.metrics.embedding_set import embedding_set
from keras_finegrain.visualization.palette import class_legend, class_styles
from keras_finegrain.visualization.requirements import import_for_pictures

_SAMPLES_FOR_THREADS = 2000
METHODS = ("auto", "none", "pca", "tsne")
# Points between the places of two class numbers, under which they would cover
# each other.
NUMBER_SIZE = 10
# As many numbers as are still read when written side by side.
NUMBERS_IN_ONE_PLACE = 4


def embedding_scatter(
    embeddings: Any,
    labels: Any,
    class_names: Sequence[str] | None = None,
    centers: Any = None,
    method: str = "auto",
    ax: Any = None,
    seed: int = 0,
) -> Any:
    """Draws embeddings as points in the plane, one look a class.

    Each class's number stands at its most central point, so that a picture of
    200 classes can be read without its legend.

    Args:
        embeddings: Array or tensor of any backend, `(samples, dim)`.
        labels: Integers `(samples,)`; they index `class_names` and `centers`.
        class_names: Name of each class for the legend. Defaults to none: the
            numbers alone.
        centers: Class centers, `(classes, dim)`, or several a class,
            `(classes, centers_per_class, dim)`, drawn as stars in the class's
            colour. Defaults to none.
        method: How the plane is reached. `"none"` takes two-dimensional
            embeddings as they are, `"pca"` their two directions of largest
            variance, `"tsne"` neighbourhoods (distances between far groups
            then mean nothing). Defaults to `"auto"`: `"none"` for two
            dimensions, else `"tsne"`.
        ax: matplotlib axis to draw into. Defaults to an axis in a figure of
            its own, with a legend; in a given axis the caller places one, for
            instance with `class_legend`.
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
    plane = in_plane(who, vectors, method=method, seed=seed)
    pyplot = import_for_pictures("matplotlib.pyplot")
    own_figure = ax is None
    if own_figure:
        ax = pyplot.subplots(figsize=(6, 6), layout="constrained")[1]
    draw_classes(ax, plane, class_names)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_aspect("equal", adjustable="datalim")
    if own_figure:
        class_legend(ax.figure, ax)
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
        who: What errors begin with.
        embeddings: As in `embedding_scatter`.
        labels: Likewise.
        class_names: Likewise.
        centers: Likewise.

    Raises:
        ValueError: As `embedding_scatter`.
    """
    points, _ = embedding_set(who, embeddings, labels)
    labels = to_numpy(labels).reshape(-1)
    stars, star_labels = _flat_centers(who, centers, points.shape[1])
    _check_labels(who, labels, class_names, centers)
    return LabelledVectors(points, labels, stars, star_labels)


def in_plane(
    who: str, vectors: LabelledVectors, *, method: str, seed: int
) -> LabelledVectors:
    """Brings embeddings and centers into the same plane.

    Args:
        who: What errors begin with.
        vectors: Of any dim.
        method: As in `embedding_scatter`.
        seed: Likewise.

    Raises:
        ImportError: As `project`.
        ValueError: Likewise.
    """
    plane = project(
        who,
        np.concatenate([vectors.points, vectors.stars]),
        method=method,
        seed=seed,
    )
    points, stars = np.split(plane, [len(vectors.points)])
    return vectors._replace(points=points, stars=stars)


def draw_classes(
    ax: Any, plane: LabelledVectors, class_names: Sequence[str] | None
) -> None:
    """Draws points, stars and numbers, class after class.

    Args:
        ax: matplotlib axis.
        plane: What to draw, of dim 2.
        class_names: As in `embedding_scatter`.
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
        mine = points[labels == index]
        ax.scatter(
            *mine.T,
            s=size,
            marker=style.marker,
            facecolors=style.color if style.filled else "none",
            edgecolors="white" if style.filled else style.color,
            linewidths=0.3 if style.filled else 0.8,
            alpha=0.85,
            label=_legend_entry(index, class_names),
        )
        drawn = stars[star_labels == index]
        ax.scatter(
            *drawn.T,
            s=star_size,
            marker="*",
            facecolors=style.color,
            # Black among black points would be lost.
            edgecolors="white" if style.color == "#000000" else "black",
            linewidths=0.8,
            zorder=3,
        )
    _write_class_numbers(ax, plane, classes)


def part_class_numbers(ax: Any) -> None:
    """Writes the numbers of classes that lie in one place side by side.

    More than four are left out: the classes cannot be told apart there.

    Args:
        ax: matplotlib axis that `draw_classes` has drawn into. Its limits and
            its place in the figure must be final.
    """
    places = ax.transData.transform([text.xy for text in ax.texts])
    pixels = NUMBER_SIZE * ax.figure.dpi / 72
    left = list(range(len(places)))
    while left:
        group = [left.pop(0)]
        for index in group:
            apart = np.abs(places[left] - places[index]).max(axis=1)
            near = [left[at] for at in np.flatnonzero(apart < pixels)]
            group += near
            left = [other for other in left if other not in near]
        texts = [ax.texts[index] for index in group]
        texts[0].xy = np.mean([text.xy for text in texts], axis=0)
        texts[0].set_text(" ".join(text.get_text() for text in texts))
        texts[0].set_visible(len(group) <= NUMBERS_IN_ONE_PLACE)
        for text in texts[1:]:
            text.set_visible(False)


def project(
    who: str, vectors: np.ndarray, *, method: str, seed: int
) -> np.ndarray:
    """Brings vectors into the plane.

    Args:
        who: What errors begin with.
        vectors: Floats `(samples, dim)`.
        method: One of `"auto"`, `"none"`, `"pca"`, `"tsne"`.
        seed: Seed of t-SNE.

    Returns:
        Floats `(samples, 2)`.

    Raises:
        ImportError: If t-SNE is asked for and scikit-learn is missing.
        ValueError: If `method` is unknown, or `"none"` and `dim` is not 2.
    """
    if method not in METHODS:
        raise ValueError(
            f"{who}: method must be one of {METHODS}, received {method!r}."
        )
    if keeps_coordinates(method, vectors.shape[1]):
        if vectors.shape[1] != 2:
            raise ValueError(
                f"{who}: method='none' takes embeddings of 2 dimensions, "
                f"received {vectors.shape[1]}. Use 'pca' or 'tsne'."
            )
        return vectors
    if method == "pca" or len(vectors) < 4:
        return _principal_components(vectors, 2)
    manifold = import_for_pictures("sklearn.manifold")
    threads = import_for_pictures("threadpoolctl")
    tsne = manifold.TSNE(
        init="pca",
        # scikit-learn asks for fewer neighbours than samples; its default of
        # 30 wherever there are enough.
        perplexity=min(30.0, (len(vectors) - 1) / 3),
        random_state=seed,
    )
    # A step of few samples takes less than its threads wait for one another
    # where others use the cores too: 40 ms instead of 1.
    limit = 1 if len(vectors) < _SAMPLES_FOR_THREADS else None
    with threads.threadpool_limits(limit, user_api="openmp"):
        # 50 components keep what matters and make the search for neighbours
        # independent of dim, as van der Maaten and Hinton do.
        return tsne.fit_transform(
            _principal_components(vectors, 50).astype(np.float32)
        )


def keeps_coordinates(method: str, dim: int) -> bool:
    """Whether `project` leaves vectors of this dim as they are."""
    return method == "none" or (method == "auto" and dim == 2)


def _principal_components(vectors: np.ndarray, dimensions: int) -> np.ndarray:
    """Coordinates along the directions of largest variance, zero-padded."""
    centered = vectors - vectors.mean(axis=0)
    left, scales, directions = np.linalg.svd(centered, full_matrices=False)
    # The sign of a singular vector is arbitrary: fix it, or the same
    # embedding is drawn mirrored on another machine.
    largest = np.abs(directions).argmax(axis=1)
    signs = np.sign(directions[np.arange(len(directions)), largest])
    components = (left * scales * signs)[:, :dimensions]
    missing = max(0, 2 - components.shape[1])
    return np.pad(components, [(0, 0), (0, missing)])


def _flat_centers(
    who: str, centers: Any, dim: int
) -> tuple[np.ndarray, np.ndarray]:
    """All the centers in one list, with the class of each."""
    if centers is None:
        return np.zeros((0, dim)), np.zeros(0, dtype=np.int64)
    centers = to_numpy(centers).astype(np.float64)
    if centers.ndim not in (2, 3) or centers.shape[-1] != dim:
        raise ValueError(
            f"{who}: centers must have the shape (classes, dim) or "
            f"(classes, centers_per_class, dim) with dim={dim} as in the "
            f"embeddings, received {centers.shape}."
        )
    per_class = 1 if centers.ndim == 2 else centers.shape[1]
    return (
        centers.reshape(-1, dim),
        np.repeat(np.arange(len(centers)), per_class),
    )


def _check_labels(
    who: str,
    labels: np.ndarray,
    class_names: Sequence[str] | None,
    centers: Any,
) -> None:
    if labels.min() < 0:
        raise ValueError(
            f"{who}: labels must not be negative, received a minimum of "
            f"{labels.min()}."
        )
    for argument, values in (
        ("class_names", class_names),
        ("centers", centers),
    ):
        if values is not None and labels.max() >= len(values):
            raise ValueError(
                f"{who}: {argument} must have one entry a class, "
                f"received {len(values)} and a label of {labels.max()}."
            )


def _legend_entry(index: int, class_names: Sequence[str] | None) -> str:
    return (
        f"{index}" if class_names is None else f"{index}  {class_names[index]}"
    )


def _write_class_numbers(
    ax: Any, plane: LabelledVectors, classes: np.ndarray
) -> None:
    """Writes each class's number at the point nearest to all its others.

    Where the class has a star, a little higher, for the star may lie there.
    """
    points, labels, _, star_labels = plane
    effects = import_for_pictures("matplotlib.patheffects")
    outline = effects.withStroke(linewidth=2.5, foreground="white")
    for index in classes:
        mine = points[labels == index]
        median = np.median(mine, axis=0)
        nearest = np.linalg.norm(mine - median, axis=1).argmin()
        ax.annotate(
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
        )

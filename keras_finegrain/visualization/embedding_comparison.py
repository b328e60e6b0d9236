"""The embeddings of several models side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_finegrain._base.checks import one_of
from keras_finegrain._base.optional import import_optional
from keras_finegrain.visualization.axes import axis_or_new
from keras_finegrain.visualization.embedding_scatter import (
    METHODS,
    draw_classes,
    in_plane,
    keeps_coordinates,
    labelled_vectors,
    place_class_numbers,
)
from keras_finegrain.visualization.palette import class_legend

# At the width of a page numbers in more could not be read.
PANELS_IN_A_ROW = 2


def embedding_comparison(
    embeddings_by_name: Mapping[str, Any],
    labels: Any,
    class_names: Sequence[str] | None = None,
    centers: Mapping[str, Any] | None = None,
    method: str = "auto",
    axes: Sequence[Any] | None = None,
    seed: int = 0,
) -> list[Any]:
    """Draws the same samples as several models embed them, a panel per model.

    A class has the same colour and marker in all panels, and one legend serves
    them. Each panel has its own scale, since the models' embeddings have no
    common unit: where two-dimensional embeddings are drawn as they are, the
    numbers at the axes tell the scales apart. Class numbers that would cover
    each other are moved apart, with a line to their places.

    Args:
        embeddings_by_name: Name of each model, the panel's title, to its
            embeddings: array or tensor of any backend, `(samples, dim)`. The
            models may differ in dim.
        labels: Integers `(samples,)`, not negative, or one-hot rows, the same
            for all models; they index `class_names` and each model's centers.
        class_names: Name of each class for the legend. Defaults to numbers
            alone.
        centers: Name of a model to its class centers, as in
            `embedding_scatter`. Models without centers are left out. Defaults
            to none.
        method: How the plane is found, for each model by itself, as in
            `embedding_scatter`. Defaults to `"auto"`: two dimensions as they
            are, else t-SNE.
        axes: matplotlib axes to draw into, one for each model. Defaults to
            panels in a new figure, four in a row, with a legend; given axes
            get none, but `class_legend` can add it.
        seed: Seed of t-SNE. Defaults to 0.

    Returns:
        The matplotlib axes in the order of the models. Save their figure with
        `bbox_inches="tight"`: the legend lies outside its edge.

    Raises:
        ImportError: If matplotlib, or for t-SNE scikit-learn, is missing.
        ValueError: If there is no model, `centers` names a model without
            embeddings, `axes` are not one for each model, or for what
            `embedding_scatter` raises, with the name of the model.

    Example:
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> points = np.array([[0.0, 0.0], [0.0, 1.0], [5.0, 5.0], [5.0, 6.0]])
    >>> axes = embedding_comparison(
    ...     {"softmax": points, "center loss": points * [1.0, 0.1]},
    ...     np.array([0, 0, 1, 1]),
    ...     ["Song Sparrow", "Fox Sparrow"],
    ... )
    >>> [axis.get_title() for axis in axes]
    ['softmax', 'center loss']
    """
    for name, value in (
        ("embeddings_by_name", embeddings_by_name),
        ("centers", {} if centers is None else centers),
    ):
        if not isinstance(value, Mapping):
            raise TypeError(
                f"embedding_comparison: {name} must be a dict from the name "
                f"of a model, received {value!r:.80}."
            )
    centers = centers or {}
    one_of("embedding_comparison", "method", method, METHODS)
    _check_names(embeddings_by_name, centers, axes)
    planes = {}
    for name, embeddings in embeddings_by_name.items():
        who = f"embedding_comparison, model {name!r}"
        vectors = labelled_vectors(
            who, embeddings, labels, class_names, centers.get(name)
        )
        has_units = keeps_coordinates(method, vectors.points.shape[1])
        planes[name] = in_plane(who, vectors, method, seed), has_units

    panels = (
        _panels(len(planes))
        if axes is None
        else [axis_or_new(axis, (4, 4)) for axis in axes]
    )
    numbers = []
    for axis, (name, (plane, has_units)) in zip(
        panels, planes.items(), strict=True
    ):
        numbers.append(draw_classes(axis, plane, class_names))
        axis.set_title(name)
        axis.set_aspect("equal", adjustable="datalim")
        if has_units:
            axis.locator_params(nbins=4)
            axis.tick_params(labelsize=8)
        else:
            # The coordinates of a projection mean nothing.
            axis.set_xticks([])
            axis.set_yticks([])
    if axes is None:
        class_legend(panels[0].figure, panels[0])
    # Gives the panels their final places.
    panels[0].figure.draw_without_rendering()
    for axis, written in zip(panels, numbers, strict=True):
        place_class_numbers(axis, written)
    return panels


def _panels(count: int) -> list[Any]:
    """Axes in a new figure."""
    pyplot = import_optional("matplotlib.pyplot", "visualization")
    columns = min(count, PANELS_IN_A_ROW)
    rows = -(-count // columns)
    figure, grid = pyplot.subplots(
        rows,
        columns,
        figsize=(4.2 * columns, 4.5 * rows),
        layout="constrained",
        squeeze=False,
    )
    for axis in grid.flat[count:]:
        figure.delaxes(axis)
    return list(grid.flat[:count])


def _check_names(
    embeddings_by_name: Mapping[str, Any],
    centers: Mapping[str, Any],
    axes: Sequence[Any] | None,
) -> None:
    if not embeddings_by_name:
        raise ValueError(
            "embedding_comparison: embeddings_by_name must hold at least one "
            "model, received none."
        )
    unknown = [name for name in centers if name not in embeddings_by_name]
    if unknown:
        raise ValueError(
            "embedding_comparison: centers must name models of "
            f"embeddings_by_name, {list(embeddings_by_name)}, received "
            f"{unknown}."
        )
    if axes is not None and not isinstance(axes, (Sequence, np.ndarray)):
        raise TypeError(
            "embedding_comparison: axes must be a list of matplotlib axes, "
            f"received {axes!r:.80}."
        )
    if axes is not None and len(axes) != len(embeddings_by_name):
        raise ValueError(
            "embedding_comparison: axes must be one for each model, "
            f"{len(embeddings_by_name)}, received {len(axes)}."
        )

"""A metric over the epochs of training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_finegrain.visualization.axes import axis_or_new
from keras_finegrain.visualization.palette import method_styles

# Points between the middles of two names.
NAME_PITCH = 11


def learning_curves(
    histories: Mapping[str, Any],
    metric: str = "val_accuracy",
    ax: Any = None,
) -> Any:
    """Draws one metric over the epochs, one line for each method.

    A method's name stands at the end of its line; spaces take the place of
    underscores. Its colour follows from its name: it is the same whatever
    else is drawn, as far as no other method has it, and in any order.

    Args:
        histories: What each named method recorded: a `keras.callbacks.History`
            or its dict of lists, or a sequence of those, one for each seed.
            Several seeds are drawn as their mean with a band from the lowest
            to the highest; seeds of unequal length up to the shortest.
        metric: Key of the histories. Defaults to `"val_accuracy"`. A method
            that did not record it is left out.
        ax: matplotlib axis to draw into. Defaults to an axis in a new figure.

    Returns:
        The matplotlib axis.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If no history holds the metric.

    Example:
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> axis = learning_curves(
    ...     {
    ...         "softmax": [{"loss": [2.0, 1.0]}, {"loss": [3.0, 2.0]}],
    ...         "center": {"loss": [2.0, 0.5]},
    ...     },
    ...     metric="loss",
    ... )
    >>> axis.lines[0].get_ydata().tolist()
    [2.5, 1.5]
    """
    if not isinstance(histories, Mapping):
        raise TypeError(
            "learning_curves: histories must be a dict from name to history, "
            f"received {histories!r:.80}."
        )
    recorded = {name: _seeds(given) for name, given in histories.items()}
    known = {
        key for seeds in recorded.values() for seed in seeds for key in seed
    }
    if not isinstance(metric, str) or metric not in known:
        raise ValueError(
            f"learning_curves: metric must be recorded by some history, "
            f"received {metric!r}. Recorded are {sorted(known)}."
        )
    ax = axis_or_new(ax, (6, 4))
    styles = method_styles(map(str, recorded))
    for name, seeds in recorded.items():
        color, dashes = styles[str(name)]
        values = [seed[metric] for seed in seeds if metric in seed]
        if not values:
            continue
        count = min(map(len, values))
        curves = np.array([curve[:count] for curve in values], np.float64)
        epochs = np.arange(1, count + 1)
        ax.plot(
            epochs,
            curves.mean(axis=0),
            color=color,
            linestyle=dashes,
            # A line would not show a single epoch.
            marker="o" if count == 1 else None,
            linewidth=1.8,
            # A line that lies below another one shines through.
            alpha=0.85,
            label=str(name).replace("_", " "),
        )
        if len(curves) > 1:
            ax.fill_between(
                epochs,
                curves.min(axis=0),
                curves.max(axis=0),
                color=color,
                alpha=0.12,
                linewidth=0,
                # No band covers a line.
                zorder=1,
            )
    ax.set_xlabel("epoch")
    ax.set_ylabel(metric.replace("_", " "))
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    _write_names(ax)
    return ax


def _write_names(ax: Any) -> None:
    """Writes the names of the lines beside the axis, at their ends' heights.

    In the order of the ends, moved apart where they would cover each other.
    """
    # Gives the axis its final height.
    ax.figure.canvas.figure.draw_without_rendering()
    points = 72 / ax.figure.dpi
    box = ax.get_window_extent()
    lines = sorted(ax.lines, key=lambda line: line.get_ydata()[-1])
    ends = [(line.get_xdata()[-1], line.get_ydata()[-1]) for line in lines]
    places = ax.transData.transform(ends) * points
    heights = places[:, 1]
    # Each as high as it must be above the ones below; then all as far down
    # as they have moved up on average.
    steps = NAME_PITCH * np.arange(len(lines))
    apart = np.maximum.accumulate(heights - steps) + steps
    apart -= np.mean(apart - heights)
    for line, place, height in zip(lines, places, apart, strict=True):
        ax.annotate(
            line.get_label(),
            (line.get_xdata()[-1], line.get_ydata()[-1]),
            xytext=(box.x1 * points - place[0] + 8, height - place[1]),
            textcoords="offset points",
            color=line.get_color(),
            va="center",
            fontsize=9,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": line.get_color(),
                "linewidth": 0.6,
                "shrinkA": 0,
                "shrinkB": 0,
                # From the left edge of the name.
                "relpos": (0, 0.5),
            },
        )


def _seeds(recorded: Any) -> list[Mapping[str, Sequence[float]]]:
    """The dict of lists of each seed."""
    if isinstance(recorded, Mapping) or hasattr(recorded, "history"):
        recorded = [recorded]
    if isinstance(recorded, (list, tuple)):
        seeds: list[Any] = [getattr(seed, "history", seed) for seed in recorded]
        if all(isinstance(seed, Mapping) for seed in seeds):
            return seeds
    raise TypeError(
        "learning_curves: histories must hold what `fit` returns, its dict, or "
        f"a list of these for each name, received {recorded!r:.80}."
    )

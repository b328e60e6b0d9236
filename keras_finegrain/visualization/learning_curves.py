"""A metric over the epochs of training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_finegrain.visualization.axes import axis_or_new
from keras_finegrain.visualization.palette import COLORS

LINE_STYLES = ("-", "--", "-.", ":")


def learning_curves(
    histories: Mapping[str, Any],
    metric: str = "val_accuracy",
    ax: Any = None,
) -> Any:
    """Draws one metric over the epochs, one line for each method.

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
    for position, (name, seeds) in enumerate(recorded.items()):
        values = [seed[metric] for seed in seeds if metric in seed]
        if not values:
            continue
        count = min(map(len, values))
        curves = np.array([curve[:count] for curve in values], np.float64)
        epochs = np.arange(1, count + 1)
        round_of_colors, color = divmod(position, len(COLORS))
        ax.plot(
            epochs,
            curves.mean(axis=0),
            color=COLORS[color],
            linestyle=LINE_STYLES[round_of_colors % len(LINE_STYLES)],
            # A line would not show a single epoch.
            marker="o" if count == 1 else None,
            linewidth=1.8,
            label=name,
        )
        if len(curves) > 1:
            ax.fill_between(
                epochs,
                curves.min(axis=0),
                curves.max(axis=0),
                color=COLORS[color],
                alpha=0.15,
                linewidth=0,
            )
    ax.set_xlabel("epoch")
    ax.set_ylabel(metric)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    return ax


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

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
    recorded = {name: _seeds(given) for name, given in histories.items()}
    curves = {name: _curve(seeds, metric) for name, seeds in recorded.items()}
    if all(curve is None for curve in curves.values()):
        known = {
            key for seeds in recorded.values() for seed in seeds for key in seed
        }
        raise ValueError(
            f"learning_curves: metric must be recorded by some history, "
            f"received {metric!r}. Recorded are {sorted(known)}."
        )
    ax = axis_or_new(ax, (6, 4))
    for position, (name, curve) in enumerate(curves.items()):
        if curve is None:
            continue
        round_of_colors, color = divmod(position, len(COLORS))
        epochs = np.arange(1, curve.shape[1] + 1)
        ax.plot(
            epochs,
            curve.mean(axis=0),
            color=COLORS[color],
            linestyle=LINE_STYLES[round_of_colors % len(LINE_STYLES)],
            # A line would not show a single epoch.
            marker="o" if len(epochs) == 1 else None,
            linewidth=1.8,
            label=name,
        )
        if len(curve) > 1:
            ax.fill_between(
                epochs,
                curve.min(axis=0),
                curve.max(axis=0),
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
    return [getattr(seed, "history", seed) for seed in recorded]


def _curve(
    seeds: list[Mapping[str, Sequence[float]]], metric: str
) -> np.ndarray | None:
    """The metric as `(seeds, epochs)`, `None` where it was not recorded."""
    curves = [seed[metric] for seed in seeds if metric in seed]
    if not curves:
        return None
    shortest = min(map(len, curves))
    return np.array([curve[:shortest] for curve in curves], dtype=np.float64)

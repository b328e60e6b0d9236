"""How training went, epoch by epoch."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_finegrain.visualization.palette import COLORS
from keras_finegrain.visualization.requirements import import_for_pictures

LINE_STYLES = ("-", "--", "-.", ":")


def learning_curves(
    histories: Mapping[str, Any],
    metric: str = "val_accuracy",
    ax: Any = None,
) -> Any:
    """Draws one metric over the epochs, one line a method.

    Args:
        histories: What each named method recorded: a `keras.callbacks.History`
            or its dict of lists, or a sequence of those, one a seed. Several
            seeds are drawn as their mean with a band from the lowest to the
            highest; seeds of unequal length up to the shortest.
        metric: Key of the histories. Defaults to `"val_accuracy"`. A method
            that did not record it is left out.
        ax: matplotlib axis to draw into. Defaults to one in a figure of its
            own.

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
    curves = {
        name: _seeds_by_epochs(recorded, metric)
        for name, recorded in histories.items()
    }
    if all(curve is None for curve in curves.values()):
        raise ValueError(
            f"learning_curves: metric must be recorded by some history, "
            f"received {metric!r}. Recorded are {_recorded(histories)}."
        )
    if ax is None:
        pyplot = import_for_pictures("matplotlib.pyplot")
        ax = pyplot.subplots(figsize=(6, 4), layout="constrained")[1]
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
            # A single epoch is a point, which a line would not show.
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


def _logs(history: Any) -> Mapping[str, Sequence[float]]:
    """The dict of lists of a `History`, or the dict itself."""
    return history if isinstance(history, Mapping) else history.history


def _per_seed(recorded: Any) -> list[Mapping[str, Sequence[float]]]:
    if isinstance(recorded, Mapping) or hasattr(recorded, "history"):
        recorded = [recorded]
    return [_logs(history) for history in recorded]


def _seeds_by_epochs(recorded: Any, metric: str) -> np.ndarray | None:
    """The metric as `(seeds, epochs)`, `None` where it was not recorded."""
    seeds = [logs[metric] for logs in _per_seed(recorded) if metric in logs]
    if not seeds:
        return None
    shortest = min(len(seed) for seed in seeds)
    return np.array([list(seed[:shortest]) for seed in seeds], dtype=np.float64)


def _recorded(histories: Mapping[str, Any]) -> list[str]:
    return sorted(
        {
            key
            for recorded in histories.values()
            for logs in _per_seed(recorded)
            for key in logs
        }
    )

"""Whether a model is right as often as it says."""

from typing import Any

import numpy as np

from keras_finegrain.metrics.calibration import binned, error_of
from keras_finegrain.metrics.embedding_metrics import share
from keras_finegrain.visualization.axes import axis_or_new
from keras_finegrain.visualization.palette import COLORS


def reliability_diagram(
    probabilities: Any,
    labels: Any,
    bins: int = 15,
    ax: Any = None,
) -> Any:
    """Draws accuracy against confidence, in bins of equal width.

    One bar a bin of `metrics.reliability_bins`: as high as the accuracy of its
    samples, with a 95 % interval (Wilson's), which is wide where they are few,
    and a mark at their mean confidence. Where the probabilities hold, bars end
    at their marks, on the diagonal; below it the model is too sure. The grey
    steps at the bottom are the share of the samples in each bin.

    Args:
        probabilities: As in `metrics.reliability_bins`.
        labels: As in `metrics.reliability_bins`.
        bins: Number of bins. Defaults to 15.
        ax: matplotlib axis to draw into. Defaults to an axis in a new figure.

    Returns:
        The matplotlib axis.

    Raises:
        ImportError: If matplotlib is missing.
        TypeError: If `ax` is no axis.
        ValueError: As in `metrics.reliability_bins`.

    Example:
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> rows = [[0.9, 0.1], [0.9, 0.1], [0.3, 0.7]]
    >>> axis = reliability_diagram(rows, [0, 1, 1])
    >>> axis.get_title()
    'expected calibration error 36.7 %, 3 samples'
    """
    found = binned("reliability_diagram", probabilities, labels, bins)
    ax = axis_or_new(ax, (5, 4.5))
    filled = found.counts > 0
    width = 1 / len(found.counts)
    counts, accuracy = found.counts[filled], found.accuracy[filled]
    middle = (found.edges[:-1] + found.edges[1:])[filled] / 2
    ends = [
        share(np.arange(count) < round(mean * count))[1:]
        for count, mean in zip(counts, accuracy, strict=True)
    ]
    ax.bar(
        middle,
        accuracy,
        0.92 * width,
        color=COLORS[4],
        yerr=np.abs(np.transpose(ends) - accuracy),
        error_kw={"ecolor": COLORS[0], "elinewidth": 1.2, "capsize": 2},
        label="accuracy, 95 % interval",
    )
    ax.plot(
        found.confidence[filled],
        found.confidence[filled],
        linestyle="none",
        marker="D",
        markersize=5,
        color=COLORS[3],
        label="mean confidence",
        zorder=3,
    )
    ax.plot([0, 1], [0, 1], color="0.4", linestyle="--", linewidth=1, zorder=1)
    ax.stairs(
        found.counts / found.counts.sum(),
        found.edges,
        color="0.25",
        linewidth=1.2,
        label="share of samples",
        zorder=3,
    )
    ax.set(xlim=(0, 1), ylim=(0, 1.02), aspect="equal")
    ax.set_xlabel("confidence")
    ax.set_ylabel("accuracy")
    ax.set_title(
        f"expected calibration error {100 * error_of(found):.1f} %, "
        f"{found.counts.sum()} samples",
        fontsize=10,
    )
    ax.grid(alpha=0.25)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, loc="upper left", fontsize=9)
    return ax

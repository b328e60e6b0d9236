"""The axis that a picture is drawn into."""

from typing import Any

from keras_finegrain._base.optional import import_optional


def axis_or_new(ax: Any, size: tuple[float, float]) -> Any:
    """The given axis, or the one of a new figure.

    Args:
        ax: matplotlib axis, or `None`.
        size: Width and height of the new figure in inches.

    Raises:
        ImportError: If matplotlib is missing.
        TypeError: If `ax` is no axis.
    """
    if ax is not None:
        if not hasattr(ax, "get_window_extent") or not hasattr(ax, "figure"):
            raise TypeError(
                "visualization: ax must be a matplotlib axis, received "
                f"{ax!r:.80}."
            )
        return ax
    pyplot = import_optional("matplotlib.pyplot", "visualization")
    return pyplot.subplots(figsize=size, layout="constrained")[1]

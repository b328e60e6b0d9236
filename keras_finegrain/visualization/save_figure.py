"""Saving a figure, never half of it."""

import os
import pathlib
from typing import Any

from keras_finegrain._base.checks import number
from keras_finegrain._base.files import as_path, replacing


def save_figure(
    ax_or_figure: Any, path: str | os.PathLike[str], dpi: float = 150
) -> pathlib.Path:
    """Saves the whole figure that an axis stands in.

    The ending of the path gives the format. What lies outside the figure's
    edge, such as a legend beside it, is saved too (`bbox_inches="tight"`). The
    file gets its name when it is complete: an interrupted call leaves an older
    file as it was. The figure stays open:
    `matplotlib.pyplot.close(axis.figure)` frees it.

    Args:
        ax_or_figure: A matplotlib axis, as the drawing functions return it, or
            a figure.
        path: The file, such as `"pictures/classes.png"`. A missing folder is
            made, an existing file replaced.
        dpi: Pixels per inch, above 0. Defaults to 150, at which small text can
            be read on a screen. Print needs 300.

    Returns:
        The path.

    Raises:
        OSError: If the file cannot be written.
        TypeError: If the first argument belongs to no figure.
        ValueError: If the ending is of no known format or `dpi` is not above
            0.

    Example:
    >>> import matplotlib, tempfile
    >>> matplotlib.use("Agg")
    >>> import matplotlib.pyplot as plt
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     saved = save_figure(plt.subplots()[1], f"{folder}/new/empty.png")
    ...     print(saved.name, saved.stat().st_size > 0)
    empty.png True
    """
    who = "save_figure"
    # Twice: an axis may stand in a subfigure. A figure's figure is itself.
    figure = getattr(getattr(ax_or_figure, "figure", None), "figure", None)
    if figure is None:
        raise TypeError(
            f"{who}: ax_or_figure must be a matplotlib axis or figure, "
            f"received {ax_or_figure!r}."
        )
    dpi = number(who, "dpi", dpi, above=0)
    path = as_path(who, "path", path)
    ending = path.suffix.lower().removeprefix(".")
    supported = figure.canvas.get_supported_filetypes()
    if ending not in supported:
        raise ValueError(
            f"{who}: path must end with one of "
            f"{', '.join(f'.{known}' for known in sorted(supported))}, "
            f"received {str(path)!r}."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        figure.savefig(file, format=ending, dpi=dpi, bbox_inches="tight")
    return path

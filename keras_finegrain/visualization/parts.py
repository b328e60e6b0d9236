"""The true places of named parts on an image."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_finegrain._base.optional import import_optional


def draw_parts(
    who: str,
    ax: Any,
    parts: Mapping[str, Any] | None,
    shape: tuple[int, ...],
    labels: bool = True,
) -> None:
    """Marks parts at their places; their names stand beside the image.

    Args:
        who: Name of the public function, with which errors begin.
        ax: matplotlib axis that shows the image in pixels.
        parts: For each name `(x, y)` in [0, 1], from the left and from the
            top, or an object with these as `x` and `y` and with `visible`,
            such as `datasets.synthetic_birds.PartPoint`. Hidden parts are
            left out. Or `None`.
        shape: Height and width of the image in pixels, and further axes.
        labels: Whether the names are written, each tied to its place by a
            thin line. Defaults to true.

    Raises:
        ValueError: If a place lies outside [0, 1].
    """
    places = {}
    if not isinstance(parts or {}, Mapping):
        raise TypeError(
            f"{who}: parts must be a dict from name to place, received "
            f"{parts!r:.80}."
        )
    for name, part in (parts or {}).items():
        if not getattr(part, "visible", True):
            continue
        try:
            x, y = (part.x, part.y) if hasattr(part, "x") else part
            x, y = float(x), float(y)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{who}: parts must hold a place (x, y) for each name, "
                f"received {part!r:.80} for {name!r}."
            ) from error
        if not (0.0 <= x <= 1.0 and 0.0 <= y <= 1.0):
            raise ValueError(
                f"{who}: parts must lie in [0, 1], received ({x:g}, {y:g}) "
                f"for {name!r}. Divide pixels by the image's width and height."
            )
        places[name] = x, y
    if not places:
        return
    height, width = shape[:2]
    # A pixel's center has whole coordinates: the edge lies half a pixel out.
    points = np.array(list(places.values())) * (width, height) - 0.5
    ax.plot(
        *points.T,
        linestyle="none",
        marker="o",
        markersize=3.5 if labels else 2.5,
        markerfacecolor="white",
        markeredgecolor="black",
        markeredgewidth=0.7,
        zorder=4,
    )
    if labels:
        _write_names(ax, list(places), points, height, width)


def _write_names(
    ax: Any, names: list[str], points: np.ndarray, height: int, width: int
) -> None:
    """Names in two columns beside the image, in the order of the heights."""
    effects = import_optional("matplotlib.patheffects", "visualization")
    outline = effects.withStroke(linewidth=1.6, foreground="white")
    from_left = np.argsort(points[:, 0], kind="stable")
    half = (len(names) + 1) // 2
    for side, mine in (("right", from_left[:half]), ("left", from_left[half:])):
        if not mine.size:
            continue
        column = -0.05 * width if side == "right" else 1.05 * width
        mine = mine[np.argsort(points[mine, 1], kind="stable")]
        rows = _spread(points[mine, 1], height)
        for index, row in zip(mine, rows, strict=True):
            ax.annotate(
                names[index],
                points[index],
                xytext=(column, row),
                ha=side,
                va="center",
                fontsize=7,
                annotation_clip=False,
                arrowprops={
                    "arrowstyle": "-",
                    "color": "black",
                    "linewidth": 0.5,
                    "path_effects": [outline],
                    "shrinkA": 0,
                    "shrinkB": 0,
                },
            )


def _spread(rows: np.ndarray, height: int) -> np.ndarray:
    """Moves sorted rows apart as little as makes room for a line of text.

    The sum of the squared moves is least: the isotonic regression of the rows
    less the gaps.
    """
    count = len(rows)
    gap = min(0.1 * height, height / count)
    gaps = gap * np.arange(count)
    bare = rows - gaps
    isotonic = [
        max(
            min(bare[first : last + 1].mean() for last in range(index, count))
            for first in range(index + 1)
        )
        for index in range(count)
    ]
    return np.clip(isotonic, 0.0, height - 1.0 - gaps[-1]) + gaps

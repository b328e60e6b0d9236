"""A heat map laid over the image that it explains."""

from typing import Any

import numpy as np

from keras_finegrain._base.checks import real_array
from keras_finegrain._base.optional import import_optional
from keras_finegrain.visualization.axes import axis_or_new
from keras_finegrain.visualization.photo import (
    as_photo,
    greyed,
    resized,
    show_photo,
)

# Its lightness rises, so it can be read in print and with every form of colour
# blindness. Against a grey photo it stands out more than cividis.
COLOR_MAP = "viridis"


def heat_map_overlay(
    image: Any, heat_map: Any, ax: Any = None, title: str | None = None
) -> Any:
    """Draws a heat map over the greyed image.

    Cold places show the image, hot ones are yellow. The colours run from 0 to
    the maximum of the map; negative values count as 0.

    Args:
        image: Array or tensor `(height, width, 3)`, uint8 or floats in
            [0, 255] or [0, 1].
        heat_map: Array or tensor `(rows, columns)` of any size, such as
            `grad_cam` gives; it is enlarged bilinearly to the image.
        ax: matplotlib axis to draw into. Defaults to an axis in a new figure.
        title: Heading of the axis. Defaults to none.

    Returns:
        The matplotlib axis. Its first image is the greyed photo, its second
        the heat.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If a shape does not fit or the heat map is not finite.

    Example:

    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> image = np.zeros((8, 8, 3), "uint8")
    >>> axis = heat_map_overlay(image, np.eye(2), title="song sparrow")
    >>> axis.images[1].get_array().shape
    (8, 8)
    """
    who = "heat_map_overlay"
    photo = as_photo(who, image)
    heat_map = real_array(who, "heat_map", heat_map).astype(np.float32)
    if heat_map.ndim != 2 or not np.isfinite(heat_map).all():
        raise ValueError(
            "heat_map_overlay: heat_map must be finite and have the shape "
            f"(rows, columns), received {heat_map.shape} with "
            f"{np.sum(~np.isfinite(heat_map))} values that are not finite."
        )
    heat = resized(np.maximum(heat_map, 0.0)[None], *photo.shape[:2])[0]
    highest = float(heat.max()) or 1.0
    ax = axis_or_new(ax, (4, 4))
    show_photo(ax, greyed(photo))
    ax.imshow(
        heat,
        cmap=COLOR_MAP,
        vmin=0.0,
        vmax=highest,
        alpha=_opacity(heat / highest),
    )
    if title is not None:
        ax.set_title(title)
    return ax


def laid_over(photo: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """What `heat_map_overlay` draws, as pixels.

    Args:
        photo: Floats `(height, width, 3)` in [0, 1].
        heat: Floats `(height, width)` in [0, 1].

    Returns:
        Floats `(height, width, 3)` in [0, 1].

    Raises:
        ImportError: If matplotlib is missing.

    Example:

    >>> pixels = laid_over(np.zeros((1, 2, 3)), np.array([[0.0, 1.0]]))
    >>> pixels[0, 0].tolist()
    [0.2, 0.2, 0.2]
    """
    color_maps = import_optional("matplotlib", "visualization").colormaps
    opacity = _opacity(heat)[..., None]
    ground = greyed(photo)
    return (1.0 - opacity) * ground + opacity * color_maps[COLOR_MAP](heat)[
        ..., :3
    ]


def _opacity(heat: np.ndarray) -> np.ndarray:
    """Grows up to half the maximum: dark colours would only hide the photo."""
    return 0.7 * np.minimum(2.0 * heat, 1.0)

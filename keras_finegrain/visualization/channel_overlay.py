"""Whether the channels of a class look at different places."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_finegrain.visualization.channel_strip import channel_maps, strongest
from keras_finegrain.visualization.palette import COLORS
from keras_finegrain.visualization.parts import draw_parts
from keras_finegrain.visualization.photo import as_photo, greyed, show_photo
from keras_finegrain.visualization.requirements import import_for_pictures
from keras_finegrain.visualization.resizing import resized

# Black would be taken for shadow.
CHANNEL_COLORS = tuple(color for color in COLORS if color != "#000000")


def channel_overlay(
    image: Any,
    feature_map: Any,
    channels: Sequence[int],
    parts: Mapping[str, Any] | None = None,
    ax: Any = None,
) -> Any:
    """Draws the channels of a class over one image, each in its own colour.

    A channel's share s_k of a position is its activation there, divided by
    its highest one; what lies below 0 counts as 0. A position is as opaque as
    its largest share, and has the mean of the channels' colours weighted by
    s_k: patches of clear colour are channels that look at different places,
    mixed colours are channels that lie on each other.

    Args:
        image: Array or tensor `(height, width, 3)`, uint8 or floats in
            [0, 255] or [0, 1].
        feature_map: Array or tensor `(rows, columns, channels)`: the output of
            `MCLoss` for this image, of any size.
        channels: Indices of the channels to show, such as `class_channels`
            gives. Of more than 6, as many as there are colours that stay
            apart, the 6 with the highest maximum are shown, and the legend
            says so.
        parts: True places of parts to mark: for each name `(x, y)` in [0, 1],
            from the left and from the top, or an object with these and with
            `visible`, such as `datasets.synthetic_birds.PartPoint`. Defaults
            to none.
        ax: matplotlib axis to draw into. Defaults to one in a figure of its
            own.

    Returns:
        The matplotlib axis.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If a shape, a channel or a part does not fit.

    Example:

    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> feature_map = np.eye(4).reshape(2, 2, 4)
    >>> axis = channel_overlay(np.zeros((8, 8, 3)), feature_map, range(2, 4))
    >>> [text.get_text() for text in axis.get_legend().get_texts()]
    ['2', '3']
    """
    photo = as_photo("channel_overlay", image)
    maps = channel_maps("channel_overlay", feature_map, channels)
    shown = strongest(maps, len(CHANNEL_COLORS))
    shares = _shares(np.stack([maps[channel] for channel in shown]), photo)
    matplotlib_colors = import_for_pictures("matplotlib.colors")
    colors = matplotlib_colors.to_rgba_array(CHANNEL_COLORS[: len(shown)])

    if ax is None:
        pyplot = import_for_pictures("matplotlib.pyplot")
        ax = pyplot.subplots(figsize=(5, 4.6), layout="constrained")[1]
    show_photo(ax, _blended(greyed(photo), shares, colors[:, :3]))
    if parts is not None:
        draw_parts("channel_overlay", ax, parts, *photo.shape[:2])
    patches = import_for_pictures("matplotlib.patches")
    title = "channel"
    if len(shown) < len(maps):
        title = f"{len(shown)} strongest of {len(maps)} channels"
    ax.legend(
        handles=[
            patches.Patch(color=color, label=str(channel))
            for channel, color in zip(shown, colors, strict=True)
        ],
        title=title,
        title_fontsize=9,
        fontsize=9,
        ncols=len(shown),
        loc="upper center",
        bbox_to_anchor=(0.5, -0.01),
        frameon=False,
        handlelength=1.0,
        columnspacing=1.0,
    )
    return ax


def _shares(maps: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """Each map in [0, 1] of its own maximum, enlarged to the photo."""
    maps = resized(maps, *photo.shape[:2])
    highest = maps.max(axis=(1, 2), keepdims=True)
    return maps / np.where(highest > 0, highest, 1.0)


def _blended(
    ground: np.ndarray, shares: np.ndarray, colors: np.ndarray
) -> np.ndarray:
    """The ground, covered by the mean colour as far as the largest share."""
    total = shares.sum(axis=0)[..., None]
    color = np.tensordot(shares, colors, axes=(0, 0)) / np.where(
        total > 0, total, 1.0
    )
    opacity = 0.85 * shares.max(axis=0)[..., None]
    return (1.0 - opacity) * ground + opacity * color

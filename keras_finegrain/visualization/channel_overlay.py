"""Whether the channels of a class look at different places."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_finegrain._base.optional import import_optional
from keras_finegrain.visualization.axes import axis_or_new
from keras_finegrain.visualization.channel_strip import channel_maps
from keras_finegrain.visualization.palette import COLORS
from keras_finegrain.visualization.parts import draw_parts
from keras_finegrain.visualization.photo import (
    as_photo,
    greyed,
    shares,
    show_photo,
)

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
    its maximum; negative activations count as 0. A position is as opaque as
    its largest share, and has the mean of the channels' colours weighted by
    s_k. Patches of clear colour are channels that look at different places,
    mixed colours are channels that lie on each other.

    Args:
        image: Array or tensor `(height, width, 3)`, uint8 or floats in
            [0, 255] or [0, 1].
        feature_map: Array or tensor `(rows, columns, channels)`: the output of
            `MCLoss` for this image, of any size.
        channels: Indices of the channels to show, such as `class_channels`
            gives. Of more than 6, the number of colours that can be told
            apart, the 6 with the highest maximum are shown, and the legend
            says so.
        parts: True places of parts to mark: for each name `(x, y)` in [0, 1],
            from the left and from the top, or an object with these and with
            `visible`, such as `datasets.synthetic_birds.PartPoint`. Defaults
            to none.
        ax: matplotlib axis to draw into. Defaults to an axis in a new figure.

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
    who = "channel_overlay"
    photo = as_photo(who, image)
    maps = channel_maps(who, feature_map, channels, len(CHANNEL_COLORS))
    ax = axis_or_new(ax, (5, 4.6))
    to_rgb = import_optional("matplotlib.colors", who).to_rgb
    colors = np.array([to_rgb(color) for color in CHANNEL_COLORS[: len(maps)]])
    weights = shares(np.stack(list(maps.values())), *photo.shape[:2])
    show_photo(ax, _blended(greyed(photo), weights, colors))
    draw_parts(who, ax, parts, photo.shape)
    patches = import_optional("matplotlib.patches", who)
    title = "channel"
    if len(maps) < len(set(channels)):
        title = f"{len(maps)} strongest of {len(set(channels))} channels"
    ax.legend(
        handles=[
            patches.Patch(color=color, label=str(channel))
            for channel, color in zip(maps, colors, strict=True)
        ],
        title=title,
        title_fontsize=9,
        fontsize=9,
        ncols=len(maps),
        loc="upper center",
        bbox_to_anchor=(0.5, -0.01),
        frameon=False,
        handlelength=1.0,
        columnspacing=1.0,
    )
    return ax


def _blended(
    ground: np.ndarray, weights: np.ndarray, colors: np.ndarray
) -> np.ndarray:
    """The ground under the mean colour, as opaque as the largest weight."""
    total = weights.sum(axis=0)[..., None]
    color = np.tensordot(weights, colors, axes=(0, 0)) / np.where(
        total > 0, total, 1.0
    )
    opacity = 0.85 * weights.max(axis=0)[..., None]
    return (1.0 - opacity) * ground + opacity * color

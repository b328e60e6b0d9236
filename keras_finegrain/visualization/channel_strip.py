"""What each channel of a class looks at, side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_finegrain._base.checks import positive_integer, real_array
from keras_finegrain.layers.mc_loss import group_sizes
from keras_finegrain.visualization.axes import axis_or_new
from keras_finegrain.visualization.checks import index_array
from keras_finegrain.visualization.heat_map_overlay import heat_map_overlay
from keras_finegrain.visualization.parts import draw_parts
from keras_finegrain.visualization.photo import as_photo, show_photo

# The most that can be read across a page: the mutual-channel loss gives each
# of 200 classes 10 or 11 of 2048 channels.
MAX_MAPS = 12


def channel_strip(
    image: Any,
    feature_map: Any,
    channels: Sequence[int],
    class_name: str | None = None,
    parts: Mapping[str, Any] | None = None,
    ax: Any = None,
) -> Any:
    """Draws an image and beside it one heat map for each channel of a class.

    Each map is scaled by its own maximum, so that the place of a weak channel
    is seen too. The maximum stands below the map: it shows which channels
    respond to nothing. Negative activations count as 0.

    Args:
        image: Array or tensor `(height, width, 3)`, uint8 or floats in
            [0, 255] or [0, 1].
        feature_map: Array or tensor `(rows, columns, channels)`: the output of
            `MCLoss` for this image, of any size.
        channels: Indices of the channels to show, such as `class_channels`
            gives. Of more than 12 the 12 with the highest maximum are shown,
            and a line below the image says so.
        class_name: Heading of the image. Defaults to none.
        parts: True places of parts to mark: for each name `(x, y)` in [0, 1],
            from the left and from the top, or an object with these and with
            `visible`, such as `datasets.synthetic_birds.PartPoint`. The names
            stand beside the image, the marks in every map too. Defaults to
            none.
        ax: matplotlib axis whose place the row takes. Defaults to an axis in
            a new figure.

    Returns:
        The matplotlib axis; its `child_axes` are the image and the maps.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If a shape, a channel or a part does not fit.

    Example:

    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> image = np.zeros((8, 8, 3), "uint8")
    >>> channels = class_channels(num_channels=6, num_classes=2, label=1)
    >>> axis = channel_strip(image, np.ones((2, 2, 6)), channels)
    >>> [tile.get_title() for tile in axis.child_axes]
    ['', 'channel 3', 'channel 4', 'channel 5']

    Reference:
    - [Chang et al., The Devil is in the Channels: Mutual-channel loss for
      fine-grained image classification, IEEE TIP
      2020](https://arxiv.org/abs/2002.04264)
    """
    who = "channel_strip"
    photo = as_photo(who, image)
    maps = channel_maps(who, feature_map, channels, MAX_MAPS)

    # In widths of a tile. The names of the parts stand on both sides.
    margin = 0.0 if parts is None else 0.6
    total = 2 * margin + len(maps) + 1 + 0.06 * len(maps)
    own_figure = ax is None
    tile_inches = min(1.8, 16.0 / total)
    size = (tile_inches * total, tile_inches + 0.6)
    ax = axis_or_new(ax, size)
    if own_figure:
        ax.set_position((0.0, 0.3 / size[1], 1.0, tile_inches / size[1]))
    ax.axis("off")
    tile = ax.inset_axes((margin / total, 0.0, 1.0 / total, 1.0))
    show_photo(tile, photo)
    tile.set_title(class_name or "", fontsize=9)
    if len(maps) < len(set(channels)):
        tile.set_xlabel(
            f"{len(maps)} strongest of {len(set(channels))}", fontsize=8
        )
    draw_parts(who, tile, parts, photo.shape)
    for position, (channel, heat) in enumerate(maps.items()):
        left = 2 * margin + 1.06 * (position + 1)
        tile = ax.inset_axes((left / total, 0.0, 1.0 / total, 1.0))
        heat_map_overlay(photo, heat, ax=tile)
        tile.set_title(f"channel {channel}", fontsize=9)
        tile.set_xlabel(f"max {heat.max():.3g}", fontsize=8)
        draw_parts(who, tile, parts, photo.shape, labels=False)
    return ax


def class_channels(
    num_channels: int,
    num_classes: int,
    label: int,
    channels_per_class: int | Sequence[int] | None = None,
) -> range:
    """The channels that the mutual-channel loss gives to one class.

    Args:
        num_channels: N, the channels of the feature map.
        num_classes: C.
        label: The class, in [0, C).
        channels_per_class: As in `MCLoss`. Defaults to `None`, an even share.

    Returns:
        The indices of its channels.

    Raises:
        ValueError: If the sizes do not fit the channels or the class does not
            exist.

    Example:

    >>> class_channels(num_channels=13, num_classes=5, label=2)
    range(4, 7)
    """
    who = "class_channels"
    positive_integer(who, "num_channels", num_channels)
    positive_integer(who, "num_classes", num_classes)
    sizes = group_sizes(num_channels, num_classes, channels_per_class)
    if isinstance(label, bool) or label not in range(num_classes):
        raise ValueError(
            f"{who}: label must lie in [0, {num_classes}), received {label!r}."
        )
    start = sum(sizes[:label])
    return range(start, start + sizes[label])


def channel_maps(
    who: str, feature_map: Any, channels: Sequence[int], limit: int
) -> dict[int, np.ndarray]:
    """The maps of some channels, negative activations as 0.

    Args:
        who: Name of the public function, with which errors begin.
        feature_map: Array or tensor `(rows, columns, channels)`.
        channels: Indices of channels, at least one.
        limit: How many maps are given at most: those of the highest maxima.

    Returns:
        float32 maps `(rows, columns)` by channel, in the order of `channels`.

    Raises:
        ValueError: If the feature map or a channel does not fit.
    """
    feature_map = real_array(who, "feature_map", feature_map)
    if feature_map.ndim != 3:
        raise ValueError(
            f"{who}: feature_map must have the shape (rows, columns, "
            f"channels), received {feature_map.shape}. Take the map of one "
            "image, with the channels last."
        )
    if not np.isfinite(feature_map).all():
        raise ValueError(
            f"{who}: feature_map must be finite, received NaN or infinity."
        )
    count = feature_map.shape[-1]
    indices = index_array(
        who,
        "channels",
        list(channels) if isinstance(channels, range) else channels,
    )
    if indices.min() < 0 or indices.max() >= count:
        raise ValueError(
            f"{who}: channels must be one or more indices in [0, {count}), "
            f"the channels of the feature map, received {channels!r}."
        )
    maps = {
        int(channel): np.maximum(
            feature_map[..., channel].astype(np.float32), 0.0
        )
        for channel in indices
    }
    by_strength = sorted(maps, key=lambda channel: -maps[channel].max())
    strongest = set(by_strength[:limit])
    return {index: maps[index] for index in maps if index in strongest}

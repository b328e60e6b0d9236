"""Each channel must have its own map, number and scale."""

import itertools

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest

from keras_finegrain import MCLoss
from keras_finegrain.visualization.channel_strip import (
    channel_strip,
    class_channels,
)

IMAGE = np.random.default_rng(0).integers(0, 256, (8, 8, 3), "uint8")
FEATURE_MAP = np.random.default_rng(1).normal(size=(8, 8, 30))


def tiles(ax):
    return ax.child_axes[0], ax.child_axes[1:]


def test_the_image_stands_first_then_a_map_for_each_channel_in_order():
    ax = channel_strip(IMAGE, FEATURE_MAP, [7, 2, 20], class_name="Junco")

    image, maps = tiles(ax)
    np.testing.assert_allclose(image.images[0].get_array(), IMAGE / 255)
    assert image.get_title() == "Junco"
    assert [tile.get_title() for tile in maps] == [
        "channel 7",
        "channel 2",
        "channel 20",
    ]
    for tile, channel in zip(maps, [7, 2, 20], strict=True):
        expected = np.maximum(FEATURE_MAP[..., channel], 0)
        np.testing.assert_allclose(
            tile.images[1].get_array(), expected, atol=1e-6
        )


def test_each_map_has_a_scale_of_its_own_and_names_its_maximum():
    feature_map = np.stack([np.eye(8), 100 * np.eye(8), 0 * np.eye(8)], -1)

    maps = tiles(channel_strip(IMAGE, feature_map, range(3)))[1]

    assert [tile.images[1].get_clim()[1] for tile in maps] == [1, 100, 1]
    assert [tile.get_xlabel() for tile in maps] == [
        "max 1",
        "max 100",
        "max 0",
    ]


def test_the_tiles_stand_in_one_row_and_do_not_overlap():
    parts = {"beak": (0.5, 0.5)}
    ax = channel_strip(IMAGE, FEATURE_MAP, range(12), parts=parts)
    ax.figure.canvas.draw()

    boxes = [tile.get_window_extent() for tile in ax.child_axes]

    for left, right in itertools.pairwise(boxes):
        assert left.x1 < right.x0
        assert left.y0 == pytest.approx(right.y0, abs=0.5)
        assert left.width == pytest.approx(right.width, abs=0.5)
    assert boxes[-1].x1 <= ax.figure.bbox.x1


def test_of_many_channels_the_strongest_are_shown_and_that_is_said():
    feature_map = FEATURE_MAP * np.arange(1, 31)
    highest = np.argsort(feature_map.max(axis=(0, 1)))[-12:]

    image, maps = tiles(channel_strip(IMAGE, feature_map, range(30)))

    assert [tile.get_title() for tile in maps] == [
        f"channel {channel}" for channel in sorted(highest)
    ]
    assert image.get_xlabel() == "12 strongest of 30"


def test_parts_are_marked_in_every_tile_and_named_in_the_first():
    parts = {"beak": (0.25, 0.5), "tail": (0.75, 1.0)}

    image, maps = tiles(channel_strip(IMAGE, FEATURE_MAP, [0, 1], parts=parts))

    for tile in (image, *maps):
        np.testing.assert_allclose(
            tile.lines[0].get_xydata(), [(1.5, 3.5), (5.5, 7.5)]
        )
    assert {text.get_text() for text in image.texts} == {"beak", "tail"}
    assert not any(tile.texts for tile in maps)


def test_takes_tensors_and_the_place_of_a_given_axis():
    figure, axes = plt.subplots(2, 1)

    drawn = channel_strip(
        keras.ops.convert_to_tensor(IMAGE),
        keras.ops.convert_to_tensor(FEATURE_MAP, "float32"),
        range(3),
        ax=axes[1],
    )

    figure.canvas.draw()
    assert drawn is axes[1]
    for tile in drawn.child_axes:
        box = tile.get_window_extent()
        assert axes[1].bbox.y0 - 1 <= box.y0 < box.y1 <= axes[1].bbox.y1 + 1


@pytest.mark.parametrize("channels_per_class", [None, 6, (4, 10, 7, 2, 7)])
def test_the_channels_of_a_class_are_those_of_the_loss(channels_per_class):
    layer = MCLoss(num_classes=5, channels_per_class=channels_per_class)
    layer.build((None, 4, 4, 30))

    owned = [
        class_channels(30, 5, label, channels_per_class) for label in range(5)
    ]

    assert [len(channels) for channels in owned] == list(layer.group_sizes)
    assert [c for channels in owned for c in channels] == list(range(30))


@pytest.mark.parametrize("label", [-1, 5])
def test_a_class_that_is_not_there_is_an_error(label):
    with pytest.raises(
        ValueError, match=rf"^class_channels: .*\[0, 5\), received {label}"
    ):
        class_channels(30, 5, label)


@pytest.mark.parametrize(
    ("feature_map", "channels", "message"),
    [
        (FEATURE_MAP, [30], r"channels must .*\[0, 30\).*received \[30\]"),
        (FEATURE_MAP, [-1], r"received \[-1\]"),
        (FEATURE_MAP, range(3, 3), r"at least one, received \[\]"),
        (FEATURE_MAP[None], [0], r"received \(1, 8, 8, 30\)"),
        (FEATURE_MAP * np.inf, [0], "must be finite"),
    ],
)
def test_bad_arguments_are_named(feature_map, channels, message):
    with pytest.raises(ValueError, match=f"^channel_strip: .*{message}"):
        channel_strip(IMAGE, feature_map, channels)

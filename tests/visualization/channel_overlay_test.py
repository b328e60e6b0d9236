"""One look must tell whether channels lie apart or on each other."""

import matplotlib.colors
import matplotlib.pyplot as plt
import numpy as np
import pytest

from keras_finegrain.visualization.channel_overlay import channel_overlay
from keras_finegrain.visualization.palette import COLORS

GREY = np.full((8, 8, 3), 128, "uint8")


def legend_of(ax):
    """Colour by channel."""
    legend = ax.get_legend()
    return {
        text.get_text(): np.array(patch.get_facecolor()[:3])
        for text, patch in zip(
            legend.get_texts(), legend.get_patches(), strict=True
        )
    }


def ground_of(ax):
    return ax.images[0].get_array()


def one_hot_map(*places, scales=None):
    """A channel for each place, active there and nowhere else."""
    feature_map = np.zeros((8, 8, len(places)))
    for channel, place in enumerate(places):
        feature_map[(*place, channel)] = (
            1 if scales is None else scales[channel]
        )
    return feature_map


def test_a_channel_has_its_colour_where_it_is_active_and_only_there():
    places = [(1, 1), (6, 2), (3, 6)]
    ax = channel_overlay(GREY, one_hot_map(*places), range(3))

    drawn, colors = ground_of(ax), legend_of(ax)
    cold = drawn[0, 7]
    assert len(set(map(tuple, drawn.reshape(-1, 3).round(6)))) == 4
    for channel, place in enumerate(places):
        share = (drawn[place] - cold) / (colors[str(channel)] - cold)
        np.testing.assert_allclose(share, 0.85, atol=1e-5)


def test_a_weak_channel_is_seen_as_well_as_a_strong_one():
    places = [(1, 1), (6, 2)]

    weak = channel_overlay(GREY, one_hot_map(*places, scales=(9, 0.1)), [0, 1])
    even = channel_overlay(GREY, one_hot_map(*places), [0, 1])

    np.testing.assert_allclose(ground_of(weak), ground_of(even), atol=1e-6)


def test_channels_on_one_place_mix_their_colours():
    ax = channel_overlay(GREY, one_hot_map((4, 4), (4, 4)), [0, 1])

    colors = legend_of(ax)
    cold = ground_of(ax)[0, 0]
    expected = 0.15 * cold + 0.85 * (colors["0"] + colors["1"]) / 2
    np.testing.assert_allclose(ground_of(ax)[4, 4], expected, atol=1e-6)


def test_opacity_is_the_share_of_the_channels_maximum():
    feature_map = np.zeros((8, 8, 1))
    feature_map[0, :, 0] = np.linspace(-1, 2, 8)

    ax = channel_overlay(GREY, feature_map, [0])

    drawn, color = ground_of(ax), legend_of(ax)["0"]
    cold = drawn[7, 0]
    share = ((drawn[0] - cold) / (color - cold)).mean(axis=-1)
    np.testing.assert_allclose(
        share, 0.85 * np.maximum(np.linspace(-1, 2, 8), 0) / 2, atol=1e-5
    )


def test_no_two_channels_share_a_colour_and_none_is_taken_for_shadow():
    feature_map = np.ones((8, 8, 6))

    colors = list(
        legend_of(channel_overlay(GREY, feature_map, range(6))).values()
    )

    assert len({tuple(color) for color in colors}) == 6
    palette = {matplotlib.colors.to_rgb(color) for color in COLORS}
    for color in colors:
        assert tuple(color) in palette
        assert color.max() > 0.5


def test_of_many_channels_the_strongest_are_shown_and_that_is_said():
    feature_map = np.ones((8, 8, 30)) * np.arange(30)

    ax = channel_overlay(GREY, feature_map, range(30))

    assert list(legend_of(ax)) == ["24", "25", "26", "27", "28", "29"]
    title = ax.get_legend().get_title().get_text()
    assert title == "6 strongest of 30 channels"


def test_a_dead_channel_leaves_the_image():
    ax = channel_overlay(GREY, np.zeros((2, 2, 1)), [0])

    assert np.ptp(ground_of(ax)) == pytest.approx(0)


def test_parts_are_marked_at_their_places_in_the_given_axis():
    ax = plt.subplots()[1]
    parts = {"beak": (0.25, 0.5)}

    assert channel_overlay(GREY, np.ones((2, 2, 1)), [0], parts, ax) is ax
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [(1.5, 3.5)])
    assert ax.texts[0].get_text() == "beak"


@pytest.mark.parametrize(
    ("feature_map", "channels", "message"),
    [
        (np.ones((2, 2, 3)), [3], r"\[0, 3\).*received \[3\]"),
        (np.ones((2, 2)), [0], r"received \(2, 2\)"),
    ],
)
def test_bad_arguments_are_named(feature_map, channels, message):
    with pytest.raises(ValueError, match=f"^channel_overlay: .*{message}"):
        channel_overlay(GREY, feature_map, channels)

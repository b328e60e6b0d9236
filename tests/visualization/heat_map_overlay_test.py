"""Heat must lie where the map says, and be read by everyone."""

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest

from keras_finegrain.visualization.heat_map_overlay import heat_map_overlay

IMAGE = np.random.default_rng(0).integers(0, 256, (16, 24, 3), "uint8")


def test_heat_covers_the_image_cell_by_cell():
    heat_map = np.zeros((2, 3))
    heat_map[1, 2] = 5.0

    ax = heat_map_overlay(IMAGE, heat_map)

    photo, heat = ax.images
    assert heat.get_array().shape == (16, 24)
    assert heat.get_extent() == photo.get_extent()
    # The center of the hot cell, and all that its neighbours' centers bound.
    np.testing.assert_allclose(heat.get_array()[-4:, -4:], 5)
    np.testing.assert_allclose(heat.get_array()[:4], 0)
    np.testing.assert_allclose(heat.get_array()[:, :12], 0)


def test_cold_places_show_the_image():
    ax = heat_map_overlay(IMAGE, np.array([[0.0, 1.0]]))

    opacity = ax.images[1].get_alpha()
    np.testing.assert_array_equal(opacity[:, :6], 0)
    assert opacity.max() > 0.6


def test_the_image_has_no_colour_of_its_own():
    photo = heat_map_overlay(IMAGE, np.ones((2, 2))).images[0].get_array()

    np.testing.assert_array_equal(photo, photo[..., :1].repeat(3, axis=-1))


def test_the_colours_run_to_the_maximum_in_a_map_of_rising_lightness():
    heat = heat_map_overlay(IMAGE, np.array([[-3.0, 0.5], [7.0, 0.0]])).images[
        1
    ]

    assert heat.get_clim() == (0, 7)
    assert heat.get_array().min() == 0
    colors = heat.get_cmap()(np.linspace(0, 1, 64))[:, :3]
    assert (np.diff(colors @ [0.299, 0.587, 0.114]) > 0).all()


def test_a_map_of_zeros_leaves_the_image():
    heat = heat_map_overlay(IMAGE, np.zeros((2, 2))).images[1]

    np.testing.assert_array_equal(heat.get_alpha(), 0)


def test_takes_a_tensor_an_axis_and_a_title():
    ax = plt.subplots()[1]

    drawn = heat_map_overlay(
        keras.ops.convert_to_tensor(IMAGE),
        keras.ops.ones((2, 2)),
        ax=ax,
        title="song sparrow",
    )

    assert drawn is ax
    assert ax.get_title() == "song sparrow"
    assert not ax.get_xticks().size


@pytest.mark.parametrize(
    ("heat_map", "message"),
    [
        (np.ones((2, 2, 1)), r"received \(2, 2, 1\)"),
        (np.array([[1.0, np.nan]]), "1 values that are not finite"),
    ],
)
def test_bad_heat_is_an_error(heat_map, message):
    with pytest.raises(
        ValueError, match=f"^heat_map_overlay: heat_map must.*{message}"
    ):
        heat_map_overlay(IMAGE, heat_map)

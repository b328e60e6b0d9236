"""An image must be drawn as it is, and a map lie where its cells lie."""

import keras
import numpy as np
import pytest

from keras_finegrain.visualization.photo import (
    as_photo,
    greyed,
    resized,
    shares,
)


@pytest.mark.parametrize(
    "convert",
    [
        lambda image: image,
        lambda image: image.astype("float64"),
        lambda image: image / 255,
        lambda image: keras.ops.convert_to_tensor(image),
    ],
)
def test_every_form_of_an_image_is_the_same_photo(convert):
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3), "uint8")

    photo = as_photo("caller", convert(image))

    np.testing.assert_allclose(photo, image / 255, atol=1e-6)


def test_a_dark_uint8_image_stays_dark():
    assert as_photo("caller", np.ones((2, 2, 3), "uint8")).max() < 0.01


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1)])
def test_a_grey_image_has_three_equal_channels(shape):
    image = np.random.default_rng(0).uniform(0, 255, shape)

    photo = as_photo("caller", image)

    expected = np.repeat(image.reshape(4, 5, 1), 3, axis=-1) / 255
    np.testing.assert_allclose(photo, expected, atol=1e-6)


def test_greyed_keeps_the_order_of_lightness_and_no_colour():
    photo = np.array([[[0, 0, 1], [1, 0, 0], [0, 1, 0], [1, 1, 1]]], "f4")

    grey = greyed(photo)

    assert (grey == grey[..., :1]).all()
    assert (np.diff(grey[0, :, 0]) > 0).all()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full((2, 2, 3), -1.0), "received values from -1 to -1"),
        (np.full((2, 2, 3), 256.0), "received values from 256"),
        (np.full((2, 2, 3), np.nan), "received values from nan"),
        (np.zeros((1, 2, 2, 3)), r"received \(1, 2, 2, 3\)"),
        (np.zeros((3, 4, 4)), r"received \(3, 4, 4\)"),
        (np.zeros((0, 4, 3)), r"received \(0, 4, 3\)"),
    ],
)
def test_what_is_no_picture_is_an_error(image, message):
    with pytest.raises(ValueError, match=f"^caller: image must.*{message}"):
        as_photo("caller", image)


def bilinear(rows, size):
    """Weights `(size, rows)`: pixel centers in the coordinates of the cells."""
    place = (np.arange(size) + 0.5) * rows / size - 0.5
    place = np.clip(place, 0, rows - 1)
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(rows)))


def test_is_bilinear_between_the_centers_of_the_cells():
    maps = np.random.default_rng(0).normal(size=(2, 3, 5))

    found = resized(maps, 24, 20)

    expected = bilinear(3, 24) @ maps @ bilinear(5, 20).T
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.dtype == np.float32


def test_a_map_of_the_images_size_stays_as_it_is():
    maps = np.random.default_rng(0).normal(size=(1, 4, 6)).astype("float32")

    np.testing.assert_allclose(resized(maps, 4, 6), maps, atol=1e-6)


def test_shares_are_of_each_maps_own_maximum_and_zeros_stay():
    maps = np.stack([np.eye(2), 5 * np.eye(2), 0 * np.eye(2)])

    found = shares(maps, 2, 2)

    np.testing.assert_allclose(found, [np.eye(2), np.eye(2), np.zeros((2, 2))])

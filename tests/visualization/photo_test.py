"""An image must be drawn as it is, or be refused."""

import keras
import numpy as np
import pytest

from keras_finegrain.visualization.photo import as_photo, greyed


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
    ],
)
def test_what_is_no_picture_is_an_error(image, message):
    with pytest.raises(ValueError, match=f"^caller: image must.*{message}"):
        as_photo("caller", image)

"""A map must lie on the image where its cells lie."""

import numpy as np

from keras_finegrain.visualization.resizing import resized


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

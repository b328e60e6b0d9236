import keras
import numpy as np
import pytest

from keras_finegrain.training.crops import CropAndResize, Lookup

# Top, left, bottom, right of parts of a photo of 19 x 23 pixels.
PARTS = [(0, 0, 19, 23), (3, 5, 16, 12), (7, 0, 9, 23), (18, 22, 19, 23)]


@pytest.fixture
def photo():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (19, 23, 3)).astype("float32")


def cut(photo, *boxes, size):
    photos = np.stack([photo] * len(boxes))
    crops = CropAndResize(size)(photos, np.array(boxes, "float32"))
    return keras.ops.convert_to_numpy(crops)


@pytest.mark.parametrize("size", [4, 13, 40])
def test_a_part_is_resized_as_tensorflow_resizes_it(photo, size):
    tf = pytest.importorskip("tensorflow")
    crops = cut(photo, *PARTS, size=size)
    for crop, (top, left, bottom, right) in zip(crops, PARTS, strict=True):
        expected = tf.image.resize(
            photo[top:bottom, left:right], (size, size), antialias=True
        )
        np.testing.assert_allclose(crop, expected, atol=1e-3)


def test_a_mirrored_part_is_the_part_turned_round(photo):
    mirrored = [
        (top, right, bottom, left) for top, left, bottom, right in PARTS
    ]
    np.testing.assert_allclose(
        cut(photo, *mirrored, size=13),
        cut(photo, *PARTS, size=13)[:, :, ::-1],
        atol=1e-3,
    )


def test_what_lies_beyond_the_photo_does_not_leak_into_it(photo):
    canvas = np.full((30, 40, 3), 1e4, "float32")
    canvas[:19, :23] = photo
    boxes = [*PARTS[:2], (9.3, 10.6, 19, 23), (9.3, 23, 19, 10.6)]
    np.testing.assert_allclose(
        cut(canvas, *boxes, size=13), cut(photo, *boxes, size=13), atol=1e-3
    )


def test_a_part_that_ends_between_pixels_keeps_the_scale_of_the_photo():
    rng = np.random.default_rng(1)
    corners, extents = rng.uniform(0, 9, (50, 2)), rng.uniform(1, 10, (50, 2))
    boxes = np.concatenate([corners, corners + extents], axis=1)
    crops = cut(np.full((19, 23, 3), 255.0), *boxes, size=7)
    np.testing.assert_allclose(crops, 255, rtol=1e-5)


def test_a_part_that_moves_by_a_fraction_moves_the_result_by_it():
    columns = np.arange(20.0)
    photo = np.tile(columns[None, :, None], (20, 1, 1))
    left, right = cut(photo, (4, 4.25, 12, 12.25), (4, 4.5, 12, 12.5), size=8)
    np.testing.assert_allclose((right - left)[:, 1:-1], 0.25, atol=1e-5)


@pytest.mark.parametrize("mixed", ["mixed_bfloat16"], indirect=True)
def test_pixels_keep_their_digits_in_half_precision(photo, mixed):
    layer = CropAndResize(40)
    crops = layer(photo[None], np.array([PARTS[1]]))
    assert keras.backend.standardize_dtype(crops.dtype) == "float32"


@pytest.mark.parametrize("mixed", ["mixed_float16"], indirect=True)
def test_photos_lie_on_the_device_as_bytes(mixed):
    photos = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
    lookup = Lookup(photos)
    found = lookup(np.array([3, 0, 3]))
    assert keras.backend.standardize_dtype(found.dtype) == "uint8"
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(found), photos[[3, 0, 3]]
    )
    assert not lookup.trainable_weights

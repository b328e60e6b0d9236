import numpy as np
import pytest
from PIL import Image

from keras_finegrain.datasets import transforms

pytestmark = pytest.mark.one_backend


def ramp(height, width):
    """Red is the row, green the column, both in [0, 1]."""
    rows, columns = np.mgrid[:height, :width].astype("float32")
    return np.stack(
        [(rows + 0.5) / height, (columns + 0.5) / width, 0 * rows], -1
    )


@pytest.mark.parametrize("shape", [(80, 120), (120, 80), (64, 64)])
@pytest.mark.parametrize("size", [16, 128])
def test_the_evaluation_crop_is_the_central_square(shape, size):
    crop = transforms.evaluation_crop(ramp(*shape), size)
    assert crop.shape == (size, size, 3)
    side = round(min(shape) * 0.875)
    for axis, channel in ((0, 0), (1, 1)):
        # The first and last centers, half an output pixel inside the crop.
        margin = (shape[axis] - side) / 2 / shape[axis]
        span = side / shape[axis]
        profile = crop[:, :, channel].mean(1 - axis)
        wanted = margin + span * (np.arange(size) + 0.5) / size
        inside = slice(size // 8, -size // 8)  # Borders are extrapolated.
        np.testing.assert_allclose(profile[inside], wanted[inside], atol=0.02)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (3, 2)])
def test_tiny_and_long_images_do_not_fail(shape):
    image = ramp(*shape)
    assert transforms.evaluation_crop(image, 8).shape == (8, 8, 3)
    crop = transforms.random_resized_crop(image, 8, (1, 2))
    assert crop.shape == (8, 8, 3)
    assert np.isfinite(crop).all()


def test_random_crops_keep_their_share_of_the_area_and_differ():
    spans = []
    for i in range(40):
        crop = transforms.random_resized_crop(ramp(96, 128), 32, (0, i))
        height = np.ptp(crop[:, 16, 0]) * 32 / 31 * 96
        width = np.ptp(crop[16, :, 1]) * 32 / 31 * 128
        spans.append((height, width))
    spans = np.array(spans)
    area = spans.prod(1) / (96 * 128)
    aspect = spans[:, 1] / spans[:, 0]
    assert area.min() > 0.45
    assert area.max() < 1.05
    assert area.std() > 0.05
    assert aspect.min() > 0.7
    assert aspect.max() < 1.4


def test_the_same_seed_gives_the_same_crop_and_flip():
    image = ramp(50, 60)
    for function in (
        lambda seed: transforms.random_resized_crop(image, 20, seed),
        lambda seed: transforms.random_flip(image, seed),
    ):
        np.testing.assert_array_equal(function((3, 4)), function((3, 4)))


def test_half_of_the_images_are_mirrored():
    image = ramp(4, 6)
    flipped = [
        bool(transforms.random_flip(image, (0, i))[0, 0, 1] > 0.5)
        for i in range(200)
    ]
    assert 70 < sum(flipped) < 130


@pytest.mark.parametrize("shape", [(90, 150), (300, 260), (700, 640)])
def test_a_pattern_too_fine_for_the_result_turns_gray(shape):
    # Stripes of one pixel: unsmoothed they would turn into broad ones.
    stripes = np.zeros((*shape, 3), np.uint8)
    stripes[::2] = 255
    resized = transforms.resize(stripes, 63)
    assert resized.dtype == np.uint8
    # Without smoothing 73.
    assert resized.astype(float).std() < 30


def test_an_enlarged_image_is_bilinear():
    image = np.random.default_rng(0).integers(0, 255, (9, 7, 3), np.uint8)
    theirs = Image.fromarray(image).resize((40, 40), Image.Resampling.BILINEAR)
    difference = transforms.resize(image, 40) - np.asarray(theirs, float)
    assert np.abs(difference).max() <= 1

"""From an image of any size to the square that a network takes.

Every function takes one image `(height, width, channels)`, uint8 or float32,
as a NumPy array; the random ones take a seed and give the same result for the
same seed.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from keras_finegrain.datasets.crops import (
    evaluation_boxes,
    squares_around,
    training_boxes,
)
from keras_finegrain.datasets.requirements import import_opencv

Image = npt.NDArray[Any]


def evaluation_crop(image: Image, size: int) -> Image:
    """Cuts the central square and resizes it, the same every time.

    It equals a resize that keeps the aspect, short side `size / 0.875`,
    followed by a central crop, and never resizes the whole of a long image.

    Args:
        image: `(height, width, channels)`.
        size: Side of the result, in pixels.

    Returns:
        `(size, size, channels)` of the same dtype.
    """
    return resize(cut(image, evaluation_boxes([image.shape[:2]])[0]), size)


def random_resized_crop(image: Image, size: int, seed: Any) -> Image:
    """Cuts a random part of the image and resizes it to a square.

    The part has 50 % to 100 % of the image's area and an aspect ratio of 3/4
    to 4/3 (Szegedy et al., "Going deeper with convolutions", CVPR 2015,
    section 6, with more of the image kept); where none fits, it is the
    whole image.

    Args:
        image: `(height, width, channels)`.
        size: Side of the result, in pixels.
        seed: A non-negative integer, or several.

    Returns:
        `(size, size, channels)` of the same dtype.
    """
    rng = np.random.default_rng(seed)
    return resize(cut(image, training_boxes([image.shape[:2]], rng)[0]), size)


def random_flip(image: Image, seed: Any) -> Image:
    """Mirrors every second image, left to right.

    Args:
        image: `(height, width, channels)`.
        seed: A non-negative integer, or several.
    """
    if np.random.default_rng(seed).random() >= 0.5:
        return image
    # NumPy copies a view that runs backwards thirty times as slowly.
    return import_opencv().flip(image, 1).reshape(image.shape)


def crop_to_box(image: Image, box: npt.NDArray[Any]) -> Image:
    """Cuts out the square around a box that testing will not cut into.

    Its side is that of the box divided by `EVALUATION_SIDE`: the central
    crop for testing then holds the whole box. The box alone, twice as long as
    wide, would lose a bird's head and tail there. The square is moved to lie
    inside the image, and ends at its borders where it is larger.

    Args:
        image: `(height, width, channels)`.
        box: `(4,)` ymin, xmin, ymax, xmax in [0, 1], as in TFDS.

    Returns:
        A part of the image, at least one pixel.
    """
    return cut(
        image, squares_around(np.asarray(box)[None], [image.shape[:2]])[0]
    )


def cut(image: Image, box: npt.ArrayLike) -> Image:
    """The part of an image in a box of `crops`, to whole pixels."""
    top, left, bottom, right = np.rint(box).astype(int)
    return image[top : max(bottom, top + 1), left : max(right, left + 1)]


def resize(image: Image, size: int) -> Image:
    """Resizes to `(size, size)`, smoothed where it shrinks.

    A pixel of the result is the mean of k × k bilinear samples that are
    spread over it evenly. k is the smallest number that leaves no pixel of
    the image out; where nothing shrinks, it is 1.

    Args:
        image: `(height, width, channels)`.
        size: Side of the result, in pixels.

    Returns:
        `(size, size, channels)` of the same dtype.
    """
    cv2 = import_opencv()
    samples = samples_a_pixel(image.shape[0], image.shape[1], size)
    side = (samples * size, samples * size)
    resized = cv2.resize(image, side, interpolation=cv2.INTER_LINEAR)
    if samples > 1:
        resized = cv2.resize(
            resized, (size, size), interpolation=cv2.INTER_AREA
        )
    return resized.reshape(size, size, -1)  # It drops a single channel.


def samples_a_pixel(height: int, width: int, size: int) -> int:
    """The k of `resize`, along each axis."""
    return -(-max(height, width) // size)

"""Photos, and maps that are laid over them."""

from typing import Any

import numpy as np
from keras import ops

from keras_finegrain._base.checks import real_array

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # Rec. 601


def as_photo(who: str, image: Any) -> np.ndarray:
    """Brings an image into the one form that the pictures use.

    Args:
        who: Name of the public function, with which errors begin.
        image: Array or tensor `(height, width, 3)`, `(height, width, 1)` or
            `(height, width)`: uint8, or floats in [0, 255]. Floats of at most
            1 are taken as in [0, 1].

    Returns:
        float32 `(height, width, 3)` in [0, 1].

    Raises:
        ValueError: For another shape, or for values outside [0, 255].

    Example:

    >>> as_photo("heat_map_overlay", np.full((1, 1, 3), 255, "uint8")).tolist()
    [[[1.0, 1.0, 1.0]]]
    """
    image = _checked(who, image)
    in_unit_range = image.dtype.kind == "f" and image.max() <= 1
    photo = image.astype(np.float32) / (1.0 if in_unit_range else 255.0)
    return np.broadcast_to(photo, (*photo.shape[:2], 3))


def as_pixels(who: str, image: Any) -> np.ndarray:
    """An image as uint8 `(height, width, 3)`, by the rules of `as_photo`.

    uint8 is not converted: through floats a sheet of photos of 375 x 500 would
    take three times as long.
    """
    image = _checked(who, image)
    if image.dtype != np.uint8:
        image = np.round(255 * as_photo(who, image)).astype(np.uint8)
    return np.broadcast_to(image, (*image.shape[:2], 3))


def _checked(who: str, image: Any) -> np.ndarray:
    """The image `(height, width, 1 or 3)` in its own dtype and range."""
    image = real_array(who, "image", image)
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[-1] not in (1, 3) or not image.size:
        raise ValueError(
            f"{who}: image must have the shape (height, width, 3), received "
            f"{image.shape}. Give each image without a batch axis."
        )
    lowest, highest = float(image.min()), float(image.max())
    if not (lowest >= 0 and highest <= 255):
        raise ValueError(
            f"{who}: image must lie in [0, 255], received values from "
            f"{lowest:g} to {highest:g}. Give the image as it was before the "
            "model's preprocessing."
        )
    return image


def greyed(photo: np.ndarray) -> np.ndarray:
    """Removes colour and reduces contrast, so that colours on it can be read.

    Args:
        photo: Floats `(height, width, 3)` in [0, 1].

    Returns:
        Floats of the same shape, all three channels equal.
    """
    return np.repeat(0.2 + 0.55 * (photo @ LUMA)[..., None], 3, axis=-1)


def show_photo(ax: Any, photo: np.ndarray) -> None:
    """Draws a photo into an axis, without ticks and frame."""
    ax.imshow(photo)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)


def resized(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    """Interpolates maps bilinearly.

    Args:
        maps: Floats `(number, height, width)` of any size.
        height: Height of the result.
        width: Width of the result.

    Returns:
        float32 `(number, height, width)`.

    Example:

    >>> resized(np.array([[[0.0, 1.0]]]), 1, 4)[0].tolist()
    [[0.0, 0.25, 0.75, 1.0]]
    """
    enlarged = ops.image.resize(
        maps[..., None].astype(np.float32),
        (height, width),
        interpolation="bilinear",
        data_format="channels_last",
    )
    return ops.convert_to_numpy(enlarged)[..., 0]


def shares(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes maps and divides each by its maximum; a map of zeros stays.

    Args:
        maps: Floats `(number, height, width)` of any size, at least 0.
        height: Height of the result.
        width: Width of the result.

    Returns:
        float32 `(number, height, width)` in [0, 1].
    """
    maps = resized(maps, height, width)
    highest = maps.max(axis=(1, 2), keepdims=True)
    return maps / np.where(highest > 0, highest, 1.0)

"""An image as the ground on which something else is drawn."""

from typing import Any

import numpy as np

from keras_finegrain._base.arrays import to_numpy


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
    image = to_numpy(image)
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[-1] not in (1, 3):
        raise ValueError(
            f"{who}: image must have the shape (height, width, 3), received "
            f"{image.shape}. Give one image, without a batch axis."
        )
    lowest, highest = float(image.min()), float(image.max())
    if not (lowest >= 0 and highest <= 255):
        raise ValueError(
            f"{who}: image must lie in [0, 255], received values from "
            f"{lowest:g} to {highest:g}. Give the image as it was before the "
            "model's preprocessing."
        )
    in_unit_range = image.dtype.kind == "f" and highest <= 1
    photo = image.astype(np.float32) / (1.0 if in_unit_range else 255.0)
    return np.broadcast_to(photo, (*photo.shape[:2], 3))


def greyed(photo: np.ndarray) -> np.ndarray:
    """Takes colour and contrast off, so that a colour laid over it is read.

    Args:
        photo: Floats `(height, width, 3)` in [0, 1].

    Returns:
        Floats of the same shape, all three channels equal.
    """
    luma = photo @ np.array([0.299, 0.587, 0.114], np.float32)  # Rec. 601
    return np.repeat(0.2 + 0.55 * luma[..., None], 3, axis=-1)


def show_photo(ax: Any, photo: np.ndarray) -> None:
    """Draws a photo into an axis, without ticks and frame."""
    ax.imshow(photo)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)

"""Maps over the cells of an image, and masks over its pixels."""

from typing import Any

import numpy as np

from keras_finegrain._base.arrays import to_numpy


def cell_cover(
    who: str, argument: str, masks: np.ndarray, maps: np.ndarray
) -> np.ndarray:
    """The share of each cell of a map that each mask fills.

    Args:
        who: Name of the public function, with which errors begin.
        argument: Name of its argument.
        masks: Booleans `(images, parts, H, W)`.
        maps: `(images, height, width, ...)`.

    Returns:
        Floats `(images, parts, height, width)`.

    Raises:
        ValueError: If there are not as many images, or H and W are no
            multiples of the map's.
    """
    images, parts, rows, columns = masks.shape
    height, width = maps.shape[1:3]
    if images != len(maps):
        raise ValueError(
            f"{who}: {argument} must be of {len(maps)} images as the maps are, "
            f"received {images}."
        )
    if rows % height or columns % width:
        raise ValueError(
            f"{who}: the height and width of {argument} must be multiples of "
            f"the maps' ({height}, {width}), received ({rows}, {columns}). "
            "Resize the maps to the size of the masks."
        )
    cells = masks.reshape(
        images, parts, height, rows // height, width, columns // width
    )
    return cells.mean(axis=(3, 5))


def boolean_masks(who: str, argument: str, masks: Any, axes: int) -> np.ndarray:
    """Booleans with so many axes, or an error that names the argument."""
    masks = to_numpy(masks)
    if masks.dtype != bool or masks.ndim != axes:
        raise ValueError(
            f"{who}: {argument} must be booleans with {axes} axes, received "
            f"the shape {masks.shape} and {masks.dtype}."
        )
    return masks


def finite_values(
    who: str, argument: str, values: Any, axes: int
) -> np.ndarray:
    """Finite float64 with so many axes, or an error."""
    values = to_numpy(values).astype(np.float64)
    if values.ndim != axes or not values.size:
        raise ValueError(
            f"{who}: {argument} must have {axes} axes and no empty one, "
            f"received the shape {values.shape}."
        )
    if not np.isfinite(values).all():
        raise ValueError(
            f"{who}: {argument} must be finite, received NaN or infinity in "
            f"{np.sum(~np.isfinite(values))} of {values.size} values."
        )
    return values

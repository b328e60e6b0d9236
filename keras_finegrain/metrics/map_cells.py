"""Checks of maps and of masks, and the cells of a map under a mask."""

from typing import Any

import numpy as np

from keras_finegrain._base.arrays import to_numpy
from keras_finegrain._base.checks import real_array


def cell_cover(
    who: str, argument: str, masks: np.ndarray, maps: np.ndarray
) -> np.ndarray:
    """Share of each cell of a map that lies under each mask.

    Args:
        who: Name of the public function, with which errors begin.
        argument: Name of the argument that holds the masks.
        masks: Booleans `(images, parts, H, W)`.
        maps: `(images, height, width, ...)`.

    Returns:
        Floats `(images, parts, height, width)`.

    Raises:
        ValueError: If masks and maps are not of as many images, or H and W are
            not multiples of the maps' height and width.
    """
    images, parts, rows, columns = masks.shape
    height, width = maps.shape[1:3]
    if images != len(maps):
        raise ValueError(
            f"{who}: {argument} must have {len(maps)} images, as the maps, "
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
    """Returns booleans with this number of axes, or raises."""
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
    """Returns finite float64 with this number of axes, or raises."""
    values = real_array(who, argument, values).astype(np.float64)
    if values.ndim != axes or not values.size:
        raise ValueError(
            f"{who}: {argument} must have {axes} axes, each of at least 1, "
            f"received the shape {values.shape}."
        )
    if not np.isfinite(values).all():
        raise ValueError(
            f"{who}: {argument} must be finite, received NaN or infinity in "
            f"{np.sum(~np.isfinite(values))} of {values.size} values."
        )
    return values


def check_indices(
    who: str, argument: str, indices: np.ndarray, count: int
) -> None:
    """Raises for integers outside [0, count)."""
    if indices.min() < 0 or indices.max() >= count:
        raise ValueError(
            f"{who}: {argument} must lie in [0, {count}), received {argument} "
            f"from {indices.min()} to {indices.max()}."
        )

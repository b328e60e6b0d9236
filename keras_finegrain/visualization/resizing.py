"""Maps brought to the size of an image."""

import numpy as np
from keras import ops


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

"""Cutting and resizing photos on the device."""

from typing import Any

import keras
from keras import ops

from keras_finegrain._base.typing import Tensor


class CropAndResize(keras.layers.Layer):
    """Cuts a part out of each photo and resizes it to a square.

    Bilinear with antialiasing, as `tf.image.resize(antialias=True)`: each row
    of the result is a weighted mean of the part's rows, and each column of its
    columns, so that two matrix products resize all photos of a batch.

    Args:
        size: Side of the result, in pixels.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        photos: `(batch, height, width, channels)`.
        boxes: `(batch, 4)`: the edges top, left, bottom and right of each
            part, in pixels. A part whose left edge is greater than its right
            edge is mirrored.

    Output shape:
        `(batch, size, size, channels)` on the scale of the photos.

    Example:

    >>> photo = np.arange(16.0).reshape(1, 4, 4, 1)
    >>> crop = CropAndResize(2)(photo, np.array([[1, 3, 3, 1]]))
    >>> keras.ops.convert_to_numpy(crop)[0, :, :, 0].tolist()
    [[6.0, 5.0], [10.0, 9.0]]
    """

    def __init__(self, size: int, **kwargs: Any) -> None:
        # In half precision 255 and 254.5 are the same value.
        super().__init__(**{"dtype": "float32", **kwargs})
        self.size = size

    def call(self, photos: Tensor, boxes: Tensor) -> Tensor:
        """The parts, resized."""
        _, height, width, _ = photos.shape
        top, left, bottom, right = ops.unstack(
            ops.cast(boxes, self.compute_dtype), num=4, axis=-1
        )
        rows = self._weights(top, bottom, height)
        columns = self._weights(left, right, width)
        photos = ops.cast(photos, self.compute_dtype)
        photos = ops.einsum("bih,bhwc->biwc", rows, photos)
        return ops.einsum("bjw,biwc->bijc", columns, photos)

    def _weights(self, start: Tensor, end: Tensor, pixels: int) -> Tensor:
        """The weight of each pixel of the photo in each pixel of the result.

        Args:
            start: `(batch,)`, the edge where the result begins.
            end: `(batch,)`, where it ends; less than `start` if mirrored.
            pixels: Number of pixels of the photo along this axis.

        Returns:
            Tensor `(batch, size, pixels)`; 0 beyond the edges, and each row
            sums to 1.
        """
        step = (end - start) / self.size
        steps = ops.arange(self.size, dtype=self.compute_dtype) + 0.5
        centers = start[:, None] + step[:, None] * steps
        # The triangle of bilinear interpolation, widened if the part shrinks.
        radius = ops.maximum(ops.abs(step), 1.0)[:, None, None]
        places = ops.arange(pixels, dtype=self.compute_dtype) + 0.5
        weights = 1.0 - ops.abs(places - centers[..., None]) / radius
        inside = ops.logical_and(
            places > ops.minimum(start, end)[:, None],
            places < ops.maximum(start, end)[:, None],
        )
        weights = ops.where(inside[:, None], ops.maximum(weights, 0.0), 0.0)
        return weights / ops.sum(weights, axis=-1, keepdims=True)


class Lookup(keras.layers.Layer):
    """Entries of an array in the device's memory, by their numbers.

    Args:
        array: `(entries, ...)`, kept in its own dtype.

    Call arguments:
        numbers: Integers `(batch,)`.

    Output shape:
        `(batch, ...)`.
    """

    def __init__(self, array: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.array = self.add_weight(
            shape=array.shape,
            dtype=str(array.dtype),
            initializer="zeros",
            trainable=False,
            autocast=False,
            name="array",
        )
        self.array.assign(array)

    def call(self, numbers: Tensor) -> Tensor:
        """The entries."""
        return ops.take(self.array, numbers, axis=0)


class MixPairs(keras.layers.Layer):
    """Mixes each image with the one at the other end of the batch.

    Mixup (Zhang et al., ICLR 2018, equation 1): λx_i + (1 − λ)x_j. The labels
    must be mixed in the same way.

    Call arguments:
        images: `(batch, height, width, channels)`.
        shares: λ `(batch,)`, in [0, 1].
    """

    def call(self, images: Tensor, shares: Tensor) -> Tensor:
        """The mixed images."""
        shares = ops.cast(shares, images.dtype)[:, None, None, None]
        return shares * images + (1 - shares) * ops.flip(images, axis=0)

"""Pieces of mathematics that several rooms use."""

import keras
import numpy as np
from keras import ops

from keras_finegrain._base.typing import Tensor
from keras_finegrain._ops.compilation import is_compiled_by_xla


def at_least_float32(dtype: str) -> str:
    """The dtype in which losses compute: float64 if asked for, else float32.

    (`keras.backend.result_type` makes float32 of float64 on some backends.)
    """
    return "float64" if dtype == "float64" else "float32"


def mean(values: Tensor, axis: int) -> Tensor:
    """The mean over one axis, in the dtype of the values.

    (`keras.ops.mean` computes in float32 on some backends.)
    """
    count = ops.cast(ops.shape(values)[axis], values.dtype)
    return ops.sum(values, axis=axis) / count


def maximum(values: Tensor, axis: int) -> Tensor:
    """The maximum over one axis, with a gradient that is finite.

    The gradient of `keras.ops.max` compares the values with their maximum and
    divides by how many are equal. XLA may compute the values twice, each time
    rounded in its own way: then none is equal, and it is 0 / 0. There the
    gradient goes to the first place that has the maximum.
    """
    if not is_compiled_by_xla():
        return ops.max(values, axis=axis)
    place = ops.expand_dims(ops.argmax(values, axis=axis), axis)
    shape = [1] * len(values.shape)
    shape[axis] = -1
    places = ops.arange(ops.shape(values)[axis], dtype=place.dtype)
    is_place = ops.equal(place, ops.reshape(places, shape))
    return ops.sum(ops.where(is_place, values, 0.0), axis=axis)


def unit_length(vectors: Tensor) -> Tensor:
    """Scales the vectors on the last axis to length 1.

    A zero vector stays zero and has a zero gradient: a ReLU can make one, and
    `keras.ops.normalize` gives it NaN as its gradient.

    Args:
        vectors: Tensor `(..., dim)`.

    Returns:
        Tensor of the same shape.
    """
    # (The result does not depend on it, so that its gradient is right without
    # that of the scale.)
    vectors = vectors / scale_to_square(vectors, axis=-1)
    squared = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
    return vectors * inverse_length(squared)


def scale_to_square(values: Tensor, axis: int | None = None) -> Tensor:
    """What to divide by before squares are summed: 1 for usual numbers.

    Sums of squares of the quotient neither overflow nor vanish.

    Args:
        values: Tensor of any shape.
        axis: The axis that shares a scale, which is kept with the size 1, or
            `None` for a scalar.

    Returns:
        Tensor without a gradient. A power of two, so that no digit changes.
    """
    sizes, kept = ops.abs(values), axis is not None
    # (Not by a maximum: an empty batch has none.)
    large = ops.any(sizes > 1e15, axis=axis, keepdims=kept)
    small = ops.all(sizes < 1e-15, axis=axis, keepdims=kept)
    # (`where` would make bare numbers `floatx`, which may hold neither power.)
    one = ops.ones_like(large, dtype=values.dtype)
    scale = ops.where(small, 2.0**-80 * one, one)
    return ops.stop_gradient(ops.where(large, 2.0**80 * one, scale))


def inverse_length(squared: Tensor) -> Tensor:
    """1 / ‖v‖ of vectors whose squared lengths are given, 0 of a zero vector.

    NaN where ‖v‖² is infinite.

    Args:
        squared: ‖v‖², a tensor of any shape.

    Returns:
        Tensor of the same shape.
    """
    # Below this the square root of a float32 has no correct digits left.
    nonzero = squared > np.finfo("float32").tiny
    inverse = ops.rsqrt(ops.where(nonzero, squared, 1.0))
    # (The square of a length overflowed: no direction is left in it.)
    inverse = ops.where(ops.isinf(squared), float("nan"), inverse)
    return ops.where(nonzero, inverse, 0.0)


def unit_distance(cosine: Tensor) -> Tensor:
    """√(2 − 2·cosine): the distance of two vectors of unit length.

    Args:
        cosine: Tensor of any shape, in [-1, 1].

    Returns:
        Tensor of the same shape, in [0, 2]. Where the vectors coincide to the
        dtype's precision it is 0 and so is its gradient; the root's own would
        be infinite there.
    """
    dtype = keras.backend.standardize_dtype(cosine.dtype)
    squared = 2.0 - 2.0 * cosine
    apart = squared > 4.0 * float(np.finfo(dtype).eps)
    # Before and after the root: its gradient at 0 is not finite, and 0 times
    # that would be NaN.
    return ops.where(apart, ops.sqrt(ops.where(apart, squared, 1.0)), 0.0)


def sine(cosine: Tensor) -> Tensor:
    """√(1 − cosine²): the sine of an angle in [0, π].

    Args:
        cosine: Tensor of any shape, in [-1, 1]; rounding may have put it
            outside.

    Returns:
        Tensor of the same shape, in [0, 1]. Where the angle is 0 or π to the
        dtype's precision it is 0 and so is its gradient; the root's own would
        be infinite there.
    """
    dtype = keras.backend.standardize_dtype(cosine.dtype)
    # (1 − c)(1 + c) keeps the digits that 1 − c² loses near ±1.
    squared = (1.0 - cosine) * (1.0 + cosine)
    apart = squared > float(np.finfo(dtype).eps)
    return ops.where(apart, ops.sqrt(ops.where(apart, squared, 1.0)), 0.0)


def log_one_plus_sum_exp(values: Tensor, mask: Tensor, axis: int) -> Tensor:
    """log(1 + Σ e^v) over the values that a mask keeps.

    Args:
        values: Tensor `(rows, columns)`, finite.
        mask: bool tensor of the same shape.
        axis: The axis of the sum.

    Returns:
        Tensor without that axis; 0 where nothing is kept. No value overflows.
    """
    return log_one_plus_sum_exp_and_slope(values, mask, axis)[0]


def log_one_plus_sum_exp_and_slope(
    values: Tensor, mask: Tensor, axis: int
) -> tuple[Tensor, Tensor]:
    """`log_one_plus_sum_exp`, and its slope e^v / (1 + Σ e^v) for each value.

    For a gradient that is written out: what is derived by a backend goes
    through the first.

    Args:
        values: Tensor `(rows, columns)`, finite.
        mask: Boolean tensor of the same shape.
        axis: The axis of the sum.

    Returns:
        The logarithms without that axis, and the slopes `(rows, columns)`, 0
        where the mask is false.
    """
    values = ops.where(mask, values, -float("inf"))
    # e^0 is the 1, so that the maximum is never −∞.
    highest = ops.stop_gradient(
        ops.relu(ops.max(values, axis=axis, keepdims=True))
    )
    powers = ops.exp(values - highest)
    total = ops.sum(powers, axis=axis, keepdims=True)
    # (log1p keeps the digits of a sum that is small beside the 1.)
    logarithm = highest + ops.log1p(ops.expm1(-highest) + total)
    slope = powers / (ops.exp(-highest) + total)
    return ops.squeeze(logarithm, axis=axis), slope


def log_sum_exp_and_shares(
    values: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Log Σ e^v of each row over the values that a mask keeps, and softmax.

    For a gradient that is written out: the shares are the slopes.

    Args:
        values: Tensor `(rows, columns)`, finite.
        mask: Boolean tensor of the same shape.

    Returns:
        The logarithms `(rows,)`, and e^v / Σ e^v `(rows, columns)`, 0 where
        the mask is false. Both are 0 in a row of which nothing is kept.
    """
    kept = ops.any(mask, axis=1, keepdims=True)
    values = ops.where(mask, values, -float("inf"))
    highest = ops.max(values, axis=1, keepdims=True)
    highest = ops.where(kept, highest, 0.0)
    powers = ops.exp(values - highest)
    total = ops.where(kept, ops.sum(powers, axis=1, keepdims=True), 1.0)
    logarithm = highest + ops.log(total)
    return ops.squeeze(logarithm, axis=1), powers / total

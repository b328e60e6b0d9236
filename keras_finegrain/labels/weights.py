"""What a sample weight may be, and the one way to read it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_finegrain._base.arrays import concrete, dtype_name, is_dense
from keras_finegrain._base.typing import Tensor


def weight_tensor(
    who: str,
    weights: Any,
    batch_shape: tuple[int | None, ...],
    dtype: str,
    read: bool = True,
    name: str = "sample_weight",
) -> Tensor:
    """Sample weights as a tensor that lies on the axes of the samples.

    Args:
        who: What the weights were given to, for error messages.
        weights: Array or tensor `batch_shape`, `batch_shape + (1,)`, or
            `batch_shape[:1]` where each sample has several positions; a number
            counts for all.
        batch_shape: The axes of the samples; `None` where unknown.
        dtype: Dtype of the result.
        read: Whether to read the values, which waits for an accelerator.
        name: Name of the argument, for error messages.

    Returns:
        Tensor that broadcasts with one of the shape `batch_shape`. A weight
        below 0 or that is not finite is NaN, where nothing could be read.

    Raises:
        ValueError: If the weights have another shape or hold no numbers; where
            they can be read, if one is below 0 or not finite.
    """
    weights = weight_values(who, weights, name)
    shape = check_weight_shape(who, weights.shape, batch_shape, name)
    if read:
        check_weights(who, weights, name)
    weights = ops.cast(ops.convert_to_tensor(weights), dtype)
    # (Of a batch of unknown length, whose shape may hold `None`.)
    leading = [ops.shape(weights)[axis] for axis in range(len(shape))]
    missing = len(batch_shape) - len(shape) if shape else 0
    weights = ops.reshape(weights, (*leading, *(1,) * missing))
    usable = ops.logical_and(weights >= 0, ops.isfinite(weights))
    return ops.where(usable, weights, float("nan"))


def weight_values(
    who: str, weights: Any, name: str = "sample_weight"
) -> Tensor:
    """Weights as an array or tensor that holds numbers.

    Args:
        who: What the weights were given to, for error messages.
        weights: What somebody gave as weights.
        name: Name of the argument, for error messages.

    Raises:
        ValueError: If they are ragged, sparse, or no numbers.
    """
    if not is_dense(weights):
        raise ValueError(
            f"{who}: {name} must be a dense tensor, received a "
            f"{type(weights).__name__}. Give one weight for each sample."
        )
    if not hasattr(weights, "dtype"):
        weights = np.asarray(weights)
    kind = dtype_name(weights)
    if not any(word in kind for word in ("float", "int", "bool")):
        raise ValueError(
            f"{who}: {name} must be numbers, received dtype {kind}. Give one "
            "weight for each sample."
        )
    return weights


def check_weight_shape(
    who: str,
    shape: Sequence[int | None],
    batch_shape: tuple[int | None, ...],
    name: str = "sample_weight",
) -> tuple[int | None, ...]:
    """Raises for weights that do not lie on the axes of the samples.

    Args:
        who: What the weights were given to, for error messages.
        shape: The shape of the weights.
        batch_shape: As in `weight_tensor`.
        name: Name of the argument, for error messages.

    Returns:
        The shape without a last axis of size 1.
    """
    received, rank = tuple(shape), len(batch_shape)
    if len(received) == rank + 1 and received[-1] == 1:
        received = received[:-1]
    if len(received) not in (0, 1, rank) or any(
        size is not None and expected is not None and size != expected
        for size, expected in zip(received, batch_shape, strict=False)
    ):
        expected = ", ".join(
            "batch" if size is None else str(size) for size in batch_shape
        )
        raise ValueError(
            f"{who}: {name} must have the shape ({expected}"
            f"{',' if rank == 1 else ''}), received the shape {tuple(shape)}. "
            "Give one weight for each sample."
        )
    return received


def check_weights(who: str, weights: Any, name: str = "sample_weight") -> None:
    """Raises for weights below 0 or not finite, where they can be read.

    Args:
        who: What the weights were given to, for error messages.
        weights: Array or tensor of any shape.
        name: Name of the argument, for error messages.
    """
    values = concrete(weights)
    if values is None or not values.size:
        return
    wrong = ~(np.isfinite(values) & (values >= 0))
    if wrong.any():
        raise ValueError(
            f"{who}: {name} must be finite and at least 0, received "
            f"{values[wrong].ravel()[0]}, one of {int(wrong.sum())} such "
            "weights. A weight of 0 leaves a sample out."
        )

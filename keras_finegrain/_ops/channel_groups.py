"""Channels in groups that lie side by side, one group for each class."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_finegrain._base.typing import Tensor
from keras_finegrain._ops.compilation import is_compiled_by_xla

# The largest group that a TensorFlow graph searches channel by channel: beyond
# it takes as long as `argmax`, and each channel is traced.
LARGEST_SEARCHED = 16


def split_groups(values: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Splits channels into blocks of classes with equally large groups.

    Args:
        values: Tensor `(..., channels)`.
        sizes: The number of channels of each class.

    Returns:
        A tensor `(..., classes, size)` for each distinct size, in order of
        size.
    """
    values = _take(values, _channel_order(sizes))
    blocks = []
    start = 0
    for size, classes in zip(
        *np.unique(sizes, return_counts=True), strict=True
    ):
        stop = start + classes * size
        shape = (*ops.shape(values)[:-1], classes, size)
        blocks.append(ops.reshape(values[..., start:stop], shape))
        start = stop
    return blocks


def join_groups(blocks: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """The inverse of `split_groups`: a tensor `(..., channels)`."""
    flat = []
    for block in blocks:
        *leading, classes, size = ops.shape(block)
        flat.append(ops.reshape(block, (*leading, classes * size)))
    joined = ops.concatenate(flat, axis=-1)
    return _take(joined, np.argsort(_channel_order(sizes)))


def strongest_channels(
    values: Tensor, sizes: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """The maximum over each class's channels, and the channel that has it.

    After a ReLU many channels of a class are zero together. The papers' code
    gives the gradient of such a tie to the first; `ops.max` would share it.

    Args:
        values: Tensor `(..., channels)`.
        sizes: The number of channels of each class.

    Returns:
        The maxima `(..., num_classes)`, and a boolean tensor `(..., channels)`
        that is true once for each class, at the first channel of a tie.

    Example:

    >>> from keras_finegrain._ops.channel_groups import strongest_channels
    >>> values = ops.array([0.0, 2.0, 2.0, 1.0])
    >>> maxima, strongest = strongest_channels(values, sizes=(3, 1))
    >>> ops.convert_to_numpy(strongest).tolist()
    [False, True, False, True]
    """
    maxima, strongest = [], []
    for block in split_groups(values, sizes):
        maximum, place = _first_maximum(block)
        places = ops.arange(block.shape[-1], dtype="int32")
        maxima.append(maximum)
        strongest.append(ops.equal(place[..., None], places))
    class_order = np.argsort(sizes, kind="stable")
    return (
        _take(ops.concatenate(maxima, axis=-1), np.argsort(class_order)),
        join_groups(strongest, sizes),
    )


def _channel_order(sizes: Sequence[int]) -> np.ndarray:
    """The channels in order of the size of their group."""
    return np.argsort(np.repeat(sizes, sizes), kind="stable")


def _take(values: Tensor, order: np.ndarray) -> Tensor:
    """Orders the last axis; nothing is copied where it is in order."""
    if np.array_equal(order, np.arange(len(order))):
        return values
    return ops.take(values, order, axis=-1)


def _first_maximum(values: Tensor) -> tuple[Tensor, Tensor]:
    """The maximum over the last axis and the first place that has it."""
    size = values.shape[-1]
    in_graph = (
        keras.backend.backend() == "tensorflow" and not is_compiled_by_xla()
    )
    if size > LARGEST_SEARCHED or not in_graph:
        place = ops.cast(ops.argmax(values, axis=-1), "int32")
        return ops.max(values, axis=-1), place
    # On a CPU `argmax` makes the step of a graph twice as long, and
    # this search makes the step of XLA twice as long (benchmarks/mc_loss.py).
    maximum = values[..., 0]
    place = ops.zeros_like(maximum, dtype="int32")
    for index in range(1, size):
        value = values[..., index]
        place = ops.where(value > maximum, index, place)
        maximum = ops.maximum(maximum, value)
    return maximum, place

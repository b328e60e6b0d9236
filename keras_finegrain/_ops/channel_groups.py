"""Channels that stand in groups, one group for each class."""

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_finegrain._base.typing import Tensor
from keras_finegrain._ops.compilation import is_compiled_by_xla

# Up to so many channels of a class are compared one after the other.
FEW = 32


@dataclasses.dataclass(frozen=True)
class ChannelGroups:
    """The groups in order of size, so that equal sizes share one reshape.

    Attributes:
        blocks: Size and number of classes of each block of equal groups.
        owners: The class of each channel, as they stand in the map.
        class_order: The classes in order of size, or `None` if they are in it.
        channel_order: Their channels in that order, or `None` likewise.
    """

    blocks: tuple[tuple[int, int], ...]
    owners: np.ndarray
    class_order: np.ndarray | None
    channel_order: np.ndarray | None

    @classmethod
    def of(cls, sizes: Sequence[int]) -> "ChannelGroups":
        """The groups of these sizes, each class's channels side by side."""
        distinct, counts = np.unique(sizes, return_counts=True)
        blocks = tuple(zip(distinct.tolist(), counts.tolist(), strict=True))
        owners = np.repeat(np.arange(len(sizes)), sizes)
        class_order = np.argsort(sizes, kind="stable")
        if np.array_equal(class_order, np.arange(len(sizes))):
            return cls(blocks, owners, None, None)
        place = np.argsort(class_order)
        channel_order = np.argsort(place[owners], kind="stable")
        return cls(blocks, owners, class_order, channel_order)

    def split(self, values: Tensor) -> list[Tensor]:
        """`(..., channels)` as a `(..., classes, size)` for each block."""
        if self.channel_order is not None:
            values = ops.take(values, self.channel_order, axis=-1)
        leading = ops.shape(values)[:-1]
        blocks = []
        start = 0
        for size, classes in self.blocks:
            stop = start + size * classes
            block = values[..., start:stop]
            blocks.append(ops.reshape(block, (*leading, classes, size)))
            start = stop
        return blocks

    def join_channels(self, blocks: Sequence[Tensor]) -> Tensor:
        """What `split` took apart, `(..., channels)`."""
        flat = []
        for block, (size, classes) in zip(blocks, self.blocks, strict=True):
            leading = ops.shape(block)[:-2]
            flat.append(ops.reshape(block, (*leading, classes * size)))
        return _joined(flat, self.channel_order)

    def join_classes(self, blocks: Sequence[Tensor]) -> Tensor:
        """A `(..., classes)` of each block as one `(..., num_classes)`."""
        return _joined(blocks, self.class_order)

    def mask(self, places: Sequence[Tensor]) -> Tensor:
        """Which channels stand at a place `(..., classes)` of each block.

        Returns:
            Boolean tensor `(..., channels)`.
        """
        return self.join_channels(
            [
                stands_at(place, size)
                for place, (size, _) in zip(places, self.blocks, strict=True)
            ]
        )

    def to_channels(self, values: Tensor) -> Tensor:
        """What belongs to a class for each of its channels.

        Args:
            values: Tensor `(..., num_classes)`.

        Returns:
            Tensor `(..., channels)`.
        """
        return ops.take(values, self.owners, axis=-1)


def first_maximum(values: Tensor) -> tuple[Tensor, Tensor]:
    """The maximum over the last axis, and where it stands.

    After a ReLU many channels of a group are zero together. The papers' code
    gives such a tie's gradient to the first; `ops.max` would share it out.

    Args:
        values: Tensor `(..., size)`.

    Returns:
        The maxima `(...)`, and the place of each, the first if they tie,
        int32 `(...)`.

    Example:

    >>> from keras_finegrain._ops.channel_groups import first_maximum
    >>> maximum, place = first_maximum(ops.array([[0.0, 2.0, 2.0]]))
    >>> ops.convert_to_numpy(place)
    array([1], dtype=int32)
    """
    size = values.shape[-1]
    in_graph = (
        keras.backend.backend() == "tensorflow" and not is_compiled_by_xla()
    )
    if size > FEW or not in_graph:
        place = ops.cast(ops.argmax(values, axis=-1), "int32")
        return ops.max(values, axis=-1), place
    # The kernel of a graph takes four times as long on a CPU.
    maximum = values[..., 0]
    place = ops.zeros_like(maximum, dtype="int32")
    for index in range(1, size):
        value = values[..., index]
        place = ops.where(value > maximum, index, place)
        maximum = ops.maximum(maximum, value)
    return maximum, place


def stands_at(place: Tensor, size: int) -> Tensor:
    """The places as a mask.

    Args:
        place: int32 `(...)`, in `[0, size)`.
        size: How many places there are.

    Returns:
        Boolean tensor `(..., size)`, true once in each row.
    """
    return ops.equal(place[..., None], ops.arange(size, dtype="int32"))


def _joined(blocks: Sequence[Tensor], order: np.ndarray | None) -> Tensor:
    """Blocks side by side, with what `order` moved back in its place."""
    joined = blocks[0] if len(blocks) == 1 else ops.concatenate(blocks, axis=-1)
    if order is not None:
        joined = ops.take(joined, np.argsort(order), axis=-1)
    return joined

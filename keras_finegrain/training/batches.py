"""Samples that lie in memory, in batches."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from keras_finegrain.datasets.balanced_plan import plan_epoch

# From sample numbers, their labels and what was drawn for them to a batch.
Fetch = Callable[..., tuple[Any, Any]]
# From sample numbers to arrays with one entry for each of them.
Draw = Callable[[npt.NDArray[np.int64], np.random.Generator], Any]


class TrainingBatches(keras.utils.PyDataset):
    """Batches in an order of each epoch's own, the same on every backend.

    An epoch leaves out what does not fill a batch, another part each time:
    the last batch would otherwise be compiled on its own.

    Args:
        samples: Numbers of the samples `(samples,)`.
        labels: Of each of them, integers.
        batch_size: Samples in a batch; of fewer samples all are one.
        seed: Seed of the order and of what is drawn.
        draw: Called once an epoch with the samples in their order and a
            generator; returns a tuple of arrays with an entry for each.
        fetch: Called for each batch with its samples, its labels and its
            entries of what was drawn; returns `(inputs, labels)`.
        balanced: None, or the classes of a batch and the samples of each: an
            epoch then shows every sample, and some twice.
    """

    def __init__(
        self,
        samples: npt.NDArray[np.int64],
        labels: npt.NDArray[np.int32],
        *,
        batch_size: int,
        seed: int,
        draw: Draw,
        fetch: Fetch,
        balanced: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self._samples = samples
        self._labels = labels
        self._balanced = balanced
        if balanced is None:
            self._batch_size = min(batch_size, len(samples))
        else:
            self._batch_size = math.prod(balanced)
        self._generator = np.random.default_rng(seed)
        self._draw = draw
        self._fetch = fetch
        self.on_epoch_end()

    def __len__(self) -> int:
        return len(self._order) // self._batch_size

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        start = index * self._batch_size
        batch = slice(start, start + self._batch_size)
        chosen = self._order[batch]
        return self._fetch(
            self._samples[chosen],
            self._labels[chosen],
            *(entries[batch] for entries in self._drawn),
        )

    def on_epoch_end(self) -> None:
        """Draws the next epoch."""
        if self._balanced is None:
            self._order = self._generator.permutation(len(self._samples))
        else:
            self._order = plan_epoch(
                self._labels, *self._balanced, self._generator
            ).ravel()
        self._drawn = self._draw(self._samples[self._order], self._generator)


class OrderedBatches(keras.utils.PyDataset):
    """All samples in their order, to test on.

    Args:
        inputs: The input of a model `(samples, ...)`, or a tuple of them.
        labels: Of each sample, integers.
        batch_size: Samples in a batch; the last one may have fewer.
    """

    def __init__(
        self,
        inputs: Any,
        labels: npt.NDArray[np.int32],
        batch_size: int,
    ) -> None:
        super().__init__()
        self._inputs = inputs
        self._labels = labels
        self._batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self._labels) // self._batch_size)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        start = index * self._batch_size
        batch = slice(start, start + self._batch_size)
        inputs = keras.tree.map_structure(lambda x: x[batch], self._inputs)
        return inputs, self._labels[batch]

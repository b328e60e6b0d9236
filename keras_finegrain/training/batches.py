"""Batches of samples in memory."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from keras_finegrain.datasets.balanced_plan import plan_epoch
from keras_finegrain.training.methods import balanced_batch
from keras_finegrain.training.settings import Settings

Numbers = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int32]
# Arrays with one entry for each sample.
Inputs = tuple[npt.NDArray[Any], ...]
Batch = tuple[Any, npt.NDArray[Any]]


class TrainingBatches(keras.utils.PyDataset):
    """Batches in another order each epoch, the same on every backend.

    Samples that do not fill a batch are left out, others each epoch: a smaller
    last batch would be compiled separately. For a method on pairs batches are
    balanced, and an epoch has every sample, some of them twice.

    Args:
        samples: Numbers of the samples `(samples,)`.
        labels: Their classes, integers `(samples,)`.
        settings: Those of the run: the method and the size of its batches;
            fewer samples make one batch.
        seed: Seed of the order and of what is drawn.
        draw: Called once an epoch with the samples in their order and a
            generator; returns the inputs of the epoch.
        finish: Called for each batch with its inputs and its labels; returns
            both as the model takes them.
    """

    def __init__(
        self,
        samples: Numbers,
        labels: Labels,
        settings: Settings,
        seed: int,
        draw: Callable[[Numbers, np.random.Generator], Inputs],
        finish: Callable[[Inputs, Labels], Batch],
    ) -> None:
        super().__init__()
        self._samples, self._labels = samples, labels
        self._balanced = balanced_batch(settings, len(np.unique(labels)))
        if self._balanced is None:
            self._batch_size = min(settings.batch_size, len(samples))
        else:
            self._batch_size = math.prod(self._balanced)
        self._generator = np.random.default_rng(seed)
        self._draw, self._finish = draw, finish
        self.on_epoch_end()

    def __len__(self) -> int:
        return len(self._order) // self._batch_size

    def __getitem__(self, index: int) -> Batch:
        start = index * self._batch_size
        batch = slice(start, start + self._batch_size)
        inputs = tuple(entries[batch] for entries in self._inputs)
        return self._finish(inputs, self._labels[self._order[batch]])

    def on_epoch_end(self) -> None:
        """Draws the next epoch."""
        if self._balanced is None:
            self._order = self._generator.permutation(len(self._samples))
        else:
            self._order = plan_epoch(
                self._labels, *self._balanced, self._generator
            ).ravel()
        self._inputs = self._draw(self._samples[self._order], self._generator)


class OrderedBatches(keras.utils.PyDataset):
    """All samples in their order, to test on.

    Args:
        inputs: The input of a model `(samples, ...)`, or a tuple of them.
        labels: Classes, integers `(samples,)`.
        batch_size: Samples in a batch; the last one may have fewer.
    """

    def __init__(self, inputs: Any, labels: Labels, batch_size: int) -> None:
        super().__init__()
        self._inputs = inputs
        self._labels = labels
        self._batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self._labels) // self._batch_size)

    def __getitem__(self, index: int) -> Batch:
        start = index * self._batch_size
        batch = slice(start, start + self._batch_size)
        inputs = keras.tree.map_structure(lambda x: x[batch], self._inputs)
        return inputs, self._labels[batch]

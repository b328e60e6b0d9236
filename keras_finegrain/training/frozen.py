"""What a frozen part of the backbone says of a data set, computed once."""

import math
from typing import Any

import keras
import numpy as np

from keras_finegrain.datasets.balanced_plan import plan_epoch


class FeatureBatches(keras.utils.PyDataset):
    """Batches of features that a frozen backbone gave.

    Args:
        views: Features `(views, samples, ...)`; each epoch takes one view of
            each sample by chance.
        labels: Integers `(samples,)`.
        batch_size: Samples in a batch.
        seed: Seed of order and views; None for testing: the first view, in
            order.
        balanced: None, or the classes of a batch and the samples of each: an
            epoch then shows some samples twice. Needs a seed.
    """

    def __init__(
        self,
        views: np.ndarray,
        labels: np.ndarray,
        batch_size: int,
        seed: int | None = None,
        balanced: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self._balanced = balanced
        if balanced is not None:
            batch_size = math.prod(balanced)
        self._views = views
        self._labels = labels
        self._batch_size = batch_size
        self._rng = None if seed is None else np.random.default_rng(seed)
        self._samples = np.arange(len(labels))
        self._view = np.zeros(len(labels), int)
        self.on_epoch_end()

    def __len__(self) -> int:
        return math.ceil(len(self._samples) / self._batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        start = index * self._batch_size
        chosen = self._samples[start : start + self._batch_size]
        return self._views[self._view[chosen], chosen], self._labels[chosen]

    def on_epoch_end(self) -> None:
        """Draws the order and the views of the next epoch."""
        if self._rng is None:
            return
        if self._balanced is None:
            self._samples = self._rng.permutation(len(self._labels))
        else:
            self._samples = plan_epoch(
                self._labels, *self._balanced, self._rng
            ).ravel()
        self._view = self._rng.integers(
            len(self._views), size=len(self._labels)
        )


def compute_features(
    frozen: keras.Model, batches: Any, *, mirrored: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Runs the frozen part over a data set.

    Args:
        frozen: From images to features; run as in inference.
        batches: `(images, labels)` in a fixed order.
        mirrored: Whether to add the features of the mirrored images.

    Returns:
        Features `(views, samples, ...)`, with one view or two, and labels.
    """
    views: list[list[np.ndarray]] = [[], []] if mirrored else [[]]
    labels = []
    for images, batch_labels in batches:
        images = np.asarray(images)
        labels.append(np.asarray(batch_labels))
        views[0].append(frozen.predict_on_batch(images))
        if mirrored:
            views[1].append(frozen.predict_on_batch(images[:, :, ::-1]))
    return (
        np.stack([np.concatenate(view) for view in views]),
        np.concatenate(labels),
    )

"""Keeps the embeddings of each epoch for pictures."""

from typing import Any

import keras
import numpy as np

from keras_finegrain.callbacks.embedding_callback import EmbeddingCallback
from keras_finegrain.layers.centers import layers_with_centers


class EmbeddingRecorder(EmbeddingCallback):
    """Keeps the embeddings of a data set before training and after each epoch.

    For `visualization.embedding_animation`. It keeps epochs · samples · dim
    numbers in memory: a few hundred samples show what happens.

    Args:
        data: As in `EmbeddingMetrics`.
        layer: As in `EmbeddingMetrics`.
        frequency: Records after every so many epochs. Defaults to 1.
        batch_size: Samples in a batch, for arrays. Defaults to 32.

    Attributes:
        epochs: The recorded epochs; 0 is before training.
        frames: The embeddings at each of them, `(samples, dim)`.
        labels: The labels `(samples,)`.
        centers: The centers at each of them, of the model's `CenterLoss` or
            cosine head, `(classes, dim)` or
            `(classes, centers_per_class, dim)`; empty for a model that has
            none of this dim.

    Raises:
        ValueError: For an argument out of its range, and in training if the
            data has no labels or its order changes.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((8,)),
    ...     keras.layers.Dense(2),
    ...     keras.layers.Dense(3),
    ... ])
    >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    >>> x, y = np.ones((6, 8)), np.arange(6) % 3
    >>> recorder = EmbeddingRecorder((x, y))
    >>> history = model.fit(x, y, epochs=2, verbose=0, callbacks=[recorder])
    >>> recorder.epochs, recorder.frames[0].shape
    ([0, 1, 2], (6, 2))
    """

    def __init__(
        self,
        data: Any,
        layer: str | keras.layers.Layer | None = None,
        *,
        frequency: int = 1,
        batch_size: int = 32,
    ) -> None:
        super().__init__(data, layer, frequency, batch_size)
        self.epochs: list[int] = []
        self.frames: list[np.ndarray] = []
        self.centers: list[np.ndarray] = []
        self.labels: np.ndarray | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Records the embedding that training starts from."""
        del logs
        self.epochs, self.frames, self.centers = [], [], []
        self.labels = None
        self._record(0)

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Records the embedding of this epoch."""
        del logs
        if self.is_due(epoch):
            self._record(epoch + 1)

    def _record(self, epoch: int) -> None:
        embeddings, labels = self.embeddings(self.data)
        if self.labels is not None and not np.array_equal(self.labels, labels):
            raise ValueError(
                "EmbeddingRecorder: data must come in the same order each "
                "time, received labels in another order than before. Do not "
                "shuffle it."
            )
        self.labels = labels
        self.frames.append(embeddings)
        self.epochs.append(epoch)
        for layer in layers_with_centers(self.model):
            if layer.centers.shape[-1] == embeddings.shape[1]:
                centers = keras.ops.convert_to_numpy(layer.centers)
                # A copy: PyTorch's is the memory that training writes to.
                self.centers.append(np.array(centers))
                break

"""What the callbacks that look at embeddings have in common."""

from typing import Any

import keras
import numpy as np

from keras_finegrain._base.checks import positive_integer, shown
from keras_finegrain.embedding import embed, embedding_model


class EmbeddingCallback(keras.callbacks.Callback):
    """Base of the callbacks that look at the embeddings of a data set.

    Args:
        data: Arrays `(x, y)`, or anything that gives batches `(x, y)` each
            time it is iterated.
        layer: As in `embedding_model`.
        frequency: Every how many epochs, at least 1.
        batch_size: Samples in a batch, for arrays.
    """

    def __init__(
        self,
        data: Any,
        layer: str | keras.layers.Layer | None,
        frequency: int,
        batch_size: int,
    ) -> None:
        super().__init__()
        who = type(self).__name__
        if data is None:
            raise ValueError(
                f"{who}: data must be arrays (x, y) or batches of them, "
                "received None."
            )
        if not isinstance(layer, (str, keras.layers.Layer, type(None))):
            raise ValueError(
                f"{who}: layer must be a layer, its name, or None, received "
                f"{shown(layer)}."
            )
        self.data = data
        self.layer = layer
        self.frequency = positive_integer(who, "frequency", frequency)
        self.batch_size = positive_integer(who, "batch_size", batch_size)
        self._embedding_model: keras.Model | None = None

    def set_model(self, model: keras.Model) -> None:
        """Keeps the model; what embeds is made when it is first needed."""
        super().set_model(model)
        self._embedding_model = None

    def is_due(self, epoch: int) -> bool:
        """Whether this epoch, from 0, is one to look at."""
        return (epoch + 1) % self.frequency == 0

    def embeddings(self, data: Any) -> tuple[np.ndarray, np.ndarray]:
        """The embeddings `(samples, dim)` of some data, and its labels."""
        if self._embedding_model is None:
            self._embedding_model = embedding_model(self.model, self.layer)
        return embed(self._embedding_model, data, self.batch_size)

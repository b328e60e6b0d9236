"""Figures of the embedding in the logs of each epoch."""

from collections.abc import Iterable
from typing import Any

import keras

from keras_finegrain.callbacks.embedding_callback import EmbeddingCallback
from keras_finegrain.metrics import embedding_figures
from keras_finegrain.metrics.embedding_set import check_distance
from keras_finegrain.metrics.figures import figure_kind


class EmbeddingFigures(EmbeddingCallback):
    """Measures the embedding after each epoch and puts it into the logs.

    Accuracy says whether the head is right; these figures say whether classes
    come apart in the embedding, also where there is no head. They stand in the
    history, and `ModelCheckpoint` and `EarlyStopping` can watch them if they
    come *after* this callback in the list.

    Works with any functional or sequential Keras model, on every backend and
    under a distribution strategy.

    Args:
        data: What to measure on: arrays `(x, y)`, or anything that gives
            batches `(x, y)` each time it is iterated: a `tf.data.Dataset`, a
            `keras.utils.PyDataset`, a torch `DataLoader`. Labels may be
            integers or one-hot.
        figures: Their names, as in `metrics.embedding_figures`. Defaults to
            Recall@1 and MAP@R.
        layer: The layer whose output is the embedding, or its name. Defaults
            to what goes into the head, as in `embedding_model`.
        gallery: Data in which the neighbours are looked up, such as the
            training set. Defaults to `data` itself.
        distance: `"cosine"` or `"euclidean"`. Defaults to `"cosine"`.
        prefix: Stands before each name in the logs. Defaults to `"val_"`.
        frequency: Every how many epochs. Defaults to 1. As with
            `validation_freq` of `fit`, other epochs have no such logs.
        batch_size: Samples in a batch, for arrays. Defaults to 32.

    Raises:
        ValueError: For an argument out of its range; at the end of the first
            epoch, if the data has no labels or no such figure.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((8,)),
    ...     keras.layers.Dense(4),
    ...     keras.layers.Dense(2),
    ... ])
    >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    >>> x, y = np.random.default_rng(0).normal(size=(8, 8)), np.arange(8) % 2
    >>> callbacks = [
    ...     EmbeddingFigures((x, y)),
    ...     keras.callbacks.EarlyStopping("val_recall@1", mode="max"),
    ... ]
    >>> history = model.fit(x, y, epochs=2, verbose=0, callbacks=callbacks)
    >>> sorted(history.history)
    ['loss', 'val_map@r', 'val_recall@1']
    """

    def __init__(
        self,
        data: Any,
        figures: Iterable[str] = ("recall@1", "map@r"),
        layer: str | keras.layers.Layer | None = None,
        *,
        gallery: Any = None,
        distance: str = "cosine",
        prefix: str = "val_",
        frequency: int = 1,
        batch_size: int = 32,
    ) -> None:
        super().__init__(data, layer, frequency, batch_size)
        self.figures = tuple(figures)
        self.gallery = gallery
        self.distance = distance
        self.prefix = prefix
        who = type(self).__name__
        check_distance(who, distance)
        for name in self.figures:
            figure_kind(who, name)

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Adds the figures to the logs."""
        if logs is None or not self.is_due(epoch):
            return
        embeddings, labels = self.embeddings(self.data)
        gallery: dict[str, Any] = {}
        if self.gallery is not None:
            gallery["gallery_embeddings"], gallery["gallery_labels"] = (
                self.embeddings(self.gallery)
            )
        found = embedding_figures(
            embeddings,
            labels,
            self.figures,
            distance=self.distance,
            **gallery,
        )
        for name, figure in found.items():
            logs[f"{self.prefix}{name}"] = figure.value

"""Metrics of the embedding in the logs of each epoch."""

from collections.abc import Iterable
from typing import Any

import keras

from keras_finegrain._base.checks import string
from keras_finegrain.callbacks.embedding_callback import EmbeddingCallback
from keras_finegrain.metrics.embedding_metrics import (
    embedding_metrics,
    metric_names,
    parse_metric,
)
from keras_finegrain.metrics.embedding_set import check_distance


class EmbeddingMetrics(EmbeddingCallback):
    """Computes metrics of the embedding after each epoch, for the logs.

    Accuracy shows whether the head is right; these metrics show whether the
    classes are apart in the embedding, also without a head. The history
    contains them, and `ModelCheckpoint` and `EarlyStopping` can monitor them
    if they come *after* this callback in the list.

    Works with any functional or sequential Keras model, on every backend and
    under a distribution strategy.

    Args:
        data: The samples: arrays `(x, y)`, or an iterable that yields batches
            `(x, y)` each time: a `tf.data.Dataset`, a `keras.utils.PyDataset`,
            a torch `DataLoader`. Labels may be integers or one-hot.
        metrics: Their names, as in `metrics.embedding_metrics`. Defaults to
            Recall@1 and MAP@R.
        layer: The layer whose output is the embedding, or its name. Defaults
            to the input of the head, as in `embedding_model`.
        gallery: Data among which the neighbours are searched, such as the
            training set. Defaults to `data` itself.
        distance: `"cosine"` or `"euclidean"`. Defaults to `"cosine"`.
        prefix: Put before each name in the logs. Defaults to `"val_"`.
        frequency: Number of epochs from one computation to the next. Defaults
            to 1. As with `validation_freq` of `fit`, the logs of other epochs
            do not have these metrics.
        batch_size: Samples in a batch, for arrays. Defaults to 32.

    Raises:
        ValueError: If an argument is out of its range; at the end of the first
            epoch, if the data has no labels or a metric does not exist for it.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((8,)),
    ...     keras.layers.Dense(4),
    ...     keras.layers.Dense(2),
    ... ])
    >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    >>> x, y = np.random.default_rng(0).normal(size=(8, 8)), np.arange(8) % 2
    >>> callbacks = [
    ...     EmbeddingMetrics((x, y)),
    ...     keras.callbacks.EarlyStopping("val_recall@1", mode="max"),
    ... ]
    >>> history = model.fit(x, y, epochs=2, verbose=0, callbacks=callbacks)
    >>> sorted(history.history)
    ['loss', 'val_map@r', 'val_recall@1']
    """

    def __init__(
        self,
        data: Any,
        metrics: Iterable[str] = ("recall@1", "map@r"),
        layer: str | keras.layers.Layer | None = None,
        *,
        gallery: Any = None,
        distance: str = "cosine",
        prefix: str = "val_",
        frequency: int = 1,
        batch_size: int = 32,
    ) -> None:
        super().__init__(data, layer, frequency, batch_size)
        who = type(self).__name__
        self.metrics = metric_names(who, metrics)
        self.gallery = gallery
        self.distance = distance
        self.prefix = string(who, "prefix", prefix, may_be_empty=True)
        check_distance(who, distance)
        for name in self.metrics:
            parse_metric(who, name)

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Adds the metrics to the logs."""
        if logs is None or not self.is_due(epoch):
            return
        embeddings, labels = self.embeddings(self.data)
        gallery: dict[str, Any] = {}
        if self.gallery is not None:
            gallery["gallery_embeddings"], gallery["gallery_labels"] = (
                self.embeddings(self.gallery)
            )
        estimates = embedding_metrics(
            embeddings,
            labels,
            self.metrics,
            distance=self.distance,
            **gallery,
        )
        for name, estimate in estimates.items():
            logs[f"{self.prefix}{name}"] = estimate.value

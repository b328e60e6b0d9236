"""Checks of a model's labels before and around its compiled steps.

A compiled step cannot read its labels. What is wrong with them is found where
the data is made: on arrays as a whole, on a `tf.data.Dataset` in its input
pipeline, on a `PyDataset` or a generator in its first batch.
"""

import types
from collections.abc import Generator
from typing import Any

import keras

from keras_finegrain._checks import concrete
from keras_finegrain._typing import Tensor
from keras_finegrain.labels import current_scope, range_error
from keras_finegrain.layers.labelled_loss import LabelledLossLayer
from keras_finegrain.losses.class_similarity import ClassSimilarityLoss
from keras_finegrain.losses.margin_softmax import MarginSoftmaxLoss
from keras_finegrain.losses.proxy_anchor_loss import ProxyAnchorLoss

_CLASSIFICATION_LOSSES = (
    "sparse_categorical_crossentropy",
    "categorical_crossentropy",
)


def scope_layers(model: keras.Model) -> list[LabelledLossLayer]:
    """The layers of a model that read their labels from the label scope."""
    return [
        layer
        for layer in model._flatten_layers(include_self=False)
        if isinstance(layer, LabelledLossLayer)
        and layer.reads_scope is not False
    ]


def checked_labels(
    model: keras.Model, x: Any, y: Any = None
) -> tuple[Any, Any]:
    """Checks the labels of `fit(x, y)` as far as they can be read now.

    Args:
        model: The model.
        x: The first argument of `fit`.
        y: The second argument of `fit`.

    Returns:
        `x` and `y`; a `tf.data.Dataset` comes back with a check of each
        batch's labels in its pipeline, a generator with its first batch read.

    Raises:
        ValueError: If labels lie outside of a layer's classes.
    """
    layers = scope_layers(model)
    if not layers:
        return x, y
    if isinstance(x, keras.utils.PyDataset):
        _, labels, _ = keras.utils.unpack_x_y_sample_weight(x[0])
        _check_values(layers, labels)
    elif isinstance(x, types.GeneratorType):
        first = next(x, None)
        if first is not None:
            _, labels, _ = keras.utils.unpack_x_y_sample_weight(first)
            _check_values(layers, labels)
            x = _put_back(first, x)
    elif _is_tf_dataset(x):
        x = _with_checked_labels(x, layers)
    elif y is not None:
        _check_values(layers, y)
    return x, y


def check_head(model: keras.Model, y_pred: Tensor) -> None:
    """Raises if a layer and the model's head disagree about the classes.

    Args:
        model: A compiled model, inside of a step.
        y_pred: Its output.

    Raises:
        ValueError: If the output of a classifier has another number of
            classes than a layer that shares its labels, or scored a share of
            the classes for a loss that does not weigh them.
    """
    scope = current_scope()
    if scope is not None and scope.sampled is not None:
        # Another loss would take each of the drawn classes for one alone.
        if not isinstance(_single(model.loss), MarginSoftmaxLoss):
            raise ValueError(
                "A head with sampled_share below 1 needs a cross-entropy of "
                "`keras_finegrain.losses` in compile(), such as "
                "NormFaceLoss, ArcFaceLoss or SoftTripleLoss, which weighs "
                f"the classes that were drawn, received {model.loss!r}."
            )
        return
    if scope is None or not _classifies(_single(model.loss)):
        return
    if len(getattr(y_pred, "shape", ())) != 2:
        return
    for layer in scope_layers(model):
        if layer.num_classes != y_pred.shape[-1]:
            raise ValueError(
                f"{layer.who} has num_classes={layer.num_classes}, but the "
                f"model's head gives {y_pred.shape[-1]} classes for the same "
                "labels. Make them agree."
            )


def _single(loss: Any) -> Any:
    """The loss of a model with one output, which may stand in a list."""
    if isinstance(loss, (list, tuple)) and len(loss) == 1:
        return loss[0]
    if isinstance(loss, dict) and len(loss) == 1:
        return next(iter(loss.values()))
    return loss


def _classifies(loss: Any) -> bool:
    if isinstance(loss, str):
        return loss in _CLASSIFICATION_LOSSES
    return isinstance(
        loss,
        (
            ClassSimilarityLoss,
            ProxyAnchorLoss,
            keras.losses.SparseCategoricalCrossentropy,
            keras.losses.CategoricalCrossentropy,
        ),
    )


def _check_values(layers: list[LabelledLossLayer], labels: Any) -> None:
    values = concrete(labels)
    if values is None or values.dtype.kind not in "iu":
        # One-hot labels have no range; other forms are the layers' to judge.
        return
    for layer in layers:
        if values.ndim > 1 and values.shape[-1] == layer.num_classes > 1:
            continue
        counted = values[values != layer.ignore_class]
        if counted.size:
            error = range_error(
                layer.who,
                layer.num_classes,
                int(counted.min()),
                int(counted.max()),
            )
            if error is not None:
                raise error


def _put_back(
    first: Any, rest: Generator[Any, None, None]
) -> Generator[Any, None, None]:
    yield first
    yield from rest


def _is_tf_dataset(data: Any) -> bool:
    """Whether `data` is a `tf.data.Dataset`, without importing TensorFlow."""
    if not type(data).__module__.startswith("tensorflow.python.data"):
        return False
    import tensorflow as tf

    return isinstance(data, tf.data.Dataset)


def _with_checked_labels(dataset: Any, layers: list[LabelledLossLayer]) -> Any:
    """The same dataset; a batch with labels out of range ends it by an error.

    The check runs on the CPU, beside the step, and reads the labels alone.
    """
    import tensorflow as tf

    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) < 2:
        return dataset
    if not isinstance(spec[1], tf.TensorSpec) or not spec[1].dtype.is_integer:
        return dataset
    shape = spec[1].shape
    layers = [
        layer
        for layer in layers
        if shape.rank is None
        or shape.rank < 2
        or shape[-1] != layer.num_classes
        or layer.num_classes == 1
    ]
    if not layers:
        return dataset

    def check(*batch: Tensor) -> tuple[Tensor, ...]:
        labels = tf.cast(batch[1], "int64")
        checks = []
        for layer in layers:
            counted = labels
            if layer.ignore_class is not None:
                counted = tf.boolean_mask(
                    labels, tf.not_equal(labels, layer.ignore_class)
                )
            # The extremes of an empty batch lie inside of the range.
            low = tf.reduce_min(tf.concat([tf.reshape(counted, [-1]), [0]], 0))
            high = tf.reduce_max(tf.concat([tf.reshape(counted, [-1]), [0]], 0))
            checks.append(
                tf.debugging.Assert(
                    tf.logical_and(low >= 0, high < layer.num_classes),
                    [
                        f"{layer.who}: labels must lie in "
                        f"[0, {layer.num_classes}), received a minimum and a "
                        "maximum of",
                        low,
                        high,
                        "in a batch of the data set. Check num_classes and "
                        "the labels.",
                    ],
                )
            )
        with tf.control_dependencies(checks):
            return (batch[0], tf.identity(batch[1]), *batch[2:])

    return dataset.map(check)

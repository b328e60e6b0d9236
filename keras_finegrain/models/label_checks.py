"""Checks of a model's labels before and around its compiled steps.

A compiled step cannot read its labels. What is wrong with them is found where
the data is made: on arrays as a whole, on a `tf.data.Dataset` in its input
pipeline, on a `PyDataset` or a generator in its first batch.
"""

import types
from collections.abc import Generator
from typing import Any

import keras

from keras_finegrain._base.arrays import concrete
from keras_finegrain._base.private_keras import inner_layers
from keras_finegrain._base.typing import Tensor
from keras_finegrain.labels.forms import (
    are_rows,
    check_labels,
    numbers_of_rows,
    refuse_dtype,
)
from keras_finegrain.labels.sampling import drawn_classes
from keras_finegrain.labels.scope import current_scope
from keras_finegrain.layers.labelled_loss_layer import LabelledLossLayer


def scope_layers(model: keras.Model) -> list[LabelledLossLayer]:
    """The layers of a model that read their labels from the label scope."""
    return [
        layer
        for layer in inner_layers(model)
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
    is_ours = hasattr(_single(getattr(model, "loss", None)), "scores_classes")
    if hasattr(y, "dtype") and (layers or is_ours):
        refuse_dtype("fit", str(y.dtype), "y")
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
    loss = _single(model.loss)
    if drawn_classes() is not None:
        # Another loss would take each of the drawn classes for one alone.
        if not getattr(loss, "weighs_sampled_classes", False):
            raise ValueError(
                "A head with sampled_share below 1 needs a cross-entropy of "
                "`keras_finegrain.losses` in compile(), such as "
                "NormFaceLoss, ArcFaceLoss or SoftTripleLoss, which weighs "
                f"the classes that were drawn, received {model.loss!r}."
            )
        return
    if current_scope() is None or not _scores_classes(loss):
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
    """The loss of a model with one output, out of a list or dict of one."""
    if isinstance(loss, (list, tuple)) and len(loss) == 1:
        return loss[0]
    if isinstance(loss, dict) and len(loss) == 1:
        return next(iter(loss.values()))
    return loss


def _scores_classes(loss: Any) -> bool:
    """Whether a loss takes a score for each class."""
    if hasattr(loss, "scores_classes"):
        return bool(loss.scores_classes)
    # Keras's own have no such word: `sparse_categorical_crossentropy`,
    # `categorical_focal_crossentropy`, `categorical_hinge`, …
    name = loss if isinstance(loss, str) else getattr(loss, "name", "")
    return "categorical_" in str(name)


def _check_values(layers: list[LabelledLossLayer], labels: Any) -> None:
    values = concrete(labels)
    if values is None:
        return
    for layer in layers:
        check_labels(layer.who, values, layer.num_classes, layer.ignore_class)


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
    if not isinstance(spec[1], tf.TensorSpec):
        return dataset
    refuse_dtype("fit", spec[1].dtype.name)
    shape = (None,) if spec[1].shape.rank is None else tuple(spec[1].shape)

    def check(*batch: Tensor) -> tuple[Tensor, ...]:
        checks = [
            _pipeline_check(layer, batch[1], shape)
            for layer in layers
            if spec[1].dtype.is_integer
            or are_rows(shape, spec[1].dtype.name, 1, layer.num_classes)
        ]
        with tf.control_dependencies(checks):
            return (batch[0], tf.identity(batch[1]), *batch[2:])

    return dataset.map(check)


def _pipeline_check(
    layer: LabelledLossLayer, labels: Tensor, shape: tuple[int | None, ...]
) -> Any:
    """An assertion of `tf.data` that a batch's labels are the layer's."""
    import tensorflow as tf
    import tensorflow.experimental.numpy as tnp

    received = "received a minimum and a maximum of"
    if are_rows(shape, labels.dtype.name, 1, layer.num_classes):
        labels = numbers_of_rows(
            tf.cast(labels, "float32"), tnp, layer.ignore_class
        )
        received = (
            "received one-hot rows that name no class (-1) or several "
            f"({layer.num_classes}): the lowest and the highest are"
        )
    labels = tf.cast(labels, "int64")
    if layer.ignore_class is not None:
        labels = tf.boolean_mask(
            labels, tf.not_equal(labels, layer.ignore_class)
        )
    # The extremes of an empty batch lie inside of the range.
    labels = tf.concat([tf.reshape(labels, [-1]), [0]], axis=0)
    low, high = tf.reduce_min(labels), tf.reduce_max(labels)
    return tf.debugging.Assert(
        tf.logical_and(low >= 0, high < layer.num_classes),
        [
            f"{layer.who}: labels must lie in [0, {layer.num_classes}), "
            f"{received}",
            low,
            high,
            "in a batch of the data set. Check num_classes and the labels.",
        ],
    )

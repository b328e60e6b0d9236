"""How the labels of a batch reach the layers, and what they must be.

`keras_finegrain.Model` and `Sequential` open a label scope around each
training and test step; a layer that was given no labels reads them there.
"""

import contextlib
import dataclasses
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Optional

import keras
from keras import ops

from keras_finegrain._checks import concrete
from keras_finegrain._typing import Tensor

if TYPE_CHECKING:
    from keras_finegrain.class_sampling import SampledClasses


@dataclasses.dataclass
class LabelScope:
    """What a training or test step tells the layers about its batch.

    Attributes:
        labels: The step's `y`, as the data set gave it, or `None`.
        sample_weight: The step's sample weights, or `None`.
        measurements: What the layers measured in this step, for the logs:
            metric, value and weight.
        sampled: The classes that the head scored in this step, a
            `class_sampling.SampledClasses`, or `None` for all of them.
        jit_compile: Whether XLA compiles the step: on TensorFlow another form
            of the same computation can then be the faster one.
    """

    labels: Tensor | None
    sample_weight: Tensor | None
    measurements: list[tuple[keras.metrics.Metric, Tensor, Tensor]] = (
        dataclasses.field(default_factory=list)
    )
    sampled: Optional["SampledClasses"] = None
    jit_compile: bool = False


# One scope per thread: `tf.distribute` runs each replica in its own.
_active = threading.local()


@contextlib.contextmanager
def label_scope(
    labels: Tensor | None,
    sample_weight: Tensor | None = None,
    jit_compile: bool = False,
) -> Iterator[LabelScope]:
    """Shows labels to the layers that are called inside.

    `keras_finegrain.Model` opens it in each step. In a training loop of your
    own, open it around the call of the model.

    Args:
        labels: Integer labels `(batch,)` or `(batch, 1)`, or one-hot labels
            `(batch, num_classes)`.
        sample_weight: Weights `(batch,)`, or `None`.
        jit_compile: Whether it is open inside of a
            `tf.function(jit_compile=True)`. It changes speed alone.

    Yields:
        The open `LabelScope`; it is closed again on any exit.

    Example:

    >>> layer = keras_finegrain.CenterLoss(num_classes=3)
    >>> with keras_finegrain.label_scope(ops.array([0, 2])):
    ...     embedding = layer(ops.ones((2, 4)), training=True)
    >>> len(layer.losses)
    1
    """
    outer = current_scope()
    _active.scope = LabelScope(labels, sample_weight, jit_compile=jit_compile)
    try:
        yield _active.scope
    finally:
        _active.scope = outer


def current_scope() -> LabelScope | None:
    """The innermost open label scope of this thread, or `None`."""
    return getattr(_active, "scope", None)


def is_compiled_by_xla() -> bool:
    """Whether XLA compiles what is computed now, as far as this is known.

    What is not known changes speed alone: a step on TensorFlow that opens no
    scope counts as a graph.
    """
    scope = current_scope()
    return keras.backend.backend() == "jax" or (
        scope is not None and scope.jit_compile
    )


def to_sparse(
    labels: Tensor, batch_shape: tuple[int | None, ...], num_classes: int
) -> Tensor:
    """Turns any accepted form of labels into integers.

    Args:
        labels: Integers of shape `batch_shape` or `batch_shape + (1,)`, or
            one-hot labels `batch_shape + (num_classes,)` of any dtype; soft
            labels count as their largest class.
        batch_shape: The leading axes of the tensor that the labels describe;
            `None` where unknown.
        num_classes: The number of classes.

    Returns:
        Integer tensor of shape `batch_shape`.

    Raises:
        ValueError: If the labels have another shape, or are floats and not
            one-hot.

    Example:

    >>> one_hot = ops.array([[0.0, 1.0], [1.0, 0.0]])
    >>> sparse = keras_finegrain.labels.to_sparse(one_hot, (2,), 2)
    >>> ops.convert_to_numpy(sparse).tolist()
    [1, 0]
    """
    shape = tuple(labels.shape)
    is_float = not _is_integer(labels)
    if len(shape) == len(batch_shape) + 1:
        if shape[-1] == num_classes and not (num_classes == 1 and not is_float):
            labels, is_float = ops.argmax(labels, axis=-1), False
        elif shape[-1] == 1:
            labels = ops.squeeze(labels, axis=-1)
    if len(labels.shape) != len(batch_shape) or any(
        received is not None and expected is not None and received != expected
        for received, expected in zip(labels.shape, batch_shape, strict=True)
    ):
        expected = str(batch_shape).replace("None", "batch")
        raise ValueError(
            f"labels must have the shape {expected} (integers) or "
            f"{expected[:-1].rstrip(',')}, {num_classes}) (one-hot), received "
            f"the shape {shape}."
        )
    if is_float:
        raise ValueError(
            "labels must be integers or one-hot, received dtype "
            f"{keras.backend.standardize_dtype(labels.dtype)} and shape "
            f"{shape}. Cast them where the data is made, for instance with "
            "`labels.astype('int32')`, and declare a label input with "
            "`keras.Input((), dtype='int32')`."
        )
    return labels


def to_range(labels: Tensor, num_classes: int) -> Tensor:
    """Casts labels to int32 so that none wraps around into the range.

    Args:
        labels: Tensor of integers, of any dtype.
        num_classes: The number of classes.

    Returns:
        int32 tensor; labels in `[0, num_classes)` unchanged, the others
        outside of it.
    """
    dtype = keras.backend.standardize_dtype(labels.dtype)
    if dtype in ("uint32", "uint64"):
        labels = ops.minimum(labels, ops.cast(num_classes, dtype))
    elif dtype == "int64" or "float" in dtype:
        # (A float while it is one: a cast of 3e9 could land anywhere.)
        labels = ops.clip(labels, -1, num_classes)
    return ops.cast(labels, "int32")


def in_range(labels: Tensor, num_classes: int) -> Tensor:
    """Which int32 labels lie in `[0, num_classes)`, as a boolean tensor."""
    return ops.logical_and(labels >= 0, labels < num_classes)


def check_range(who: str, num_classes: int, labels: Tensor) -> None:
    """Raises for labels outside of the classes, where they can be read.

    Args:
        who: What the labels were given to, for the message.
        num_classes: The number of classes.
        labels: Tensor of integers, of any dtype.

    Raises:
        ValueError: If a label lies outside of `[0, num_classes)`. Inside a
            compiled step, where there is nothing to read, never.
    """
    values = concrete(labels)
    if values is not None and values.size:
        error = range_error(
            who, num_classes, int(values.min()), int(values.max())
        )
        if error is not None:
            raise error


def range_error(
    who: str, num_classes: int, low: int, high: int
) -> ValueError | None:
    """The error for labels from `low` to `high`, or `None` if all are valid."""
    if low >= 0 and high < num_classes:
        return None
    if low < 0:
        received, remedy = (
            f"a minimum of {low}",
            f"Labels to leave out can be named with ignore_class={low}, where "
            "the layer has that argument.",
        )
    else:
        received, remedy = (
            f"a maximum of {high}",
            f"Did you mean num_classes={high + 1}?",
        )
    return ValueError(
        f"{who}: labels must lie in [0, {num_classes}), received {received}. "
        f"{remedy}"
    )


def _is_integer(labels: Tensor) -> bool:
    dtype = keras.backend.standardize_dtype(labels.dtype)
    return "int" in dtype or dtype == "bool"

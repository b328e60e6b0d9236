"""How the labels of a batch reach the layers.

`keras_finegrain.Model` and `Sequential` open a label scope around each
training and test step. A layer that was given no labels reads them there.
"""

import contextlib
import dataclasses
import threading
from collections.abc import Iterator

import keras

from keras_finegrain._base.typing import Tensor


@dataclasses.dataclass(eq=False)
class LabelScope:
    """What a training or test step tells the layers about its batch.

    Attributes:
        labels: The step's `y`, as the data set gave it, or `None`.
        sample_weight: The step's sample weights, or `None`.
        output_names: The names of the model's outputs, in their order.
        measurements: What the layers measured in this step, for the logs:
            metric, value and weight.
    """

    labels: Tensor | None
    sample_weight: Tensor | None
    output_names: tuple[str, ...] = ()
    measurements: list[tuple[keras.metrics.Metric, Tensor, Tensor]] = (
        dataclasses.field(default_factory=list)
    )


# One scope per thread: `tf.distribute` runs each replica in its own.
_active = threading.local()


@contextlib.contextmanager
def label_scope(
    labels: Tensor | None,
    sample_weight: Tensor | None = None,
    output_names: tuple[str, ...] = (),
) -> Iterator[LabelScope]:
    """Shows labels to the layers that are called inside.

    `keras_finegrain.Model` opens it in each step. In a training loop of your
    own, open it around the call of the model.

    Args:
        labels: Integer labels `(batch,)` or `(batch, 1)`, or one-hot labels
            `(batch, num_classes)`; or a dict or list with those of each output.
        sample_weight: Weights `(batch,)`, or `None`; or those of each output.
        output_names: The names of the outputs, to find one in a list.

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
    _active.scope = LabelScope(labels, sample_weight, output_names)
    try:
        yield _active.scope
    finally:
        _active.scope = outer


def current_scope() -> LabelScope | None:
    """The innermost open label scope of this thread, or `None`."""
    return getattr(_active, "scope", None)

"""How the labels of a batch reach the layers.

`keras_finegrain.Model` and `Sequential` open a label scope around each
training and test step. A layer that was given no labels reads them there.
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator

import keras

from keras_finegrain._base.typing import Tensor


@dataclasses.dataclass(eq=False)
class LabelScope:
    """What a training or test step tells the layers about its batch.

    Attributes:
        labels: The step's `y`, as the data set gave it, or `None`.
        sample_weight: The step's sample weights, or `None`.
        unlabelled: Whether somebody said that there are no labels, so that
            layers do not ask for them.
        output_names: The names of the model's outputs, in their order.
        measurements: What the layers measured in this step, for the logs:
            metric, value and weight.
    """

    labels: Tensor | None
    sample_weight: Tensor | None
    unlabelled: bool = False
    output_names: tuple[str, ...] = ()
    measurements: list[tuple[keras.metrics.Metric, Tensor, Tensor]] = (
        dataclasses.field(default_factory=list)
    )


# The open scopes, the innermost last. Each thread has its own, as
# `tf.distribute` runs each replica in one, and so has each task of asyncio.
_open: contextvars.ContextVar[tuple[LabelScope, ...]] = contextvars.ContextVar(
    "keras_finegrain_label_scopes", default=()
)


@contextlib.contextmanager
def label_scope(
    labels: Tensor | None,
    sample_weight: Tensor | None = None,
    output_names: tuple[str, ...] = (),
) -> Iterator[LabelScope]:
    """Shows labels to the layers that are called inside.

    `keras_finegrain.Model` opens it in each step. In a training loop of your
    own, open it around the call of the model. `label_scope(None)` says that
    there are no labels: layers called with `training=True` inside of it add no
    loss and move no center, as for MC dropout.

    A generator function that yields inside of the scope leaves it open for its
    caller until it goes on.

    Args:
        labels: Integer labels `(batch,)` or `(batch, 1)`, or one-hot labels
            `(batch, num_classes)`; or a dict or list with those of each output.
            `None` for no labels.
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
    >>> with keras_finegrain.label_scope(None):
    ...     embedding = layer(ops.ones((2, 4)), training=True)
    >>> len(layer.losses)
    0
    """
    scope = LabelScope(
        labels, sample_weight, labels is None, tuple(output_names)
    )
    with opened(scope):
        yield scope


@contextlib.contextmanager
def opened(scope: LabelScope) -> Iterator[LabelScope]:
    """Opens a scope, and closes it on any exit."""
    _open.set((*_open.get(), scope))
    try:
        yield scope
    finally:
        # Not by a token: generators may close theirs in any order.
        _open.set(tuple(each for each in _open.get() if each is not scope))


def current_scope() -> LabelScope | None:
    """The innermost open label scope here, or `None`."""
    scopes = _open.get()
    return scopes[-1] if scopes else None


def is_unlabelled() -> bool:
    """Whether `label_scope(None)` is the innermost open scope."""
    scope = current_scope()
    return scope is not None and scope.unlabelled

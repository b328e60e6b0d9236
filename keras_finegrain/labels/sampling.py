"""A share of the classes for each training step.

Scoring every class costs time and memory in proportion to their number. With
very many of them a step may score the classes of its own batch and a random
share of the others, as in Partial FC (An et al., CVPR 2022).
"""

import dataclasses
import weakref
from typing import Any

import keras
from keras import ops

from keras_finegrain._base.typing import Tensor
from keras_finegrain.labels.forms import (
    check_labels,
    class_numbers,
    in_range,
    to_range,
)
from keras_finegrain.labels.scope import LabelScope, current_scope


@dataclasses.dataclass(frozen=True)
class SampledClasses:
    """The classes that a training step scores.

    Attributes:
        classes: int32 `(sampled,)`, each class at most once.
        log_weights: float32 `(sampled,)`: the logarithm of the number of
            classes that each represents, 0 for classes of the batch. Added to
            the logits, Σ e^logit is an unbiased estimate of the sum
            over all classes.
        position: int32 `(num_classes,)`: the index of a class in `classes`,
            -1 if it is not scored.
    """

    classes: Tensor
    log_weights: Tensor
    position: Tensor

    def relabel(self, y: Tensor) -> Tensor:
        """The labels of a batch as positions among the scored classes.

        Args:
            y: Labels in any form that `forms.class_numbers` takes; soft ones
                count as their largest class.

        Returns:
            One-hot `(batch, sampled)` where `y` was one-hot, else int32 of
            its own shape. A label outside of the classes becomes -1.

        Raises:
            ValueError: For a label outside of the classes, where it can be
                read.
        """
        num_classes = self.position.shape[0]
        check_labels("sampled_share", y, num_classes)
        numbers = class_numbers("sampled_share", y, (y.shape[0],), num_classes)
        numbers = to_range(numbers, num_classes)
        valid = in_range(numbers, num_classes)
        position = ops.take(self.position, ops.where(valid, numbers, 0), axis=0)
        position = ops.where(valid, position, -1)
        if len(y.shape) == 2 and y.shape[-1] == num_classes > 1:
            return ops.one_hot(position, self.classes.shape[0], dtype=y.dtype)
        return ops.reshape(position, ops.shape(y))


def sample_classes(
    labels: Tensor, num_classes: int, sampled: int, seed: Any
) -> SampledClasses:
    """Draws the classes that a training step scores.

    Args:
        labels: Integers `(batch,)` of the global batch; those outside of the
            classes are passed over.
        num_classes: C.
        sampled: How many classes to score, at most C. If the batch has more
            classes, some of them are left out.
        seed: A `keras.random.SeedGenerator`, or an int.

    Returns:
        The `SampledClasses`: all classes of the batch, and others that are
        drawn with equal probability.

    Example:

    >>> from keras_finegrain.labels.sampling import sample_classes
    >>> sampled = sample_classes(
    ...     ops.array([3, 8, 3]), num_classes=10, sampled=4, seed=0
    ... )
    >>> positions = sampled.relabel(ops.array([3, 8]))
    >>> ops.convert_to_numpy(positions).tolist()
    [0, 1]
    >>> sampled.classes.shape[0]
    4
    """
    labels = to_range(labels, num_classes)
    valid = in_range(labels, num_classes)
    # (`ops.scatter` is a loop on PyTorch. Labels outside fall into one place
    # more.)
    places = ops.where(valid, labels, num_classes)[:, None]
    is_own = ops.scatter_update(
        ops.zeros((num_classes + 1,), "int32"),
        places,
        ops.ones_like(labels),
    )
    is_own = is_own[:num_classes] > 0
    draws = keras.random.uniform((num_classes,), seed=seed)
    # Above all draws: the batch's own come first.
    _, classes = ops.top_k(ops.where(is_own, 2.0, draws), sampled)
    classes = ops.cast(classes, "int32")
    own = ops.sum(ops.cast(is_own, "float32"))
    stands_for = (num_classes - own) / ops.maximum(sampled - own, 1.0)
    log_weights = ops.where(
        ops.take(is_own, classes, axis=0),
        0.0,
        ops.log(ops.maximum(stands_for, 1.0)),
    )
    order = ops.arange(sampled, dtype="int32")
    position = ops.scatter_update(
        ops.full((num_classes,), -1, "int32"), classes[:, None], order
    )
    return SampledClasses(classes, log_weights, position)


# What was drawn in the step of each open scope.
_drawn: "weakref.WeakKeyDictionary[LabelScope, SampledClasses]" = (
    weakref.WeakKeyDictionary()
)


def drawn_classes() -> SampledClasses | None:
    """What a head drew in this step, or `None` where all classes are scored."""
    scope = current_scope()
    return None if scope is None else _drawn.get(scope)


def announce_drawn(sampled: SampledClasses) -> None:
    """Tells the loss and the metrics of this step what a head drew."""
    scope = current_scope()
    assert scope is not None
    _drawn[scope] = sampled

"""What the losses on the similarities of a head have in common."""

import copy
import dataclasses
from typing import Any

import keras
from keras import ops

from keras_finegrain._base.private_keras import get_keras_mask
from keras_finegrain._base.typing import Tensor
from keras_finegrain.distribution import (
    compiled_mean,
    compiled_sum,
    num_replicas,
)
from keras_finegrain.labels.forms import (
    check_form,
    check_labels,
    class_numbers,
    in_range,
    label_tensor,
    to_range,
)
from keras_finegrain.labels.weights import weight_tensor
from keras_finegrain.losses.base_loss import BaseLoss


class ClassSimilarityLoss(BaseLoss):
    """Base of the losses that compare samples with classes.

    Labels come as integers or one-hot, are checked where they can be read, and
    stay exact under every dtype policy. On replicas a mean or a sum is that of
    the global batch, however unequal the replicas' shares are.

    Args:
        name: Name of the loss.
        **kwargs: `reduction` and `dtype` of `keras.losses.Loss`.
    """

    scores_classes = True

    def __call__(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Any = None
    ) -> Tensor:
        """The loss of a batch: of the global one, where replicas share it."""
        mask = get_keras_mask(y_pred)
        y_pred = self.checked_output(y_true, y_pred)
        # Before Keras casts them to the dtype of the loss.
        y_true = checked_labels(self.who, y_true, y_pred, mask)
        if sample_weight is not None:
            sample_weight = weight_tensor(
                self.who, sample_weight, tuple(y_pred.shape)[:-1], self.dtype
            )
        reduce = {
            "sum_over_batch_size": compiled_mean,
            "mean": compiled_mean,
            "sum": compiled_sum,
        }.get(self.reduction)
        if reduce is None or num_replicas() == 1:
            return super().__call__(y_true, y_pred, sample_weight)
        each = copy.copy(self)
        each.reduction = "none"
        return reduce(each(y_true, y_pred, sample_weight))

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The loss of each sample `(batch,)`."""
        return self.loss_of(Target.of(y_true, y_pred), y_pred)

    def loss_of(self, target: "Target", similarities: Tensor) -> Tensor:
        """The loss of each sample.

        Args:
            target: The labels.
            similarities: `(batch, num_classes)`.

        Returns:
            Tensor `(batch,)`.
        """
        raise NotImplementedError


def checked_labels(
    who: str, y_true: Tensor, y_pred: Tensor, mask: Tensor | None = None
) -> Tensor:
    """The labels of scored samples, in one of two forms.

    Args:
        who: The loss, for error messages.
        y_true: Labels in any form.
        y_pred: Scores `(batch, num_classes)`.
        mask: Booleans `(batch,)`, false where a sample counts for nothing, or
            `None`. Its label may be any.

    Returns:
        int32 `(batch,)`, outside of the classes where a label is; or soft rows
        `(batch, num_classes)`, NaN where a row is unusable.

    Raises:
        ValueError: If the labels have another shape or dtype or, where they
            can be read, lie outside of the classes.
    """
    y_true = label_tensor(who, y_true, "y_true")
    num_classes, batch_shape = y_pred.shape[-1], tuple(y_pred.shape)[:-1]
    dtype = keras.backend.standardize_dtype(y_true.dtype)
    are_numbers = not check_form(
        who, tuple(y_true.shape), dtype, batch_shape, num_classes, "y_true"
    )
    if mask is not None:
        # Class 0 in the place of the labels that count for nothing.
        mask = ops.cast(mask, "bool")
        first = ops.cast(0, dtype)
        if len(y_true.shape) > len(mask.shape):
            mask = mask[..., None]
        if not are_numbers:
            first = ops.cast(ops.arange(num_classes) == 0, dtype)
        y_true = ops.where(mask, y_true, first)
    check_labels(who, y_true, num_classes, name="y_true", rank=len(batch_shape))
    numbers = class_numbers(
        who, y_true, batch_shape, num_classes, name="y_true"
    )
    numbers = to_range(numbers, num_classes)
    if are_numbers:
        return numbers
    rows = ops.cast(y_true, y_pred.dtype)
    valid = in_range(numbers, num_classes)
    return ops.where(valid[..., None], rows, float("nan"))


@dataclasses.dataclass(frozen=True)
class Target:
    """The classes that the samples of a batch are held to.

    A label that came as an integer stays one: its one-hot row would be as
    large as the similarities, and be read as often.

    Attributes:
        is_true: Which class each label names, bool `(batch, num_classes)`:
            once in each row, or nowhere if the label lies outside.
        valid: Which labels name a class, bool `(batch,)`.
        shares: One-hot or soft labels `(batch, num_classes)`, of which the
            true class is the largest; `None` for integers.
    """

    is_true: Tensor
    valid: Tensor
    shares: Tensor | None = None

    @classmethod
    def of(cls, y_true: Tensor, y_pred: Tensor) -> "Target":
        """The target that labels name.

        Args:
            y_true: Of `checked_labels`, in any dtype.
            y_pred: Similarities `(batch, num_classes)`.
        """
        num_classes = y_pred.shape[-1]
        classes = ops.arange(num_classes, dtype="int32")
        if len(y_true.shape) == len(y_pred.shape):
            shares = ops.cast(y_true, y_pred.dtype)
            largest = ops.cast(ops.argmax(shares, axis=-1), "int32")
            valid = ops.isfinite(ops.sum(shares, axis=-1))
            return cls(ops.equal(largest[..., None], classes), valid, shares)
        numbers = ops.cast(y_true, "int32")
        return cls(
            ops.equal(numbers[..., None], classes),
            in_range(numbers, num_classes),
        )

    def average(self, values: Tensor) -> Tensor:
        """Σ_c t_c · v_c of each row: the true class's v, or soft labels' mean.

        Args:
            values: v `(batch, num_classes)`, finite.

        Returns:
            Tensor `(batch,)`; NaN where the label lies outside of the classes.
        """
        if self.shares is not None:
            return ops.sum(self.shares * values, axis=-1)
        return self.checked(self.at_true(values))

    def at_true(self, values: Tensor) -> Tensor:
        """The true class's value of each row.

        A masked sum, as a gather would collect classes that are sharded over
        devices.

        Args:
            values: `(batch, num_classes)`.

        Returns:
            Tensor `(batch,)`; 0 where the label lies outside of the classes.
        """
        return ops.sum(ops.where(self.is_true, values, 0.0), axis=-1)

    def checked(self, values: Tensor) -> Tensor:
        """The values `(batch,)`, NaN where the label is not a class's."""
        return ops.where(self.valid, values, float("nan"))

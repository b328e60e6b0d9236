"""What the losses on the similarities of a head have in common."""

import copy
import dataclasses
from typing import Any

from keras import ops

from keras_finegrain._typing import Tensor
from keras_finegrain.distribution import compiled_mean, num_replicas
from keras_finegrain.labels import check_range, in_range, to_range
from keras_finegrain.losses.labelled_loss import LabelledLoss


class ClassSimilarityLoss(LabelledLoss):
    """Base of the losses that compare samples with classes.

    Labels come as integers or one-hot, are checked where they can be read, and
    stay exact under every dtype policy. On replicas of `tf.distribute` a mean
    is that of the global batch, however unequal the replicas' shares are.

    Args:
        name: Name of the loss.
        **kwargs: `reduction` and `dtype` of `keras.losses.Loss`.
    """

    def __call__(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Any = None
    ) -> Tensor:
        """The loss of a batch: of the global one, where replicas share it."""
        averages = self.reduction in ("sum_over_batch_size", "mean")
        if not averages or num_replicas() == 1:
            return super().__call__(y_true, y_pred, sample_weight)
        each = copy.copy(self)
        each.reduction = "none"
        return compiled_mean(each(y_true, y_pred, sample_weight))

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The loss of each sample `(batch,)`."""
        return self.loss_of(Target.of(self.who, y_true, y_pred), y_pred)

    def loss_of(self, target: "Target", similarities: Tensor) -> Tensor:
        """The loss of each sample.

        Args:
            target: The labels.
            similarities: `(batch, num_classes)`.

        Returns:
            Tensor `(batch,)`.
        """
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Target:
    """The classes that the samples of a batch are held to.

    A label that came as an integer stays one: its one-hot row would be as
    large as the similarities, and be read as often.

    Attributes:
        is_true: Which class each label names, bool `(batch, num_classes)`:
            once in each row, or nowhere if the label lies outside.
        shares: One-hot or soft labels `(batch, num_classes)`, of which the
            true class is the largest; `None` for integers.
        valid: Which labels lie in the classes, bool `(batch,)`; `None` for
            one-hot labels.
    """

    is_true: Tensor
    shares: Tensor | None = None
    valid: Tensor | None = None

    @classmethod
    def of(cls, who: str, y_true: Tensor, y_pred: Tensor) -> "Target":
        """The target that the labels of a compiled loss name.

        Args:
            who: The loss, for error messages.
            y_true: Labels `(batch,)`, `(batch, 1)` or `(batch, num_classes)`.
            y_pred: Similarities `(batch, num_classes)`.
        """
        num_classes = y_pred.shape[-1]
        rank = len(y_pred.shape)
        classes = ops.arange(num_classes, dtype="int32")
        if len(y_true.shape) == rank and num_classes == y_true.shape[-1] > 1:
            shares = ops.cast(y_true, y_pred.dtype)
            largest = ops.cast(ops.argmax(shares, axis=-1), "int32")
            return cls(ops.equal(largest[:, None], classes), shares)
        if len(y_true.shape) == rank and y_true.shape[-1] == 1:
            y_true = ops.squeeze(y_true, axis=-1)
        if len(y_true.shape) != rank - 1:
            raise ValueError(
                f"{who}: y_true must have the shape (batch,), (batch, 1) or "
                f"(batch, {num_classes}) for y_pred of the shape "
                f"{tuple(y_pred.shape)}, received the shape "
                f"{tuple(y_true.shape)}. Does num_classes of the head agree "
                "with the labels?"
            )
        check_range(who, num_classes, y_true)
        labels = to_range(y_true, num_classes)
        return cls(
            ops.equal(labels[:, None], classes),
            valid=in_range(labels, num_classes),
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

        (A masked sum: where the classes are sharded, as nothing is gathered.)

        Args:
            values: `(batch, num_classes)`.

        Returns:
            Tensor `(batch,)`; 0 where the label lies outside of the classes.
        """
        return ops.sum(ops.where(self.is_true, values, 0.0), axis=-1)

    def total(self) -> Tensor | float:
        """Σ_c t_c of each row, 1 for integers."""
        if self.shares is None:
            return 1.0
        return ops.sum(self.shares, axis=-1)

    def checked(self, values: Tensor) -> Tensor:
        """The values `(batch,)`, NaN where the label is not a class's."""
        if self.valid is None:
            return values
        return ops.where(self.valid, values, float("nan"))

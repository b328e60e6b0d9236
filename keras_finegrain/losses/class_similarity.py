"""What the losses on the similarities of a head have in common."""

import copy
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
        return self.loss_of(one_hot_target(self.who, y_true, y_pred), y_pred)

    def loss_of(self, target: Tensor, similarities: Tensor) -> Tensor:
        """The loss of each sample.

        Args:
            target: One-hot labels `(batch, num_classes)`, a row of NaN where a
                label lies outside of the classes.
            similarities: `(batch, num_classes)`.

        Returns:
            Tensor `(batch,)`.
        """
        raise NotImplementedError


def one_hot_target(who: str, y_true: Tensor, y_pred: Tensor) -> Tensor:
    """The labels of a compiled loss as a tensor like `y_pred`.

    Args:
        who: The loss, for error messages.
        y_true: Labels `(batch,)`, `(batch, 1)` or `(batch, num_classes)`.
        y_pred: Similarities `(batch, num_classes)`.

    Returns:
        Tensor `(batch, num_classes)` of `y_pred`'s dtype; a row of NaN where
        an integer label lies outside of the classes.
    """
    num_classes = y_pred.shape[-1]
    rank = len(y_pred.shape)
    if len(y_true.shape) == rank and num_classes == y_true.shape[-1] > 1:
        return ops.cast(y_true, y_pred.dtype)
    if len(y_true.shape) == rank and y_true.shape[-1] == 1:
        y_true = ops.squeeze(y_true, axis=-1)
    if len(y_true.shape) != rank - 1:
        raise ValueError(
            f"{who}: y_true must have the shape (batch,), (batch, 1) or "
            f"(batch, {num_classes}) for y_pred of the shape "
            f"{tuple(y_pred.shape)}, received the shape "
            f"{tuple(y_true.shape)}. Does num_classes of the head agree with "
            "the labels?"
        )
    check_range(who, num_classes, y_true)
    # Clipped while it is a float: a cast of 3e9 to int32 could land anywhere.
    labels = to_range(
        ops.cast(ops.clip(y_true, -1, num_classes), "int32"), num_classes
    )
    target = ops.one_hot(labels, num_classes, dtype=y_pred.dtype)
    valid = in_range(labels, num_classes)[..., None]
    return ops.where(valid, target, float("nan"))

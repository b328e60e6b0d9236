"""What the losses of a whole batch have in common."""

from typing import Any

from keras import ops

from keras_finegrain._base.typing import Tensor
from keras_finegrain.distribution import (
    gather,
    gather_with_gradient,
    num_replicas,
)
from keras_finegrain.losses.base_loss import BaseLoss


class BatchLoss(BaseLoss):
    """Base of the losses that are not a mean over single samples.

    Such a loss compares the samples of a batch with one another. On replicas
    that has to be the global batch: outputs and labels are gathered, every
    replica computes the same value, and sends back the gradient of its own
    samples.

    Args:
        name: Name of the loss.
        **kwargs: `dtype` of `keras.losses.Loss`, and `reduction`: the loss is a
            single number, which `"none"` returns with the shape `(1,)`.
    """

    def __call__(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Any = None
    ) -> Tensor:
        """The loss of the global batch, a scalar."""
        if sample_weight is not None:
            raise ValueError(
                f"{self.who}: sample_weight and class_weight have no meaning "
                "for a loss that compares the samples of a batch with one "
                "another, received weights. Leave them out, or draw the "
                "samples as often as they should count; for a model with "
                "several outputs pass None for this one, as in "
                "`sample_weight={'embedding': None, ...}`."
            )
        y_pred = ops.cast(self.checked_output(y_true, y_pred), self.dtype)
        # Keras casts labels to the dtype of the loss. In float32 two labels
        # above 2²⁴ can become one.
        loss = self.call(ops.convert_to_tensor(y_true), y_pred)
        # Each replica computes the whole loss, and Keras adds up the replicas'.
        loss = loss / num_replicas()
        return loss[None] if self.reduction in (None, "none") else loss

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The loss of the global batch, a scalar."""
        return self.loss_of_batch(gather(y_true), gather_with_gradient(y_pred))

    def loss_of_batch(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The loss of the global batch.

        Args:
            y_true: Labels `(batch, ...)`.
            y_pred: The model's output `(batch, ...)`.

        Returns:
            Scalar.
        """
        raise NotImplementedError

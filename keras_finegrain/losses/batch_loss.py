"""What the losses of a whole batch have in common."""

from typing import Any

import keras

from keras_finegrain._math import at_least_float32
from keras_finegrain._typing import Tensor
from keras_finegrain.distribution import gather, gather_with_gradient


class BatchLoss(keras.losses.Loss):
    """Base of the losses that are not a mean over single samples.

    Such a loss compares the samples of a batch with one another. On replicas
    that has to be the global batch: outputs and labels are gathered, every
    replica computes the same value, and sends back the gradient of its own
    samples.

    Args:
        name: Name of the loss.
        reduction: As in `keras.losses.Loss`; the loss is one number already,
            and `"none"` leaves it `(1,)`.
        dtype: As in `keras.losses.Loss`; never below float32, in which labels
            up to 2²⁴ are exact.
    """

    def __init__(
        self,
        name: str,
        reduction: str | None = "sum_over_batch_size",
        dtype: Any = None,
    ) -> None:
        if dtype is None or isinstance(dtype, str):
            # Keras casts `y_true` to the dtype of the loss.
            dtype = at_least_float32(dtype or keras.config.floatx())
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    @property
    def who(self) -> str:
        """How error messages call this loss."""
        return type(self).__name__

    def __call__(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Any = None
    ) -> Tensor:
        """The loss of a batch, a scalar."""
        if sample_weight is not None:
            raise ValueError(
                f"{self.who}: sample_weight and class_weight have no meaning "
                "for a loss that compares the samples of a batch with one "
                "another, received weights. Leave them out, or draw the "
                "samples as often as they should count."
            )
        return super().__call__(y_true, y_pred)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The loss of the global batch `(1,)`."""
        loss = self.loss_of_batch(gather(y_true), gather_with_gradient(y_pred))
        # One number on an axis: of a scalar Keras would not take the share of
        # each replica.
        return loss[None]

    def loss_of_batch(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The loss of the global batch.

        Args:
            y_true: Labels `(batch, ...)`.
            y_pred: The model's output `(batch, ...)`.

        Returns:
            Scalar.
        """
        raise NotImplementedError

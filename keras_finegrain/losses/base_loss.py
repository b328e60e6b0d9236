"""What all losses of this package have in common."""

from typing import Any

import keras
import numpy as np

from keras_finegrain._base.checks import (
    float_policy,
    one_of,
    refuse_no_floats,
    string,
)
from keras_finegrain._base.representation import shown_with_arguments
from keras_finegrain._base.typing import Tensor
from keras_finegrain._ops.numerics import at_least_float32

# Those of `keras.losses.Loss`.
REDUCTIONS = (
    "sum_over_batch_size",
    "sum",
    "mean",
    "mean_with_sample_weight",
    "none",
)


class BaseLoss(keras.losses.Loss):
    """Base of the losses: one that computes in float32 or wider.

    Args:
        name: Name of the loss.
        reduction: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`, a dtype policy included; never below
            float32. (Keras casts labels to the dtype of the loss, and float16
            holds none above 2,048.)
    """

    def __init__(
        self,
        name: str,
        reduction: str | None = "sum_over_batch_size",
        dtype: Any = None,
    ) -> None:
        policy = float_policy(
            self.who, keras.config.floatx() if dtype is None else dtype
        )
        if reduction is not None:
            one_of(self.who, "reduction", reduction, REDUCTIONS)
        super().__init__(
            name=string(self.who, "name", name),
            reduction=reduction,
            dtype=at_least_float32(policy.compute_dtype),
        )

    # What the loss takes from the model: scores of classes `(batch,
    # num_classes)`, or embeddings.
    scores_classes = False
    compares_embeddings = False
    # Whether it accepts the scores of a head that samples classes.
    weighs_sampled_classes = False

    def check_output(self, y_true: Tensor, y_pred: Tensor) -> None:
        """Raises if the model's output cannot be one of this loss.

        Args:
            y_true: The labels, in any form.
            y_pred: The output, of any kind.
        """
        refuse_no_floats(self.who, "y_pred", y_pred)
        if len(shape_of(y_pred)) < 2 <= len(shape_of(y_true)):
            raise ValueError(
                f"{self.who}: y_pred must be the output of a model, (batch, "
                f"...), received the shape {shape_of(y_pred)}, and y_true of "
                f"the shape {shape_of(y_true)}. A loss of Keras takes the "
                "labels first: loss(labels, output)."
            )

    @property
    def who(self) -> str:
        """The name of this loss in error messages."""
        return type(self).__name__

    def __repr__(self) -> str:
        return shown_with_arguments(self)


def shape_of(values: Any) -> tuple[int | None, ...]:
    """The shape of a tensor of known rank, or of what NumPy makes an array."""
    return tuple(values.shape if hasattr(values, "shape") else np.shape(values))

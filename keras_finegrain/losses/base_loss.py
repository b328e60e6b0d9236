"""What all losses of this package have in common."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_finegrain._base.arrays import concrete
from keras_finegrain._base.checks import (
    float_policy,
    one_of,
    real_array,
    refuse_no_floats,
    string,
)
from keras_finegrain._base.private_keras import in_symbolic_scope
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

# The cosine 1 after the rounding of a bfloat16.
ROUNDED_ONE = 1.0 + 2.0**-6


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
    # Whether those scores are cosines in [-1, 1], which the loss scales.
    takes_cosines = False
    # Whether those scores are logarithms of densities, of `GaussianMixture`.
    takes_densities = False
    # Whether those scores are logits, which the loss takes the softmax of.
    takes_logits = False
    # Whether values on an accelerator were looked at.
    _has_read = False
    # Whether it accepts the scores of a head that samples classes.
    weighs_sampled_classes = False

    def checked_output(self, y_true: Any, y_pred: Any) -> Tensor:
        """The model's output as a tensor, if it can be one of this loss.

        Args:
            y_true: The labels, in any form.
            y_pred: The output, of any kind.

        Raises:
            ValueError: If labels or output are missing or empty, or the output
                holds no real numbers or, where it can be read, no cosines.
        """
        who = self.who
        if y_true is None:
            raise ValueError(
                f"{who}: y_true must be labels, received None. Give `fit` "
                "labels beside the inputs, or this output no loss."
            )
        if not hasattr(y_pred, "dtype"):
            y_pred = real_array(who, "y_pred", y_pred)
        refuse_no_floats(who, "y_pred", y_pred)
        y_pred = ops.convert_to_tensor(y_pred)
        shape, labels_shape = shape_of(y_pred), shape_of(y_true)
        if len(shape) < 2:
            raise ValueError(
                f"{who}: y_pred must be the output of a model, (batch, ...), "
                f"received the shape {shape}, and y_true of the shape "
                f"{labels_shape}. A loss of Keras takes the labels first: "
                "loss(labels, output)."
            )
        if 0 in shape:
            raise ValueError(
                f"{who}: y_pred must hold at least one sample, received the "
                f"shape {shape}. Leave empty batches out."
            )
        if self.takes_cosines and self.may_read(y_pred):
            refuse_no_cosines(who, y_pred)
        return y_pred

    def may_read(self, tensor: Any) -> bool:
        """Whether to look at a tensor's values, where it has any.

        Reading from an accelerator waits for it: once is enough there. What
        Keras builds a model with is made up.
        """
        if in_symbolic_scope():
            return False
        device = str(getattr(tensor, "device", "cpu")).lower()
        if "cpu" in device:
            return True
        first, self._has_read = not self._has_read, True
        return first

    @property
    def who(self) -> str:
        """The name of this loss in error messages."""
        return type(self).__name__

    def __repr__(self) -> str:
        return shown_with_arguments(self)


def refuse_no_cosines(who: str, y_pred: Tensor) -> None:
    """Raises if outputs whose values can be read are no cosines.

    (In a compiled step `keras_finegrain.Model` knows them by their layer.)
    """
    largest = concrete(ops.max(ops.abs(y_pred)))
    if largest is not None and ROUNDED_ONE < largest < float("inf"):
        raise ValueError(
            f"{who}: y_pred must be cosines in [-1, 1], received values of up "
            f"to {float(largest):.4g}. End the model with "
            "keras_finegrain.CosineSimilarity, or take a cross-entropy of "
            "Keras for the logits of a Dense layer."
        )


def shape_of(values: Any) -> tuple[int | None, ...]:
    """The shape of a tensor of known rank, or of what NumPy makes an array."""
    return tuple(values.shape if hasattr(values, "shape") else np.shape(values))

"""What all losses of this package have in common."""

from typing import Any

import keras
from keras import ops

from keras_finegrain._base.arrays import is_dense
from keras_finegrain._base.representation import shown_with_arguments
from keras_finegrain._base.typing import Tensor
from keras_finegrain._ops.numerics import at_least_float32


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
        policy = keras.dtype_policies.get(dtype or keras.config.floatx())
        super().__init__(
            name=name,
            reduction=reduction,
            dtype=at_least_float32(policy.compute_dtype),
        )

    # What the loss takes from the model: scores of classes `(batch,
    # num_classes)`, or embeddings.
    scores_classes = False
    compares_embeddings = False
    # Whether it accepts the scores of a head that samples classes.
    weighs_sampled_classes = False

    def output_tensor(self, y_pred: Any) -> Tensor:
        """What the model gave, as a tensor.

        Args:
            y_pred: Scores or embeddings of the samples of a batch.

        Raises:
            ValueError: If they are `None`, ragged, sparse or of no sample.
        """
        if y_pred is None or not is_dense(y_pred):
            raise ValueError(
                f"{self.who}: y_pred must be a dense tensor, received "
                f"{'None' if y_pred is None else type(y_pred).__name__}. Give "
                "the model's output."
            )
        y_pred = ops.convert_to_tensor(y_pred)
        if 0 in y_pred.shape:
            raise ValueError(
                f"{self.who}: y_pred must hold at least one sample, received "
                f"the shape {tuple(y_pred.shape)}. Leave empty batches out."
            )
        return y_pred

    @property
    def who(self) -> str:
        """The name of this loss in error messages."""
        return type(self).__name__

    def __repr__(self) -> str:
        return shown_with_arguments(self)

"""Logit adjustment: a cross-entropy that knows how frequent classes are."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_finegrain._base.checks import number
from keras_finegrain._base.typing import Tensor
from keras_finegrain.losses.class_similarity import ClassSimilarityLoss, Target
from keras_finegrain.losses.class_size_margins import class_sizes


@keras.saving.register_keras_serializable(package="keras_finegrain")
class LogitAdjustedLoss(ClassSimilarityLoss):
    """Cross-entropy of logits plus the logarithm of the class frequencies.

    With the logits z of a `keras.layers.Dense(num_classes)` and the share π_c
    of class c among the training samples,

        ℓ = −log( e^{z_y + τ log π_y} / Σ_c e^{z_c + τ log π_c} )

    The added term explains how frequent a class is, so that the logits need
    not: the model is used as it is, without the term, and treats rare classes
    as frequent ones. It lowers the error that is averaged over classes, and
    not that over the samples of a test set with the same long tail.

    Args:
        class_counts: Training samples of each class, at least 1 each, in the
            order of the labels.
        tau: τ, at least 0. Default 1, the paper's. With 0 it is the plain
            cross-entropy.
        name: Name of the loss.
        **kwargs: `reduction` and `dtype` of `keras.losses.Loss`.

    Call arguments:
        y_true: Integers `(batch,)` or `(batch, 1)` in `[0, num_classes)`, or
            one-hot labels `(batch, num_classes)`, soft ones included.
        y_pred: Logits `(batch, num_classes)`, without a softmax.
        sample_weight: Weights `(batch,)`. Weights by class size in addition
            would count the sizes twice.

    Raises:
        ValueError: For an argument out of its range, for counts of another
            number of classes, for labels of another shape, and for labels
            outside of the classes. In a compiled step, where values cannot be
            read, such a label makes the loss NaN.

    Example:

    >>> loss = keras_finegrain.losses.LogitAdjustedLoss(class_counts=[90, 10])
    >>> logits = np.zeros((1, 2), "float32")
    >>> print(round(float(loss(np.array([1]), logits)), 4))  # −log 0.1
    2.3026

    Reference:
        - [Menon et al., "Long-tail learning via logit adjustment", ICLR 2021,
          equation 10](https://arxiv.org/abs/2007.07314)
    """

    takes_logits = True

    def __init__(
        self,
        class_counts: Sequence[int],
        tau: float = 1.0,
        name: str = "logit_adjusted_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        sizes = class_sizes(self.who, "class_counts", class_counts)
        self.class_counts = tuple(sizes.tolist())
        self.tau = number(self.who, "tau", tau, at_least=0)
        self._adjustment = self.tau * np.log(sizes / sizes.sum())

    def loss_of(self, target: Target, similarities: Tensor) -> Tensor:
        """The loss of each sample `(batch,)`."""
        num_classes = similarities.shape[-1]
        if len(self.class_counts) != num_classes:
            raise ValueError(
                f"{self.who}: class_counts must be one for each of the "
                f"{num_classes} classes, received {len(self.class_counts)}. "
                "Count the labels of all training samples."
            )
        logits = similarities + ops.convert_to_tensor(
            self._adjustment, similarities.dtype
        )
        return ops.logsumexp(logits, axis=-1) - target.average(logits)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "class_counts": self.class_counts,
            "tau": self.tau,
        }

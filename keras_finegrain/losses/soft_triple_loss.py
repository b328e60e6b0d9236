"""The loss of SoftTriple: a cross-entropy of similarities with a margin."""

from typing import Any

import keras
from keras import ops

from keras_finegrain._checks import number
from keras_finegrain._math import at_least_float32
from keras_finegrain._typing import Tensor
from keras_finegrain.labels import (
    check_range,
    current_scope,
    in_range,
    to_range,
)


def margin_crossentropy(
    similarities: Tensor,
    target: Tensor,
    scale: float,
    margin: float,
    log_weights: Tensor | float = 0.0,
) -> Tensor:
    """Cross-entropy of λ(S − δ·target) (Qian et al. 2019, equation 7).

    Args:
        similarities: S `(batch, num_classes)`.
        target: One-hot (or soft) labels `(batch, num_classes)`, same dtype.
        scale: λ.
        margin: δ.
        log_weights: The logarithm of how many classes each stands for
            `(num_classes,)`, where a part of them was scored.

    Returns:
        Tensor `(batch,)`.
    """
    logits = scale * (similarities - margin * target) + log_weights
    return ops.logsumexp(logits, axis=-1) * ops.sum(target, axis=-1) - ops.sum(
        target * logits, axis=-1
    )


@keras.saving.register_keras_serializable(package="keras_finegrain")
class SoftTripleLoss(keras.losses.Loss):
    """Cross-entropy of scaled similarities, the true class held to a margin.

    With the similarities S of `keras_finegrain.SoftTriple`,

        ℓ = −log( e^{λ(S_y − δ)} / (e^{λ(S_y − δ)} + Σ_{c≠y} e^{λ S_c}) )

    Args:
        scale: λ > 0. Default 20, the paper's. Similarities lie in [-1, 1], so
            that without it no prediction could become sure.
        margin: δ, at least 0. Default 0.01, the paper's.
        reduction: As in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: As in `keras.losses.Loss`; never below float32, in which labels
            up to 2²⁴ are exact.

    Call arguments:
        y_true: Integers `(batch,)` or `(batch, 1)` in `[0, num_classes)`, or
            one-hot labels `(batch, num_classes)`, soft ones included.
        y_pred: Similarities `(batch, num_classes)` in [-1, 1].
        sample_weight: Weights `(batch,)`.

    Raises:
        ValueError: For an argument out of its range, for labels of another
            shape, and for labels outside of the classes. In a compiled step,
            where values cannot be read, such a label makes the loss NaN.

    Example:

    >>> loss = keras_finegrain.losses.SoftTripleLoss(scale=20, margin=0.01)
    >>> similarities = np.array([[0.9, 0.1], [0.2, 0.8]], "float32")
    >>> bool(loss(np.array([0, 1]), similarities) < 1e-4)
    True

    Reference:
        - [Qian et al., "SoftTriple Loss: Deep Metric Learning Without Triplet
          Sampling", ICCV 2019](https://arxiv.org/abs/1909.05235)
    """

    def __init__(
        self,
        scale: float = 20.0,
        margin: float = 0.01,
        reduction: str | None = "sum_over_batch_size",
        name: str = "soft_triple_loss",
        dtype: Any = None,
    ) -> None:
        if dtype is None or isinstance(dtype, str):
            # Keras casts `y_true` to the dtype of the loss.
            dtype = at_least_float32(dtype or keras.config.floatx())
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        who = type(self).__name__
        self.scale = number(who, "scale", scale, above=0)
        self.margin = number(who, "margin", margin, at_least=0)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The loss of each sample `(batch,)`."""
        target = one_hot_target(type(self).__name__, y_true, y_pred)
        scope = current_scope()
        log_weights: Tensor | float = 0.0
        if scope is not None and scope.sampled is not None:
            log_weights = ops.cast(scope.sampled.log_weights, y_pred.dtype)
        return margin_crossentropy(
            y_pred, target, self.scale, self.margin, log_weights
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "scale": self.scale,
            "margin": self.margin,
        }


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

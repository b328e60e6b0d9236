"""Proxy-Anchor: each class's proxy against the batch."""

from typing import Any

import keras
from keras import ops

from keras_finegrain._base.checks import number
from keras_finegrain._base.typing import Tensor
from keras_finegrain._ops.numerics import log_one_plus_sum_exp
from keras_finegrain.losses.batch_loss import BatchLoss
from keras_finegrain.losses.class_similarity import Target, checked_labels


def proxy_anchor(
    similarities: Tensor, target: Target, scale: float, margin: float
) -> Tensor:
    """Proxy-Anchor loss (Kim et al. 2020, equation 4).

    Args:
        similarities: S `(batch, num_classes)`.
        target: The labels.
        scale: α.
        margin: δ.

    Returns:
        Scalar; NaN where a label lies outside of the classes.
    """
    own = target.is_true
    in_batch = ops.any(own, axis=0)
    pulled = log_one_plus_sum_exp(-scale * (similarities - margin), own, axis=0)
    pushed = log_one_plus_sum_exp(
        scale * (similarities + margin), ops.logical_not(own), axis=0
    )
    num_present = ops.sum(ops.cast(in_batch, similarities.dtype))
    num_classes = similarities.shape[-1]
    loss = ops.sum(pulled) / num_present + ops.sum(pushed) / num_classes
    return ops.where(ops.all(target.valid), loss, float("nan"))


@keras.saving.register_keras_serializable(package="keras_finegrain")
class ProxyAnchorLoss(BatchLoss):
    """Each class's proxy is an anchor that pulls and pushes the whole batch.

    With the similarities S of `keras_finegrain.CosineSimilarity`, whose
    centers are the proxies, B_c the samples of class c in the batch, and P⁺
    the classes that have some,

        L = 1/|P⁺| Σ_{c∈P⁺} log(1 + Σ_{i∈B_c} e^{−α(S_ic − δ)})
          + 1/C    Σ_c      log(1 + Σ_{i∉B_c} e^{α(S_ic + δ)})

    The hardest samples of a batch weigh most, as with pairs, at the cost of a
    classifier. The paper gives the proxies a hundred times the learning rate
    of the backbone (`keras_finegrain.optimizers.LayerwiseLearningRate`).

    On several replicas the batch is the global one: the similarities are
    gathered, and the loss and its gradient are one device's.

    Args:
        scale: α > 0. Default 32, the paper's.
        margin: δ, at least 0. Default 0.1, the paper's.
        name: Name of the loss.
        **kwargs: `reduction` and `dtype` of `keras.losses.Loss`.

    Call arguments:
        y_true: Integers `(batch,)` or `(batch, 1)` in `[0, num_classes)`, or
            one-hot labels `(batch, num_classes)`.
        y_pred: Similarities `(batch, num_classes)` in [-1, 1].

    Raises:
        ValueError: For an argument out of its range, for sample weights, for
            labels of another shape, and for labels outside of the classes. In
            a compiled step, where values cannot be read, such a label makes
            the loss NaN.

    Example:

    >>> loss = keras_finegrain.losses.ProxyAnchorLoss()
    >>> similarities = np.array([[0.9, -0.8], [-0.9, 0.8]], "float32")
    >>> bool(loss(np.array([0, 1]), similarities) < 1e-4)
    True

    Reference:
        - [Kim et al., "Proxy Anchor Loss for Deep Metric Learning", CVPR
          2020](https://arxiv.org/abs/2003.13911)
    """

    scores_classes = True
    takes_cosines = True

    def __init__(
        self,
        scale: float = 32.0,
        margin: float = 0.1,
        name: str = "proxy_anchor_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.scale = number(self.who, "scale", scale, above=0)
        self.margin = number(self.who, "margin", margin, at_least=0)

    def loss_of_batch(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """L of the global batch, a scalar."""
        y_true = checked_labels(self.who, y_true, y_pred)
        target = Target.of(y_true, y_pred)
        return proxy_anchor(y_pred, target, self.scale, self.margin)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "scale": self.scale,
            "margin": self.margin,
        }

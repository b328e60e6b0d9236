"""Proxy-NCA: neighbourhood components with class proxies."""

from typing import Any

import keras
from keras import ops

from keras_finegrain._base.checks import number
from keras_finegrain._base.typing import Tensor
from keras_finegrain.losses.class_similarity import ClassSimilarityLoss, Target
from keras_finegrain.losses.margin_softmax import log_sum_of_others


@keras.saving.register_keras_serializable(package="keras_finegrain")
class ProxyNCALoss(ClassSimilarityLoss):
    """Proxy-NCA: nearer to the own class's proxy than to all others.

    With the similarities S of `keras_finegrain.CosineSimilarity`, whose
    centers are the proxies p, and ‖x − p_c‖² = 2 − 2 S_c on the unit sphere,

        ℓ = −log( e^{−s‖x − p_y‖²} / Σ_{c≠y} e^{−s‖x − p_c‖²} )

    The denominator leaves the own class out, so ℓ can be negative.
    `ProxyNCAPlusPlusLoss` includes it.

    Args:
        scale: s > 0. Default 1, the paper's.
        name: Name of the loss.
        **kwargs: `reduction` and `dtype` of `keras.losses.Loss`.

    Call arguments:
        y_true: Integers `(batch,)` or `(batch, 1)` in `[0, num_classes)`, or
            one-hot or soft labels `(batch, num_classes)`: the loss of a
            mixture is the mixture of the losses.
        y_pred: Similarities `(batch, num_classes)` in [-1, 1], of at least two
            classes.
        sample_weight: Weights `(batch,)`.

    Raises:
        ValueError: For an argument out of its range, for labels of another
            shape, and for labels outside of the classes. In a compiled step,
            where values cannot be read, such a label makes the loss NaN.

    Example:

    >>> loss = keras_finegrain.losses.ProxyNCALoss()
    >>> similarities = np.array([[1.0, -1.0]], "float32")
    >>> print(round(float(loss(np.array([0]), similarities)), 3))
    -4.0

    Reference:
        - [Movshovitz-Attias et al., "No Fuss Distance Metric Learning using
          Proxies", ICCV 2017](https://arxiv.org/abs/1703.07464)
    """

    takes_cosines = True

    def __init__(
        self, scale: float = 1.0, name: str = "proxy_nca_loss", **kwargs: Any
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.scale = number(self.who, "scale", scale, above=0)

    def loss_of(self, target: Target, similarities: Tensor) -> Tensor:
        """The loss of each sample `(batch,)`."""
        # −s(2 − 2S) up to a constant, which cancels.
        logits = 2.0 * self.scale * similarities
        if target.shares is not None:
            return target.average(log_sum_of_others(logits) - logits)
        others = ops.where(target.is_true, -float("inf"), logits)
        log_sum = ops.logsumexp(others, axis=-1)
        return log_sum - target.average(logits)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "scale": self.scale}

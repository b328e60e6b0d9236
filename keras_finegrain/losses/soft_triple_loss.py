"""The loss of SoftTriple: a cross-entropy of similarities with a margin."""

from typing import Any

import keras

from keras_finegrain._base.checks import number_or_numbers
from keras_finegrain._base.typing import Tensor
from keras_finegrain.losses.margin_softmax import (
    Margin,
    MarginSoftmaxLoss,
    OfTrueClass,
    one_for_all,
)


@keras.saving.register_keras_serializable(package="keras_finegrain")
class SoftTripleLoss(MarginSoftmaxLoss):
    """Cross-entropy of scaled similarities, the true class held to a margin.

    With the similarities S of `keras_finegrain.SoftTriple`,

        ℓ = −log( e^{λ(S_y − δ)} / (e^{λ(S_y − δ)} + Σ_{c≠y} e^{λ S_c}) )

    Args:
        scale: λ > 0. Default 20, the paper's. Similarities lie in [-1, 1], so
            that without it no prediction could become sure.
        margin: δ, at least 0. Default 0.01, the paper's.
        name: Name of the loss.
        **kwargs: `reduction` and `dtype` of `keras.losses.Loss`.

    Call arguments:
        y_true: Integers `(batch,)` or `(batch, 1)` in `[0, num_classes)`, or
            one-hot or soft labels `(batch, num_classes)`: the loss of a
            mixture is the mixture of the losses.
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
        margin: Margin = 0.01,
        name: str = "soft_triple_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(scale, name, **kwargs)
        self.margin = number_or_numbers(self.who, "margin", margin, at_least=0)

    def with_margin(
        self, cosine: Tensor, of_class: OfTrueClass = one_for_all
    ) -> Tensor:
        """S_y − δ."""
        return cosine - of_class(self.margin)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "margin": self.margin}

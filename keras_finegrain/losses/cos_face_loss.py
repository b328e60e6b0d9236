"""CosFace: a margin that is subtracted from the true class's cosine."""

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
class CosFaceLoss(MarginSoftmaxLoss):
    """Large margin cosine loss (LMCL, also AM-softmax).

    With the similarities S of `keras_finegrain.CosineSimilarity`,

        ℓ = −log( e^{s(S_y − m)} / (e^{s(S_y − m)} + Σ_{c≠y} e^{s S_c}) )

    Args:
        scale: s > 0. Default 64, the paper's. Fewer classes need less: from
            16 for some tens of classes.
        margin: m in [0, 2), subtracted from the cosine. Default 0.35, the
            paper's.
            A sequence of one for each class holds small classes to a larger
            margin: see `losses.class_size_margins`.
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

    >>> loss = keras_finegrain.losses.CosFaceLoss(scale=20, margin=0.35)
    >>> similarities = np.array([[0.9, 0.1], [0.2, 0.8]], "float32")
    >>> bool(loss(np.array([0, 1]), similarities) < 0.01)
    True

    Reference:
        - [Wang et al., "CosFace: Large Margin Cosine Loss for Deep Face
          Recognition", CVPR 2018](https://arxiv.org/abs/1801.09414)
    """

    def __init__(
        self,
        scale: float = 64.0,
        margin: Margin = 0.35,
        name: str = "cos_face_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(scale, name, **kwargs)
        self.margin = number_or_numbers(
            self.who, "margin", margin, at_least=0, below=2
        )

    def with_margin(
        self, cosine: Tensor, of_class: OfTrueClass = one_for_all
    ) -> Tensor:
        """S_y − m."""
        return cosine - of_class(self.margin)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "margin": self.margin}

"""Center contrastive loss: a margin softmax that also pulls to the center."""

from typing import Any

import keras

from keras_finegrain._base.checks import number
from keras_finegrain._base.typing import Tensor
from keras_finegrain.losses.cos_face_loss import CosFaceLoss


@keras.saving.register_keras_serializable(package="keras_finegrain")
class CenterContrastiveLoss(CosFaceLoss):
    """Contrast with all class centers, and the distance to the own one.

    With the similarities S of `keras_finegrain.CosineSimilarity`, whose
    centers are the paper's center bank,

        ℓ = −log( e^{s(S_y − m)} / (e^{s(S_y − m)} + Σ_{c≠y} e^{s S_c}) )
            + λ ‖x − w_y‖²

    where ‖x − w_y‖² = 2 − 2 S_y on the unit sphere.

    Args:
        scale: s > 0. Default 20, ours: as for `NormFaceLoss`.
        margin: m in [0, 2), subtracted from the cosine. Default 0.1, ours.
        center_weight: λ, at least 0. Default 1, ours; 0 makes it CosFace.
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

    >>> loss = keras_finegrain.losses.CenterContrastiveLoss()
    >>> similarities = np.array([[1.0, 0.0], [0.0, 1.0]], "float32")
    >>> bool(loss(np.array([0, 1]), similarities) < 1e-4)
    True

    Reference:
        - [Cai et al., "Center Contrastive Loss for Metric Learning", 2023](
          https://arxiv.org/abs/2308.00458)
    """

    def __init__(
        self,
        scale: float = 20.0,
        margin: float = 0.1,
        center_weight: float = 1.0,
        name: str = "center_contrastive_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(scale, margin, name, **kwargs)
        self.center_weight = number(
            self.who, "center_weight", center_weight, at_least=0
        )

    def added_loss(self, cosine: Tensor) -> Tensor:
        """λ ‖x − w_y‖² = λ (2 − 2 S_y)."""
        return self.center_weight * (2.0 - 2.0 * cosine)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "center_weight": self.center_weight}

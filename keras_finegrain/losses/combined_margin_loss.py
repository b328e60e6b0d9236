"""All three margins at once: on the angle, by a factor, and on the cosine."""

import math
from typing import Any

import keras
from keras import ops

from keras_finegrain._base.checks import number, number_or_numbers
from keras_finegrain._base.typing import Tensor
from keras_finegrain._ops.numerics import sine
from keras_finegrain.losses.margin_softmax import (
    Margin,
    MarginSoftmaxLoss,
    OfTrueClass,
    one_for_all,
)


def combined_angular_margin(
    cosine: Tensor, multiplied: float, added: Tensor | float
) -> Tensor:
    """cos(m₁θ + m₂), continued beyond π so that it goes on to fall.

        ψ = (−1)^k cos φ − 2k      for φ = m₁θ + m₂ in [kπ, (k+1)π]

    Args:
        cosine: cos θ, tensor of any shape.
        multiplied: m₁.
        added: m₂ in radians, a number or `(batch,)`.

    Returns:
        Tensor of the same shape; its gradient is finite at ±1.
    """
    # The angle by sine and cosine: `arccos` has no finite gradient at ±1.
    # (Keras computes the angle of a float64 in float32 on JAX and PyTorch.)
    angle = multiplied * ops.arctan2(sine(cosine), cosine) + added
    k = ops.stop_gradient(ops.floor(angle / math.pi))
    sign = 1.0 - 2.0 * ops.mod(k, 2.0)
    return ops.cast(sign * ops.cos(angle) - 2.0 * k, cosine.dtype)


@keras.saving.register_keras_serializable(package="keras_finegrain")
class CombinedMarginLoss(MarginSoftmaxLoss):
    """The combined margin of SphereFace, ArcFace and CosFace.

    With the similarities S_c = cos θ_c of `keras_finegrain.CosineSimilarity`,

        ℓ = −log( e^{s ψ} / (e^{s ψ} + Σ_{c≠y} e^{s cos θ_c}) )
        ψ = cos(m₁ θ_y + m₂) − m₃

    Where m₁θ + m₂ is more than π the cosine would rise again; it goes on as
    SphereFace's does, −2 − cos(m₁θ + m₂), and so on at every further π.
    (1, 0, 0) is NormFace, (1, 0, m) CosFace, (m, 0, 0) SphereFace, and
    (1, m, 0) is ArcFace up to θ = π − m.

    Args:
        scale: s > 0. Default 64, that of the ArcFace paper.
        angle_factor: m₁, above 0. Default 1. Below 1 it is no margin: it takes
            an m₂ or m₃ that outweighs it.
        angle_margin: m₂ in radians, in [0, π/2]. Default 0.3.
        cosine_margin: m₃ in [0, 2). Default 0.2. The three defaults are the
            ArcFace paper's first combination, CM1; its other one is
            (0.9, 0.4, 0.15). `angle_margin` and `cosine_margin` may be
            sequences of one for each class: see `losses.class_size_margins`.
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

    >>> loss = keras_finegrain.losses.CombinedMarginLoss(
    ...     scale=1, angle_factor=1, angle_margin=0, cosine_margin=1
    ... )
    >>> similarities = np.array([[0.0, 0.0]], "float32")  # ψ = −1
    >>> print(round(float(loss(np.array([0]), similarities)), 4))
    1.3133

    Reference:
        - [Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face
          Recognition", CVPR 2019, equation 4](
          https://arxiv.org/abs/1801.07698)
    """

    def __init__(
        self,
        scale: float = 64.0,
        angle_factor: float = 1.0,
        angle_margin: Margin = 0.3,
        cosine_margin: Margin = 0.2,
        name: str = "combined_margin_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(scale, name, **kwargs)
        who = self.who
        self.angle_factor = number(who, "angle_factor", angle_factor, above=0)
        self.angle_margin = number_or_numbers(
            who, "angle_margin", angle_margin, at_least=0, at_most=math.pi / 2
        )
        self.cosine_margin = number_or_numbers(
            who, "cosine_margin", cosine_margin, at_least=0, below=2
        )

    def with_margin(
        self, cosine: Tensor, of_class: OfTrueClass = one_for_all
    ) -> Tensor:
        """cos(m₁ θ_y + m₂) − m₃."""
        turned = combined_angular_margin(
            cosine, self.angle_factor, of_class(self.angle_margin)
        )
        return turned - of_class(self.cosine_margin)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "angle_factor": self.angle_factor,
            "angle_margin": self.angle_margin,
            "cosine_margin": self.cosine_margin,
        }

"""ArcFace: a margin that is added to the true class's angle."""

import math
from typing import Any

import keras
from keras import ops

from keras_finegrain._base.checks import number_or_numbers
from keras_finegrain._base.typing import Tensor
from keras_finegrain._ops.numerics import sine
from keras_finegrain.losses.margin_softmax import (
    Margin,
    MarginSoftmaxLoss,
    OfTrueClass,
    of_each,
    one_for_all,
)


def additive_angular_margin(
    cosine: Tensor, margin: Margin, of_class: OfTrueClass = one_for_all
) -> Tensor:
    """cos(θ + m), and below it where θ + m is more than π.

        ψ = cos θ cos m − sin θ sin m      for θ ≤ π − m
        ψ = cos θ − m sin m                beyond

    Beyond π the cosine would rise again, and reward an embedding for turning
    away from its class.

    Args:
        cosine: cos θ, tensor of any shape.
        margin: m in radians.
        of_class: Chooses the true class's number.

    Returns:
        Tensor of the same shape. It falls with θ over all of [0, π] for a
        margin of up to π/2, and its gradient is finite at ±1.
    """
    # (By Python: Keras has a float64's functions in float32 on some backends.)
    along = of_class(of_each(math.cos, margin))
    across = of_class(of_each(math.sin, margin))
    turned = cosine * along - sine(cosine) * across
    beyond = cosine - of_class(of_each(lambda m: m * math.sin(m), margin))
    return ops.where(cosine >= -along, turned, beyond)


@keras.saving.register_keras_serializable(package="keras_finegrain")
class ArcFaceLoss(MarginSoftmaxLoss):
    """Additive angular margin loss.

    With the similarities S_c = cos θ_c of `keras_finegrain.CosineSimilarity`,

        ℓ = −log( e^{s ψ} / (e^{s ψ} + Σ_{c≠y} e^{s cos θ_c}) )
        ψ = cos(θ_y + m)

    and ψ = cos θ_y − m sin m where θ_y + m is more than π. On a head with
    several centers for each class and `pooling="max"` it is sub-center
    ArcFace.

    Args:
        scale: s > 0. Default 64, the paper's. Fewer classes need less: from
            16 for some tens of classes.
        margin: m in radians, in [0, π/2]. Default 0.5, the paper's; 28.6
            degrees.
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

    >>> head = keras_finegrain.CosineSimilarity(
    ...     num_classes=5, centers_per_class=3
    ... )
    >>> model = keras_finegrain.Sequential([keras.Input((8,)), head])
    >>> model.compile(
    ...     "adam", keras_finegrain.losses.ArcFaceLoss(scale=16, margin=0.3)
    ... )
    >>> history = model.fit(np.ones((5, 8)), np.arange(5), verbose=0)

    Reference:
        - [Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face
          Recognition", CVPR 2019](https://arxiv.org/abs/1801.07698)
    """

    def __init__(
        self,
        scale: float = 64.0,
        margin: Margin = 0.5,
        name: str = "arc_face_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(scale, name, **kwargs)
        self.margin = number_or_numbers(
            self.who, "margin", margin, at_least=0, at_most=math.pi / 2
        )

    def with_margin(
        self, cosine: Tensor, of_class: OfTrueClass = one_for_all
    ) -> Tensor:
        """cos(θ_y + m)."""
        return additive_angular_margin(cosine, self.margin, of_class)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "margin": self.margin}

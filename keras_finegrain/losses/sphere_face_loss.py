"""SphereFace: a margin that multiplies the true class's angle."""

import math
from typing import Any

import keras
from keras import ops

from keras_finegrain._base.checks import positive_integer
from keras_finegrain._base.typing import Tensor
from keras_finegrain.losses.margin_softmax import (
    MarginSoftmaxLoss,
    OfTrueClass,
    one_for_all,
)

# ψ is summed in as many steps, and ends at 1 − 2m: at 4 and a scale of 30 a
# sample on the other side of the sphere has a loss of 240 already.
LARGEST_MARGIN = 64


def multiplicative_angular_margin(cosine: Tensor, margin: int) -> Tensor:
    """(−1)^k cos(mθ) − 2k for θ in [kπ/m, (k+1)π/m] (Liu et al. 2017, eq. 6).

    cos(mθ) is the Chebyshev polynomial T_m of cos θ, and k the number of the
    bounds cos(jπ/m) below which cos θ has fallen: no angle is computed, and
    the gradient is finite everywhere.

    Args:
        cosine: cos θ, tensor of any shape.
        margin: m, an integer of at least 1.

    Returns:
        Tensor of the same shape; it falls with θ over all of [0, π].
    """
    # T_0 = 1, T_1 = c, T_m = 2c T_{m−1} − T_{m−2}.
    before, multiplied = ops.ones_like(cosine), cosine
    for _ in range(margin - 1):
        before, multiplied = multiplied, 2.0 * cosine * multiplied - before
    k = ops.zeros_like(cosine)
    for j in range(1, margin):
        below = cosine < math.cos(j * math.pi / margin)
        k = k + ops.cast(below, cosine.dtype)
    # k counts comparisons: its own gradient is 0.
    k = ops.stop_gradient(k)
    sign = 1.0 - 2.0 * ops.cast(ops.mod(k, 2.0), cosine.dtype)
    return sign * multiplied - 2.0 * k


@keras.saving.register_keras_serializable(package="keras_finegrain")
class SphereFaceLoss(MarginSoftmaxLoss):
    """A-softmax: a multiplicative angular margin, on the unit sphere.

    With the similarities S_c = cos θ_c of `keras_finegrain.CosineSimilarity`,

        ℓ = −log( e^{s ψ} / (e^{s ψ} + Σ_{c≠y} e^{s cos θ_c}) )
        ψ = (−1)^k cos(m θ_y) − 2k      for θ_y in [kπ/m, (k+1)π/m]

    The paper leaves embeddings their own length, in the place of s; on the
    sphere it is one number for all, as in its revision of 2021. A whole
    margin asks much of a network that starts at random: begin with
    `margin=2`, or train with `NormFaceLoss` first.

    Args:
        scale: s > 0. Default 30, that of the revision.
        margin: m, an integer in [1, 64]. Default 4, the paper's; 1 is no
            margin.
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

    >>> loss = keras_finegrain.losses.SphereFaceLoss(scale=1, margin=2)
    >>> similarities = np.array([[0.0, 0.0]], "float32")  # 90 degrees
    >>> print(round(float(loss(np.array([0]), similarities)), 4))  # ψ = −1
    1.3133

    Reference:
        - [Liu et al., "SphereFace: Deep Hypersphere Embedding for Face
          Recognition", CVPR 2017](https://arxiv.org/abs/1704.08063)
        - [Liu et al., "SphereFace Revived", TPAMI 2022](
          https://arxiv.org/abs/2109.05565)
    """

    def __init__(
        self,
        scale: float = 30.0,
        margin: int = 4,
        name: str = "sphere_face_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(scale, name, **kwargs)
        self.margin = positive_integer(self.who, "margin", margin)
        if self.margin > LARGEST_MARGIN:
            raise ValueError(
                f"{self.who}: margin must be at most {LARGEST_MARGIN}, "
                f"received {margin!r}. The paper takes 1 to 4."
            )

    def with_margin(
        self, cosine: Tensor, of_class: OfTrueClass = one_for_all
    ) -> Tensor:
        """(−1)^k cos(m θ_y) − 2k."""
        return multiplicative_angular_margin(cosine, self.margin)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "margin": self.margin}

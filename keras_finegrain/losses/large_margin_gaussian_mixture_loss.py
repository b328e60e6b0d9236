"""L-GM: a margin on distances, and the likelihood of the own class."""

from typing import Any

import keras

from keras_finegrain._base.checks import number
from keras_finegrain._base.typing import Tensor
from keras_finegrain.losses.class_similarity import ClassSimilarityLoss, Target
from keras_finegrain.losses.margin_softmax import (
    crossentropy_of_each_class,
    margin_crossentropy,
)


@keras.saving.register_keras_serializable(package="keras_finegrain")
class LargeMarginGaussianMixtureLoss(ClassSimilarityLoss):
    """Large-margin Gaussian mixture (L-GM) loss.

    With the scores z_c = −d_c, d_c = ½ ‖x − μ_c‖², of
    `keras_finegrain.layers.GaussianMixture`,

        ℓ = −log( e^{−(1+α) d_y} / (e^{−(1+α) d_y} + Σ_{c≠y} e^{−d_c}) ) + λ d_y

    The margin asks that the own mean be nearer than the others by the factor
    1 + α; the likelihood λ d_y, the center loss with trained centers, keeps
    embeddings at the mean of their class.

    Args:
        margin: α, at least 0. Default 0.1, where the official code begins; it
            grows to 0.3.
        likelihood_weight: λ, at least 0. Default 0.01.
        name: Name of the loss.
        **kwargs: `reduction` and `dtype` of `keras.losses.Loss`.

    Call arguments:
        y_true: Integers `(batch,)` or `(batch, 1)` in `[0, num_classes)`, or
            one-hot or soft labels `(batch, num_classes)`: the loss of a
            mixture is the mixture of the losses.
        y_pred: Scores `(batch, num_classes)` of at most 0.
        sample_weight: Weights `(batch,)`.

    Raises:
        ValueError: For an argument out of its range, for labels of another
            shape, and for labels outside of the classes. In a compiled step,
            where values cannot be read, such a label makes the loss NaN.

    Example:

    >>> loss = keras_finegrain.losses.LargeMarginGaussianMixtureLoss(
    ...     margin=1.0, likelihood_weight=0.5
    ... )
    >>> scores = np.array([[-1.0, -2.0]], "float32")  # −2 and −2, and 0.5
    >>> print(round(float(loss(np.array([0]), scores)), 4))
    1.1931

    Reference:
        - [Wan et al., "Rethinking Feature Distribution for Loss Functions in
          Image Classification", CVPR 2018, equations 11 to 13](
          https://arxiv.org/abs/1803.02988)
    """

    takes_densities = True

    def __init__(
        self,
        margin: float = 0.1,
        likelihood_weight: float = 0.01,
        name: str = "large_margin_gaussian_mixture_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        who = self.who
        self.margin = number(who, "margin", margin, at_least=0)
        self.likelihood_weight = number(
            who, "likelihood_weight", likelihood_weight, at_least=0
        )

    def loss_of(self, target: Target, similarities: Tensor) -> Tensor:
        """The loss of each sample `(batch,)`."""
        factor = 1.0 + self.margin
        if target.shares is not None:
            each = crossentropy_of_each_class(
                similarities, factor * similarities, scale=1.0
            )
            crossentropy = target.average(each)
        else:
            own = factor * target.at_true(similarities)
            crossentropy = margin_crossentropy(
                similarities, target, own, scale=1.0
            )
        return crossentropy - self.likelihood_weight * target.average(
            similarities
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "margin": self.margin,
            "likelihood_weight": self.likelihood_weight,
        }

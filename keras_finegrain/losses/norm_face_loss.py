"""NormFace: the softmax of scaled cosines, without a margin."""

from typing import Any

import keras

from keras_finegrain._base.typing import Tensor
from keras_finegrain.losses.margin_softmax import (
    MarginSoftmaxLoss,
    OfTrueClass,
    one_for_all,
)


@keras.saving.register_keras_serializable(package="keras_finegrain")
class NormFaceLoss(MarginSoftmaxLoss):
    """Normalised softmax: cross-entropy of scaled cosines.

    With the similarities S of `keras_finegrain.CosineSimilarity`,

        ℓ = −log( e^{s S_y} / Σ_c e^{s S_c} )

    The plain softmax classifier with embeddings and centers of unit length,
    and the point from which every margin starts.

    Args:
        scale: s > 0. Default 20, the temperature 0.05 of Zhai & Wu. Cosines
            lie in [-1, 1]: without a scale no prediction could become sure.
            The lowest loss at which C classes can be fitted falls with it.
        name: Name of the loss.
        **kwargs: `reduction` and `dtype` of `keras.losses.Loss`.

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

    >>> loss = keras_finegrain.losses.NormFaceLoss(scale=20)
    >>> similarities = np.array([[0.9, 0.1], [0.2, 0.8]], "float32")
    >>> bool(loss(np.array([0, 1]), similarities) < 1e-4)
    True

    Reference:
        - [Wang et al., "NormFace: L2 Hypersphere Embedding for Face
          Verification", ACM MM 2017](https://arxiv.org/abs/1704.06369)
        - [Zhai & Wu, "Classification is a Strong Baseline for Deep Metric
          Learning", BMVC 2019](https://arxiv.org/abs/1811.12649)
    """

    def __init__(
        self, scale: float = 20.0, name: str = "norm_face_loss", **kwargs: Any
    ) -> None:
        super().__init__(scale, name, **kwargs)

    def with_margin(
        self, cosine: Tensor, of_class: OfTrueClass = one_for_all
    ) -> Tensor:
        """S_y itself."""
        return cosine

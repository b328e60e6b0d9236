"""The cosine loss: how far the output points away from the true class."""

from typing import Any

import keras
from keras import ops

from keras_finegrain._base.typing import Tensor
from keras_finegrain._ops.numerics import unit_length
from keras_finegrain.losses.class_similarity import ClassSimilarityLoss, Target


@keras.saving.register_keras_serializable(package="keras_finegrain")
class CosineLoss(ClassSimilarityLoss):
    """1 − cosine of the output and the one-hot label: for few images.

        ℓ = 1 − ⟨t, z⟩ / (‖t‖ ‖z‖)

    z is the output of a plain `keras.layers.Dense(num_classes)`, without a
    softmax: its axes are the classes. A cross-entropy grows without bound and
    drives logits apart for ever; this one is bounded and stops, which helps
    where a class has ten images and not a thousand. The paper adds a
    cross-entropy on a second `Dense` layer behind z, with the weight 0.1:
    give the model two outputs.

    Args:
        name: Name of the loss.
        **kwargs: `reduction` and `dtype` of `keras.losses.Loss`.

    Call arguments:
        y_true: Integers `(batch,)` or `(batch, 1)` in `[0, num_classes)`, or
            vectors t `(batch, num_classes)`: one-hot labels, or any class
            embedding, such as the paper's hierarchical ones.
        y_pred: z `(batch, num_classes)`, of any length.
        sample_weight: Weights `(batch,)`.

    Raises:
        ValueError: For labels of another shape, and for labels outside of the
            classes. In a compiled step, where values cannot be read, such a
            label makes the loss NaN.

    Example:

    >>> loss = keras_finegrain.losses.CosineLoss()
    >>> output = np.array([[5.0, 0.0], [3.0, -4.0]], "float32")
    >>> print(round(float(loss(np.array([0, 1]), output)), 4))  # (0 + 1.8) / 2
    0.9

    Reference:
        - [Barz & Denzler, "Deep Learning on Small Datasets without
          Pre-Training using Cosine Loss", WACV 2020](
          https://arxiv.org/abs/1901.09054)
    """

    def __init__(self, name: str = "cosine_loss", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    def loss_of(self, target: Target, similarities: Tensor) -> Tensor:
        """The loss of each sample `(batch,)`."""
        cosine = target.average(unit_length(similarities))
        if target.shares is None:
            return 1.0 - cosine
        length = ops.sqrt(ops.sum(ops.square(target.shares), axis=-1))
        return 1.0 - cosine / length

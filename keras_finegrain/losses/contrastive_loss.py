"""The contrastive loss, over all pairs of a batch."""

from typing import Any

import keras
from keras import ops

from keras_finegrain._base.checks import number
from keras_finegrain._base.typing import Tensor
from keras_finegrain._ops.numerics import unit_length
from keras_finegrain.losses.embedding_pairs import (
    EmbeddingLoss,
    Pairs,
    Reference,
    Term,
    mean_over_anchors,
)


@keras.saving.register_keras_serializable(package="keras_finegrain")
class ContrastiveLoss(EmbeddingLoss):
    """Pulls pairs of one class together, and others apart up to a margin.

    With d the distance of two embeddings of unit length, in [0, 2],

        L = mean over pairs of one class of  max(0, d − m⁺)^p
          + mean over pairs of two classes of max(0, m⁻ − d)^p

    Each mean is over the pairs with a term above 0, so that the many pairs that
    are far enough apart do not shrink the gradient.

    Args:
        margin: m⁻, above 0. Default 1. Random directions have d = √2.
        positive_margin: m⁺, at least 0. Default 0, the paper's.
        exponent: p, at least 1. Default 2, the paper's (which adds a factor
            of ½); 1 is that of PyTorch Metric Learning.
        name: Name of the loss.
        **kwargs: `reduction` and `dtype` of `keras.losses.Loss`.

    Call arguments:
        y_true: Integers `(batch,)` or `(batch, 1)`, or one-hot labels `(batch,
            num_classes)`.
        y_pred: Embeddings `(batch, dim)`. They are scaled to unit length here.

    Raises:
        ValueError: For an argument out of its range, for sample weights, and
            for embeddings or labels of another shape.

    Example:

    >>> loss = keras_finegrain.losses.ContrastiveLoss()
    >>> embeddings = np.array([[1.0, 0.0], [0.0, 1.0]], "float32")
    >>> print(round(float(loss(np.array([0, 0]), embeddings)), 4))  # d² = 2
    2.0

    Reference:
        - [Hadsell et al., "Dimensionality Reduction by Learning an Invariant
          Mapping", CVPR 2006](
          http://yann.lecun.com/exdb/publis/pdf/hadsell-chopra-lecun-06.pdf)
    """

    def __init__(
        self,
        margin: float = 1.0,
        positive_margin: float = 0.0,
        exponent: float = 2.0,
        name: str = "contrastive_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.margin = number(self.who, "margin", margin, above=0)
        self.positive_margin = number(
            self.who, "positive_margin", positive_margin, at_least=0
        )
        self.exponent = number(self.who, "exponent", exponent, at_least=1)

    def loss_of_pairs(
        self,
        labels: Tensor,
        embeddings: Tensor,
        reference: Reference | None = None,
    ) -> Tensor:
        """L of the global batch, a scalar."""
        if reference is not None:
            reference = reference._replace(
                embeddings=unit_length(reference.embeddings)
            )
        return mean_over_anchors(
            self._terms,
            labels,
            unit_length(embeddings),
            "L2",
            symmetric=True,
            reference=reference,
        )

    def _terms(self, pairs: Pairs) -> list[Term]:
        pulled = pairs.values - self.positive_margin
        pushed = self.margin - pairs.values
        return [
            self._power(pulled, pairs.positive, 1.0),
            self._power(pushed, pairs.negative, -1.0),
        ]

    def _power(self, violation: Tensor, kept: Tensor, sign: float) -> Term:
        """v^p and its slope p v^(p − 1) where v > 0."""
        violates = ops.logical_and(kept, violation > 0.0)
        counted = ops.cast(violates, violation.dtype)
        slope = counted * ops.power(
            ops.where(violates, violation, 1.0), self.exponent - 1.0
        )
        return Term(
            ops.sum(slope * violation, axis=1),
            ops.sum(counted, axis=1),
            sign * self.exponent * slope,
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "margin": self.margin,
            "positive_margin": self.positive_margin,
            "exponent": self.exponent,
        }

"""Circle loss: each similarity is pulled as hard as it is from its optimum."""

from typing import Any

import keras
from keras import ops

from keras_finegrain._base.checks import number
from keras_finegrain._base.typing import Tensor
from keras_finegrain._ops.numerics import log_sum_exp_and_shares
from keras_finegrain.losses.embedding_pairs import (
    EmbeddingLoss,
    Pairs,
    Reference,
    Term,
    mean_over_anchors,
)


@keras.saving.register_keras_serializable(package="keras_finegrain")
class CircleLoss(EmbeddingLoss):
    """Pair similarity optimisation with a pace of its own for each pair.

    With the cosines S of the batch's embeddings, P_i and N_i the samples of
    the class of i and of the others,

        L = mean over i of log(1 + Σ_{n∈N_i} e^{γ a_n (S_in − m)}
                                 · Σ_{p∈P_i} e^{−γ a_p (S_ip − 1 + m)})
        a_p = max(0, 1 + m − S_ip)      a_n = max(0, S_in + m)

    over the samples that have a positive and a negative. The paces a_p and
    a_n get no gradient.

    Args:
        margin: m, in (-1, 1). Default 0.4, the paper's for fine-grained
            retrieval.
        scale: γ > 0. Default 80, the paper's for fine-grained retrieval.
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

    >>> loss = keras_finegrain.losses.CircleLoss()
    >>> embeddings = np.array([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]], "float32")
    >>> bool(loss(np.array([0, 0, 1]), embeddings) < 1e-4)
    True

    Reference:
        - [Sun et al., "Circle Loss: A Unified Perspective of Pair Similarity
          Optimization", CVPR 2020, equations 4 to 8](
          https://arxiv.org/abs/2002.10857)
    """

    def __init__(
        self,
        margin: float = 0.4,
        scale: float = 80.0,
        name: str = "circle_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.margin = number(self.who, "margin", margin, above=-1, below=1)
        self.scale = number(self.who, "scale", scale, above=0)

    def loss_of_pairs(
        self,
        labels: Tensor,
        embeddings: Tensor,
        reference: Reference | None = None,
    ) -> Tensor:
        """L of the global batch, a scalar."""
        return mean_over_anchors(
            self._terms, labels, embeddings, "cosine", reference=reference
        )

    def _terms(self, pairs: Pairs) -> list[Term]:
        _, cosines, positive, negative = pairs
        fixed = ops.stop_gradient(cosines)
        pull = -self.scale * ops.relu(1.0 + self.margin - fixed)
        push = self.scale * ops.relu(fixed + self.margin)
        of_positives, positive_shares = log_sum_exp_and_shares(
            pull * (cosines - 1.0 + self.margin), positive
        )
        of_negatives, negative_shares = log_sum_exp_and_shares(
            push * (cosines - self.margin), negative
        )
        counts = ops.logical_and(
            ops.any(positive, axis=1), ops.any(negative, axis=1)
        )
        counts = ops.cast(counts, cosines.dtype)
        logits = of_positives + of_negatives
        each = counts * ops.softplus(logits)
        slopes = pull * positive_shares + push * negative_shares
        weight = counts * ops.sigmoid(logits)
        return [Term(each, counts, weight[:, None] * slopes)]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "margin": self.margin,
            "scale": self.scale,
        }

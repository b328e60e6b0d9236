"""Multi-similarity loss: each pair is weighted by its anchor's other pairs."""

from typing import Any

import keras
from keras import ops

from keras_finegrain._base.checks import number
from keras_finegrain._base.typing import Tensor
from keras_finegrain._ops.numerics import log_one_plus_sum_exp_and_slope
from keras_finegrain.losses.embedding_pairs import (
    EmbeddingLoss,
    Pairs,
    Reference,
    Term,
    mean_over_anchors,
)


@keras.saving.register_keras_serializable(package="keras_finegrain")
class MultiSimilarityLoss(EmbeddingLoss):
    """Mines the informative pairs of a batch and weighs them softly.

    With the cosines S of the batch's embeddings, P_i and N_i the samples of
    the class of i and of the others,

        L = mean over i of 1/α log(1 + Σ_{p∈P_i} e^{−α(S_ip − λ)})
                         + 1/β log(1 + Σ_{n∈N_i} e^{β(S_in − λ)})

    over the pairs that the mining keeps: negatives with S_in > min_p S_ip − ε
    and positives with S_ip < max_n S_in + ε.

    Args:
        alpha: α > 0, weight of the positives. Default 2, the paper's.
        beta: β > 0, weight of the negatives. Default 50, the paper's.
        base: λ, the similarity at which both exponents are 0. Default 0.5,
            that of the official code.
        epsilon: ε, the margin of the mining, or `None` to keep all pairs.
            Default 0.1, the paper's.
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

    >>> loss = keras_finegrain.losses.MultiSimilarityLoss()
    >>> embeddings = np.array([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]], "float32")
    >>> float(loss(np.array([0, 0, 1]), embeddings))  # no pair is kept
    0.0

    Reference:
        - [Wang et al., "Multi-Similarity Loss with General Pair Weighting for
          Deep Metric Learning", CVPR 2019](https://arxiv.org/abs/1904.06627)
    """

    def __init__(
        self,
        alpha: float = 2.0,
        beta: float = 50.0,
        base: float = 0.5,
        epsilon: float | None = 0.1,
        name: str = "multi_similarity_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.alpha = number(self.who, "alpha", alpha, above=0)
        self.beta = number(self.who, "beta", beta, above=0)
        self.base = number(self.who, "base", base)
        self.epsilon = (
            None if epsilon is None else number(self.who, "epsilon", epsilon)
        )

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
        if self.epsilon is not None:
            positive, negative = mined(
                cosines, positive, negative, self.epsilon
            )
        above = cosines - self.base
        pulled, of_positive = log_one_plus_sum_exp_and_slope(
            -self.alpha * above, positive, axis=1
        )
        pushed, of_negative = log_one_plus_sum_exp_and_slope(
            self.beta * above, negative, axis=1
        )
        each = pulled / self.alpha + pushed / self.beta
        return [Term(each, ops.ones_like(each), of_negative - of_positive)]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "beta": self.beta,
            "base": self.base,
            "epsilon": self.epsilon,
        }


def mined(
    similarities: Tensor, positive: Tensor, negative: Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    """The informative pairs (Wang et al. 2019, equations 7 and 8).

    Args:
        similarities: S `(anchors, batch)`.
        positive: The pairs of one class, without a sample and itself.
        negative: The pairs of two classes.
        epsilon: ε.

    Returns:
        The kept positive and negative pairs, bool `(anchors, batch)`. An anchor
        without a positive or without a negative keeps none.
    """
    infinity = float("inf")
    lowest = ops.min(ops.where(positive, similarities, infinity), axis=1)
    highest = ops.max(ops.where(negative, similarities, -infinity), axis=1)
    return (
        ops.logical_and(positive, similarities - epsilon < highest[:, None]),
        ops.logical_and(negative, similarities + epsilon > lowest[:, None]),
    )

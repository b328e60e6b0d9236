"""The triplet loss over all triplets of a batch."""

from typing import Any

import keras
from keras import ops

from keras_finegrain._base.typing import Tensor
from keras_finegrain.losses.embedding_pairs import Pairs, Term
from keras_finegrain.losses.triplet_loss import (
    Classes,
    TripletLoss,
    add_over_positives,
    entry_of_each,
    one_of_each,
)


@keras.saving.register_keras_serializable(package="keras_finegrain")
class TripletAllLoss(TripletLoss):
    """Triplet loss over all triplets of the batch that violate the margin.

    Over all (a, p, n) of the batch, a and p of one class and n of another,

        L = mean of d_ap − d_an + m  where that is above 0

    The mean is over the triplets that violate the margin, so that the many
    others do not shrink the gradient ("batch all ≠ 0"). Time is O(B²·n), n the
    samples of the largest class in the batch, and memory O(B), where a tensor
    over triplets takes B³.

    Args:
        margin: m, at least 0. Default 0.2, FaceNet's.
        distance_metric: "L2", "squared-L2" or "angular" (1 − cosine). Default
            "L2". Embeddings are not scaled: end the model with
            `keras.layers.UnitNormalization()` where their length should not
            count.
        name: Name of the loss.
        **kwargs: `reduction` and `dtype` of `keras.losses.Loss`.

    Call arguments:
        y_true: Integers `(batch,)` or `(batch, 1)`, or one-hot labels `(batch,
            num_classes)`.
        y_pred: Embeddings `(batch, dim)`.

    Raises:
        ValueError: For an argument out of its range, for sample weights, and
            for embeddings or labels of another shape.

    Example:

    >>> loss = keras_finegrain.losses.TripletAllLoss(margin=1.0)
    >>> embeddings = np.array([[0.0], [2.0], [3.0], [6.0]], "float32")
    >>> float(loss(np.array([0, 0, 1, 1]), embeddings))  # mean of 2, 1, 3
    2.0

    Reference:
        - [Hermans et al., "In Defense of the Triplet Loss for Person
          Re-Identification", 2017](https://arxiv.org/abs/1703.07737)
    """

    def __init__(
        self,
        margin: float = 0.2,
        distance_metric: str = "L2",
        name: str = "triplet_all_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(margin, distance_metric, name, **kwargs)

    def term(self, pairs: Pairs, classes: Classes) -> Term:
        """The share of a block of anchors, and of all their triplets.

        With v_ap the number of violating triplets that hold the pair (a, p),
        and v_an of those that hold (a, n), their sum is
        Σ v_ap (d_ap + m) − Σ v_an d_an: two sums over pairs.
        """
        distances = ops.stop_gradient(pairs.values)
        negatives = ops.where(pairs.negative, distances, float("inf"))

        def add(
            is_pair: Tensor, positive: Tensor, count: Tensor, slopes: Tensor
        ) -> tuple[Tensor, Tensor]:
            bound = entry_of_each(positive, distances) + self.margin
            bound = ops.where(is_pair, bound, -float("inf"))
            violates = ops.cast(negatives < bound[:, None], slopes.dtype)
            num = ops.sum(violates, axis=1)
            of_positive = num[:, None] * one_of_each(positive, is_pair, slopes)
            return count + num, slopes + of_positive - violates

        zeros = ops.zeros_like(distances)
        count, slopes = add_over_positives(
            add, pairs, classes, (zeros[:, 0], zeros)
        )
        total = ops.sum(slopes * pairs.values, axis=1) + self.margin * count
        return Term(total, count, slopes)

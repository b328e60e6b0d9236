"""The triplet loss with semi-hard negatives."""

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
class TripletSemiHardLoss(TripletLoss):
    """Triplet loss with the semi-hard negatives of the batch.

    Over all pairs (a, p) of one class in the batch,

        L = mean of max(0, d_ap − d_an + m)

    where n is the nearest sample of another class that is further from a than
    p is, or the furthest one if none is. TensorFlow Addons' loss of this name,
    with its numbers: in a batch of one class d_an is 0. (Without any pair it
    is 0 here, and NaN there.)

    Args:
        margin: m, at least 0. Default 1, that of TensorFlow Addons; FaceNet
            takes 0.2 on "squared-L2" of embeddings of unit length.
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

    >>> loss = keras_finegrain.losses.TripletSemiHardLoss(margin=1.0)
    >>> embeddings = np.array([[0.0], [1.0], [3.0]], "float32")
    >>> float(loss(np.array([0, 0, 1]), embeddings))  # (1−3+1)⁺, (1−2+1)⁺
    0.0

    Reference:
        - [Schroff et al., "FaceNet: A Unified Embedding for Face Recognition
          and Clustering", CVPR 2015](https://arxiv.org/abs/1503.03832)
    """

    def __init__(
        self,
        margin: float = 1.0,
        distance_metric: str = "L2",
        name: str = "triplet_semi_hard_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(margin, distance_metric, name, **kwargs)

    def term(self, pairs: Pairs, classes: Classes) -> Term:
        """The share of a block of anchors, and of all their positives."""
        distances = ops.stop_gradient(pairs.values)
        negatives = ops.where(pairs.negative, distances, float("inf"))
        has_negative = ops.any(pairs.negative, axis=1)
        furthest = ops.argmax(
            ops.where(pairs.negative, distances, -float("inf")), axis=1
        )

        def add(
            is_pair: Tensor, positive: Tensor, total: Tensor, slopes: Tensor
        ) -> tuple[Tensor, Tensor]:
            to_positive = entry_of_each(positive, distances)
            further = ops.where(
                negatives > to_positive[:, None], negatives, float("inf")
            )
            nearest = ops.argmin(further, axis=1)
            is_further = entry_of_each(nearest, further) < float("inf")
            negative = ops.where(is_further, nearest, furthest)
            to_negative = entry_of_each(negative, distances)
            to_negative = ops.where(has_negative, to_negative, 0.0)
            violation = ops.relu(to_positive - to_negative + self.margin)
            violation = ops.where(is_pair, violation, 0.0)
            violates = violation > 0.0
            slopes = slopes + one_of_each(positive, violates, slopes)
            chosen = ops.logical_and(violates, has_negative)
            slopes = slopes - one_of_each(negative, chosen, slopes)
            return total + violation, slopes

        zeros = ops.zeros_like(distances)
        total, slopes = add_over_positives(
            add, pairs, classes, (zeros[:, 0], zeros)
        )
        num_pairs = ops.take(classes.num_positives, pairs.index, axis=0)
        return Term(total, ops.cast(num_pairs, total.dtype), slopes)

"""The triplet loss with the hardest triplet of each anchor."""

from typing import Any

import keras
from keras import ops

from keras_finegrain._base.checks import boolean
from keras_finegrain.losses.embedding_pairs import Pairs, Term
from keras_finegrain.losses.triplet_loss import (
    Classes,
    TripletLoss,
    one_of_each,
)


@keras.saving.register_keras_serializable(package="keras_finegrain")
class TripletHardLoss(TripletLoss):
    """Triplet loss with the hardest positive and negative of each sample.

    Over all samples a of the batch, with p the furthest sample of its class
    and n the nearest one of another,

        L = mean of max(0, d_ap − d_an + m)

    or, with `soft`, of log(1 + e^{d_ap − d_an}), whose gradient does not end at
    a margin. TensorFlow Addons' loss of this name, with its numbers:
    a sample without another of its class counts with d_ap = 0, and in a batch
    of one class d_an is the greatest distance.

    Args:
        margin: m, at least 0. Default 1, that of TensorFlow Addons. Not used
            with `soft`.
        soft: Whether to take the soft margin. Default False.
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

    >>> loss = keras_finegrain.losses.TripletHardLoss(margin=1.0)
    >>> embeddings = np.array([[0.0], [2.0], [3.0], [6.0]], "float32")
    >>> float(loss(np.array([0, 0, 1, 1]), embeddings))  # (0, 2, 3, 0) / 4
    1.25

    Reference:
        - [Hermans et al., "In Defense of the Triplet Loss for Person
          Re-Identification", 2017](https://arxiv.org/abs/1703.07737)
    """

    def __init__(
        self,
        margin: float = 1.0,
        soft: bool = False,
        distance_metric: str = "L2",
        name: str = "triplet_hard_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(margin, distance_metric, name, **kwargs)
        self.soft = boolean(self.who, "soft", soft)

    def term(self, pairs: Pairs, classes: Classes) -> Term:
        """The share of a block of anchors, one triplet each."""
        distances, infinity = pairs.values, float("inf")
        positive = ops.argmax(
            ops.where(pairs.positive, distances, -infinity), axis=1
        )
        negative = ops.argmin(
            ops.where(pairs.negative, distances, infinity), axis=1
        )
        # Without a negative the greatest distance takes its place: d_ap itself.
        has_negative = ops.any(pairs.negative, axis=1)
        pulls = ops.logical_and(ops.any(pairs.positive, axis=1), has_negative)
        slopes = one_of_each(positive, pulls, distances) - one_of_each(
            negative, has_negative, distances
        )
        difference = ops.sum(slopes * distances, axis=1)
        if self.soft:
            total, slope = ops.softplus(difference), ops.sigmoid(difference)
        else:
            total = ops.relu(difference + self.margin)
            slope = ops.cast(total > 0.0, total.dtype)
        return Term(total, ops.ones_like(total), slope[:, None] * slopes)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "soft": self.soft}

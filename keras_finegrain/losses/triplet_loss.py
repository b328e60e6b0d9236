"""Triplet losses: semi-hard, hard and all triplets of a batch.

No loss here holds a tensor over triplets: what compares each pair with the
negatives of its anchor reads it off the sorted distances of that anchor.
"""

from typing import Any

import keras
from keras import ops

from keras_finegrain._checks import number, one_of
from keras_finegrain._typing import Tensor
from keras_finegrain.losses.embedding_pairs import (
    DISTANCE_METRICS,
    EmbeddingLoss,
    masked_mean,
    pairwise_distances,
    same_class,
    same_sample,
)


def triplet_semi_hard(distances: Tensor, same: Tensor, margin: float) -> Tensor:
    """Each positive pair against its nearest negative that is further away.

        mean over pairs (a, p) of max(0, d_ap − d_an + m)
        n: the nearest negative of a with d_an > d_ap, or else the furthest

    Args:
        distances: d `(batch, batch)`.
        same: Which pairs share a class `(batch, batch)`.
        margin: m.

    Returns:
        Scalar. For an anchor without any negative d_an is 0, as in TensorFlow
        Addons.
    """
    positive = ops.logical_and(same, ops.logical_not(same_sample(same)))
    negatives = ops.where(same, float("inf"), distances)
    positives = ops.where(positive, distances, float("inf"))
    # How many negatives are not further away than each positive.
    order, inverse = _merged_order(negatives, positives)
    is_negative = ops.cast(order < ops.shape(same)[1], "int32")
    nearer = ops.take_along_axis(ops.cumsum(is_negative, axis=1), inverse, 1)
    nearer = nearer[:, ops.shape(same)[1] :]
    num_negatives = ops.sum(
        ops.cast(ops.logical_not(same), "int32"), axis=1, keepdims=True
    )
    rank = ops.maximum(ops.minimum(nearer, num_negatives - 1), 0)
    chosen = ops.take_along_axis(ops.sort(negatives, axis=1), rank, axis=1)
    chosen = ops.where(
        ops.logical_and(positive, num_negatives > 0), chosen, 0.0
    )
    return masked_mean(ops.relu(distances - chosen + margin), positive)


def triplet_hard(
    distances: Tensor, same: Tensor, margin: float, soft: bool
) -> Tensor:
    """Each anchor's furthest positive against its nearest negative.

        mean over anchors of max(0, d_ap − d_an + m), or of log(1 + e^{…})

    Args:
        distances: d `(batch, batch)`.
        same: Which pairs share a class `(batch, batch)`.
        margin: m.
        soft: Whether log(1 + e^{d_ap − d_an}) takes the place of the hinge.

    Returns:
        Scalar. For an anchor without a positive d_ap is 0, and for one without
        a negative d_an is its greatest distance, as in TensorFlow Addons.
    """
    positive = ops.max(ops.where(same, distances, 0.0), axis=1)
    greatest = ops.max(distances, axis=1, keepdims=True)
    negative = ops.min(ops.where(same, greatest, distances), axis=1)
    difference = positive - negative
    each = ops.softplus(difference) if soft else ops.relu(difference + margin)
    return ops.sum(each) / ops.cast(ops.shape(each)[0], each.dtype)


def triplet_all(distances: Tensor, same: Tensor, margin: float) -> Tensor:
    """All triplets that violate the margin.

        mean over (a, p, n) with d_ap − d_an + m > 0 of d_ap − d_an + m

    With v_ap the number of negatives that violate the pair (a, p), and v_an
    that of the positives that (a, n) violates, the sum of all is
    Σ v_ap (d_ap + m) − Σ v_an d_an: two sums over pairs.

    Args:
        distances: d `(batch, batch)`.
        same: Which pairs share a class `(batch, batch)`.
        margin: m.

    Returns:
        Scalar, 0 if no triplet violates the margin.
    """
    batch = ops.shape(same)[1]
    positive = ops.logical_and(same, ops.logical_not(same_sample(same)))
    # Positives first: of two equal values the first in the list goes first,
    # and a negative at the margin itself violates nothing.
    positives = ops.where(positive, distances + margin, float("inf"))
    negatives = ops.where(same, float("inf"), distances)
    order, inverse = _merged_order(positives, negatives)
    kept = ops.concatenate([positive, ops.logical_not(same)], axis=1)
    kept = ops.cast(ops.take_along_axis(kept, order, axis=1), "int32")
    is_positive = ops.cast(order < batch, "int32") * kept
    positives_before = ops.cumsum(is_positive, axis=1)
    negatives_before = ops.cumsum(kept - is_positive, axis=1)
    positives_after = positives_before[:, -1:] - positives_before
    violations = ops.where(order < batch, negatives_before, positives_after)
    # The counts are constants of the gradient: they change in jumps only.
    violations = ops.cast(
        ops.take_along_axis(violations * kept, inverse, axis=1), distances.dtype
    )
    of_positive, of_negative = violations[:, :batch], violations[:, batch:]
    total = ops.sum(of_positive * (distances + margin)) - ops.sum(
        of_negative * distances
    )
    return total / ops.maximum(ops.sum(of_positive), 1.0)


def _merged_order(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """The order of two matrices' joined rows, and each entry's place in it.

    The order is stable: of equal values those of the first matrix go first.
    """
    joined = ops.concatenate([first, second], axis=1)
    order = ops.cast(ops.argsort(ops.stop_gradient(joined), axis=1), "int32")
    return order, ops.argsort(order, axis=1)


class _TripletLoss(EmbeddingLoss):
    """What the three have in common: a margin and a distance."""

    def __init__(
        self, margin: float, distance_metric: str, name: str, **kwargs: Any
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.margin = number(self.who, "margin", margin, at_least=0)
        self.distance_metric = one_of(
            self.who, "distance_metric", distance_metric, DISTANCE_METRICS
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "margin": self.margin,
            "distance_metric": self.distance_metric,
        }


@keras.saving.register_keras_serializable(package="keras_finegrain")
class TripletSemiHardLoss(_TripletLoss):
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
            "L2". Embeddings are taken as they are: end the model with
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

    def loss_of_pairs(self, labels: Tensor, embeddings: Tensor) -> Tensor:
        """L of the global batch, a scalar."""
        distances = pairwise_distances(embeddings, self.distance_metric)
        return triplet_semi_hard(distances, same_class(labels), self.margin)


@keras.saving.register_keras_serializable(package="keras_finegrain")
class TripletHardLoss(_TripletLoss):
    """Triplet loss with the hardest positive and negative of each sample.

    Over all samples a of the batch, with p the furthest sample of its class
    and n the nearest one of another,

        L = mean of max(0, d_ap − d_an + m)

    or, with `soft`, of log(1 + e^{d_ap − d_an}), which goes on to pull where
    the margin is met. TensorFlow Addons' loss of this name, with its numbers:
    a sample without another of its class counts with d_ap = 0, and in a batch
    of one class d_an is the greatest distance.

    Args:
        margin: m, at least 0. Default 1, that of TensorFlow Addons. Not used
            with `soft`.
        soft: Whether to take the soft margin. Default False.
        distance_metric: "L2", "squared-L2" or "angular" (1 − cosine). Default
            "L2". Embeddings are taken as they are: end the model with
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
        if not isinstance(soft, bool):
            raise ValueError(
                f"{self.who}: soft must be True or False, received {soft!r}."
            )
        self.soft = soft

    def loss_of_pairs(self, labels: Tensor, embeddings: Tensor) -> Tensor:
        """L of the global batch, a scalar."""
        distances = pairwise_distances(embeddings, self.distance_metric)
        same = same_class(labels)
        return triplet_hard(distances, same, self.margin, self.soft)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "soft": self.soft}


@keras.saving.register_keras_serializable(package="keras_finegrain")
class TripletAllLoss(_TripletLoss):
    """Triplet loss over all triplets of the batch that violate the margin.

    Over all (a, p, n) of the batch, a and p of one class and n of another,

        L = mean of d_ap − d_an + m  where that is above 0

    The mean is over the triplets that violate the margin, so that the many
    that do not leave the step its size ("batch all ≠ 0"). Time O(B² log B) and
    memory O(B²), where a tensor over triplets takes B³.

    Args:
        margin: m, at least 0. Default 0.2, FaceNet's.
        distance_metric: "L2", "squared-L2" or "angular" (1 − cosine). Default
            "L2". Embeddings are taken as they are: end the model with
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

    def loss_of_pairs(self, labels: Tensor, embeddings: Tensor) -> Tensor:
        """L of the global batch, a scalar."""
        distances = pairwise_distances(embeddings, self.distance_metric)
        return triplet_all(distances, same_class(labels), self.margin)

"""Triplet losses: semi-hard, hard and all triplets of a batch.

Once it is decided which triplets count, each of them is linear in the
distances: a pair's weight is the number of triplets in which it counts, and no
tensor over triplets is needed. What the losses are functions of is a block of
anchors, with its distances d from the whole batch.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_finegrain._base.checks import number, one_of
from keras_finegrain._base.typing import Tensor
from keras_finegrain.losses.embedding_pairs import (
    DISTANCE_METRICS,
    Anchors,
    Classes,
    EmbeddingLoss,
    Term,
    mean_over_anchors,
)

# Up to so many samples of a class it takes less time to compare an anchor's
# negatives with its positives one by one than to sort them.
MOST_COMPARED = 128


def triplet_semi_hard(
    anchors: Anchors, classes: Classes, margin: float
) -> Term:
    """Each positive pair against its nearest negative that is further away.

        mean over pairs (a, p) of max(0, d_ap − d_an + m)
        n: the nearest negative of a with d_an > d_ap, or else the furthest

    Args:
        anchors: A block of anchors and their distances d.
        classes: Of the batch.
        margin: m.

    Returns:
        For an anchor without any negative d_an is 0, as in TensorFlow Addons.
    """
    return _compared_or_sorted(
        classes,
        lambda: semi_hard_compared(anchors, classes, margin),
        lambda: semi_hard_sorted(anchors, margin),
    )


def semi_hard_compared(
    anchors: Anchors, classes: Classes, margin: float
) -> Term:
    """`triplet_semi_hard`, one positive of each anchor after the other."""
    distances, same = anchors.values, anchors.same
    negatives = ops.where(same, float("inf"), distances)
    furthest = ops.argmax(ops.where(same, -float("inf"), distances), axis=1)
    has_negative = ops.logical_not(ops.all(same, axis=1))

    def add(
        is_pair: Tensor, positive: Tensor, total: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        to_positive = _at(positive, distances)
        further = ops.where(
            negatives > to_positive[:, None], negatives, float("inf")
        )
        nearest = ops.argmin(further, axis=1)
        is_further = _at(nearest, further) < float("inf")
        negative = ops.where(is_further, nearest, furthest)
        to_negative = ops.where(has_negative, _at(negative, distances), 0.0)
        violation = ops.relu(to_positive - to_negative + margin)
        counts = ops.logical_and(is_pair, violation > 0.0)
        weights = weights + _one_at(positive, counts, weights)
        counts = ops.logical_and(counts, has_negative)
        weights = weights - _one_at(negative, counts, weights)
        return total + ops.where(is_pair, violation, 0.0), weights

    zeros = ops.zeros_like(distances)
    total, weights = _over_positives(
        add, anchors, classes, (zeros[:, 0], zeros)
    )
    num_pairs = ops.cast(
        ops.take(classes.count, anchors.index, axis=0) - 1, total.dtype
    )
    return Term(total, num_pairs, weights)


def semi_hard_sorted(anchors: Anchors, margin: float) -> Term:
    """`triplet_semi_hard`, from the sorted distances of each anchor."""
    distances, same = anchors.values, anchors.same
    batch = ops.shape(same)[1]
    positive = anchors.positive()
    negatives = ops.where(same, float("inf"), distances)
    positives = ops.where(positive, distances, float("inf"))
    # How many negatives are not further away than each positive.
    order, inverse = _merged_order(negatives, positives)
    is_negative = ops.cast(order < batch, "int32")
    nearer = ops.take_along_axis(ops.cumsum(is_negative, axis=1), inverse, 1)
    num_negatives = ops.sum(
        ops.cast(ops.logical_not(same), "int32"), axis=1, keepdims=True
    )
    rank = ops.minimum(nearer[:, batch:], num_negatives - 1)
    by_rank = ops.cast(ops.argsort(negatives, axis=1), "int32")
    negative = ops.take_along_axis(by_rank, ops.maximum(rank, 0), axis=1)
    chosen = ops.take_along_axis(distances, negative, axis=1)
    chosen = ops.where(num_negatives > 0, chosen, 0.0)
    violation = ops.relu(distances - chosen + margin)
    violation = ops.where(positive, violation, 0.0)
    counts = ops.cast(violation > 0.0, violation.dtype)
    chosen_by = ops.where(num_negatives > 0, counts, 0.0)
    return Term(
        ops.sum(violation, axis=1),
        ops.sum(ops.cast(positive, violation.dtype), axis=1),
        counts - _sum_at(negative, chosen_by),
    )


def triplet_hard(anchors: Anchors, margin: float, soft: bool) -> Term:
    """Each anchor's furthest positive against its nearest negative.

        mean over anchors of max(0, d_ap − d_an + m), or of log(1 + e^{…})

    Args:
        anchors: A block of anchors and their distances d.
        margin: m.
        soft: Whether log(1 + e^{d_ap − d_an}) takes the place of the hinge.

    Returns:
        For an anchor without a positive d_ap is 0, and for one without a
        negative d_an is its greatest distance, as in TensorFlow Addons.
    """
    same = anchors.same
    distances = ops.where(anchors.with_itself(), 0.0, anchors.values)
    positive = ops.argmax(ops.where(same, distances, -float("inf")), axis=1)
    negative = ops.where(
        ops.all(same, axis=1),
        ops.argmax(distances, axis=1),
        ops.argmin(ops.where(same, float("inf"), distances), axis=1),
    )
    difference = _at(positive, distances) - _at(negative, distances)
    if soft:
        each, slope = ops.softplus(difference), ops.sigmoid(difference)
    else:
        each = ops.relu(difference + margin)
        slope = ops.cast(each > 0.0, each.dtype)
    # An anchor is at no distance from itself.
    weights = slope[:, None] * (
        _one_at(positive, positive != anchors.index, distances)
        - _one_at(negative, negative != anchors.index, distances)
    )
    return Term(each, ops.ones_like(each), weights)


def triplet_all(anchors: Anchors, classes: Classes, margin: float) -> Term:
    """All triplets that violate the margin.

        mean over (a, p, n) with d_ap − d_an + m > 0 of d_ap − d_an + m

    With v_ap the number of negatives that violate the pair (a, p), and v_an
    that of the positives that (a, n) violates, the sum of all is
    Σ v_ap (d_ap + m) − Σ v_an d_an: two sums over pairs.

    Args:
        anchors: A block of anchors and their distances d.
        classes: Of the batch.
        margin: m.

    Returns:
        0 over 0 if no triplet violates the margin.
    """
    weights, count = _compared_or_sorted(
        classes,
        lambda: violations_compared(anchors, classes, margin),
        lambda: violations_sorted(anchors, margin),
    )
    total = ops.sum(weights * anchors.values, axis=1) + margin * count
    return Term(total, count, weights)


def violations_compared(
    anchors: Anchors, classes: Classes, margin: float
) -> tuple[Tensor, Tensor]:
    """v_ap − v_an and Σ_p v_ap, one positive after the other."""
    negatives = ops.where(anchors.same, float("inf"), anchors.values)

    def add(
        is_pair: Tensor, positive: Tensor, weights: Tensor, count: Tensor
    ) -> tuple[Tensor, Tensor]:
        bound = _at(positive, anchors.values) + margin
        bound = ops.where(is_pair, bound, -float("inf"))
        violate = ops.cast(negatives < bound[:, None], weights.dtype)
        num = ops.sum(violate, axis=1)
        of_pair = num[:, None] * _one_at(positive, is_pair, weights)
        return weights + of_pair - violate, count + num

    zeros = ops.zeros_like(negatives)
    return _over_positives(add, anchors, classes, (zeros, zeros[:, 0]))


def violations_sorted(anchors: Anchors, margin: float) -> tuple[Tensor, Tensor]:
    """v_ap − v_an and Σ_p v_ap, from the sorted distances of each anchor."""
    distances, same = anchors.values, anchors.same
    batch = ops.shape(same)[1]
    positive = anchors.positive()
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
    violations = ops.cast(
        ops.take_along_axis(violations * kept, inverse, axis=1), distances.dtype
    )
    of_positive, of_negative = violations[:, :batch], violations[:, batch:]
    return of_positive - of_negative, ops.sum(of_positive, axis=1)


def _compared_or_sorted(
    classes: Classes, compared: Callable[[], Any], sort: Callable[[], Any]
) -> Any:
    """What takes less time with the classes of a batch."""
    batch = classes.count.shape[0]
    if batch is not None and batch <= MOST_COMPARED:
        return compared()
    return ops.cond(classes.largest() <= MOST_COMPARED, compared, sort)


def _over_positives(
    add: Callable[..., tuple[Tensor, ...]],
    anchors: Anchors,
    classes: Classes,
    sums: tuple[Tensor, ...],
) -> tuple[Tensor, ...]:
    """Adds up over the positives: the first of each anchor, the second, ….

    Args:
        add: Takes which anchors have that positive and where it stands, both
            `(anchors,)`, and the sums; returns the sums with it.
        anchors: The anchors.
        classes: Of the batch.
        sums: What to start from.

    Returns:
        The sums.
    """
    largest = classes.largest()
    count = ops.take(classes.count, anchors.index, axis=0)

    def with_next(step: Tensor, *sums: Tensor) -> tuple[Tensor, ...]:
        positive = classes.other(anchors.index, step)
        return step + 1, *add(step < count, positive, *sums)

    step = ops.ones((), dtype="int32")
    return ops.while_loop(
        lambda step, *_: step < largest, with_next, (step, *sums)
    )[1:]


def _at(column: Tensor, matrix: Tensor) -> Tensor:
    """The entry of each row at a column `(rows,)` of its own."""
    return ops.take_along_axis(matrix, column[:, None], axis=1)[:, 0]


def _one_at(column: Tensor, kept: Tensor, like: Tensor) -> Tensor:
    """A matrix with a 1 at a column `(rows,)` of each row that is kept."""
    return ops.one_hot(
        ops.where(kept, ops.cast(column, "int32"), -1),
        ops.shape(like)[1],
        dtype=like.dtype,
    )


def _sum_at(columns: Tensor, values: Tensor) -> Tensor:
    """Adds the values of each row up at columns of that row."""
    shape = ops.shape(values)
    row = shape[1] * ops.arange(shape[0], dtype="int32")[:, None]
    size = shape[0] * shape[1]
    sums = ops.segment_sum(
        ops.reshape(values, (-1,)), ops.reshape(row + columns, (-1,)), size
    )
    return ops.reshape(sums, shape)


def _merged_order(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """The order of two matrices' joined rows, and each entry's place in it.

    The order is stable: of equal values those of the first matrix go first.
    """
    joined = ops.concatenate([first, second], axis=1)
    order = ops.cast(ops.argsort(joined, axis=1), "int32")
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

    def _mean(
        self,
        term: Callable[[Anchors], Term],
        labels: Tensor,
        embeddings: Tensor,
    ) -> Tensor:
        return mean_over_anchors(
            lambda anchors: [term(anchors)],
            labels,
            embeddings,
            self.distance_metric,
        )


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
        classes = Classes.of(labels)
        return self._mean(
            lambda anchors: triplet_semi_hard(anchors, classes, self.margin),
            labels,
            embeddings,
        )


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
        return self._mean(
            lambda anchors: triplet_hard(anchors, self.margin, self.soft),
            labels,
            embeddings,
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "soft": self.soft}


@keras.saving.register_keras_serializable(package="keras_finegrain")
class TripletAllLoss(_TripletLoss):
    """Triplet loss over all triplets of the batch that violate the margin.

    Over all (a, p, n) of the batch, a and p of one class and n of another,

        L = mean of d_ap − d_an + m  where that is above 0

    The mean is over the triplets that violate the margin, so that the many
    that do not leave the step its size ("batch all ≠ 0"). Time is O(B²) for
    each sample of the largest class, at most O(B² log B), and memory O(B),
    where a tensor over triplets takes B³.

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
        classes = Classes.of(labels)
        return self._mean(
            lambda anchors: triplet_all(anchors, classes, self.margin),
            labels,
            embeddings,
        )

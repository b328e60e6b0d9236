"""What the triplet losses have in common.

Once it is decided which triplets count, each of them is linear in the
distances. The slope for a pair is the number of triplets in which it is the
positive, minus those in which it is the negative: no tensor over triplets is
needed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from keras import ops

from keras_finegrain._base.checks import number, one_of
from keras_finegrain._base.typing import Tensor
from keras_finegrain.losses.embedding_pairs import (
    EmbeddingLoss,
    Pairs,
    Reference,
    Term,
    mean_over_anchors,
)

# The names of TensorFlow Addons.
DISTANCE_METRICS = ("L2", "squared-L2", "angular")


class Classes(NamedTuple):
    """Where the class of each sample lies, in a reference sorted by class.

    Attributes:
        start: Position of the first sample of the class, int32 `(batch,)`.
        count: Number of samples of the class, int32 `(batch,)`.
        place: Position of the sample itself in its class, -1 where it is not
            in the reference, int32 `(batch,)`.
    """

    start: Tensor
    count: Tensor
    place: Tensor

    @classmethod
    def of(cls, labels: Tensor, reference: Tensor, own: Tensor) -> "Classes":
        """The classes of the samples of a batch.

        Args:
            labels: `(batch,)`.
            reference: Sorted labels `(size,)`.
            own: Position of each sample in the reference `(batch,)`, negative
                where it is not there.
        """
        start, end = (
            ops.cast(ops.searchsorted(reference, labels, side=side), "int32")
            for side in ("left", "right")
        )
        return cls(start, end - start, ops.where(own < 0, -1, own - start))

    @property
    def num_positives(self) -> Tensor:
        """How many others of its class each sample has, int32 `(batch,)`."""
        return self.count - ops.cast(self.place >= 0, "int32")


class TripletLoss(EmbeddingLoss):
    """Base of the triplet losses: a margin and a distance.

    Args:
        margin: m, at least 0.
        distance_metric: "L2", "squared-L2" or "angular" (1 − cosine).
        name: Name of the loss.
        **kwargs: `reduction` and `dtype` of `keras.losses.Loss`.
    """

    def __init__(
        self, margin: float, distance_metric: str, name: str, **kwargs: Any
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.margin = number(self.who, "margin", margin, at_least=0)
        self.distance_metric = one_of(
            self.who, "distance_metric", distance_metric, DISTANCE_METRICS
        )

    def loss_of_pairs(
        self,
        labels: Tensor,
        embeddings: Tensor,
        reference: Reference | None = None,
    ) -> Tensor:
        """L of the global batch, a scalar."""
        if reference is None:
            order = ops.argsort(labels)
            labels = ops.take(labels, order, axis=0)
            embeddings = ops.take(embeddings, order, axis=0)
            begins = ops.not_equal(labels, ops.roll(labels, 1))
            # Consecutive numbers: labels may have any dtype.
            numbers = ops.cumsum(ops.cast(begins, "int32"))
            places = ops.arange(ops.shape(labels)[0], dtype="int32")
            classes = Classes.of(numbers, numbers, places)
        else:
            reference = sorted_by_class(reference)
            classes = Classes.of(labels, reference.labels, reference.own)
        return mean_over_anchors(
            lambda pairs: [self.term(pairs, classes)],
            labels,
            embeddings,
            self.distance_metric,
            reference=reference,
        )

    def term(self, pairs: Pairs, classes: Classes) -> Term:
        """The share of a block of anchors in L.

        Args:
            pairs: The distances d of the anchors from the reference, sorted
                by class: without one, from the batch.
            classes: The classes in that reference.

        Returns:
            The triplets' sum, their number, and the slopes for d.
        """
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "margin": self.margin,
            "distance_metric": self.distance_metric,
        }


def sorted_by_class(reference: Reference) -> Reference:
    """The same reference, in the order of its labels."""
    order = ops.argsort(reference.labels)
    rank = ops.cast(ops.argsort(order), "int32")
    own = ops.take(rank, ops.maximum(reference.own, 0), axis=0)
    return reference._replace(
        embeddings=ops.take(reference.embeddings, order, axis=0),
        labels=ops.take(reference.labels, order, axis=0),
        own=ops.where(reference.own < 0, -1, own),
    )


def add_over_positives(
    add: Callable[..., tuple[Tensor, ...]],
    pairs: Pairs,
    classes: Classes,
    sums: tuple[Tensor, ...],
) -> tuple[Tensor, ...]:
    """Adds up over the positives: the first of each anchor, the second, ….

    Args:
        add: Takes which anchors have another positive, its position in the
            reference, both `(anchors,)`, and the sums; returns the new sums.
        pairs: As in `TripletLoss.term`.
        classes: As in `TripletLoss.term`.
        sums: The sums to start from.

    Returns:
        The sums.
    """
    start, count, place, num = (
        ops.take(values, pairs.index, axis=0)
        for values in (*classes, classes.num_positives)
    )
    # (Of an empty class any place will do, as none of them counts.)
    start = ops.minimum(start, ops.shape(pairs.values)[1] - 1)
    count = ops.maximum(count, 1)
    most = ops.max(classes.num_positives)

    def with_next(step: Tensor, *sums: Tensor) -> tuple[Tensor, ...]:
        # From the anchor on, and from the end of the class to its start.
        positive = start + (place + step) % count
        return step + 1, *add(step <= num, positive, *sums)

    _, *totals = ops.while_loop(
        lambda step, *_: step <= most,
        with_next,
        (ops.ones((), dtype="int32"), *sums),
    )
    return tuple(map(ops.stop_gradient, totals))


def entry_of_each(column: Tensor, matrix: Tensor) -> Tensor:
    """The entry of each row at a column `(rows,)` of its own."""
    return ops.take_along_axis(matrix, column[:, None], axis=1)[:, 0]


def one_of_each(column: Tensor, kept: Tensor, like: Tensor) -> Tensor:
    """A matrix with a 1 at a column `(rows,)` of each row that is kept."""
    return ops.one_hot(
        ops.where(kept, ops.cast(column, "int32"), -1),
        ops.shape(like)[1],
        dtype=like.dtype,
    )

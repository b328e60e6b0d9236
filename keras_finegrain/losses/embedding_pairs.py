"""What the losses on pairs of embeddings have in common."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from keras import ops

from keras_finegrain._base.typing import Tensor
from keras_finegrain._ops.numerics import unit_length
from keras_finegrain._ops.written_gradients import with_gradient
from keras_finegrain.labels.forms import (
    check_labels,
    class_numbers,
    in_range,
)
from keras_finegrain.losses.batch_loss import BatchLoss

# The names that TensorFlow Addons gave them.
DISTANCE_METRICS = ("L2", "squared-L2", "angular")
# About so many anchors are compared with the batch at a time. Few enough that
# what is computed of a block stays in the cache, and enough for its products.
BLOCK = 512


@dataclasses.dataclass(frozen=True)
class Anchors:
    """A block of anchors, and their pairs with the whole batch.

    Attributes:
        index: Where the anchors stand in the batch, int32 `(anchors,)`.
        values: The distance or cosine of each pair `(anchors, batch)`. On an
            anchor with itself it is rounding.
        same: Which pairs share a class, a sample and itself included.
    """

    index: Tensor
    values: Tensor
    same: Tensor

    def with_itself(self) -> Tensor:
        """Which pairs are an anchor with itself, bool `(anchors, batch)`."""
        batch = ops.arange(ops.shape(self.values)[1], dtype="int32")
        return ops.equal(self.index[:, None], batch[None, :])

    def positive(self) -> Tensor:
        """Which pairs are two samples of a class, bool `(anchors, batch)`."""
        return ops.logical_and(self.same, ops.logical_not(self.with_itself()))


class Term(NamedTuple):
    """What the pairs of a block of anchors add to a mean.

    Attributes:
        total: The sum of each anchor's pairs `(anchors,)`.
        count: How many each adds to the mean's divisor `(anchors,)`.
        weights: The slope of the sum of the totals for each of the block's
            values `(anchors, batch)`.
    """

    total: Tensor
    count: Tensor
    weights: Tensor


def mean_over_anchors(
    terms: Callable[[Anchors], Sequence[Term]],
    labels: Tensor,
    embeddings: Tensor,
    metric: str,
    num_terms: int = 1,
    symmetric: bool = False,
) -> Tensor:
    """A sum of means over pairs, in blocks of anchors.

        L = Σ_t total_t / max(count_t, 1)

    The gradient is summed up along with the value, while a block's pairs are at
    hand: no matrix of all pairs is ever held, and none computed twice.

    Args:
        terms: What a block of anchors adds to each of the means.
        labels: `(batch,)`, equal where the class is.
        embeddings: `(batch, dim)`, not scaled here but for the cosines.
        metric: What is compared: "L2", ‖a − b‖; "squared-L2", ‖a − b‖²;
            "cosine", cos(a, b); or "angular", 1 − cos(a, b).
        num_terms: How many means there are.
        symmetric: Whether a pair has the same weight both ways, which saves a
            product of matrices.

    Returns:
        Scalar. Where a distance comes out as 0 so does its gradient. Of
        embeddings nearer than about √ε times their length, ε the dtype's
        precision, "L2" is rounding.
    """

    def loss(
        embeddings: Tensor,
    ) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor]]]:
        batch = _Batch(labels, embeddings, metric, symmetric)
        value, gradient = 0.0, 0.0
        for total, count, slopes in _over_blocks(batch, terms, num_terms):
            share = 1.0 / ops.where(count > 1.0, count, 1.0)
            value = value + share * total
            gradient = gradient + share * batch.gradient(slopes)
        return value, lambda upstream: (upstream * gradient,)

    if metric in ("cosine", "angular"):
        embeddings = unit_length(embeddings)
    return with_gradient(loss)(embeddings)


def _over_blocks(
    batch: "_Batch",
    terms: Callable[[Anchors], Sequence[Term]],
    num_terms: int,
) -> Iterable[tuple[Tensor, Tensor, Tensor]]:
    """Total, count and the slopes of `_Batch.add_slopes` for each term."""
    batch_size = ops.shape(batch.embeddings)[0]
    num_blocks = batch_size // (BLOCK + 1) + 1
    size = (batch_size + num_blocks - 1) // num_blocks
    offsets = ops.arange(size, dtype="int32")

    def add_block(block: Tensor, *sums: Tensor) -> tuple[Tensor, ...]:
        # The last block reaches back where their size does not divide the
        # batch; what it meets again does not count.
        index = ops.minimum(block * size, batch_size - size) + offsets
        is_new = ops.cast(index >= block * size, batch.embeddings.dtype)
        anchors = batch.anchors(index)
        result = []
        for term, total, count, slopes in zip(
            terms(anchors), sums[0::3], sums[1::3], sums[2::3], strict=True
        ):
            result += [
                total + ops.sum(term.total * is_new),
                count + ops.sum(term.count * is_new),
                batch.add_slopes(slopes, term.weights, anchors, is_new),
            ]
        # TensorFlow starts on the next blocks before this one's sums are there,
        # and would hold them all, unless their number asks for these sums.
        done = ops.where(ops.isnan(result[-1][0, 0]), 1, 1)
        return block + ops.cast(done, "int32"), *result

    zero = ops.zeros((), dtype=batch.embeddings.dtype)
    start = (
        ops.zeros((), dtype="int32"),
        *[zero, zero, ops.zeros_like(batch.extended)] * num_terms,
    )
    if isinstance(num_blocks, int) and num_blocks == 1:
        # (A loop would have to be compiled.)
        _, *sums = add_block(*start)
    else:
        _, *sums = ops.while_loop(
            lambda block, *_: block < num_blocks, add_block, start
        )
    return zip(sums[0::3], sums[1::3], sums[2::3], strict=True)


class _Batch:
    """The embeddings of a batch, and what all blocks of anchors need of them.

    Args:
        labels: As in `mean_over_anchors`.
        embeddings: As there, of unit length for the cosines.
        metric: As there.
        symmetric: As there.
    """

    def __init__(
        self, labels: Tensor, embeddings: Tensor, metric: str, symmetric: bool
    ) -> None:
        self.labels = labels
        self.embeddings = embeddings
        self.metric = metric
        self.symmetric = symmetric
        self.transposed = ops.transpose(embeddings)
        self.squared_lengths = ops.sum(ops.square(embeddings), axis=1)
        # x', with a column of ones: the products with it are sums.
        ones = ops.ones_like(embeddings[:, :1])
        self.extended = ops.concatenate([embeddings, ones], axis=1)

    def anchors(self, index: Tensor) -> Anchors:
        """Those samples `(anchors,)` with all of the batch."""
        # (`ops.matmul` would compute float64 in float32 on PyTorch.)
        products = ops.einsum(
            "id,dj->ij",
            ops.take(self.embeddings, index, axis=0),
            self.transposed,
        )
        squared_lengths = ops.take(self.squared_lengths, index, axis=0)
        labels = ops.take(self.labels, index, axis=0)
        return Anchors(
            index,
            _values(
                products, squared_lengths, self.squared_lengths, self.metric
            ),
            ops.equal(labels[:, None], self.labels[None, :]),
        )

    def add_slopes(
        self, slopes: Tensor, weights: Tensor, anchors: Anchors, is_new: Tensor
    ) -> Tensor:
        """Adds a block's rows of A to (A + Aᵀ) x', A the slopes for −x_a·x_j.

        Args:
            slopes: The sum so far `(batch, dim + 1)`.
            weights: `Term.weights`.
            anchors: The block.
            is_new: 1 for the anchors that are not yet in the sum, else 0.
        """
        weights = _per_product(weights, anchors.values, self.metric)
        of_anchors = ops.einsum("ij,jd->id", weights, self.extended)
        if self.symmetric:
            of_anchors = 2.0 * of_anchors
        else:
            own = ops.take(self.extended, anchors.index, axis=0)
            own = own * is_new[:, None]
            slopes = slopes + ops.einsum("ij,id->jd", weights, own)
            of_anchors = of_anchors * is_new[:, None]
            of_anchors = of_anchors + ops.take(slopes, anchors.index, axis=0)
        start = anchors.index[0]
        return ops.slice_update(slopes, (start, 0 * start), of_anchors)

    def gradient(self, slopes: Tensor) -> Tensor:
        """The gradient of the embeddings, from (A + Aᵀ) x'.

        In a distance the squared lengths have slopes too, half as large. They
        make Σ_j (A + Aᵀ)_aj (x_a − x_j) of −Σ_j (A + Aᵀ)_aj x_j.
        """
        gradient = -slopes[:, :-1]
        if self.metric in ("L2", "squared-L2"):
            gradient = gradient + slopes[:, -1:] * self.embeddings
        return gradient


def _values(
    products: Tensor, of_anchors: Tensor, of_batch: Tensor, metric: str
) -> Tensor:
    """Distances or cosines from products x_a·x_j and squared lengths."""
    if metric == "cosine":
        return products
    if metric == "angular":
        return 1.0 - products
    # ‖a − b‖² = ‖a‖² + ‖b‖² − 2 a·b, which rounding can put below 0.
    lengths = of_anchors[:, None] + of_batch[None, :]
    squared = ops.relu(lengths - 2.0 * products)
    return ops.sqrt(squared) if metric == "L2" else squared


def _per_product(weights: Tensor, values: Tensor, metric: str) -> Tensor:
    """The slope for −x_a·x_j, from that for the distance or cosine."""
    if metric == "L2":
        # ∂‖a − b‖ / ∂(−a·b) = 1 / ‖a − b‖
        return weights / ops.where(values > 0.0, values, float("inf"))
    return {"squared-L2": 2.0, "angular": 1.0, "cosine": -1.0}[metric] * weights


@dataclasses.dataclass(frozen=True)
class Classes:
    """Who shares a class with whom, without a matrix of pairs.

    Attributes:
        order: The places in the batch, ordered by class and then by place.
        first: Where in that order the class of each sample begins.
        place: The sample's place among those of its class, from 0.
        count: How many samples its class has in the batch.

    All int32 `(batch,)`.
    """

    order: Tensor
    first: Tensor
    place: Tensor
    count: Tensor

    @classmethod
    def of(cls, labels: Tensor) -> "Classes":
        """The classes of a batch by its labels `(batch,)`."""
        order = ops.cast(ops.argsort(labels), "int32")
        ordered = ops.take(labels, order, axis=0)
        # Numbers for the classes: labels may have any dtype.
        begins = ops.cast(ops.not_equal(ordered[1:], ordered[:-1]), "int32")
        number = ops.concatenate(
            [ops.zeros_like(order[:1]), ops.cumsum(begins)]
        )
        in_order = ops.cast(ops.argsort(order), "int32")
        own = ops.take(number, in_order, axis=0)
        first, end = (
            ops.cast(ops.searchsorted(number, own, side=side), "int32")
            for side in ("left", "right")
        )
        return cls(order, first, in_order - first, end - first)

    def largest(self) -> Tensor:
        """The number of samples of the class that has the most."""
        return ops.max(self.count)

    def other(self, index: Tensor, step: Tensor | int) -> Tensor:
        """The sample that stands some steps further in the same class.

        Args:
            index: Samples `(anchors,)`.
            step: From 1 on; from `count` on it begins again.

        Returns:
            Where that sample stands in the batch `(anchors,)`.
        """
        first, place, count = (
            ops.take(values, index, axis=0)
            for values in (self.first, self.place, self.count)
        )
        return ops.take(self.order, first + (place + step) % count, axis=0)


class EmbeddingLoss(BatchLoss):
    """Base of the losses that compare the embeddings of a batch in pairs.

    The model's output is the embedding. On several replicas the batch is the
    global one. Time O(batch²), memory O(batch), but for `NPairsLoss`. The
    gradient is not for deriving again.

    Args:
        name: Name of the loss.
        **kwargs: `reduction` and `dtype` of `keras.losses.Loss`.
    """

    compares_embeddings = True

    def loss_of_batch(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The loss of the global batch, a scalar."""
        if len(y_pred.shape) != 2:
            raise ValueError(
                f"{self.who}: y_pred must be embeddings of the shape (batch, "
                f"dim), received the shape {tuple(y_pred.shape)}. Pool a "
                "feature map first, for instance with "
                "keras.layers.GlobalAveragePooling2D()."
            )
        check_labels(self.who, y_true, name="y_true")
        labels = class_numbers(
            self.who, y_true, (y_pred.shape[0],), name="y_true"
        )
        loss = self.loss_of_pairs(labels, y_pred)
        # A mask may have left them out: divergence has to show, and so has a
        # row that names no class.
        usable = ops.all(ops.isfinite(y_pred))
        if len(y_true.shape) == 2 and y_true.shape[-1] != 1:
            named = ops.all(in_range(labels, y_true.shape[-1]))
            usable = ops.logical_and(usable, named)
        return ops.where(usable, loss, float("nan"))

    def loss_of_pairs(self, labels: Tensor, embeddings: Tensor) -> Tensor:
        """The loss of the global batch.

        Args:
            labels: `(batch,)`, equal where the class is.
            embeddings: `(batch, dim)`.

        Returns:
            Scalar.
        """
        raise NotImplementedError


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of the values that a mask keeps, 0 if it keeps none."""
    mask = ops.cast(mask, values.dtype)
    return ops.sum(values * mask) / ops.maximum(ops.sum(mask), 1.0)

"""What the losses on pairs of embeddings have in common.

A loss describes the pairs of a block of anchors by a sum and by its slopes for
their distances or cosines. `mean_over_anchors` makes the mean over the batch
and the gradient of it.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
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

# The most anchors in a block: few enough that the matrices of a block stay in
# the cache, and enough for an efficient product.
BLOCK = 512
# Squared distances below this count as 0: float32 has no normal number there.
SMALLEST_SQUARE = float(np.finfo("float32").tiny)


class EmbeddingLoss(BatchLoss):
    """Base of the losses that compare the embeddings of a batch in pairs.

    The model's output is the embedding. On several replicas the batch is the
    global one. Time O(batch²), memory O(batch), but for `NPairsLoss`.

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
        # NaN also where no pair shows it: an infinite embedding without a
        # partner, or a row of labels that names no class.
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


class Pairs(NamedTuple):
    """The pairs of a block of anchors with all samples of the batch.

    Attributes:
        index: Position of the anchors in the batch, int32 `(anchors,)`.
        values: The distance or cosine of each pair `(anchors, batch)`. For an
            anchor with itself it is a rounding error.
        positive: Which pairs are two samples of one class, bool `(anchors,
            batch)`.
        negative: Which pairs are of two classes, bool `(anchors, batch)`.
    """

    index: Tensor
    values: Tensor
    positive: Tensor
    negative: Tensor


class Term(NamedTuple):
    """The share of a block of anchors in a mean.

    Attributes:
        total: The sum over each anchor's pairs `(anchors,)`.
        count: The share of each anchor in the divisor of the mean `(anchors,)`.
        slopes: The derivative of the sum of the totals for each of
            `Pairs.values` `(anchors, batch)`.
    """

    total: Tensor
    count: Tensor
    slopes: Tensor


def mean_over_anchors(
    terms: Callable[[Pairs], Sequence[Term]],
    labels: Tensor,
    embeddings: Tensor,
    metric: str,
    symmetric: bool = False,
) -> Tensor:
    """A sum of means over pairs, in blocks of anchors.

        L = Σ_t total_t / max(count_t, 1)

    The gradient is added up together with the value. This way no matrix of all
    pairs is held, and no block is computed twice.

    Args:
        terms: Returns the share of a block of anchors in each of the means.
        labels: `(batch,)`, equal where the class is.
        embeddings: `(batch, dim)`. They are scaled to unit length for the
            cosines only.
        metric: What is compared: "L2", ‖a − b‖; "squared-L2", ‖a − b‖²;
            "cosine", cos(a, b); or "angular", 1 − cos(a, b).
        symmetric: Whether the slopes of (a, b) and (b, a) are equal. This saves
            a product of matrices for each mean.

    Returns:
        Scalar. Where a distance is 0 its gradient is 0. Below about √ε times
        the length of the embeddings, ε the precision of the dtype, an "L2"
        distance is a rounding error.
    """
    if metric in ("cosine", "angular"):
        embeddings = unit_length(embeddings)

    def loss(
        embeddings: Tensor,
    ) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor]]]:
        value, gradient = 0.0, 0.0
        for total, count, slopes in _sum_over_blocks(
            terms, labels, embeddings, metric, symmetric
        ):
            share = 1.0 / ops.where(count > 1.0, count, 1.0)
            value = value + share * total
            gradient = gradient - share * slopes[:, :-1]
            if metric in ("L2", "squared-L2"):
                # Σ_j A_aj (x_a − x_j), and not −Σ_j A_aj x_j alone.
                gradient = gradient + share * slopes[:, -1:] * embeddings
        return value, lambda upstream: (upstream * gradient,)

    return with_gradient(loss)(embeddings)


def _sum_over_blocks(
    terms: Callable[[Pairs], Sequence[Term]],
    labels: Tensor,
    embeddings: Tensor,
    metric: str,
    symmetric: bool,
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Adds up the terms of all anchors.

    Args:
        terms: As in `mean_over_anchors`.
        labels: As in `mean_over_anchors`.
        embeddings: As there, of unit length for the cosines.
        metric: As there.
        symmetric: As there.

    Returns:
        The total, the count and (A + Aᵀ) x' for each mean. A are the slopes for
        −x_a·x_j, and x' are the embeddings with a column of ones, `(batch, dim
        + 1)`: the last column holds the row sums.
    """
    batch = ops.shape(embeddings)[0]
    num_blocks = batch // (BLOCK + 1) + 1
    size = (batch + num_blocks - 1) // num_blocks
    squared_lengths = ops.sum(ops.square(embeddings), axis=1)
    extended = ops.concatenate(
        [embeddings, ops.ones_like(embeddings[:, :1])], axis=1
    )

    def block(number: Tensor | int) -> list[tuple[Tensor, Tensor, Tensor]]:
        # Where the block size does not divide the batch, the last block begins
        # earlier. The anchors that it repeats do not count.
        start = ops.cast(ops.minimum(number * size, batch - size), "int32")
        index = start + ops.arange(size, dtype="int32")
        is_new = ops.cast(index >= number * size, embeddings.dtype)

        def of(values: Tensor) -> Tensor:
            return ops.take(values, index, axis=0)

        # (`ops.matmul` would compute float64 in float32 on PyTorch.)
        products = ops.einsum("id,jd->ij", of(embeddings), embeddings)
        values = _values(products, of(squared_lengths), squared_lengths, metric)
        same = ops.equal(of(labels)[:, None], labels[None, :])
        other = ops.not_equal(index[:, None], ops.arange(batch, dtype="int32"))
        pairs = Pairs(
            index, values, ops.logical_and(same, other), ops.logical_not(same)
        )

        def products_with_slopes(slopes: Tensor) -> Tensor:
            """The share of these rows of A in (A + Aᵀ) x'."""
            slopes = _slopes_of_products(slopes, values, metric)
            rows = ops.einsum("ij,jd->id", slopes, extended) * is_new[:, None]
            rows = 2.0 * rows if symmetric else rows
            rest = ops.zeros((batch - size, rows.shape[1]), dtype=rows.dtype)
            rows = ops.roll(ops.concatenate([rows, rest]), start, axis=0)
            if symmetric:
                return rows
            own = of(extended) * is_new[:, None]
            return rows + ops.einsum("ij,id->jd", slopes, own)

        return [
            (
                ops.sum(term.total * is_new),
                ops.sum(term.count * is_new),
                products_with_slopes(term.slopes),
            )
            for term in terms(pairs)
        ]

    return _sum(block, num_blocks)


def _sum(function: Callable[[Tensor | int], Any], count: Tensor | int) -> Any:
    """Adds up what a function returns for 0, …, count − 1."""

    def add(number: Tensor, sums: Any) -> Any:
        return keras.tree.map_structure(ops.add, sums, function(number))

    first = function(0)
    if isinstance(count, int) and count == 1:
        return first
    if keras.backend.backend() != "tensorflow":
        return ops.fori_loop(1, count, add, first)
    import tensorflow as tf

    # By default ten iterations run at a time, and hold as many blocks.
    return tf.while_loop(
        lambda number, _: number < count,
        lambda number, sums: (number + 1, add(number, sums)),
        (1, first),
        parallel_iterations=1,
        maximum_iterations=count,
    )[1]


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
    squared = lengths - 2.0 * products
    if metric == "squared-L2":
        return ops.relu(squared)
    # (Above 0, where the root has a derivative.)
    is_zero = squared < SMALLEST_SQUARE
    return ops.sqrt(ops.where(is_zero, SMALLEST_SQUARE, squared))


def _slopes_of_products(slopes: Tensor, values: Tensor, metric: str) -> Tensor:
    """The slopes for −x_a·x_j, from those for the distances or cosines."""
    if metric == "L2":
        # ∂‖a − b‖ / ∂(−a·b) = 1 / ‖a − b‖
        is_zero = values < 2.0 * SMALLEST_SQUARE**0.5
        return slopes / ops.where(is_zero, float("inf"), values)
    return {"squared-L2": 2.0, "angular": 1.0, "cosine": -1.0}[metric] * slopes


def in_class_order(labels: Tensor, embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """The batch, sorted by class and then by position."""
    order = ops.argsort(labels)
    return ops.take(labels, order, axis=0), ops.take(embeddings, order, axis=0)

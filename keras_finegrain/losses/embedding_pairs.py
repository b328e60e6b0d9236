"""What the losses on pairs of embeddings have in common.

A loss describes the pairs of a block of anchors by a sum and by its slopes for
their distances or cosines. `mean_over_anchors` makes the mean over the batch
and the gradient of it.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_finegrain._base.arrays import concrete
from keras_finegrain._base.typing import Tensor
from keras_finegrain._ops.numerics import scale_to_square, unit_length
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
    # Whether the anchors may be compared with a `Reference`.
    takes_reference = True
    # Whether a batch of one class alone, or without two samples of a class,
    # was warned of.
    _has_warned = False

    def loss_of_batch(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The loss of the global batch, a scalar."""
        if len(y_pred.shape) != 2:
            raise ValueError(
                f"{self.who}: y_pred must be embeddings of the shape (batch, "
                f"dim), received the shape {tuple(y_pred.shape)}. Pool a "
                "feature map first, for instance with "
                "keras.layers.GlobalAveragePooling2D()."
            )
        may_read = self.may_read(y_true)
        if may_read:
            check_labels(self.who, y_true, name="y_true")
        labels = class_numbers(
            self.who, y_true, (y_pred.shape[0],), name="y_true"
        )
        if may_read and not self._has_warned:
            self._warn_without_pairs(labels)
        loss = self.loss_of_pairs(labels, y_pred)
        # NaN also where no pair shows it: an infinite embedding without a
        # partner, or a row of labels that names no class.
        usable = ops.all(ops.isfinite(y_pred))
        if len(y_true.shape) == 2 and y_true.shape[-1] != 1:
            named = ops.all(in_range(labels, y_true.shape[-1]))
            usable = ops.logical_and(usable, named)
        return ops.where(usable, loss, float("nan"))

    def _warn_without_pairs(self, labels: Tensor) -> None:
        values = concrete(labels)
        # (The last batch of an epoch may be a single sample.)
        if values is None or len(values) < 2:
            return
        missing = missing_pairs(values)
        if missing is not None:
            self._has_warned = True
            warnings.warn(
                f"{self.who}: a batch must hold {missing}, received "
                f"{len(values)} samples without. Such a batch teaches little "
                "or nothing. Draw batches with "
                "keras_finegrain.datasets.balanced_batches.",
                stacklevel=2,
            )

    def loss_of_pairs(
        self,
        labels: Tensor,
        embeddings: Tensor,
        reference: "Reference | None" = None,
    ) -> Tensor:
        """The loss of the global batch.

        Args:
            labels: `(batch,)`, equal where the class is.
            embeddings: `(batch, dim)`.
            reference: What the batch is compared with, or `None` for the batch
                itself. With it the labels are integers of at least 0.

        Returns:
            Scalar.
        """
        raise NotImplementedError


class Reference(NamedTuple):
    """The samples that a batch is compared with in place of itself.

    Attributes:
        embeddings: `(size, dim)`. They get no gradient.
        labels: Integers `(size,)`. A sample with a negative one is in no pair.
        own: Position of each sample of the batch in the reference, int32
            `(batch,)`, negative where it is not there: no sample makes a pair
            with itself.
        counted: Which samples of the batch are anchors, bool `(batch,)`.
        weights: What the pairs of each anchor are multiplied by `(batch,)`.
    """

    embeddings: Tensor
    labels: Tensor
    own: Tensor
    counted: Tensor
    weights: Tensor


def missing_pairs(labels: np.ndarray) -> str | None:
    """What a batch lacks for losses on pairs, or `None`.

    Args:
        labels: `(batch,)`, equal where the class is.

    Example:

    >>> missing_pairs(np.array([0, 1, 2]))
    'two samples of one class'
    """
    _, counts = np.unique(labels, return_counts=True)
    if counts.max() < 2:
        return "two samples of one class"
    return "samples of two classes" if len(counts) < 2 else None


class Pairs(NamedTuple):
    """The pairs of a block of anchors with all samples of a reference.

    Attributes:
        index: Position of the anchors in the batch, int32 `(anchors,)`.
        values: The distance or cosine of each pair `(anchors, size)`. For an
            anchor with itself it is a rounding error.
        positive: Which pairs are two samples of one class, bool `(anchors,
            size)`.
        negative: Which pairs are of two classes, bool `(anchors, size)`.
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
            `Pairs.values` `(anchors, size)`.
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
    reference: Reference | None = None,
) -> Tensor:
    """A sum of means over pairs, in blocks of anchors.

        L = Σ_t total_t / max(count_t, 1)

    The gradient is written out, and added up together with the value: no matrix
    of all pairs is held, and no block is computed twice.

    Args:
        terms: Returns the share of a block of anchors in each of the means.
        labels: `(batch,)`, equal where the class is.
        embeddings: `(batch, dim)`. They are scaled to unit length for the
            cosines only.
        metric: What is compared: "L2", ‖a − b‖; "squared-L2", ‖a − b‖²;
            "cosine", cos(a, b); or "angular", 1 − cos(a, b).
        symmetric: Whether the slopes of (a, b) and (b, a) are equal. This saves
            a product of matrices for each mean.
        reference: What the anchors are compared with, or `None` for the batch
            itself.

    Returns:
        Scalar. Where a distance is 0 its gradient is 0. Below about √ε times
        the length of the embeddings, ε the precision of the dtype, an "L2"
        distance is a rounding error.
    """
    if metric in ("cosine", "angular"):
        embeddings = unit_length(embeddings)
        if reference is not None:
            reference = reference._replace(
                embeddings=unit_length(reference.embeddings)
            )
    batch = ops.shape(embeddings)[0]
    num_blocks = batch // (BLOCK + 1) + 1
    size = (batch + num_blocks - 1) // num_blocks

    def sums(
        number: Tensor | int, embeddings: Tensor, scale: Tensor
    ) -> list[Any]:
        """Total, count and gradient of the total, of a block for each term."""
        # Where the block size does not divide the batch, the last block begins
        # earlier. The anchors that it repeats do not count.
        start = ops.cast(ops.minimum(number * size, batch - size), "int32")
        index = start + ops.arange(size, dtype="int32")
        counts = ops.cast(index >= number * size, embeddings.dtype)
        of_totals = counts
        others = None
        if reference is not None:
            others = reference._replace(embeddings=reference.embeddings / scale)
            counted = ops.take(reference.counted, index, axis=0)
            counts = counts * ops.cast(counted, counts.dtype)
            of_totals = counts * ops.take(reference.weights, index, axis=0)
        pairs = _pairs(index, labels, embeddings, metric, others)
        # Terms get the distances of the embeddings as they came.
        values, factor = pairs.values, ops.ones_like(scale)
        if metric == "squared-L2":
            values, factor = values * scale * scale, scale
        elif metric == "L2":
            values = values * scale
        return [
            (
                ops.sum(total * of_totals),
                ops.sum(count * counts),
                factor
                * _gradient(
                    slopes,
                    pairs,
                    of_totals,
                    embeddings,
                    metric,
                    symmetric,
                    others,
                ),
            )
            for total, count, slopes in terms(pairs._replace(values=values))
        ]

    def loss(
        embeddings: Tensor,
    ) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor]]]:
        value, gradient = 0.0, 0.0
        scale = scale_to_square(embeddings)
        if reference is not None:
            others = scale_to_square(reference.embeddings)
            scale = ops.where(others > scale, others, scale)
        embeddings = embeddings / scale
        for total, count, of_total in _sum(
            lambda number: sums(number, embeddings, scale), num_blocks
        ):
            share = 1.0 / ops.where(count > 1.0, count, 1.0)
            value = value + share * total
            gradient = gradient + share * of_total
        return value, lambda upstream: (upstream * gradient,)

    return with_gradient(loss)(embeddings)


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


def _pairs(
    index: Tensor,
    labels: Tensor,
    embeddings: Tensor,
    metric: str,
    reference: Reference | None,
) -> Pairs:
    """The pairs of the anchors at some positions of the batch."""
    anchors = ops.take(embeddings, index, axis=0)
    of_anchors = ops.take(labels, index, axis=0)
    own = index
    if reference is not None:
        own = ops.take(reference.own, index, axis=0)
        embeddings, labels = reference.embeddings, reference.labels
    # (`ops.matmul` would compute float64 in float32 on PyTorch.)
    values = ops.einsum("id,jd->ij", anchors, embeddings)
    if metric == "angular":
        values = 1.0 - values
    elif metric != "cosine":
        rows = ops.sum(ops.square(anchors), axis=1)
        columns = ops.sum(ops.square(embeddings), axis=1)
        # ‖a − b‖² = ‖a‖² + ‖b‖² − 2 a·b, which rounding can put below 0.
        values = rows[:, None] + columns[None, :] - 2.0 * values
        # (Above 0 for the root, which has no derivative there. NaN stays.)
        least = SMALLEST_SQUARE if metric == "L2" else 0.0
        values = ops.where(values < least, least, values)
        values = ops.sqrt(values) if metric == "L2" else values
    same = ops.equal(of_anchors[:, None], labels[None, :])
    places = ops.arange(ops.shape(labels)[0], dtype="int32")
    others = ops.not_equal(own[:, None], places[None, :])
    positive = ops.logical_and(same, others)
    negative = ops.logical_not(same)
    if reference is not None:
        # (Anchors have labels of at least 0: no such sample is a positive.)
        negative = ops.logical_and(negative, labels[None, :] >= 0)
    return Pairs(index, values, positive, negative)


def _gradient(
    slopes: Tensor,
    pairs: Pairs,
    weights: Tensor,
    embeddings: Tensor,
    metric: str,
    symmetric: bool,
    reference: Reference | None,
) -> Tensor:
    """The gradient of a block's totals for the embeddings `(batch, dim)`.

    With A the slopes for −x_a·x_j it is −(A + Aᵀ) x for the cosines. For the
    distances ‖x_a‖² and ‖x_j‖² make it Σ_j (A + Aᵀ)_aj (x_a − x_j). A reference
    gets no gradient: with it there is no Aᵀ.
    """
    if metric == "L2":
        # ∂‖a − b‖ / ∂(−a·b) = 1 / ‖a − b‖
        is_zero = pairs.values < 2.0 * SMALLEST_SQUARE**0.5
        slopes = slopes / ops.where(is_zero, float("inf"), pairs.values)
    else:
        factors = {"squared-L2": 2.0, "angular": 1.0, "cosine": -1.0}
        slopes = factors[metric] * slopes
    # With a column of ones, so that the last column of a product is a row sum.
    extended = _with_ones(embeddings)
    others = extended if reference is None else _with_ones(reference.embeddings)
    rows = ops.einsum("ij,jd->id", slopes, others) * weights[:, None]
    # (TensorFlow cannot derive `ops.slice_update`, and on PyTorch
    # `ops.segment_sum` computes float64 in float32.)
    products = ops.scatter_update(
        ops.zeros_like(extended), pairs.index[:, None], rows
    )
    if reference is None and symmetric:
        products = 2.0 * products
    elif reference is None:
        own = ops.take(extended, pairs.index, axis=0) * weights[:, None]
        products = products + ops.einsum("ij,id->jd", slopes, own)
    gradient = -products[:, :-1]
    if metric in ("L2", "squared-L2"):
        gradient = gradient + products[:, -1:] * embeddings
    return gradient


def _with_ones(embeddings: Tensor) -> Tensor:
    return ops.concatenate(
        [embeddings, ops.ones_like(embeddings[:, :1])], axis=1
    )

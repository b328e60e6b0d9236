"""The multi-class N-pair loss."""

from typing import Any

import keras
from keras import ops

from keras_finegrain._base.typing import Tensor
from keras_finegrain._ops.numerics import scale_to_square
from keras_finegrain.losses.embedding_pairs import (
    EmbeddingLoss,
    Reference,
)


@keras.saving.register_keras_serializable(package="keras_finegrain")
class NPairsLoss(EmbeddingLoss):
    """One positive against the positives of all other classes (N-pair-mc).

    Of each class with two samples or more in the batch the first is the
    anchor x_c and the second the positive x_c⁺:

        L = mean over c of log(1 + Σ_{k≠c} e^{x_c·x_k⁺ − x_c·x_c⁺})

    Further samples of a class are not used: give it batches of two, such as
    `datasets.balanced_batches(…, images_per_class=2)` makes.

    The products are of the embeddings as they are. The paper keeps their
    length in check with a penalty on it,
    `keras.layers.ActivityRegularization(l2=…)`.

    Args:
        name: Name of the loss.
        **kwargs: `reduction` and `dtype` of `keras.losses.Loss`.

    Call arguments:
        y_true: Integers `(batch,)` or `(batch, 1)`, or one-hot labels `(batch,
            num_classes)`.
        y_pred: Embeddings `(batch, dim)`.

    Raises:
        ValueError: For sample weights, and for embeddings or labels of another
            shape.

    Example:

    >>> loss = keras_finegrain.losses.NPairsLoss()
    >>> embeddings = np.array([[1.0], [1.0], [-1.0], [-1.0]], "float32")
    >>> print(round(float(loss(np.array([0, 0, 1, 1]), embeddings)), 4))
    0.1269

    Reference:
        - [Sohn, "Improved Deep Metric Learning with Multi-class N-pair Loss
          Objective", NeurIPS 2016](https://papers.nips.cc/paper/6200)
    """

    # It takes one pair of each class of the batch.
    takes_reference = False

    def __init__(self, name: str = "n_pairs_loss", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    def loss_of_pairs(
        self,
        labels: Tensor,
        embeddings: Tensor,
        reference: Reference | None = None,
    ) -> Tensor:
        """L of the global batch, a scalar."""
        del reference
        order = ops.argsort(labels)
        labels = ops.take(labels, order, axis=0)
        # The first sample of a class, if the next one is of the class too.
        is_anchor = ops.logical_and(
            ops.not_equal(labels, ops.roll(labels, 1)),
            ops.equal(labels, ops.roll(labels, -1)),
        )
        # No batch has more than half as many of them: a quarter of all pairs.
        most = (ops.shape(labels)[0] + 1) // 2
        first = ops.argsort(ops.where(is_anchor, 0, 1))[:most]
        is_anchor = ops.take(is_anchor, first, axis=0)
        anchors, positives = (
            ops.take(embeddings, ops.take(samples, first, axis=0), axis=0)
            for samples in (order, ops.roll(order, -1))
        )
        # Differences before they grow: ∞ − ∞ would be NaN.
        scale = scale_to_square(embeddings)
        products = ops.einsum("id,jd->ij", anchors / scale, positives / scale)
        products = products - ops.diagonal(products)[:, None]
        products = products * scale * scale
        # (Rows that are no anchors are computed too, and have to be finite.)
        logits = ops.where(is_anchor[None, :], products, -float("inf"))
        logits = ops.where(is_anchor[:, None], logits, 0.0)
        losses = ops.where(is_anchor, ops.logsumexp(logits, axis=1), 0.0)
        count = ops.sum(ops.cast(is_anchor, losses.dtype))
        return ops.sum(losses) / ops.maximum(count, 1.0)

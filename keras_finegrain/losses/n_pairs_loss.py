"""The multi-class N-pair loss."""

from typing import Any

import keras
from keras import ops

from keras_finegrain._typing import Tensor
from keras_finegrain.losses.embedding_pairs import (
    EmbeddingLoss,
    masked_mean,
    pairwise_similarities,
    same_class,
    same_sample,
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

    def __init__(self, name: str = "n_pairs_loss", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    def loss_of_pairs(self, labels: Tensor, embeddings: Tensor) -> Tensor:
        """L of the global batch, a scalar."""
        same = same_class(labels)
        # The place of each sample among those of its class.
        count = ops.cumsum(ops.cast(same, "int32"), axis=1)
        place = ops.sum(
            ops.where(same_sample(same), count, 0), axis=1, keepdims=True
        )
        is_anchor = ops.logical_and(place == 1, count[:, -1:] > 1)[:, 0]
        is_positive = ops.transpose(place) == 2
        products = pairwise_similarities(embeddings)
        logits = ops.where(is_positive, products, -float("inf"))
        own = ops.sum(
            ops.where(ops.logical_and(same, is_positive), products, 0.0), axis=1
        )
        # Rows that are no anchors are computed too, and have to be finite
        # where no class has a positive.
        logits = ops.where(is_anchor[:, None], logits, 0.0)
        own = ops.where(is_anchor, own, 0.0)
        return masked_mean(ops.logsumexp(logits, axis=1) - own, is_anchor)

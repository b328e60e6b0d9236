"""Supervised contrastive loss: each positive against all other samples."""

from typing import Any

import keras
from keras import ops

from keras_finegrain._base.checks import number
from keras_finegrain._base.typing import Tensor
from keras_finegrain._ops.numerics import log_sum_exp_and_shares
from keras_finegrain.losses.embedding_pairs import (
    EmbeddingLoss,
    Pairs,
    Reference,
    Term,
    mean_over_anchors,
)


@keras.saving.register_keras_serializable(package="keras_finegrain")
class SupConLoss(EmbeddingLoss):
    """Supervised contrastive loss (SupCon), of several views or images.

    With the cosines S of the batch's embeddings and P_i the other samples of
    the class of i,

        L = mean over i of −1/|P_i| Σ_{p∈P_i} log( e^{S_ip/T} / Σ_{a≠i} e^{S_ia/T} )

    over the samples that have another one of their class. This is the paper's
    L_out.

    Args:
        temperature: T, above 0. Default 0.1, the paper's.
        name: Name of the loss.
        **kwargs: `reduction` and `dtype` of `keras.losses.Loss`.

    Call arguments:
        y_true: Integers `(batch,)` or `(batch, 1)`, or one-hot labels `(batch,
            num_classes)`.
        y_pred: Embeddings `(batch, dim)`. They are scaled to unit length here.

    Raises:
        ValueError: For an argument out of its range, for sample weights, and
            for embeddings or labels of another shape.

    Example:

    >>> loss = keras_finegrain.losses.SupConLoss(temperature=1.0)
    >>> embeddings = np.array([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]], "float32")
    >>> print(round(float(loss(np.array([0, 0, 1]), embeddings)), 4))
    0.1269

    Reference:
        - [Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020,
          equation 2](https://arxiv.org/abs/2004.11362)
    """  # noqa: E501

    def __init__(
        self,
        temperature: float = 0.1,
        name: str = "sup_con_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.temperature = number(self.who, "temperature", temperature, above=0)

    def loss_of_pairs(
        self,
        labels: Tensor,
        embeddings: Tensor,
        reference: Reference | None = None,
    ) -> Tensor:
        """L of the global batch, a scalar."""
        return mean_over_anchors(
            self._terms, labels, embeddings, "cosine", reference=reference
        )

    def _terms(self, pairs: Pairs) -> list[Term]:
        logits = pairs.values / self.temperature
        others = ops.logical_or(pairs.positive, pairs.negative)
        log_sum, shares = log_sum_exp_and_shares(logits, others)
        positive = ops.cast(pairs.positive, logits.dtype)
        count = ops.sum(positive, axis=1)
        has_positive = ops.cast(count > 0.0, logits.dtype)
        target = positive / ops.where(count > 0.0, count, 1.0)[:, None]
        each = has_positive * log_sum - ops.sum(target * logits, axis=1)
        slopes = has_positive[:, None] * shares - target
        return [Term(each, has_positive, slopes / self.temperature)]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "temperature": self.temperature}

"""What the losses on pairs of embeddings have in common."""

from keras import ops

from keras_finegrain._math import unit_length
from keras_finegrain._typing import Tensor
from keras_finegrain.losses.batch_loss import BatchLoss

# The names that TensorFlow Addons gave them.
DISTANCE_METRICS = ("L2", "squared-L2", "angular")


def pairwise_similarities(embeddings: Tensor) -> Tensor:
    """The dot product of each pair.

    Args:
        embeddings: `(batch, dim)`.

    Returns:
        Tensor `(batch, batch)`.
    """
    # (`ops.matmul` would compute float64 in float32 on PyTorch.)
    return ops.einsum("id,jd->ij", embeddings, embeddings)


def pairwise_cosines(embeddings: Tensor) -> Tensor:
    """The cosine of each pair `(batch, batch)`, in [-1, 1]."""
    return pairwise_similarities(unit_length(embeddings))


def pairwise_distances(embeddings: Tensor, metric: str) -> Tensor:
    """The distance of each pair.

    Args:
        embeddings: `(batch, dim)`, not scaled here but for "angular".
        metric: "L2", ‖a − b‖; "squared-L2", ‖a − b‖²; or "angular",
            1 − cos(a, b).

    Returns:
        Tensor `(batch, batch)`, 0 on the diagonal. Where it comes out as 0 so
        does its gradient. Of embeddings nearer than about √ε times their
        length, ε the dtype's precision, "L2" is rounding.
    """
    if metric == "angular":
        distances = 1.0 - pairwise_cosines(embeddings)
    else:
        products = pairwise_similarities(embeddings)
        squared_length = ops.sum(ops.square(embeddings), axis=-1)
        lengths = squared_length[:, None] + squared_length[None, :]
        distances = lengths - 2.0 * products
    distances = ops.where(same_sample(distances), 0.0, distances)
    if metric == "angular":
        return distances
    # (This way round NaN stays NaN.)
    coincide = distances <= 0.0
    if metric == "L2":
        # Before and after the root: its gradient at 0 is not finite.
        distances = ops.sqrt(ops.where(coincide, 1.0, distances))
    return ops.where(coincide, 0.0, distances)


def same_sample(pairs: Tensor) -> Tensor:
    """The diagonal of a matrix over pairs, bool of its shape."""
    index = ops.arange(ops.shape(pairs)[0], dtype="int32")
    return ops.equal(index[:, None], index[None, :])


def same_class(labels: Tensor) -> Tensor:
    """Which pairs share a class, a sample and itself included.

    Args:
        labels: `(batch,)`.

    Returns:
        bool tensor `(batch, batch)`.
    """
    return ops.equal(labels[:, None], labels[None, :])


class EmbeddingLoss(BatchLoss):
    """Base of the losses that compare the embeddings of a batch in pairs.

    The model's output is the embedding. On several replicas the batch is the
    global one. Memory O(batch²).

    Args:
        name: Name of the loss.
        **kwargs: `reduction` and `dtype` of `keras.losses.Loss`.
    """

    def loss_of_batch(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The loss of the global batch, a scalar."""
        if len(y_pred.shape) != 2:
            raise ValueError(
                f"{self.who}: y_pred must be embeddings of the shape (batch, "
                f"dim), received the shape {tuple(y_pred.shape)}. Pool a "
                "feature map first, for instance with "
                "keras.layers.GlobalAveragePooling2D()."
            )
        loss = self.loss_of_pairs(self._integers(y_true, y_pred), y_pred)
        # A mask may have left them out: divergence has to show.
        finite = ops.all(ops.isfinite(y_pred))
        return ops.where(finite, loss, float("nan"))

    def loss_of_pairs(self, labels: Tensor, embeddings: Tensor) -> Tensor:
        """The loss of the global batch.

        Args:
            labels: `(batch,)`, equal where the class is.
            embeddings: `(batch, dim)`.

        Returns:
            Scalar.
        """
        raise NotImplementedError

    def _integers(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        shape = tuple(y_true.shape)
        if len(shape) == 2 and shape[-1] == 1:
            return ops.squeeze(y_true, axis=-1)
        if len(shape) == 2 and shape[-1] is not None:
            return ops.argmax(y_true, axis=-1)
        if len(shape) != 1:
            raise ValueError(
                f"{self.who}: y_true must have the shape (batch,), (batch, 1) "
                "or, one-hot, (batch, num_classes) for embeddings of the shape "
                f"{tuple(y_pred.shape)}, received the shape {shape}."
            )
        return y_true


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of the values that a mask keeps, 0 if it keeps none."""
    mask = ops.cast(mask, values.dtype)
    # (Counted in the values' dtype: 4,096² pairs are exact in float32.)
    return ops.sum(values * mask) / ops.maximum(ops.sum(mask), 1.0)

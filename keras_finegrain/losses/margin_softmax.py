"""The cross-entropy of cosines whose true class is held to a margin."""

from typing import Any

from keras import ops

from keras_finegrain._checks import number
from keras_finegrain._typing import Tensor
from keras_finegrain.labels import current_scope
from keras_finegrain.losses.class_similarity import ClassSimilarityLoss


def margin_crossentropy(
    similarities: Tensor,
    target: Tensor,
    is_true: Tensor,
    target_similarity: Tensor,
    scale: float,
    log_weights: Tensor | float = 0.0,
) -> Tensor:
    """Cross-entropy of s·S with the true class's S_y replaced by ψ(S_y).

        ℓ = −log( e^{s ψ_y} / (e^{s ψ_y} + Σ_{c≠y} e^{s S_c}) )

    Args:
        similarities: S `(batch, num_classes)`.
        target: One-hot labels `(batch, num_classes)`, same dtype. Soft labels
            are mixed.
        is_true: Where the true class's similarity stands, bool `(batch,
            num_classes)`.
        target_similarity: ψ(S_y) `(batch,)`.
        scale: s.
        log_weights: The logarithm of how many classes each stands for
            `(num_classes,)`, where a part of them was scored.

    Returns:
        Tensor `(batch,)`.
    """
    replaced = ops.where(is_true, target_similarity[:, None], similarities)
    logits = scale * replaced + log_weights
    return ops.logsumexp(logits, axis=-1) * ops.sum(target, axis=-1) - ops.sum(
        target * logits, axis=-1
    )


def is_true_class(target: Tensor) -> Tensor:
    """Which class each row of labels names, bool of their shape.

    Args:
        target: One-hot labels `(batch, num_classes)`; soft ones name their
            largest class.

    Returns:
        bool tensor `(batch, num_classes)`, true once in each row.
    """
    classes = ops.arange(target.shape[-1], dtype="int32")
    return ops.equal(
        ops.cast(ops.argmax(target, axis=-1), "int32")[:, None], classes
    )


def true_similarity(similarities: Tensor, is_true: Tensor) -> Tensor:
    """S_y, each row's similarity to its own class.

    (A masked sum: where the classes are sharded, as nothing is gathered.)

    Args:
        similarities: S `(batch, num_classes)`.
        is_true: Where it stands, bool `(batch, num_classes)`.

    Returns:
        Tensor `(batch,)`.
    """
    return ops.sum(ops.where(is_true, similarities, 0.0), axis=-1)


class MarginSoftmaxLoss(ClassSimilarityLoss):
    """Base of the cross-entropies that hold the true class to a margin.

    A subclass says what becomes of the true class's similarity in
    `with_margin`. That is called with `(batch,)` values: whatever a margin
    costs, it costs B times and not B × C times.

    With a head whose `sampled_share` is below 1, each scored class is weighed
    by the number of classes that it stands for.

    Args:
        scale: s > 0.
        name: Name of the loss.
        **kwargs: `reduction` and `dtype` of `keras.losses.Loss`.
    """

    def __init__(self, scale: float, name: str, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.scale = number(self.who, "scale", scale, above=0)

    def with_margin(self, cosine: Tensor) -> Tensor:
        """ψ(S_y).

        Args:
            cosine: S_y `(batch,)`.

        Returns:
            Tensor `(batch,)`.
        """
        raise NotImplementedError

    def loss_of(self, target: Tensor, similarities: Tensor) -> Tensor:
        """The loss of each sample `(batch,)`."""
        is_true = is_true_class(target)
        cosine = true_similarity(similarities, is_true)
        scope = current_scope()
        log_weights: Tensor | float = 0.0
        if scope is not None and scope.sampled is not None:
            log_weights = ops.cast(
                scope.sampled.log_weights, similarities.dtype
            )
        crossentropy = margin_crossentropy(
            similarities,
            target,
            is_true,
            self.with_margin(cosine),
            self.scale,
            log_weights,
        )
        return crossentropy + self.beside(cosine)

    def beside(self, cosine: Tensor) -> Tensor | float:
        """What is added to the cross-entropy: nothing here.

        Args:
            cosine: S_y `(batch,)`.

        Returns:
            Tensor `(batch,)`, or 0.
        """
        del cosine
        return 0.0

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "scale": self.scale}

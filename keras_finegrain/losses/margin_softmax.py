"""The cross-entropy of cosines whose true class is held to a margin."""

from collections.abc import Callable
from typing import Any

from keras import ops

from keras_finegrain._base.checks import number
from keras_finegrain._base.typing import Tensor
from keras_finegrain._ops.written_gradients import with_gradient
from keras_finegrain.labels.sampling import drawn_classes
from keras_finegrain.losses.class_similarity import ClassSimilarityLoss, Target

# One for all classes, or one for each.
Margin = float | tuple[float, ...]
# From a number of each class to that of each sample's true class `(batch,)`; a
# number for all classes stays one.
OfTrueClass = Callable[[Margin], Tensor | float]


def one_for_all(margin: Margin) -> float:
    """The number itself, which is the same for all classes."""
    assert not isinstance(margin, tuple)
    return margin


def of_each(function: Callable[[float], float], margin: Margin) -> Margin:
    """A function of a margin, or of the margin of each class."""
    if isinstance(margin, tuple):
        return tuple(map(function, margin))
    return function(margin)


def margin_crossentropy(
    similarities: Tensor,
    target: Target,
    target_similarity: Tensor,
    scale: float,
    log_weights: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of s·S with the true class's S_y replaced by ψ(S_y).

        ℓ = −log( e^{s ψ_y} / (e^{s ψ_y} + Σ_{c≠y} e^{s S_c}) )

    Args:
        similarities: S `(batch, num_classes)`.
        target: The labels. Soft ones are mixed.
        target_similarity: ψ(S_y) `(batch,)`.
        scale: s.
        log_weights: The logarithm of how many classes each stands for
            `(num_classes,)`, where a part of them was scored; 0 for every
            true class.

    Returns:
        Tensor `(batch,)`.
    """

    def logits_of(similarities: Tensor, target_similarity: Tensor) -> Tensor:
        replaced = ops.where(
            target.is_true, target_similarity[:, None], similarities
        )
        logits = scale * replaced
        return logits if log_weights is None else logits + log_weights

    if target.shares is not None:
        logits = logits_of(similarities, target_similarity)
        log_sum = ops.logsumexp(logits, axis=-1)
        return log_sum * target.total() - target.average(logits)

    # With a derived gradient a step of ArcFace with 10^5 classes takes 1.15
    # times as long in a TensorFlow graph.
    @with_gradient
    def crossentropy(
        similarities: Tensor, target_similarity: Tensor
    ) -> tuple[Tensor, Any]:
        logits = logits_of(similarities, target_similarity)
        of_target = scale * target_similarity
        highest = ops.max(logits, axis=-1)
        powers = ops.exp(logits - highest[:, None])
        total = ops.sum(powers, axis=-1)
        log_sum = highest + ops.log(total)

        def gradient(upstream: Tensor) -> tuple[Tensor, Tensor]:
            # ∂ℓ/∂S_c = s softmax_c,  ∂ℓ/∂ψ = s (softmax_y − 1)
            upstream = scale * upstream
            of_others = ops.where(
                target.is_true, 0.0, powers * (upstream / total)[:, None]
            )
            return of_others, upstream * ops.expm1(of_target - log_sum)

        return log_sum - of_target, gradient

    return target.checked(crossentropy(similarities, target_similarity))


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

    weighs_sampled_classes = True
    takes_cosines = True

    def __init__(self, scale: float, name: str, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.scale = number(self.who, "scale", scale, above=0)

    def with_margin(
        self, cosine: Tensor, of_class: OfTrueClass = one_for_all
    ) -> Tensor:
        """ψ(S_y).

        Args:
            cosine: S_y `(batch,)`.
            of_class: Chooses the true class's margin.

        Returns:
            Tensor `(batch,)`.
        """
        raise NotImplementedError

    def loss_of(self, target: Target, similarities: Tensor) -> Tensor:
        """The loss of each sample `(batch,)`."""
        cosine = target.at_true(similarities)
        drawn = drawn_classes()
        log_weights = None
        if drawn is not None:
            log_weights = ops.cast(drawn.log_weights, similarities.dtype)

        def of_class(margin: Margin) -> Tensor | float:
            if not isinstance(margin, tuple):
                return margin
            num_classes = similarities.shape[-1]
            if drawn is not None:
                num_classes = drawn.position.shape[0]
            if len(margin) != num_classes:
                raise ValueError(
                    f"{self.who}: margins must be one for each of the "
                    f"{num_classes} classes, received {len(margin)}."
                )
            margins = ops.convert_to_tensor(margin, similarities.dtype)
            if drawn is not None:
                margins = ops.take(margins, drawn.classes, axis=0)
            return target.at_true(margins)

        crossentropy = margin_crossentropy(
            similarities,
            target,
            self.with_margin(cosine, of_class),
            self.scale,
            log_weights,
        )
        return crossentropy + self.added_loss(cosine)

    def added_loss(self, cosine: Tensor) -> Tensor | float:
        """A further loss of each sample, 0 unless a subclass adds one.

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

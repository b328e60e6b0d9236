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
        target: The labels, integers.
        target_similarity: ψ(S_y) `(batch,)`.
        scale: s.
        log_weights: The logarithm of how many classes each stands for
            `(num_classes,)`, where a part of them was scored; 0 for every
            true class.

    Returns:
        Tensor `(batch,)`.
    """

    # With a derived gradient a step of ArcFace with 10^5 classes takes 1.15
    # times as long in a TensorFlow graph.
    @with_gradient
    def crossentropy(
        similarities: Tensor, target_similarity: Tensor
    ) -> tuple[Tensor, Any]:
        logits = scale * ops.where(
            target.is_true, target_similarity[:, None], similarities
        )
        if log_weights is not None:
            logits = logits + log_weights
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


def crossentropy_of_each_class(
    similarities: Tensor,
    as_target: Tensor,
    scale: float,
    log_weights: Tensor | None = None,
) -> Tensor:
    """`margin_crossentropy` with each class in turn as the true one.

    What a mixture of classes needs: its loss is Σ_c y_c ℓ_c.

    Args:
        similarities: S `(batch, num_classes)`.
        as_target: ψ(S_c) `(batch, num_classes)`.
        scale: s.
        log_weights: As in `margin_crossentropy`.

    Returns:
        ℓ `(batch, num_classes)`.
    """
    logits, own = scale * similarities, scale * as_target
    if log_weights is not None:
        logits, own = logits + log_weights, own + log_weights
    excess = log_sum_of_others(logits) - own
    # log(1 + e^v). (Keras's own softplus is rounded above 20 on PyTorch.)
    pair = ops.stack([ops.zeros_like(excess), excess], axis=-1)
    return ops.logsumexp(pair, axis=-1)


def log_sum_of_others(logits: Tensor) -> Tensor:
    """The logarithm of Σ_{k≠c} e^{z_k} for each c, in time O(num_classes).

    Args:
        logits: z `(batch, num_classes)`, finite.

    Returns:
        Tensor `(batch, num_classes)`; −1e30 where there is one class alone.
    """
    # The sum of all less the own one keeps its digits for every class but the
    # largest, whose others are added up by themselves.
    classes = ops.arange(logits.shape[-1], dtype="int32")
    largest = ops.cast(ops.argmax(logits, axis=-1), "int32")
    is_largest = ops.equal(largest[:, None], classes)
    without = ops.logsumexp(
        ops.where(is_largest, -1e30, logits), axis=-1, keepdims=True
    )
    highest = ops.stop_gradient(ops.max(logits, axis=-1, keepdims=True))
    powers = ops.exp(logits - highest)
    rest = ops.sum(powers, axis=-1, keepdims=True) - powers
    # (Before the logarithm too: 0 times an infinite slope would be NaN.)
    rest = ops.where(is_largest, 1.0, rest)
    return ops.where(is_largest, without, highest + ops.log(rest))


class MarginSoftmaxLoss(ClassSimilarityLoss):
    """Base of the cross-entropies that hold the true class to a margin.

    A subclass says what becomes of the true class's similarity in
    `with_margin`. For integers that is called with `(batch,)` values: whatever
    a margin costs, it costs B times and not B × C times.

    Rows of labels, one-hot or soft, are mixtures: Σ_c y_c ℓ_c, where ℓ_c is the
    loss with class c as the true one, held to its margin.

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
            cosine: S_y `(batch,)`; for a mixture S `(batch, num_classes)`,
                each class as the true one.
            of_class: Chooses the true class's margin.

        Returns:
            Tensor of the same shape.
        """
        raise NotImplementedError

    def loss_of(self, target: Target, similarities: Tensor) -> Tensor:
        """The loss of each sample `(batch,)`."""
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
            if target.shares is not None:
                return margins
            return target.at_true(margins)

        if target.shares is not None:
            each = crossentropy_of_each_class(
                similarities,
                self.with_margin(similarities, of_class),
                self.scale,
                log_weights,
            )
            return target.average(each + self.added_loss(similarities))
        cosine = target.at_true(similarities)
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
            cosine: As in `with_margin`.

        Returns:
            Tensor of the same shape, or 0.
        """
        del cosine
        return 0.0

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "scale": self.scale}

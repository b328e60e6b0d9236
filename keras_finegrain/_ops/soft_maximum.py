"""The relaxed maximum that pools the centers of a class."""

import math
from typing import Any

from keras import ops

from keras_finegrain._base.typing import Tensor
from keras_finegrain._ops.compilation import is_compiled_by_xla
from keras_finegrain._ops.written_gradients import with_gradient

# e^x is in float32 neither infinite nor 0, nor close to it, within this range.
_EXPONENT_RANGE = 60.0
# XLA adds up so many centers of a class one after the other.
FEW = 32


def soft_maximum(values: Tensor, largest: float = math.inf) -> Tensor:
    """The relaxed maximum over centers (Qian et al. 2019, equation 5).

        M = Σ_k softmax_k(v_k) · v_k

    Args:
        values: v `(classes, centers, batch)`.
        largest: No |v_k| is above this. Default inf: nothing is known of them.

    Returns:
        Tensor `(classes, batch)`, never above the maximum.
    """
    # Something is subtracted for the range of exp only: it cancels in the
    # quotient. Where the values lie in a range that is small enough, the
    # maximum need not be looked for.
    known = 2 * largest <= _EXPONENT_RANGE

    @with_gradient
    def pooled(values: Tensor) -> tuple[Tensor, Any]:
        rows = _Rows(values)
        # Σ e·v / Σ e takes half the time of a softmax and a sum.
        highest = largest if known else rows.spread(ops.max(values, axis=1))
        values = rows.lay_out(values)
        weights = ops.exp(values - highest)
        total = rows.sum(weights)
        soft = rows.sum(weights * values) / total

        def gradient(upstream: Tensor) -> tuple[Tensor]:
            # ∂M/∂v_k = softmax_k · (1 + v_k − M)
            share = rows.spread(upstream / total) * weights
            slope = share * ((values - rows.spread(soft)) + 1.0)
            return (rows.restore(slope),)

        return soft, gradient

    return pooled(values)


class _Rows:
    """How the values `(classes, centers, batch)` are laid out for a step.

    XLA stores whatever a sum reads, and writes a result in the place of an
    operand only where both have one shape. The products that the values come
    from, and those that their gradient goes into, are matrices with a row for
    each center: so are the values for XLA, and sums over the centers are
    additions of slices, which store nothing. Without XLA each of them would be
    a pass of its own.

    Args:
        values: `(classes, centers, batch)`.
    """

    def __init__(self, values: Tensor) -> None:
        self._shape = tuple(ops.shape(values))
        self._as_matrix = is_compiled_by_xla() and self._shape[1] <= FEW

    def lay_out(self, values: Tensor) -> Tensor:
        """A `(classes, centers, batch)` in this layout."""
        if not self._as_matrix:
            return values
        return ops.reshape(values, (self._shape[0] * self._shape[1], -1))

    def restore(self, values: Tensor) -> Tensor:
        """What `lay_out` was given."""
        return ops.reshape(values, self._shape) if self._as_matrix else values

    def spread(self, of_classes: Tensor) -> Tensor:
        """A `(classes, batch)` that meets each of the centers' values."""
        of_classes = of_classes[:, None]
        if not self._as_matrix:
            return of_classes
        return self.lay_out(ops.broadcast_to(of_classes, self._shape))

    def sum(self, values: Tensor) -> Tensor:
        """The sum over each class's centers `(classes, batch)`."""
        if not self._as_matrix:
            return ops.sum(values, axis=1)
        values = self.restore(values)
        return sum(values[:, index] for index in range(self._shape[1]))

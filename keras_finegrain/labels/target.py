"""The classes that a batch is held to: one a sample, or a mixture."""

import dataclasses

from keras import ops

from keras_finegrain._base.typing import Tensor
from keras_finegrain.labels.forms import in_range


@dataclasses.dataclass(frozen=True)
class Target:
    """The classes that the samples of a batch are held to.

    A label that came as an integer stays one: its one-hot row would be as
    large as the similarities, and be read as often.

    Attributes:
        is_true: Which class each label names, bool `(batch, num_classes)`:
            once in each row, or nowhere if the label lies outside.
        valid: Which labels name a class, bool `(batch,)`.
        shares: One-hot or soft labels `(batch, num_classes)`, of which the
            true class is the largest; `None` for integers.
    """

    is_true: Tensor
    valid: Tensor
    shares: Tensor | None = None

    @classmethod
    def of(cls, y_true: Tensor, y_pred: Tensor) -> "Target":
        """The target that labels name.

        Args:
            y_true: Checked labels in any dtype: numbers `(batch,)`, or rows
                `(batch, num_classes)`, NaN where a row is unusable.
            y_pred: Similarities `(batch, num_classes)`.
        """
        num_classes = y_pred.shape[-1]
        classes = ops.arange(num_classes, dtype="int32")
        if len(y_true.shape) == len(y_pred.shape):
            shares = ops.cast(y_true, y_pred.dtype)
            largest = ops.cast(ops.argmax(shares, axis=-1), "int32")
            valid = ops.isfinite(ops.sum(shares, axis=-1))
            return cls(ops.equal(largest[..., None], classes), valid, shares)
        numbers = ops.cast(y_true, "int32")
        return cls(
            ops.equal(numbers[..., None], classes),
            in_range(numbers, num_classes),
        )

    def average(self, values: Tensor) -> Tensor:
        """Σ_c t_c · v_c of each row: the true class's v, or soft labels' mean.

        Args:
            values: v `(batch, num_classes)`, finite.

        Returns:
            Tensor `(batch,)`; NaN where the label lies outside of the classes.
        """
        if self.shares is not None:
            return ops.sum(self.shares * values, axis=-1)
        return self.checked(self.at_true(values))

    def at_true(self, values: Tensor) -> Tensor:
        """The true class's value of each row.

        A masked sum, as a gather would collect classes that are sharded over
        devices.

        Args:
            values: `(batch, num_classes)`.

        Returns:
            Tensor `(batch,)`; 0 where the label lies outside of the classes.
        """
        return ops.sum(ops.where(self.is_true, values, 0.0), axis=-1)

    def checked(self, values: Tensor) -> Tensor:
        """The values `(batch,)`, NaN where the label is not a class's."""
        return ops.where(self.valid, values, float("nan"))

"""Layers that need the labels of the batch and add a loss."""

import contextvars
import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_finegrain._base.arrays import concrete
from keras_finegrain._base.checks import positive_integer
from keras_finegrain._base.private_keras import get_keras_mask
from keras_finegrain._base.typing import Tensor
from keras_finegrain.distribution import global_sum
from keras_finegrain.labels.forms import (
    check_labels,
    class_numbers,
    in_range,
    label_tensor,
    to_range,
)
from keras_finegrain.labels.outputs import entry_of
from keras_finegrain.labels.scope import current_scope, is_unlabelled
from keras_finegrain.labels.weights import weight_tensor, weight_values
from keras_finegrain.layers.measured import MeasuredLayer

# Labels are kept as int32.
_MOST_CLASSES = 2**31 - 1
# Whether a model of this package runs its steps: one that opens no label scope
# is then a `train_step` of the user's own.
in_own_model = contextvars.ContextVar("in_own_model", default=False)


@dataclasses.dataclass(frozen=True)
class LabelledBatch:
    """The labels of a batch, in the one form that the losses use.

    Attributes:
        labels: int32 `(n,)`, each in `[0, num_classes)`. A label outside of
            the range is 0 here, and not `valid`.
        valid: Boolean `(n,)`, false where the label lies outside.
        counted: Boolean `(n,)`, false where the label is `ignore_class` or the
            sample is masked.
        weights: Sample weights `(n,)`, 0 where not counted.
        shares: One-hot or soft labels `(n, num_classes)` with the sum 1, 0 in
            the class that is ignored and where not valid or not counted;
            `None` for integers, and in a layer that takes the largest class.
    """

    labels: Tensor
    valid: Tensor
    counted: Tensor
    weights: Tensor
    shares: Tensor | None = None

    def amounts(self) -> Tensor:
        """As how much of a sample each one counts, `(n,)`: 1 or 0 for integers.

        A mixture with the ignored class counts as the rest of it.
        """
        amounts = ops.cast(self.counted, self.weights.dtype)
        if self.shares is None:
            return amounts
        named = ops.sum(self.shares, axis=-1)
        return ops.where(self.valid, named, amounts)


class LabelledLossLayer(MeasuredLayer):
    """Base of the layers that return their input and add a loss.

    Args:
        num_classes: The number of classes, at least 1, or `None` for any,
            where `takes_any_classes`.
        measures: The names of what the layer logs.
        ignore_class: A label whose samples are left out, or `None`.
        output_name: Name or position of the output whose labels and weights
            the layer reads, or `None` for the only one.
        **kwargs: `name`, `dtype` and `trainable` of `keras.layers.Layer`.
    """

    # Whether the layer need not know the number of classes.
    takes_any_classes = False
    # Whether the loss is that of the mixture where labels are soft rows, and
    # not that of their largest class.
    mixes_classes = False

    def __init__(
        self,
        num_classes: int | None,
        measures: tuple[str, ...],
        ignore_class: int | None = None,
        output_name: str | int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(measures, **kwargs)
        self.num_classes: Any = num_classes
        if num_classes is not None or not self.takes_any_classes:
            self.num_classes = positive_integer(
                self.who, "num_classes", num_classes
            )
        if ignore_class is not None and (
            isinstance(ignore_class, bool)
            or not isinstance(ignore_class, (int, np.integer))
        ):
            raise ValueError(
                f"{self.who}: ignore_class must be an integer or None, "
                f"received {ignore_class!r}."
            )
        self.ignore_class = None if ignore_class is None else int(ignore_class)
        is_position = isinstance(output_name, int) and output_name >= 0
        if isinstance(output_name, bool) or not (
            output_name is None or isinstance(output_name, str) or is_position
        ):
            raise ValueError(
                f"{self.who}: output_name must be the name of an output, its "
                f"position (0, 1, ...) or None, received {output_name!r}."
            )
        self.output_name = output_name
        self.supports_masking = True
        # Whether this layer reads the label scope: unknown until it is called.
        self.reads_scope: bool | None = None
        self._trained_once = False

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """Calls the layer, on labels and weights that a tensor can hold."""
        # Before Keras converts them, with an error of the backend.
        given: list[Any] = list(args)
        for position, name, checked in (
            (1, "labels", label_tensor),
            (2, "sample_weight", weight_values),
        ):
            is_positional = position < len(given)
            value = given[position] if is_positional else kwargs.get(name)
            if value is None or keras.backend.is_keras_tensor(value):
                continue
            value = checked(self.who, value)
            if is_positional:
                given[position] = value
            else:
                kwargs[name] = value
        return super().__call__(*given, **kwargs)

    def labelled_batch(
        self,
        labels: Tensor | None,
        sample_weight: Tensor | None,
        batch_shape: tuple[int | None, ...],
        training: bool | None,
        mask: Tensor | None = None,
    ) -> LabelledBatch | None:
        """Finds, checks and flattens the labels of this call.

        Args:
            labels: The labels given to `call`, or `None`.
            sample_weight: The weights given to `call`, or `None`.
            batch_shape: The axes that the labels have to match.
            training: Whether the call is a training step.
            mask: Boolean `batch_shape`, false where a sample counts for
                nothing, or `None`.

        Returns:
            The batch, or `None` where there are no labels and none are needed.

        Raises:
            ValueError: If the layer trains without labels, or the labels do
                not fit.
        """
        self.reads_scope = labels is None
        if labels is None:
            scope = current_scope()
            if scope is not None:
                labels, sample_weight = (
                    self._entry(scope.labels, scope.output_names, "y"),
                    scope.sample_weight,
                )
                if sample_weight is not None and labels is not None:
                    sample_weight = self._entry(
                        sample_weight, scope.output_names, "sample_weight"
                    )
        if labels is None:
            if training and not is_unlabelled():
                raise ValueError(self._no_labels())
            return None
        labels = label_tensor(self.who, labels)
        if 0 in batch_shape:
            raise ValueError(
                f"{self.who}: a batch must hold at least one sample, received "
                f"the shape {batch_shape}. Leave empty batches out."
            )
        num_classes = self._num_classes_of(labels, len(batch_shape))
        numbers = class_numbers(
            self.who, labels, batch_shape, num_classes, self.ignore_class
        )
        read = self._can_read(labels)
        if read:
            self._check_range(labels, mask, len(batch_shape), num_classes)
            self._trained_once = self._trained_once or bool(training)
        counted = ops.ones_like(numbers, dtype="bool") if mask is None else mask
        named = None
        if self.ignore_class is not None:
            named = ops.not_equal(
                numbers, ops.cast(self.ignore_class, numbers.dtype)
            )
        numbers = to_range(numbers, num_classes)
        valid = in_range(numbers, num_classes)
        shares = None
        if self.mixes_classes and len(labels.shape) > len(numbers.shape):
            shares = self._shares(labels, valid)
        if shares is not None and named is not None:
            # A mixture counts as long as it names another class as well.
            others = ops.any(shares > 0.0, axis=-1)
            named = ops.where(valid, others, named)
        if named is not None:
            counted = ops.logical_and(counted, named)
        if shares is not None:
            shares = ops.where(counted[..., None], shares, 0.0)
            shares = ops.reshape(shares, (-1, self.num_classes))
        weights = ops.cast(counted, self.loss_dtype)
        if sample_weight is not None:
            weights = weights * weight_tensor(
                self.who, sample_weight, batch_shape, self.loss_dtype, read
            )
        return LabelledBatch(
            labels=ops.reshape(ops.where(valid, numbers, 0), (-1,)),
            valid=ops.reshape(valid, (-1,)),
            counted=ops.reshape(counted, (-1,)),
            weights=ops.reshape(weights, (-1,)),
            shares=shares,
        )

    def _shares(self, rows: Tensor, valid: Tensor) -> Tensor | None:
        """One-hot or soft labels with the sum 1, 0 where they name no class."""
        # (A column holds class numbers, or shares of the only class.)
        if rows.shape[-1] == 1:
            return None
        rows = ops.where(valid[..., None], ops.cast(rows, self.loss_dtype), 0.0)
        total = ops.sum(rows, axis=-1, keepdims=True)
        shares = rows / ops.where(valid[..., None], total, 1.0)
        if self.ignore_class is None:
            return shares
        ignored = ops.arange(self.num_classes) == self.ignore_class
        return ops.where(ignored, 0.0, shares)

    def mask_of(
        self, features: Tensor, mask: Tensor | None, axes: Sequence[int]
    ) -> Tensor | None:
        """The mask of a call, given or attached to the features.

        Args:
            features: The first argument of the call. With explicit labels
                Keras passes no mask to a layer, but attaches it.
            mask: The mask given to the call, or `None`. It may lack the last
                axes.
            axes: The axes of the features that a mask has.

        Returns:
            Boolean tensor with these axes, or `None`.
        """
        if mask is None:
            mask = get_keras_mask(features)
        if mask is None:
            return None
        mask = ops.cast(ops.convert_to_tensor(mask), "bool")
        shape = tuple(mask.shape)
        expected = [features.shape[axis] for axis in axes]
        if not 1 <= len(shape) <= len(axes) or any(
            received is not None and size is not None and received != size
            for received, size in zip(shape, expected, strict=False)
        ):
            raise ValueError(
                f"{self.who}: mask must have the shape {tuple(expected)} or "
                f"its first axes, received the shape {shape}."
            )
        for _ in expected[len(shape) :]:
            mask = ops.expand_dims(mask, axis=-1)
        sizes = ops.shape(features)
        return ops.broadcast_to(mask, [sizes[axis] for axis in axes])

    def _entry(
        self, values: Any, output_names: tuple[str, ...], name: str
    ) -> Any:
        return entry_of(self.who, values, self.output_name, output_names, name)

    def global_mean(
        self, values: Tensor, batch: LabelledBatch
    ) -> tuple[Tensor, Tensor]:
        """The weighted mean of values over the batch of all replicas.

        Args:
            values: Tensor `(n,)` or `(n, k)`.
            batch: The batch that the values belong to.

        Returns:
            The mean, a scalar or `(k,)`, and the number of counted samples
            that it was divided by, a scalar.
        """
        per_sample = values if len(values.shape) == 2 else values[:, None]
        per_sample = visible_where_invalid(per_sample, batch)
        total = ops.sum(per_sample * batch.weights[:, None], axis=0)
        count = ops.sum(ops.cast(batch.amounts(), values.dtype))
        sums = global_sum(ops.concatenate([total, count[None]]))
        count = ops.stop_gradient(sums[-1])
        mean = sums[:-1] / ops.where(count > 0.0, count, 1.0)
        return (mean if len(values.shape) == 2 else mean[0]), count

    def _can_read(self, labels: Tensor) -> bool:
        # Reading from an accelerator waits for it: once is enough there.
        return not self._trained_once or (
            "cpu" in str(getattr(labels, "device", "cpu")).lower()
        )

    def _num_classes_of(self, labels: Tensor, rank: int) -> int:
        """The layer's number of classes, or the most that labels can name."""
        if self.num_classes is not None:
            return int(self.num_classes)
        has_rows = len(labels.shape) == rank + 1 and labels.shape[-1] != 1
        return int(labels.shape[-1]) if has_rows else _MOST_CLASSES

    def _check_range(
        self, labels: Tensor, mask: Tensor | None, rank: int, num_classes: int
    ) -> None:
        values = concrete(labels)
        if values is None:
            return
        if mask is not None:
            kept = concrete(mask)
            if kept is None:
                return
            values, rank = values[kept], 1
        check_labels(
            self.who, values, num_classes, self.ignore_class, rank=rank
        )

    def _no_labels(self) -> str:
        trains = f"{self.who} trains and was given no labels. "
        by_scope = "`with keras_finegrain.label_scope(y, sample_weight):`"
        if in_own_model.get():
            return (
                f"{trains}Give `fit()` labels as `y`. A `train_step` or "
                "`test_step` of your own that does not call the one of "
                f"`super()` has to call the model inside {by_scope}."
            )
        return (
            f"{trains}Either build the model with `keras_finegrain.Model` or "
            "`keras_finegrain.Sequential`, which show the layer the `y` of "
            "`fit()`, or give the labels explicitly: `layer(features, labels)` "
            "with `labels = keras.Input((), dtype='int32', optional=True)`. "
            f"In a training loop of your own, call the model inside {by_scope}"
            ", or inside `label_scope(None)` where there are none, as for MC "
            "dropout."
        )

    def compute_output_shape(
        self, features_shape: tuple[int | None, ...], *others: Any
    ) -> tuple[int | None, ...]:
        """The shape of the features."""
        del others
        return features_shape

    def compute_output_spec(
        self,
        features: keras.KerasTensor,
        labels: Any = None,
        sample_weight: Any = None,
        training: bool | None = None,
        mask: Any = None,
    ) -> keras.KerasTensor:
        """The features' own shape and dtype."""
        del sample_weight, training, mask
        self.reads_scope = labels is None
        return keras.KerasTensor(features.shape, dtype=features.dtype)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "output_name": self.output_name,
        }


def visible_where_invalid(values: Tensor, batch: LabelledBatch) -> Tensor:
    """NaN where a counted label lies outside the classes, 0 where ignored.

    A compiled step cannot raise an error, and must not ignore a label in
    silence.
    """
    invalid = ops.logical_and(batch.counted, ops.logical_not(batch.valid))
    values = ops.where(invalid[:, None], float("nan"), values)
    return ops.where(batch.counted[:, None], values, 0.0)

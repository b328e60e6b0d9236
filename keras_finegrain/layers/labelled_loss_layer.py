"""Layers that need the labels of the batch and add a loss."""

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_finegrain._base.arrays import concrete
from keras_finegrain._base.checks import positive_integer
from keras_finegrain._base.typing import Tensor
from keras_finegrain.distribution import global_sum
from keras_finegrain.labels.forms import (
    check_labels,
    class_numbers,
    in_range,
    to_range,
)
from keras_finegrain.labels.scope import current_scope, is_unlabelled
from keras_finegrain.layers.measured import MeasuredLayer


@dataclasses.dataclass(frozen=True)
class LabelledBatch:
    """The labels of a batch, in the one form that the losses use.

    Attributes:
        labels: int32 `(n,)`, each in `[0, num_classes)`. A label outside of
            the range is 0 here, and not `valid`.
        valid: Boolean `(n,)`, false where the label lies outside.
        counted: Boolean `(n,)`, false where the label is `ignore_class`.
        weights: Sample weights `(n,)`, 0 where not counted.
    """

    labels: Tensor
    valid: Tensor
    counted: Tensor
    weights: Tensor


class LabelledLossLayer(MeasuredLayer):
    """Base of the layers that return their input and add a loss.

    Args:
        num_classes: The number of classes, at least 1.
        measures: The names of what the layer logs.
        ignore_class: A label whose samples are left out, or `None`.
        **kwargs: `name`, `dtype` and `trainable` of `keras.layers.Layer`.
    """

    def __init__(
        self,
        num_classes: int,
        measures: tuple[str, ...],
        ignore_class: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(measures, **kwargs)
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
        self.supports_masking = True
        # Whether this layer reads the label scope: unknown until it is called.
        self.reads_scope: bool | None = None
        self._trained_once = False

    def labelled_batch(
        self,
        labels: Tensor | None,
        sample_weight: Tensor | None,
        batch_shape: tuple[int | None, ...],
        training: bool | None,
    ) -> LabelledBatch | None:
        """Finds, checks and flattens the labels of this call.

        Args:
            labels: The labels given to `call`, or `None`.
            sample_weight: The weights given to `call`, or `None`.
            batch_shape: The axes that the labels have to match.
            training: Whether the call is a training step.

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
                labels, sample_weight = scope.labels, scope.sample_weight
        if labels is None:
            if training and not is_unlabelled():
                raise ValueError(self._no_labels())
            return None
        if isinstance(labels, (dict, list, tuple)):
            raise ValueError(
                f"{self.who}: the model's `y` holds several tensors and the "
                "layer cannot know which one is meant. Give it the labels "
                "explicitly: `layer(features, labels)` with "
                "`labels = keras.Input((), dtype='int32', optional=True)`."
            )
        labels = ops.convert_to_tensor(labels)
        on_one_axis = labels
        if len(batch_shape) > 1:
            on_one_axis = ops.reshape(
                labels, (-1, *labels.shape[len(batch_shape) :])
            )
        self._check_range(on_one_axis, training)
        numbers = class_numbers(
            self.who, labels, batch_shape, self.num_classes, self.ignore_class
        )
        numbers = ops.reshape(numbers, (-1,))
        counted = ops.ones_like(numbers, dtype="bool")
        if self.ignore_class is not None:
            counted = ops.not_equal(
                numbers, ops.cast(self.ignore_class, numbers.dtype)
            )
        numbers = to_range(numbers, self.num_classes)
        valid = in_range(numbers, self.num_classes)
        weights = ops.cast(counted, self.loss_dtype)
        if sample_weight is not None and not isinstance(
            sample_weight, (dict, list, tuple)
        ):
            sample_weight = ops.cast(sample_weight, self.loss_dtype)
            weights = weights * ops.reshape(sample_weight, (-1,))
        return LabelledBatch(
            labels=ops.where(valid, numbers, 0),
            valid=valid,
            counted=counted,
            weights=weights,
        )

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
        count = ops.sum(ops.cast(batch.counted, values.dtype))
        sums = global_sum(ops.concatenate([total, count[None]]))
        count = ops.stop_gradient(sums[-1])
        mean = sums[:-1] / ops.maximum(count, 1.0)
        return (mean if len(values.shape) == 2 else mean[0]), count

    def _check_range(self, labels: Tensor, training: bool | None) -> None:
        # Reading labels from an accelerator waits for it: once is enough there.
        if (
            self._trained_once
            and "cpu" not in str(getattr(labels, "device", "cpu")).lower()
        ):
            return
        values = concrete(labels)
        if values is None:
            return
        check_labels(self.who, values, self.num_classes, self.ignore_class)
        self._trained_once = self._trained_once or bool(training)

    def _no_labels(self) -> str:
        return (
            f"{self.who} trains and was given no labels. Either build the "
            "model with `keras_finegrain.Model` or `keras_finegrain.Sequential`"
            ", which show the layer the `y` of `fit()`, or give the labels "
            "explicitly: `layer(features, labels)` with "
            "`labels = keras.Input((), dtype='int32', optional=True)`. In a "
            "training loop of your own, call the model inside "
            "`with keras_finegrain.label_scope(labels):`, or inside "
            "`label_scope(None)` where there are none, as for MC dropout."
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
    ) -> keras.KerasTensor:
        """The features' own shape and dtype."""
        del sample_weight, training
        self.reads_scope = labels is None
        return keras.KerasTensor(features.shape, dtype=features.dtype)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "num_classes": self.num_classes}


def visible_where_invalid(values: Tensor, batch: LabelledBatch) -> Tensor:
    """NaN where a counted label lies outside the classes, 0 where ignored.

    A compiled step cannot raise an error, and must not ignore a label in
    silence.
    """
    invalid = ops.logical_and(batch.counted, ops.logical_not(batch.valid))
    values = ops.where(invalid[:, None], float("nan"), values)
    return ops.where(batch.counted[:, None], values, 0.0)

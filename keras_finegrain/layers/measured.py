"""Layers that put what they measure into the logs of `fit`."""

import math
import re
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_finegrain._base.checks import (
    boolean,
    float_policy,
    refuse_no_floats,
    shown,
)
from keras_finegrain._base.private_keras import LossLayer, in_symbolic_scope
from keras_finegrain._base.representation import shown_with_arguments
from keras_finegrain._base.typing import Tensor
from keras_finegrain._ops.numerics import at_least_float32
from keras_finegrain.labels.scope import current_scope


class MeasuredMean(keras.metrics.Mean):
    """A mean that is NaN, not 0, as long as nothing was measured."""

    def result(self) -> Tensor:
        """The mean of the measured values, or NaN."""
        return ops.where(self.count > 0, super().result(), math.nan)


class MeasuredLayer(LossLayer):
    """Base of the layers that measure something for the logs.

    Args:
        measures: The names of what is measured. The logs show this name if the
            layer kept its default name, and `{layer.name}_{measure}` if it was
            named. `keras_finegrain.Model` also adds the layer's name where two
            layers of a model would share one.
        **kwargs: `name`, `dtype` and `trainable` of `keras.layers.Layer`.
    """

    def __init__(self, measures: tuple[str, ...], **kwargs: Any) -> None:
        # Autocast would hand a float16 tensor to the loss, and round labels
        # above 2,048.
        who = type(self).__name__
        kwargs["dtype"] = float_policy(who, kwargs.get("dtype"))
        kwargs["trainable"] = boolean(
            who, "trainable", kwargs.get("trainable", True)
        )
        super().__init__(autocast=False, **kwargs)
        self._measures = {
            measure: MeasuredMean(name=self._log_name(measure))
            for measure in measures
        }

    @property
    def who(self) -> str:
        """How error messages call this layer."""
        return f"{type(self).__name__} '{self.name}'"

    @property
    def loss_dtype(self) -> str:
        """The dtype of the arithmetic: float32, or float64 if asked for."""
        return at_least_float32(self.variable_dtype)

    @property
    def named_measures(self) -> dict[str, keras.metrics.Metric]:
        """The metrics, by the names given to the constructor."""
        return dict(self._measures)

    @property
    def measures(self) -> list[keras.metrics.Metric]:
        """The metrics that hold what this layer measures."""
        return list(self._measures.values())

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The metrics that a plain `keras.Model` should log.

        None on JAX: there Keras drops what a metric learns during the forward
        pass. `keras_finegrain.Model` collects `measures` by itself.
        """
        if keras.backend.backend() == "jax":
            return []
        return super().metrics

    def __call__(self, inputs: Tensor, *args: Any, **kwargs: Any) -> Any:
        """As `keras.layers.Layer.__call__`, for dense real inputs alone."""
        self.refuse_no_tensor("inputs", inputs)
        return super().__call__(inputs, *args, **kwargs)

    def refuse_no_tensor(self, name: str, value: Any) -> None:
        """Raises for an argument of a call that is no tensor of real numbers.

        Args:
            name: The argument.
            value: What it was given.
        """
        if not hasattr(value, "dtype"):
            raise ValueError(
                f"{self.who}: {name} must be one tensor, received "
                f"{type(value).__name__} {shown(value)}."
            )
        refuse_no_floats(self.who, name, value)

    def concern(
        self, figures: Mapping[str, float], steps: int, epochs: int
    ) -> str | None:
        """What the user should be told at the end of a training.

        Args:
            figures: What this layer measured in the last epoch, by the names
                given to the constructor.
            steps: The steps of this training.
            epochs: Its epochs.

        Returns:
            The words of a warning, or `None`.
        """
        del figures, steps, epochs
        return None

    def measure(self, name: str, value: Tensor, weight: Tensor | float) -> None:
        """Adds a value to the mean `name` of this epoch.

        Args:
            name: One of the names given to the constructor.
            value: Scalar tensor, equal on every replica.
            weight: The number of samples behind the value.
        """
        if in_symbolic_scope():
            # Keras builds a subclassed model by a trial call inside of its
            # first step. That call measures nothing.
            return
        value = ops.stop_gradient(value)
        scope = current_scope()
        if scope is None:
            self._measures[name].update_state(value, sample_weight=weight)
        else:
            scope.measurements.append((self._measures[name], value, weight))

    def __repr__(self) -> str:
        return shown_with_arguments(self)

    def _log_name(self, measure: str) -> str:
        stem = re.sub(r"_\d+$", "", self.name)
        is_default = stem.replace("_", "") == type(self).__name__.lower()
        if is_default or self.name == measure:
            return measure
        return f"{self.name}_{measure}"

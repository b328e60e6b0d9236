"""Generalized-mean pooling: between the average and the maximum, trained."""

from typing import Any

import keras
from keras import ops

from keras_finegrain._base.checks import boolean, checked_data_format, number
from keras_finegrain._base.typing import Tensor
from keras_finegrain._ops.numerics import at_least_float32, mean

# With it one place of 7 x 7 alone gives 94 % of the maximum.
_LARGEST_EXPONENT = 64.0


@keras.saving.register_keras_serializable(package="keras_finegrain")
class GeneralizedMeanPooling2D(keras.layers.Layer):
    """Generalized-mean (GeM) pooling of a feature map.

    Of each channel's values x_i over the n places of the map it is

        y = ( (1/n) · Σ_i max(x_i, ε)^p )^(1/p)

    With p = 1 it is the average (of a map without negative values), and with
    a large p it approaches the maximum. Look-alikes differ in small parts: a p
    of 3 lets the places that show them count for more than the average does.
    It stands in the place of `keras.layers.GlobalAveragePooling2D`, behind a
    ReLU: negative values count as ε.

    Args:
        exponent: p, the first one if it is trained, in [1, 64]. Default 3,
            the paper's.
        train_exponent: Whether p is trained, one for all channels. It stays in
            [1, 64]. Default True.
        epsilon: ε, above 0. Default 1e-6, the paper's.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for that
            of the Keras configuration, the default.
        keepdims: Whether the output keeps height and width, as 1. Default
            False.
        **kwargs: `name`, `dtype` and `trainable` of `keras.layers.Layer`. The
            mean is computed in float32 or wider under every policy.

    Call arguments:
        inputs: The feature map.

    Input shape:
        `(batch, height, width, channels)`, or `(batch, channels, height,
        width)` with `"channels_first"`.

    Output shape:
        `(batch, channels)`; with `keepdims` `(batch, 1, 1, channels)` or
        `(batch, channels, 1, 1)`.

    Raises:
        ValueError: For an argument out of its range, and for an input that is
            no feature map.

    Attributes:
        exponent: Variable, a scalar: p.

    Example:

    >>> pooling = keras_finegrain.layers.GeneralizedMeanPooling2D(exponent=3)
    >>> feature_map = np.array([1.0, 1.0, 1.0, 3.0]).reshape(1, 2, 2, 1)
    >>> print(round(float(pooling(feature_map)[0, 0]), 3))  # (30 / 4) ** (1/3)
    1.957

    Reference:
        - [Radenović et al., "Fine-tuning CNN Image Retrieval with No Human
          Annotation", TPAMI 2019, equation 3](
          https://arxiv.org/abs/1711.02512)
    """

    def __init__(
        self,
        exponent: float = 3.0,
        train_exponent: bool = True,
        epsilon: float = 1e-6,
        data_format: str | None = None,
        keepdims: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        who = type(self).__name__
        self.first_exponent = number(
            who, "exponent", exponent, at_least=1, at_most=_LARGEST_EXPONENT
        )
        self.train_exponent = boolean(who, "train_exponent", train_exponent)
        self.epsilon = number(who, "epsilon", epsilon, above=0)
        self.data_format = checked_data_format(who, data_format)
        self.keepdims = boolean(who, "keepdims", keepdims)
        self.input_spec = keras.InputSpec(ndim=4)

    def build(self, input_shape: Any) -> None:
        """Makes p."""
        del input_shape
        self.exponent = self.add_weight(
            name="exponent",
            shape=(),
            dtype=at_least_float32(self.variable_dtype),
            initializer=keras.initializers.Constant(self.first_exponent),
            constraint=_InRange(1.0, _LARGEST_EXPONENT),
            trainable=self.train_exponent,
            autocast=False,
        )

    def call(self, inputs: Tensor) -> Tensor:
        """The generalized mean of each channel."""
        axes = (2, 3) if self.data_format == "channels_first" else (1, 2)
        dtype = at_least_float32(self.compute_dtype)
        exponent = ops.cast(self.exponent, dtype)
        values = ops.cast(inputs, dtype)
        # (`ops.maximum` computes a float64 in float32 on PyTorch.)
        values = ops.where(values < self.epsilon, self.epsilon, values)
        # Shares of the largest value: the power of one neither overflows nor
        # do all of them vanish. The result does not depend on it.
        largest = ops.stop_gradient(ops.max(values, axes, keepdims=True))
        powers = ops.power(values / largest, exponent)
        average = mean(mean(powers, axes[1]), axes[0])
        largest = ops.squeeze(largest, axes)
        pooled = largest * ops.power(average, 1 / exponent)
        pooled = ops.cast(pooled, self.compute_dtype)
        return ops.expand_dims(pooled, axes) if self.keepdims else pooled

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """The shape of the output."""
        first = self.data_format == "channels_first"
        batch, channels = input_shape[0], input_shape[1 if first else 3]
        if not self.keepdims:
            return batch, channels
        return (batch, channels, 1, 1) if first else (batch, 1, 1, channels)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "exponent": self.first_exponent,
            "train_exponent": self.train_exponent,
            "epsilon": self.epsilon,
            "data_format": self.data_format,
            "keepdims": self.keepdims,
        }


class _InRange(keras.constraints.Constraint):
    """Clips a weight after each step."""

    def __init__(self, lowest: float, highest: float) -> None:
        self.lowest, self.highest = lowest, highest

    def __call__(self, weight: Tensor) -> Tensor:
        """The clipped weight."""
        return ops.clip(weight, self.lowest, self.highest)

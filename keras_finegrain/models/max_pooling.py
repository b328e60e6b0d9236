"""Global maximum pooling whose gradient is finite under every compiler."""

import keras
from keras import ops

from keras_finegrain._base.typing import Tensor
from keras_finegrain._ops.numerics import maximum


@keras.saving.register_keras_serializable(package="keras_finegrain")
class GlobalMaxPooling2D(keras.layers.GlobalMaxPooling2D):
    """Keras's layer, with a gradient that XLA cannot make NaN.

    See `maximum`.

    Example:

    >>> feature_map = np.array([1.0, 4.0, 2.0, 3.0]).reshape(1, 2, 2, 1)
    >>> float(GlobalMaxPooling2D()(feature_map)[0, 0])
    4.0
    """

    def call(self, inputs: Tensor) -> Tensor:
        """The maximum of each channel."""
        first = self.data_format == "channels_first"
        height, width = (2, 3) if first else (1, 2)
        # One axis after the other: a row's maxima, then their maximum.
        pooled = maximum(maximum(inputs, width), height)
        return (
            ops.expand_dims(pooled, (height, width))
            if self.keepdims
            else pooled
        )

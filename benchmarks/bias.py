"""The cheapest layer that asks for a gradient of its input."""

from typing import Any

import keras


class Bias(keras.layers.Layer):
    """Adds a trained vector: below a loss it stands for the backbone."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the vector.

        Args:
            input_shape: `(batch, dim)`.
        """
        self.bias = self.add_weight(
            name="bias", shape=input_shape[-1:], initializer="zeros"
        )

    def call(self, inputs: Any) -> Any:
        """`inputs` and the vector.

        Args:
            inputs: `(batch, dim)`.
        """
        return inputs + self.bias

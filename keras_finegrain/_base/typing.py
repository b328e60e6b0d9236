"""The names that the signatures of the package use for types."""

from collections.abc import Callable
from typing import Any, TypeAlias

import keras

# A tensor of the backend in use, a `keras.KerasTensor` or a NumPy array.
Tensor: TypeAlias = Any

# What `keras.initializers.get` and `keras.regularizers.get` accept.
InitializerLike: TypeAlias = (
    str | dict[str, Any] | keras.initializers.Initializer | Callable[..., Any]
)
RegularizerLike: TypeAlias = (
    str | dict[str, Any] | keras.regularizers.Regularizer | Callable[..., Any]
)

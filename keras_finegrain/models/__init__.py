"""Keras's own models, which show the labels of each step to their layers."""

from keras_finegrain.models.model import Model as Model
from keras_finegrain.models.model import Sequential as Sequential

__all__ = [
    "Model",
    "Sequential",
]


def __dir__() -> list[str]:
    return __all__

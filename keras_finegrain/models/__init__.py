"""Keras's own models, which show the labels of each step to their layers."""

from keras_finegrain.models.model import Model as Model
from keras_finegrain.models.model import Sequential as Sequential
from keras_finegrain.models.progressive_multi_granularity import (
    progressive_multi_granularity as progressive_multi_granularity,
)

__all__ = [
    "Model",
    "Sequential",
    "progressive_multi_granularity",
]


def __dir__() -> list[str]:
    return __all__

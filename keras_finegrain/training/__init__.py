"""The engine under the command and the benchmarks: one way to train a method.

Not public yet: names may change.
"""

from keras_finegrain.training.errors import TrainingError
from keras_finegrain.training.frozen import FeatureCache
from keras_finegrain.training.runs import Run, test_metrics, train
from keras_finegrain.training.settings import Settings
from keras_finegrain.training.sources import (
    ImageStream,
    PhotosOnDevice,
    PhotoSplit,
    Source,
)

__all__ = [
    "FeatureCache",
    "ImageStream",
    "PhotoSplit",
    "PhotosOnDevice",
    "Run",
    "Settings",
    "Source",
    "TrainingError",
    "test_metrics",
    "train",
]


def __dir__() -> list[str]:
    return __all__

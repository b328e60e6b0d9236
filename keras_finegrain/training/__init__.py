"""The engine under the examples and the benchmarks: one way to train a method.

Not public yet: names may change.
"""

from keras_finegrain.training.errors import TrainingError as TrainingError
from keras_finegrain.training.frozen import FeatureCache as FeatureCache
from keras_finegrain.training.runs import Run as Run
from keras_finegrain.training.runs import test_figures as test_figures
from keras_finegrain.training.runs import train as train
from keras_finegrain.training.settings import Settings as Settings
from keras_finegrain.training.sources import ImageStream as ImageStream
from keras_finegrain.training.sources import PhotosOnDevice as PhotosOnDevice
from keras_finegrain.training.sources import PhotoSplit as PhotoSplit
from keras_finegrain.training.sources import Source as Source

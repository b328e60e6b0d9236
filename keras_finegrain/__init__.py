"""Keras 3 layers and losses for telling look-alike classes apart."""

from keras_finegrain._version import __version__ as __version__

"""Models as files that apps run without Keras."""

from keras_finegrain.exporting.export import export as export

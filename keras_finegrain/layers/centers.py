"""The layers that keep a center, or several, for each class."""

from collections.abc import Iterator

import keras

from keras_finegrain._base.private_keras import inner_layers
from keras_finegrain.layers.center_loss import CenterLoss
from keras_finegrain.layers.cosine_similarity import CosineSimilarity


def layers_with_centers(
    model: keras.Model,
) -> Iterator[CenterLoss | CosineSimilarity]:
    """The layers of a model that keep class centers, nested ones too.

    Example:

    >>> model = keras.Sequential([keras_finegrain.SoftTriple(3)])
    >>> [type(layer).__name__ for layer in layers_with_centers(model)]
    ['SoftTriple']
    """
    for layer in inner_layers(model):
        if isinstance(layer, CenterLoss | CosineSimilarity):
            yield layer

"""The classifier that stands on a feature map, with one of our layers."""

from typing import Any

import keras

import keras_finegrain


def head(layer: str, feature_map: Any, classes: int) -> tuple[Any, Any]:
    """The scores of a feature map, and the loss that they are trained with.

    Args:
        layer: "MCLoss", "CenterLoss", "SoftTriple", or anything else for none.
        feature_map: Of a Keras model, `(batch, height, width, channels)`.
        classes: The number of classes.

    Returns:
        The scores `(batch, classes)`, float32 under every policy, and the loss.
    """
    if layer == "MCLoss":
        feature_map = keras_finegrain.MCLoss(classes, seed=0)(feature_map)
    pooling = keras.layers.GlobalAveragePooling2D(dtype="float32")
    embeddings = pooling(feature_map)
    if layer == "SoftTriple":
        scores = keras_finegrain.SoftTriple(classes)(embeddings)
        return scores, keras_finegrain.losses.SoftTripleLoss()
    if layer == "CenterLoss":
        embeddings = keras_finegrain.CenterLoss(classes)(embeddings)
    scores = keras.layers.Dense(classes, dtype="float32")(embeddings)
    return scores, keras.losses.SparseCategoricalCrossentropy(from_logits=True)

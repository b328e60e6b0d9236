"""The networks, from images in [0, 255] to scores."""

import argparse
from collections.abc import Sequence

import keras
from keras import layers

import keras_finegrain

FEATURES = "features"
CENTER_LOSS = "center_loss"
# LeNets++ is made for this side; its three poolings leave 3 x 3 pixels.
MNIST_SIDE = 28


def build(
    variant: str,
    image_shape: Sequence[int],
    num_classes: int,
    options: argparse.Namespace,
    seed: int,
) -> keras.Model:
    """Builds the model of one variant.

    All variants of a seed have the same first weights.

    Args:
        variant: One of `arguments.VARIANTS`.
        image_shape: `(height, width, 1)`.
        num_classes: The number of scores.
        options: The command line.
        seed: Seed of all that follows, the order of the images too.

    Returns:
        The model. Its layer `FEATURES` gives the two-dimensional features, its
        layer `CENTER_LOSS`, where there is one, has the centers.
    """
    keras.utils.set_random_seed(seed)
    images = keras.Input(image_shape)
    x = layers.Rescaling(1 / 255)(images)
    if min(image_shape[:2]) >= MNIST_SIDE:
        x = convolutions(x, filters=(32, 64, 128), kernel_size=5)
    else:
        x = convolutions(x, filters=(32, 64), kernel_size=3)
    x = layers.Dense(2, name=FEATURES)(layers.Flatten()(x))
    if variant == "center":
        x = keras_finegrain.CenterLoss(
            num_classes,
            loss_weight=options.center_weight,
            alpha=options.alpha,
            name=CENTER_LOSS,
        )(x)
    elif variant == "normalized":
        x = keras_finegrain.CenterLoss(
            num_classes,
            loss_weight=options.normalized_weight,
            alpha=options.alpha,
            normalize=True,
            reduction="class_mean",
            name=CENTER_LOSS,
        )(x)
    scores = layers.Dense(num_classes, name="head")(x)
    return keras_finegrain.Model(images, scores)


def convolutions(
    x: keras.KerasTensor, *, filters: Sequence[int], kernel_size: int
) -> keras.KerasTensor:
    """Stages of two convolutions with PReLU and a 2 x 2 maximum.

    With 5 x 5 and 32, 64, 128 filters these are LeNets++ (Wen et al. 2016,
    table 1).
    """
    for count in filters:
        for _ in range(2):
            x = layers.Conv2D(count, kernel_size, padding="same")(x)
            # One slope a channel, as in Caffe.
            x = layers.PReLU(shared_axes=(1, 2))(x)
        x = layers.MaxPooling2D()(x)
    return x

"""The ends of networks for look-alikes: pooling, embedding, a whole head.

Functions that take and return symbolic tensors, made of Keras's own layers but
for the maximum: what they build is saved and loaded as any functional model.
"""

from typing import Any

import keras

from keras_finegrain._base.checks import (
    boolean,
    number,
    positive_integer,
    string,
)
from keras_finegrain._base.typing import Tensor
from keras_finegrain._ops.numerics import at_least_float32
from keras_finegrain.models.max_pooling import GlobalMaxPooling2D

# PyTorch's of batch normalisation, with which both papers' code trains.
_MOMENTUM, _EPSILON = 0.9, 1e-5


def average_max_pooling(
    feature_map: Tensor, concatenate: bool = False, name: str = "pooling"
) -> Tensor:
    """Average and maximum pooling of a feature map, together.

    Of each channel's values x_i over the n places of the map it is

        y = ½ · ( (1/n) · Σ_i x_i + max_i x_i )

    or, with `concatenate`, both parts side by side. The maximum finds the
    small part in which look-alikes differ, and the average trains every place.

    Args:
        feature_map: Symbolic tensor `(batch, height, width, channels)`, or
            `(batch, channels, height, width)` where that is the data format of
            the Keras configuration.
        concatenate: Whether to return averages and maxima, in this order, in
            place of their mean. Default False.
        name: Name of the last layer. The two poolings are named after it.

    Returns:
        Symbolic tensor `(batch, channels)`, or `(batch, 2 * channels)` with
        `concatenate`; in float32 or wider under every policy.

    Raises:
        ValueError: If `feature_map` is no symbolic feature map, or for an
            argument out of its range.

    Example:

    >>> images = keras.Input((32, 32, 3))
    >>> feature_map = keras.layers.Conv2D(16, 3, activation="relu")(images)
    >>> keras_finegrain.models.average_max_pooling(feature_map).shape
    (None, 16)
    >>> both = keras_finegrain.models.average_max_pooling(
    ...     feature_map, concatenate=True, name="both"
    ... )
    >>> both.shape
    (None, 32)

    Reference:
        - `SelectAdaptivePool2d` of timm, `"avgmax"` and `"catavgmax"`; and
          `AdaptiveConcatPool2d` of fastai, which puts the maxima first
    """
    who = "average_max_pooling"
    _check_symbolic(who, "feature_map", feature_map, rank=4)
    concatenate = boolean(who, "concatenate", concatenate)
    name = string(who, "name", name)
    dtype = _wide()
    average = keras.layers.GlobalAveragePooling2D(
        name=f"{name}_average", dtype=dtype
    )
    maximum = GlobalMaxPooling2D(name=f"{name}_max", dtype=dtype)
    merge = keras.layers.Concatenate if concatenate else keras.layers.Average
    merged = merge(name=name, dtype=dtype)
    return merged([average(feature_map), maximum(feature_map)])


def embedding_block(
    features: Tensor,
    size: int,
    neck: bool = True,
    dropout: float = 0.0,
    name: str = "embedding",
) -> Tensor:
    """From pooled features to an embedding: dropout, dense, batch-norm neck.

        y = γ · (W x − mean) / √(variance + ε)

    The dense layer has no bias and the batch normalisation no shift β, so that
    classes lie around the origin, where a cosine compares them. It is the
    usual block between pooling and `keras_finegrain.CosineSimilarity`.

    What is returned is for the classifier and for retrieval by cosines. A loss
    on distances, such as the triplet or center loss, is trained on W x, before
    the neck: see the second example.

    Args:
        features: Symbolic tensor `(batch, channels)`.
        size: Length of the embedding, at least 1.
        neck: Whether the batch normalisation, named `"<name>_neck"`, follows.
            Default True.
        dropout: Share of the features that is dropped in training, in [0, 1).
            Default 0, none.
        name: Name of the dense layer. Default `"embedding"`.

    Returns:
        Symbolic tensor `(batch, size)`.

    Raises:
        ValueError: If `features` are no symbolic vectors, or for an argument
            out of its range.

    Example:

    >>> features = keras.Input((1280,))
    >>> embedding = keras_finegrain.models.embedding_block(features, size=512)
    >>> scores = keras_finegrain.CosineSimilarity(200)(embedding)
    >>> model = keras_finegrain.Model(features, scores)

    Center loss before the neck, a linear classifier without a bias behind it:

    >>> embedding = keras_finegrain.models.embedding_block(
    ...     features, size=512, neck=False
    ... )
    >>> embedding = keras_finegrain.CenterLoss(200)(embedding)
    >>> neck = keras.layers.BatchNormalization(center=False)
    >>> scores = keras.layers.Dense(200, use_bias=False)(neck(embedding))
    >>> model = keras_finegrain.Model(features, scores)

    Reference:
        - [Luo et al., "Bag of Tricks and a Strong Baseline for Deep Person
          Re-identification", CVPR Workshops 2019, section 3.6](
          https://arxiv.org/abs/1903.07071)
    """
    who = "embedding_block"
    _check_symbolic(who, "features", features, rank=2)
    size = positive_integer(who, "size", size)
    neck = boolean(who, "neck", neck)
    dropout = number(who, "dropout", dropout, at_least=0, below=1)
    name = string(who, "name", name)
    if dropout:
        features = keras.layers.Dropout(dropout, name=f"{name}_dropout")(
            features
        )
    dense = keras.layers.Dense(size, use_bias=False, name=name)
    embedding = dense(features)
    if neck:
        embedding = _batch_norm(f"{name}_neck", center=False)(embedding)
    return embedding


def mutual_channel_head(
    feature_map: Tensor,
    num_classes: int,
    hidden: int = 512,
    dropout: float = 0.0,
) -> Tensor:
    """The classifier that the mutual-channel loss was published with.

    Maximum pooling over the whole map, batch normalisation, a dense layer,
    batch normalisation, ELU, and the dense layer of the classes. It is that of
    the authors' ResNet-18, and belongs behind `keras_finegrain.MCLoss`, whose
    published weights were found with it.

    Args:
        feature_map: Symbolic tensor `(batch, height, width, channels)`, or
            `(batch, channels, height, width)` where that is the data format of
            the Keras configuration.
        num_classes: Number of classes, at least 1.
        hidden: Units of the first dense layer, whose output behind the ELU is
            the embedding. Default 512, the authors'.
        dropout: Share that is dropped before each dense layer in training, in
            [0, 1). Default 0: the authors' code holds 0.5, switched off.

    Returns:
        Symbolic tensor `(batch, num_classes)`: logits, in float32 or wider.
        Its layers are named `"pooling"`, `"embedding"` with what surrounds it,
        and `"head"`.

    Raises:
        ValueError: If `feature_map` is no symbolic feature map, or for an
            argument out of its range.

    Example:

    >>> images = keras.Input((32, 32, 3))
    >>> feature_map = keras.layers.Conv2D(60, 3, activation="relu")(images)
    >>> feature_map = keras_finegrain.MCLoss(num_classes=20)(feature_map)
    >>> logits = keras_finegrain.models.mutual_channel_head(feature_map, 20)
    >>> model = keras_finegrain.Model(images, logits)
    >>> model.compile(
    ...     "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    ... )

    Reference:
        - [Chang et al., "The Devil is in the Channels: Mutual-Channel Loss for
          Fine-Grained Image Classification", TIP 2020](
          https://arxiv.org/abs/2002.04264), and the authors'
          [code](https://github.com/dongliangchang/Mutual-Channel-Loss)
    """
    who = "mutual_channel_head"
    _check_symbolic(who, "feature_map", feature_map, rank=4)
    num_classes = positive_integer(who, "num_classes", num_classes)
    hidden = positive_integer(who, "hidden", hidden)
    dropout = number(who, "dropout", dropout, at_least=0, below=1)
    layers: list[Any] = [
        GlobalMaxPooling2D(name="pooling", dtype=_wide()),
        _batch_norm("embedding_input_norm"),
        keras.layers.Dense(hidden, name="embedding"),
        _batch_norm("embedding_norm"),
        keras.layers.ELU(name="embedding_elu"),
        # (Cross-entropy of half-precision logits loses digits.)
        keras.layers.Dense(num_classes, name="head", dtype=_wide()),
    ]
    output = feature_map
    for layer in layers:
        if dropout and isinstance(layer, keras.layers.Dense):
            drop = keras.layers.Dropout(dropout, name=f"{layer.name}_dropout")
            output = drop(output)
        output = layer(output)
    return output


def _batch_norm(
    name: str, center: bool = True
) -> keras.layers.BatchNormalization:
    return keras.layers.BatchNormalization(
        momentum=_MOMENTUM, epsilon=_EPSILON, center=center, name=name
    )


def _wide() -> str:
    """The dtype of what is computed in float32 or wider."""
    return at_least_float32(keras.config.dtype_policy().compute_dtype)


def _check_symbolic(who: str, name: str, tensor: Any, rank: int) -> None:
    """Raises if a tensor is not the symbolic one of a functional model."""
    shape = tuple(getattr(tensor, "shape", None) or ())
    if isinstance(tensor, keras.KerasTensor) and len(shape) == rank:
        return
    axes = "feature map of 4 axes" if rank == 4 else "vectors of 2 axes"
    raise ValueError(
        f"{who}: {name} must be a symbolic tensor of a functional model, "
        f"{axes}, received {type(tensor).__name__} of the shape {shape}. Pass "
        "what a layer gives for a keras.Input."
    )

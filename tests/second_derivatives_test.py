"""The gradients of losses, layers and the regularizer can be derived again."""

import numpy as np
import pytest
from keras import ops

import keras_finegrain
from keras_finegrain.layers.mc_loss import discriminality, diversity
from tests.gradients import assert_second_derivative

RANDOM = np.random.default_rng(0)
LABELS = np.repeat(np.arange(4), 3)
EMBEDDINGS = RANDOM.normal(size=(12, 5))
SIMILARITIES = RANDOM.uniform(-0.9, 0.9, size=(12, 4))
# (Keras computes an angle of `CombinedMarginLoss` in float32 on some backends,
# too coarse for a central difference.)
LOSSES = [
    getattr(keras_finegrain.losses, name)
    for name in keras_finegrain.losses.__all__
    if name not in ("CombinedMarginLoss", "MarginSoftmaxLoss")
]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_of_every_loss(loss):
    loss = loss(dtype="float64")
    values = EMBEDDINGS if loss.compares_embeddings else SIMILARITIES

    assert_second_derivative(lambda output: loss(LABELS, output), values)


@pytest.mark.parametrize("pooling", ["max", "soft"])
def test_of_the_heads(pooling):
    head = keras_finegrain.SoftTriple(4, 3, pooling=pooling, dtype="float64")
    head.build(EMBEDDINGS.shape)

    assert_second_derivative(
        lambda embeddings: ops.sum(head(embeddings) ** 3), EMBEDDINGS
    )


def test_of_center_merging():
    assert_second_derivative(
        keras_finegrain.regularizers.CenterMerging(),
        RANDOM.normal(size=(4, 3, 5)),
    )


def test_of_the_mutual_channel_loss():
    sizes, labels = (2, 3, 3), ops.array([0, 1, 2])

    assert_second_derivative(
        lambda feature_map: ops.sum(
            discriminality(feature_map, labels, sizes)
            + diversity(feature_map, sizes) ** 3
        ),
        RANDOM.normal(size=(3, 9, 8)),
    )

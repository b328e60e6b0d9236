"""Pooling, embedding block and the mutual-channel head."""

import re

import keras
import numpy as np
import pytest
from keras import ops

import keras_finegrain
from keras_finegrain import models

RNG = np.random.default_rng(0)
MAPS = RNG.normal(size=(4, 3, 5, 6)).astype("float32")


def feature_map():
    return keras.Input((3, 5, 6))


def test_pooling_is_the_mean_of_average_and_maximum_or_both():
    inputs = feature_map()
    model = keras.Model(
        inputs,
        [
            models.average_max_pooling(inputs),
            models.average_max_pooling(inputs, concatenate=True, name="both"),
        ],
    )
    mean, both = (ops.convert_to_numpy(output) for output in model(MAPS))
    average, maximum = MAPS.mean((1, 2)), MAPS.max((1, 2))
    np.testing.assert_allclose(mean, (average + maximum) / 2, atol=1e-6)
    np.testing.assert_allclose(
        both, np.concatenate([average, maximum], 1), atol=1e-6
    )


def test_the_neck_has_no_shift_and_the_dense_layer_no_bias():
    inputs = keras.Input((6,))
    model = keras.Model(inputs, models.embedding_block(inputs, 4, dropout=0.5))
    names = [weight.path for weight in model.trainable_weights]
    assert names == ["embedding/kernel", "embedding_neck/gamma"]
    x = RNG.normal(size=(32, 6)).astype("float32")
    moving = RNG.uniform(0.5, 2.0, size=(2, 4)).astype("float32")
    neck = model.get_layer("embedding_neck")
    neck.moving_mean.assign(moving[0])
    neck.moving_variance.assign(moving[1])
    kernel = ops.convert_to_numpy(model.get_layer("embedding").kernel)
    np.testing.assert_allclose(
        ops.convert_to_numpy(model(x)),
        (x @ kernel - moving[0]) / np.sqrt(moving[1] + 1e-5),
        atol=1e-5,
    )
    # The embedding that is compared is that of the block, with its neck.
    head = keras_finegrain.CosineSimilarity(3)(model.outputs[0])
    whole = keras_finegrain.Model(inputs, head)
    compared = keras_finegrain.embedding_model(whole)
    assert compared.layers[-1].name == "embedding_neck"


def test_without_its_neck_the_block_is_a_linear_layer():
    inputs = keras.Input((6,))
    model = keras.Model(inputs, models.embedding_block(inputs, 4, neck=False))
    assert [layer.name for layer in model.layers[1:]] == ["embedding"]


def head_in_numpy(x, weights):
    """The authors' classifier in evaluation, of ResNet-18."""

    def norm(x, gamma, beta, mean, variance):
        return gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta

    (gamma, beta, kernel, bias, gamma_2, beta_2, kernel_2, bias_2), moving = (
        weights
    )
    x = x.max((1, 2))
    x = norm(x, gamma, beta, *moving[:2]) @ kernel + bias
    x = norm(x, gamma_2, beta_2, *moving[2:])
    x = np.where(x > 0, x, np.expm1(np.minimum(x, 0)))
    return x @ kernel_2 + bias_2


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_head_is_that_of_the_authors(dropout):
    inputs = feature_map()
    output = models.mutual_channel_head(inputs, 7, hidden=5, dropout=dropout)
    model = keras.Model(inputs, output)
    for weight in model.weights:
        weight.assign(RNG.uniform(0.5, 1.5, size=weight.shape) - 0.2)
    weights = [
        [ops.convert_to_numpy(weight) for weight in group]
        for group in (model.trainable_weights, model.non_trainable_weights)
    ]
    # (Dropout has a generator of its own among them.)
    weights[1] = [weight for weight in weights[1] if weight.dtype == "float32"]
    np.testing.assert_allclose(
        ops.convert_to_numpy(model(MAPS)),
        head_in_numpy(MAPS, weights),
        rtol=1e-5,
        atol=1e-5,
    )


def test_the_head_has_the_size_of_the_authors():
    inputs = keras.Input((14, 14, 600))
    model = keras.Model(inputs, models.mutual_channel_head(inputs, 200))
    trainable = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    # Batch norm of 600, dense, batch norm of 512, dense.
    assert trainable == 2 * 600 + 601 * 512 + 2 * 512 + 513 * 200
    assert model.output_shape == (None, 200)


def test_half_precision_pools_and_scores_in_float32():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        inputs = feature_map()
        pooled = models.average_max_pooling(inputs, name="both")
        assert pooled.dtype == "float32"
        assert models.embedding_block(pooled, 4).dtype == "bfloat16"
        assert models.mutual_channel_head(inputs, 3).dtype == "float32"
    finally:
        keras.config.set_dtype_policy(before)


def test_saved_and_loaded_the_blocks_give_the_same(tmp_path):
    inputs = feature_map()
    pooled = models.average_max_pooling(inputs, name="both")
    model = keras_finegrain.Model(
        inputs,
        [
            models.mutual_channel_head(inputs, 3, hidden=4),
            models.embedding_block(pooled, 4, name="second"),
        ],
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for ours, theirs in zip(model(MAPS), loaded(MAPS), strict=True):
        np.testing.assert_array_equal(
            ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs)
        )


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: models.average_max_pooling(MAPS), "ndarray of the shape"),
        (
            lambda: models.average_max_pooling(keras.Input((6,))),
            "feature_map must be .*4 axes",
        ),
        (
            lambda: models.average_max_pooling(feature_map(), concatenate=2),
            "concatenate must be True or False",
        ),
        (
            lambda: models.embedding_block(feature_map(), 3),
            "features must be .*vectors of 2 axes",
        ),
        (
            lambda: models.embedding_block(keras.Input((6,)), 0),
            "size must be an integer of at least 1, received 0",
        ),
        (
            lambda: models.embedding_block(keras.Input((6,)), 3, dropout=1.0),
            "dropout must be .*below 1",
        ),
        (
            lambda: models.mutual_channel_head(feature_map(), 3, hidden=1.5),
            "hidden must be an integer",
        ),
        (
            lambda: models.mutual_channel_head(None, 3),
            "mutual_channel_head: feature_map must be .* received NoneType",
        ),
    ],
)
def test_what_cannot_be_built_is_refused(build, words):
    with pytest.raises(ValueError, match=re.compile(words, re.DOTALL)):
        build()

import keras
import numpy as np
import pytest
from keras import ops

import keras_finegrain
from keras_finegrain.layers import GeneralizedMeanPooling2D
from tests.gradients import layer_losses, value_and_gradients

FEATURES = np.random.default_rng(0).normal(size=(2, 3, 4, 5))


def expected(values, exponent, epsilon=1e-6):
    powers = np.maximum(values, epsilon) ** exponent
    return powers.mean(axis=(1, 2)) ** (1 / exponent)


@pytest.mark.parametrize("exponent", [1.0, 3.0, 6.5])
def test_output_is_the_generalized_mean(float64, exponent):
    np.testing.assert_allclose(
        ops.convert_to_numpy(GeneralizedMeanPooling2D(exponent)(FEATURES)),
        expected(FEATURES, exponent),
        rtol=1e-9,
    )


def test_an_exponent_of_one_is_the_average_and_a_large_one_the_maximum():
    features = np.abs(FEATURES).astype("float32")
    pooled = ops.convert_to_numpy(GeneralizedMeanPooling2D(1)(features))
    np.testing.assert_allclose(pooled, features.mean((1, 2)), rtol=1e-6)
    maximum = ops.convert_to_numpy(keras.layers.GlobalMaxPooling2D()(features))
    pooled = ops.convert_to_numpy(GeneralizedMeanPooling2D(64)(features))
    assert (pooled <= maximum * (1 + 1e-6)).all()
    assert (pooled >= maximum * 12 ** (-1 / 64) * (1 - 1e-6)).all()


@pytest.mark.parametrize("keepdims", [False, True])
def test_channels_first_is_the_same_in_other_axes(keepdims):
    last = GeneralizedMeanPooling2D(keepdims=keepdims)
    first = GeneralizedMeanPooling2D(
        keepdims=keepdims, data_format="channels_first"
    )
    features = FEATURES.astype("float32")
    moved = np.moveaxis(features, -1, 1)
    pooled = ops.convert_to_numpy(first(moved))
    assert pooled.shape == first.compute_output_shape(moved.shape)
    assert last(features).shape == last.compute_output_shape(features.shape)
    np.testing.assert_allclose(
        pooled.reshape(2, 5),
        ops.convert_to_numpy(last(features)).reshape(2, 5),
        rtol=1e-6,
    )


def test_gradients_are_those_of_the_definition(float64):
    direction = np.random.default_rng(1).normal(size=(2, 5))
    layer = GeneralizedMeanPooling2D()
    layer.build(FEATURES.shape)

    def along(features, exponent):
        pooled, _ = layer_losses(layer, [exponent], features)
        return ops.sum(pooled * ops.convert_to_tensor(direction))

    def slope(features, exponent, step=1e-6):
        """Of the definition along a direction, by a difference."""
        high, low = (
            np.sum(
                direction
                * expected(FEATURES + s * features, 3.0 + s * exponent)
            )
            for s in (step, -step)
        )
        return (high - low) / (2 * step)

    _, (of_features, of_exponent) = value_and_gradients(
        along, [FEATURES, np.array(3.0)]
    )
    moved = np.random.default_rng(2).normal(size=FEATURES.shape)
    assert np.sum(of_features * moved) == pytest.approx(
        slope(moved, 0.0), rel=1e-6
    )
    assert of_exponent == pytest.approx(slope(0.0, 1.0), rel=1e-6)


@pytest.mark.parametrize("value", [0.0, -1.0, 1e-30, 1e30])
@pytest.mark.parametrize("exponent", [1, 3, 64])
def test_no_value_makes_output_or_gradient_infinite(value, exponent):
    layer = GeneralizedMeanPooling2D(exponent)
    features = np.full((1, 2, 2, 1), value, "float32")
    layer.build(features.shape)

    def total(features, exponent):
        return ops.sum(layer_losses(layer, [exponent], features)[0])

    pooled, gradients = value_and_gradients(
        total, [features, np.float32(exponent)]
    )
    assert pooled == pytest.approx(max(value, 1e-6), rel=1e-4)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_loses_no_more_than_its_own_digits(policy):
    features = np.abs(FEATURES).astype("float32") * 100  # 100³ is no float16
    pooled = GeneralizedMeanPooling2D(dtype=policy)(features)
    assert keras.backend.standardize_dtype(pooled.dtype) == policy[6:]
    np.testing.assert_allclose(
        ops.convert_to_numpy(ops.cast(pooled, "float32")),
        expected(features, 3),
        rtol=2e-2 if policy.endswith("bfloat16") else 2e-3,
    )


def test_the_exponent_learns_and_stays_in_its_range():
    model = keras.Sequential(
        [keras.Input((4, 4, 1)), GeneralizedMeanPooling2D(exponent=2)]
    )
    features = np.random.default_rng(0).uniform(0, 1, (64, 4, 4, 1))
    model.compile(keras.optimizers.SGD(5.0), "mse")
    model.fit(features, features.max(axis=(1, 2)), verbose=0, epochs=3)
    toward_maximum = ops.convert_to_numpy(model.layers[0].exponent)
    model.compile(keras.optimizers.SGD(1e6), "mse")
    model.fit(features, features.min(axis=(1, 2)), verbose=0)

    assert toward_maximum > 2.1
    assert ops.convert_to_numpy(model.layers[0].exponent) == 1.0


def test_it_is_saved_and_loaded(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((3, 4, 5)),
            GeneralizedMeanPooling2D(
                4, train_exponent=False, epsilon=1e-3, keepdims=True
            ),
        ]
    )
    assert not model.trainable_variables
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")

    assert loaded.layers[0].get_config() == model.layers[0].get_config()
    np.testing.assert_array_equal(
        *(m.predict(FEATURES, verbose=0) for m in (model, loaded))
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"exponent": 0.5}, "exponent must be a finite number at least 1"),
        ({"epsilon": 0}, "epsilon must be a finite number above 0"),
        ({"train_exponent": "no"}, "train_exponent must be True or False"),
        ({"data_format": "last"}, "data_format must be one of"),
        ({"keepdims": 1}, "keepdims must be True or False"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        GeneralizedMeanPooling2D(**arguments)


def test_vectors_are_refused():
    with pytest.raises(ValueError, match="expected ndim=4"):
        keras_finegrain.layers.GeneralizedMeanPooling2D()(np.ones((2, 5)))

"""One set of rules for sample weights, whoever reads them."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_finegrain
from keras_finegrain import losses

BACKEND = keras.backend.backend()
GENERATOR = np.random.default_rng(0)
FEATURES = GENERATOR.normal(size=(4, 3)).astype("float32")
LABELS = np.array([2, 0, 2, 1], "int32")
WEIGHTS = np.array([1.0, 0.0, 2.0, 0.5], "float32")


def center_loss(weights):
    layer = keras_finegrain.CenterLoss(3, loss_weight=1.0)
    layer(FEATURES, LABELS, weights)
    return float(layer.losses[0])


def mc_loss(weights):
    layer = keras_finegrain.MCLoss(
        3, loss_weight=1.0, data_format="channels_last"
    )
    with keras_finegrain.label_scope(LABELS, weights):
        layer(np.stack([FEATURES, -FEATURES], axis=1))
    return float(layer.losses[0])


def class_loss(weights):
    loss = losses.ArcFaceLoss()
    return float(loss(LABELS, np.tanh(FEATURES), sample_weight=weights))


def fitted(weights):
    inputs = keras.Input((3,))
    model = keras_finegrain.Model(
        inputs, keras_finegrain.CosineSimilarity(3)(inputs)
    )
    model.compile(keras.optimizers.SGD(0.0), losses.ArcFaceLoss())
    return model.evaluate(
        FEATURES, LABELS, sample_weight=weights, batch_size=4, verbose=0
    )


READERS = [center_loss, mc_loss, class_loss, fitted]


@pytest.mark.parametrize("read", READERS)
def test_a_weight_below_zero_or_not_finite_is_an_error(read):
    for wrong in (-1.0, np.nan, np.inf):
        weights = np.array([1.0, wrong, 1.0, 1.0], "float32")
        with pytest.raises(ValueError, match="finite and at least 0, received"):
            read(weights)


@pytest.mark.parametrize("read", [center_loss, mc_loss, class_loss])
@pytest.mark.parametrize("shape", [(1,), (3,), (5,), (4, 2), (1, 4)])
def test_one_weight_is_not_broadcast_over_the_batch(read, shape):
    with pytest.raises(ValueError, match=r"the shape \(4,\), received"):
        read(np.ones(shape, "float32"))


@pytest.mark.parametrize("read", [center_loss, mc_loss, class_loss])
def test_every_form_of_weights_means_the_same(read):
    expected = read(WEIGHTS)
    assert expected != pytest.approx(read(None))
    for same in (WEIGHTS[:, None], WEIGHTS.tolist(), WEIGHTS.astype("float64")):
        assert read(same) == pytest.approx(expected, rel=1e-6)
    assert read(2.0) == pytest.approx(2.0 * read(None), rel=1e-6)
    assert read(np.ones(4, bool)) == pytest.approx(read(None), rel=1e-6)


@pytest.mark.parametrize("read", READERS)
def test_weights_that_are_no_numbers_are_named(read):
    with pytest.raises(ValueError, match="sample_weight must be numbers"):
        read(np.array(["a", "b", "a", "b"]))


def test_in_a_compiled_step_an_unusable_weight_makes_the_loss_nan():
    if BACKEND == "tensorflow":
        import tensorflow as tf

        compiled = tf.function(losses.ArcFaceLoss())
    elif BACKEND == "jax":
        import jax

        compiled = jax.jit(losses.ArcFaceLoss())
    else:
        pytest.skip("PyTorch runs its steps eagerly")
    arguments = [LABELS, np.tanh(FEATURES), WEIGHTS - 1.0]
    assert np.isnan(float(compiled(*map(ops.convert_to_tensor, arguments))))


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.data feeds it")
def test_a_pipeline_with_a_weight_below_zero_stops():
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((FEATURES, LABELS, WEIGHTS - 1))
    inputs = keras.Input((3,))
    model = keras_finegrain.Model(
        inputs, keras_finegrain.CosineSimilarity(3)(inputs)
    )
    model.compile("sgd", losses.ArcFaceLoss())
    with pytest.raises(Exception, match="sample_weight must be finite"):
        model.fit(data.batch(2), verbose=0)


def test_weights_of_samples_hold_for_all_of_their_positions():
    features = np.stack([FEATURES, 2 * FEATURES], axis=1)
    labels = np.stack([LABELS, LABELS], axis=1)
    values = []
    for weights in (WEIGHTS, np.stack([WEIGHTS, WEIGHTS], axis=1)):
        layer = keras_finegrain.CenterLoss(3, loss_weight=1.0)
        layer(features, labels, weights)
        values.append(float(layer.losses[0]))
    assert values[0] == pytest.approx(values[1], rel=1e-6)

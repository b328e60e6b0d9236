"""Numbers far from 1: squares that would overflow or vanish."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_finegrain
from keras_finegrain import losses
from keras_finegrain._ops.numerics import (
    inverse_length,
    log_one_plus_sum_exp,
    maximum,
    scale_to_square,
    sine,
    unit_distance,
    unit_length,
)
from tests.gradients import value_and_gradients

RANDOM = np.random.default_rng(0)
EMBEDDINGS = RANDOM.normal(size=(6, 4)).astype("float32")
LABELS = np.array([0, 0, 1, 1, 2, 2])


@pytest.mark.parametrize("scale", [1e-30, 1e-25, 1e25, 1e30])
def test_a_direction_does_not_depend_on_the_length(scale):
    long = np.float32(scale) * EMBEDDINGS
    direction = RANDOM.normal(size=EMBEDDINGS.shape).astype("float32")

    def along(vectors):
        return ops.sum(unit_length(vectors) * ops.convert_to_tensor(direction))

    _, (gradient,) = value_and_gradients(along, [long])
    _, (expected,) = value_and_gradients(along, [EMBEDDINGS])

    np.testing.assert_allclose(
        ops.convert_to_numpy(unit_length(ops.convert_to_tensor(long))),
        EMBEDDINGS / np.linalg.norm(EMBEDDINGS, axis=1, keepdims=True),
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        gradient.astype("float64") * scale, expected, rtol=1e-4, atol=1e-6
    )


def test_a_zero_vector_stays_zero_with_a_zero_gradient():
    value, (gradient,) = value_and_gradients(
        lambda v: ops.sum(unit_length(v)), [np.zeros((1, 3), "float32")]
    )
    assert value == 0.0
    assert not gradient.any()


def test_dividing_by_the_scale_changes_no_digit():
    values = np.array([3e-30, 3e-16, 0.3, 3e14, 3e16, 3e30], "float32")

    scaled = values / ops.convert_to_numpy(scale_to_square(values, axis=None))
    of_each = ops.convert_to_numpy(scale_to_square(values[:, None], axis=1))

    assert (scaled == values * np.float32(2.0**-80)).all()
    # Of usual numbers it is 1, of others a power of two.
    np.testing.assert_array_equal(
        np.log2(of_each[:, 0]), [-80, -80, 0, 0, 80, 80]
    )


def test_a_length_of_zero_has_the_inverse_zero():
    squared = np.array([0.0, 1e-40, 0.25, 1.0, 4.0], "float32")

    inverse = ops.convert_to_numpy(inverse_length(squared))

    np.testing.assert_allclose(inverse, [0, 0, 2, 1, 0.5], rtol=1e-6)


@pytest.mark.parametrize(
    ("function", "cosine", "expected", "slope"),
    [
        # Where two vectors coincide distance and slope are 0, not 1 or NaN.
        (unit_distance, 1.0, 0.0, 0.0),
        (unit_distance, 1.0 - 1e-7, 0.0, 0.0),
        (unit_distance, 1.0 - 1e-6, np.sqrt(2e-6), -1 / np.sqrt(2e-6)),
        (unit_distance, 0.5, 1.0, -1.0),
        (unit_distance, -1.0, 2.0, -0.5),
        (sine, 1.0, 0.0, 0.0),
        (sine, -1.0, 0.0, 0.0),
        (sine, 1.0 + 1e-6, 0.0, 0.0),
        (sine, 0.6, 0.8, -0.75),
        (sine, 0.0, 1.0, 0.0),
    ],
)
def test_the_root_at_zero_has_the_slope_zero(function, cosine, expected, slope):
    value, (gradient,) = value_and_gradients(
        lambda c: ops.sum(function(c)), [np.array([cosine], "float32")]
    )
    # (float32 has 16 steps between 1 - 1e-6 and 1.)
    assert value == pytest.approx(expected, rel=0.03, abs=1e-6)
    assert gradient[0] == pytest.approx(slope, rel=0.03, abs=1e-6)


@pytest.mark.parametrize("axis", [0, 1])
def test_the_logarithm_of_a_masked_sum(axis):
    values = np.array([[-20.0, 0.5, 90.0], [0.0, 3.0, 1.0]], "float32")
    mask = np.array([[True, True, False], [False, False, False]])

    logarithm = ops.convert_to_numpy(log_one_plus_sum_exp(values, mask, axis))

    powers = np.where(mask, np.exp(values.astype("float64")), 0.0)
    np.testing.assert_allclose(logarithm, np.log1p(powers.sum(axis)), rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-25, 1e25])
@pytest.mark.parametrize(
    "loss",
    [
        losses.ContrastiveLoss(),
        losses.MultiSimilarityLoss(),
        losses.CosineLoss(),
        losses.TripletAllLoss(distance_metric="angular"),
    ],
)
def test_losses_of_directions_do_not_depend_on_the_length(loss, scale):
    expected = float(loss(LABELS, EMBEDDINGS))

    assert float(loss(LABELS, np.float32(scale) * EMBEDDINGS)) == (
        pytest.approx(expected, rel=1e-5)
    )


def test_distances_of_large_embeddings_are_their_distances():
    loss = losses.TripletHardLoss(margin=0.0)
    value, (gradient,) = value_and_gradients(
        lambda x: loss(LABELS, x), [EMBEDDINGS]
    )
    large, (of_large,) = value_and_gradients(
        lambda x: loss(LABELS, x), [np.float32(1e25) * EMBEDDINGS]
    )

    assert large == pytest.approx(1e25 * value, rel=1e-5)
    np.testing.assert_allclose(of_large, gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_a_small_floatx_does_not_cut_the_scale(scale):
    before = keras.config.floatx()
    rows = ops.convert_to_tensor(np.float32(scale) * np.float32([[3.0, 4.0]]))
    keras.config.set_floatx("float16")
    try:
        directions = ops.convert_to_numpy(unit_length(rows))
    finally:
        keras.config.set_floatx(before)
    np.testing.assert_allclose(directions, [[0.6, 0.8]], rtol=1e-6)


def test_squared_distances_of_large_embeddings_are_their_squares():
    loss = losses.TripletHardLoss(margin=0.0, distance_metric="squared-L2")
    value, (gradient,) = value_and_gradients(
        lambda x: loss(LABELS, x), [EMBEDDINGS]
    )
    large, (of_large,) = value_and_gradients(
        lambda x: loss(LABELS, x), [np.float32(2e16) * EMBEDDINGS]
    )

    assert large == pytest.approx(4e32 * value, rel=1e-5)
    np.testing.assert_allclose(of_large, 2e16 * gradient, rtol=1e-4, atol=1e10)


def test_products_of_large_embeddings_are_infinite_and_not_nan():
    assert float(losses.NPairsLoss()(LABELS, 1e20 * EMBEDDINGS)) == np.inf


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_heads_do_not_depend_on_the_length(scale):
    head = keras_finegrain.SoftTriple(3, 2)

    np.testing.assert_allclose(
        ops.convert_to_numpy(head(np.float32(scale) * EMBEDDINGS)),
        ops.convert_to_numpy(head(EMBEDDINGS)),
        atol=1e-6,
    )


def test_the_largest_features_leave_centers_finite():
    layer = keras_finegrain.CenterLoss(2, alpha=1.0)
    labels = np.zeros(100, "int32")
    # From one end of the numbers to the other.
    for feature in (3e38, -3e38, 3e38):
        layer(np.full((100, 2), feature, "float32"), labels, training=True)
        centers = ops.convert_to_numpy(layer.centers)
        assert np.isfinite(centers).all()
        assert (np.sign(centers[0]) == np.sign(feature)).all()


def test_a_center_on_its_samples_stays():
    layer = keras_finegrain.CenterLoss(
        1, centers_initializer=keras.initializers.Constant(0.1)
    )
    layer(np.full((3, 2), 0.1, "float32"), np.zeros(3, int), training=True)

    assert (ops.convert_to_numpy(layer.centers) == np.float32(0.1)).all()


@pytest.mark.parametrize(
    ("axis", "expected"),
    [(1, [[0, 0, 1], [0, 1, 0]]), (0, [[1, 1, 1], [0, 0, 0]])],
)
def test_the_gradient_of_a_maximum_goes_to_its_place(axis, expected):
    values = np.array([[1.0, 3.0, 4.0], [-2.0, -1.0, -5.0]])
    found, (slope,) = value_and_gradients(
        lambda values: ops.sum(maximum(values, axis)), [values]
    )
    assert found == values.max(axis).sum()
    np.testing.assert_array_equal(slope, expected)

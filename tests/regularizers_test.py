import numpy as np
import pytest
from keras import ops

from keras_finegrain.regularizers import CenterMerging, center_spread
from tests.gradients import value_and_gradients


@pytest.mark.parametrize("case", range(4))
def test_value_is_the_official_one_without_its_constant(golden, float64, case):
    centers = golden["soft_triple"][case]["centers"]
    unit = centers / np.linalg.norm(centers, axis=-1, keepdims=True)
    classes, count, _ = centers.shape
    first, second = np.triu_indices(count, 1)
    distance = np.linalg.norm(unit[:, first] - unit[:, second], axis=-1)
    expected = distance.sum() / (classes * max(count * (count - 1), 1))
    value = center_spread(ops.convert_to_tensor(centers))
    np.testing.assert_allclose(float(value), expected, rtol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_coinciding_centers_have_a_finite_gradient(dtype):
    centers = np.ones((2, 3, 4), dtype)
    centers[0, 1] *= 3  # the same direction
    centers[1, 2] = 0  # no direction at all
    value, (gradient,) = value_and_gradients(center_spread, [centers])
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[0], 0)


def test_gradient_brings_near_centers_together():
    centers = np.array([[[1.0, 0.0], [1.0, 0.01]]], "float32")
    _, (gradient,) = value_and_gradients(center_spread, [centers])
    moved = centers - 0.005 * gradient
    assert np.ptp(moved[0, :, 1]) < np.ptp(centers[0, :, 1])


def test_one_center_per_class_has_no_spread():
    assert float(center_spread(ops.ones((5, 1, 3)))) == 0.0


def test_tau_scales_the_value():
    centers = ops.array([[[1.0, 0.0], [0.0, 1.0]]])
    assert float(CenterMerging(0.5)(centers)) == pytest.approx(
        0.5 * float(center_spread(centers))
    )


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"tau must be .* received -1"):
        CenterMerging(-1)
    with pytest.raises(ValueError, match=r"received the shape \(3, 4\)"):
        CenterMerging()(ops.ones((3, 4)))

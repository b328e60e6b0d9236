import math

import keras
import numpy as np
import pytest
from keras import ops

import keras_finegrain
from keras_finegrain.layers.measured import MeasuredMean


def test_a_mean_of_nothing_is_nan_and_not_zero():
    mean = MeasuredMean()

    assert math.isnan(float(mean.result()))
    mean.update_state(3.0)
    mean.update_state(0.0, sample_weight=2.0)
    assert float(mean.result()) == pytest.approx(1.0)
    mean.reset_state()
    assert math.isnan(float(mean.result()))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_features_of_float32_keep_their_digits_under_every_policy(policy):
    layer = keras_finegrain.CenterLoss(
        1, alpha=1.0, centers_initializer="zeros", dtype=policy
    )

    # Half precision has no 2,049; the center goes half of the way.
    layer(np.full((1, 2), 2049.0, "float32"), np.array([0]), training=True)

    assert (ops.convert_to_numpy(layer.centers) == 1024.5).all()


def test_what_is_measured_has_no_gradient():
    """A measure in the logs must not hold on to the step that made it."""
    if keras.backend.backend() != "torch":
        pytest.skip("only PyTorch's tensors carry their graph with them")
    layer = keras_finegrain.SoftTriple(3, 2)
    layer(np.ones((2, 4), "float32"), training=True)

    (measure,) = layer.metrics
    assert not measure.total.value.grad_fn

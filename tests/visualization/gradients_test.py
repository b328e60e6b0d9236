"""The gradient must be the derivative, on every backend."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_finegrain.visualization.gradients import gradient


def test_is_the_derivative():
    at = np.array([[1.0, -2.0], [0.5, 3.0]], "float32")

    found = gradient(
        lambda x: ops.sum(ops.sin(x) * x), ops.convert_to_tensor(at)
    )

    np.testing.assert_allclose(
        ops.convert_to_numpy(found), np.cos(at) * at + np.sin(at), rtol=1e-5
    )


def test_is_zero_where_nothing_depends_on_the_tensor():
    at = ops.ones((2, 3))

    found = gradient(lambda x: ops.sum(ops.ones((2,))), at)

    np.testing.assert_array_equal(ops.convert_to_numpy(found), np.zeros((2, 3)))


@pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="a switch of torch"
)
def test_does_not_need_gradients_to_be_switched_on():
    import torch

    with torch.no_grad():
        found = gradient(lambda x: ops.sum(x * x), torch.tensor([3.0]))

    assert found.tolist() == [6.0]

"""Tests of keras_finegrain._ops.row_update."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_finegrain as kf
from keras_finegrain._ops.row_update import sum_rows


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_of_one_index_are_added_in_their_own_precision(dtype):
    if dtype == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX without x64 has no float64")
    rows = np.array([[1.0, 1e-9], [2.0, 0.0], [1e-9, 1.0]], dtype)
    sums = sum_rows(ops.convert_to_tensor(rows), ops.array([2, 0, 2]))
    expected = np.stack([rows[1], np.zeros(2), rows[0] + rows[2]])
    np.testing.assert_array_equal(ops.convert_to_numpy(sums), expected)


@pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="counts PyTorch's calls"
)
@pytest.mark.parametrize(
    "layer",
    [
        lambda: kf.CenterLoss(100),
        lambda: kf.SoftTriple(200, sampled_share=0.5),
    ],
    ids=["CenterLoss", "sampled SoftTriple"],
)
def test_a_larger_batch_takes_no_more_calls_on_pytorch(layer):
    # A call for each row, with a wait for the GPU: 20 ms a step on an H200.
    def calls(batch):
        from torch.utils._python_dispatch import TorchDispatchMode

        class Count(TorchDispatchMode):
            number = 0

            def __torch_dispatch__(self, func, types, args=(), kwargs=None):
                self.number += 1
                return func(*args, **kwargs or {})

        labels = ops.arange(batch, dtype="int32")
        with kf.label_scope(labels), Count() as count:
            built(ops.ones((batch, 4)), training=True)
        return count.number

    built = layer()
    built.build((None, 4))
    calls(2)
    assert calls(64) == calls(8)

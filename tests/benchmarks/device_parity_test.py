"""No layer or loss makes a tensor on another device than that of its inputs.

PyTorch alone leaves that to the code. Its device "meta" holds no values and
refuses tensors of another device as a GPU does, on every machine.
"""

import inspect

import device_parity
import keras
import numpy as np
import pytest
from keras import ops

import keras_finegrain

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="of PyTorch alone"
)
# They look for the farthest positive in a loop that reads values, which the
# device has not: up to there they are run.
READS_VALUES = ("TripletAllLoss", "TripletSemiHardLoss")


def call(kind, name):
    """Computes a subject's value in training, on the device of the scope."""
    arguments = {
        **device_parity.LAYER_ARGUMENTS.get(name, {}),
        **device_parity.LOSS_ARGUMENTS.get(name, {}),
    }
    batch, dim = device_parity.BATCH, device_parity.DIM
    if issubclass(kind, keras.losses.Loss):
        return kind(**arguments)(
            ops.convert_to_tensor(device_parity.labels()),
            ops.ones((batch, dim)),
        )
    if issubclass(kind, keras.regularizers.Regularizer):
        return kind()(ops.ones((device_parity.CLASSES, 3, dim)))
    first = device_parity.FIRST_ARGUMENTS.get(name, device_parity.CLASSES)
    layer = kind(first, **arguments)
    inputs = ops.ones(device_parity.INPUT_SHAPES.get(name, (batch, dim)))
    training = "training" in inspect.signature(layer.call).parameters
    with keras_finegrain.label_scope(device_parity.labels()):
        return layer(inputs, **({"training": True} if training else {}))


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name, kind, _ in device_parity.subjects()],
)
def test_all_tensors_are_on_the_device_of_the_inputs(name, kind):
    with keras.device("meta"):
        if name in READS_VALUES:
            with pytest.raises(RuntimeError, match=r"item\(\)"):
                call(kind, name)
            return
        assert call(kind, name).device.type == "meta"


def test_a_tensor_of_another_device_is_noticed():
    with keras.device("meta"):
        inputs = ops.ones((3,))
    with pytest.raises(RuntimeError, match="device"):
        inputs + ops.convert_to_tensor(np.ones(3, "float32"))

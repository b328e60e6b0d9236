"""A layer must be found wherever it lies, and be left as it was."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_finegrain.visualization.layer_outputs import (
    attribute_set,
    layer_at,
    layers_within,
    outputs_seen,
)


def nested_model():
    inner = keras.Sequential(
        [keras.Input((2,)), layers.ReLU(name="relu")], name="inner"
    )
    inputs = keras.Input((2,))
    middle = keras.Model(inputs, inner(inputs), name="middle")
    return keras.Sequential(
        [keras.Input((2,)), middle, layers.Softmax(name="softmax")]
    )


def test_a_path_leads_through_every_nested_model():
    model = nested_model()

    paths = [path for path, _ in layers_within(model)]

    assert {"middle", "middle/inner", "middle/inner/relu", "softmax"} <= {
        *paths
    }
    relu = layer_at("grad_cam", model, "middle/inner/relu")
    assert isinstance(relu, layers.ReLU)


def test_an_unknown_path_names_the_nearest():
    with pytest.raises(
        ValueError, match=r"^grad_cam: .*'relu'.*'middle/inner/relu'"
    ):
        layer_at("grad_cam", nested_model(), "relu")


def test_sees_what_an_inner_layer_gives_out():
    model = nested_model()
    relu = layer_at("grad_cam", model, "middle/inner/relu")
    seen = []

    with outputs_seen([relu], lambda layer, output: seen.append(output)):
        model(ops.convert_to_tensor([[-1.0, 2.0]]))
    model(ops.convert_to_tensor([[3.0, 4.0]]))

    assert len(seen) == 1
    np.testing.assert_array_equal(ops.convert_to_numpy(seen[0]), [[0.0, 2.0]])


def test_what_follows_a_replaced_output_is_computed_from_it():
    model = nested_model()
    relu = layer_at("grad_cam", model, "middle/inner/relu")
    images = ops.convert_to_tensor([[-1.0, 2.0]])
    before = ops.convert_to_numpy(model(images))

    output = ops.convert_to_tensor([[5.0, 5.0]])
    with attribute_set(relu, "call", lambda *_, **__: output):
        replaced = ops.convert_to_numpy(model(images))

    np.testing.assert_allclose(replaced, [[0.5, 0.5]])
    np.testing.assert_array_equal(ops.convert_to_numpy(model(images)), before)


@pytest.mark.parametrize("name", ["call", "activation"])
def test_an_error_inside_leaves_the_layer_as_it_was(name):
    layer = layers.Dense(2, activation="relu")
    before = dict(vars(layer))

    def fail_inside():
        with attribute_set(layer, name, None):
            assert getattr(layer, name) is None
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_inside()

    assert vars(layer) == before

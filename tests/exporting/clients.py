"""Runs exported files as an app would, without Keras."""

import numpy as np
import pytest

ENDINGS = {"saved_model": "", "onnx": ".onnx", "litert": ".tflite"}


def run(path, format, images):
    """The named outputs that a file gives for images."""
    return {"saved_model": _saved_model, "onnx": _onnx, "litert": _litert}[
        format
    ](path, images)


def _saved_model(path, images):
    tf = pytest.importorskip("tensorflow")
    served = tf.saved_model.load(str(path))
    outputs = served.signatures["serving_default"](images=tf.constant(images))
    return {name: output.numpy() for name, output in outputs.items()}


def _onnx(path, images):
    session = pytest.importorskip("onnxruntime").InferenceSession(str(path))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"images": images}), strict=True))


def _litert(path, images):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(
        str(path)
    )
    (given,) = interpreter.get_input_details()
    interpreter.resize_tensor_input(given["index"], images.shape)
    interpreter.allocate_tensors()
    return interpreter.get_signature_runner()(images=images)


def assert_same(outputs, expected):
    """The same names, and values equal to 1e-5."""
    assert set(outputs) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(
            outputs[name], values, rtol=1e-5, atol=1e-5, err_msg=name
        )

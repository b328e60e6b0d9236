"""Writers of the formats, each on Keras's own export."""

import contextlib
import json
import logging
import pathlib
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_finegrain._base.files import (
    replacing,
    replacing_folder,
    replacing_path,
)
from keras_finegrain._base.optional import import_optional
from keras_finegrain._ops.written_gradients import forward_only

Outputs = dict[str, keras.KerasTensor]

# The loggers that converters write to; ONNX Runtime's tool to the root.
_LOGGERS = ("absl", "tf2onnx", None)

# Operations of LiteRT that stay in float32: those of lengths and softmax.
_LITERT_FLOAT = [
    "ABS",
    "DIV",
    "EXP",
    "GREATER",
    "LESS",
    "LOGISTIC",
    "MUL",
    "REDUCE_MAX",
    "RSQRT",
    "SELECT_V2",
    "SOFTMAX",
    "SQRT",
    "SUB",
    "SUM",
]


def save_saved_model(
    path: pathlib.Path,
    images: keras.KerasTensor,
    outputs: Outputs,
    about: dict[str, Any],
    samples: np.ndarray | None,
    quantize: str | None,
) -> None:
    """Writes a SavedModel, with labels.txt and metadata.json in its folder."""
    del samples, quantize
    import_optional("tensorflow", "export", "tensorflow")
    options: dict[str, Any] = {}
    if keras.backend.backend() == "jax":
        # TensorFlow would warn of gradients where the folder is loaded.
        options = {"jax2tf_kwargs": {"with_gradient": False}}
    model = keras.Model(images, outputs)
    with replacing_folder(path) as partial:
        _keras_export(model, partial, "tf_saved_model", **options)
        (partial / "metadata.json").write_text(_json(about), "utf-8")
        if about["class_names"] is not None:
            (partial / "labels.txt").write_text(_labels(about), "utf-8")


def save_onnx(
    path: pathlib.Path,
    images: keras.KerasTensor,
    outputs: Outputs,
    about: dict[str, Any],
    samples: np.ndarray | None,
    quantize: str | None,
) -> None:
    """Writes an ONNX file; class names and the rest are its metadata."""
    onnx = import_optional("onnx", "export", "onnx")
    if keras.backend.backend() == "tensorflow":
        import_optional("tf2onnx", "export", "onnx")
    with tempfile.TemporaryDirectory() as folder:
        file = str(pathlib.Path(folder, "model.onnx"))
        # A list, whose order every converter keeps.
        model = keras.Model(images, list(outputs.values()))
        _keras_export(model, file, "onnx")
        if quantize:
            file = _onnx_int8(file, samples)
        proto = onnx.load(file)
    renamed = {
        value.name: name
        for value, name in zip(proto.graph.output, outputs, strict=True)
    }
    renamed |= {proto.graph.input[0].name: "images"}
    # A tensor within that has one of these names by chance.
    renamed = {name: f"{name}_within" for name in renamed.values()} | renamed
    _rename(proto.graph, renamed)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.helper.set_model_props(
        proto,
        {
            key: json.dumps(value, ensure_ascii=False)
            for key, value in about.items()
        },
    )
    onnx.checker.check_model(proto)
    with replacing(path) as stream:
        stream.write(proto.SerializeToString())


def save_litert(
    path: pathlib.Path,
    images: keras.KerasTensor,
    outputs: Outputs,
    about: dict[str, Any],
    samples: np.ndarray | None,
    quantize: str | None,
) -> None:
    """Writes a LiteRT file, with class names and metadata beside it."""
    model = keras.Model(images, outputs)
    with replacing_path(path) as partial:
        try:
            if quantize and samples is not None:
                partial.write_bytes(_litert_int8(model, samples))
            else:
                options = _litert_options(quantize)
                _keras_export(model, partial, "litert", **options)
        except Exception as error:
            if type(error).__name__ != "ConverterError":
                raise
            raise ValueError(
                "export: format 'litert' must have every operation of the "
                f"model, received '{model.name}': {error!s:.300}. Choose "
                "'onnx' or 'saved_model', or other layers."
            ) from error
    with replacing(path.with_suffix(".json")) as stream:
        stream.write(_json(about).encode())
    labels = path.with_suffix(".labels.txt")
    if about["class_names"] is None:
        # Those of the file that was replaced.
        labels.unlink(missing_ok=True)
        return
    with replacing(labels) as stream:
        stream.write(_labels(about).encode())


def _keras_export(
    model: keras.Model,
    path: pathlib.Path | str,
    export_format: str,
    **options: Any,
) -> None:
    """As `keras.Model.export`, for any number of images, in silence."""
    images = model.inputs[0]
    signature = [
        keras.layers.InputSpec(
            shape=images.shape, dtype="float32", name="images"
        )
    ]
    with _quiet(), forward_only():
        model.export(
            path,
            format=export_format,
            verbose=False,
            input_signature=signature,
            **options,
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what converters say of their own inner workings."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _litert_options(quantize: str | None) -> dict[str, Any]:
    """What Keras hands on to the converter."""
    if keras.backend.backend() != "tensorflow":
        return {}
    import tensorflow as tf

    options: dict[str, Any] = {
        # Keras also allows operations of TensorFlow, which need a library of
        # 100 MB beside the interpreter.
        "target_spec": {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]},
        # Weights are constants: interpreters without variables run them.
        "experimental_enable_resource_variables": False,
    }
    if quantize:
        options["optimizations"] = [tf.lite.Optimize.DEFAULT]
    return options


def _litert_int8(model: keras.Model, samples: np.ndarray) -> bytes:
    """A file whose products are computed in 8 bits; the rest in float32.

    With all in 8 bits, every cosine of a head is 0.
    """
    import tensorflow as tf

    def batches() -> Iterator[dict[str, np.ndarray]]:
        for sample in samples:
            yield {"images": sample[None]}

    with tempfile.TemporaryDirectory() as folder, _quiet():
        _keras_export(model, folder, "tf_saved_model")
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = batches
        lite = tf.lite.experimental
        return lite.QuantizationDebugger(
            converter=converter,
            debug_dataset=batches,
            debug_options=lite.QuantizationDebugOptions(
                denylisted_ops=_LITERT_FLOAT
            ),
        ).get_nondebug_quantized_model()


def _onnx_int8(file: str, samples: np.ndarray | None) -> str:
    """Quantizes a file with ONNX Runtime's tool; the name of the new one."""
    quantization = import_optional("onnxruntime.quantization", "export", "onnx")
    small = file.replace("model.onnx", "int8.onnx")
    with _quiet():
        if samples is None:
            quantization.quantize_dynamic(
                file, small, weight_type=quantization.QuantType.QUInt8
            )
            return small
        prepared = file.replace("model.onnx", "prepared.onnx")
        quantization.quant_pre_process(file, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            small,
            _reader(quantization.CalibrationDataReader, samples),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            # With 8 bits, sums of 16 overflow in CPUs without VNNI.
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
    return small


def _reader(base: Any, samples: np.ndarray) -> Any:
    """What ONNX Runtime asks for images, one after the other."""
    left = iter(samples)

    def get_next(self: Any) -> dict[str, np.ndarray] | None:
        sample = next(left, None)
        return None if sample is None else {"images": sample[None]}

    return type("Reader", (base,), {"get_next": get_next})()


def _rename(graph: Any, names: dict[str, str]) -> None:
    """Renames tensors of an ONNX graph, those of inner graphs included."""
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        for tensors in (node.input, node.output):
            tensors[:] = [names.get(name, name) for name in tensors]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, names)


def _json(about: dict[str, Any]) -> str:
    return json.dumps(about, indent=2, ensure_ascii=False) + "\n"


def _labels(about: dict[str, Any]) -> str:
    return "".join(f"{name}\n" for name in about["class_names"])

"""The part of a model that an app runs: from images to named outputs."""

from typing import Any

import keras

from keras_finegrain._base.private_keras import (
    call_behind,
    calls_of,
    inner_layers,
)
from keras_finegrain.distribution import scope_of
from keras_finegrain.embedding import embedding_model
from keras_finegrain.layers.labelled_loss_layer import LabelledLossLayer

# Policies that no format is written in: ONNX and LiteRT want float32.
_OTHER_FLOATS = {
    "float16",
    "bfloat16",
    "float64",
    "mixed_float16",
    "mixed_bfloat16",
}


def inference_graph(
    model: keras.Model,
    embedding: bool | str,
    layer: str | keras.layers.Layer | None,
    temperature: float | None,
    image_size: tuple[int, int] | None,
) -> tuple[keras.KerasTensor, dict[str, keras.KerasTensor]]:
    """The graph from images to scores and embedding, in float32.

    Args:
        model: Functional or sequential, and built.
        embedding: As in `export`.
        layer: As in `export`.
        temperature: As in `export`.
        image_size: As in `export`.

    Returns:
        The symbolic images, and the outputs by their names.

    Raises:
        ValueError: If the model has no such graph.
    """
    if not (model.built and getattr(model, "inputs", None)):
        raise ValueError(
            "export: model must be functional or sequential, and built, "
            f"received {type(model).__name__} '{model.name}'. Pass "
            "keras.Model(inputs, model(inputs)) with "
            "inputs = keras.Input((height, width, 3))."
        )
    wanted: dict[str, keras.KerasTensor] = {}
    if embedding != "only" and not gives_embeddings(model):
        wanted["scores"] = _scores(model, temperature)
    if embedding or not wanted:
        wanted["embedding"] = embedding_model(model, layer).outputs[0]
    with scope_of(model):
        graph = keras.Model(model.inputs, list(wanted.values()))
        graph = _in_float32(_of_one_input(_without_labels(graph)))
        images = keras.Input(
            _input_shape(graph, image_size), dtype="float32", name="images"
        )
        outputs = dict(
            zip(wanted, keras.tree.flatten(graph(images)), strict=True)
        )
        if temperature is not None and "scores" in outputs:
            scores = keras.layers.Rescaling(1 / temperature, dtype="float32")(
                outputs["scores"]
            )
            outputs["scores"] = keras.layers.Softmax(dtype="float32")(scores)
    return images, outputs


def gives_embeddings(model: keras.Model) -> bool:
    """Whether the output of a model is its embedding: its loss says so."""
    loss = getattr(model, "loss", None)
    return bool(getattr(loss, "compares_embeddings", False))


def _scores(model: keras.Model, temperature: float | None) -> keras.KerasTensor:
    """The output of a model that scores classes."""
    if len(model.outputs) != 1 or len(model.outputs[0].shape) != 2:
        shapes = [tuple(output.shape) for output in model.outputs]
        raise ValueError(
            "export: model must have one output of scores (batch, classes), "
            f"received the outputs {shapes}. Pass "
            "keras.Model(model.input, scores), or embedding='only'."
        )
    scores = model.outputs[0]
    last = call_behind(scores).layer
    is_softmax = (
        isinstance(last, keras.layers.Softmax)
        or getattr(last, "activation", None) is keras.activations.softmax
    )
    if temperature is not None and is_softmax:
        raise ValueError(
            "export: temperature must be None where the scores are "
            f"probabilities already, received {temperature:g} for a model that "
            f"ends in the softmax of '{last.name}'. Leave it away, or pass a "
            "model that ends before the softmax."
        )
    return scores


def _without_labels(model: keras.Model) -> keras.Model:
    """The same graph without the layers that only add a loss.

    They give back their first argument, and may have an input of labels.
    """

    def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        if isinstance(layer, LabelledLossLayer):
            # (Keras lets nobody pass the first argument by its name.)
            return args[0]
        if getattr(layer, "inputs", None) and any(
            isinstance(each, LabelledLossLayer) for each in inner_layers(layer)
        ):
            # (A structure of one is not the same to Keras as the one.)
            layer = keras.Model(_single(layer.inputs), _single(layer.outputs))
            layer = _without_labels(layer)
        return layer(*args, **kwargs)

    return keras.models.clone_model(
        model, clone_function=lambda layer: layer, call_function=call
    )


def _single(tensors: list[keras.KerasTensor]) -> Any:
    return tensors[0] if len(tensors) == 1 else tensors


def _of_one_input(model: keras.Model) -> keras.Model:
    """The same graph from the input that the outputs need."""
    needed = {
        id(output)
        for call in calls_of(model)
        if not call.inputs
        for output in call.outputs
    }
    inputs = [tensor for tensor in model.inputs if id(tensor) in needed]
    if len(inputs) != 1:
        names = [tensor.name for tensor in inputs]
        raise ValueError(
            "export: model must need one input for its outputs, the images, "
            f"received {len(inputs)}: {names}. Pass a keras.Model from the "
            "images alone."
        )
    return keras.Model(inputs[0], model.outputs)


def _in_float32(model: keras.Model) -> keras.Model:
    """The model itself, or a copy that computes in float32 if it does not."""
    policies = {layer.dtype_policy.name for layer in inner_layers(model)}
    if not policies & _OTHER_FLOATS:
        return model
    config = keras.saving.serialize_keras_object(model)
    _set_float32(config)
    # (What a Lambda layer holds is code of the caller's own.)
    copy = keras.saving.deserialize_keras_object(config, safe_mode=False)
    copy.set_weights(model.get_weights())
    return copy


def _set_float32(config: Any) -> None:
    """Turns each policy of other floats in a config into float32."""
    if isinstance(config, (list, tuple)):
        for item in config:
            _set_float32(item)
    elif isinstance(config, dict):
        if config.get("name") in _OTHER_FLOATS:
            config["name"] = "float32"
        for item in config.values():
            _set_float32(item)


def _input_shape(
    model: keras.Model, image_size: tuple[int, int] | None
) -> tuple[int, ...]:
    """The shape of one input, all of it known."""
    shape = tuple(model.inputs[0].shape[1:])
    if image_size is not None:
        if len(shape) != 3:
            raise ValueError(
                "export: image_size must be None for a model of no images, "
                f"received {image_size} for inputs of the shape {shape}."
            )
        # (As Keras lays out the images of every layer.)
        asked = (*image_size, shape[-1])
        fits = zip(shape, asked, strict=True)
        if any(own not in (None, size) for own, size in fits):
            raise ValueError(
                "export: image_size must be that of the model's input, "
                f"received {image_size} for images of the shape {shape}."
            )
        shape = asked
    if None in shape:
        raise ValueError(
            "export: image_size must be given where the model's input has no "
            f"fixed size, received {image_size} for images of the shape "
            f"{shape}. Pass the size that it was trained on, such as "
            "image_size=224."
        )
    return shape

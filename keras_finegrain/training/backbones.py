"""From an image in [0, 255] to a feature map."""

import difflib
import inspect
import os
import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_finegrain.training.errors import TrainingError
from keras_finegrain.training.settings import Settings

BUILT_IN = "small"


def build_backbone(settings: Settings) -> keras.Model:
    """Builds a backbone that takes images as they are stored.

    Args:
        settings: Those of the run: `backbone`, `backbone_args`, `weights` and
            `image_size`.

    Returns:
        A functional model from images `(batch, image_size, image_size, 3)` in
        [0, 255] to a feature map `(batch, height, width, channels)`, with the
        backbone's preprocessing inside. Its layers stand directly in the
        model; a KerasHub backbone is one layer, and `"features"` its output.

    Raises:
        TrainingError: If the backbone cannot be built so.
    """
    name, weights = settings.backbone, settings.weights
    if name.endswith(".keras"):
        model = _from_file(settings)
    else:
        model = _from_name(settings)
    shapes = [output.shape for output in model.outputs]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise TrainingError(
            f"--backbone {name}: must end in a feature map (batch, height, "
            f"width, channels), and ends in {', '.join(map(str, shapes))}"
        )
    if weights not in ("imagenet", "none"):
        _load_file(model, name, weights)
    return model


def cut_at(backbone: keras.Model, layer_name: str) -> Any:
    """The output of the last layer that is kept as it is; it is frozen.

    Args:
        backbone: A functional model. What comes up to the layer is no longer
            trainable.
        layer_name: The layer.

    Returns:
        Its symbolic output.

    Raises:
        TrainingError: If there is no such layer, or a way around it.
    """
    names = [layer.name for layer in backbone.layers]
    if layer_name not in names:
        raise TrainingError(
            f"--freeze {layer_name}: the backbone has no such layer. "
            + _near(layer_name, names)
        )
    cut = backbone.get_layer(layer_name).output
    try:
        first = keras.Model(backbone.input, cut)
        if cut is not backbone.output:
            keras.Model(cut, backbone.output)
    except ValueError as error:
        raise TrainingError(
            f"--freeze {layer_name}: the backbone cannot be cut there, other "
            "layers lead around it. Take the last layer of a block, where "
            "all branches have joined"
        ) from error
    first.trainable = False
    return cut


def _from_name(settings: Settings) -> keras.Model:
    name, weights = settings.backbone, settings.weights
    size = settings.image_size
    images = keras.Input((size, size, 3), name="image")
    if name == BUILT_IN:
        _refuse(settings.backbone_args, name)
        if weights == "imagenet":
            raise TrainingError(
                f"--weights imagenet: the backbone {BUILT_IN} has none; pass "
                "none or a file"
            )
        return keras.Model(images, _small(images), name=name)
    if hasattr(keras.applications, name) and name[0].isupper():
        return _from_applications(name, images, weights, settings.backbone_args)
    return _from_keras_hub(name, images, weights, settings.backbone_args)


def _from_file(settings: Settings) -> keras.Model:
    """A whole model from images to a feature map, for another size too."""
    path, size = settings.backbone, settings.image_size
    _refuse(settings.backbone_args, path)
    if not os.path.isfile(path):
        raise TrainingError(f"--backbone {path}: there is no such file")
    try:
        stored = keras.models.load_model(path, compile=False)
        if isinstance(stored, keras.Sequential):
            stored = keras.Model(stored.inputs[0], stored.outputs[0])
        config = stored.get_config()
        config["layers"][0]["config"]["batch_shape"] = (None, size, size, 3)
        model = type(stored).from_config(config)
        if settings.weights != "none":
            model.set_weights(stored.get_weights())
    except Exception as error:
        raise TrainingError(
            f"--backbone {path}: cannot be built for images of {size} x "
            f"{size} pixels: {_one_line(error)}"
        ) from error
    # As for a backbone that is built here; the weights stay in float32.
    for layer in model.layers:
        layer.dtype_policy = keras.config.dtype_policy()
    return model


def _small(images: Any) -> Any:
    """Four stages of convolution, for drawn birds and a CPU."""
    x = keras.layers.Rescaling(1 / 127.5, offset=-1, name="preprocess")(images)
    for stage, filters in enumerate((16, 32, 96, 192), start=1):
        if stage > 1:
            x = keras.layers.MaxPooling2D(name=f"pool_{stage}")(x)
        x = keras.layers.Conv2D(
            filters, 3, padding="same", use_bias=False, name=f"conv_{stage}"
        )(x)
        # Batches of 32 over few epochs: the default 0.99 would average over
        # more steps than an epoch has.
        x = keras.layers.BatchNormalization(momentum=0.9, name=f"norm_{stage}")(
            x
        )
        x = keras.layers.ReLU(name=f"relu_{stage}")(x)
    return x


def _from_applications(
    name: str, images: Any, weights: str, arguments: Mapping[str, Any]
) -> keras.Model:
    build = getattr(keras.applications, name)
    unknown = set(arguments) - set(inspect.signature(build).parameters)
    if unknown:
        raise TrainingError(
            f"--backbone-args: {name} has no argument "
            f"{', '.join(sorted(unknown))}. "
            + _near(min(unknown), list(inspect.signature(build).parameters))
        )
    try:
        return build(
            **{
                "include_top": False,
                "weights": "imagenet" if weights == "imagenet" else None,
                "input_tensor": _preprocessed(name, images),
                # Without it the smallest size is not checked.
                "input_shape": tuple(images.shape[1:]),
                **arguments,
            }
        )
    except Exception as error:
        what = (
            f"--backbone {name} --weights imagenet: cannot be fetched or built"
            if weights == "imagenet"
            else f"--backbone {name}: cannot be built"
        )
        raise TrainingError(f"{what}: {_one_line(error)}") from error


def _preprocessed(name: str, images: Any) -> Any:
    """What the module's `preprocess_input` does, as layers that are saved.

    Each of them scales and shifts the channels, some in reverse order: three
    images show which.
    """
    module = next(
        module
        for module in vars(keras.applications).values()
        if inspect.ismodule(module)
        and hasattr(module, name)
        and hasattr(module, "preprocess_input")
    )
    black = np.zeros((1, 1, 1, 3), "float32")
    red = black + np.array([255, 0, 0], "float32")
    white = black + 255
    black, red, white = (
        np.asarray(module.preprocess_input(x.copy()))[0, 0, 0]
        for x in (black, red, white)
    )
    scale = (white - black) / 255
    if np.array_equal(scale, [1, 1, 1]) and not black.any():
        return images  # The backbone itself does it.
    if red[0] == black[0]:
        images = keras.ops.flip(images, axis=-1)
    return keras.layers.Rescaling(
        scale.tolist(), offset=black.tolist(), name="preprocess"
    )(images)


def _from_keras_hub(
    name: str, images: Any, weights: str, arguments: Mapping[str, Any]
) -> keras.Model:
    known = [
        known
        for known, value in vars(keras.applications).items()
        if known[0].isupper() and callable(value)
    ]
    unknown = (
        f"--backbone {name}: not {BUILT_IN} and not in keras.applications. "
        f"{_near(name, [BUILT_IN, *known])}"
    )
    try:
        import keras_hub
    except ImportError as error:
        raise TrainingError(
            f"{unknown} KerasHub presets need: pip install keras-hub"
        ) from error
    if weights == "imagenet":
        # A preset's weights are its own; its name says on what they trained.
        weights = "preset"
    try:
        converter = keras_hub.layers.ImageConverter.from_preset(name)
        backbone = keras_hub.models.Backbone.from_preset(
            name, load_weights=weights == "preset", **arguments
        )
    except Exception as error:
        raise TrainingError(
            f"{unknown} KerasHub says: {_one_line(error)}"
        ) from error
    scaled = keras.layers.Rescaling(
        1.0 if converter.scale is None else converter.scale,
        offset=0.0 if converter.offset is None else converter.offset,
        name="preprocess",
    )(images)
    # A layer to cut after: a model's own output is not this graph's.
    features = keras.layers.Identity(name="features")(backbone(scaled))
    return keras.Model(images, features, name=backbone.name)


def _load_file(model: keras.Model, name: str, path: str) -> None:
    if not os.path.isfile(path):
        raise TrainingError(f"--weights {path}: there is no such file")
    for weight in model.weights:
        weight.assign(np.full(weight.shape, np.nan))
    try:
        with warnings.catch_warnings():
            # Keras warns of what it skips; the NaN that stay tell us.
            warnings.simplefilter("ignore", UserWarning)
            model.load_weights(path)
        skipped = [
            weight.path
            for weight in model.weights
            if np.isnan(keras.ops.convert_to_numpy(weight)).any()
        ]
        if skipped:
            raise ValueError(f"it holds no {skipped[0]}")
    except Exception as error:
        raise TrainingError(
            f"--weights {path}: does not fit --backbone {name}"
            f" ({_one_line(error)}). Are --backbone-args those that it was "
            "trained with?"
        ) from error


def _refuse(arguments: Mapping[str, Any], name: str) -> None:
    if arguments:
        raise TrainingError(
            f"--backbone-args: {name} takes none, received "
            f"{', '.join(arguments)}"
        )


def _near(name: str, known: list[str]) -> str:
    """Suggests names, those that differ in case only among them."""
    lower = {other.lower(): other for other in known}
    near = [
        lower[match]
        for match in difflib.get_close_matches(
            name.lower(), list(lower), n=3, cutoff=0.5
        )
    ]
    if near:
        return f"Did you mean {', '.join(near)}?"
    others = f" and {len(known) - 4} more" if len(known) > 4 else ""
    return f"There are {', '.join(known[:4])}{others}."


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines) or type(error).__name__
    return text if len(text) <= 400 else f"{text[:400]}…"

"""Backbones from images in [0, 255] to a feature map."""

import difflib
import inspect
import os
import pathlib
import warnings
from typing import Any

import keras
import numpy as np

from keras_finegrain.datasets.errors import one_line
from keras_finegrain.training.errors import TrainingError
from keras_finegrain.training.settings import Settings

BUILT_IN = "small"
# Its weights, learned from drawn birds of species that the configurations
# with twelve do not have: benchmarks/pretrain_small.py.
DRAWN_BIRDS = "drawn_birds"
_SMALL_WEIGHTS = pathlib.Path(__file__).with_name("small.weights.h5")


def build_backbone(settings: Settings) -> keras.Model:
    """Builds a backbone that takes images as they are stored.

    Args:
        settings: Those of the run: `backbone`, `backbone_args`, `weights` and
            `image_size`.

    Returns:
        A functional model from images `(batch, image_size, image_size, 3)` in
        [0, 255] to a feature map `(batch, height, width, channels)`, with the
        backbone's preprocessing inside. It is flat: the backbone's layers are
        its own. Only a KerasHub backbone is one layer, followed by a layer
        `"features"`.

    Raises:
        TrainingError: If the backbone cannot be built.
    """
    name, path = settings.backbone, weights_file(settings)
    if name.endswith(".keras"):
        model = _from_file(settings)
    elif name == BUILT_IN:
        model = _built_in(settings)
    elif hasattr(keras.applications, name) and name[0].isupper():
        model = _from_applications(settings)
    else:
        model = _from_keras_hub(settings)
    shapes = [output.shape for output in model.outputs]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise TrainingError(
            f"--backbone {name}: must end in a feature map (batch, height, "
            f"width, channels), and ends in {', '.join(map(str, shapes))}"
        )
    if path is not None:
        _load_weights(model, settings, path)
    return model


def weights_file(settings: Settings) -> str | None:
    """The file of the first weights; None for random and published ones.

    Raises:
        TrainingError: If it belongs to another backbone.
    """
    name, weights = settings.backbone, settings.weights
    if weights in ("imagenet", "none"):
        return None
    if weights == DRAWN_BIRDS:
        if name != BUILT_IN:
            raise TrainingError(
                f"--weights {DRAWN_BIRDS}: belongs to --backbone {BUILT_IN}, "
                f"and the backbone is {name}. Pass imagenet, none or a file"
            )
        return str(_SMALL_WEIGHTS)
    return weights


def cut_at(backbone: keras.Model, layer_name: str) -> Any:
    """Freezes a backbone up to a layer and returns that layer's output.

    Args:
        backbone: A functional model. Its layers up to this one are no longer
            trainable.
        layer_name: The layer; "all" for the last one.

    Returns:
        Its symbolic output.

    Raises:
        TrainingError: If there is no such layer, or other layers bypass it.
    """
    if layer_name == "all":
        backbone.trainable = False
        return backbone.output
    cut = layer_of(backbone, "freeze", layer_name).output
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


def layer_of(
    backbone: keras.Model, option: str, layer_name: str
) -> keras.layers.Layer:
    """The layer of a backbone that an option names.

    Raises:
        TrainingError: If there is no such layer.
    """
    names = [layer.name for layer in backbone.layers]
    if layer_name not in names:
        raise TrainingError(
            f"--{option} {layer_name}: the backbone has no such layer. "
            + _near(layer_name, names)
        )
    return backbone.get_layer(layer_name)


def _from_file(settings: Settings) -> keras.Model:
    """A stored model from images to a feature map, rebuilt for this size."""
    path, size = settings.backbone, settings.image_size
    _refuse_arguments(settings)
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
            f"{size} pixels: {_reason(error)}"
        ) from error
    # As if it were built here; the weights stay in float32.
    for layer in model.layers:
        layer.dtype_policy = keras.config.dtype_policy()
    return model


def _images(settings: Settings) -> keras.KerasTensor:
    size = settings.image_size
    return keras.Input((size, size, 3), name="image")


def _built_in(settings: Settings) -> keras.Model:
    """Four stages of convolution, for drawn birds and a CPU."""
    _refuse_arguments(settings)
    if settings.weights == "imagenet":
        raise TrainingError(
            f"--weights imagenet: the backbone {BUILT_IN} has none; pass "
            f"{DRAWN_BIRDS}, none or a file"
        )
    images = _images(settings)
    x = keras.layers.Rescaling(1 / 127.5, offset=-1, name="preprocess")(images)
    for stage, filters in enumerate((16, 32, 96, 192), start=1):
        if stage > 1:
            x = keras.layers.MaxPooling2D(name=f"pool_{stage}")(x)
        x = keras.layers.Conv2D(
            filters, 3, padding="same", use_bias=False, name=f"conv_{stage}"
        )(x)
        # Batches of 32 over few epochs: the default 0.99 would average over
        # more steps than an epoch has.
        norm = keras.layers.BatchNormalization
        x = norm(momentum=0.9, name=f"norm_{stage}")(x)
        x = keras.layers.ReLU(name=f"relu_{stage}")(x)
    return keras.Model(images, x, name=BUILT_IN)


def _from_applications(settings: Settings) -> keras.Model:
    name, arguments = settings.backbone, settings.backbone_args
    pretrained = settings.weights == "imagenet"
    build = getattr(keras.applications, name)
    known = list(inspect.signature(build).parameters)
    unknown = set(arguments) - set(known)
    if unknown:
        raise TrainingError(
            f"--backbone-args: {name} has no argument "
            f"{', '.join(sorted(unknown))}. {_near(min(unknown), known)}"
        )
    images = _images(settings)
    try:
        return build(
            **{
                "include_top": False,
                "weights": "imagenet" if pretrained else None,
                "input_tensor": _preprocessed(name, images),
                # Without it the smallest size is not checked.
                "input_shape": tuple(images.shape[1:]),
                **arguments,
            }
        )
    except Exception as error:
        what = f"--backbone {name}: cannot be built"
        if pretrained:
            what = (
                f"--backbone {name} --weights imagenet: cannot be fetched or "
                "built (without a network pass --weights FILE, or --backbone "
                "FILE.keras with a backbone of your own)"
            )
        raise TrainingError(f"{what}: {_reason(error)}") from error


def _preprocessed(name: str, images: Any) -> Any:
    """The module's `preprocess_input` as layers, which the model saves.

    Each `preprocess_input` scales and shifts the channels, some in reverse
    order. Its results for three images give scale, offset and order.
    """
    module: Any = inspect.getmodule(getattr(keras.applications, name))
    black = np.zeros((1, 1, 1, 3), "float32")
    red = black + np.array([255, 0, 0], "float32")
    white = black + 255
    black, red, white = (
        np.asarray(module.preprocess_input(x.copy()))[0, 0, 0]
        for x in (black, red, white)
    )
    scale = (white - black) / 255
    if np.array_equal(scale, [1, 1, 1]) and not black.any():
        return images  # The backbone has its preprocessing inside.
    if red[0] == black[0]:
        images = keras.ops.flip(images, axis=-1)
    return keras.layers.Rescaling(
        scale.tolist(), offset=black.tolist(), name="preprocess"
    )(images)


def _from_keras_hub(settings: Settings) -> keras.Model:
    name = settings.backbone
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
    try:
        converter = keras_hub.layers.ImageConverter.from_preset(name)
        backbone = keras_hub.models.Backbone.from_preset(
            name,
            # A preset has one set of weights: those named by the preset.
            load_weights=settings.weights == "imagenet",
            **settings.backbone_args,
        )
    except Exception as error:
        raise TrainingError(
            f"{unknown} KerasHub says: {_reason(error)}"
        ) from error
    images = _images(settings)
    scaled = keras.layers.Rescaling(
        1.0 if converter.scale is None else converter.scale,
        offset=0.0 if converter.offset is None else converter.offset,
        name="preprocess",
    )(images)
    # A layer to cut after: the backbone's own output is in another graph.
    features = keras.layers.Identity(name="features")(backbone(scaled))
    return keras.Model(images, features, name=backbone.name)


def _load_weights(model: keras.Model, settings: Settings, path: str) -> None:
    if not os.path.isfile(path):
        raise TrainingError(f"--weights {path}: there is no such file")
    for weight in model.weights:
        weight.assign(np.full(weight.shape, np.nan))
    try:
        with warnings.catch_warnings():
            # Keras only warns of weights that it skips: those stay NaN.
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
            f"--weights {settings.weights}: does not fit --backbone "
            f"{settings.backbone} ({_reason(error)}). Are --backbone-args "
            "those that it was trained with?"
        ) from error


def _refuse_arguments(settings: Settings) -> None:
    if settings.backbone_args:
        raise TrainingError(
            f"--backbone-args: {settings.backbone} takes none, received "
            f"{', '.join(settings.backbone_args)}"
        )


def _near(name: str, known: list[str]) -> str:
    """Suggests known names like this one, whatever their case."""
    lower = {other.lower(): other for other in known}
    near = difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)
    if near:
        return f"Did you mean {', '.join(lower[match] for match in near)}?"
    others = f" and {len(known) - 4} more" if len(known) > 4 else ""
    return f"There are {', '.join(known[:4])}{others}."


def _reason(error: Exception) -> str:
    return one_line(error) or type(error).__name__

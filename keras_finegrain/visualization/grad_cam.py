"""The places in an image that hold the evidence for a class."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_finegrain._base.checks import real_array
from keras_finegrain._base.private_keras import Functional, call_behind
from keras_finegrain._base.typing import Tensor
from keras_finegrain.visualization.gradients import gradient
from keras_finegrain.visualization.layer_outputs import (
    attribute_set,
    layer_at,
    layers_within,
    outputs_seen,
)
from keras_finegrain.visualization.photo import shares


def grad_cam(
    model: keras.Model,
    image: Any,
    class_index: int | Sequence[int] | None = None,
    layer: str | keras.layers.Layer | None = None,
) -> np.ndarray:
    """Computes the gradient-weighted class activation map of an image.

    With A_k the channels of a feature map, Z its number of positions and y_c
    the score of class c, equations 1 and 2 of the paper:

        w_k = 1/Z · Σ_ij ∂y_c / ∂A_kij,    map = ReLU(Σ_k w_k · A_k)

    enlarged bilinearly to the image and divided by its maximum. For a model
    that ends in global average pooling and one dense layer this is the class
    activation map of Zhou et al. (2016).

    The score is the one before the softmax, as in the paper: where the last
    layer of the model is a softmax or has one as its activation, it is left
    out. The model runs as in `predict()`; labels are not needed and nothing
    in the model changes.

    Args:
        model: A built model that gives scores `(batch, classes)` for one
            image input, on any backend. Further inputs must be optional.
        image: Array or tensor `(height, width, channels)`, or several,
            `(batch, height, width, channels)`, preprocessed as the model
            expects; `(…, channels, height, width)` where
            `keras.config.image_data_format()` is `"channels_first"`.
        class_index: Class c whose evidence is shown, or one for each image.
            Defaults to the class of the highest score of each image.
        layer: The layer whose output A is, `(batch, height, width, channels)`
            in the data format of the image, or its path in the model, which
            may lead into nested models: `"backbone/conv1"`. Defaults to the
            last one, nested models included, whose output has four axes and
            more than one position: the most abstract that still has places.

    Returns:
        float32 `(height, width)`, or `(batch, height, width)` for several
        images. Each map has a maximum of 1, or is 0 everywhere if nothing
        speaks for the class.

    Raises:
        TypeError: If the model is none, or the layer no layer and no path.
        ValueError: If the model, the image, the class or the layer does not
            fit, or the image is not finite.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 3)),
    ...     keras.layers.Conv2D(4, 3, activation="relu", name="conv"),
    ...     keras.layers.GlobalAveragePooling2D(),
    ...     keras.layers.Dense(2),
    ... ])
    >>> heat = grad_cam(model, np.ones((8, 8, 3)), class_index=1, layer="conv")
    >>> heat.shape, heat.dtype.name
    ((8, 8), 'float32')

    Reference:
    - [Selvaraju et al., Grad-CAM: Visual explanations from deep networks via
      gradient-based localization, ICCV
      2017](https://arxiv.org/abs/1610.02391)
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"grad_cam: model must be a Keras model, received {model!r:.80}."
        )
    image = real_array("grad_cam", "image", image)
    if image.ndim not in (3, 4) or not image.size:
        raise ValueError(
            "grad_cam: image must have the shape (height, width, channels) or "
            f"(batch, height, width, channels), received {tuple(image.shape)}."
        )
    if not np.isfinite(image.astype(np.float32)).all():
        raise ValueError(
            "grad_cam: image must be finite, received NaN or infinity."
        )
    if not model.built:
        raise ValueError(
            f"grad_cam: model must be built, received {model.name!r} without "
            "weights. Begin it with keras.Input, or call it on images once."
        )

    images = ops.convert_to_tensor(image if image.ndim == 4 else image[None])
    _check_inputs(model, images)
    with _softmax_left_out(model):
        layer, feature_map, scores = _forward(model, images, layer)
        classes = _classes(class_index, scores)

        def score(feature_map: Tensor) -> Tensor:
            with attribute_set(layer, "call", lambda *_, **__: feature_map):
                scores = _scores(model, images)
            # In inference an image has no influence on another one's score:
            # the gradient of the sum holds that of each score.
            return ops.sum(ops.take_along_axis(scores, classes[:, None], 1))

        slopes = _positions_first(gradient(score, feature_map))
    feature_map = _positions_first(feature_map)
    weights = slopes.mean(axis=(1, 2), keepdims=True)
    maps = np.maximum(np.sum(weights * feature_map, axis=-1), 0.0)
    maps = shares(maps, *images.shape[_position_axes()])
    return maps if image.ndim == 4 else maps[0]


def _check_inputs(model: keras.Model, images: Tensor) -> None:
    """Raises if the model takes other images, or more than one image."""
    needed = [
        tensor
        # (What a subclassed model takes is not known.)
        for tensor in getattr(model, "inputs", None) or []
        if not getattr(call_behind(tensor).layer, "optional", False)
    ]
    if not needed:
        return
    if [len(tensor.shape) for tensor in needed] != [4]:
        shapes = {tensor.name: tuple(tensor.shape) for tensor in needed}
        raise ValueError(
            "grad_cam: model must need one input, images (batch, height, "
            f"width, channels), received one that needs {shapes}. Build a "
            "model in which the other inputs are constants."
        )
    expected, given = tuple(needed[0].shape), tuple(images.shape)
    for size, wanted in zip(given[1:], expected[1:], strict=True):
        if wanted not in (None, size):
            raise ValueError(
                f"grad_cam: image must have the model's shape {expected[1:]}, "
                f"received {given[1:]}. Resize the image, and preprocess it "
                "as the model expects."
            )


def _forward(
    model: keras.Model,
    images: Tensor,
    layer: str | keras.layers.Layer | None,
) -> tuple[keras.layers.Layer, Tensor, Tensor]:
    """The layer, its output for the images, and the scores."""
    if not isinstance(layer, (str, keras.layers.Layer, type(None))):
        raise TypeError(
            "grad_cam: layer must be a layer or its path, received "
            f"{layer!r:.80}."
        )
    chosen = (
        layer_at("grad_cam", model, layer) if isinstance(layer, str) else layer
    )
    watched = [chosen] if chosen else [each for _, each in layers_within(model)]
    calls: list[keras.layers.Layer] = []
    found: tuple[keras.layers.Layer, Any] | None = None

    def see(called: keras.layers.Layer, output: Any) -> None:
        nonlocal found
        calls.append(called)
        if chosen is not None or _is_feature_map(output):
            found = called, output

    with outputs_seen(dict.fromkeys(watched), see):
        scores = _scores(model, images)
    if found is None and chosen is not None:
        raise ValueError(
            "grad_cam: layer must take part in what "
            f"{model.name!r} computes, but {chosen.name!r} was not called."
        )
    if found is None:
        raise ValueError(
            "grad_cam: model must have a layer that gives out a feature map "
            f"(batch, height, width, channels), but {model.name!r} has none "
            "with four axes and more than one position."
        )
    found_layer, output = found
    if len(getattr(output, "shape", ())) != 4:
        raise ValueError(
            "grad_cam: layer must give out a feature map (batch, height, "
            f"width, channels), but the output of {found_layer.name!r} has "
            f"the shape {tuple(getattr(output, 'shape', ()))}."
        )
    if calls.count(found_layer) > 1:
        raise ValueError(
            f"grad_cam: layer must be called once in the model, but "
            f"{found_layer.name!r} is called {calls.count(found_layer)} "
            "times, and each call has a feature map of its own. Choose "
            "another layer."
        )
    return found_layer, output, scores


def _scores(model: keras.Model, images: Tensor) -> Tensor:
    inputs: Any = images
    if isinstance(model, Functional) and len(model.inputs) > 1:
        # Nothing for the other inputs, such as labels.
        inputs = keras.tree.map_structure(
            lambda tensor: images if len(tensor.shape) == 4 else None,
            model.input,
        )
    # Assigned values and added losses stay in the scope: the model does not
    # change, and on JAX no traced value outlives the gradient.
    with keras.StatelessScope(collect_losses=True):
        scores = model(inputs, training=False)
    if len(getattr(scores, "shape", ())) != 2:
        given = keras.tree.map_structure(lambda x: tuple(x.shape), scores)
        raise ValueError(
            "grad_cam: model must give out one tensor of scores (batch, "
            f"classes), received outputs of the shape {given}. Choose them "
            "with keras.Model(model.inputs, scores)."
        )
    return scores


@contextlib.contextmanager
def _softmax_left_out(model: keras.Model) -> Iterator[None]:
    """Makes a model that ends in a softmax give the scores before it."""
    last = model
    # (The last layer of a subclassed model is unknown.)
    while isinstance(last, (Functional, keras.Sequential)):
        if isinstance(last, keras.Sequential):
            last = last.layers[-1]
        else:
            last = call_behind(last.outputs[0]).layer
    if isinstance(last, keras.layers.Softmax):
        with attribute_set(last, "call", lambda scores, mask=None: scores):
            yield
    elif getattr(last, "activation", None) is keras.activations.softmax:
        with attribute_set(last, "activation", keras.activations.linear):
            yield
    else:
        yield


def _classes(class_index: int | Sequence[int] | None, scores: Tensor) -> Tensor:
    """One class for each image, int32 `(batch,)`."""
    batch, num_classes = scores.shape
    if class_index is None:
        return ops.argmax(scores, axis=1)
    classes = np.asarray(class_index)
    if classes.dtype.kind not in "iu" or classes.shape not in ((), (batch,)):
        raise ValueError(
            "grad_cam: class_index must be an integer or one for each of the "
            f"{batch} images, received {class_index!r}."
        )
    if classes.min() < 0 or classes.max() >= num_classes:
        raise ValueError(
            f"grad_cam: class_index must lie in [0, {num_classes}), the "
            f"classes that the model scores, received {class_index!r}."
        )
    return ops.convert_to_tensor(np.broadcast_to(classes, (batch,)), "int32")


def _is_feature_map(output: Any) -> bool:
    shape = tuple(getattr(output, "shape", ()))
    return len(shape) == 4 and max(shape[_position_axes()]) > 1


def _position_axes() -> slice:
    channels_last = keras.config.image_data_format() == "channels_last"
    return slice(1, 3) if channels_last else slice(2, 4)


def _positions_first(feature_map: Tensor) -> np.ndarray:
    """float32 `(batch, height, width, channels)`."""
    array = ops.convert_to_numpy(ops.cast(feature_map, "float32"))
    channels_last = keras.config.image_data_format() == "channels_last"
    return array if channels_last else np.moveaxis(array, 1, -1)

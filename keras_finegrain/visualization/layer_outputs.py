"""Reading and replacing what one layer of a model gives out.

The layer may lie inside a nested model. Its `call` is wrapped for the time of
a `with` block, for a nested model's graph is not part of the outer one, and
rebuilding both would cost more than the pass itself.
"""

import contextlib
import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras

from keras_finegrain._base.typing import Tensor


def layers_within(
    model: keras.Model, prefix: str = ""
) -> Iterator[tuple[str, keras.layers.Layer]]:
    """Lists the layers of a model and of the models nested in it.

    Args:
        model: A Keras model.
        prefix: What each path begins with. Defaults to nothing.

    Yields:
        The path, such as `"backbone/conv1"`, and the layer. A nested model is
        listed too, in front of its layers.

    Example:

    >>> relu, flatten = keras.layers.ReLU(name="relu"), keras.layers.Flatten()
    >>> trunk = keras.Sequential([relu], name="trunk")
    >>> model = keras.Sequential([trunk, flatten])
    >>> [path for path, layer in layers_within(model) if layer is not flatten]
    ['trunk', 'trunk/relu']
    """
    for layer in model.layers:
        path = f"{prefix}{layer.name}"
        yield path, layer
        if isinstance(layer, keras.Model):
            yield from layers_within(layer, f"{path}/")


def layer_at(who: str, model: keras.Model, path: str) -> keras.layers.Layer:
    """The layer of a path, such as `"backbone/conv1"`.

    Args:
        who: Name of the public function, with which errors begin.
        model: The model in which the path begins.
        path: Names of the nested models and of the layer, joined by `"/"`.

    Returns:
        The layer.

    Raises:
        ValueError: If there is none; the error names the nearest paths.

    Example:

    >>> model = keras.Sequential([keras.layers.ReLU(name="relu")])
    >>> layer_at("grad_cam", model, "relu") is model.layers[0]
    True
    """
    layers = dict(layers_within(model))
    if path not in layers:
        nearest = difflib.get_close_matches(path, layers, n=5, cutoff=0.0)
        raise ValueError(
            f"{who}: layer must be the path of a layer of the model, such "
            f"as 'backbone/conv1', received {path!r}. The nearest are "
            f"{nearest}."
        )
    return layers[path]


@contextlib.contextmanager
def outputs_seen(
    layers: Iterable[keras.layers.Layer],
    see: Callable[[keras.layers.Layer, Any], None],
) -> Iterator[None]:
    """Calls `see(layer, output)` whenever one of the layers was called."""
    with contextlib.ExitStack() as stack:
        for layer in layers:
            stack.enter_context(
                attribute_set(layer, "call", _seen(layer, layer.call, see))
            )
        yield


def _seen(
    layer: keras.layers.Layer,
    call: Callable[..., Any],
    see: Callable[[keras.layers.Layer, Any], None],
) -> Callable[..., Any]:
    def seen_call(*args: Any, **kwargs: Any) -> Any:
        output = call(*args, **kwargs)
        see(layer, output)
        return output

    return seen_call


def output_replaced(
    layer: keras.layers.Layer, output: Tensor
) -> contextlib.AbstractContextManager[None]:
    """Makes a layer give out `output`, whatever it is called on."""

    def constant_call(*args: Any, **kwargs: Any) -> Tensor:
        del args, kwargs
        return output

    return attribute_set(layer, "call", constant_call)


@contextlib.contextmanager
def attribute_set(
    layer: keras.layers.Layer, name: str, value: Any
) -> Iterator[None]:
    """Gives one layer an attribute and takes it back on any exit."""
    # Past `Layer.__setattr__`, which would track the value as state.
    attributes = vars(layer)
    had_one = name in attributes
    before = attributes.get(name)
    attributes[name] = value
    try:
        yield
    finally:
        if had_one:
            attributes[name] = before
        else:
            del attributes[name]

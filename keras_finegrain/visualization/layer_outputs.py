"""Reading and replacing the outputs of layers inside a model.

A layer may lie in a nested model, whose graph is not part of the outer one:
rebuilding both would cost more than the pass itself. So the layer's `call` is
replaced during a `with` block.
"""

import contextlib
import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras


def layers_within(
    model: keras.Model, prefix: str = ""
) -> Iterator[tuple[str, keras.layers.Layer]]:
    """Lists the layers of a model and of the models nested in it.

    Args:
        model: A Keras model.
        prefix: What each path begins with. Defaults to nothing.

    Yields:
        The path, such as `"backbone/conv1"`, and the layer. A nested model is
        listed too, before its layers.

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
        ValueError: If no layer has this path; the error names the nearest
            ones.

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
    """Calls `see(layer, output)` after each call of one of the layers."""

    def seen(
        layer: keras.layers.Layer, call: Callable[..., Any]
    ) -> Callable[..., Any]:
        def seen_call(*args: Any, **kwargs: Any) -> Any:
            output = call(*args, **kwargs)
            see(layer, output)
            return output

        return seen_call

    with contextlib.ExitStack() as stack:
        for layer in layers:
            stack.enter_context(
                attribute_set(layer, "call", seen(layer, layer.call))
            )
        yield


@contextlib.contextmanager
def attribute_set(
    layer: keras.layers.Layer, name: str, value: Any
) -> Iterator[None]:
    """Gives one layer an attribute and takes it back on any exit."""
    # Past `Layer.__setattr__`, which would track the value as state.
    attributes = vars(layer)
    missing = object()
    before = attributes.get(name, missing)
    attributes[name] = value
    try:
        yield
    finally:
        if before is missing:
            del attributes[name]
        else:
            attributes[name] = before

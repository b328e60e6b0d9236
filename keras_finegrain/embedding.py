"""The embeddings of a data set, by any Keras model."""

import difflib
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np

from keras_finegrain._base.checks import positive_integer
from keras_finegrain._base.private_keras import (
    Call,
    call_behind,
    calls_of,
    inner_layers,
)
from keras_finegrain.distribution import scope_of
from keras_finegrain.labels.forms import integer_labels
from keras_finegrain.layers.cosine_similarity import CosineSimilarity
from keras_finegrain.layers.gaussian_mixture import GaussianMixture


def embedding_model(
    model: keras.Model, layer: str | keras.layers.Layer | None = None
) -> keras.Model:
    """The part of a model that makes the embedding.

    Args:
        model: A functional or sequential model that is built.
        layer: The layer whose output is the embedding, or its name. Defaults
            to what goes into the head, the last layer that has weights; for a
            model that is compiled with a loss on pairs, its output. Both may
            lie in a nested model.

    Returns:
        A model from the same inputs to the embedding `(batch, dim)`. It
        shares its layers with `model`, and its distribution.

    Raises:
        ValueError: If the model is no graph of layers, has no such layer, or
            the embedding is no vector.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((8,)),
    ...     keras.layers.Dense(5),
    ...     keras_finegrain.SoftTriple(num_classes=3),
    ... ])
    >>> embedding_model(model).output_shape
    (None, 5)
    """
    if not (model.built and getattr(model, "inputs", None)):
        raise ValueError(
            "embedding_model: model must be functional or sequential, and "
            f"built, received {type(model).__name__} '{model.name}'. Pass a "
            "functional model of your own from images to embeddings."
        )
    if not isinstance(layer, (str, keras.layers.Layer, type(None))):
        raise TypeError(
            "embedding_model: layer must be a layer or its name, received "
            f"{layer!r:.80}."
        )
    with scope_of(model):
        if layer is not None:
            embedding = _output_of(model, layer)
        elif getattr(
            getattr(model, "loss", None), "compares_embeddings", False
        ):
            embedding = model.outputs[0]
        else:
            embedding = _input_of_head(model)
    if len(embedding.shape) != 2:
        raise ValueError(
            f"embedding_model: layer must give vectors (batch, dim), received "
            f"{layer!r} with {tuple(embedding.shape)}. Name a layer behind the "
            "pooling."
        )
    with scope_of(model):
        return keras.Model(
            model.inputs, embedding, name=f"{model.name}_embedding"
        )


def _output_of(
    model: keras.Model, layer: str | keras.layers.Layer
) -> keras.KerasTensor:
    """What a layer gives in the graph of the model."""

    def output(call: Call) -> keras.KerasTensor | None:
        is_it = call.layer is layer or call.layer.name == layer
        return call.outputs[0] if is_it else None

    found = find_tensor(model, output)
    if found is not None:
        return found
    name = layer if isinstance(layer, str) else layer.name
    names = dict.fromkeys(each.name for each in inner_layers(model))
    nearest = difflib.get_close_matches(name, names, n=5, cutoff=0.0)
    raise ValueError(
        f"embedding_model: layer must be a layer of the model, received "
        f"{name!r}. The nearest of its layers are {nearest}."
    )


def find_tensor(
    model: keras.Model, wanted: Callable[[Call], keras.KerasTensor | None]
) -> keras.KerasTensor | None:
    """A tensor of a call in the graph of a model or of a nested model.

    Args:
        model: A functional or sequential model.
        wanted: Returns the tensor if the call is looked for, else `None`.

    Returns:
        The tensor, as it depends on the model's own inputs; of several that
        nearest to the outputs. `None` if there is none.
    """
    for call in calls_of(model):
        found = wanted(call)
        if found is None and _is_graph(call.layer):
            inner = find_tensor(call.layer, wanted)
            found = None if inner is None else _outside(call, inner)
        if found is not None:
            return found
    return None


def _is_graph(layer: keras.layers.Layer) -> bool:
    """Whether a layer is a model whose calls can be read."""
    return isinstance(layer, keras.Model) and bool(
        getattr(layer, "inputs", None)
    )


def _outside(call: Call, inner: keras.KerasTensor) -> keras.KerasTensor:
    """A tensor of a nested model, as it depends on the inputs of its call."""
    for own, given in zip(call.layer.inputs, call.inputs, strict=True):
        if own is inner:
            return given
    part = keras.Model(call.layer.inputs, inner)
    return part(call.inputs[0] if len(call.inputs) == 1 else call.inputs)


def _input_of_head(model: keras.Model) -> keras.KerasTensor:
    """What goes into the last layer that has weights."""
    call = call_behind(model.outputs[0])
    while call.inputs and not call.layer.weights:
        call = call_behind(call.inputs[0])
    if not call.inputs:
        return model.outputs[0]
    if _is_graph(call.layer):
        return _outside(call, _input_of_head(call.layer))
    heads = keras.layers.Dense | CosineSimilarity | GaussianMixture
    if not isinstance(call.layer, heads):
        raise ValueError(
            "embedding_model: layer must be given where the last layer with "
            "weights is no Dense, cosine or Gaussian head, received None and "
            f"{type(call.layer).__name__} '{call.layer.name}'. Name the layer "
            "whose output is the embedding."
        )
    # Labels may come beside the embedding, behind it.
    return call.inputs[0]


def embed(
    model: keras.Model, data: Any, batch_size: int = 32
) -> tuple[Any, np.ndarray]:
    """Computes the outputs of a model for data with labels, in its order.

    Args:
        model: From inputs to embeddings, or to any output with a batch axis.
        data: Arrays `(x, y)`, or anything that gives batches `(x, y)` each
            time it is iterated: a `tf.data.Dataset`, a
            `keras.utils.PyDataset`, a torch `DataLoader`. It is read once,
            from start to end.
        batch_size: Samples in a batch, for arrays. Defaults to 32.

    Returns:
        The outputs `(samples, ...)`, in the model's own structure where there
        are several, and the labels as integers `(samples,)`.

    Raises:
        TypeError: If the data is no data.
        ValueError: If the data has no labels, another number of them than of
            inputs, no batch, or can be read only once.

    Example:

    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(5)])
    >>> embeddings, labels = embed(model, (np.ones((7, 8)), np.arange(7)))
    >>> embeddings.shape, labels.tolist()
    ((7, 5), [0, 1, 2, 3, 4, 5, 6])
    """
    batch_size = positive_integer("embed", "batch_size", batch_size)
    labels: list[np.ndarray] = []

    def inputs() -> Iterator[tuple[Any]]:
        """Batches of one size: replicas share them, a step compiles once."""
        for x, y in labelled_batches(data, batch_size):
            labels.append(y)
            yield (_padded(x, len(labels[0])),)

    with warnings.catch_warnings():
        # Keras warns whenever a generator ends.
        warnings.filterwarnings("ignore", "Your input ran out of data")
        outputs = model.predict(inputs(), verbose=0)
    sizes = [len(y) for y in labels]
    real = np.concatenate([np.arange(max(sizes[0], n)) < n for n in sizes])
    outputs = keras.tree.map_structure(lambda out: out[real], outputs)
    return outputs, np.concatenate(labels)


def labelled_batches(
    data: Any, batch_size: int = 32
) -> Iterator[tuple[Any, np.ndarray]]:
    """Batches of inputs and labels as NumPy arrays.

    Args:
        data: As in `embed`.
        batch_size: As in `embed`.

    Yields:
        The inputs in their own structure, and integer labels.

    Raises:
        ValueError: As in `embed`.
    """
    found = False
    for batch in _batches(data, batch_size):
        x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
        if y is None:
            raise ValueError(
                "embed: data must give pairs (x, y), received a batch without "
                "labels."
            )
        found = True
        x = keras.tree.map_structure(keras.ops.convert_to_numpy, x)
        labels = integer_labels("embed", y)
        sizes = [len(array) for array in keras.tree.flatten(x)]
        if any(size != len(labels) for size in sizes):
            raise ValueError(
                "embed: data must have one label for each input, received "
                f"{len(labels)} labels and inputs of {sizes} samples."
            )
        yield x, labels
    if not found:
        raise ValueError("embed: data must have a batch, received none.")


def images_of(x: Any) -> np.ndarray | None:
    """The images of a batch of inputs, `(batch, height, width, 1 or 3)`.

    Args:
        x: Inputs from `labelled_batches`: an array, or a structure of arrays
            such as an image beside its label.

    Returns:
        The first array of that shape, or `None`.

    Example:

    >>> images_of({"a": np.ones(2), "b": np.ones((2, 8, 8, 3))}).shape
    (2, 8, 8, 3)
    """
    for array in keras.tree.flatten(x):
        if array.ndim == 4 and array.shape[-1] in (1, 3):
            return np.asarray(array)
    return None


def _batches(data: Any, batch_size: int) -> Iterable[Any]:
    if isinstance(data, tuple) and data:
        return _slices(data, batch_size)
    if isinstance(data, keras.utils.PyDataset):
        return (data[index] for index in range(len(data)))
    if isinstance(data, Iterator):
        raise ValueError(
            "embed: data must give its batches each time that it is iterated, "
            f"received a {type(data).__name__}, which can be read only once. "
            "Pass a tf.data.Dataset, a PyDataset, or arrays."
        )
    if not isinstance(data, Iterable):
        raise TypeError(
            "embed: data must be arrays (x, y) or give batches (x, y), "
            f"received {data!r:.80}."
        )
    return data


def _slices(data: tuple[Any, ...], batch_size: int) -> Iterator[Any]:
    # A missing part, such as no weights, is missing in each batch.
    sizes = [len(x) for x in keras.tree.flatten(data) if x is not None]
    for start in range(0, max(sizes), batch_size):
        rows = slice(start, start + batch_size)
        yield keras.tree.map_structure(
            lambda x, rows=rows: None if x is None else x[rows], data
        )


def _padded(x: Any, size: int) -> Any:
    """The batch, with its last sample repeated up to a size."""

    def padded(array: np.ndarray) -> np.ndarray:
        missing = max(0, size - len(array))
        return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])

    return keras.tree.map_structure(padded, x)

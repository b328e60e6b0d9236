"""The labels and weights of one output of a model that has several."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def is_structure(values: Any) -> bool:
    """Whether these are the tensors of several outputs, not one of them."""
    if isinstance(values, (list, tuple)):
        # A list of numbers, or of rows of numbers, is one output's labels.
        return not all(
            np.isscalar(value) or isinstance(value, (list, tuple))
            for value in values
        )
    return isinstance(values, dict)


def entry_of(
    who: str,
    values: Any,
    output_name: str | int | None,
    output_names: Sequence[str] = (),
    name: str = "y",
) -> Any:
    """The entry of labels or weights that belongs to one output.

    Args:
        who: What reads the entry, for error messages.
        values: A tensor, or the dict or list of a model with several outputs.
        output_name: Name or position of the output; `None` for the only one.
        output_names: The names of the model's outputs, in their order.
        name: Name of the argument, for error messages.

    Returns:
        The entry; a tensor or `None` as it is.

    Raises:
        ValueError: If there are several entries and none is named, or none has
            the name.

    Example:

    >>> from keras_finegrain.labels.outputs import entry_of
    >>> y = {"species": np.array([2, 0]), "sex": np.array([0, 1])}
    >>> entry_of("me", y, "species").tolist()
    [2, 0]
    >>> entry_of("me", [np.array([2, 0])], None).tolist()
    [2, 0]
    """
    if not is_structure(values):
        return values
    if isinstance(values, dict):
        keys: list[Any] = list(values)
        names = list(output_names)
    else:
        keys = list(range(len(values)))
        names = list(output_names) if len(output_names) == len(keys) else []
    if output_name is None:
        if len(keys) == 1:
            return values[keys[0]]
        raise ValueError(
            f"{who}: {name} holds several tensors ({_listed(keys, names)}), "
            "and the layer cannot know which one is meant. Name the output "
            "with `output_name`, or give the layer its labels explicitly: "
            "`layer(features, labels)` with "
            "`labels = keras.Input((), dtype='int32', optional=True)`."
        )
    key: Any = output_name
    if isinstance(values, dict) and isinstance(key, int) and key < len(names):
        key = names[key]
    elif not isinstance(values, dict) and key in names:
        key = names.index(key)
    if key not in keys:
        raise ValueError(
            f"{who}: output_name must be an output of {name} "
            f"({_listed(keys, names)}), received {output_name!r}."
        )
    return values[key]


def _listed(keys: list[Any], names: list[str]) -> str:
    return ", ".join(repr(key) for key in dict.fromkeys([*keys, *names]))

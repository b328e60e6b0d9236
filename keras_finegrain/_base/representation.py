"""How an object looks in a notebook."""

import inspect
from typing import Any


def shown_with_arguments(shown: Any) -> str:
    """The call that would make an object again, for its `__repr__`.

    Args:
        shown: An object that keeps each constructor's argument under its name.

    Example:

    >>> from keras_finegrain._base.representation import shown_with_arguments
    >>> shown_with_arguments(keras_finegrain.regularizers.CenterMerging(0.1))
    'CenterMerging(tau=0.1)'
    """
    names = [
        name
        for name, parameter in inspect.signature(type(shown)).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    if "name" not in names and hasattr(shown, "name"):
        names.append("name")
    arguments = [f"{name}={_value(getattr(shown, name))}" for name in names]
    return f"{type(shown).__name__}({', '.join(arguments)})"


def _value(value: Any) -> str:
    # Keras's initializers and regularizers show their address only.
    if not hasattr(value, "get_config") or hasattr(value, "name"):
        return repr(value)
    config = [f"{key}={item!r}" for key, item in value.get_config().items()]
    return f"{type(value).__name__}({', '.join(config)})"

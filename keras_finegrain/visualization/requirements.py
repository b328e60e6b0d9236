"""The packages that only pictures need."""

from typing import Any

from keras_finegrain._base.optional import import_optional


def import_for_pictures(module: str) -> Any:
    """Imports a module, or says in one line which extra holds it.

    Args:
        module: Dotted name, such as `"matplotlib.pyplot"`.

    Returns:
        The module.

    Raises:
        ImportError: If its package is not installed.

    Example:
    >>> import_for_pictures("matplotlib.colors").to_hex("red")
    '#ff0000'
    """
    return import_optional(module, "keras_finegrain.visualization")

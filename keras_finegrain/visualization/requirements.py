"""The packages that only pictures need."""

import importlib
from typing import Any


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
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"keras_finegrain.visualization needs {module.partition('.')[0]}, "
            'which is not installed. Run: pip install "keras-finegrain'
            '[examples]"'
        ) from error

"""Packages that a part of this one needs, and the rest does not."""

import importlib
from typing import Any


def import_optional(module: str, who: str) -> Any:
    """Imports a module, or says in one line which extra holds it.

    Args:
        module: Dotted name, such as `"sklearn.cluster"`.
        who: What needs it, with which the error begins.

    Returns:
        The module.

    Raises:
        ImportError: If its package is not installed.

    Example:
    >>> import_optional("matplotlib.colors", "pictures").to_hex("red")
    '#ff0000'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        package = {"sklearn": "scikit-learn", "PIL": "Pillow"}.get(
            package, package
        )
        raise ImportError(
            f"{who} needs {package}, which is not installed. Run: pip install "
            '"keras-finegrain[examples]"'
        ) from error

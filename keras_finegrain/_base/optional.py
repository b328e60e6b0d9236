"""Packages that a part of this one needs, and the rest does not."""

import importlib
from typing import Any

# Where the name on PyPI is not the name that is imported.
_PACKAGES = {
    "PIL": "Pillow",
    "apache_beam": "apache-beam",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "faiss": "faiss-cpu",
    "qdrant_client": "qdrant-client",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
}


def package_of(module: str) -> str:
    """The name on PyPI of the package that holds a module."""
    name = module.partition(".")[0]
    return _PACKAGES.get(name, name)


def import_optional(module: str, who: str, extra: str = "examples") -> Any:
    """Imports a module, or says in one line which extra holds it.

    Args:
        module: Dotted name, such as `"sklearn.cluster"`.
        who: What needs it, with which the error begins.
        extra: The extra of this package that installs it.

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
        raise ImportError(
            f"{who} needs {package_of(module)}, which is not installed. Run: "
            f'pip install "keras-finegrain[{extra}]"'
        ) from error

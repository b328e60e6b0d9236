"""Packages that a part of this one needs, and the rest does not."""

import importlib
import importlib.metadata
import json
import pathlib
import urllib.parse
import urllib.request
from typing import Any

# The folder of pyproject.toml, where this file lies in a clone.
_CLONE = pathlib.Path(__file__).parents[2]

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


def pip_install(extra: str) -> str:
    """The command that adds an extra, from where this package came.

    A name alone would be looked up on PyPI, whatever is installed.

    Args:
        extra: Names of extras, with commas between them.

    Returns:
        What to type into a shell. For a package that came from a folder, a
        file or an address, that is named (pip records it: PEP 610).
    """
    name = f"keras-finegrain[{extra}]"
    try:
        distribution = importlib.metadata.distribution("keras-finegrain")
        record = distribution.read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        record = None
        if (_CLONE / "pyproject.toml").exists():
            return f'pip install -e "{_CLONE}[{extra}]"'
    if record is None:
        return f'pip install "{name}"'
    source = json.loads(record)
    url = source["url"]
    if source.get("dir_info", {}).get("editable"):
        path = urllib.request.url2pathname(urllib.parse.urlsplit(url).path)
        return f'pip install -e "{path}[{extra}]"'
    if "vcs_info" in source:
        vcs = source["vcs_info"]
        url = f"{vcs['vcs']}+{url}@{vcs['commit_id']}"
    return f'pip install "{name} @ {url}"'


def import_optional(module: str, who: str, extra: str = "command") -> Any:
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
            f"{pip_install(extra)}"
        ) from error

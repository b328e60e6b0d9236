"""What must be installed before anything else is imported."""

import importlib.util
import json
import os
import pathlib

from birds_lib.errors import RunError

# Import name and the extra of keras-finegrain that brings it.
_ALWAYS = {
    "tensorflow": "tensorflow",
    "tensorflow_datasets": "tensorflow",
    "importlib_resources": "tensorflow",
    "matplotlib": "examples",
    "sklearn": "examples",
    "tqdm": "examples",
}
_BACKENDS = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch"}


def check_packages() -> None:
    """Raises `RunError` naming what is missing, before Keras is imported."""
    needed = dict(_ALWAYS)
    backend = _backend()
    if backend in _BACKENDS:
        needed[backend] = _BACKENDS[backend]
    missing = [name for name in needed if not importlib.util.find_spec(name)]
    if missing:
        extras = ",".join(sorted({needed[name] for name in missing}))
        raise RunError(
            f"not installed: {', '.join(missing)}. Run: "
            f'pip install "keras-finegrain[{extras}]"'
        )


def _backend() -> str:
    """The backend that Keras will choose, by Keras's own rule."""
    if "KERAS_BACKEND" in os.environ:
        return os.environ["KERAS_BACKEND"]
    home = pathlib.Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    try:
        return json.loads((home / "keras.json").read_text())["backend"]
    except (OSError, ValueError, KeyError):
        return "tensorflow"

"""What reading or preparing a data set needs, checked before it is needed."""

import contextlib
import importlib
import os
import pathlib
import shutil
import types
from collections.abc import Callable, Iterator
from typing import Any

import keras

from keras_finegrain._base.optional import import_optional
from keras_finegrain.datasets.errors import DatasetError, MissingPackageError

# A download is on disk three times while a data set is prepared: the
# archive, its extracted files and the records that are written from them.
_COPIES_ON_DISK = 3
_CONNECTION_TIMEOUT = 5.0  # seconds, per host
_MAX_PROBED_FILES = 8

# Where the name on PyPI is not the name that is imported.
_DISTRIBUTIONS = {
    "PIL": "Pillow",
    "apache_beam": "apache-beam",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "skimage": "scikit-image",
}


def import_tensorflow() -> types.ModuleType:
    """Returns `tensorflow`, with the GPUs left to the Keras backend.

    TensorFlow reads the data under every backend. On its first use of a GPU
    it reserves nearly all of its memory, so under JAX and PyTorch the GPUs
    are hidden from it (unless the caller has used TensorFlow before: then
    its devices are fixed, and the choice was the caller's).

    Raises:
        MissingPackageError: If TensorFlow is not installed.
    """
    try:
        tensorflow = importlib.import_module("tensorflow")
    except ImportError as error:
        raise MissingPackageError(
            "Data sets are read with TensorFlow under every Keras backend, "
            f"and it cannot be imported ({one_line(error)}): "
            'pip install "keras-finegrain[tensorflow]"'
        ) from error
    if keras.backend.backend() != "tensorflow":
        # An error means that the caller has put TensorFlow to work already.
        with contextlib.suppress(RuntimeError):
            tensorflow.config.set_visible_devices([], "GPU")
    return tensorflow


def import_tfds() -> types.ModuleType:
    """Returns `tensorflow_datasets`.

    Raises:
        MissingPackageError: If it, TensorFlow or `importlib_resources`, which
            it needs and does not declare, is not installed.
    """
    import_tensorflow()
    try:
        # TFDS imports this one when the first builder is made.
        importlib.import_module("importlib_resources")
        return importlib.import_module("tensorflow_datasets")
    except ImportError as error:
        raise MissingPackageError(
            "TensorFlow Datasets cannot be imported "
            f"({one_line(error)}): "
            'pip install "keras-finegrain[tensorflow]"'
        ) from error


def import_pillow() -> types.ModuleType:
    """Returns `PIL.Image`.

    Raises:
        MissingPackageError: If Pillow is not installed.
    """
    try:
        return import_optional("PIL.Image", "Decoding photos")
    except ImportError as error:
        raise MissingPackageError(str(error)) from error


def check_preparation(builder: Any) -> None:
    """Raises unless a TFDS builder can download and prepare its data here.

    Args:
        builder: A `tfds.core.DatasetBuilder` that is not prepared.

    Raises:
        DatasetError: If a package that the preparation imports is missing,
            the data must be downloaded by hand, `data_dir` cannot be written
            or is too small, or no download host answers.
    """
    _check_packages(builder)
    _check_manual_download(builder)
    _check_writable(builder)
    _check_space(builder)
    _check_network(builder)


def _check_packages(builder: Any) -> None:
    for module in sorted(_preparation_modules(type(builder))):
        try:
            # Found is not enough: OpenCV with a display library missing is
            # installed and fails here.
            importlib.import_module(module)
        except ImportError as error:
            distribution = _DISTRIBUTIONS.get(module, module)
            raise MissingPackageError(
                f"TFDS prepares {builder.name!r} with the module {module!r}, "
                f"which cannot be imported ({one_line(error)}): "
                f"pip install {distribution}"
            ) from error


def _preparation_modules(builder_class: type) -> set[str]:
    """Modules that the builder imports only once its data is downloaded.

    TFDS builders take them from `tfds.core.lazy_imports`, and the import
    fails after the download. Their names stand in the compiled methods.
    """
    from tensorflow_datasets.core import lazy_imports_lib

    lazy = {
        name: "PIL" if name.startswith("PIL_") else name
        for name, value in vars(lazy_imports_lib.LazyImporter).items()
        if not name.startswith("_") and name not in ("os", "test_foo")
    }
    found: set[str] = set()
    for code in _reachable_code(builder_class):
        if "lazy_imports" in code.co_names:
            found.update(lazy[n] for n in code.co_names if n in lazy)
    return found


def _reachable_code(builder_class: type) -> Iterator[types.CodeType]:
    """Yields the code of the preparing methods and of what they call."""
    pending: list[types.CodeType] = []
    seen: set[types.CodeType] = set()
    names = {"_split_generators", "_generate_examples"}
    module_functions: dict[str, Any] = {}
    while names or pending:
        for name in names:
            function = getattr(builder_class, name, None)
            function = function or module_functions.get(name)
            if not isinstance(function, types.FunctionType):
                continue
            if function.__module__.startswith("tensorflow_datasets.core"):
                continue
            pending.append(function.__code__)
            if function.__module__ == builder_class.__module__:
                module_functions = function.__globals__
        names = set()
        while pending:
            code = pending.pop()
            if code in seen:
                continue
            seen.add(code)
            yield code
            names.update(code.co_names)
            pending += [
                constant
                for constant in code.co_consts
                if isinstance(constant, types.CodeType)
            ]


def _check_manual_download(builder: Any) -> None:
    instructions = builder.MANUAL_DOWNLOAD_INSTRUCTIONS
    if not instructions:
        return
    folder = pathlib.Path(builder.data_dir_root, "downloads", "manual")
    if not folder.is_dir() or not any(folder.iterdir()):
        raise DatasetError(
            f"{builder.name!r} must be downloaded by hand into {folder}: "
            f"{one_line(instructions)}"
        )


def _check_writable(builder: Any) -> None:
    folder = pathlib.Path(builder.data_dir_root).expanduser()
    existing = _nearest_existing(folder)
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise DatasetError(
            f"{builder.name!r} is not prepared in data_dir={str(folder)!r}, "
            f"and {str(existing)!r} cannot be written to: choose another "
            "data_dir"
        )


def _check_space(builder: Any) -> None:
    if builder.builder_config is not None:
        return  # The recorded sizes are those of all configurations.
    # One file may be recorded under several addresses.
    sizes = {info.checksum: info.size for info in _downloads(builder).values()}
    needed = _COPIES_ON_DISK * int(sum(sizes.values()))
    folder = pathlib.Path(builder.data_dir_root).expanduser()
    free = shutil.disk_usage(_nearest_existing(folder)).free
    if free < needed:
        raise DatasetError(
            f"Preparing {builder.name!r} takes up to {needed / 1e9:.1f} GB "
            f"in data_dir={str(folder)!r}, which has {free / 1e9:.1f} GB "
            "left: free some space or choose another data_dir"
        )


def _downloads(builder: Any) -> dict[str, Any]:
    """Returns size and checksum by address; none for data that is drawn."""
    return builder.url_infos or {}


def _check_network(builder: Any) -> None:
    """Raises if none of the recorded downloads can be had.

    Without it TFDS retries a host that it cannot find for minutes. A file
    may be recorded under old addresses too, so one that answers is enough.
    """
    import requests

    urls = {
        info.checksum: url
        for url, info in reversed(_downloads(builder).items())
        if url.startswith(("http://", "https://"))
    }
    failures: dict[str, str] = {}
    for url in list(urls.values())[:_MAX_PROBED_FILES]:
        host = url.split("/")[2]
        if host in failures:
            continue
        try:
            response = requests.head(
                url, timeout=_CONNECTION_TIMEOUT, allow_redirects=True
            )
        except requests.RequestException:
            failures[host] = "cannot be reached"
            continue
        # Some hosts refuse HEAD (403, 405) for files that they do serve.
        if response.status_code not in (404, 410):
            return
        failures[host] = f"answers {response.status_code} for {url}"
    if failures:
        reasons = ", ".join(f"{h} {why}" for h, why in failures.items())
        raise DatasetError(
            f"{builder.name!r} is not prepared in "
            f"data_dir={str(builder.data_dir_root)!r} and cannot be "
            f"downloaded: {reasons}. Pass the data_dir that holds it, or "
            "prepare it where there is a network"
        )


def translate_failure(builder: Any, prepare: Callable[[], None]) -> None:
    """Runs `prepare()`; whatever it raises becomes a `DatasetError`."""
    try:
        prepare()
    except DatasetError:
        raise
    except Exception as error:
        raise DatasetError(
            f"Preparing {builder.name!r} in "
            f"data_dir={str(builder.data_dir_root)!r} failed: "
            f"{type(error).__name__}: {one_line(error)}"
        ) from error


def _nearest_existing(path: pathlib.Path) -> pathlib.Path:
    for candidate in (path, *path.parents):
        if candidate.exists():
            return candidate
    return pathlib.Path(path.anchor)


def one_line(text: object, limit: int = 300) -> str:
    """Returns the text without line breaks, cut where it gets long."""
    line = " ".join(str(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"

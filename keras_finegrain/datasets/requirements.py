"""What reading or preparing a data set needs, checked before it is needed."""

import contextlib
import importlib
import pathlib
import shutil
import sys
import tempfile
import types
from typing import Any

import keras

from keras_finegrain._base.optional import (
    import_optional,
    package_of,
    pip_install,
)
from keras_finegrain.datasets.errors import (
    DatasetError,
    MissingPackageError,
    one_line,
)

# A download is on disk three times while a data set is prepared: the
# archive, its extracted files and the records that are written from them.
_COPIES_ON_DISK = 3

# What TFDS imports to prepare a data set, once that is downloaded.
_PREPARATION_MODULES = {
    "caltech_birds2010": ("scipy",),
    "caltech_birds2011": ("cv2",),
    "cars196": ("PIL", "scipy"),
    "oxford_flowers102": ("scipy",),
    "stanford_dogs": ("scipy",),
}


def import_tensorflow() -> types.ModuleType:
    """Returns `tensorflow`, with the GPUs left to the Keras backend.

    TensorFlow reads the data under every backend. On its first use of a GPU
    it reserves nearly all of its memory, so under JAX and PyTorch the GPUs
    are hidden from it, unless TensorFlow is in use already: its devices are
    then fixed.

    Raises:
        MissingPackageError: If TensorFlow is not installed.
    """
    tensorflow = _imported(
        "Data sets are read with TensorFlow under every Keras backend, and it",
        "tensorflow",
    )
    if keras.backend.backend() != "tensorflow":
        # An error means that TensorFlow is in use already.
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
    # TFDS imports this one when the first builder is made.
    _imported("TensorFlow Datasets", "importlib_resources")
    return _imported("TensorFlow Datasets", "tensorflow_datasets")


def _imported(what: str, module: str) -> types.ModuleType:
    try:
        # TensorFlow traces functions that come here, and warns of an import.
        return sys.modules.get(module) or importlib.import_module(module)
    except ImportError as error:
        raise MissingPackageError(
            f"{what} cannot be imported ({one_line(error)}): "
            f"{pip_install('tensorflow')}"
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


def import_opencv() -> types.ModuleType:
    """Returns `cv2`.

    Raises:
        MissingPackageError: If OpenCV is not installed.
    """
    return _imported("Data sets are decoded with OpenCV, and it", "cv2")


def prepare(builder: Any) -> None:
    """Downloads and prepares the data of a TFDS builder.

    Raises:
        DatasetError: Before the download, for what `check_preparation` finds;
            afterwards for whatever TFDS raises, with what to do about it.
    """
    check_preparation(builder)
    tfds = import_tfds()
    # Offline, asking the Google bucket for prepared data only takes time.
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    try:
        builder.download_and_prepare(download_config=config)
    except Exception as error:
        raise _translated(error, builder) from error


def check_preparation(builder: Any) -> None:
    """Raises unless a TFDS builder can prepare its data here.

    Whether the hosts of the data answer shows the download alone. TFDS tries
    each of them eleven times, over three to four minutes without a network,
    and has no option for it.

    Args:
        builder: A `tfds.core.DatasetBuilder` that is not prepared.

    Raises:
        DatasetError: If a package that the preparation imports is missing,
            the data must be downloaded by hand, or `data_dir` cannot be
            written or is too small.
    """
    for module in _PREPARATION_MODULES.get(builder.name, ()):
        try:
            # Not only looked up: an installed OpenCV fails to import where
            # a display library is missing.
            importlib.import_module(module)
        except ImportError as error:
            raise _missing_module(module, builder, error) from error
    _check_manual_download(builder)
    _check_data_dir(builder)


def _translated(error: Exception, builder: Any) -> DatasetError:
    """Returns what TFDS raised as one line that says what to do."""
    cause: BaseException | None = error
    while cause is not None:  # TFDS wraps the first error in others.
        if isinstance(cause, ImportError) and cause.name:
            return _missing_module(cause.name, builder, cause)
        cause = cause.__cause__
    return DatasetError(
        f"{builder.name!r} is not prepared in "
        f"data_dir={str(builder.data_dir_root)!r} and cannot be prepared "
        f"({type(error).__name__}: {one_line(error)}). Pass the data_dir that "
        "holds it; without a network, prepare it where there is one and copy "
        "the folder"
    )


def _missing_module(
    module: str, builder: Any, error: ImportError
) -> MissingPackageError:
    return MissingPackageError(
        f"TFDS prepares {builder.name!r} with the module {module!r}, which "
        f"cannot be imported ({one_line(error)}): "
        f"pip install {package_of(module)}"
    )


def _check_manual_download(builder: Any) -> None:
    instructions = builder.MANUAL_DOWNLOAD_INSTRUCTIONS
    folder = pathlib.Path(builder.data_dir_root, "downloads", "manual")
    if instructions and not (folder.is_dir() and any(folder.iterdir())):
        raise DatasetError(
            f"{builder.name!r} must be downloaded by hand into {folder}: "
            f"{one_line(instructions)}"
        )


def _can_be_written(folder: pathlib.Path) -> bool:
    """Whether folders can be made in a folder: rights alone do not tell."""
    try:
        with tempfile.TemporaryDirectory(dir=folder):
            return True
    except OSError:
        return False


def _check_data_dir(builder: Any) -> None:
    folder = pathlib.Path(builder.data_dir_root).expanduser().absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not _can_be_written(existing):
        raise DatasetError(
            f"{builder.name!r} is not prepared in data_dir={str(folder)!r}, "
            f"and {str(existing)!r} cannot be written to: choose another "
            "data_dir"
        )
    if builder.builder_config is not None:
        return  # The recorded sizes are those of all configurations.
    # One file may be recorded under several addresses.
    downloads = (builder.url_infos or {}).values()
    sizes = {download.checksum: download.size for download in downloads}
    needed = _COPIES_ON_DISK * int(sum(sizes.values()))
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise DatasetError(
            f"Preparing {builder.name!r} takes up to {needed / 1e9:.1f} GB "
            f"in data_dir={str(folder)!r}, which has {free / 1e9:.1f} GB "
            "left: free some space or choose another data_dir"
        )

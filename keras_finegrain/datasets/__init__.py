"""Images for fine-grained recognition: from a name or a folder to batches.

Importing this package imports neither TensorFlow nor TensorFlow Datasets:
they are loaded when data is.
"""

from typing import TYPE_CHECKING, Any

from keras_finegrain.datasets.balanced_batching import balanced_batches
from keras_finegrain.datasets.batching import batches
from keras_finegrain.datasets.errors import DatasetError, MissingPackageError
from keras_finegrain.datasets.loading import ImageDataset, check, load
from keras_finegrain.datasets.photos import Photos
from keras_finegrain.datasets.reading import image_paths, read_images

if TYPE_CHECKING:
    from keras_finegrain.datasets.synthetic_birds import SyntheticBirds

__all__ = [
    "DatasetError",
    "ImageDataset",
    "MissingPackageError",
    "Photos",
    "SyntheticBirds",
    "balanced_batches",
    "batches",
    "check",
    "image_paths",
    "load",
    "read_images",
]


def __getattr__(name: str) -> Any:
    # A TFDS builder: its class cannot be defined without TFDS.
    if name == "SyntheticBirds":
        from keras_finegrain.datasets.synthetic_birds import SyntheticBirds

        return SyntheticBirds
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

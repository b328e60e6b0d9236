"""Keras 3 layers and losses for telling look-alike classes apart."""

import importlib
from typing import TYPE_CHECKING, Any

from keras_finegrain._base import backend as _backend

_backend.load()

from keras_finegrain import callbacks as callbacks
from keras_finegrain import distribution as distribution
from keras_finegrain import layers as layers
from keras_finegrain import losses as losses
from keras_finegrain import metrics as metrics
from keras_finegrain import models as models
from keras_finegrain import optimizers as optimizers
from keras_finegrain import regularizers as regularizers
from keras_finegrain import visualization as visualization
from keras_finegrain._version import __version__ as __version__
from keras_finegrain.bundle import Bundle as Bundle
from keras_finegrain.embedding import embedding_model as embedding_model
from keras_finegrain.exporting import export as export
from keras_finegrain.gallery import Gallery as Gallery
from keras_finegrain.labels import label_scope as label_scope
from keras_finegrain.layers import CenterLoss as CenterLoss
from keras_finegrain.layers import CosineSimilarity as CosineSimilarity
from keras_finegrain.layers import MCLoss as MCLoss
from keras_finegrain.layers import SoftTriple as SoftTriple
from keras_finegrain.models import Model as Model
from keras_finegrain.models import Sequential as Sequential
from keras_finegrain.reporting import report as report

if TYPE_CHECKING:
    from keras_finegrain import datasets as datasets

__all__ = [
    "Bundle",
    "CenterLoss",
    "CosineSimilarity",
    "Gallery",
    "MCLoss",
    "Model",
    "Sequential",
    "SoftTriple",
    "__version__",
    "callbacks",
    "datasets",
    "distribution",
    "embedding_model",
    "export",
    "label_scope",
    "layers",
    "losses",
    "metrics",
    "models",
    "optimizers",
    "regularizers",
    "report",
    "visualization",
]


def __getattr__(name: str) -> Any:
    # Loaded when first touched: most who train need nothing of it.
    if name == "datasets":
        return importlib.import_module("keras_finegrain.datasets")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

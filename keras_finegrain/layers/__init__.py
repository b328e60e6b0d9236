"""What stands in a model."""

from keras_finegrain.layers.center_loss import CenterLoss as CenterLoss
from keras_finegrain.layers.class_channel_pooling import (
    ClassChannelPooling as ClassChannelPooling,
)
from keras_finegrain.layers.cosine_similarity import (
    CosineSimilarity as CosineSimilarity,
)
from keras_finegrain.layers.cross_batch_memory import (
    CrossBatchMemory as CrossBatchMemory,
)
from keras_finegrain.layers.gaussian_mixture import (
    GaussianMixture as GaussianMixture,
)
from keras_finegrain.layers.generalized_mean_pooling import (
    GeneralizedMeanPooling2D as GeneralizedMeanPooling2D,
)
from keras_finegrain.layers.jigsaw import Jigsaw as Jigsaw
from keras_finegrain.layers.mc_loss import MCLoss as MCLoss
from keras_finegrain.layers.soft_triple import SoftTriple as SoftTriple

__all__ = [
    "CenterLoss",
    "ClassChannelPooling",
    "CosineSimilarity",
    "CrossBatchMemory",
    "GaussianMixture",
    "GeneralizedMeanPooling2D",
    "Jigsaw",
    "MCLoss",
    "SoftTriple",
]


def __dir__() -> list[str]:
    return __all__

"""Models that show labels to their layers, and the ends of networks."""

from keras_finegrain.models.blocks import (
    average_max_pooling as average_max_pooling,
)
from keras_finegrain.models.blocks import embedding_block as embedding_block
from keras_finegrain.models.blocks import (
    mutual_channel_head as mutual_channel_head,
)
from keras_finegrain.models.model import Model as Model
from keras_finegrain.models.model import Sequential as Sequential
from keras_finegrain.models.progressive_multi_granularity import (
    progressive_multi_granularity as progressive_multi_granularity,
)

__all__ = [
    "Model",
    "Sequential",
    "average_max_pooling",
    "embedding_block",
    "mutual_channel_head",
    "progressive_multi_granularity",
]


def __dir__() -> list[str]:
    return __all__

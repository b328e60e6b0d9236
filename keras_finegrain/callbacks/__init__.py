"""What `fit` can tell about embeddings and centers while it runs."""

from typing import Any

from keras_finegrain._base.renamed import accepts_figures, renamed
from keras_finegrain.callbacks.center_statistics import CenterStatistics
from keras_finegrain.callbacks.embedding_metrics import EmbeddingMetrics
from keras_finegrain.callbacks.embedding_projector import EmbeddingProjector
from keras_finegrain.callbacks.embedding_recorder import EmbeddingRecorder

__all__ = [
    "CenterStatistics",
    "EmbeddingMetrics",
    "EmbeddingProjector",
    "EmbeddingRecorder",
]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    return accepts_figures(
        renamed(__name__, name, {"EmbeddingFigures": "EmbeddingMetrics"})
    )

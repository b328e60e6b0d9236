"""What `fit` can tell about embeddings and centers while it runs."""

from keras_finegrain.callbacks.center_statistics import (
    CenterStatistics as CenterStatistics,
)
from keras_finegrain.callbacks.embedding_figures import (
    EmbeddingFigures as EmbeddingFigures,
)
from keras_finegrain.callbacks.embedding_projector import (
    EmbeddingProjector as EmbeddingProjector,
)
from keras_finegrain.callbacks.embedding_recorder import (
    EmbeddingRecorder as EmbeddingRecorder,
)

"""Pictures of what a model has learned, drawn with matplotlib."""

from keras_finegrain.visualization.curves import (
    learning_curves as learning_curves,
)
from keras_finegrain.visualization.embedding import (
    embedding_scatter as embedding_scatter,
)
from keras_finegrain.visualization.palette import (
    class_legend as class_legend,
)
from keras_finegrain.visualization.palette import (
    class_styles as class_styles,
)

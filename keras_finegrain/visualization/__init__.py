"""Pictures of what a model has learned, drawn with matplotlib."""

from keras_finegrain.visualization.center_distances import center_distances
from keras_finegrain.visualization.center_images import center_images
from keras_finegrain.visualization.channel_overlay import channel_overlay
from keras_finegrain.visualization.channel_strip import (
    channel_strip,
    class_channels,
)
from keras_finegrain.visualization.class_grid import class_grid
from keras_finegrain.visualization.embedding_animation import (
    embedding_animation,
)
from keras_finegrain.visualization.embedding_comparison import (
    embedding_comparison,
)
from keras_finegrain.visualization.embedding_scatter import embedding_scatter
from keras_finegrain.visualization.grad_cam import grad_cam
from keras_finegrain.visualization.heat_map_overlay import heat_map_overlay
from keras_finegrain.visualization.learning_curves import learning_curves
from keras_finegrain.visualization.look_alike_confusions import (
    look_alike_confusions,
)
from keras_finegrain.visualization.palette import class_legend, class_styles
from keras_finegrain.visualization.reliability_diagram import (
    reliability_diagram,
)
from keras_finegrain.visualization.retrieval_gallery import retrieval_gallery
from keras_finegrain.visualization.save_figure import save_figure

__all__ = [
    "center_distances",
    "center_images",
    "channel_overlay",
    "channel_strip",
    "class_channels",
    "class_grid",
    "class_legend",
    "class_styles",
    "embedding_animation",
    "embedding_comparison",
    "embedding_scatter",
    "grad_cam",
    "heat_map_overlay",
    "learning_curves",
    "look_alike_confusions",
    "reliability_diagram",
    "retrieval_gallery",
    "save_figure",
]


def __dir__() -> list[str]:
    return __all__

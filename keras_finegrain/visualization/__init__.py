"""Pictures of what a model has learned, drawn with matplotlib."""

from keras_finegrain.visualization.center_distances import (
    center_distances as center_distances,
)
from keras_finegrain.visualization.center_images import (
    center_images as center_images,
)
from keras_finegrain.visualization.channel_overlay import (
    channel_overlay as channel_overlay,
)
from keras_finegrain.visualization.channel_strip import (
    channel_strip as channel_strip,
)
from keras_finegrain.visualization.channel_strip import (
    class_channels as class_channels,
)
from keras_finegrain.visualization.class_confusions import (
    look_alike_confusions as look_alike_confusions,
)
from keras_finegrain.visualization.class_grid import class_grid as class_grid
from keras_finegrain.visualization.curves import (
    learning_curves as learning_curves,
)
from keras_finegrain.visualization.embedding import (
    embedding_scatter as embedding_scatter,
)
from keras_finegrain.visualization.embedding_comparison import (
    embedding_comparison as embedding_comparison,
)
from keras_finegrain.visualization.embedding_frames import (
    embedding_animation as embedding_animation,
)
from keras_finegrain.visualization.grad_cam import grad_cam as grad_cam
from keras_finegrain.visualization.heat_map import (
    heat_map_overlay as heat_map_overlay,
)
from keras_finegrain.visualization.palette import (
    class_legend as class_legend,
)
from keras_finegrain.visualization.palette import (
    class_styles as class_styles,
)
from keras_finegrain.visualization.retrieval_gallery import (
    retrieval_gallery as retrieval_gallery,
)
from keras_finegrain.visualization.saving import save_figure as save_figure

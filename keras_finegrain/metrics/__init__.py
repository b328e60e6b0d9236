"""Figures over a whole set of embeddings, in NumPy."""

from keras_finegrain.metrics.clustering import ami as ami
from keras_finegrain.metrics.clustering import nmi as nmi
from keras_finegrain.metrics.clustering import silhouette as silhouette
from keras_finegrain.metrics.confusions import Confusions as Confusions
from keras_finegrain.metrics.confusions import (
    nearest_class_confusions as nearest_class_confusions,
)
from keras_finegrain.metrics.figures import FIGURES as FIGURES
from keras_finegrain.metrics.figures import Figure as Figure
from keras_finegrain.metrics.figures import (
    embedding_figures as embedding_figures,
)
from keras_finegrain.metrics.geometry import (
    intra_inter_distance_ratio as intra_inter_distance_ratio,
)
from keras_finegrain.metrics.part_deletion import (
    part_deletion_drops as part_deletion_drops,
)
from keras_finegrain.metrics.part_deletion import (
    single_deletion_correlation as single_deletion_correlation,
)
from keras_finegrain.metrics.part_scores import (
    channel_part_diversity as channel_part_diversity,
)
from keras_finegrain.metrics.part_scores import (
    deciding_part_coverage as deciding_part_coverage,
)
from keras_finegrain.metrics.part_scores import part_shares as part_shares
from keras_finegrain.metrics.retrieval import knn_accuracy as knn_accuracy
from keras_finegrain.metrics.retrieval import map_at_r as map_at_r
from keras_finegrain.metrics.retrieval import precision_at_k as precision_at_k
from keras_finegrain.metrics.retrieval import r_precision as r_precision
from keras_finegrain.metrics.retrieval import recall_at_k as recall_at_k

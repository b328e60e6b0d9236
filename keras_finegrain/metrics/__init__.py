"""Figures over a whole set of embeddings, in NumPy."""

from keras_finegrain.metrics.geometry import (
    intra_inter_distance_ratio as intra_inter_distance_ratio,
)
from keras_finegrain.metrics.retrieval import map_at_r as map_at_r
from keras_finegrain.metrics.retrieval import r_precision as r_precision
from keras_finegrain.metrics.retrieval import recall_at_k as recall_at_k

"""Metrics of a whole set of embeddings, in NumPy."""

from typing import Any

from keras_finegrain._base.renamed import accepts_figures, renamed
from keras_finegrain.metrics.calibration import (
    ReliabilityBins,
    expected_calibration_error,
    fit_temperature,
    reliability_bins,
)
from keras_finegrain.metrics.clustering import ami, nmi, silhouette
from keras_finegrain.metrics.confusions import (
    Confusions,
    nearest_class_confusions,
)
from keras_finegrain.metrics.embedding_metrics import (
    EMBEDDING_METRICS,
    Estimate,
    embedding_metrics,
)
from keras_finegrain.metrics.geometry import intra_inter_distance_ratio
from keras_finegrain.metrics.open_set import open_set
from keras_finegrain.metrics.part_deletion import (
    part_deletion_drops,
    single_deletion_correlation,
)
from keras_finegrain.metrics.part_scores import (
    channel_part_diversity,
    deciding_part_coverage,
    part_shares,
)
from keras_finegrain.metrics.retrieval import (
    knn_accuracy,
    map_at_r,
    precision_at_k,
    r_precision,
    recall_at_k,
)

__all__ = [
    "EMBEDDING_METRICS",
    "Confusions",
    "Estimate",
    "ReliabilityBins",
    "ami",
    "channel_part_diversity",
    "deciding_part_coverage",
    "embedding_metrics",
    "expected_calibration_error",
    "fit_temperature",
    "intra_inter_distance_ratio",
    "knn_accuracy",
    "map_at_r",
    "nearest_class_confusions",
    "nmi",
    "open_set",
    "part_deletion_drops",
    "part_shares",
    "precision_at_k",
    "r_precision",
    "recall_at_k",
    "reliability_bins",
    "silhouette",
    "single_deletion_correlation",
]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    item = renamed(
        __name__,
        name,
        {
            "FIGURES": "EMBEDDING_METRICS",
            "Figure": "Estimate",
            "embedding_figures": "embedding_metrics",
        },
    )
    return accepts_figures(item) if name == "embedding_figures" else item

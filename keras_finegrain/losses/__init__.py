"""What `compile()` takes."""

from keras_finegrain.losses.arc_face_loss import ArcFaceLoss
from keras_finegrain.losses.center_contrastive_loss import CenterContrastiveLoss
from keras_finegrain.losses.circle_loss import CircleLoss
from keras_finegrain.losses.class_size_margins import class_size_margins
from keras_finegrain.losses.coco_loss import COCOLoss
from keras_finegrain.losses.combined_margin_loss import CombinedMarginLoss
from keras_finegrain.losses.contrastive_loss import ContrastiveLoss
from keras_finegrain.losses.cos_face_loss import CosFaceLoss
from keras_finegrain.losses.cosine_loss import CosineLoss
from keras_finegrain.losses.large_margin_gaussian_mixture_loss import (
    LargeMarginGaussianMixtureLoss,
)
from keras_finegrain.losses.logit_adjusted_loss import LogitAdjustedLoss
from keras_finegrain.losses.margin_softmax import MarginSoftmaxLoss
from keras_finegrain.losses.multi_similarity_loss import MultiSimilarityLoss
from keras_finegrain.losses.n_pairs_loss import NPairsLoss
from keras_finegrain.losses.norm_face_loss import NormFaceLoss
from keras_finegrain.losses.proxy_anchor_loss import ProxyAnchorLoss
from keras_finegrain.losses.proxy_nca_loss import ProxyNCALoss
from keras_finegrain.losses.proxy_nca_plus_plus_loss import ProxyNCAPlusPlusLoss
from keras_finegrain.losses.soft_triple_loss import SoftTripleLoss
from keras_finegrain.losses.sphere_face_loss import SphereFaceLoss
from keras_finegrain.losses.sup_con_loss import SupConLoss
from keras_finegrain.losses.triplet_all_loss import TripletAllLoss
from keras_finegrain.losses.triplet_hard_loss import TripletHardLoss
from keras_finegrain.losses.triplet_semi_hard_loss import TripletSemiHardLoss

__all__ = [
    "ArcFaceLoss",
    "COCOLoss",
    "CenterContrastiveLoss",
    "CircleLoss",
    "CombinedMarginLoss",
    "ContrastiveLoss",
    "CosFaceLoss",
    "CosineLoss",
    "LargeMarginGaussianMixtureLoss",
    "LogitAdjustedLoss",
    "MarginSoftmaxLoss",
    "MultiSimilarityLoss",
    "NPairsLoss",
    "NormFaceLoss",
    "ProxyAnchorLoss",
    "ProxyNCALoss",
    "ProxyNCAPlusPlusLoss",
    "SoftTripleLoss",
    "SphereFaceLoss",
    "SupConLoss",
    "TripletAllLoss",
    "TripletHardLoss",
    "TripletSemiHardLoss",
    "class_size_margins",
]


def __dir__() -> list[str]:
    return __all__

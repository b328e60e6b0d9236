"""From a feature map to scores: what the methods differ in."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras

from keras_finegrain import losses
from keras_finegrain.layers import (
    CenterLoss,
    CosineSimilarity,
    CrossBatchMemory,
    GaussianMixture,
    GeneralizedMeanPooling2D,
    MCLoss,
    SoftTriple,
)
from keras_finegrain.models import (
    Model,
    average_max_pooling,
    embedding_block,
    progressive_multi_granularity,
)
from keras_finegrain.models.max_pooling import GlobalMaxPooling2D
from keras_finegrain.training.backbones import layer_of
from keras_finegrain.training.errors import TrainingError
from keras_finegrain.training.settings import Settings

# Weights that start at random learn at their own rate.
HEAD_WEIGHTS = "^(head|embedding|mc_branch|pooling|stage_)"

_CrossEntropy = functools.partial(
    keras.losses.SparseCategoricalCrossentropy, from_logits=True
)
# The papers' scale of 64 is made for thousands of classes. Ours.
_SCALE = 32.0
# FaceNet's margin and distance, on embeddings of unit length.
_FACENET: dict[str, Any] = {"margin": 0.2, "distance_metric": "squared-L2"}
_SOFT_TRIPLE = ("soft_triple", "hard_triple")
# The loss of each method on the similarities of a cosine head.
_ON_SIMILARITIES: dict[str, Callable[..., keras.losses.Loss]] = {
    "normface": losses.NormFaceLoss,
    "cosface": functools.partial(losses.CosFaceLoss, scale=_SCALE),
    "arcface": functools.partial(losses.ArcFaceLoss, scale=_SCALE),
    "subcenter_arcface": functools.partial(losses.ArcFaceLoss, scale=_SCALE),
    "sphereface": losses.SphereFaceLoss,
    "combined_margin": functools.partial(
        losses.CombinedMarginLoss, scale=_SCALE
    ),
    "center_contrastive": losses.CenterContrastiveLoss,
    "proxy_nca": losses.ProxyNCALoss,
    "proxy_nca_plus_plus": losses.ProxyNCAPlusPlusLoss,
    "proxy_anchor": losses.ProxyAnchorLoss,
    "coco": losses.COCOLoss,
}


def _ldam(
    class_counts: Sequence[int], scale: float = 30.0, margin: float = 0.5
) -> keras.losses.Loss:
    """A margin of each class, the largest for the smallest class."""
    margins = losses.class_size_margins(class_counts, largest=margin)
    return losses.CosFaceLoss(scale, margins)


# The loss of each method on the embeddings of a batch.
ON_PAIRS: dict[str, Callable[..., keras.losses.Loss]] = {
    "triplet": functools.partial(losses.TripletSemiHardLoss, **_FACENET),
    "triplet_hard": functools.partial(losses.TripletHardLoss, **_FACENET),
    "triplet_soft": functools.partial(losses.TripletHardLoss, soft=True),
    "triplet_all": functools.partial(losses.TripletAllLoss, **_FACENET),
    "contrastive": losses.ContrastiveLoss,
    "multi_similarity": losses.MultiSimilarityLoss,
    "n_pairs": losses.NPairsLoss,
    "sup_con": losses.SupConLoss,
    "circle": losses.CircleLoss,
}
# The loss of each method that knows the number of images of each class.
ON_CLASS_COUNTS: dict[str, Callable[..., keras.losses.Loss]] = {
    "logit_adjusted": losses.LogitAdjustedLoss,
    "ldam": _ldam,
}
# The loss of each method, by the method's name.
METHODS: dict[str, Callable[..., keras.losses.Loss]] = {
    **dict.fromkeys(("softmax", "center", "mc", "pmg"), _CrossEntropy),
    **dict.fromkeys(_SOFT_TRIPLE, losses.SoftTripleLoss),
    "cosine": losses.CosineLoss,
    "gaussian_mixture": losses.LargeMarginGaussianMixtureLoss,
    **_ON_SIMILARITIES,
    **ON_PAIRS,
    **ON_CLASS_COUNTS,
}
_POOLINGS = {
    "average": keras.layers.GlobalAveragePooling2D,
    "max": GlobalMaxPooling2D,
    "gem": GeneralizedMeanPooling2D,
}
# They compare an anchor with one positive, or with one negative, of the batch.
_WITHOUT_MEMORY = ("n_pairs",)
# The paper's size of the embedding; the stages have twice as many channels.
_PROGRESSIVE_SIZE = 512
# Its jigsaws have 8 × 8, 4 × 4 and 2 × 2 parts.
_PROGRESSIVE_PIECES = 8
# The weight of the embedding's squared length, which keeps it finite. Ours.
_N_PAIRS_LENGTH = 0.02


class Head(NamedTuple):
    """The end of a model.

    Attributes:
        embedding: Symbolic tensor `(batch, dim)`, which retrieval compares.
        scores: Symbolic tensor `(batch, num_classes)`; the highest one wins.
        trained: Input of the loss: the scores or, for a method on pairs, the
            embedding.
        loss: The loss to compile.
        model_class: Of the models that end here.
    """

    embedding: Any
    scores: Any
    trained: Any
    loss: keras.losses.Loss
    model_class: type[keras.Model] = Model


def build_head(
    settings: Settings,
    backbone: keras.Model,
    num_classes: int,
    class_counts: Sequence[int] | None = None,
) -> Head:
    """Puts a method's layers on a backbone.

    Args:
        settings: Those of the run.
        backbone: From images to a feature map `(batch, height, width,
            channels)`.
        num_classes: Number of classes.
        class_counts: Training images of each class, for a method of
            `ON_CLASS_COUNTS`.

    Returns:
        The `Head`. Pooling and embedding layer are the same for all methods
        but pmg, which has its own.
    """
    method = settings.method
    if method == "pmg":
        return _progressive_head(settings, backbone, num_classes)
    feature_map = backbone.output
    if method == "mc":
        channels = _mc_channels(settings, backbone, num_classes)
        feature_map = MCLoss(
            num_classes,
            loss_weight=settings.mc_weight,
            diversity_weight=settings.mc_diversity_weight,
            name="mc_loss",
        )(feature_map, channels=channels)
    if settings.pooling == "average_max":
        embedding = average_max_pooling(feature_map)
    else:
        pooling = _POOLINGS[settings.pooling]
        embedding = pooling(name="pooling", dtype="float32")(feature_map)
    if settings.embedding_size and settings.embedding_neck:
        embedding = embedding_block(embedding, settings.embedding_size)
    elif settings.embedding_size:
        embedding = keras.layers.Dense(
            settings.embedding_size, name="embedding"
        )(embedding)
    if method == "center":
        embedding = CenterLoss(
            num_classes,
            loss_weight=settings.center_weight,
            alpha=settings.center_alpha,
            name="center_loss",
        )(embedding)
    loss = build_loss(settings, num_classes, class_counts)
    if method in ON_PAIRS:
        limit = keras.layers.UnitNormalization()
        if method == "n_pairs":
            limit = keras.layers.ActivityRegularization(l2=_N_PAIRS_LENGTH)
        compared = limit(embedding)
        if settings.memory_size:
            compared = CrossBatchMemory(
                build_loss(settings, num_classes),
                settings.memory_size,
                name="memory",
            )(compared)
        # Scores for the test: the class whose mean embedding is nearest.
        head = CosineSimilarity(num_classes, trainable=False, name="head")
        return Head(compared, head(compared), compared, loss)
    scores = _classifier(settings, num_classes)(embedding)
    return Head(embedding, scores, scores, loss)


def _mc_channels(
    settings: Settings, backbone: keras.Model, num_classes: int
) -> Any:
    """What mutual-channel loss reads; None for the feature map itself."""
    channels, name = None, settings.mc_layer
    if name is not None:
        layer = layer_of(backbone, "mc-layer", name)
        if not layer.trainable:
            raise TrainingError(
                f"--mc-layer {name}: --freeze {settings.freeze} freezes it, "
                "and the loss has to train what it reads. Take a layer behind "
                "that one"
            )
        channels = layer.output
        _check_width(settings, channels.shape[-1], num_classes)
    if settings.mc_branch:
        branch = keras.layers.Conv2D(
            settings.mc_branch * num_classes,
            1,
            activation="relu",
            name="mc_branch",
        )
        channels = branch(backbone.output if channels is None else channels)
    return channels


def _progressive_head(
    settings: Settings, backbone: keras.Model, num_classes: int
) -> Head:
    """Stages on three feature maps, of a model that trains on jigsaws."""
    size = settings.embedding_size or _PROGRESSIVE_SIZE
    model = progressive_multi_granularity(
        backbone, num_classes, stage_channels=2 * size, embedding_size=size
    )
    embedding = model.get_layer("embedding").output
    loss = build_loss(settings, num_classes)
    return Head(embedding, model.output, model.output, loss, type(model))


def begins_with_pooling(settings: Settings) -> bool:
    """Whether the head pools before it does anything that is trained."""
    return settings.method not in ("mc", "pmg") and settings.pooling != "gem"


def build_loss(
    settings: Settings,
    num_classes: int,
    class_counts: Sequence[int] | None = None,
) -> keras.losses.Loss:
    """The compiled loss of a method, with the arguments in the settings.

    Args:
        settings: Those of the run.
        num_classes: Number of classes.
        class_counts: As in `build_head`; by default all are equal.

    Raises:
        TrainingError: If `loss_args` has an argument, or a value, that the
            loss does not take.
    """
    method = settings.method
    make = METHODS[method]
    if method in _SOFT_TRIPLE:
        make = functools.partial(
            make,
            scale=settings.soft_triple_scale,
            margin=settings.soft_triple_margin,
        )
    elif settings.soft_labels and make is _CrossEntropy:
        make = functools.partial(
            keras.losses.CategoricalCrossentropy, from_logits=True
        )
    if method in ON_CLASS_COUNTS:
        make = functools.partial(make, class_counts or [1] * num_classes)
    if method == "coco":
        make = functools.partial(make, num_classes)
    known = [
        name
        for name in inspect.signature(make).parameters
        if name not in ("name", "kwargs")
    ]
    unknown = [name for name in settings.loss_args if name not in known]
    if unknown:
        raise TrainingError(
            f"--loss-args {unknown[0]}: the loss of --method {method} takes "
            f"{', '.join(known) or 'no arguments'}"
        )
    try:
        return make(**settings.loss_args)
    except ValueError as error:
        raise TrainingError(f"--loss-args: {error}") from error


def _classifier(settings: Settings, num_classes: int) -> keras.layers.Layer:
    """The layer from embeddings to scores."""
    method = settings.method
    if method in _SOFT_TRIPLE:
        return SoftTriple(
            num_classes,
            centers_per_class=settings.soft_triple_centers,
            gamma=settings.soft_triple_gamma,
            tau=settings.soft_triple_tau,
            pooling="soft" if method == "soft_triple" else "max",
            name="head",
        )
    if method in _ON_SIMILARITIES or method == "ldam":
        centers = settings.sub_centers if method == "subcenter_arcface" else 1
        return CosineSimilarity(
            num_classes, centers_per_class=centers, name="head"
        )
    if method == "gaussian_mixture":
        return GaussianMixture(num_classes, name="head")
    # Scores in float32: cross-entropy of half-precision logits loses digits.
    return keras.layers.Dense(num_classes, dtype="float32", name="head")


def balanced_batch(
    settings: Settings, num_classes: int
) -> tuple[int, int] | None:
    """Classes in a batch and images of each; None if the method needs none."""
    if settings.method not in ON_PAIRS:
        return None
    # An N-pair is an anchor and its positive: the loss uses two of a class.
    images = 2 if settings.method == "n_pairs" else settings.images_per_class
    return min(settings.batch_size // images, num_classes), images


def check_method(
    settings: Settings, channels: int, num_classes: int, replicas: int = 1
) -> None:
    """Raises `TrainingError` if a method cannot be trained like this.

    Args:
        settings: Those of the run.
        channels: Of the backbone's feature map.
        num_classes: Number of classes.
        replicas: Number of devices that share a batch.
    """
    method = settings.method
    if method not in METHODS:
        raise TrainingError(
            f"--method: must be one of {', '.join(METHODS)}, received "
            f"{method!r}"
        )
    build_loss(settings, num_classes)
    if settings.memory_size and (
        method not in ON_PAIRS or method in _WITHOUT_MEMORY
    ):
        having = [name for name in ON_PAIRS if name not in _WITHOUT_MEMORY]
        raise TrainingError(
            f"--memory-size {settings.memory_size}: only {', '.join(having)} "
            f"compare with earlier batches, received --method {method}"
        )
    if settings.soft_labels and method in ON_PAIRS:
        raise TrainingError(
            f"--{settings.soft_labels}: gives an image several classes, and "
            f"--method {method} asks which images share one. Take a method "
            "that scores classes, such as softmax, center or arcface, or "
            "leave it out"
        )
    if method == "pmg":
        _check_progressive(settings)
    if method == "mc" and settings.mc_layer is None:
        _check_width(settings, channels, num_classes)
    balanced = balanced_batch(settings, num_classes)
    if balanced is None:
        return
    in_batch, per_class = balanced
    if in_batch < 2:
        raise TrainingError(
            f"--batch-size {settings.batch_size}: --method {method} needs "
            f"two classes with {per_class} images in a batch; take a "
            "larger one or fewer --images-per-class"
        )
    size = in_batch * per_class
    if size % replicas and keras.backend.backend() == "jax":
        raise TrainingError(
            f"--method {method}: {in_batch} classes with {per_class} "
            f"images make a batch of {size}, which must divide by the "
            f"{replicas} devices on JAX"
        )


def _check_width(settings: Settings, channels: int, num_classes: int) -> None:
    if settings.mc_branch or channels >= num_classes:
        return
    having = f"--backbone {settings.backbone}"
    if settings.mc_layer is not None:
        having = f"--mc-layer {settings.mc_layer}"
    raise TrainingError(
        f"--method mc: every class needs a channel of its own, and {having} "
        f"has {channels} for {num_classes} classes. Pass --mc-branch 3, take "
        "a wider backbone or fewer --classes, or leave mc out"
    )


def _check_progressive(settings: Settings) -> None:
    if settings.freeze is not None:
        raise TrainingError(
            f"--method pmg with --freeze {settings.freeze}: it trains on "
            "jigsaws of the images, and with --freeze the batches hold "
            "features. Pass --freeze none or leave pmg out"
        )
    if settings.image_size % _PROGRESSIVE_PIECES:
        raise TrainingError(
            f"--image-size {settings.image_size}: --method pmg cuts each side "
            f"into {_PROGRESSIVE_PIECES} parts. Take a multiple of "
            f"{_PROGRESSIVE_PIECES}"
        )
    for name, value in (
        ("pooling", settings.pooling != "average"),
        ("embedding-neck", settings.embedding_neck),
    ):
        if value:
            raise TrainingError(
                f"--{name}: --method pmg has a pooling and an embedding of "
                "its own. Leave one of them out"
            )


def without_effect(settings: Settings, backbone_is_frozen: bool) -> str | None:
    """Why a method trains as another one, or None if it does not.

    Args:
        settings: Those of the run, whose method can be trained.
        backbone_is_frozen: Whether no layer of the backbone is trained.

    Returns:
        A sentence with the remedy.

    Raises:
        TrainingError: If nothing at all is left to train.
    """
    method = settings.method
    if not backbone_is_frozen:
        return None
    if method == "mc":
        return (
            f"--method mc with --freeze {settings.freeze}: mutual-channel "
            "loss trains the backbone's channels, which are all frozen, so "
            "that it trains as softmax does. Pass --freeze none or an earlier "
            "layer, or leave mc out"
        )
    if settings.embedding_size:
        return None
    if method == "center":
        return (
            f"--method center with --freeze {settings.freeze}: center loss "
            "trains the embedding, which is frozen, so that it trains as "
            "softmax does. Pass --embedding-size 256, an earlier layer to "
            "--freeze, or leave center out"
        )
    if method in ON_PAIRS:
        raise TrainingError(
            f"--method {method} with --freeze {settings.freeze}: it trains the "
            "embedding alone, which is frozen. Pass --embedding-size 256 or "
            "an earlier layer to --freeze"
        )
    return None

"""From a feature map to scores: what the methods differ in."""

import argparse
import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import keras

import keras_finegrain
from birds_lib.errors import RunError
from keras_finegrain import losses

# Weights that start at random learn at their own rate.
HEAD_WEIGHTS = "^(head|embedding)/"

# The papers' scale of 64 is made for thousands of classes. Ours.
_SCALE = 32.0
# The loss of each method on the similarities of a cosine head.
ON_SIMILARITIES: dict[str, Callable[..., keras.losses.Loss]] = {
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
}
# FaceNet's margin and distance, on embeddings of unit length.
_FACENET = {"margin": 0.2, "distance_metric": "squared-L2"}
# The loss of each method on the embeddings of a batch.
ON_PAIRS: dict[str, Callable[..., keras.losses.Loss]] = {
    "triplet": functools.partial(losses.TripletSemiHardLoss, **_FACENET),
    "triplet_hard": functools.partial(losses.TripletHardLoss, **_FACENET),
    "triplet_soft": functools.partial(losses.TripletHardLoss, soft=True),
    "triplet_all": functools.partial(losses.TripletAllLoss, **_FACENET),
    "contrastive": losses.ContrastiveLoss,
    "multi_similarity": losses.MultiSimilarityLoss,
    "n_pairs": losses.NPairsLoss,
}
_SOFT_TRIPLE = ("soft_triple", "hard_triple")
# The weight of the embedding's squared length, which keeps it finite. Ours.
_N_PAIRS_LENGTH = 0.02


class Head(NamedTuple):
    """The end of a model.

    Attributes:
        embedding: Symbolic tensor `(batch, dim)` that is compared.
        scores: Symbolic tensor `(batch, num_classes)`; the highest one wins.
        trained: What the loss is given: the scores or, of a method on pairs,
            the embedding.
        loss: What it is trained with.
    """

    embedding: Any
    scores: Any
    trained: Any
    loss: keras.losses.Loss


def build_head(
    method: str,
    feature_map: Any,
    num_classes: int,
    options: argparse.Namespace,
) -> Head:
    """Puts a method's layers on a feature map.

    Args:
        method: A name of `arguments.METHODS`.
        feature_map: Symbolic tensor `(batch, height, width, channels)`.
        num_classes: Number of classes.
        options: The command line.

    Returns:
        The `Head`. The pooling and the embedding are the same for all.
    """
    if method == "mc":
        feature_map = keras_finegrain.MCLoss(
            num_classes,
            loss_weight=options.mc_weight,
            diversity_weight=options.mc_diversity_weight,
            name="mc_loss",
        )(feature_map)
    embedding = keras.layers.GlobalAveragePooling2D(
        name="pooling", dtype="float32"
    )(feature_map)
    if options.embedding_size:
        embedding = keras.layers.Dense(
            options.embedding_size, name="embedding"
        )(embedding)
    if method == "center":
        embedding = keras_finegrain.CenterLoss(
            num_classes,
            loss_weight=options.center_weight,
            alpha=options.center_alpha,
            name="center_loss",
        )(embedding)
    loss = build_loss(method, options)
    if method in ON_PAIRS:
        compared = _compared(method)(embedding)
        # Scores for the test: the class whose mean embedding is nearest.
        head = keras_finegrain.CosineSimilarity(
            num_classes, trainable=False, name="head"
        )
        return Head(compared, head(compared), compared, loss)
    scores = _classifier(method, num_classes, options)(embedding)
    return Head(embedding, scores, scores, loss)


def build_loss(method: str, options: argparse.Namespace) -> keras.losses.Loss:
    """What a method compiles, with the arguments of the command line.

    Raises:
        RunError: If `--loss-args` names or says what the loss does not take.
    """
    make = (ON_SIMILARITIES | ON_PAIRS).get(method)
    if method in _SOFT_TRIPLE:
        make = functools.partial(
            losses.SoftTripleLoss,
            scale=options.soft_triple_scale,
            margin=options.soft_triple_margin,
        )
    elif method == "cosine":
        make = losses.CosineLoss
    elif make is None:
        make = functools.partial(
            keras.losses.SparseCategoricalCrossentropy, from_logits=True
        )
    arguments = dict(options.loss_args)
    known = [
        name
        for name in inspect.signature(make).parameters
        if name not in ("name", "kwargs")
    ]
    unknown = [name for name in arguments if name not in known]
    if unknown:
        raise RunError(
            f"--loss-args {unknown[0]}: the loss of --method {method} takes "
            f"{', '.join(known) or 'no arguments'}"
        )
    try:
        return make(**arguments)
    except ValueError as error:
        raise RunError(f"--loss-args: {error}") from error


def _classifier(
    method: str, num_classes: int, options: argparse.Namespace
) -> keras.layers.Layer:
    """The layer from embeddings to scores."""
    if method in _SOFT_TRIPLE:
        return keras_finegrain.SoftTriple(
            num_classes,
            centers_per_class=options.soft_triple_centers,
            gamma=options.soft_triple_gamma,
            tau=options.soft_triple_tau,
            pooling="soft" if method == "soft_triple" else "max",
            name="head",
        )
    if method in ON_SIMILARITIES:
        sub_centers = method == "subcenter_arcface"
        return keras_finegrain.CosineSimilarity(
            num_classes,
            centers_per_class=options.sub_centers if sub_centers else 1,
            name="head",
        )
    # Scores in float32: cross-entropy of half-precision logits loses digits.
    return keras.layers.Dense(num_classes, dtype="float32", name="head")


def _compared(method: str) -> keras.layers.Layer:
    """What makes the embedding that a loss on pairs compares."""
    if method == "n_pairs":
        return keras.layers.ActivityRegularization(l2=_N_PAIRS_LENGTH)
    return keras.layers.UnitNormalization()


def check_channels(
    methods: list[str], channels: int, num_classes: int, backbone: str
) -> None:
    """Raises `RunError` if MCLoss has fewer channels than classes."""
    if "mc" in methods and channels < num_classes:
        raise RunError(
            f"--method mc: every class needs a channel of its own, and "
            f"--backbone {backbone} has {channels} for {num_classes} classes. "
            "Take a wider backbone, fewer --classes, or leave mc out"
        )


def balanced_batch(
    method: str, options: argparse.Namespace, num_classes: int
) -> tuple[int, int] | None:
    """How many classes a batch holds, and images of each; None for any."""
    if method not in ON_PAIRS:
        return None
    # An N-pair is an anchor and its positive: more would not be used.
    images = 2 if method == "n_pairs" else options.images_per_class
    return min(options.batch_size // images, num_classes), images


def check_losses(
    methods: list[str],
    options: argparse.Namespace,
    num_classes: int,
    replicas: int,
) -> None:
    """Raises `RunError` for what a method cannot be trained with."""
    for method in methods:
        build_loss(method, options)
        balanced = balanced_batch(method, options, num_classes)
        if balanced is None:
            continue
        in_batch, per_class = balanced
        if in_batch < 2:
            raise RunError(
                f"--batch-size {options.batch_size}: --method {method} needs "
                f"two classes with {per_class} images in a batch; take a "
                "larger one or fewer --images-per-class"
            )
        size = in_batch * per_class
        if size % replicas and keras.backend.backend() == "jax":
            raise RunError(
                f"--method {method}: {in_batch} classes with {per_class} "
                f"images make a batch of {size}, which must divide by the "
                f"{replicas} devices on JAX"
            )

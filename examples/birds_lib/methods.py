"""From a feature map to scores: what the methods differ in."""

import argparse
from typing import Any, NamedTuple

import keras

import keras_finegrain
from birds_lib.errors import RunError

# Weights that start at random learn at their own rate.
HEAD_WEIGHTS = "^(head|embedding)/"


class Head(NamedTuple):
    """The end of a model.

    Attributes:
        embedding: Symbolic tensor `(batch, dim)` that is compared.
        scores: Symbolic tensor `(batch, num_classes)`; the highest one wins.
        loss: What the scores are trained with.
    """

    embedding: Any
    scores: Any
    loss: keras.losses.Loss


def build_head(
    method: str,
    feature_map: Any,
    num_classes: int,
    options: argparse.Namespace,
) -> Head:
    """Puts a method's layers on a feature map.

    Args:
        method: `"softmax"`, `"center"`, `"mc"` or `"soft_triple"`.
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
    if method == "soft_triple":
        scores = keras_finegrain.SoftTriple(
            num_classes,
            centers_per_class=options.soft_triple_centers,
            gamma=options.soft_triple_gamma,
            tau=options.soft_triple_tau,
            name="head",
        )(embedding)
        loss = keras_finegrain.losses.SoftTripleLoss(
            scale=options.soft_triple_scale, margin=options.soft_triple_margin
        )
        return Head(embedding, scores, loss)
    # Scores in float32: cross-entropy of half-precision logits loses digits.
    scores = keras.layers.Dense(num_classes, dtype="float32", name="head")(
        embedding
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return Head(embedding, scores, loss)


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

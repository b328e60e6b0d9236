"""First and second derivatives against central differences, in float64."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_finegrain import layers, losses, regularizers
from tests.gradients import (
    gradient_and_slope,
    layer_losses,
    value_and_gradients,
)
from tests.losses.numbers import mean_of

DRAW = np.random.default_rng(3)
Y = np.array([0, 1, 2, 0, 1, 2, 0])
SCORES = DRAW.uniform(-0.9, 0.9, (7, 3))
EMBEDDINGS = DRAW.normal(size=(7, 4))
CENTERS = DRAW.normal(size=(3, 2, 4))
TABLE = DRAW.normal(size=(3, 4))
MAPS = DRAW.normal(size=(7, 2, 2, 7))
SOFT = DRAW.dirichlet(np.ones(3), 7)


def of_scores(made, labels=Y, **arguments):
    def build():
        loss = made(reduction="none", dtype="float64", **arguments)
        return (lambda scores: mean_of(loss, labels, scores)), [SCORES]

    return build


def of_embeddings(made, **arguments):
    def build():
        loss = made(reduction="none", dtype="float64", **arguments)
        return (lambda embeddings: mean_of(loss, Y, embeddings)), [EMBEDDINGS]

    return build


def of_center_loss(**arguments):
    def build():
        layer = layers.CenterLoss(
            3, loss_weight=1.0, dtype="float64", **arguments
        )
        layer.build((None, 4))
        if layer.trainable_variables:
            return (
                lambda features, centers: layer_losses(
                    layer, [centers], features, Y
                )[1],
                [EMBEDDINGS, TABLE],
            )
        layer.centers.assign(TABLE)
        return (
            lambda features: layer_losses(layer, [], features, Y)[1],
            [EMBEDDINGS],
        )

    return build


def of_mc_loss(**arguments):
    def build():
        layer = layers.MCLoss(3, loss_weight=1.0, dtype="float64", **arguments)
        layer.build(MAPS.shape)
        return (lambda maps: layer_losses(layer, [], maps, Y)[1]), [MAPS]

    return build


def of_head(made, **arguments):
    """A weighted sum of the similarities, and what the head adds."""

    def build():
        layer = made(3, centers_per_class=2, dtype="float64", **arguments)
        layer.build((None, 4))

        def total(embeddings, centers):
            scores, added = layer_losses(layer, [centers], embeddings)
            return ops.sum(ops.multiply(scores, SCORES)) + added

        return total, [EMBEDDINGS, CENTERS]

    return build


def of_regularizer():
    return regularizers.CenterMerging(1.0), [CENTERS]


CASES = {
    "arc_face": of_scores(losses.ArcFaceLoss, scale=4.0),
    "center_contrastive": of_scores(losses.CenterContrastiveLoss),
    "combined_margin": of_scores(losses.CombinedMarginLoss, scale=4.0),
    "cos_face": of_scores(losses.CosFaceLoss, scale=4.0),
    "cosine": of_scores(losses.CosineLoss),
    "coco": of_scores(losses.COCOLoss, num_classes=3),
    "logit_adjusted": of_scores(
        losses.LogitAdjustedLoss, class_counts=[4, 2, 1]
    ),
    "logit_adjusted_soft": of_scores(
        losses.LogitAdjustedLoss, SOFT, class_counts=[4, 2, 1]
    ),
    "gaussian_mixture": of_scores(losses.LargeMarginGaussianMixtureLoss),
    "norm_face": of_scores(losses.NormFaceLoss, scale=4.0),
    "norm_face_soft": of_scores(losses.NormFaceLoss, SOFT, scale=4.0),
    "proxy_anchor": of_scores(losses.ProxyAnchorLoss, scale=4.0),
    "proxy_nca": of_scores(losses.ProxyNCALoss),
    "proxy_nca_plus_plus": of_scores(losses.ProxyNCAPlusPlusLoss),
    "soft_triple_loss": of_scores(losses.SoftTripleLoss, scale=4.0),
    "sphere_face": of_scores(losses.SphereFaceLoss, scale=4.0),
    "contrastive": of_embeddings(losses.ContrastiveLoss, margin=3.0),
    "multi_similarity": of_embeddings(losses.MultiSimilarityLoss, beta=4.0),
    "sup_con": of_embeddings(losses.SupConLoss, temperature=0.5),
    "n_pairs": of_embeddings(losses.NPairsLoss),
    "triplet_all": of_embeddings(losses.TripletAllLoss),
    "triplet_all_angular": of_embeddings(
        losses.TripletAllLoss, distance_metric="angular"
    ),
    "triplet_hard": of_embeddings(losses.TripletHardLoss),
    "triplet_hard_soft": of_embeddings(losses.TripletHardLoss, soft=True),
    "triplet_semi_hard": of_embeddings(losses.TripletSemiHardLoss),
    "triplet_semi_hard_squared": of_embeddings(
        losses.TripletSemiHardLoss, distance_metric="squared-L2"
    ),
    "center_loss": of_center_loss(),
    "center_loss_normalized": of_center_loss(normalize=True),
    "center_loss_gradient": of_center_loss(update="gradient"),
    "center_loss_class_mean": of_center_loss(reduction="class_mean"),
    "mc_loss": of_mc_loss(drop=False),
    "mc_loss_groups": of_mc_loss(drop=False, channels_per_class=[1, 2, 4]),
    "soft_triple": of_head(layers.SoftTriple),
    "soft_triple_max": of_head(layers.SoftTriple, pooling="max"),
    "cosine_similarity": of_head(layers.CosineSimilarity),
    "center_merging": of_regularizer,
}


def of_one_vector(function, arrays):
    """The same function of all its arrays in one, and that point."""
    ends = np.cumsum([array.size for array in arrays])

    def of_vector(vector):
        parts = [
            ops.reshape(vector[end - array.size : end], array.shape)
            for end, array in zip(ends, arrays, strict=True)
        ]
        return function(*parts)

    return of_vector, np.concatenate([array.ravel() for array in arrays])


@pytest.mark.parametrize("case", CASES)
def test_both_derivatives_are_those_of_the_value(float64, case):
    function, point = of_one_vector(*CASES[case]())
    direction = np.random.default_rng(5).normal(size=point.shape)
    step, tolerance = 1e-5, 1e-6
    # Its angles are float32 there: numbers.ANGLE_TOLERANCE.
    if case == "combined_margin" and keras.backend.backend() != "tensorflow":
        step, tolerance = 1e-3, 2e-3
    derive = gradient_and_slope(function, direction)
    first, second = derive(point)
    (after, (plus,)), (before, (minus,)) = (
        value_and_gradients(function, [point + sign * step * direction])
        for sign in (1, -1)
    )

    slope = first @ direction
    assert slope != 0.0
    np.testing.assert_allclose(
        slope, (after - before) / (2 * step), rtol=tolerance, atol=tolerance
    )
    expected = (plus - minus) / (2 * step)
    bound = tolerance * max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(second, expected, rtol=0, atol=bound)

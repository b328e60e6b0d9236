"""Values and gradients equal those of PyTorch Metric Learning and of papers."""

import math

import numpy as np
import pytest
from pytorch_metric_learning import distances as peer_distances
from pytorch_metric_learning import losses as peers
from pytorch_metric_learning import miners

from keras_finegrain import losses
from tests.gradients import value_and_gradients
from tests.losses.numbers import (
    assert_same,
    classified,
    head_value_and_gradients,
    mean_of,
    peer_value_and_gradients,
)

DTYPES = ["float64", "float32"]


def angle_in_degrees(margin):
    return math.degrees(margin)


# Ours, and a function that makes theirs for classes and a dimension.
CLASSIFIERS = {
    f"{name}-{scale:g}-{margin:g}": (
        ours(scale=scale, margin=margin),
        lambda classes, dim, peer=peer, scale=scale, margin=margin: peer(
            num_classes=classes,
            embedding_size=dim,
            scale=scale,
            margin=angle_in_degrees(margin)
            if peer is peers.ArcFaceLoss
            else (margin),
        ),
    )
    for name, ours, peer, scales, margins in (
        ("cos", losses.CosFaceLoss, peers.CosFaceLoss, (1, 64), (0, 0.35)),
        ("arc", losses.ArcFaceLoss, peers.ArcFaceLoss, (1, 64), (0, 0.5, 1.5)),
    )
    for scale in scales
    for margin in margins
}
CLASSIFIERS |= {
    f"norm-{scale:g}": (
        losses.NormFaceLoss(scale=scale),
        lambda classes, dim, scale=scale: peers.NormalizedSoftmaxLoss(
            classes, dim, temperature=1 / scale
        ),
    )
    for scale in (1, 20)
}
CLASSIFIERS |= {
    f"nca_plus_plus-{scale:g}": (
        losses.ProxyNCAPlusPlusLoss(temperature=1 / scale),
        lambda classes, dim, scale=scale: peers.ProxyNCALoss(
            classes, dim, softmax_scale=scale
        ),
    )
    for scale in (1, 9)
}
CLASSIFIERS |= {
    f"proxy_anchor-{scale:g}-{margin:g}": (
        losses.ProxyAnchorLoss(scale, margin),
        lambda classes, dim, scale=scale, margin=margin: peers.ProxyAnchorLoss(
            classes, dim, margin=margin, alpha=scale
        ),
    )
    for scale, margin in ((32, 0.1), (1, 0))
}


@pytest.mark.nightly_on_jax
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((1, 2, 3), "float64"),
        ((16, 30, 8), "float64"),
        ((16, 30, 8), "float32"),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_behind_the_head_it_equals_the_peers_loss(name, shape, dtype):
    ours, make_peer = CLASSIFIERS[name]
    ours = type(ours).from_config(
        {**ours.get_config(), "reduction": "none", "dtype": dtype}
    )
    batch, classes, dim = shape
    embeddings, centers, labels = classified(batch, classes, dim)
    peer = make_peer(classes, dim).double()
    transposed = hasattr(peer, "W")
    weights = centers[:, 0].T if transposed else centers[:, 0]
    value, (of_embeddings, of_weights) = peer_value_and_gradients(
        peer,
        (peer.W if transposed else peer.proxies, weights),
        embeddings,
        labels,
    )
    of_weights = of_weights.T if transposed else of_weights
    assert_same(
        head_value_and_gradients(ours, embeddings, centers, labels, dtype),
        (value, [of_embeddings, of_weights[:, None]]),
        dtype,
    )


@pytest.mark.parametrize("margin", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_sphereface_equals_the_peers_on_unit_length(float64, margin, scale):
    """The peer multiplies each sample by its own length."""
    embeddings, centers, labels = classified(12, 5, 6)
    embeddings /= np.linalg.norm(embeddings, axis=-1, keepdims=True)
    peer = peers.SphereFaceLoss(5, 6, margin=margin, scale=scale).double()
    value, (_, of_weights) = peer_value_and_gradients(
        peer, (peer.W, centers[:, 0].T), embeddings, labels
    )
    value_ours, (_, of_centers) = head_value_and_gradients(
        losses.SphereFaceLoss(scale, margin, reduction="none"),
        embeddings,
        centers,
        labels,
        "float64",
    )
    assert_same(
        (value_ours, [of_centers]), (value, [of_weights.T[:, None]]), "float64"
    )


@pytest.mark.parametrize("sub_centers", [1, 3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_arcface_on_several_centers_is_the_peers_sub_center(sub_centers, dtype):
    embeddings, centers, labels = classified(12, 5, 6, sub_centers)
    peer = peers.SubCenterArcFaceLoss(
        num_classes=5,
        embedding_size=6,
        sub_centers=sub_centers,
        margin=math.degrees(0.5),
    ).double()
    value, (of_embeddings, of_weights) = peer_value_and_gradients(
        peer, (peer.W, centers.reshape(-1, 6).T), embeddings, labels
    )
    assert_same(
        head_value_and_gradients(
            losses.ArcFaceLoss(64, 0.5, reduction="none", dtype=dtype),
            embeddings,
            centers,
            labels,
            dtype,
        ),
        (value, [of_embeddings, of_weights.T.reshape(centers.shape)]),
        dtype,
    )


@pytest.mark.parametrize("sub_centers", [1, 2, 5])
def test_soft_triple_equals_the_peers_beside_its_gamma(float64, sub_centers):
    embeddings, centers, labels = classified(12, 5, 6, sub_centers)
    peer = peers.SoftTripleLoss(
        5, 6, centers_per_class=sub_centers, la=20, gamma=0.1, margin=0.01
    ).double()
    value, (of_embeddings, of_weights) = peer_value_and_gradients(
        peer, (peer.fc, centers.reshape(-1, 6).T), embeddings, labels
    )
    assert_same(
        head_value_and_gradients(
            losses.SoftTripleLoss(20, 0.01, reduction="none"),
            embeddings,
            centers,
            labels,
            "float64",
            pooling="soft",
            gamma=0.1,
        ),
        (value, [of_embeddings, of_weights.T.reshape(centers.shape)]),
        "float64",
    )


@pytest.mark.parametrize("case", range(2))
@pytest.mark.parametrize(
    ("field", "loss"),
    [
        ("normface_20", losses.NormFaceLoss(20)),
        ("cosface_64_035", losses.CosFaceLoss(64, 0.35)),
        ("arcface_64_05", losses.ArcFaceLoss(64, 0.5)),
    ],
    ids=["normface", "cosface", "arcface"],
)
def test_value_equals_the_definition(golden, float64, case, field, loss):
    data = golden["cosine"][case]
    value, _ = head_value_and_gradients(
        type(loss).from_config(
            {**loss.get_config(), "reduction": "none", "dtype": "float64"}
        ),
        data["features"],
        data["weights"][:, None],
        data["labels"],
        "float64",
    )
    np.testing.assert_allclose(value, data[field], rtol=1e-9)


# Unscaled: ours take embeddings as they are where the paper does.
L2 = peer_distances.LpDistance(normalize_embeddings=False)
PAIRS = {
    "contrastive": (
        losses.ContrastiveLoss(1.0, 0.0, 1.0),
        lambda: peers.ContrastiveLoss(),
    ),
    "contrastive-margins": (
        losses.ContrastiveLoss(1.4, 0.6, 1.0),
        lambda: peers.ContrastiveLoss(pos_margin=0.6, neg_margin=1.4),
    ),
    "circle": (losses.CircleLoss(), lambda: peers.CircleLoss()),
    "circle-wide": (
        losses.CircleLoss(-0.1, 3.0),
        lambda: peers.CircleLoss(-0.1, 3.0),
    ),
    "sup_con": (losses.SupConLoss(), lambda: peers.SupConLoss()),
    "sup_con-warm": (losses.SupConLoss(1.0), lambda: peers.SupConLoss(1.0)),
    "multi_similarity": (
        losses.MultiSimilarityLoss(epsilon=None),
        lambda: peers.MultiSimilarityLoss(),
    ),
    "multi_similarity-mined": (
        losses.MultiSimilarityLoss(2.0, 40.0, 0.3, 0.1),
        lambda: _with_miner(
            peers.MultiSimilarityLoss(2, 40, 0.3),
            miners.MultiSimilarityMiner(0.1),
        ),
    ),
    "n_pairs": (
        losses.NPairsLoss(),
        lambda: peers.NPairsLoss(
            distance=peer_distances.DotProductSimilarity(
                normalize_embeddings=False
            )
        ),
    ),
    "triplet_all": (
        losses.TripletAllLoss(0.2),
        lambda: peers.TripletMarginLoss(0.2, distance=L2),
    ),
    "triplet_all-wide": (
        losses.TripletAllLoss(1.5),
        lambda: peers.TripletMarginLoss(1.5, distance=L2),
    ),
}


def _with_miner(loss, miner):
    return lambda embeddings, labels: loss(
        embeddings, labels, miner(embeddings, labels)
    )


@pytest.mark.nightly_on_jax
@pytest.mark.parametrize(
    ("batch", "classes", "dim", "dtype"),
    [
        (4, 2, 2, "float64"),
        (16, 12, 8, "float64"),
        (33, 5, 16, "float64"),
        (33, 5, 16, "float32"),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", PAIRS)
def test_over_pairs_it_equals_the_peers_loss(name, batch, classes, dim, dtype):
    ours, make_peer = PAIRS[name]
    ours = type(ours).from_config(
        {**ours.get_config(), "reduction": "none", "dtype": dtype}
    )
    embeddings, _, labels = classified(batch, classes, dim, seed=batch)
    expected = peer_value_and_gradients(make_peer(), None, embeddings, labels)
    # A grid over batches whose losses are all 0 would show nothing.
    assert expected[0] > 0
    assert_same(
        value_and_gradients(
            lambda x: mean_of(ours, labels, x), [embeddings.astype(dtype)]
        ),
        expected,
        dtype,
    )

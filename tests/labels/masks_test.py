"""Masked samples and positions count for nothing."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_finegrain
from keras_finegrain import losses

GENERATOR = np.random.default_rng(0)
SEEN = np.array([[1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0]], bool)
FEATURES = GENERATOR.normal(size=(3, 4, 5)).astype("float32")
FEATURES[~SEEN] = 0.0
# (Padding of labels, which no layer is told to ignore.)
LABELS = np.where(SEEN, GENERATOR.integers(0, 2, (3, 4)), -1)


def center_loss(features, labels, **arguments):
    layer = keras_finegrain.CenterLoss(
        2, loss_weight=1.0, centers_initializer="ones"
    )
    layer(features, labels, training=True, **arguments)
    return [
        float(layer.losses[0]),
        *ops.convert_to_numpy(layer.centers).ravel().tolist(),
    ]


def test_padded_positions_pull_no_center():
    expected = center_loss(FEATURES[SEEN], LABELS[SEEN])
    masked = keras.layers.Masking()(FEATURES)
    np.testing.assert_allclose(center_loss(masked, LABELS), expected, rtol=1e-6)
    np.testing.assert_allclose(
        center_loss(FEATURES, LABELS, mask=SEEN), expected, rtol=1e-6
    )


def test_weights_of_padded_positions_count_for_nothing():
    weights = GENERATOR.uniform(size=(3, 4)).astype("float32")
    np.testing.assert_allclose(
        center_loss(FEATURES, LABELS, sample_weight=weights, mask=SEEN),
        center_loss(FEATURES[SEEN], LABELS[SEEN], sample_weight=weights[SEEN]),
        rtol=1e-6,
    )


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_masked_positions_of_a_map_count_for_nothing(data_format):
    arguments = {"loss_weight": 1.0, "drop": False, "data_format": data_format}
    labels = np.array([0, 1, 1])

    def value(features, labels, mask):
        if data_format == "channels_first":
            features = np.moveaxis(features, -1, 1)
        layer = keras_finegrain.MCLoss(2, **arguments)
        layer(features, labels, mask=mask)
        return float(layer.losses[0])

    each = [
        value(FEATURES[i : i + 1, SEEN[i]], labels[i : i + 1], None)
        for i in range(3)
    ]
    assert value(FEATURES, labels, SEEN) == pytest.approx(
        np.mean(each), rel=1e-5
    )
    # A sample without any position is no sample.
    seen = SEEN & np.array([True, False, True])[:, None]
    assert value(FEATURES, labels, seen) == pytest.approx(
        (each[0] + each[2]) / 2, rel=1e-5
    )


def test_fit_behind_an_embedding_with_a_mask_equals_the_unpadded_one():
    words = np.where(SEEN, GENERATOR.integers(1, 7, (3, 4)), 0)
    labels = np.maximum(LABELS, 0)
    tables = []
    for x, y in (
        (words, labels),
        (words[SEEN][:, None], labels[SEEN][:, None]),
    ):
        inputs = keras.Input(x.shape[1:], dtype="int32")
        given = keras.Input(y.shape[1:], dtype="int32")
        layer = keras_finegrain.CenterLoss(2, loss_weight=1.0, name="center")
        embedding = keras.layers.Embedding(
            7, 5, mask_zero=True, embeddings_initializer="ones"
        )
        features = layer(embedding(inputs), given)
        outputs = keras.layers.Dense(2, kernel_initializer="ones")(features)
        model = keras.Model([inputs, given], outputs)
        model.compile(
            keras.optimizers.SGD(0.1),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        model.fit([x, y], y, batch_size=len(x), epochs=2, verbose=0)
        tables.append([ops.convert_to_numpy(w) for w in model.weights])
    for padded, expected in zip(*tables, strict=True):
        np.testing.assert_allclose(padded, expected, atol=1e-6)


@pytest.mark.parametrize("one_hot", [False, True])
def test_a_loss_passes_over_masked_rows_whatever_their_label(one_hot):
    rows = np.array([[1.0, 0.5, 0.2], [0.0, 0.0, 0.0], [-1.0, 0.3, 0.1]])
    labels, kept = np.array([1, 7, 0]), np.array([0, 2])
    if one_hot:
        labels = np.eye(8, dtype="float32")[labels][:, :3]
    head = keras_finegrain.CosineSimilarity(3, centers_initializer="ones")
    loss = losses.ArcFaceLoss()
    masked = head(keras.layers.Masking()(rows.astype("float32")))
    unmasked = head(rows[kept].astype("float32"))
    assert float(loss(labels, masked)) == pytest.approx(
        float(loss(labels[kept], unmasked)), rel=1e-6
    )


def test_a_pair_loss_refuses_a_mask():
    masked = keras.layers.Masking()(FEATURES[:, 0])
    for loss in (losses.TripletHardLoss(), losses.ProxyAnchorLoss()):
        with pytest.raises(ValueError, match="a mask has no meaning"):
            loss(np.array([0, 1, 1]), masked)


def test_a_mask_of_another_shape_is_named():
    with pytest.raises(ValueError, match=r"mask must have the shape \(3, 4\)"):
        center_loss(FEATURES, LABELS, mask=SEEN[:, :2])

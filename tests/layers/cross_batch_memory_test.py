"""The cross-batch memory: its values, what it keeps, and what it refuses."""

import keras
import numpy as np
import pytest
import torch
from pytorch_metric_learning import distances as peer_distances
from pytorch_metric_learning import losses as peers

import keras_finegrain
from keras_finegrain import layers, losses
from tests.gradients import layer_losses, value_and_gradients

L2 = peer_distances.LpDistance(normalize_embeddings=False)
# Ours, and theirs.
PAIRS = {
    "contrastive": (
        losses.ContrastiveLoss(exponent=1.0),
        peers.ContrastiveLoss(),
    ),
    "circle": (losses.CircleLoss(scale=8.0), peers.CircleLoss(gamma=8)),
    "sup_con": (losses.SupConLoss(), peers.SupConLoss()),
    "multi_similarity": (
        losses.MultiSimilarityLoss(epsilon=None),
        peers.MultiSimilarityLoss(),
    ),
    "triplet_all": (
        losses.TripletAllLoss(0.2),
        peers.TripletMarginLoss(0.2, distance=L2),
    ),
}


def batches(count, size=4, classes=3, dim=5, seed=0):
    generator = np.random.default_rng(seed)
    return [
        (
            generator.normal(size=(size, dim)),
            generator.integers(0, classes, size),
        )
        for _ in range(count)
    ]


def memory_layer(loss=None, size=10, **arguments):
    layer = layers.CrossBatchMemory(
        loss or losses.TripletAllLoss(), size, **arguments
    )
    layer.build((None, 5))
    return layer


def loss_of(layer, embeddings, labels, *weights):
    """The loss of a batch that is not remembered."""
    _, loss = layer_losses(layer, [], embeddings, labels, *weights)
    return float(loss)


def remember(layer, embeddings, labels):
    layer(
        keras.ops.convert_to_tensor(embeddings),
        keras.ops.convert_to_tensor(labels),
        training=True,
    )


@pytest.mark.nightly_on_jax
@pytest.mark.parametrize("name", PAIRS)
def test_several_steps_equal_the_peers_beyond_the_end_of_the_memory(
    float64, name
):
    ours, peer = PAIRS[name]
    layer = memory_layer(ours, dtype="float64")
    memory = peers.CrossBatchMemory(peer, 5, memory_size=10)
    found = []
    for embeddings, labels in batches(6):
        theirs = torch.tensor(embeddings, requires_grad=True)
        expected = memory(theirs, torch.tensor(labels))
        expected.backward()
        value, (gradient,) = value_and_gradients(
            lambda x, y=labels: layer_losses(layer, [], x, y)[1], [embeddings]
        )
        np.testing.assert_allclose(value, expected.item(), rtol=1e-9, atol=1e-9)
        # (None reaches the memory: theirs is a buffer.)
        np.testing.assert_allclose(
            gradient, theirs.grad.numpy(), rtol=1e-8, atol=1e-9
        )
        found.append(value)
        remember(layer, embeddings, labels)
    assert np.count_nonzero(found) > 3


def hardest(distances, positive, negative, margin):
    each = []
    for row, same, other in zip(distances, positive, negative, strict=True):
        difference = 0.0
        if other.any():
            difference -= row[other].min()
            difference += row[same].max() if same.any() else 0.0
        each.append(max(0.0, difference + margin))
    return np.mean(each)


def semi_hard(distances, positive, negative, margin):
    terms = []
    for row, same, other in zip(distances, positive, negative, strict=True):
        for to_positive in row[same]:
            further = row[other & (row > to_positive)]
            if len(further):
                to_negative = further.min()
            else:
                to_negative = row[other].max() if other.any() else 0.0
            terms.append(max(0.0, to_positive - to_negative + margin))
    return np.mean(terms) if terms else 0.0


@pytest.mark.parametrize("size", [3, 10])
@pytest.mark.parametrize(
    ("loss", "reference"),
    [
        (losses.TripletHardLoss(1.0), hardest),
        (losses.TripletSemiHardLoss(1.0), semi_hard),
    ],
    ids=["hard", "semi_hard"],
)
def test_mined_triplets_equal_the_definition_also_in_a_short_memory(
    float64, loss, reference, size
):
    layer = memory_layer(loss, size, dtype="float64")
    seen = []
    for embeddings, labels in batches(5, seed=3):
        start = sum(len(each) for _, each in seen)
        seen.append((embeddings, labels))
        kept = np.concatenate([each for each, _ in seen])[-size:]
        kept_labels = np.concatenate([each for _, each in seen])[-size:]
        number = np.arange(start + len(labels))[-size:]
        own = start + np.arange(len(labels))
        distances = np.linalg.norm(embeddings[:, None] - kept, axis=-1)
        same = labels[:, None] == kept_labels
        positive = same & (own[:, None] != number)
        assert loss_of(layer, embeddings, labels) == pytest.approx(
            reference(distances, positive, ~same, 1.0), rel=1e-9, abs=1e-12
        )
        remember(layer, embeddings, labels)


def test_what_does_not_count_is_neither_compared_nor_remembered(float64):
    plain = memory_layer(dtype="float64")
    ignoring = memory_layer(dtype="float64", ignore_class=-1)
    for embeddings, labels in batches(2):
        extended = np.concatenate([embeddings, [[np.nan] * 5]])
        extended_labels = np.append(labels, -1)
        assert loss_of(ignoring, extended, extended_labels) == pytest.approx(
            loss_of(plain, embeddings, labels), rel=1e-12
        )
        remember(plain, embeddings, labels)
        remember(ignoring, extended, extended_labels)
    kept = keras.ops.convert_to_numpy(ignoring.memory_labels)
    assert sorted(kept[kept >= 0]) == sorted(
        np.concatenate([labels for _, labels in batches(2)])
    )
    assert np.isfinite(keras.ops.convert_to_numpy(ignoring.memory)).all()


def test_weights_multiply_the_pairs_of_an_anchor(float64):
    layer = memory_layer(losses.SupConLoss(), dtype="float64")
    first, (embeddings, labels) = batches(2)
    remember(layer, *first)
    single = [
        loss_of(layer, embeddings, labels, np.eye(4)[index])
        for index in range(4)
    ]
    weights = np.array([0.0, 0.5, 1.0, 3.0])
    assert loss_of(layer, embeddings, labels, weights) == pytest.approx(
        float(np.dot(weights, single)), rel=1e-9
    )


def test_until_the_warm_up_is_over_it_is_the_loss_of_the_batch(float64):
    loss = losses.TripletAllLoss(1.0, dtype="float64")
    layer = memory_layer(loss, dtype="float64", warmup_steps=2)
    differs = []
    for embeddings, labels in batches(4):
        differs.append(
            abs(loss_of(layer, embeddings, labels) - loss(labels, embeddings))
            > 1e-9
        )
        remember(layer, embeddings, labels)
    assert [bool(each) for each in differs] == [False, False, False, True]


def model_with_memory():
    keras.utils.set_random_seed(0)
    model = keras_finegrain.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(4),
            layers.CrossBatchMemory(losses.SupConLoss(), 20, warmup_steps=1),
        ]
    )
    model.compile("sgd", losses.SupConLoss())
    return model


def test_training_goes_on_from_a_file_as_if_it_had_never_stopped(tmp_path):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(22, 6)).astype("float32")
    y = np.arange(22) % 3

    def fit(model):
        model.fit(x, y, batch_size=8, shuffle=False, verbose=0)

    model = model_with_memory()
    fit(model)
    path = tmp_path / "model.keras"
    model.save(path)
    again = keras.saving.load_model(path)
    model.predict(x, verbose=0)
    model.evaluate(x, y, verbose=0)
    fit(model)
    fit(again)
    for one, other in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other)
        )


def test_evaluate_and_predict_leave_the_memory_as_it_is():
    model = model_with_memory()
    x, y = np.eye(6, dtype="float32"), np.arange(6) % 2
    model.fit(x, y, verbose=0)
    memory = model.layers[-1]
    before = [keras.ops.convert_to_numpy(each) for each in memory.weights]
    scores = model.evaluate(x, y, verbose=0, return_dict=True)
    model.predict(x, verbose=0)
    for one, other in zip(before, memory.weights, strict=True):
        np.testing.assert_array_equal(one, keras.ops.convert_to_numpy(other))
    assert scores["memory_loss"] > 0
    memory.reset_memory()
    assert (keras.ops.convert_to_numpy(memory.memory_labels) == -1).all()


@pytest.mark.parametrize(
    "loss",
    [losses.NPairsLoss(), losses.ArcFaceLoss(), "contrastive", None],
    ids=["n_pairs", "arc_face", "text", "none"],
)
def test_a_loss_that_compares_no_pairs_is_an_error(loss):
    with pytest.raises(ValueError, match="compares each sample with all"):
        layers.CrossBatchMemory(loss)


def test_a_negative_label_is_an_error():
    layer = memory_layer()
    with pytest.raises(ValueError, match="ignore_class=-1"):
        layer(np.ones((2, 5), "float32"), np.array([0, -1]))


def test_an_embedding_that_is_not_finite_makes_the_loss_nan_and_is_not_kept():
    layer = memory_layer()
    x = np.ones((2, 5), "float32")
    x[0, 0] = np.inf
    assert np.isnan(loss_of(layer, x, np.array([0, 1])))
    remember(layer, x, np.array([0, 1]))
    labels = keras.ops.convert_to_numpy(layer.memory_labels)
    assert labels[-2:].tolist() == [-1, 1]


def test_under_mixed_precision_the_memory_is_float32():
    layer = memory_layer(dtype="mixed_bfloat16")
    assert layer.memory.dtype == "float32"
    assert np.isfinite(loss_of(layer, *batches(1)[0]))

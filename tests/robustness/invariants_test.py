"""What must not change a loss, for batches that hypothesis draws."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_finegrain import layers
from tests.robustness.calls_test import ON_PAIRS, ON_SCORES

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import Phase, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

pytestmark = pytest.mark.one_backend

BATCH, CLASSES, DIM = 8, 3, 5
# The same few batches each time: no flaky test, and no file of examples.
few = settings(
    derandomize=True,
    max_examples=4,
    deadline=None,
    database=None,
    phases=[Phase.generate],
)
LAYERS = ("center_loss", "mc_loss")
PER_SAMPLE = [loss for loss in ON_SCORES if loss.name != "proxy_anchor_loss"]
# Of both pairs of one class and of two, whatever else is drawn.
labels_of_batches = st.lists(
    st.integers(0, CLASSES - 1), min_size=BATCH - 4, max_size=BATCH - 4
).map(lambda drawn: np.array([0, 0, 1, 1, *drawn]))
seeds = st.integers(0, 10**6)
orders = st.permutations(range(BATCH)).map(np.array)


def named(losses):
    return pytest.mark.parametrize("loss", losses, ids=lambda loss: loss.name)


def in_float64(loss):
    config = {**loss.get_config(), "dtype": "float64"}
    return type(loss).from_config(config)


def scores(seed):
    draw = np.random.default_rng(seed)
    return draw.uniform(-0.95, 0.95, (BATCH, CLASSES))


def embeddings(seed):
    return np.random.default_rng(seed).normal(size=(BATCH, DIM))


def maps(seed):
    return np.random.default_rng(seed).normal(size=(BATCH, 2, 2, 2 * CLASSES))


def value(loss, labels, output):
    return float(in_float64(loss)(labels, ops.convert_to_tensor(output)))


def layer_value(
    name, labels, features, centers=None, weights=None, **arguments
):
    """The loss of a layer in evaluation; all centers at 1 unless given."""
    if name == "mc_loss":
        layer = layers.MCLoss(
            CLASSES, loss_weight=1.0, dtype="float64", **arguments
        )
    else:
        layer = layers.CenterLoss(
            CLASSES, loss_weight=1.0, dtype="float64", **arguments
        )
    features = ops.convert_to_tensor(features)
    layer.build(features.shape)
    if name == "center_loss":
        start = np.ones((CLASSES, features.shape[-1]))
        layer.centers.assign(start if centers is None else centers)
    layer(features, ops.convert_to_tensor(labels), weights)
    return float(sum(layer.losses))


def features_of(name, seed):
    return maps(seed) if name == "mc_loss" else embeddings(seed)


def assert_equal(found, expected, relative=1e-9):
    assert found == pytest.approx(expected, rel=relative, abs=1e-10)


@named(ON_SCORES)
@few
@given(labels=labels_of_batches, seed=seeds, order=orders)
def test_the_order_of_similarities_changes_nothing(loss, labels, seed, order):
    found = value(loss, labels[order], scores(seed)[order])
    assert_equal(found, value(loss, labels, scores(seed)))


# (The N-pair loss takes the first two samples of each class.)
@named([loss for loss in ON_PAIRS if loss.name != "n_pairs_loss"])
@few
@given(labels=labels_of_batches, seed=seeds, order=orders)
def test_the_order_of_embeddings_changes_nothing(loss, labels, seed, order):
    found = value(loss, labels[order], embeddings(seed)[order])
    assert_equal(found, value(loss, labels, embeddings(seed)))


@pytest.mark.parametrize("name", LAYERS)
@few
@given(labels=labels_of_batches, seed=seeds, order=orders)
def test_the_order_of_features_changes_nothing(name, labels, seed, order):
    features = features_of(name, seed)
    found = layer_value(name, labels[order], features[order])
    assert_equal(found, layer_value(name, labels, features))


@few
@given(labels=labels_of_batches, seed=seeds, order=orders)
def test_the_order_of_features_moves_the_centers_alike(labels, seed, order):
    def moved(labels, features):
        layer = layers.CenterLoss(CLASSES, dtype="float64")
        layer(ops.convert_to_tensor(features), labels, training=True)
        return ops.convert_to_numpy(layer.centers)

    features = embeddings(seed)
    np.testing.assert_allclose(
        moved(labels[order], features[order]),
        moved(labels, features),
        rtol=1e-9,
        atol=1e-12,
    )


classes = st.permutations(range(CLASSES)).map(np.array)


# (One knows the number of samples of each class.)
@named([loss for loss in ON_SCORES if loss.name != "logit_adjusted_loss"])
@few
@given(labels=labels_of_batches, seed=seeds, names=classes)
def test_other_numbers_of_classes_change_no_similarity_loss(
    loss, labels, seed, names
):
    found = value(loss, names[labels], scores(seed)[:, np.argsort(names)])
    assert_equal(found, value(loss, labels, scores(seed)))


@named(ON_PAIRS)
@few
@given(
    labels=labels_of_batches,
    seed=seeds,
    names=st.lists(
        st.integers(0, 2**31 - 1),
        min_size=CLASSES,
        max_size=CLASSES,
        unique=True,
    ).map(np.array),
)
def test_other_numbers_of_classes_change_no_pair_loss(
    loss, labels, seed, names
):
    found = value(loss, names[labels], embeddings(seed))
    assert_equal(found, value(loss, labels, embeddings(seed)))


@pytest.mark.parametrize("name", LAYERS)
@few
@given(labels=labels_of_batches, seed=seeds, names=classes)
def test_other_numbers_of_classes_change_no_layer(name, labels, seed, names):
    features = features_of(name, seed)
    other = features
    if name == "mc_loss":
        groups = np.argsort(names)
        other = features.reshape(BATCH, 2, 2, CLASSES, 2)[:, :, :, groups]
        other = other.reshape(features.shape)
    found = layer_value(name, names[labels], other)
    assert_equal(found, layer_value(name, labels, features))


@named(ON_PAIRS)
@few
@given(labels=labels_of_batches, seed=seeds)
def test_rotated_embeddings_have_the_same_loss(loss, labels, seed):
    draw = np.random.default_rng(seed + 1)
    rotation = np.linalg.qr(draw.normal(size=(DIM, DIM)))[0]
    found = value(loss, labels, embeddings(seed) @ rotation)
    assert_equal(found, value(loss, labels, embeddings(seed)), 1e-7)


@few
@given(labels=labels_of_batches, seed=seeds)
def test_rotated_features_have_the_same_center_loss(labels, seed):
    draw = np.random.default_rng(seed + 1)
    rotation = np.linalg.qr(draw.normal(size=(DIM, DIM)))[0]
    centers = draw.normal(size=(CLASSES, DIM))
    found = layer_value(
        "center_loss", labels, embeddings(seed) @ rotation, centers @ rotation
    )
    expected = layer_value("center_loss", labels, embeddings(seed), centers)
    assert_equal(found, expected)


@named(PER_SAMPLE)
@few
@given(labels=labels_of_batches, seed=seeds)
def test_every_sample_twice_has_the_same_mean(loss, labels, seed):
    found = value(loss, np.tile(labels, 2), np.tile(scores(seed), (2, 1)))
    assert_equal(found, value(loss, labels, scores(seed)))


@pytest.mark.parametrize("name", LAYERS)
@few
@given(labels=labels_of_batches, seed=seeds)
def test_every_sample_twice_has_the_same_layer_loss(name, labels, seed):
    features = features_of(name, seed)
    found = layer_value(
        name, np.tile(labels, 2), np.concatenate([features, features])
    )
    assert_equal(found, layer_value(name, labels, features))


def finite_or_refused(loss, labels, output):
    refused = False
    try:
        found = value(loss, labels, output)
    except ValueError as error:
        refused = type(loss).__name__ in str(error)
    assert refused or np.isfinite(found)


@named(ON_SCORES)
@few
@given(label=st.integers(0, CLASSES - 1), seed=seeds)
def test_one_sample_and_one_class_have_a_finite_loss(loss, label, seed):
    assert np.isfinite(value(loss, np.array([label]), scores(seed)[:1]))
    labels = np.full(BATCH, label)
    assert np.isfinite(value(loss, labels, scores(seed)))


@named(ON_PAIRS)
@few
@given(label=st.integers(0, 10**6), seed=seeds)
def test_batches_with_one_sample_or_class_are_finite_or_refused(
    loss, label, seed
):
    rows = embeddings(seed)
    finite_or_refused(loss, np.array([label]), rows[:1])
    finite_or_refused(loss, np.full(BATCH, label), rows)
    finite_or_refused(loss, np.arange(BATCH) + label, rows)
    finite_or_refused(loss, np.full(2, label), np.tile(rows[:1], (2, 1)))


weights = st.lists(
    st.sampled_from([0.0, 0.0, 0.5, 1.0, 3.0]), min_size=BATCH, max_size=BATCH
).map(lambda drawn: np.array(drawn))


@named(PER_SAMPLE)
@few
@given(labels=labels_of_batches, seed=seeds, weights=weights)
def test_weight_0_is_absence_from_the_sum(loss, labels, seed, weights):
    config = {**loss.get_config(), "reduction": "sum", "dtype": "float64"}
    total = type(loss).from_config(config)
    kept = weights > 0
    found = float(total(labels, scores(seed), weights))
    expected = 0.0
    if kept.any():
        expected = float(total(labels[kept], scores(seed)[kept], weights[kept]))
    assert_equal(found, expected)


@pytest.mark.parametrize("name", LAYERS)
@few
@given(labels=labels_of_batches, seed=seeds, weights=weights)
def test_weight_0_is_absence_from_a_layer(name, labels, seed, weights):
    """The mean is over all samples of the batch, those of weight 0 too."""
    features, kept = features_of(name, seed), weights > 0
    found = layer_value(name, labels, features, weights=weights)
    expected = 0.0
    if kept.any():
        expected = layer_value(
            name, labels[kept], features[kept], weights=weights[kept]
        )
    assert_equal(found * BATCH, expected * kept.sum())


# Everything is computed in float32 or wider, whatever the input's dtype.
HALF = 1e-4


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@named(ON_SCORES + ON_PAIRS)
@few
@given(labels=labels_of_batches, seed=seeds)
def test_half_precision_costs_the_rounding_of_the_input_alone(
    loss, dtype, labels, seed
):
    exact = scores(seed) if loss in ON_SCORES else embeddings(seed)
    half = ops.cast(ops.convert_to_tensor(exact), dtype)
    rounded = ops.convert_to_numpy(ops.cast(half, "float64"))
    expected = value(loss, labels, rounded)
    assert float(loss(labels, half)) == pytest.approx(
        expected, rel=HALF, abs=HALF
    )


def test_the_draws_are_float64():
    assert keras.backend.standardize_dtype(scores(0).dtype) == "float64"

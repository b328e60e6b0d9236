import keras
import numpy as np
import pytest
from keras import ops

import keras_finegrain
from keras_finegrain.layers.center_loss import moved_centers
from tests.gradients import layer_losses, value_and_gradients


def layer_with(centers, **arguments):
    arguments = {"loss_weight": 1.0, **arguments}
    layer = keras_finegrain.CenterLoss(len(centers), **arguments)
    layer.build((None, centers.shape[1]))
    layer.centers.assign(centers)
    return layer


def loss_of(layer, features, labels, **arguments):
    layer(ops.convert_to_tensor(features), ops.array(labels), **arguments)
    (loss,) = layer.losses
    return float(loss)


@pytest.mark.parametrize("case", range(4))
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_value_equals_the_definition(golden, float64, case, reduction):
    data = golden["center"][case]
    layer = layer_with(data["centers"], reduction=reduction)
    loss = loss_of(layer, data["features"], data["labels"])
    np.testing.assert_allclose(loss, data[reduction], rtol=1e-9)


@pytest.mark.parametrize("case", range(4))
def test_centers_move_by_equation_4(golden, float64, case):
    data = golden["center"][case]
    layer = layer_with(data["centers"], alpha=float(data["alpha"]))
    loss_of(layer, data["features"], data["labels"], training=True)
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer.centers), data["centers_after"], rtol=1e-9
    )


@pytest.mark.parametrize("case", range(4))
def test_float32_keeps_five_digits(golden, case):
    data = golden["center"][case]
    layer = layer_with(data["centers"], alpha=float(data["alpha"]))
    features = data["features"].astype("float32")
    loss = loss_of(layer, features, data["labels"], training=True)
    np.testing.assert_allclose(loss, data["mean"], rtol=1e-5)
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer.centers),
        data["centers_after"],
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize("case", range(4))
def test_gradient_update_is_half_of_pytorch_center_loss(golden, float64, case):
    data = golden["center"][case]
    layer = layer_with(data["centers"], update="gradient")

    def loss(features, centers):
        labels = ops.convert_to_tensor(data["labels"])
        return layer_losses(layer, [centers], features, labels)[1]

    value, (for_features, for_centers) = value_and_gradients(
        loss, [data["features"], data["centers"]]
    )
    np.testing.assert_allclose(2 * value, data["pytorch_center_loss"], 1e-9)
    for ours, official in (
        (for_features, data["pytorch_center_loss_grad_features"]),
        (for_centers, data["pytorch_center_loss_grad_centers"]),
    ):
        np.testing.assert_allclose(2 * ours, official, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("case", range(4))
def test_moving_average_centers_get_no_gradient(golden, float64, case):
    data = golden["center"][case]
    layer = layer_with(data["centers"])
    assert layer.trainable_variables == []

    def loss(features):
        labels = ops.convert_to_tensor(data["labels"])
        return layer_losses(layer, [], features, labels, training=True)[1]

    _, (gradient,) = value_and_gradients(loss, [data["features"]])
    own = data["features"] - data["centers"][data["labels"]]
    np.testing.assert_allclose(gradient, own / len(own), rtol=1e-9)


@pytest.mark.parametrize("case", range(4))
def test_mnist_variant_weighs_by_class_counts(golden, float64, case):
    data = golden["center"][case]
    layer = layer_with(data["centers"], normalize=True, reduction="class_mean")
    loss = loss_of(layer, data["features"], data["labels"])
    np.testing.assert_allclose(loss, data["normalized_class_mean"], rtol=1e-9)


def test_normalized_centers_move_towards_unit_features():
    layer = layer_with(np.zeros((2, 2)), normalize=True, alpha=1.0)
    loss_of(layer, [[3.0, 4.0]], [1], training=True)
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer.centers), [[0, 0], [0.3, 0.4]], rtol=1e-6
    )


def test_loss_weight_scales_the_loss_and_not_the_step():
    features, labels = np.eye(4, dtype="float32"), [0, 1, 1, 2]
    light, heavy = (
        layer_with(np.zeros((3, 4)), loss_weight=weight)
        for weight in (0.5, 4.0)
    )
    ratio = loss_of(heavy, features, labels, training=True) / loss_of(
        light, features, labels, training=True
    )
    assert ratio == pytest.approx(8)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(light.centers), ops.convert_to_numpy(heavy.centers)
    )


def test_features_pass_through_unchanged_in_their_own_dtype():
    layer = keras_finegrain.CenterLoss(3, dtype="mixed_float16")
    features = ops.cast(np.arange(6.0).reshape(2, 3), "float16")
    output = layer(features, ops.array([0, 1]), training=True)
    assert keras.backend.standardize_dtype(output.dtype) == "float16"
    np.testing.assert_array_equal(
        ops.convert_to_numpy(output), ops.convert_to_numpy(features)
    )
    assert layer.centers.dtype == "float32"


def test_evaluation_adds_the_loss_and_moves_nothing():
    layer = layer_with(np.ones((3, 2)))
    assert loss_of(layer, np.zeros((2, 2)), [0, 1], training=False) == 1.0
    np.testing.assert_array_equal(ops.convert_to_numpy(layer.centers), 1)


def test_prediction_without_labels_adds_nothing():
    layer = layer_with(np.ones((3, 2)))
    layer(ops.zeros((2, 2)), training=False)
    assert layer.losses == []


def test_frozen_layer_keeps_its_centers():
    layer = layer_with(np.ones((3, 2)))
    layer.trainable = False
    loss_of(layer, np.zeros((2, 2)), [0, 1], training=True)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer.centers), 1)


@pytest.mark.parametrize(
    "labels",
    [
        np.array([2, 0, 1]),
        np.array([[2], [0], [1]]),
        np.array([2, 0, 1], "uint8"),
        np.array([2, 0, 1], "int64"),
        np.eye(3, dtype="float32")[[2, 0, 1]],
        np.eye(3, dtype="int32")[[2, 0, 1]],
    ],
    ids=["sparse", "column", "uint8", "int64", "one_hot", "int_hot"],
)
def test_every_form_of_labels_means_the_same(labels):
    layer = layer_with(np.arange(6.0).reshape(3, 2))
    loss = loss_of(layer, np.arange(6.0).reshape(3, 2)[[2, 0, 1]], labels)
    assert loss == 0.0


MIXED = np.array([[0.7, 0.3, 0.0], [0.2, 0.2, 0.6], [0.0, 1.0, 0.0]])


def mixed_case(shares=MIXED):
    generator = np.random.default_rng(3)
    return generator.normal(size=(3, 4)), generator.normal(size=(3, 4)), shares


def mixed_reference(features, centers, shares, alpha=0.5):
    """Losses of the samples and moved centers, written out with loops."""
    each, moved = np.zeros(len(features)), centers.copy()
    for c, center in enumerate(centers):
        step = np.zeros_like(center)
        for i, x in enumerate(features):
            each[i] += shares[i, c] * 0.5 * ((x - center) ** 2).sum()
            step += shares[i, c] * (center - x)
        moved[c] = center - alpha * step / (1 + shares[:, c].sum())
    return each, moved


def test_soft_labels_are_a_mixture_in_the_loss_and_in_the_step(float64):
    features, centers, shares = mixed_case()
    each, moved = mixed_reference(features, centers, shares)
    layer = layer_with(centers)
    loss = loss_of(layer, features, shares, training=True)
    assert loss == pytest.approx(each.mean(), rel=1e-9)
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer.centers), moved, rtol=1e-9
    )


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"update": "gradient"},
        {"normalize": True, "reduction": "class_mean"},
        {"reduction": "sum", "ignore_class": 1},
        {"ignore_class": -1},
    ],
    ids=str,
)
def test_one_hot_rows_give_what_integers_give(float64, arguments):
    features, centers, _ = mixed_case()
    labels = np.array([2, 1, 2])
    pair = layer_with(centers, **arguments), layer_with(centers, **arguments)
    of_rows = loss_of(pair[0], features, np.eye(3)[labels], training=True)
    of_integers = loss_of(pair[1], features, labels, training=True)
    assert of_rows == pytest.approx(of_integers, rel=1e-9)
    np.testing.assert_allclose(
        ops.convert_to_numpy(pair[0].centers),
        ops.convert_to_numpy(pair[1].centers),
        rtol=1e-9,
    )


def test_gradients_of_mixtures_are_those_of_the_definition(float64):
    features, centers, shares = mixed_case()
    layer = layer_with(centers, update="gradient")

    def loss(features, centers):
        labels = ops.convert_to_tensor(shares)
        return layer_losses(layer, [centers], features, labels)[1]

    _, (for_features, for_centers) = value_and_gradients(
        loss, [features, centers]
    )
    apart = features[:, None] - centers[None]
    weighed = shares[..., None] * apart / 3
    np.testing.assert_allclose(for_features, weighed.sum(1), atol=1e-12)
    np.testing.assert_allclose(for_centers, -weighed.sum(0), atol=1e-12)


def test_class_mean_of_mixtures_divides_by_the_shares_of_a_class(float64):
    features, centers, shares = mixed_case()
    layer = layer_with(centers, reduction="class_mean")
    expected, _ = mixed_reference(features, centers, shares / shares.sum(0))
    loss = loss_of(layer, features, shares)
    assert loss == pytest.approx(expected.sum(), rel=1e-9)


def test_of_a_mixture_with_the_ignored_class_the_rest_counts(float64):
    features, centers, shares = mixed_case()
    layer = layer_with(centers, ignore_class=0)
    rest = shares * [0, 1, 1]
    each, moved = mixed_reference(features, centers, rest)
    loss = loss_of(layer, features, shares, training=True)
    assert loss == pytest.approx(each.sum() / rest.sum(), rel=1e-9)
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer.centers), moved, rtol=1e-9
    )


def test_weights_and_masks_of_mixtures_are_those_of_samples(float64):
    features, centers, shares = mixed_case()
    each, _ = mixed_reference(features, centers, shares)
    _, moved = mixed_reference(features[:2], centers, shares[:2])
    layer = layer_with(centers)
    loss = loss_of(
        layer,
        features,
        shares,
        sample_weight=ops.array([2.0, 0.5, 9.0]),
        mask=ops.array([True, True, False]),
        training=True,
    )
    assert loss == pytest.approx((2 * each[0] + 0.5 * each[1]) / 2, rel=1e-9)
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer.centers), moved, rtol=1e-9
    )


def test_a_mixture_with_a_nonfinite_embedding_moves_no_center():
    features, centers, shares = mixed_case()
    features[2] = np.inf
    _, moved = mixed_reference(features[:2], centers, shares[:2])
    layer = layer_with(centers)
    assert not np.isfinite(loss_of(layer, features, shares, training=True))
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer.centers), moved, rtol=1e-5
    )


def test_mixtures_in_float16_are_computed_in_float32():
    features, centers, shares = mixed_case()
    each, _ = mixed_reference(features.astype("float16"), centers, shares)
    layer = layer_with(centers, dtype="mixed_float16")
    loss = loss_of(layer, features.astype("float16"), shares.astype("float16"))
    assert loss == pytest.approx(each.mean(), rel=1e-3)


def test_a_row_that_is_no_mixture_is_visible_when_compiled():
    features, centers, shares = mixed_case()
    shares = shares.copy()
    shares[2] = 1.0
    _, moved = mixed_reference(features[:2], centers, shares[:2])
    layer = layer_with(centers)
    loss = run_compiled(
        layer, features.astype("float32"), shares.astype("float32")
    )
    assert np.isnan(loss)
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer.centers), moved, rtol=1e-5
    )


def test_uint8_labels_do_not_wrap_with_300_classes():
    layer = layer_with(np.arange(600.0).reshape(300, 2))
    loss = loss_of(layer, np.array([[510.0, 511.0]]), np.array([255], "uint8"))
    assert loss == 0.0


def test_ignored_class_counts_neither_in_the_loss_nor_for_the_centers():
    features = np.array([[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
    with_ignored = layer_with(np.zeros((2, 2)), ignore_class=-1)
    without = layer_with(np.zeros((2, 2)))
    assert loss_of(
        with_ignored, features, [0, 1, -1], training=True
    ) == loss_of(without, features[:2], [0, 1], training=True)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(with_ignored.centers),
        ops.convert_to_numpy(without.centers),
    )


def test_batch_of_ignored_labels_only_has_no_loss():
    layer = layer_with(np.zeros((2, 2)), ignore_class=9)
    assert loss_of(layer, np.ones((2, 2)), [9, 9], training=True) == 0.0


def test_sample_weights_weigh_the_loss_and_not_the_centers():
    features, labels = np.array([[2.0, 0.0], [0.0, 4.0]]), [0, 1]
    layer = layer_with(np.zeros((2, 2)))
    loss = loss_of(
        layer,
        features,
        labels,
        sample_weight=ops.array([1.0, 0.0]),
        training=True,
    )
    assert loss == pytest.approx(1.0)  # ½·4·1, divided by two samples
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer.centers), [[0.5, 0], [0, 1]]
    )


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_nonfinite_rows_do_not_poison_the_centers(poison):
    features = np.array([[1.0, 1.0], [poison, 1.0], [2.0, 2.0]], "float32")
    layer = layer_with(np.zeros((3, 2)), alpha=1.0)
    loss = loss_of(layer, features, [0, 0, 1], training=True)
    assert not np.isfinite(loss)
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer.centers), [[0.5, 0.5], [1, 1], [0, 0]]
    )


@pytest.mark.parametrize("label", [3, 300, -1, -2, 2**31 + 1, 2**32 + 1])
def test_out_of_range_label_writes_to_no_center_when_compiled(label):
    if keras.backend.backend() == "jax" and label > 2**31:
        pytest.skip("JAX without x64 has no 64-bit labels")
    layer = layer_with(np.zeros((3, 2)), alpha=1.0)
    dtype = "int64" if abs(label) > 2**30 else "int32"

    losses = run_compiled(
        layer, np.ones((2, 2), "float32"), np.array([1, label], dtype)
    )
    assert np.isnan(losses)
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer.centers), [[0, 0], [0.5, 0.5], [0, 0]]
    )


def run_compiled(layer, features, labels):
    """One training call where values cannot be read."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        @tf.function
        def step(features, labels):
            layer(features, labels, training=True)
            return sum(layer.losses)

        return float(step(tf.constant(features), tf.constant(labels)))
    if backend == "jax":
        import jax

        @jax.jit
        def step(state, features, labels):
            _, state, losses = layer.stateless_call(
                [], state, features, labels, training=True, return_losses=True
            )
            return state, sum(losses)

        state = [v.value for v in layer.non_trainable_variables]
        state, loss = step(state, features, labels)
        for variable, value in zip(
            layer.non_trainable_variables, state, strict=True
        ):
            variable.assign(value)
        return float(loss)
    # PyTorch has no values that cannot be read: pass by the check.
    layer._check_range = lambda *arguments: None
    layer(
        ops.convert_to_tensor(features),
        ops.convert_to_tensor(labels),
        training=True,
    )
    return float(sum(layer.losses))


def test_rows_of_one_class_are_equal_bit_for_bit():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(257, 33)).astype("float32")
    labels = generator.integers(0, 5, 257).astype("int32")
    centers = generator.normal(size=(5, 33)).astype("float32")
    rows = ops.convert_to_numpy(
        moved_centers(
            ops.array(features),
            ops.array(centers[labels]),
            ops.array(labels),
            ops.ones(257, "bool"),
            0.5,
        )
    )
    for label in range(5):
        assert len(np.unique(rows[labels == label], axis=0)) == 1


def test_dense_labels_for_each_position():
    layer = layer_with(np.arange(4.0).reshape(2, 2))
    features = np.array([[[0.0, 1.0], [2.0, 3.0]]])
    assert loss_of(layer, features, [[0, 1]], training=True) == 0.0


class TestBadInput:
    def test_training_without_labels_names_both_ways(self):
        layer = layer_with(np.ones((3, 2)))
        with pytest.raises(ValueError, match=r"Model.*explicitly"):
            layer(ops.zeros((2, 2)), training=True)

    def test_feature_map_is_told_to_pool(self):
        with pytest.raises(ValueError, match="GlobalAveragePooling2D"):
            keras_finegrain.CenterLoss(3)(keras.Input((7, 7, 8)))
        with pytest.raises(ValueError, match="shape"):
            keras_finegrain.CenterLoss(3)(
                ops.zeros((2, 7, 7, 8)), ops.array([0, 1])
            )

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            (
                [0, 311],
                r"\[0, 200\), received a maximum of 311.*num_classes=312",
            ),
            ([0, -1], r"a minimum of -1.*ignore_class=-1"),
            ([0.0, 1.0], "must be integers or one-hot, received dtype float"),
            ([0, 1, 2], r"shape \(2,\).*received the shape \(3,\)"),
            (
                np.ones((2, 7)),
                r"200\) \(one-hot\), received the shape \(2, 7\)",
            ),
        ],
        ids=["too_large", "negative", "float", "length", "one_hot_width"],
    )
    def test_labels(self, labels, message):
        layer = layer_with(np.zeros((200, 2)))
        with pytest.raises(ValueError, match=message):
            layer(ops.zeros((2, 2)), ops.array(labels), training=True)

    @pytest.mark.parametrize(
        "arguments",
        [
            {"num_classes": 0},
            {"num_classes": 2.5},
            {"num_classes": True},
            {"loss_weight": -1},
            {"loss_weight": float("nan")},
            {"alpha": -0.1},
            {"alpha": 1.1},
            {"alpha": "half"},
            {"update": "adam"},
            {"reduction": "none"},
            {"ignore_class": 1.5},
        ],
        ids=str,
    )
    def test_arguments_are_named_in_the_error(self, arguments):
        (name,) = arguments
        with pytest.raises(ValueError, match=rf"CenterLoss.*{name}.*received"):
            keras_finegrain.CenterLoss(**{"num_classes": 3, **arguments})


def test_config_restores_every_argument():
    layer = keras_finegrain.CenterLoss(
        7, 0.1, 0.2, "gradient", True, "sum", "ones", ignore_class=3, name="c"
    )
    copy = keras_finegrain.CenterLoss.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    assert copy.ignore_class == 3
    assert copy.update == "gradient"


def test_step_costs_the_same_at_a_million_classes():
    """Memory beside the table: the rows of the batch, not of the classes."""
    layer = keras_finegrain.CenterLoss(1_000_000)
    features = ops.ones((8, 4))
    layer(features, ops.arange(8) * 100_000, training=True)
    moved = ops.convert_to_numpy(ops.any(layer.centers != 0, axis=-1))
    np.testing.assert_array_equal(np.flatnonzero(moved), np.arange(8) * 100_000)


def test_batches_of_keras_mixup_reach_center_loss_and_head():
    images = np.arange(12.0, dtype="float32").reshape(4, 1, 1, 3)
    rows = np.eye(2, dtype="float32")[[0, 1, 1, 0]]
    batch = keras.layers.MixUp(alpha=1.0, seed=0)(
        {"images": images, "labels": rows}, training=True
    )
    x, y = (ops.convert_to_numpy(batch[key]) for key in ("images", "labels"))
    assert ((y > 0) & (y < 1)).any()
    model = keras_finegrain.Sequential(
        [
            keras.Input((1, 1, 3)),
            keras.layers.Flatten(),
            keras_finegrain.CenterLoss(2),
            keras_finegrain.CosineSimilarity(2),
        ]
    )
    model.compile("sgd", keras_finegrain.losses.CosFaceLoss())
    history = model.fit(x, y, verbose=0).history
    flat = x.reshape(4, 3)
    each, moved = mixed_reference(flat, np.zeros((2, 3)), y)
    assert history["center_loss"][0] == pytest.approx(each.mean(), rel=1e-5)
    np.testing.assert_allclose(
        ops.convert_to_numpy(model.layers[1].centers), moved, rtol=1e-5
    )


def test_centers_are_trained_weights_only_where_the_gradient_moves_them():
    for update, trained in (("moving_average", 0), ("gradient", 1)):
        layer = layer_with(np.zeros((2, 3)), update=update)
        assert len(layer.trainable_weights) == trained, update
        assert len(layer.non_trainable_weights) >= 1 - trained, update


@pytest.mark.parametrize("shape", [(None,), (4,), (4, None), (None, 7, None)])
def test_embeddings_need_an_axis_of_known_size(shape):
    with pytest.raises(ValueError, match=r"needs embeddings .* known dim"):
        keras_finegrain.CenterLoss(2).build(shape)


def test_embeddings_of_another_size_are_refused_also_where_they_are_places():
    layer = keras_finegrain.CenterLoss(2)
    layer(np.zeros((1, 4, 3), "float32"), np.zeros((1, 4), "int32"))
    with pytest.raises(ValueError, match="expected axis -1"):
        layer(np.zeros((1, 3, 5), "float32"), np.zeros((1, 3), "int32"))


def test_a_map_without_labels_of_its_places_asks_for_pooling():
    layer = keras_finegrain.CenterLoss(2)
    for features in (np.zeros((1, 4, 3), "float32"), keras.Input((4, 3))):
        with pytest.raises(ValueError, match="GlobalAveragePooling"):
            layer(features, training=True)

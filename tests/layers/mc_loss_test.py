import warnings

import keras
import numpy as np
import pytest
from keras import ops

import keras_finegrain
from keras_finegrain._ops.numerics import mean
from keras_finegrain.layers.mc_loss import (
    class_scores,
    discriminality,
    diversity,
    group_sizes,
    random_channels,
)
from tests.gradients import layer_losses, value_and_gradients


def flat(feature_map):
    batch, _, _, channels = feature_map.shape
    return ops.reshape(feature_map, (batch, -1, channels))


@pytest.mark.parametrize("case", range(3))
def test_official_value_and_gradient(golden, float64, case):
    data = golden["mc"][case]
    size, classes = int(data["channels_per_class"]), int(data["num_classes"])
    sizes = (size,) * classes
    kept = ops.convert_to_tensor(data["masks"].reshape(-1).astype("float64"))
    labels = ops.cast(data["labels"], "int32")

    def official(feature_map):
        feature_map = flat(feature_map)
        return 1.5 * mean(
            discriminality(feature_map, labels, sizes, kept), axis=0
        ) + 20 * (1 - mean(diversity(feature_map, sizes), axis=0) / size)

    value, (gradient,) = value_and_gradients(
        official, [data["feature_map_nhwc"]]
    )
    np.testing.assert_allclose(value, data["total_official"], rtol=1e-9)
    np.testing.assert_allclose(
        gradient, data["grad_nhwc"], rtol=1e-9, atol=1e-15
    )


@pytest.mark.parametrize("case", range(3))
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_layer_with_the_official_weights(
    golden, float64, monkeypatch, case, data_format
):
    data = golden["mc"][case]
    size = int(data["channels_per_class"])
    kept = data["masks"].reshape(-1)
    monkeypatch.setattr(
        "keras_finegrain.layers.mc_loss.random_channels",
        lambda sizes, seed, dtype: ops.cast(kept, dtype),
    )
    layer = keras_finegrain.MCLoss(
        int(data["num_classes"]),
        loss_weight=1.5,
        diversity_weight=20 / (1.5 * size),
        data_format=data_format,
    )
    first = data_format == "channels_first"
    labels = ops.convert_to_tensor(data["labels"])

    def loss(feature_map):
        return layer_losses(layer, [], feature_map, labels, training=True)[1]

    feature_map = data["feature_map_nhwc"]
    if first:
        feature_map = np.moveaxis(feature_map, -1, 1).copy()
    value, (gradient,) = value_and_gradients(loss, [feature_map])
    if first:
        gradient = np.moveaxis(gradient, 1, -1)
    np.testing.assert_allclose(value + 20, data["total_official"], rtol=1e-9)
    np.testing.assert_allclose(
        gradient, data["grad_nhwc"], rtol=1e-9, atol=1e-15
    )


@pytest.mark.parametrize("case", range(2))
def test_unequal_groups(golden, float64, case):
    data = golden["mc_unequal"][case]
    feature_map = flat(ops.convert_to_tensor(data["feature_map_nhwc"]))
    sizes = group_sizes(feature_map.shape[-1], int(data["num_classes"]))
    assert sizes == tuple(data["sizes"])
    kept = ops.cast(data["mask"], "float64")
    labels = ops.cast(data["labels"], "int32")
    np.testing.assert_allclose(
        ops.convert_to_numpy(class_scores(feature_map, sizes, kept)),
        data["class_scores"],
        rtol=1e-9,
    )
    np.testing.assert_allclose(
        float(mean(discriminality(feature_map, labels, sizes, kept), axis=0)),
        data["discriminality"],
        rtol=1e-9,
    )
    np.testing.assert_allclose(
        float(mean(diversity(feature_map, sizes), axis=0)),
        data["diversity"],
        rtol=1e-9,
    )


@pytest.mark.parametrize("case", range(3))
def test_float32_keeps_five_digits(golden, case):
    data = golden["mc"][case]
    size, classes = int(data["channels_per_class"]), int(data["num_classes"])
    feature_map = flat(ops.cast(data["feature_map_nhwc"], "float32"))
    labels = ops.cast(data["labels"], "int32")
    kept = ops.cast(data["masks"].reshape(-1), "float32")
    sizes = (size,) * classes
    np.testing.assert_allclose(
        float(mean(discriminality(feature_map, labels, sizes, kept), axis=0)),
        data["discriminality"],
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        float(mean(diversity(feature_map, sizes), axis=0)),
        data["diversity"],
        rtol=1e-5,
    )


def by_definition(feature_map, labels, sizes, kept):
    """L_dis and L_div of each sample with their gradients, class by class."""
    batch, positions, channels = feature_map.shape
    owners = np.repeat(np.arange(len(sizes)), sizes)
    every = np.arange(len(sizes))
    scores = np.zeros((batch, len(sizes)))
    spread = np.zeros(batch)
    score_slopes = np.zeros((batch, len(sizes), positions, channels))
    spread_slopes = np.zeros(feature_map.shape)
    shares = np.exp(feature_map)
    shares /= shares.sum(1, keepdims=True)
    for sample, position, owner in np.ndindex(batch, positions, len(sizes)):
        own = np.flatnonzero(owners == owner)
        seen = (feature_map[sample, position] * kept)[own]
        scores[sample, owner] += seen.max() / positions
        first = own[seen.argmax()]
        score_slopes[sample, owner, position, first] = kept[first] / positions
        strongest = own[shares[sample, position, own].argmax()]
        share = shares[sample, position, strongest]
        spread[sample] += share / len(sizes)
        spread_slopes[sample, :, strongest] -= (
            share * shares[sample, :, strongest] / len(sizes)
        )
        spread_slopes[sample, position, strongest] += share / len(sizes)
    odds = np.exp(scores)
    odds /= odds.sum(1, keepdims=True)
    entropy = -np.log(odds[np.arange(batch), labels])
    upstream = odds - (every == labels[:, None])
    return (
        (entropy, np.einsum("bc,bcpn->bpn", upstream, score_slopes)),
        (spread, spread_slopes),
    )


@pytest.mark.parametrize(
    "sizes",
    [(1,), (4,), (5, 5), (2, 2, 3), (3, 1, 2, 1, 3), (11, 10, 1), (10, 10, 11)],
    ids=str,
)
def test_both_parts_and_their_gradients_follow_the_definition(float64, sizes):
    generator = np.random.default_rng(0)
    # A ReLU's map: in many groups several channels are 0 and tie.
    values = np.maximum(generator.normal(size=(3, 6, sum(sizes))), 0)
    # Two channels that are alike tie in their softmax too.
    values[:, :, -1] = values[:, :, -sizes[-1]]
    kept = np.asarray(generator.random(sum(sizes)) < 0.5, dtype="float64")
    labels = generator.integers(0, len(sizes), 3)
    weights = generator.normal(size=3)
    expected = by_definition(values, labels, sizes, kept)

    def weighed(of_each):
        return ops.sum(ops.convert_to_tensor(weights) * of_each)

    def cross_entropy(values):
        targets = ops.cast(labels, "int32")
        seen = ops.convert_to_tensor(kept)
        return weighed(discriminality(values, targets, sizes, seen))

    def spread(values):
        return weighed(diversity(values, sizes))

    for part, (of_each, slopes) in zip(
        (cross_entropy, spread), expected, strict=True
    ):
        value, (gradient,) = value_and_gradients(part, [values])
        # (Of one class L_dis is 0, which XLA comes near to.)
        np.testing.assert_allclose(
            value, weights @ of_each, rtol=1e-9, atol=1e-15
        )
        np.testing.assert_allclose(
            gradient,
            weights[:, None, None] * slopes,
            rtol=1e-9,
            atol=1e-15,
        )


@pytest.mark.parametrize("size", [*range(1, 12), 20])
def test_tied_maximum_gives_its_gradient_to_the_first_channel(size):
    values = np.zeros((1, 3, 2 * size), "float32")
    if size > 2:
        values[0, 1, 1:size] = 1.0

    def total(values):
        return ops.sum(class_scores(values, (size, size)))

    _, (gradient,) = value_and_gradients(total, [values])
    groups = values.reshape(3, 2, size)
    expected = np.arange(size) == groups.argmax(-1)[..., None]
    np.testing.assert_allclose(
        gradient.reshape(3, 2, size), expected / 3, rtol=1e-6
    )


@pytest.mark.parametrize(
    "sizes", [(3, 3, 3), (1, 1), (2, 2, 3, 3), (5, 2, 4, 2), (10,) * 200]
)
def test_half_of_each_class_is_dropped(sizes):
    seed = keras.random.SeedGenerator(3)
    ends = np.cumsum(sizes)
    for _ in range(3):
        kept = ops.convert_to_numpy(random_channels(sizes, seed))
        assert set(np.unique(kept)) <= {0.0, 1.0}
        dropped = [
            size - kept[end - size : end].sum()
            for size, end in zip(sizes, ends, strict=True)
        ]
        np.testing.assert_array_equal(dropped, np.asarray(sizes) // 2)


def test_every_channel_is_dropped_equally_often():
    seed = keras.random.SeedGenerator(0)
    kept = np.mean(
        [
            ops.convert_to_numpy(random_channels((3, 5, 4), seed))
            for _ in range(300)
        ],
        axis=0,
    )
    expected = np.repeat([2 / 3, 3 / 5, 1 / 2], [3, 5, 4])
    # Four standard deviations of a mean of 300 draws are 0.12.
    np.testing.assert_allclose(kept, expected, atol=0.12)


def layer_loss(layer, feature_map, labels, **arguments):
    layer(ops.convert_to_tensor(feature_map), ops.array(labels), **arguments)
    return float(sum(layer.losses))


def feature_map(classes=2, size=3, batch=4):
    generator = np.random.default_rng(1)
    return np.maximum(
        generator.normal(size=(batch, 5, 5, classes * size)), 0
    ).astype("float32")


def test_evaluation_drops_no_channel_and_repeats_itself():
    layer = keras_finegrain.MCLoss(2, seed=0)
    undropped = keras_finegrain.MCLoss(2, drop=False)
    data, labels = feature_map(), [0, 1, 0, 1]
    first = layer_loss(layer, data, labels, training=False)
    assert first == layer_loss(layer, data, labels, training=False)
    assert first == layer_loss(undropped, data, labels, training=True)


def test_training_draws_other_channels_each_step():
    layer = keras_finegrain.MCLoss(2, diversity_weight=0, seed=0)
    data, labels = feature_map(), [0, 1, 0, 1]
    losses = {layer_loss(layer, data, labels, training=True) for _ in range(5)}
    assert len(losses) > 1


def test_ablations_leave_the_other_part():
    data, labels = feature_map(), [0, 1, 0, 1]
    arguments = {"loss_weight": 1.0, "drop": False}
    both = keras_finegrain.MCLoss(2, diversity_weight=3.0, **arguments)
    only = keras_finegrain.MCLoss(2, diversity_weight=0.0, **arguments)
    parts = flat(ops.array(data))
    spread = float(mean(diversity(parts, (3, 3)), axis=0))
    assert layer_loss(both, data, labels) == pytest.approx(
        layer_loss(only, data, labels) - 3.0 * spread, rel=1e-5
    )


def test_diversity_without_weight_is_logged_and_gives_no_gradient():
    layer = keras_finegrain.MCLoss(2, diversity_weight=0.0, drop=False)
    labels = ops.array([0, 1, 0, 1])

    def only_discriminality(data):
        return mean(discriminality(flat(data), labels, (3, 3)), axis=0) * 0.3

    def loss(data):
        return layer_losses(layer, [], data, labels)[1]

    _, (expected,) = value_and_gradients(only_discriminality, [feature_map()])
    _, (gradient,) = value_and_gradients(loss, [feature_map()])
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)
    layer(ops.array(feature_map()), labels)
    _, logged = (figure.result() for figure in layer.measures)
    spread = diversity(flat(ops.array(feature_map())), (3, 3))
    assert float(logged) == pytest.approx(float(mean(spread, axis=0)), rel=1e-5)


def test_diversity_lies_between_one_and_the_group_size():
    together = np.zeros((1, 9, 3), "float32")
    together[:, 0, :] = 50.0
    apart = np.zeros((1, 9, 3), "float32")
    apart[:, [0, 1, 2], [0, 1, 2]] = 50.0
    for channels, expected in ((together, 1.0), (apart, 3.0)):
        value = ops.convert_to_numpy(diversity(ops.array(channels), (3,)))
        np.testing.assert_allclose(value, [expected], rtol=1e-5)


def test_sample_weights_weigh_both_parts():
    data, labels = feature_map(), [0, 1, 0, 1]
    layer = keras_finegrain.MCLoss(2, drop=False)
    weighted = layer_loss(
        layer, data, labels, sample_weight=ops.array([1.0, 1.0, 0.0, 0.0])
    )
    assert weighted == pytest.approx(
        layer_loss(layer, data[:2], labels[:2]) / 2, rel=1e-5
    )


def test_output_is_the_feature_map_itself():
    data = feature_map()
    layer = keras_finegrain.MCLoss(2)
    output = layer(ops.array(data), ops.array([0, 1, 0, 1]), training=True)
    np.testing.assert_array_equal(ops.convert_to_numpy(output), data)


def test_prediction_without_labels_adds_nothing():
    layer = keras_finegrain.MCLoss(2)
    layer(ops.array(feature_map()), training=False)
    assert layer.losses == []


def test_positions_in_a_row_are_the_same_feature_map(float64):
    layer = keras_finegrain.MCLoss(2, seed=0)
    images = feature_map()
    labels = ops.arange(len(images)) % 2

    def total(values):
        losses = layer_losses(layer, [], values, labels, training=False)
        return ops.convert_to_numpy(losses[1])

    rows = images.reshape(len(images), -1, images.shape[-1])
    np.testing.assert_allclose(
        total(ops.array(rows)), total(ops.array(images)), rtol=1e-12
    )


class TestBadInput:
    def test_fewer_channels_than_classes_is_told_to_widen(self):
        with pytest.raises(ValueError, match=r"5 channels for 7.*Conv2D\(21"):
            keras_finegrain.MCLoss(7)(keras.Input((4, 4, 5)))

    def test_vector_is_told_to_move_before_the_pooling(self):
        with pytest.raises(ValueError, match="before the pooling"):
            keras_finegrain.MCLoss(7)(keras.Input((50,)))

    @pytest.mark.parametrize("channels", [4, (2, 2, 2)])
    def test_sizes_that_do_not_add_up(self, channels):
        layer = keras_finegrain.MCLoss(3, channels_per_class=channels)
        with pytest.raises(ValueError, match="channels_per_class gives"):
            layer(keras.Input((4, 4, 9)))

    def test_training_without_labels_names_both_ways(self):
        with pytest.raises(ValueError, match=r"Model.*explicitly"):
            keras_finegrain.MCLoss(2)(ops.array(feature_map()), training=True)

    @pytest.mark.parametrize(
        "arguments",
        [
            {"num_classes": -1},
            {"loss_weight": -1},
            {"diversity_weight": "ten"},
            {"channels_per_class": 0},
            {"channels_per_class": (2, 0)},
            {"data_format": "nhwc"},
        ],
        ids=str,
    )
    def test_arguments_are_named_in_the_error(self, arguments):
        (name,) = arguments
        with pytest.raises(ValueError, match=rf"MCLoss.*{name}.*received"):
            keras_finegrain.MCLoss(**{"num_classes": 2, **arguments})


def test_config_restores_every_argument():
    layer = keras_finegrain.MCLoss(
        2, 1.5, 3.0, (2, 3), False, "channels_first", 9, name="mc"
    )
    copy = keras_finegrain.MCLoss.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()


SOFT = np.array([[0.7, 0.3], [0.0, 1.0], [0.5, 0.5], [0.25, 0.75]])


def test_soft_labels_are_a_mixture(float64):
    data = feature_map().astype("float64")
    scores = data.reshape(4, 25, 2, 3).max(-1).mean(1)
    log_odds = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    layer = keras_finegrain.MCLoss(
        2, 1.0, diversity_weight=0, drop=False, dtype="float64"
    )
    layer(data, SOFT)
    np.testing.assert_allclose(
        float(layer.losses[0]), -(SOFT * log_odds).sum(1).mean(), rtol=1e-12
    )
    # Of a mixture the loss is the mixture of the losses.
    first, second = (
        layer_loss(layer, data, [number] * 4) for number in range(2)
    )
    shares = np.tile([0.2, 0.8], (4, 1))
    assert layer_loss(layer, data, shares) == pytest.approx(
        0.2 * first + 0.8 * second, rel=1e-12
    )


def test_one_hot_labels_are_their_classes():
    layer = keras_finegrain.MCLoss(2, drop=False)
    labels = np.array([0, 1, 1, 0])
    assert layer_loss(layer, feature_map(), np.eye(2)[labels]) == pytest.approx(
        layer_loss(layer, feature_map(), labels), rel=1e-6
    )


@pytest.mark.parametrize("setting", keras_finegrain.MCLoss.PUBLISHED)
def test_published_settings_are_arguments(setting):
    arguments = keras_finegrain.MCLoss.PUBLISHED[setting]
    layer = keras_finegrain.MCLoss(4, **arguments)
    assert {name: getattr(layer, name) for name in arguments} == arguments
    with pytest.raises(TypeError):
        arguments["loss_weight"] = 3


class TestBranch:
    def test_loss_is_that_of_the_branch_and_the_map_is_returned(self):
        layer = keras_finegrain.MCLoss(2, drop=False)
        embedding = np.ones((4, 7), "float16")
        labels = np.array([0, 1, 1, 0])
        output = layer(embedding, labels, channels=feature_map())
        assert output.shape == (4, 7)
        assert keras.backend.standardize_dtype(output.dtype) == "float16"
        expected = keras_finegrain.MCLoss(2, drop=False)
        expected(feature_map(), labels)
        assert float(layer.losses[0]) == float(expected.losses[0])

    def test_mask_is_that_of_the_branch(self):
        seen = np.ones((4, 5, 5), bool)
        seen[:, 3:] = False
        layer = keras_finegrain.MCLoss(2, drop=False)
        labels = np.array([0, 1, 1, 0])
        layer(np.ones((4, 7)), labels, mask=seen, channels=feature_map())
        expected = keras_finegrain.MCLoss(2, drop=False)
        expected(feature_map()[:, :3], labels)
        assert float(layer.losses[0]) == pytest.approx(
            float(expected.losses[0]), rel=1e-5
        )

    @pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
    def test_trains_though_it_leads_to_no_output(self, tmp_path, dtype):
        # (5 channels are too few for 7 classes: the map's own do not matter.)
        inputs = keras.Input((6, 6, 5))
        branch = keras.layers.Conv2D(
            21, 1, activation="relu", name="branch", dtype=dtype
        )
        x = keras_finegrain.MCLoss(7, loss_weight=1.0, seed=1, name="mc")(
            inputs, channels=branch(inputs)
        )
        x = keras.layers.GlobalAveragePooling2D()(x)
        model = keras_finegrain.Model(inputs, keras.layers.Dense(7)(x))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", loss)
        before = ops.convert_to_numpy(branch.kernel)
        x, y = np.random.default_rng(0).random((8, 6, 6, 5)), np.arange(8) % 7
        history = model.fit(x, y, verbose=0).history
        assert np.isfinite(history["mc_discriminality"]).all()
        assert not np.array_equal(before, branch.kernel)
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_allclose(
            again.evaluate(x, y, verbose=0), model.evaluate(x, y, verbose=0)
        )
        np.testing.assert_array_equal(again.predict(x), model.predict(x))

    @pytest.mark.parametrize("call", ["eager", "symbolic"])
    def test_other_channels_than_it_was_built_for(self, call):
        layer = keras_finegrain.MCLoss(2)
        layer(np.ones((4, 3)), channels=feature_map())
        wider = feature_map(size=4)
        if call == "symbolic":
            wider = keras.Input(wider.shape[1:])
        with pytest.raises(ValueError, match=r"'mc_loss.*built for 6 channels"):
            layer(wider)

    def test_samples_of_another_batch(self):
        layer = keras_finegrain.MCLoss(2)
        with pytest.raises(ValueError, match="4 samples for 3"):
            layer(np.ones((3, 3)), channels=feature_map())

    @pytest.mark.parametrize("bad", [[1.0], np.ones((4, 5, 5, 6), "complex64")])
    def test_channels_that_are_no_floats(self, bad):
        with pytest.raises(ValueError, match=r"MCLoss.*channels must be"):
            keras_finegrain.MCLoss(2)(np.ones((4, 3)), channels=bad)


class TestConcern:
    def concern(self, value, steps=200, epochs=5, **arguments):
        layer = keras_finegrain.MCLoss(12, **arguments)
        return layer.concern({"discriminality": value}, steps, epochs)

    def test_chance_is_told_with_the_remedy(self):
        assert "ln 12 = 2.48" in self.concern(2.5)
        assert "Conv2D(36" in self.concern(2.5)

    @pytest.mark.parametrize(
        "arguments",
        [
            {"value": 2.3},
            {"value": float("nan")},
            {"value": 2.5, "steps": 199},
            {"value": 2.5, "epochs": 4},
            {"value": 2.5, "loss_weight": 0},
        ],
        ids=str,
    )
    def test_no_false_alarm(self, arguments):
        assert self.concern(**arguments) is None

    @pytest.mark.parametrize("weight", [1e-6, 1.0])
    def test_fit_warns_where_the_channels_did_not_learn(self, weight):
        generator = np.random.default_rng(0)
        y = np.arange(160) % 2
        x = generator.random((160, 2, 2, 2)) * 0.1
        x[np.arange(160), :, :, y] += 1
        model = keras_finegrain.Sequential(
            [
                keras.Input((2, 2, 2)),
                keras.layers.Conv2D(4, 1, kernel_initializer="ones"),
                keras_finegrain.MCLoss(2, weight, 0.0, drop=False, name="mc"),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(2, kernel_initializer="zeros"),
            ]
        )
        model.layers[-1].trainable = False
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.5), loss)
        arguments = {"batch_size": 4, "epochs": 5, "verbose": 0}
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            model.fit(x, y, **arguments)
        told = [w for w in seen if "discriminality is" in str(w.message)]
        assert len(told) == (weight < 1)


def test_the_diversity_counts_by_default_as_a_share_of_the_channels(float64):
    x = np.random.default_rng(0).normal(size=(4, 3, 3, 10))
    labels = np.array([0, 1, 2, 2])
    losses = []
    for weight in (None, 3 / 10):  # 10 channels for 3 classes
        layer = keras_finegrain.MCLoss(
            3, diversity_weight=weight, drop=False, dtype="float64"
        )
        layer(ops.convert_to_tensor(x), labels)
        losses.append(float(layer.losses[0]))
    assert losses[0] == losses[1]

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


@pytest.mark.parametrize("size", range(1, 12))
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
        return mean(discriminality(flat(data), labels, (3, 3)), axis=0) * 0.005

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

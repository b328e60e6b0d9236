import keras
import numpy as np
import pytest
from keras import ops

import keras_finegrain
from keras_finegrain._ops.numerics import mean
from keras_finegrain.layers.cosine_similarity import count_distinct
from tests.gradients import layer_losses, value_and_gradients


def layer_with(centers, **arguments):
    layer = keras_finegrain.SoftTriple(
        len(centers), centers.shape[1], **arguments
    )
    layer.build((None, centers.shape[2]))
    layer.centers.assign(centers)
    return layer


@pytest.mark.parametrize("case", range(4))
@pytest.mark.parametrize("pooling", ["soft", "max"])
def test_similarity_equals_the_official_code(golden, float64, case, pooling):
    data = golden["soft_triple"][case]
    layer = layer_with(
        data["centers"], gamma=float(data["gamma"]), pooling=pooling
    )
    field = "similarity" if pooling == "soft" else "hard_similarity"
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer(ops.convert_to_tensor(data["features"]))),
        data[field],
        rtol=1e-9,
        atol=1e-15,
    )


def total_and_gradients(data):
    layer = layer_with(
        data["centers"], gamma=float(data["gamma"]), tau=float(data["tau"])
    )
    loss = keras_finegrain.losses.SoftTripleLoss(
        scale=float(data["scale"]),
        margin=float(data["margin"]),
        # Keras's own mean is a float32 one on PyTorch.
        reduction=None,
    )

    def total(features, centers):
        output, regularizer = layer_losses(layer, [centers], features)
        labels = ops.convert_to_tensor(data["labels"])
        return mean(loss(labels, output), axis=0) + regularizer

    return value_and_gradients(total, [data["features"], data["centers"]])


@pytest.mark.parametrize("case", range(4))
def test_total_equals_the_official_code_to_its_bias(golden, float64, case):
    """The official code adds 1e-5 under the root of the regularizer."""
    data = golden["soft_triple"][case]
    value, gradients = total_and_gradients(data)
    np.testing.assert_allclose(value, data["total"], rtol=1e-5)
    for gradient, field in zip(
        gradients, ("grad_features", "grad_centers"), strict=True
    ):
        np.testing.assert_allclose(gradient, data[field], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", range(4))
def test_total_equals_the_official_code_with_its_constant(
    golden, float64, case, monkeypatch
):
    monkeypatch.setattr(
        "keras_finegrain.regularizers.unit_distance",
        lambda cosine: ops.sqrt(2.0 + 1e-5 - 2.0 * cosine),
    )
    data = golden["soft_triple"][case]
    value, gradients = total_and_gradients(data)
    np.testing.assert_allclose(value, data["total"], rtol=1e-9)
    for gradient, field in zip(
        gradients, ("grad_features", "grad_centers"), strict=True
    ):
        np.testing.assert_allclose(gradient, data[field], rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("case", range(4))
def test_float32_keeps_five_digits(golden, case):
    data = golden["soft_triple"][case]
    layer = layer_with(data["centers"], gamma=float(data["gamma"]))
    similarity = layer(ops.cast(data["features"], "float32"))
    np.testing.assert_allclose(
        ops.convert_to_numpy(similarity),
        data["similarity"],
        rtol=1e-5,
        atol=1e-6,
    )
    crossentropy = keras_finegrain.losses.SoftTripleLoss(
        float(data["scale"]), float(data["margin"]), reduction="none"
    )(data["labels"], similarity)
    np.testing.assert_allclose(
        ops.convert_to_numpy(crossentropy),
        data["crossentropy"],
        rtol=1e-5,
        atol=1e-5,
    )


def test_one_center_is_the_normalised_softmax():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(5, 8)).astype("float32")
    centers = generator.normal(size=(3, 1, 8)).astype("float32")
    cosine = (features / np.linalg.norm(features, axis=1, keepdims=True)) @ (
        centers[:, 0] / np.linalg.norm(centers[:, 0], axis=1, keepdims=True)
    ).T
    output = layer_with(centers)(ops.array(features))
    np.testing.assert_allclose(ops.convert_to_numpy(output), cosine, atol=1e-6)


def test_zero_embedding_has_a_finite_gradient():
    layer = layer_with(np.ones((2, 3, 4), "float32"))

    def total(features):
        return ops.sum(layer(features))

    value, (gradient,) = value_and_gradients(
        total, [np.zeros((2, 4), "float32")]
    )
    assert value == 0.0
    np.testing.assert_array_equal(gradient, 0)


def test_initial_centers_spread_as_in_the_official_code():
    layer = keras_finegrain.SoftTriple(50, 4)
    layer.build((None, 16))
    bound = 1 / np.sqrt(50 * 4)
    centers = ops.convert_to_numpy(layer.centers)
    assert np.abs(centers).max() <= bound
    assert centers.std() == pytest.approx(bound / np.sqrt(3), rel=0.05)


def test_similarities_are_float32_under_a_mixed_policy():
    layer = keras_finegrain.SoftTriple(3, dtype="mixed_bfloat16")
    output = layer(ops.ones((2, 4), dtype="bfloat16"))
    assert keras.backend.standardize_dtype(output.dtype) == "float32"
    assert layer.centers.dtype == "float32"


class TestDistinctCenters:
    def test_counts_groups_and_not_pairs(self):
        angles = np.radians([[0, 1, 180, 181], [0, 90, 180, 270]])
        centers = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        layer = layer_with(centers)
        assert layer.distinct_centers(0.1).tolist() == [2, 4]

    def test_chains_are_one_center(self):
        angles = np.radians(np.arange(8) * 4.0)[None]
        centers = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        assert count_distinct(centers, np.radians(4.1)).tolist() == [1]
        assert count_distinct(centers, np.radians(3.9)).tolist() == [8]

    def test_length_does_not_matter(self):
        centers = np.array([[[1.0, 0.0], [5.0, 0.0], [0.0, 0.1]]])
        assert count_distinct(centers, 0.0).tolist() == [2]

    def test_training_merges_the_centers_of_a_class_of_one_mode(self):
        generator = np.random.default_rng(0)
        labels = np.repeat([0, 1, 2], 64)
        features = np.eye(8)[labels] + 0.05 * generator.normal(size=(192, 8))
        model = keras_finegrain.Sequential(
            [keras.Input((8,)), keras_finegrain.SoftTriple(3, 4, tau=3.0)]
        )
        model.compile(
            keras.optimizers.Adam(0.02), keras_finegrain.losses.SoftTripleLoss()
        )
        before = model.layers[-1].distinct_centers()
        model.fit(
            np.tile(features, (200, 1)),
            np.tile(labels, 200),
            batch_size=192,
            shuffle=False,
            verbose=0,
        )
        after = model.layers[-1].distinct_centers(0.2)
        assert before.tolist() == [4, 4, 4]
        assert after.tolist() == [1, 1, 1]


class TestBadInput:
    def test_feature_map_is_told_to_pool(self):
        with pytest.raises(ValueError, match="GlobalAveragePooling2D"):
            keras_finegrain.SoftTriple(3)(keras.Input((7, 7, 8)))

    @pytest.mark.parametrize(
        "arguments",
        [
            {"num_classes": 0},
            {"centers_per_class": 0},
            {"centers_per_class": 1.5},
            {"gamma": 0},
            {"gamma": -1},
            {"tau": -0.1},
            {"pooling": "mean"},
        ],
        ids=str,
    )
    def test_arguments_are_named_in_the_error(self, arguments):
        (name,) = arguments
        with pytest.raises(ValueError, match=rf"SoftTriple.*{name}.*received"):
            keras_finegrain.SoftTriple(**{"num_classes": 2, **arguments})

    def test_distinct_centers_before_the_layer_is_built(self):
        with pytest.raises(ValueError, match="no centers yet"):
            keras_finegrain.SoftTriple(3).distinct_centers()


def test_config_restores_every_argument():
    layer = keras_finegrain.SoftTriple(
        4, 3, 0.2, 0.3, "max", "glorot_normal", name="head"
    )
    copy = keras_finegrain.SoftTriple.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()


def test_it_is_the_cosine_head_with_its_regularizer():
    embeddings = np.random.default_rng(0).normal(size=(6, 8)).astype("float32")
    layer = keras_finegrain.SoftTriple(3, 4, gamma=0.2, tau=0.3)
    head = keras_finegrain.CosineSimilarity(
        3,
        4,
        pooling="soft",
        gamma=0.2,
        centers_regularizer=keras_finegrain.regularizers.CenterMerging(0.3),
    )
    expected = keras.ops.convert_to_numpy(layer(embeddings))
    head.build(embeddings.shape)
    head.centers.assign(layer.centers)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(head(embeddings)), expected, atol=1e-6
    )
    (own,), (other,) = layer.losses, head.losses
    assert float(own) > 0.01
    assert float(own) == pytest.approx(float(other), rel=1e-5)
    copy = type(head).from_config(head.get_config())
    assert copy.centers_regularizer.tau == 0.3


@pytest.mark.parametrize("tau", [0.0, 0.2])
def test_another_regularizer_is_not_ignored_in_silence(tau):
    with pytest.raises(ValueError, match="centers_regularizer must not be"):
        keras_finegrain.SoftTriple(3, tau=tau, centers_regularizer="l2")

import keras
import numpy as np
import pytest
from keras import ops

import keras_finegrain
from tests.losses.numbers import classified, numpy_cosines


def layer_with(centers, **arguments):
    layer = keras_finegrain.CosineSimilarity(
        len(centers), centers.shape[1], **arguments
    )
    layer.build((None, centers.shape[2]))
    layer.centers.assign(centers)
    return layer


@pytest.mark.parametrize("sub_centers", [1, 3])
def test_output_is_the_cosine_of_the_nearest_center(float64, sub_centers):
    embeddings, centers, _ = classified(7, 5, 6, sub_centers)
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer_with(centers)(embeddings)),
        numpy_cosines(embeddings, centers),
        rtol=1e-9,
    )


def test_length_of_embeddings_and_centers_does_not_matter(float64):
    embeddings, centers, _ = classified(7, 5, 6, 2)
    lengths = np.random.default_rng(1).uniform(0.1, 50, (7, 1))
    scaled = layer_with(centers * 1e-3)(embeddings * lengths)
    np.testing.assert_allclose(
        ops.convert_to_numpy(scaled),
        ops.convert_to_numpy(layer_with(centers)(embeddings)),
        rtol=1e-9,
    )


def test_soft_pooling_is_that_of_soft_triple(float64):
    embeddings, centers, _ = classified(7, 5, 6, 3)
    soft = layer_with(centers, pooling="soft", gamma=0.2)
    triple = keras_finegrain.SoftTriple(5, 3, gamma=0.2)
    triple.build((None, 6))
    triple.centers.assign(centers)
    np.testing.assert_allclose(
        ops.convert_to_numpy(soft(embeddings)),
        ops.convert_to_numpy(triple(embeddings)),
        rtol=1e-12,
    )
    assert isinstance(triple, keras_finegrain.CosineSimilarity)


@pytest.mark.parametrize("gamma", [1e-2, 1e-3, 1e-4])
def test_max_pooling_is_the_limit_of_soft_pooling(float64, gamma):
    """HardTriple is what SoftTriple becomes as γ goes to 0."""
    embeddings, centers, _ = classified(7, 5, 6, 3)
    hard = ops.convert_to_numpy(layer_with(centers)(embeddings))
    soft = ops.convert_to_numpy(
        layer_with(centers, pooling="soft", gamma=gamma)(embeddings)
    )
    # (K − 1) γ / e bounds what the others can take from the maximum.
    assert (soft <= hard + 1e-12).all()
    assert (hard - soft).max() <= 2 * gamma / np.e


@pytest.mark.parametrize(("classes", "dim"), [(20, 64), (20_000, 64), (500, 9)])
def test_centers_start_near_length_one_in_every_direction(classes, dim):
    layer = keras_finegrain.CosineSimilarity(classes)
    layer.build((None, dim))
    centers = ops.convert_to_numpy(layer.centers)[:, 0]
    lengths = np.linalg.norm(centers, axis=1)
    assert lengths.mean() == pytest.approx(1, abs=0.1)
    directions = centers / lengths[:, None]
    assert np.linalg.norm(directions.mean(axis=0)) < 3 / np.sqrt(classes)


def test_it_has_no_loss_of_its_own():
    layer = keras_finegrain.CosineSimilarity(3, 2)
    layer(ops.ones((2, 4)), training=True)
    assert layer.losses == []
    assert layer.measures == []


def test_similarities_are_float32_under_a_mixed_policy():
    layer = keras_finegrain.CosineSimilarity(3, dtype="mixed_bfloat16")
    output = layer(ops.ones((2, 4), dtype="bfloat16"))
    assert keras.backend.standardize_dtype(output.dtype) == "float32"


def test_a_share_of_the_classes_trains_under_a_margin_loss():
    """Partial FC, as it was published: a sampled ArcFace."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 40, 160)
    features = generator.normal(size=(40, 16))[labels]
    features += 0.1 * generator.normal(size=features.shape)
    model = keras_finegrain.Sequential(
        [
            keras.Input((16,)),
            keras_finegrain.CosineSimilarity(40, sampled_share=0.5, seed=0),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.05),
        keras_finegrain.losses.ArcFaceLoss(scale=16, margin=0.2),
        metrics=["accuracy"],
    )
    model.fit(features, labels, batch_size=16, epochs=10, verbose=0)
    assert model.predict(features, verbose=0).shape == (160, 40)
    assert model.evaluate(features, labels, verbose=0)[1] > 0.9


def test_a_saved_model_says_the_same(tmp_path):
    model = keras_finegrain.Sequential(
        [
            keras.Input((4,)),
            keras_finegrain.CosineSimilarity(3, 2, "soft", 0.3),
        ]
    )
    x = np.random.default_rng(0).normal(size=(5, 4))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.predict(x, verbose=0), model.predict(x, verbose=0)
    )


def test_config_restores_every_argument():
    layer = keras_finegrain.CosineSimilarity(
        4, 3, "soft", 0.2, "glorot_normal", 0.5, 7, name="head"
    )
    copy = keras_finegrain.CosineSimilarity.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    plain = keras_finegrain.CosineSimilarity(4).get_config()
    assert plain["centers_initializer"] is None


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_classes": 0},
        {"centers_per_class": 0},
        {"pooling": "mean"},
        {"gamma": 0},
        {"sampled_share": 1.5},
    ],
    ids=str,
)
def test_arguments_are_named_in_the_error(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=rf"CosineSim.*{name}.*received"):
        keras_finegrain.CosineSimilarity(**{"num_classes": 2, **arguments})


def test_feature_map_is_told_to_pool():
    with pytest.raises(ValueError, match="GlobalAveragePooling2D"):
        keras_finegrain.CosineSimilarity(3)(keras.Input((7, 7, 8)))


def test_small_gamma_does_not_overflow():
    layer = keras_finegrain.CosineSimilarity(
        2, centers_per_class=2, pooling="soft", gamma=1e-30
    )
    layer.build((None, 2))
    layer.centers.assign([[[1, 0], [0, 1]], [[-1, 0], [-1, 0]]])
    similarities = ops.convert_to_numpy(layer(np.array([[2.0, 0.0]])))
    np.testing.assert_allclose(similarities, [[1, -1]])


def test_without_labels_on_purpose_a_head_that_samples_scores_all_classes():
    head = keras_finegrain.CosineSimilarity(8, sampled_share=0.25, seed=0)
    x = np.ones((2, 3), "float32")
    with keras_finegrain.label_scope(None):
        assert head(x, training=True).shape == (2, 8)
    # Two samples name at most two classes, which is what a step scores.
    with keras_finegrain.label_scope(np.array([1, 5])):
        assert head(x, training=True).shape == (2, 2)
    assert head(x).shape == (2, 8)
    assert head.compute_output_shape((5, 3)) == (5, 8)
    assert head.supports_masking

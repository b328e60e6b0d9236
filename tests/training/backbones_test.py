import dataclasses
import os
import pathlib

import keras
import numpy as np
import pytest

from keras_finegrain.training import Settings, TrainingError
from keras_finegrain.training.backbones import (
    _preprocessed,
    build_backbone,
    cut_at,
)
from tests.colored_photos import SMALL

WEIGHTS = os.environ.get("KERAS_FINEGRAIN_WEIGHTS")


def values(weights):
    return [keras.ops.convert_to_numpy(weight) for weight in weights]


def assert_same(weights, others, same=True):
    pairs = zip(values(weights), values(others), strict=True)
    # Those that start at 0 or 1 are the same in any case.
    assert all(np.array_equal(*pair) for pair in pairs) == same


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A file of a small model from images of 24 pixels to a feature map."""
    path = tmp_path_factory.mktemp("backbone") / "own.keras"
    model = build_backbone(dataclasses.replace(SMALL, image_size=24))
    model.save(path)
    return path, model


def test_a_file_gives_its_layers_and_weights_for_another_size(stored):
    path, model = stored
    built = build_backbone(Settings(backbone=str(path), image_size=16))
    assert built.input.shape == (None, 16, 16, 3)
    assert built.output.shape == (None, 2, 2, 192)
    assert [layer.name for layer in built.layers] == [
        layer.name for layer in model.layers
    ]
    assert_same(built.weights, model.weights)
    images = np.random.default_rng(0).uniform(0, 255, (2, 24, 24, 3))
    same_size = build_backbone(Settings(backbone=str(path), image_size=24))
    np.testing.assert_allclose(
        same_size.predict(images, verbose=0),
        model.predict(images, verbose=0),
        rtol=1e-5,
        atol=1e-5,
    )


def test_a_file_can_be_trained_from_scratch_or_from_other_weights(
    stored, tmp_path
):
    path, model = stored
    settings = Settings(backbone=str(path), image_size=16, weights="none")
    keras.utils.set_random_seed(11)  # Every test starts with that of the file.
    fresh = build_backbone(settings)
    assert_same(fresh.weights, model.weights, same=False)
    weights = tmp_path / "other.weights.h5"
    fresh.save_weights(weights)
    other = build_backbone(dataclasses.replace(settings, weights=str(weights)))
    assert_same(other.weights, fresh.weights)


def test_the_small_backbone_has_learned_from_drawn_birds():
    drawn = Settings(weights="drawn_birds", image_size=16)
    first, again = build_backbone(drawn), build_backbone(drawn)
    assert_same(first.weights, again.weights)
    # Normalization has seen images: it is no longer as it was made.
    assert np.abs(values([first.get_layer("norm_4").moving_mean])).min() > 0

    other = dataclasses.replace(drawn, backbone="MobileNet")
    with pytest.raises(TrainingError, match="belongs to --backbone small"):
        build_backbone(other)


@pytest.mark.parametrize("mixed", ["mixed_bfloat16"], indirect=True)
def test_a_file_computes_in_half_precision_like_other_backbones(stored, mixed):
    path, _ = stored
    built = build_backbone(Settings(backbone=str(path), image_size=16))
    assert built.get_layer("conv_2").compute_dtype == "bfloat16"
    for weight in built.weights:
        assert keras.backend.standardize_dtype(weight.dtype) == "float32"


def test_a_sequential_model_is_a_backbone_too(tmp_path):
    model = keras.Sequential(
        [keras.Input((24, 24, 3)), keras.layers.Conv2D(4, 3, name="own")]
    )
    path = tmp_path / "sequential.keras"
    model.save(path)
    built = build_backbone(Settings(backbone=str(path), image_size=16))
    assert built.output.shape == (None, 14, 14, 4)
    assert_same(built.weights, model.weights)
    assert cut_at(built, "own").shape == (None, 14, 14, 4)


def test_what_is_no_backbone_is_said_in_one_error(tmp_path):
    images = keras.Input((8, 8, 3))
    vectors = keras.layers.GlobalAveragePooling2D()(images)
    keras.Model(images, vectors).save(tmp_path / "vectors.keras")
    keras.Model(images, [images, images]).save(tmp_path / "two.keras")
    (tmp_path / "text.keras").write_text("no model")
    for name, message in (
        ("missing", "there is no such file"),
        ("text", "cannot be built for images of 16 x 16 pixels: "),
        ("vectors", r"must end in a feature map .*, and ends in \(None, 3\)$"),
        ("two", r"must end in a feature map .*, and ends in .*\), \(None"),
    ):
        path = tmp_path / f"{name}.keras"
        with pytest.raises(TrainingError, match=message) as error:
            build_backbone(Settings(backbone=str(path), image_size=16))
        assert str(error.value).startswith(f"--backbone {path}: ")
        assert len(str(error.value).splitlines()) == 1


def test_arguments_are_refused_where_there_are_none(stored):
    settings = Settings(backbone=str(stored[0]), backbone_args={"alpha": 1})
    with pytest.raises(TrainingError, match="takes none, received alpha"):
        build_backbone(settings)


@pytest.mark.skipif(
    keras.backend.backend() == "jax",
    reason="nothing in it depends on the backend, and JAX takes ten seconds",
)
def test_a_model_of_keras_applications_takes_images_as_they_are_stored():
    backbone = build_backbone(
        Settings(
            backbone="MobileNet",
            backbone_args={"alpha": 0.25},
            weights="none",
            image_size=32,
        )
    )
    assert backbone.output.shape == (None, 1, 1, 256)
    scaled = keras.Model(
        backbone.inputs[0], backbone.get_layer("preprocess").output
    )
    images = np.array([0, 255], "float32").reshape(2, 1, 1, 1)
    found = scaled(np.broadcast_to(images, (2, 32, 32, 3)))
    found = keras.ops.convert_to_numpy(found)
    np.testing.assert_allclose(found[0], -1)
    np.testing.assert_allclose(found[1], 1, atol=1e-6)


def test_preprocessing_layers_do_what_keras_applications_does():
    images = np.random.default_rng(0).uniform(0, 255, (2, 4, 4, 3))
    images = images.astype("float32")
    for name, module in (
        ("MobileNet", keras.applications.mobilenet),
        ("ResNet50", keras.applications.resnet),
        ("DenseNet121", keras.applications.densenet),
        ("EfficientNetB0", keras.applications.efficientnet),
        ("MobileNetV3Small", keras.applications.mobilenet_v3),
    ):
        symbolic = keras.Input((4, 4, 3))
        layers = keras.Model(symbolic, _preprocessed(name, symbolic))

        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(layers(images)),
            module.preprocess_input(images.copy()),
            atol=1e-4,
        )


def test_what_comes_up_to_the_cut_is_frozen_and_nothing_else():
    backbone = build_backbone(SMALL)
    cut = cut_at(backbone, "relu_2")
    assert cut.shape == (None, 8, 8, 32)
    trained = [weight.path for weight in backbone.trainable_weights]
    assert [path.split("/")[-2] for path in trained] == [
        *("conv_3", "norm_3", "norm_3"),
        *("conv_4", "norm_4", "norm_4"),
    ]
    # Up to its end, a backbone is frozen as a whole.
    cut_at(backbone, "relu_4")
    assert not backbone.trainable_weights


def test_a_backbone_is_not_cut_where_a_branch_leads_around():
    images = keras.Input((8, 8, 3))
    first = keras.layers.Conv2D(4, 1, name="first")(images)
    second = keras.layers.Conv2D(4, 1, name="second")(first)
    joined = keras.layers.Add(name="joined")([first, second])
    backbone = keras.Model(images, keras.layers.ReLU(name="last")(joined))
    with pytest.raises(TrainingError, match=r"--freeze second: .* around it"):
        cut_at(backbone, "second")
    assert all(layer.trainable for layer in backbone.layers)
    with pytest.raises(TrainingError, match=r"no such layer\. .* mean join"):
        cut_at(backbone, "join")
    assert cut_at(backbone, "joined").shape == (None, 8, 8, 4)


@pytest.mark.slow
@pytest.mark.skipif(
    WEIGHTS is None, reason="KERAS_FINEGRAIN_WEIGHTS is not set"
)
def test_a_published_backbone_is_built_for_small_images_and_cut():
    path = pathlib.Path(WEIGHTS) / "efficientnet_lite0_imagenet.keras"
    backbone = build_backbone(Settings(backbone=str(path), image_size=64))
    assert backbone.output.shape == (None, 2, 2, 1280)
    cut = cut_at(backbone, "block10_add")
    assert cut.shape[1:3] == (4, 4)
    images = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3))
    features = backbone.predict(images, verbose=0)
    assert np.isfinite(features).all()
    assert features.std() > 0.01

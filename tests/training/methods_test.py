import dataclasses

import keras
import numpy as np
import pytest

import keras_finegrain
from keras_finegrain.training import Settings, TrainingError
from keras_finegrain.training.methods import (
    METHODS,
    balanced_batch,
    build_head,
    build_loss,
    check_method,
)

SETTINGS = Settings(soft_triple_centers=2)


def with_settings(**settings):
    return dataclasses.replace(SETTINGS, **settings)


def backbone_of(channels=12):
    """From images of 16 × 16 to maps of 8 × 8, 4 × 4 and 2 × 2 pixels."""
    images = x = keras.Input((16, 16, 3))
    for _ in range(3):
        x = keras.layers.Conv2D(channels, 2, 2)(x)
    return keras.Model(images, x)


def test_every_name_builds_a_head_whose_loss_takes_what_it_is_given():
    labels = np.array([0, 0, 1, 1, 2, 2])
    images = np.random.default_rng(0).normal(size=(6, 16, 16, 3))
    built = {}
    for method in METHODS:
        backbone = backbone_of()
        settings = with_settings(method=method, embedding_size=4)
        head = build_head(settings, backbone, 3)
        model = head.model_class(backbone.input, head.trained)
        value = head.loss(labels, model(images))
        assert np.isfinite(keras.ops.convert_to_numpy(value)), method
        assert head.scores.shape == (None, 3), method
        built[method] = type(head.loss)
    # One word, one method: what shares a loss differs in its head.
    assert built["arcface"] is built["subcenter_arcface"]
    assert built["soft_triple"] is built["hard_triple"]
    assert built["triplet_hard"] is built["triplet_soft"]
    # (As softmax, center, mc and pmg share Keras's cross-entropy, and cosface
    # and ldam one loss.)
    assert len(set(built.values())) == len(METHODS) - 7


def test_the_arguments_of_a_loss_reach_it():
    loss = build_loss(
        with_settings(method="arcface", loss_args={"scale": 16, "margin": 0.3}),
        3,
    )
    assert (loss.scale, loss.margin) == (16, 0.3)
    loss = build_loss(
        with_settings(method="triplet", loss_args={"margin": 0.5}), 3
    )
    assert (loss.margin, loss.distance_metric) == (0.5, "squared-L2")


def test_the_sizes_of_the_classes_reach_the_losses_for_long_tails():
    counts = [1, 16, 256]
    of_logits = build_loss(with_settings(method="logit_adjusted"), 3, counts)
    assert of_logits.class_counts == (1, 16, 256)
    of_cosines = build_loss(with_settings(method="ldam"), 3, counts)
    assert of_cosines.margin == (0.5, 0.25, 0.125)
    assert of_cosines.scale == 30


def test_a_memory_and_a_neck_stand_where_they_are_asked_for():
    backbone = backbone_of()
    settings = with_settings(
        method="contrastive",
        memory_size=9,
        embedding_size=4,
        embedding_neck=True,
        pooling="average_max",
    )
    head = build_head(settings, backbone, 3)
    model = keras_finegrain.Model(backbone.input, head.trained)
    assert model.get_layer("memory").memory_size == 9
    assert not model.get_layer("embedding").use_bias
    assert model.get_layer("pooling").output.shape == (None, 12)


@pytest.mark.parametrize("method", ["softmax", "n_pairs"])
def test_what_has_no_pairs_with_earlier_batches_takes_no_memory(method):
    settings = with_settings(method=method, memory_size=9, embedding_size=4)
    with pytest.raises(TrainingError, match=r"--memory-size 9: only triplet"):
        check_method(settings, channels=12, num_classes=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gamma": 2}, r"--loss-args gamma: .* arcface takes scale, margin"),
        ({"margin": 28.6}, r"--loss-args: ArcFaceLoss: margin .* 28\.6"),
    ],
)
def test_what_a_loss_does_not_take_is_named(arguments, message):
    settings = with_settings(method="arcface", loss_args=arguments)
    with pytest.raises(TrainingError, match=message):
        build_loss(settings, 3)


def test_the_settings_of_a_method_reach_its_layers():
    settings = Settings(
        pooling="max",
        embedding_size=5,
        sub_centers=2,
        center_weight=0.1,
        center_alpha=0.2,
        mc_weight=0.3,
        mc_diversity_weight=0.4,
        soft_triple_centers=6,
        soft_triple_gamma=0.7,
        soft_triple_tau=0.8,
        soft_triple_scale=9,
        soft_triple_margin=0.05,
    )
    layers, losses = {}, {}
    for method in ("center", "mc", "soft_triple", "subcenter_arcface"):
        backbone = backbone_of()
        own = dataclasses.replace(settings, method=method)
        head = build_head(own, backbone, 3)
        assert head.embedding.shape == (None, 5)
        model = keras.Model(backbone.input, head.scores)
        layers[method] = {layer.name: layer for layer in model.layers}
        losses[method] = head.loss
        assert isinstance(
            layers[method]["pooling"], keras.layers.GlobalMaxPooling2D
        )
    center = layers["center"]["center_loss"]
    assert (center.loss_weight, center.alpha) == (0.1, 0.2)
    channels = layers["mc"]["mc_loss"]
    assert (channels.loss_weight, channels.diversity_weight) == (0.3, 0.4)
    head = layers["soft_triple"]["head"]
    assert (head.centers_per_class, head.gamma, head.tau) == (6, 0.7, 0.8)
    loss = losses["soft_triple"]
    assert (loss.scale, loss.margin) == (9, 0.05)
    assert layers["subcenter_arcface"]["head"].centers_per_class == 2


def test_fewer_channels_than_classes_is_found_before_training():
    check_method(with_settings(method="softmax"), 192, 200)
    check_method(with_settings(method="mc"), 192, 192)
    with pytest.raises(TrainingError, match=r"--method mc: .*192 for 200 cl"):
        check_method(with_settings(method="mc"), 192, 200)
    check_method(with_settings(method="mc", mc_branch=1), 192, 200)


def test_the_channels_may_be_those_of_an_earlier_layer():
    inputs = keras.Input((8, 8, 3))
    before = keras.layers.Conv2D(6, 1, name="before")
    backbone = keras.Model(inputs, keras.layers.ReLU()(before(inputs)))
    # Below zero, where the ReLU has no slope: the loss alone trains it.
    before.bias.assign(keras.ops.full((6,), -1e3))
    kernel = keras.ops.convert_to_numpy(before.kernel)
    settings = with_settings(method="mc", mc_layer="before")
    head = build_head(settings, backbone, 5)
    model = head.model_class(inputs, head.scores)
    assert model.get_layer("mc_loss").group_sizes == (1, 1, 1, 1, 2)
    model.compile(keras.optimizers.SGD(0.1), head.loss)
    x = np.random.default_rng(0).uniform(0, 1, (4, 8, 8, 3))
    model.fit(x, np.arange(4), verbose=0)
    trained = keras.ops.convert_to_numpy(before.kernel)
    assert np.abs(trained - kernel).max() > 1e-3
    with_branch = dataclasses.replace(settings, mc_branch=3)
    head = build_head(with_branch, backbone, 5)
    branch = head.model_class(inputs, head.scores).get_layer("mc_branch")
    assert branch.input is before.output


@pytest.mark.parametrize(
    ("layer", "num_classes", "message"),
    [
        ("befor", 5, "--mc-layer befor: .*Did you mean before"),
        ("first", 5, "--mc-layer first: --freeze first freezes it, .*behind"),
        ("before", 7, "--method mc: .* --mc-layer before has 6 for 7 classes"),
    ],
)
def test_channels_that_cannot_be_trained_are_named(layer, num_classes, message):
    inputs = keras.Input((8, 8, 3))
    first = keras.layers.Conv2D(2, 1, trainable=False, name="first")
    before = keras.layers.Conv2D(6, 1, name="before")
    backbone = keras.Model(inputs, keras.layers.ReLU()(before(first(inputs))))
    settings = with_settings(method="mc", mc_layer=layer, freeze="first")
    check_method(settings, 6, num_classes)
    with pytest.raises(TrainingError, match=message):
        build_head(settings, backbone, num_classes)


def test_the_sizes_of_pmg_are_those_of_the_settings_or_the_papers():
    for size, wanted in ((None, 512), (5, 5)):
        backbone = backbone_of()
        settings = with_settings(method="pmg", embedding_size=size)
        head = build_head(settings, backbone, 3)
        model = head.model_class(backbone.input, head.scores)
        assert head.embedding.shape == (None, wanted)
        assert model.get_layer("stage_1_pooling").output.shape[1] == 2 * wanted
        assert [j.pieces for j in model.get_layer("scores").jigsaws] == [
            8,
            4,
            2,
        ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"freeze": "all"}, "--method pmg with --freeze all: .*--freeze none"),
        ({"image_size": 20}, "--image-size 20: .*a multiple of 8"),
        ({"pooling": "gem"}, "--pooling: --method pmg has a pooling"),
        (
            {"embedding_size": 4, "embedding_neck": True},
            "--embedding-neck: --method pmg has a pooling",
        ),
    ],
)
def test_what_pmg_is_not_trained_with_is_named(settings, message):
    with pytest.raises(TrainingError, match=message):
        check_method(with_settings(method="pmg", **settings), 12, 3)


def test_a_branch_for_the_channels_is_no_part_of_the_embedding():
    backbone = backbone_of(channels=4)
    head = build_head(with_settings(method="mc", mc_branch=3), backbone, 5)
    model = keras.Model(backbone.input, head.scores)
    assert model.get_layer("mc_branch").kernel.shape == (1, 1, 4, 15)
    assert model.get_layer("mc_loss").group_sizes == (3,) * 5
    assert head.embedding.shape == (None, 4)


@pytest.mark.parametrize(
    ("method", "batch_size", "num_classes", "batch"),
    [
        ("softmax", 32, 21, None),
        ("triplet", 32, 21, (8, 4)),
        # No more classes than there are, no more images than are used.
        ("triplet", 32, 5, (5, 4)),
        ("n_pairs", 32, 21, (16, 2)),
    ],
)
def test_pairs_get_batches_of_classes_with_several_images(
    method, batch_size, num_classes, batch
):
    settings = with_settings(method=method, batch_size=batch_size)
    assert balanced_batch(settings, num_classes) == batch


def test_a_batch_without_two_classes_is_refused():
    settings = with_settings(method="triplet", batch_size=7)
    with pytest.raises(TrainingError, match=r"--batch-size 7: .*two classes"):
        check_method(settings, 12, 3)
    check_method(dataclasses.replace(settings, batch_size=8), 12, 3)


@pytest.mark.skipif(
    keras.backend.backend() != "jax",
    reason="only JAX has to divide every batch by the devices",
)
def test_balanced_batches_that_devices_cannot_share_are_refused():
    settings = with_settings(method="triplet", images_per_class=3)
    check_method(settings, 12, 3, replicas=3)
    with pytest.raises(TrainingError, match=r"batch of 9, .* 2 devices"):
        check_method(settings, 12, 3, replicas=2)


@pytest.mark.parametrize("method", ["triplet", "n_pairs"])
def test_mixed_images_are_refused_by_losses_on_pairs(method):
    settings = with_settings(method=method, mixup=0.4)
    with pytest.raises(TrainingError, match=rf"--mixup 0\.4: .*{method} asks"):
        check_method(settings, 8, 3)


def test_a_method_keeps_its_loss_with_mixed_images():
    loss = build_loss(with_settings(method="arcface", mixup=0.4), 3)
    assert isinstance(loss, keras_finegrain.losses.ArcFaceLoss)


def test_a_method_of_no_such_name_is_no_softmax():
    settings = with_settings(method="tripel")
    with pytest.raises(TrainingError, match=r"--method: .* received 'tripel'"):
        check_method(settings, channels=192, num_classes=3)

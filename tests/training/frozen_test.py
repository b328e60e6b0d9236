import dataclasses

import keras
import numpy as np
import pytest

from keras_finegrain.datasets.crops import mirrored, training_boxes
from keras_finegrain.training import (
    FeatureCache,
    ImageStream,
    TrainingError,
)
from keras_finegrain.training.backbones import build_backbone, cut_at
from keras_finegrain.training.frozen import FrozenFeatures
from tests.colored_photos import SMALL


@pytest.fixture(scope="module")
def settings(small_weights):
    return dataclasses.replace(
        SMALL, weights=str(small_weights), freeze="relu_2", views=2
    )


@pytest.fixture(scope="module")
def frozen(settings):
    """The first two stages of the backbone."""
    backbone = build_backbone(settings)
    return keras.Model(backbone.input, cut_at(backbone, settings.freeze))


def assert_output_of(frozen, images, features):
    assert features.dtype == np.float16
    expected = frozen.predict(np.asarray(images), verbose=0)
    # Half precision keeps 11 bits.
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-3)


def test_features_are_what_the_frozen_part_says_of_the_same_crops(
    split, photos, settings, frozen
):
    features = split.frozen(settings, frozen, FeatureCache())
    front = split.front(settings)
    numbers = np.arange(len(photos.labels), dtype=np.int32)
    sizes = np.array([photo.shape[:2] for photo in photos.decode()])
    assert features.views.shape[:2] == (2, len(numbers))
    for view in range(2):
        rng = np.random.default_rng(view)
        boxes = mirrored(training_boxes(sizes, rng), rng)
        images = keras.ops.convert_to_numpy(front((numbers, boxes)))
        assert_output_of(frozen, images, features.views[view])

    for batches, tested in (
        (features.test(settings), photos.is_test),
        (features.train_as_tested(settings), ~photos.is_test),
    ):
        parts = [batches[index] for index in range(len(batches))]
        labels = np.concatenate([labels for _, labels in parts])
        np.testing.assert_array_equal(labels, photos.labels[tested])
    plain = [
        keras.ops.convert_to_numpy(front(inputs))
        for inputs, _ in split.test(settings)
    ]
    assert_output_of(
        frozen,
        np.concatenate(plain),
        np.concatenate([inputs for inputs, _ in features.test(settings)]),
    )


def test_features_of_a_stream_are_those_of_its_images(stream, settings, frozen):
    settings = dataclasses.replace(settings, augment="none")
    features = stream.frozen(settings, frozen, FeatureCache())
    for batches, others in (
        (features.train_as_tested(settings), stream.train_as_tested(settings)),
        (features.test(settings), stream.test(settings)),
    ):
        for (found, labels), (images, expected) in zip(
            batches, others, strict=True
        ):
            np.testing.assert_array_equal(labels, expected)
            assert_output_of(frozen, images, found)
    size = len(features.train_images)
    for view in features.views:
        np.testing.assert_array_equal(view, features.plain[:size])


def test_views_of_a_stream_differ(stream, settings, frozen):
    features = stream.frozen(settings, frozen, FeatureCache())
    assert features.views.shape[:2] == (2, len(features.train_images))
    changes = np.abs(np.diff(features.views.astype("float32"), axis=0))
    assert (changes.reshape(len(features.train_images), -1) > 0).any(1).all()


def test_features_of_a_stream_are_not_taken_for_those_of_another(
    image_folder, settings, frozen, tmp_path
):
    """A folder may hold other images tomorrow."""
    cache = FeatureCache(tmp_path)
    settings = dataclasses.replace(settings, views=1)
    for _ in range(2):
        ImageStream(image_folder).frozen(settings, frozen, cache)
    assert len(list(tmp_path.iterdir())) == 2


def test_an_epoch_has_one_view_of_each_image_and_all_views_in_turn(settings):
    labels = np.arange(24, dtype=np.int32) % 3
    views = 100 * np.arange(3)[:, None] + np.arange(24)
    features = FrozenFeatures(
        views=views.astype(np.float16),
        plain=views[0].astype(np.float16),
        labels=labels,
        train_images=np.arange(16),
        test_images=np.arange(16, 24),
    )
    batches = features.train(settings, seed=0)
    seen = set()
    for _ in range(2):
        parts = [batches[index] for index in range(len(batches))]
        found = np.concatenate([inputs for inputs, _ in parts]).astype(int)
        assert sorted(found % 100) == list(range(16))
        np.testing.assert_array_equal(
            np.concatenate([y for _, y in parts]), labels[found % 100]
        )
        seen |= set(found // 100)
        batches.on_epoch_end()
    assert seen == {0, 1, 2}

    settings = dataclasses.replace(
        settings, method="triplet", batch_size=4, images_per_class=2
    )
    balanced = features.train(settings, seed=0)
    for index in range(len(balanced)):
        inputs, found = balanced[index]
        np.testing.assert_array_equal(labels[inputs.astype(int) % 100], found)
        assert np.unique(found, return_counts=True)[1].tolist() == [2, 2]


def computed(calls, value=1.0):
    """What to compute, and a note that it was."""

    def compute(start):
        calls.append(value)
        return {"views": np.full((2, 3), value), "plain": np.zeros(3)}

    return compute


def test_a_folder_keeps_features_for_other_processes(
    tmp_path, settings, capsys
):
    calls = []
    first = FeatureCache(tmp_path / "new").arrays(
        "photos", settings, computed(calls)
    )
    (file,) = (tmp_path / "new").iterdir()
    before = file.read_bytes()
    cache = FeatureCache(tmp_path / "new")
    for _ in range(2):
        again = cache.arrays("photos", settings, computed(calls, 2.0))
        assert again.keys() == first.keys()
        for name, array in first.items():
            np.testing.assert_array_equal(again[name], array)
    assert calls == [1.0]
    assert file.read_bytes() == before
    assert capsys.readouterr().out.count("computing the output of") == 1


def test_without_a_folder_the_process_keeps_the_latest_features(settings):
    calls = []
    cache = FeatureCache()
    for digest in ("photos", "photos", "others"):
        cache.arrays(digest, settings, computed(calls))
    assert len(calls) == 2


def test_maps_and_pooled_features_are_kept_beside_each_other(settings):
    """A comparison of mc with others takes both in turns."""
    calls = []
    cache = FeatureCache()
    for pooled in (False, True, False, True):
        arrays = cache.arrays(
            "photos", settings, computed(calls, 1.0 + pooled), pooled=pooled
        )
        assert (arrays["views"] == 1 + pooled).all()
    assert calls == [1.0, 2.0]


def test_pooled_features_of_one_pooling_are_not_taken_for_another(
    tmp_path, settings
):
    calls = []
    for pooling in ("average", "max", "average"):
        FeatureCache(tmp_path).arrays(
            "photos",
            dataclasses.replace(settings, pooling=pooling),
            computed(calls),
            pooled=True,
        )
    assert len(calls) == 2
    # Nor are the maps that an earlier version has kept.
    FeatureCache(tmp_path).arrays("photos", settings, computed(calls))
    assert len(calls) == 3


def test_a_backbone_is_shared_if_all_of_it_is_frozen(settings, tmp_path):
    def shares(first, second):
        cache = FeatureCache()
        return cache.backbone(first)[0] is cache.backbone(second)[0]

    last = dataclasses.replace(settings, freeze="relu_4")
    for freeze in ("all", "relu_4"):
        whole = dataclasses.replace(settings, freeze=freeze)
        assert shares(whole, dataclasses.replace(whole, method="arcface"))
    for change in ({"image_size": 24}, {"mixed_precision": "bfloat16"}):
        assert not shares(last, dataclasses.replace(last, **change))
    # The rest of these is trained.
    for part in ("relu_2", None):
        part = dataclasses.replace(settings, freeze=part)
        assert not shares(part, part)


@pytest.mark.parametrize(
    "change",
    [
        {"views": 3},
        {"image_size": 24},
        {"freeze": "relu_3"},
        {"augment": "none"},
        {"color": 0.1},
        {"mixed_precision": "bfloat16"},
        {"backbone": "MobileNet"},
        {"backbone_args": {"alpha": 0.5}},
        {"weights": "imagenet"},
    ],
)
def test_features_made_with_other_settings_are_not_taken(
    tmp_path, settings, change
):
    calls = []
    cache = FeatureCache(tmp_path)
    cache.arrays("photos", settings, computed(calls))
    cache.arrays(
        "photos", dataclasses.replace(settings, **change), computed(calls)
    )
    assert len(calls) == len(list(tmp_path.iterdir())) == 2


def test_features_of_other_photos_or_weights_are_not_taken(tmp_path, settings):
    calls = []
    cache, weights = FeatureCache(tmp_path), tmp_path / "any.weights.h5"
    weights.write_bytes(b"first")
    settings = dataclasses.replace(settings, weights=str(weights))
    cache.arrays("photos", settings, computed(calls))
    cache.arrays("others", settings, computed(calls))
    weights.write_bytes(b"second")
    cache.arrays("photos", settings, computed(calls))
    assert len(calls) == 3
    # The same weights somewhere else are the same.
    copy = weights.rename(tmp_path / "moved.weights.h5")
    cache.arrays(
        "photos",
        dataclasses.replace(settings, weights=str(copy)),
        computed(calls),
    )
    assert len(calls) == 3


def test_all_methods_and_rates_share_their_features(tmp_path, settings):
    calls = []
    for change in (
        {},
        {"method": "center"},
        {"lr": 1.0, "epochs": 9, "batch_size": 4},
        {"pooling": "max", "embedding_size": 3},
    ):
        FeatureCache(tmp_path).arrays(
            "photos", dataclasses.replace(settings, **change), computed(calls)
        )
    assert len(calls) == 1


def test_an_interrupted_file_is_not_left_behind(
    tmp_path, settings, monkeypatch
):
    def killed(file, **arrays):
        file.write(b"PK")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", killed)
        with pytest.raises(KeyboardInterrupt):
            FeatureCache(tmp_path).arrays("photos", settings, computed([]))
    assert not list(tmp_path.iterdir())
    calls = []
    for _ in range(2):
        arrays = FeatureCache(tmp_path).arrays(
            "photos", settings, computed(calls, 4.0)
        )
        assert (arrays["views"] == 4).all()
    assert calls == [4.0]


def test_a_backbone_that_has_learned_nothing_is_not_frozen(settings):
    with pytest.raises(TrainingError, match=r"--freeze relu_2: .* --weights"):
        dataclasses.replace(settings, weights="none")

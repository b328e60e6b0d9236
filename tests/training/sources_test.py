import dataclasses

import keras
import numpy as np
import pytest

from keras_finegrain.datasets.crops import evaluation_boxes
from keras_finegrain.training import (
    ImageStream,
    PhotosOnDevice,
    TrainingError,
    train,
)
from tests.colored_photos import (
    SMALL,
    gray_photos,
    png,
    split_of,
)

GRAYS = (10, 50, 90, 130, 170, 210)


def with_settings(**settings):
    return dataclasses.replace(SMALL, **settings)


def images_of(source, settings, inputs, training=False):
    front = source.front(settings)
    return keras.ops.convert_to_numpy(front(inputs, training=training))


def epoch_of(batches):
    """Numbers of the photos, their boxes and labels, over a whole epoch."""
    parts = [batches[index] for index in range(len(batches))]
    numbers = np.concatenate([inputs[0] for inputs, _ in parts])
    boxes = np.concatenate([inputs[1] for inputs, _ in parts])
    return numbers, boxes, np.concatenate([labels for _, labels in parts])


def centers_of(photos, numbers):
    sizes = [photo.shape[:2] for photo in photos.decode(numbers)]
    return evaluation_boxes(np.array(sizes))


def test_a_seed_gives_the_same_batches_on_every_backend(split):
    batches = split.train(SMALL, seed=3)
    assert len(batches) == 6
    (numbers, boxes), labels = batches[0]
    assert numbers.tolist() == [22, 39, 24, 11, 31, 18, 23, 37]
    assert labels.tolist() == [1, 0, 0, 2, 1, 0, 2, 1]
    # The second is mirrored.
    np.testing.assert_allclose(
        boxes[:2],
        [[0.859, 2.573, 20.156, 19.377], [3.574, 20.863, 21.797, 0.498]],
        atol=1e-3,
    )


def test_another_epoch_has_another_order_and_other_crops(split, photos):
    batches = split.train(SMALL, seed=3)
    first, first_boxes, labels = epoch_of(batches)
    np.testing.assert_array_equal(labels, photos.labels[first])
    batches.on_epoch_end()
    second, second_boxes, labels = epoch_of(batches)
    np.testing.assert_array_equal(labels, photos.labels[second])
    assert sorted(first) == sorted(second) == list(range(48))
    assert first.tolist() != second.tolist()
    same_photo = (
        first_boxes[np.argsort(first)] == (second_boxes[np.argsort(second)])
    )
    assert same_photo.mean() < 0.1


def test_another_seed_has_another_order(split):
    one, other = (epoch_of(split.train(SMALL, seed)) for seed in (0, 1))
    assert one[0].tolist() != other[0].tolist()


@pytest.mark.parametrize(("augment", "share"), [("flip", 0.5), ("none", 0)])
def test_photos_are_only_mirrored_or_not_even_that_if_asked_for(
    split, photos, augment, share
):
    settings = with_settings(augment=augment)
    numbers, boxes, _ = epoch_of(split.train(settings, seed=0))
    mirrored = boxes[:, 1] > boxes[:, 3]
    assert mirrored.mean() == pytest.approx(share, abs=share / 2)
    boxes[mirrored] = boxes[mirrored][:, [0, 3, 2, 1]]
    np.testing.assert_array_equal(boxes, centers_of(photos, numbers))


def test_every_test_photo_is_tested_once_in_order_on_its_center(split, photos):
    numbers, boxes, labels = epoch_of(split.test(SMALL))
    np.testing.assert_array_equal(numbers, np.flatnonzero(photos.is_test))
    np.testing.assert_array_equal(labels, photos.labels[photos.is_test])
    np.testing.assert_array_equal(boxes, centers_of(photos, numbers))

    numbers, boxes, _ = epoch_of(split.train_as_tested(SMALL))
    np.testing.assert_array_equal(numbers, np.flatnonzero(~photos.is_test))
    np.testing.assert_array_equal(boxes, centers_of(photos, numbers))


def test_the_images_of_a_batch_are_cut_from_its_photos():
    photos = gray_photos(GRAYS)
    source = split_of(photos)
    inputs, labels = source.train(SMALL, seed=0)[0]
    images = images_of(source, SMALL, inputs)
    assert images.shape == (6, 16, 16, 3)
    grays = np.array(GRAYS)[labels]
    # Beyond a photo the canvas is black: none of that is in its image.
    np.testing.assert_allclose(
        images, np.broadcast_to(grays[:, None, None, None], images.shape), 1e-5
    )


def test_photos_can_be_cut_to_their_boxes(photos):
    whole = PhotosOnDevice(photos)
    cut = PhotosOnDevice(photos, crop_to_boxes=True)
    assert len(whole) == len(cut) == len(photos.labels)
    assert (cut.sizes < whole.sizes).all()
    # Else features of the one would be taken for those of the other.
    assert whole.digest != cut.digest


def test_mixup_mixes_the_labels_as_it_mixes_the_pixels():
    source = split_of(gray_photos(GRAYS))
    settings = with_settings(mixup=1.0)
    shares = []
    batches = source.train(settings, seed=0)
    for _ in range(3):
        inputs, labels = batches[0]
        np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-6)
        images = images_of(source, settings, inputs, training=True)
        np.testing.assert_allclose(
            images,
            np.broadcast_to(
                (labels @ GRAYS)[:, None, None, None], images.shape
            ),
            rtol=1e-4,
        )
        shares.append(labels.max(axis=1))
        batches.on_epoch_end()
    # Beta(1, 1) is uniform: most images are mixed, and none as another is.
    assert (np.concatenate(shares) < 0.9).mean() > 0.5
    assert len(np.unique(np.concatenate(shares))) > 6


def test_mixup_leaves_the_images_that_are_tested_alone(split):
    settings = with_settings(mixup=1.0)
    inputs, labels = split.test(settings)[0]
    plain, plain_labels = split.test(SMALL)[0]
    np.testing.assert_allclose(
        images_of(split, settings, inputs),
        images_of(split, SMALL, plain),
        atol=1e-3,
    )
    np.testing.assert_array_equal(labels, plain_labels)


def test_smoothed_labels_keep_the_rest_of_their_share():
    source = split_of(gray_photos(GRAYS))
    count = source.num_classes
    plain, labels = source.train(SMALL, seed=0)[0]
    settings = with_settings(label_smoothing=0.3)
    inputs, smoothed = source.train(settings, seed=0)[0]
    np.testing.assert_array_equal(inputs[0], plain[0])
    expected = 0.7 * np.eye(count)[labels] + 0.3 / count
    np.testing.assert_allclose(smoothed, expected, rtol=1e-6)
    # Of mixed images, the mixture of theirs.
    settings = with_settings(label_smoothing=0.3, mixup=1.0)
    _, both = source.train(settings, seed=0)[0]
    _, mixed = source.train(with_settings(mixup=1.0), seed=0)[0]
    np.testing.assert_allclose(both, 0.7 * mixed + 0.3 / count, rtol=1e-5)


@pytest.mark.parametrize("name", ["mixup", "label_smoothing"])
def test_soft_labels_are_refused_where_the_batches_hold_features(name):
    option = name.replace("_", "-")
    with pytest.raises(TrainingError, match=rf"--{option} 0\.4: .*--freeze"):
        with_settings(**{name: 0.4}, freeze="relu_2")


def test_colors_vary_in_training_and_not_in_the_test(split):
    settings = with_settings(color=0.3)
    inputs, _ = split.test(settings)[0]
    plain = images_of(split, SMALL, inputs)
    np.testing.assert_allclose(
        images_of(split, settings, inputs), plain, atol=1e-3
    )
    first, second = (
        images_of(split, settings, inputs, training=True) for _ in range(2)
    )
    for images, others in ((first, plain), (second, plain), (first, second)):
        changes = np.abs(images - others).mean(axis=(1, 2, 3))
        assert (changes > 0.5).mean() > 0.5
    for images in (first, second):
        assert images.min() >= 0
        assert images.max() <= 255.001


def test_varied_colors_have_less_contrast_as_often_as_more():
    rng = np.random.default_rng(0)
    grays = rng.integers(80, 170, (24, 20, 20, 1))
    photos = dataclasses.replace(
        gray_photos(range(24)),
        encoded=tuple(png(np.tile(each, (1, 1, 3))) for each in grays),
    )
    source, settings = split_of(photos), with_settings(color=0.2)
    inputs, _ = source.train(with_settings(batch_size=24), seed=0)[0]
    spread = images_of(source, settings, inputs, True).std(axis=(1, 2, 3))
    factor = spread / images_of(source, SMALL, inputs).std(axis=(1, 2, 3))
    assert factor.min() > 0.8 - 0.01
    assert factor.max() < 1.2 + 0.01
    assert 0.25 < (factor < 1).mean() < 0.75


def test_a_stream_without_photos_to_test_on_is_refused(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    from keras_finegrain import datasets

    for name in ("ash", "elm"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(png(np.zeros((8, 8, 3))))
    data = datasets.load(tmp_path, single_images="train")
    with pytest.raises(TrainingError, match="no images to test on"):
        ImageStream(data)


@pytest.mark.parametrize("name", ["color", "mixup", "label_smoothing"])
@pytest.mark.parametrize("freeze", [None, "relu_2"])
def test_a_stream_refuses_what_needs_photos_in_memory(
    stream, name, freeze, small_weights
):
    option = name.replace("_", "-")
    with pytest.raises(TrainingError, match=rf"--{option} 0\.25"):
        train(
            with_settings(
                weights=str(small_weights), freeze=freeze, **{name: 0.25}
            ),
            0,
            stream,
        )

import keras
import numpy as np
import pytest

from keras_finegrain import datasets


@pytest.fixture(scope="module")
def pairs():
    """Pictures of several sizes whose color is their label times ten."""
    import tensorflow as tf

    def generate():
        generator = np.random.default_rng(0)
        for label in range(20):
            height, width = generator.integers(20, 60, 2)
            image = np.full((height, width, 3), label * 10, np.uint8)
            image[: height // 2, : width // 2] += 5
            yield image, label

    dataset = tf.data.Dataset.from_generator(
        generate,
        output_signature=(
            tf.TensorSpec((None, None, 3), tf.uint8),
            tf.TensorSpec((), tf.int64),
        ),
    )
    return dataset.apply(tf.data.experimental.assert_cardinality(20))


def epoch(dataset):
    images, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def make(pairs, training=True, **arguments):
    return datasets.batches(
        pairs, image_size=24, batch_size=8, training=training, **arguments
    )


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("augment", ["flip_crop", "flip", "none"])
def test_an_epoch_has_every_image_once_with_its_own_label(
    pairs, training, augment
):
    dataset = make(pairs, training, augment=augment)
    assert int(dataset.cardinality()) == 3
    images, labels = epoch(dataset)
    assert images.shape == (20, 24, 24, 3)
    assert images.dtype == np.float32
    assert labels.dtype == np.int32
    assert sorted(labels) == list(range(20))
    np.testing.assert_array_equal(images.min((1, 2, 3)), labels * 10)
    assert images.max() <= 255


def test_the_same_seed_gives_the_same_epochs_and_each_epoch_is_new(pairs):
    first, again, other = make(pairs), make(pairs), make(pairs, seed=1)
    epochs = [epoch(first) for _ in range(3)]
    for images, labels in epochs:
        images_again, labels_again = epoch(again)
        np.testing.assert_array_equal(images, images_again)
        np.testing.assert_array_equal(labels, labels_again)
    assert not np.array_equal(epochs[0][1], epochs[1][1])
    assert not np.array_equal(epochs[0][1], epoch(other)[1])
    # Beyond the order, the crops of one image differ from epoch to epoch.
    by_label = [images[np.argsort(labels)] for images, labels in epochs]
    assert (by_label[0] != by_label[1]).any((1, 2, 3)).mean() > 0.8


def test_testing_keeps_the_order_and_repeats_itself(pairs):
    dataset = make(pairs, training=False)
    images, labels = epoch(dataset)
    np.testing.assert_array_equal(labels, np.arange(20))
    np.testing.assert_array_equal(images, epoch(dataset)[0])


@pytest.mark.parametrize("training", [True, False])
def test_a_cache_changes_nothing_but_reads_once(pairs, training, tmp_path):
    import tensorflow as tf

    reads = tf.Variable(0)

    def count(image, label):
        reads.assign_add(1)
        return image, label

    for cache in (True, str(tmp_path / "cache")):
        reads.assign(0)
        plain = make(pairs, training)
        cached = make(pairs.map(count), training, cache=cache)
        for _ in range(3):
            np.testing.assert_array_equal(epoch(plain)[0], epoch(cached)[0])
        assert int(reads) == 20


def test_only_flips_leave_the_central_crop(pairs):
    plain = make(pairs, training=False)
    by_label = epoch(plain)[0]
    images, labels = epoch(make(pairs, augment="flip"))
    wanted = by_label[labels]
    same = (images == wanted).all((1, 2, 3))
    mirrored = (images == wanted[:, :, ::-1]).all((1, 2, 3))
    assert (same | mirrored).all()
    assert same.any()
    assert mirrored.any()


def test_drop_remainder_leaves_full_batches(pairs):
    dataset = make(pairs, drop_remainder=True)
    assert dataset.element_spec[0].shape == (8, 24, 24, 3)
    assert len(epoch(dataset)[1]) == 16


def test_fit_and_evaluate_take_the_batches(pairs):
    model = keras.Sequential(
        [
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(20),
        ]
    )
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    history = model.fit(make(pairs), epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    result = model.evaluate(make(pairs, False), verbose=0, return_dict=True)
    assert np.isfinite(result["loss"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"image_size": 0}, "image_size"),
        ({"image_size": 2.5}, "image_size"),
        ({"batch_size": -1}, "batch_size"),
        ({"augment": "crop_flip"}, "flip_crop"),
    ],
)
def test_an_argument_out_of_range_is_named(pairs, arguments, words):
    defaults = {"image_size": 8, "batch_size": 2, "training": True}
    with pytest.raises(ValueError, match=words):
        datasets.batches(pairs, **{**defaults, **arguments})


def test_a_batched_dataset_is_refused(pairs):
    with pytest.raises(ValueError, match="batched already"):
        make(make(pairs))
    with pytest.raises(ValueError, match="as a whole"):
        make(np.zeros((3, 8, 8, 3)))

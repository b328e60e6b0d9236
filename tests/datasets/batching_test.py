import pathlib

import keras
import numpy as np
import pytest
from PIL import Image

from keras_finegrain import datasets
from keras_finegrain.datasets.decoding import decode, decoded_for


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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"training": "no"}, "training must be True or False"),
        ({"drop_remainder": 1}, "drop_remainder must be True or False"),
        ({"batch_size": "4"}, "batch_size must be an integer"),
        ({"batch_size": 2.0}, "batch_size must be an integer"),
        ({"seed": -1}, "seed must be an integer"),
        ({"seed": "a"}, "seed must be an integer"),
        ({"seed": None}, "seed must be an integer"),
        ({"cache": 3}, "cache must be True, False or the path"),
    ],
)
def test_an_argument_of_a_wrong_type_is_named(pairs, arguments, words):
    defaults = {"image_size": 8, "batch_size": 2, "training": True}
    with pytest.raises(ValueError, match=words):
        datasets.batches(pairs, **{**defaults, **arguments})


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "uint16", "int8", "int32", "bool"]
)
def test_pixels_whose_range_is_unknown_are_refused(dtype):
    import tensorflow as tf

    pairs = tf.data.Dataset.from_tensor_slices(
        (np.zeros((4, 8, 8, 3), dtype), [0, 0, 1, 1])
    )
    words = f"uint8.*received {dtype}.*Convert"
    with pytest.raises(ValueError, match=words):
        make(pairs)
    with pytest.raises(ValueError, match=words):
        datasets.balanced_batches(
            pairs, image_size=8, classes_per_batch=2, images_per_class=2
        )


def test_pixels_converted_as_the_error_says_keep_their_values():
    import tensorflow as tf

    shades = np.array([0, 51, 255])
    shape = np.ones((3, 8, 8, 3))
    for images in (
        (shades[:, None, None, None] / 255 * shape).astype("float32"),
        (shades[:, None, None, None] * 257 * shape).astype("uint16"),
    ):
        pairs = tf.data.Dataset.from_tensor_slices((images, [0, 1, 2])).map(
            lambda image, label: (
                tf.image.convert_image_dtype(image, tf.uint8, saturate=True),
                label,
            )
        )
        batch, _ = epoch(make(pairs, training=False))
        np.testing.assert_array_equal(np.unique(batch), shades)


@pytest.mark.parametrize("labels", [[0.0, 1.9], ["a", "b"], [True, False]])
def test_labels_that_are_no_integers_are_refused(labels):
    import tensorflow as tf

    images = np.zeros((2, 8, 8, 3), "uint8")
    pairs = tf.data.Dataset.from_tensor_slices((images, labels))
    with pytest.raises(ValueError, match="labels must be integers"):
        make(pairs)


def test_a_batched_dataset_is_refused(pairs):
    with pytest.raises(ValueError, match="batched already"):
        make(make(pairs))
    with pytest.raises(ValueError, match="as a whole"):
        make(np.zeros((3, 8, 8, 3)))


@pytest.fixture
def photo_folder(tmp_path):
    """Two classes of five JPEGs."""
    rng = np.random.default_rng(0)
    for number in range(10):
        coarse = rng.integers(0, 255, (6, 8, 3), np.uint8)
        size = tuple(rng.integers(40, 70, 2))
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coarse).resize(size).save(path)
    return tmp_path / "photos"


def both(photo_folder, **arguments):
    """The training split as images, and as files."""
    return [
        datasets.load(photo_folder, decode=decode, **arguments).train
        for decode in (True, False)
    ]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("cache", [False, True])
def test_files_give_the_batches_of_their_images(photo_folder, training, cache):
    images, files = (
        make(pairs, training, cache=cache) for pairs in both(photo_folder)
    )
    for _ in range(2):
        for wanted, given in zip(epoch(images), epoch(files), strict=True):
            np.testing.assert_array_equal(wanted, given)


@pytest.mark.parametrize("training", [True, False])
def test_data_of_any_length_gives_batches(photo_folder, training):
    import tensorflow as tf

    for pairs in both(photo_folder):
        # More than are decoded at a time, without an end, of unknown length.
        batches = make(pairs.repeat(5), training, cache=True)
        assert len(batches) == len(list(batches)) == 5
        endless = make(pairs.repeat(), training)
        assert endless.cardinality() == tf.data.INFINITE_CARDINALITY
        assert len(list(endless.take(9))) == 9
        some = make(pairs.filter(lambda _, label: label == 0), training)
        assert some.cardinality() == tf.data.UNKNOWN_CARDINALITY
        assert epoch(some)[1].tolist() == [0] * 4


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("orientation", [1, 6])
def test_of_a_large_jpeg_no_more_is_decoded_than_shows(
    tmp_path, training, orientation
):
    import tensorflow as tf

    # Fine and coarse patterns, of 12 times the sides of the result.
    rng = np.random.default_rng(1)
    image = sum(
        np.asarray(
            Image.fromarray(rng.integers(0, 255, (n, n, 3), np.uint8)).resize(
                (400, 300), Image.Resampling.BICUBIC
            ),
            float,
        )
        / 2
        for n in (9, 60)
    )
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = str(tmp_path / "large.jpg")
    Image.fromarray(image.astype(np.uint8)).save(path, quality=95, exif=exif)
    encoded = pathlib.Path(path).read_bytes()
    file = {"encoded": encoded, "origin": path.encode()}
    assert min(decoded_for(file, 24)[:, :, 0].shape) < 100
    files = tf.data.Dataset.from_tensors((file, 0)).repeat(8)
    images = files.map(lambda file, label: (decode(file), label))
    wanted = epoch(make(images, training))[0]
    error = epoch(make(files, training))[0] - wanted
    # The place of a crop is rounded to other pixels.
    assert 10 * np.log10(255**2 / (error**2).mean()) > (25 if training else 30)


def test_a_damaged_file_is_named_when_its_batch_is_read(photo_folder):
    import tensorflow as tf

    files = both(photo_folder)[1]
    broken = photo_folder / "a" / "0.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="decoded"
    ) as error:
        epoch(make(files.concatenate(files), training=True))
    assert "a/0.jpg" in error.value.message


@pytest.mark.parametrize(
    "file",
    [
        {"encoded": b"", "path": b""},
        {"encoded": b""},
        {"encoded": [b"", b""], "origin": b""},
        {"encoded": b"", "origin": 3},
        {"encoded": b"", "origin": b"", "bbox": 0.5},
    ],
)
def test_a_dictionary_that_is_no_file_is_refused_with_the_form(file):
    import tensorflow as tf

    pairs = tf.data.Dataset.from_tensors((file, 0))
    with pytest.raises(ValueError, match="encoded, its bytes, and origin"):
        make(pairs)

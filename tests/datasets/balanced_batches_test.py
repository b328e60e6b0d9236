import keras
import numpy as np
import pytest
from PIL import Image

import keras_finegrain
from keras_finegrain import datasets

SIZES = [9, 4, 6, 1, 5]  # images of each class
LABELS = np.random.default_rng(1).permutation(np.repeat(range(5), SIZES))


@pytest.fixture(scope="module")
def pairs():
    """Pictures of several sizes, each of a color of its own, ten times i."""
    import tensorflow as tf

    def generate():
        generator = np.random.default_rng(0)
        for i, label in enumerate(LABELS):
            height, width = generator.integers(20, 60, 2)
            image = np.full((height, width, 3), i * 10, np.uint8)
            image[: height // 2, : width // 2] += 5
            yield image, label

    return tf.data.Dataset.from_generator(
        generate,
        output_signature=(
            tf.TensorSpec((None, None, 3), tf.uint8),
            tf.TensorSpec((), tf.int64),
        ),
    )


def make(pairs, **arguments):
    # 5 + 2 + 3 + 1 + 3 groups in batches of three: five, with one filler.
    defaults = {"image_size": 24, "classes_per_batch": 3, "images_per_class": 2}
    return datasets.balanced_batches(pairs, **{**defaults, **arguments})


def epoch(dataset):
    images, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.stack(images), np.stack(labels)


def index_of(images):
    """Which pictures these are."""
    return (images.min((-3, -2, -1)) / 10).astype(int)


@pytest.mark.parametrize("augment", ["flip_crop", "flip", "none"])
def test_an_epoch_has_every_image_with_its_own_label(pairs, augment):
    images, labels = epoch(make(pairs, augment=augment))
    assert images.shape == (5, 6, 24, 24, 3)
    assert images.dtype == np.float32
    assert labels.dtype == np.int32
    indices = index_of(images)
    np.testing.assert_array_equal(labels, LABELS[indices])
    assert set(indices.ravel()) == set(range(25))
    assert images.min() >= 0
    assert images.max() <= 255


def test_the_images_of_a_class_stand_together_and_classes_differ(pairs):
    _, labels = epoch(make(pairs))
    by_class = labels.reshape(5, 3, 2)
    assert (by_class == by_class[:, :, :1]).all()
    assert all(len(set(row)) == 3 for row in by_class[:, :, 0])
    assert (np.diff(by_class[:, :, 0]) < 0).any()  # not in the labels' order


def test_shapes_and_the_number_of_batches_are_known_beforehand(pairs):
    dataset = make(pairs)
    assert dataset.element_spec[0].shape == (6, 24, 24, 3)
    assert dataset.element_spec[1].shape == (6,)
    assert int(dataset.cardinality()) == 5
    assert all(len(epoch(dataset)[1]) == 5 for _ in range(3))


def test_the_same_seed_gives_the_same_epochs_and_each_epoch_is_new(pairs):
    first, again, other = make(pairs), make(pairs), make(pairs, seed=1)
    epochs = [epoch(first) for _ in range(3)]
    for images, labels in epochs:
        images_again, labels_again = epoch(again)
        np.testing.assert_array_equal(images, images_again)
        np.testing.assert_array_equal(labels, labels_again)
    assert not np.array_equal(epochs[0][1], epochs[1][1])
    assert not np.array_equal(epochs[1][1], epochs[2][1])
    assert not np.array_equal(epochs[0][1], epoch(other)[1])
    # Beyond the order, the crops of one image differ from epoch to epoch.
    crops = []
    for images, _ in epochs:
        _, place = np.unique(index_of(images), return_index=True)
        crops.append(images.reshape(-1, 24, 24, 3)[place])
    assert (crops[0] != crops[1]).any((1, 2, 3)).mean() > 0.8


def test_repeat_goes_on_with_new_epochs(pairs):
    _, wanted = epoch(make(pairs))
    dataset = make(pairs).repeat(2)
    assert int(dataset.cardinality()) == 10
    _, labels = epoch(dataset)
    np.testing.assert_array_equal(labels[:5], wanted)
    assert not np.array_equal(labels[5:], wanted)


def test_an_image_that_is_drawn_twice_is_augmented_twice(pairs):
    # The class of one image fills its group with it.
    images, labels = epoch(make(pairs))
    first, second = images[labels == 3][:2]
    assert not np.array_equal(first, second)


def test_only_flips_leave_the_central_crop(pairs):
    central, _ = epoch(make(pairs, augment="none"))
    _, place = np.unique(index_of(central), return_index=True)
    by_index = central.reshape(-1, 24, 24, 3)[place]
    images, _ = epoch(make(pairs, augment="flip"))
    wanted = by_index[index_of(images)]
    same = (images == wanted).all((2, 3, 4))
    mirrored = (images == wanted[:, :, :, ::-1]).all((2, 3, 4))
    assert (same | mirrored).all()
    assert same.any()
    assert mirrored.any()


def test_the_data_is_read_once_and_a_file_changes_nothing(pairs, tmp_path):
    import tensorflow as tf

    reads = tf.Variable(0)

    def count(image, label):
        reads.assign_add(1)
        return image, label

    path = tmp_path / "pixels"
    path.write_text("an older file")
    in_memory = make(pairs.map(count))
    assert int(reads) == 25
    in_file = make(pairs.map(count), cache=str(path))
    assert int(reads) == 50
    for _ in range(3):
        images, labels = epoch(in_memory)
        images_of_file, labels_of_file = epoch(in_file)
        np.testing.assert_array_equal(images, images_of_file)
        np.testing.assert_array_equal(labels, labels_of_file)
    assert int(reads) == 50
    pixels = sum(image.size for image, _ in pairs.as_numpy_iterator())
    assert path.stat().st_size == pixels
    assert list(tmp_path.iterdir()) == [path]


def test_a_reading_that_breaks_off_leaves_the_older_file(pairs, tmp_path):
    import tensorflow as tf

    def break_off(image, label):
        with tf.control_dependencies(
            [tf.debugging.Assert(label != 3, ["damaged"])]
        ):
            return tf.identity(image), label

    path = tmp_path / "pixels"
    path.write_text("an older file")
    with pytest.raises(tf.errors.InvalidArgumentError, match="damaged"):
        make(pairs.map(break_off), cache=str(path))
    assert path.read_text() == "an older file"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_in_a_folder_that_is_not_there_is_an_error(pairs, tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        make(pairs, cache=str(tmp_path / "nowhere" / "pixels"))


def test_workers_take_a_share_of_each_batch(pairs):
    import tensorflow as tf

    policy = make(pairs).options().experimental_distribute.auto_shard_policy
    assert policy == tf.data.experimental.AutoShardPolicy.DATA


def test_fit_learns_from_pairs(pairs):
    model = keras.Sequential(
        [
            keras.layers.Rescaling(1 / 255),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(4),
        ]
    )
    model.compile(
        loss=keras_finegrain.losses.TripletHardLoss(),
        optimizer=keras.optimizers.Adam(0.01),
    )
    before = model.evaluate(make(pairs, augment="none"), verbose=0)
    history = model.fit(make(pairs), epochs=4, verbose=0).history
    assert len(history["loss"]) == 4
    assert model.optimizer.iterations == 20
    assert model.evaluate(make(pairs, augment="none"), verbose=0) < before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"image_size": 0}, "image_size .*received 0"),
        ({"classes_per_batch": 1}, "different classes take two.*batch=1"),
        ({"images_per_class": 1}, "of one class take two.*per_class=1"),
        ({"images_per_class": 2.0}, "images_per_class .*received 2.0"),
        ({"classes_per_batch": 6}, "number of classes in dataset, 5,.*=6"),
        ({"augment": "crop_flip"}, "flip_crop"),
        ({"cache": False}, "have to be kept.*cache=False"),
        ({"cache": ""}, "path of a file"),
    ],
)
def test_an_argument_out_of_range_is_named(pairs, arguments, words):
    with pytest.raises(ValueError, match=f"balanced_batches: .*{words}"):
        make(pairs, **arguments)


def test_data_that_gives_no_pairs_is_refused(pairs, tmp_path):
    with pytest.raises(ValueError, match=r"balanced_batches: .*batched"):
        make(pairs.batch(2))
    with pytest.raises(ValueError, match="as a whole"):
        make(np.zeros((3, 8, 8, 3)))
    with pytest.raises(ValueError, match=r"repeat\(\)"):
        make(pairs.repeat())
    for cache in (True, str(tmp_path / "pixels")):
        with pytest.raises(ValueError, match="is empty"):
            make(pairs.take(0), cache=cache)


def test_files_give_the_batches_of_their_images(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(16):
        coarse = rng.integers(0, 255, (6, 8, 3), np.uint8)
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coarse).resize((50, 40)).save(path)
    arguments = {
        "image_size": 16,
        "classes_per_batch": 2,
        "images_per_class": 2,
    }
    images, files = (
        datasets.load(tmp_path / "photos", decode=decode).train
        for decode in (True, False)
    )
    for cache in (True, str(tmp_path / "files")):
        wanted = datasets.balanced_batches(images, **arguments)
        given = datasets.balanced_batches(files, cache=cache, **arguments)
        for _ in range(2):
            for (x, y), (z, w) in zip(wanted, given, strict=True):
                np.testing.assert_array_equal(x, z)
                np.testing.assert_array_equal(y, w)

import numpy as np
import pytest

from keras_finegrain import datasets
from tests.datasets.error_messages import message

pytestmark = pytest.mark.one_backend


def mean_color(image):
    return np.asarray(image).reshape(-1, 3).mean(0)


def test_a_folder_a_class_gives_names_sizes_and_the_right_pixels(folder):
    birds = datasets.load(folder)
    assert birds.class_names == ("crow", "jay", "rook")
    assert birds.num_classes == 3
    assert (birds.train_size, birds.test_size) == (12, 3)
    for split, size in ((birds.train, 12), (birds.test, 3)):
        pairs = list(split.as_numpy_iterator())
        assert len(pairs) == size == int(split.cardinality())
        for image, label in pairs:
            assert image.shape == (30, 40, 3)
            assert image.dtype == np.uint8
            assert label.dtype == np.int64
            assert mean_color(image).argmax() == label


def test_the_split_takes_each_picture_once_and_is_the_same_again(folder, draw):
    for i, name in enumerate(["crow", "jay", "rook"]):
        for j in range(5):  # A color for each picture tells them apart.
            draw(folder / name / f"{j}.png", (i * 50, j * 50, 7))

    def corners(split):
        return [tuple(image[-1, -1]) for image, _ in split.as_numpy_iterator()]

    first = datasets.load(folder, test_fraction=0.4, seed=3)
    again = datasets.load(folder, test_fraction=0.4, seed=3)
    other = datasets.load(folder, test_fraction=0.4, seed=4)
    assert corners(first.train) == corners(again.train)
    assert corners(first.test) == corners(again.test)
    assert set(corners(first.test)) != set(corners(other.test))
    assert first.test_size == 6
    assert len({*corners(first.train), *corners(first.test)}) == 15


@pytest.mark.parametrize("test_name", ["test", "val", "Validation"])
def test_train_and_test_folders_are_kept_apart(tmp_path, draw, test_name):
    for name, color in (("a", (200, 0, 0)), ("b", (0, 200, 0))):
        for i in range(4):
            draw(tmp_path / "train" / name / f"{i}.jpg", color)
        draw(tmp_path / test_name / name / "0.jpg", color, size=(10, 20))
    birds = datasets.load(tmp_path)
    assert (birds.train_size, birds.test_size) == (8, 2)
    assert {x.shape for x, _ in birds.train.as_numpy_iterator()} == {
        (30, 40, 3)
    }
    assert {x.shape for x, _ in birds.test.as_numpy_iterator()} == {(20, 10, 3)}


def test_a_class_may_be_called_train(folder, draw):
    for i in range(2):
        draw(folder / "train" / f"{i}.png")
    names = datasets.load(folder).class_names
    assert names == ("crow", "jay", "rook", "train")


def test_hidden_files_and_other_files_are_passed_over(folder):
    (folder / ".git" / "crow").mkdir(parents=True)
    (folder / "crow" / ".thumbnail.png").write_bytes(b"no image")
    (folder / "crow" / "notes.txt").write_text("black")
    (folder / "list.csv").write_text("a,b")
    birds = datasets.load(folder)
    assert birds.class_names == ("crow", "jay", "rook")
    assert birds.train_size + birds.test_size == 15


@pytest.mark.parametrize(
    ("extension", "mode"),
    [
        ("jpg", "L"),
        ("JPEG", "RGB"),
        ("png", "RGBA"),
        ("png", "LA"),
        ("png", "P"),
        ("bmp", "RGB"),
        ("gif", "P"),
    ],
)
def test_every_format_becomes_rgb(tmp_path, draw, extension, mode):
    for name in ("a", "b"):
        for i in range(2):
            file = f"{i}.{extension}"
            draw(tmp_path / name / file, (102, 102, 102), mode=mode)
    birds = datasets.load(tmp_path, test_fraction=0.5)
    for image, _ in birds.train.as_numpy_iterator():
        assert image.shape == (30, 40, 3)
        np.testing.assert_allclose(image[-1, -1], 102, atol=4)


def test_pictures_deeper_in_a_class_belong_to_it(folder, draw):
    draw(folder / "jay" / "2024" / "may" / "1.png", (0, 200, 0))
    birds = datasets.load(folder)
    assert birds.train_size + birds.test_size == 16


def test_neighbours_in_reading_order_are_of_mixed_classes(folder):
    labels = [int(y) for _, y in datasets.load(folder).train]
    assert labels != sorted(labels)


def test_a_folder_that_does_not_exist_is_named(call, tmp_path):
    assert "nowhere" in message(call, str(tmp_path / "nowhere"))
    assert "./nowhere" in message(call, "./nowhere")


def test_a_file_is_not_taken_for_a_folder(call, tmp_path):
    file = tmp_path / "birds.zip"
    file.write_bytes(b"zip")
    assert "is a file" in message(call, file)


def test_a_folder_without_images_says_which_files_count(call, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "readme.txt").write_text("none")
    text = message(call, tmp_path)
    assert "has no images" in text
    assert ".jpg" in text


def test_an_empty_class_is_named(call, folder):
    (folder / "magpie").mkdir()
    assert "'magpie'" in message(call, folder)


def test_an_empty_class_does_not_matter_if_it_is_not_selected(folder):
    (folder / "magpie").mkdir()
    birds = datasets.load(folder, classes="[cr]*")
    assert birds.class_names == ("crow", "rook")


def test_an_empty_class_in_the_test_folder_is_named(call, tmp_path, draw):
    for name in ("a", "b"):
        draw(tmp_path / "train" / name / "0.png")
    draw(tmp_path / "test" / "a" / "0.png")
    (tmp_path / "test" / "b").mkdir()
    text = message(call, tmp_path)
    assert "no images of 'b' to test on" in text


def test_a_class_that_one_split_lacks_is_named(call, tmp_path, draw):
    for split, name in (("train", "a"), ("train", "b"), ("test", "a")):
        draw(tmp_path / split / name / "0.png")
    text = message(call, tmp_path)
    assert "to test on" in text
    assert "'b'" in text


def test_a_single_class_cannot_be_told_apart(call, tmp_path, draw):
    draw(tmp_path / "only" / "0.png")
    assert "'only'" in message(call, tmp_path)


def test_a_class_with_one_image_cannot_be_split(folder, draw):
    draw(folder / "magpie" / "0.png")
    assert "'magpie'" in message(datasets.load, folder)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\xff\xd8\xff"])
def test_a_file_that_is_no_image_is_named(call, folder, content):
    (folder / "jay" / "3.jpg").write_bytes(content)
    assert "jay/3.jpg" in message(call, folder)


@pytest.mark.parametrize("extension", ["jpg", "png"])
def test_a_file_that_broke_off_is_named(call, folder, draw, extension):
    path = draw(folder / "jay" / f"half.{extension}", size=(300, 200))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert f"half.{extension}" in message(call, folder)


def test_damage_inside_a_file_is_named_when_it_is_read(folder, draw):
    import tensorflow as tf

    path = draw(folder / "jay" / "damaged.png", size=(300, 200))
    content = bytearray(path.read_bytes())
    middle = content.index(b"IDAT") + 20
    content[middle : middle + 8] = b"\xff" * 8
    path.write_bytes(content)
    birds = datasets.load(folder)

    def read_all():
        for split in (birds.train, birds.test):
            for _ in datasets.batches(
                split, image_size=16, batch_size=4, training=False
            ):
                pass

    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"damaged\.png.*cannot be decoded"
    ) as caught:
        read_all()
    assert "Traceback" not in str(caught.value)


def test_an_image_with_bytes_after_its_end_is_accepted(folder, draw):
    path = draw(folder / "jay" / "camera.jpg")
    path.write_bytes(path.read_bytes() + b"maker note" * 1000)
    birds = datasets.load(folder)
    assert birds.train_size + birds.test_size == 16


def test_bounding_boxes_of_a_folder_are_refused(call, folder):
    assert "crop_to_bbox" in message(call, folder, crop_to_bbox=True)


def test_a_prepared_tfds_folder_is_told_from_pictures(call, tmp_path):
    (tmp_path / "dataset_info.json").write_text("{}")
    assert "by its name" in message(call, tmp_path)


@pytest.mark.parametrize("fraction", [0, 1, -0.1])
def test_a_test_fraction_outside_its_range_is_refused(folder, fraction):
    with pytest.raises(ValueError, match="test_fraction"):
        datasets.load(folder, test_fraction=fraction)

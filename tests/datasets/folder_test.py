import os
import re
import unicodedata
import warnings

import numpy as np
import pytest

from keras_finegrain import datasets
from keras_finegrain.datasets.decoding import problem_of
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


def test_a_picture_is_known_by_its_path_in_the_folder(folder, draw):
    draw(folder / "jay" / "young" / "a b.jpg", size=(7, 9))
    birds = datasets.load(folder)
    keys = (*birds.train_keys, *birds.test_keys)
    images = [
        image
        for split in (birds.train, birds.test)
        for image, _ in split.as_numpy_iterator()
    ]
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*.*")}
    assert set(keys) == files
    assert images[keys.index("jay/young/a b.jpg")].shape == (9, 7, 3)


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


@pytest.mark.parametrize(
    ("train_name", "test_name"),
    [("train", "test"), ("Training", "Validation"), ("a_train", "dev_images")],
)
def test_train_and_test_folders_are_kept_apart(
    tmp_path, draw, train_name, test_name
):
    for name, color in (("a", (200, 0, 0)), ("b", (0, 200, 0))):
        for i in range(4):
            draw(tmp_path / train_name / name / f"{i}.jpg", color)
        draw(tmp_path / test_name / name / "0.jpg", color, size=(10, 20))
    birds = datasets.load(tmp_path)
    assert (birds.train_size, birds.test_size) == (8, 2)
    assert {x.shape for x, _ in birds.train.as_numpy_iterator()} == {
        (30, 40, 3)
    }
    assert {x.shape for x, _ in birds.test.as_numpy_iterator()} == {(20, 10, 3)}


@pytest.fixture
def split_folders(tmp_path, draw):
    """Makes folders; two classes in each, or none where a "!" says so."""

    def make(*names):
        for name in names:
            classes = (".",) if name.endswith("!") else ("apple", "pear")
            for kind in classes:
                for i in range(2):
                    draw(tmp_path / name.rstrip("!") / kind / f"{i}.png")
        return tmp_path

    return make


@pytest.mark.parametrize(
    "names",
    [
        ("test", "val"),
        ("Train", "train", "test"),
        ("train", "val", "valid"),
        ("train", "mini"),
        ("train!", "test!"),
        ("cars_train!", "cars_test!"),
        ("train!",),
        ("train", "test!"),
        ("gallery", "query"),
        ("apple/train", "apple/test", "pear/train", "pear/test"),
        ("fruit/train", "fruit/test"),
    ],
)
def test_folders_that_may_be_splits_stop_with_what_to_name(
    call, split_folders, names
):
    root = split_folders(*names)
    text = message(call, root)
    assert "splits=" in text
    for name in names:
        assert repr(name.rstrip("!").split("/")[-1]) in text


def test_an_empty_test_folder_does_not_pass_for_none(split_folders):
    (split_folders("train") / "test").mkdir()
    assert "known to be for testing" in message(
        datasets.load, split_folders("train")
    )


@pytest.mark.parametrize(
    ("splits", "classes", "sizes"),
    [
        (("gallery", "query"), ("apple", "pear"), (4, 4)),
        (["query"], ("apple", "pear"), (2, 2)),
        ((".",), ("gallery", "query"), (6, 2)),
        ((".", "../other"), None, None),
        (("gallery", "queries"), None, None),
    ],
)
def test_splits_name_the_folders(split_folders, splits, classes, sizes):
    root = split_folders("gallery", "query")
    if classes is None:
        text = message(datasets.load, root, splits=splits)
        assert "holds 'gallery', 'query'" in text
    else:
        fruit = datasets.load(root, splits=splits)
        assert fruit.class_names == classes
        assert (fruit.train_size, fruit.test_size) == sizes


@pytest.mark.parametrize("other", ["val", "extra", "val!"])
def test_folders_beside_train_and_test_are_left_out_with_a_word(
    split_folders, other
):
    root = split_folders("train", "test", other)
    with pytest.warns(UserWarning, match=f"'{other.rstrip('!')}' are left out"):
        fruit = datasets.load(root)
    assert (fruit.train_size, fruit.test_size) == (4, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        datasets.load(root, splits=("train", "test"))


def test_one_class_in_two_forms_of_unicode_is_one_class(tmp_path, draw):
    for split, form in (("train", "NFC"), ("test", "NFD")):
        name = unicodedata.normalize(form, "café")
        for kind in (name, "tea"):
            draw(tmp_path / split / kind / "0.png")
    drinks = datasets.load(tmp_path)
    assert drinks.class_names == ("café", "tea")
    assert (drinks.train_size, drinks.test_size) == (2, 2)


def test_names_need_not_be_utf_8(folder, draw):
    for i in range(2):
        draw(folder / os.fsdecode(b"caf\xe9") / os.fsdecode(b"\xff%d.png" % i))
    datasets.check(folder)
    birds = datasets.load(folder)
    assert birds.class_names[0] == "caf\\xe9"
    assert len([*birds.train, *birds.test]) == 17
    assert len(datasets.Photos.prepare(folder).encoded) == 17


@pytest.mark.parametrize("target", [".", "crow", "crow/0.png"])
def test_a_link_to_what_is_read_anyway_is_refused(call, folder, target):
    link = "jay/link.png" if target.endswith(".png") else "link"
    (folder / link).symlink_to(folder / target)
    assert "(a link)" in message(call, folder)
    assert link in message(call, folder)


def test_a_link_to_images_elsewhere_is_followed(folder, draw, tmp_path):
    draw(tmp_path / "elsewhere" / "0.png")
    draw(tmp_path / "one.png")
    (folder / "jay" / "more").symlink_to(tmp_path / "elsewhere")
    (folder / "crow" / "5.png").symlink_to(tmp_path / "one.png")
    birds = datasets.load(folder)
    assert birds.train_size + birds.test_size == 17


def test_a_link_that_leads_nowhere_is_named(call, folder):
    (folder / "jay" / "gone.png").symlink_to(folder / "nowhere.png")
    assert "gone.png" in message(call, folder)


def test_images_of_all_usual_endings_are_read(folder, draw):
    endings = ("jfif", "jpe", "tif", "TIFF", "ppm", "webp", "gif", "bmp")
    for ending in endings:
        draw(folder / "jay" / f"other.{ending}")
    datasets.check(folder)
    birds = datasets.load(folder)
    assert len([*birds.train, *birds.test]) == 15 + len(endings)


def test_images_that_are_not_read_are_counted_and_named(call, folder, draw):
    draw(folder / "beside.png")
    draw(folder / "jay" / "@eaDir" / "thumbnail.jpg")
    draw(folder / ".trash" / "old.jpg")
    (folder / "jay" / "raw.CR2").write_bytes(b"raw")
    with pytest.warns(UserWarning, match="not read as a whole") as caught:
        call(folder)
    (text,) = (str(warning.message) for warning in caught)
    for words in (
        r"1 image file \(.*beside\.png'\) beside the class folders",
        r"2 image files \(.*old\.jpg.*thumbnail\.jpg'\) hidden",
        r"1 image file \(.*raw\.CR2'\) of a format",
    ):
        assert re.search(words, text)


def test_a_file_that_is_gone_when_it_is_read_is_named(folder):
    import tensorflow as tf

    birds = datasets.load(folder)
    for file in (folder / "jay").iterdir():
        file.unlink()
    with pytest.raises(tf.errors.NotFoundError) as caught:
        list(birds.train)
    text = problem_of(caught.value)
    assert re.fullmatch(
        r"The image '.*jay/\d\.png' cannot be read: No such file or directory",
        text,
    )


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
    with pytest.warns(UserWarning, match="thumbnail.png"):
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


def test_all_files_that_broke_off_are_named(call, folder, draw):
    broken = ["crow/a.jpg", "jay/b.png", "rook/c.jpg"]
    for name in broken:
        path = draw(folder / name, size=(300, 200))
        path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(datasets.DatasetError) as caught:
        call(folder)
    first, *lines = str(caught.value).splitlines()
    assert first == "3 of 18 images cannot be read:"
    for line, name in zip(lines, broken, strict=True):
        assert name in line
        assert "cannot be decoded" in line


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

import dataclasses
import io
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from keras_finegrain import datasets
from keras_finegrain._base.optional import pip_install
from keras_finegrain.datasets import Photos
from tests.datasets.error_messages import message

pytestmark = pytest.mark.one_backend


@pytest.fixture(scope="module")
def data_dir(builders, tmp_path_factory):
    return tmp_path_factory.mktemp("tensorflow_datasets")


@pytest.fixture
def photos():
    """Three photos of two classes; the last is tested on and has no box."""
    boxes = [[0.1, 0.2, 0.6, 0.7], [0, 0, 1, 1], [np.nan] * 4]
    return Photos(
        name="kites",
        encoded=tuple(file_of(noise(seed)) for seed in range(3)),
        labels=np.array([0, 1, 1], np.int32),
        boxes=np.array(boxes, np.float32),
        is_test=np.array([False, False, True]),
        class_names=("red kite", "Äskulapnatter"),
    )


def noise(seed=0, shape=(12, 16, 3)):
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    return Image.fromarray(pixels)


def file_of(image, file_format="PNG", **options):
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def pairs(split):
    return list(split.as_numpy_iterator())


def assert_same_images(images, wanted, atol=0):
    for image, other in zip(images, wanted, strict=True):
        assert image.dtype == np.uint8
        np.testing.assert_allclose(
            image.astype(int), other.astype(int), rtol=0, atol=atol
        )


@pytest.mark.parametrize("classes", [None, "[bo]*"])
def test_prepared_photos_are_those_that_load_gives_training_first(
    data_dir, classes
):
    arguments = {"data_dir": data_dir, "classes": classes}
    kites = datasets.load("kites", **arguments)
    photos = Photos.prepare("kites", **arguments)
    expected = [*pairs(kites.train), *pairs(kites.test)]
    assert photos.name == "kites"
    assert photos.class_names == kites.class_names
    assert photos.num_classes == kites.num_classes
    assert photos.keys == (*kites.train_keys, *kites.test_keys)
    assert photos.labels.tolist() == [label for _, label in expected]
    assert (~photos.is_test).sum() == kites.train_size
    assert not photos.is_test[: kites.train_size].any()
    assert_same_images(photos.decode(), [image for image, _ in expected])
    np.testing.assert_array_equal(
        photos.boxes, [[0.5, 0.25, 1.0, 0.75]] * len(expected)
    )


def test_a_single_split_is_divided_as_load_divides_it(folder, draw):
    for i, name in enumerate(["crow", "jay", "rook"]):
        for j in range(5):  # A color for each picture tells them apart.
            draw(folder / name / f"{j}.png", (i * 50, j * 50, 7))
    arguments = {"test_fraction": 0.4, "seed": 3}
    birds = datasets.load(folder, **arguments)
    photos = Photos.prepare(folder, **arguments)
    for split, chosen in (
        (birds.train, ~photos.is_test),
        (birds.test, photos.is_test),
    ):
        expected = pairs(split)
        assert photos.labels[chosen].tolist() == [y for _, y in expected]
        assert_same_images(photos.decode(chosen), [x for x, _ in expected])


def test_small_photos_keep_their_bytes_and_a_folder_has_no_boxes(folder, draw):
    draw(folder / "jay" / "long.jpg", size=(60, 30))
    photos = Photos.prepare(folder, short_side=30)
    files = {file.read_bytes() for file in folder.rglob("*.*")}
    assert set(photos.encoded) == files
    assert len(photos.encoded) == 16
    assert np.isnan(photos.boxes).all()


@pytest.mark.parametrize("extension", ["jpg", "png"])
@pytest.mark.parametrize("size", [(60, 40), (40, 60)])
def test_a_large_photo_becomes_a_small_jpeg_of_its_aspect(
    folder, draw, extension, size
):
    color = (200, 120, 40)
    draw(folder / "jay" / f"large.{extension}", color, size=size)
    small = Photos.prepare(folder, short_side=31)
    large = Photos.prepare(folder)
    (changed,) = (
        i for i, file in enumerate(small.encoded) if file != large.encoded[i]
    )
    (image,) = small.decode([changed])
    # 60 of 40 is 46.5 of 31.
    assert sorted(image.shape) == [3, 31, 46]
    assert Image.open(io.BytesIO(small.encoded[changed])).format == "JPEG"
    assert np.abs(image[-8:, -8:] - np.array(color, float)).max() < 4
    # The light corner is still the upper left one.
    assert image[:6, :6].min() > 225


def test_more_quality_makes_a_larger_file(folder):
    for file in folder.rglob("*.png"):
        noise(0, (40, 40, 3)).save(file)
    sizes = [
        len(Photos.prepare(folder, short_side=32, quality=quality).encoded[0])
        for quality in (10, 90)
    ]
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize("short_side", [256, 20])
def test_photos_are_turned_as_their_camera_says_before_they_get_small(
    folder, short_side
):
    exif = Image.Exif()
    exif[0x0112] = 6  # Turn by a quarter to see it upright.
    noise(0, (30, 40, 3)).save(folder / "jay" / "0.jpg", exif=exif)
    (folder / "jay" / "0.png").unlink()
    photos = Photos.prepare(folder, short_side=short_side)
    shapes = {image.shape for image in photos.decode()}
    turned = (40, 30, 3) if short_side > 30 else (27, 20, 3)
    assert shapes == {(30, 40, 3) if short_side > 30 else (20, 27, 3), turned}


def test_a_damaged_photo_is_named_where_it_is_prepared(data_dir):
    text = message(Photos.prepare, "kites_damaged", data_dir=data_dir)
    assert "'kites_damaged, train record " in text
    assert "cannot be decoded" in text
    # Photos of classes that are left out are not looked at.
    kites = Photos.prepare("kites_damaged", data_dir=data_dir, classes="kite")
    assert len(kites.encoded) == 10


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"short_side": 0}, "short_side must be an integer of at least 1"),
        ({"short_side": 25.6}, "of at least 1, received 25.6"),
        ({"quality": 0}, "quality must be an integer of at least 1"),
        ({"quality": 100}, "quality must lie in [1, 95]"),
    ],
)
def test_settings_out_of_range_are_refused_before_data_is_read(
    arguments, words
):
    assert words in message(
        Photos.prepare, "./no_such_folder", error=ValueError, **arguments
    )


def test_a_saved_file_gives_the_same_photos_again(photos, tmp_path):
    path = tmp_path / "new" / "kites.npz"
    photos.save(path)
    read = Photos.load(path)
    assert read.name == photos.name
    assert read.encoded == photos.encoded
    assert read.class_names == photos.class_names
    assert read.keys == photos.keys
    for field in ("labels", "boxes", "is_test"):
        array, wanted = getattr(read, field), getattr(photos, field)
        assert array.dtype == wanted.dtype
        np.testing.assert_array_equal(array, wanted)
    assert read.digest == photos.digest
    # No compression of what is compressed, no pickle, nothing left beside.
    assert path.stat().st_size < sum(map(len, photos.encoded)) + 4000
    assert list(path.parent.iterdir()) == [path]


def test_a_file_without_keys_numbers_its_photos(photos, tmp_path):
    photos = dataclasses.replace(photos, keys=("a.png", "b.png", "ß/c.png"))
    path = tmp_path / "kites.npz"
    photos.save(path)
    assert Photos.load(path).keys == photos.keys
    with np.load(path) as file:
        fields = {name: file[name] for name in file.files if name != "keys"}
    np.savez(path, **fields)
    old = Photos.load(path)
    assert old.keys == ("train/0", "train/1", "test/0")
    assert old.digest == photos.digest


def test_a_save_that_breaks_off_leaves_the_file_that_was_there(
    photos, tmp_path, monkeypatch
):
    path = tmp_path / "kites.npz"
    photos.save(path)
    before = path.read_bytes()

    def broken(file, **arrays):
        file.write(b"half of it")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", broken)
    with pytest.raises(OSError, match="disk full"):
        photos.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_file_says_how_to_make_it(tmp_path):
    for path in (tmp_path / "none.npz", tmp_path):
        text = message(Photos.load, path)
        assert repr(str(path)) in text
        assert "Photos.prepare(name).save(path)" in text


@pytest.mark.parametrize("kind", ["empty", "text", "npy", "npz", "pickle"])
def test_a_file_that_save_did_not_write_is_refused(tmp_path, kind):
    path = tmp_path / "photos.npz"
    with open(path, "wb") as file:
        if kind == "text":
            file.write(b"no photos")
        elif kind == "npy":
            np.save(file, np.arange(3))
        elif kind == "npz":
            np.savez(file, labels=np.arange(3))
        elif kind == "pickle":
            np.savez(file, encoded=np.array([{}], object), ends=np.arange(1))
    assert "no file of photos" in message(Photos.load, path)


def test_a_file_damaged_anywhere_is_refused_or_gives_the_same_photos(
    photos, tmp_path
):
    path = tmp_path / "kites.npz"
    photos.save(path)
    whole = path.read_bytes()
    places = range(0, len(whole), 11)
    contents = [whole[:place] for place in places]
    for place in places:
        flipped = bytes([whole[place] ^ 0xFF])
        contents.append(whole[:place] + flipped + whole[place + 1 :])
    refusals = []
    for content in contents:
        path.write_bytes(content)
        try:
            read = Photos.load(path)
        except datasets.DatasetError as error:
            refusals.append(str(error))
        else:
            # A byte that means nothing, such as a time of day.
            assert read.digest == photos.digest
    assert len(refusals) > 0.9 * len(contents)
    assert all("with Photos.prepare(name)" in text for text in refusals)


@pytest.mark.parametrize(
    "changes",
    [
        {"encoded": (b"ab", b"c", b"d")},
        {"encoded": (b"a", b"bc", b"d")},
        {"labels": np.array([1, 1, 0], np.int32)},
        {"boxes": np.zeros((3, 4), np.float32)},
        {"is_test": np.array([True, False, False])},
        {"class_names": ("red kite", "osprey")},
    ],
)
def test_the_digest_changes_with_all_that_a_result_depends_on(photos, changes):
    base = dataclasses.replace(photos, encoded=(b"a", b"b", b"cd"))
    assert dataclasses.replace(base, **changes).digest != base.digest


def test_the_digest_is_that_of_the_content_and_short(photos):
    copy = dataclasses.replace(photos, name="./other/folder")
    assert copy.digest == photos.digest
    assert len(photos.digest) == 16


def files_of_all_kinds():
    """Image files without loss, and JPEGs, by name."""
    color, gray = noise(), noise(1, (12, 16))
    smooth = color.resize((64, 48), Image.Resampling.BICUBIC)
    deep = np.random.default_rng(2).integers(0, 2**16, (12, 16), np.uint16)
    exact = {
        "rgb": file_of(color),
        "gray": file_of(gray),
        "black and white": file_of(gray.convert("1")),
        "16 bits of gray": file_of(Image.fromarray(deep)),
        "palette": file_of(color.quantize(16)),
        "alpha": file_of(noise(3, (12, 16, 4))),
        "bmp": file_of(color, "BMP"),
        "gif": file_of(
            color.quantize(16),
            "GIF",
            save_all=True,
            append_images=[noise(5).quantize(16)],
        ),
    }
    lossy = {
        "jpeg": file_of(smooth, "JPEG"),
        "gray jpeg": file_of(smooth.convert("L"), "JPEG"),
    }
    return exact, lossy


def test_every_format_is_decoded_to_the_pixels_that_tensorflow_gives(photos):
    tf = pytest.importorskip("tensorflow")
    # Two decoders of JPEG may round differently in each of their steps.
    for files, atol in zip(files_of_all_kinds(), (0, 5), strict=True):
        wanted = [
            tf.io.decode_image(file, 3, expand_animations=False).numpy()
            for file in files.values()
        ]
        some = dataclasses.replace(
            photos,
            encoded=tuple(files.values()),
            labels=np.zeros(len(files), np.int32),
            boxes=np.zeros((len(files), 4), np.float32),
            is_test=np.zeros(len(files), bool),
            keys=(),
        )
        assert_same_images(some.decode(), wanted, atol)


def test_indices_choose_photos_and_their_order(photos):
    every = photos.decode()
    assert_same_images(photos.decode([2, 0, 0]), [every[i] for i in (2, 0, 0)])
    assert_same_images(photos.decode((1, 2)), every[1:])
    assert_same_images(photos.decode(~photos.is_test), every[:2])
    assert photos.decode(np.zeros(3, bool)) == []


@pytest.mark.parametrize("indices", [[3], [0.5], [True, False]])
def test_indices_of_no_photo_are_refused(photos, indices):
    text = message(photos.decode, indices, error=IndexError)
    assert "indices must be integers below 3" in text


def test_a_damaged_photo_is_named_where_it_is_decoded(photos):
    cut_off = photos.encoded[1][:-30]
    photos = dataclasses.replace(
        photos, encoded=(photos.encoded[0], cut_off, b"no image")
    )
    assert "'kites, photo 1'" in message(photos.decode, [0, 1])
    assert "'kites, photo 2'" in message(photos.decode, [2])


def test_squares_around_boxes_are_cut_as_load_cuts_them(data_dir):
    kites = datasets.load("kites", data_dir=data_dir, crop_to_bbox=True)
    photos = Photos.prepare("kites", data_dir=data_dir)
    images = photos.decode(photos.is_test, crop_to_boxes=True)
    assert_same_images(images, [image for image, _ in pairs(kites.test)])


def test_each_photo_is_cut_to_its_own_box(photos):
    whole = photos.decode([0, 1])
    cut = photos.decode([1, 0], crop_to_boxes=True)
    # 12 · 0.5 and 16 · 0.5, the larger over 0.875 is 10 pixels.
    assert_same_images(cut, [whole[1], whole[0][0:10, 2:12]])


def test_photos_without_a_box_cannot_be_cut_to_it(photos):
    text = message(photos.decode, crop_to_boxes=True)
    assert "1 of 3 have none, such as kites, photo 2" in text
    assert len(photos.decode([0, 1], crop_to_boxes=True)) == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": np.array([0, 1], np.int32)}, r"labels must .* \(3,\)"),
        ({"labels": np.array([0, 1, 1])}, "labels must be int32 .*int64"),
        ({"labels": np.array([0, 1, 2], np.int32)}, r"labels .* \[0, 2\).* 2"),
        ({"boxes": np.zeros((3, 2), np.float32)}, r"boxes must .* \(3, 4\)"),
        ({"is_test": np.array([0, 0, 1])}, "is_test must be bool"),
        ({"keys": ("a", "b")}, "keys must .* each of 3 photos, received 2"),
    ],
)
def test_attributes_of_different_photos_are_refused(photos, changes, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(photos, **changes)


def test_the_photos_are_not_printed(photos):
    assert len(repr(photos)) < 200


def test_a_missing_pillow_names_the_extra_that_has_it(photos, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    for call in (photos.decode, lambda: Photos.prepare("./none")):
        text = message(call, error=datasets.MissingPackageError)
        assert "Pillow" in text
        assert pip_install("command") in text


def test_reading_photos_needs_no_tensorflow(photos, tmp_path):
    pytest.importorskip("jax")
    path = tmp_path / "kites.npz"
    photos.save(path)
    code = (
        "import sys\n"
        "sys.modules['tensorflow'] = None\n"
        "sys.modules['tensorflow_datasets'] = None\n"
        "from keras_finegrain.datasets import Photos, crops\n"
        f"images = Photos.load({str(path)!r}).decode([0], crop_to_boxes=True)\n"
        "print(images[0].shape)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.strip() == "(10, 10, 3)", result.stderr


def test_the_sparrows_are_carried_in_30_megabytes(sparrows, tmp_path):
    arguments = {"data_dir": sparrows, "classes": "*"}
    photos = Photos.prepare("caltech_birds2011", **arguments)
    assert photos.num_classes == 21
    assert ((~photos.is_test).sum(), photos.is_test.sum()) == (629, 615)
    assert np.isfinite(photos.boxes).all()
    photos.save(tmp_path / "sparrows.npz")
    assert (tmp_path / "sparrows.npz").stat().st_size < 30e6
    birds = datasets.load("caltech_birds2011", crop_to_bbox=True, **arguments)
    cut = photos.decode(np.arange(629, 679), crop_to_boxes=True)
    wanted = [image for image, _ in pairs(birds.test.take(50))]
    # Their bytes are those of the data set: two decoders differ in rounding.
    assert_same_images(cut, wanted, atol=10)

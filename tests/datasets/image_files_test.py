import io

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from keras_finegrain import datasets
from keras_finegrain.datasets import image_files
from keras_finegrain.datasets.decoding import decode
from tests.datasets.error_messages import message

pytestmark = pytest.mark.one_backend

ORIENTATION = 0x0112
AVIF = pytest.param(
    "AVIF",
    marks=pytest.mark.skipif(
        "avif" not in features.get_supported(),
        reason="this build of Pillow reads no AVIF",
    ),
)


def photo(height=30, width=40, seed=0):
    """A picture of smooth colors, which a lossy format keeps."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (3, 4, 3), np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.BICUBIC)


def noise(height=96, width=128, seed=0):
    pixels = np.random.default_rng(seed).normal(128, 40, (height, width, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype("uint8"))


def encoded(image, file_format, **options):
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def animation(file_format):
    frames = [noise(24, 32, seed) for seed in range(4)]
    options = {"save_all": True, "append_images": frames[1:]}
    return encoded(frames[0], file_format, **options)


def decoded(files):
    """What a data set's pipeline gives of the bytes of files."""
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices(list(files))
    dataset = dataset.map(
        lambda file: decode({"encoded": file, "origin": "the file"})
    )
    return list(dataset.as_numpy_iterator())


def assert_near(image, wanted, atol=0):
    assert image.shape == np.asarray(wanted).shape
    difference = image.astype(int) - np.asarray(wanted).astype(int)
    assert np.abs(difference).max() <= atol


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", AVIF])
def test_all_orientations_of_a_camera_are_turned_upright(file_format):
    files = []
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        files.append(encoded(photo(), file_format, exif=exif))
    for file, image in zip(files, decoded(files), strict=True):
        upright = ImageOps.exif_transpose(Image.open(io.BytesIO(file)))
        assert_near(image, upright.convert("RGB"))


@pytest.mark.parametrize("orientation", [b"\0\0", b"\x09\0", b"\xff\xff"])
@pytest.mark.parametrize("header", [b"II*\0\x08\0\0\0", b"no such header"])
def test_an_exif_that_says_nothing_leaves_the_photo_as_it_is(
    header, orientation
):
    entry = b"\x01\0\x12\x01\x03\0\x01\0\0\0" + orientation + bytes(6)
    file = encoded(photo(), "JPEG", exif=b"Exif\0\0" + header + entry)
    stored = Image.open(io.BytesIO(file))
    image_files.verify(file, "photo")
    assert_near(decoded([file])[0], stored, atol=4)
    assert_near(np.asarray(image_files.opened(file, "photo")), stored)


def test_photos_load_and_batches_turn_a_phone_photo_alike(folder):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    for file in list(folder.rglob("*.png")):
        photo().save(file.with_suffix(".jpg"), exif=exif)
        file.unlink()
    loaded = datasets.load(folder)
    photos = datasets.Photos.prepare(folder).decode()
    for image, _ in loaded.train.as_numpy_iterator():
        assert_near(image, photos[0], atol=4)
    upright = Image.fromarray(photos[0])
    left = (30 - 26) // 2, (40 - 26) // 2
    crop = upright.crop((*left, left[0] + 26, left[1] + 26))
    batch, _ = next(
        datasets.batches(
            loaded.test, image_size=26, batch_size=1, training=False
        ).as_numpy_iterator()
    )
    assert_near(batch[0], crop, atol=4)


@pytest.mark.parametrize(
    ("mode", "file_format"),
    [
        ("P", "BMP"),
        ("1", "BMP"),
        ("L", "BMP"),
        ("1", "PNG"),
        ("P", "GIF"),
        ("1", "TIFF"),
        ("CMYK", "TIFF"),
        ("L", "PPM"),
        ("I;16", "PNG"),
        ("I;16", "TIFF"),
    ],
)
def test_palettes_bits_and_deep_gray_are_read_as_they_look(mode, file_format):
    gray = photo().convert("L")
    if mode == "I;16":
        image = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
        wanted = gray.convert("RGB")
    else:
        image = photo().convert(mode)
        wanted = image.convert("RGB")
    (result,) = decoded([encoded(image, file_format)])
    assert_near(result, wanted)


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_pixels_of_32_bits_are_refused_because_their_range_is_unknown(dtype):
    import tensorflow as tf

    gray = np.asarray(photo().convert("L")).astype(dtype)
    file = encoded(Image.fromarray(gray), "TIFF")
    with pytest.raises(tf.errors.InvalidArgumentError, match="of 32 bits"):
        decoded([file])
    assert "of 32 bits" in message(image_files.verify, file, "the file")


def files():
    """The bytes of a whole file of each kind."""
    image = noise()
    return {
        "jpeg": encoded(image, "JPEG"),
        "optimized": encoded(image, "JPEG", optimize=True),
        "progressive": encoded(image, "JPEG", progressive=True),
        "thumbnail": with_thumbnail(encoded(image, "JPEG")),
        "png": encoded(image, "PNG"),
        "gif": encoded(image, "GIF"),
        "bmp": encoded(image, "BMP"),
        "bits": encoded(image.convert("1"), "BMP"),
        "webp": encoded(image, "WEBP"),
        "tiff": encoded(image, "TIFF"),
        "ppm": encoded(image, "PPM"),
        "moving gif": animation("GIF"),
        "moving png": animation("PNG"),
        "moving webp": animation("WEBP"),
    }


def with_thumbnail(jpeg):
    """Puts a small whole JPEG before the image, as cameras do."""
    content = b"Exif\0\0" + encoded(noise(8, 8), "JPEG")
    segment = b"\xff\xe1" + (len(content) + 2).to_bytes(2, "big") + content
    return jpeg[:2] + segment + jpeg[2:]


@pytest.mark.parametrize("kind", files())
def test_a_file_that_broke_off_anywhere_is_found(kind):
    whole = files()[kind]
    image_files.verify(whole, "whole")
    for share in (0.0, 0.3, 0.6, 0.9, 0.98):
        text = message(
            image_files.verify, whole[: int(share * len(whole))], "broken"
        )
        assert "'broken' cannot be decoded" in text


@pytest.mark.parametrize("kind", ["jpeg", "optimized", "progressive", "png"])
def test_a_file_whose_middle_was_never_written_is_found(kind):
    import tensorflow as tf

    whole = files()[kind]
    third = len(whole) // 3
    lost = whole[:third] + bytes(third) + whole[2 * third :]
    message(image_files.verify, lost, "lost")
    with pytest.raises(tf.errors.InvalidArgumentError, match="the file"):
        decoded([lost])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"optimize": True},
        {"progressive": True},
        {"optimize": True, "progressive": True, "quality": 10},
    ],
)
def test_a_jpeg_of_flat_colors_is_not_taken_for_a_lost_one(options):
    for color in ("black", "white", (10, 200, 30)):
        image = Image.new("RGB", (800, 600), color)
        image_files.verify(encoded(image, "JPEG", **options), "flat")
        image.paste(photo(), (300, 300))
        image_files.verify(encoded(image, "JPEG", **options), "nearly flat")


def test_a_heic_of_a_phone_is_read_where_its_extra_is_installed(folder):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    for file in list(folder.rglob("*.png")):
        photo().save(file.with_suffix(".HEIC"), quality=95)
        file.unlink()
    datasets.check(folder)
    for image, _ in datasets.load(folder).train.as_numpy_iterator():
        assert np.abs(image.astype(int) - np.asarray(photo())).mean() < 8


@pytest.mark.parametrize(
    ("name", "remedy"), [("a.HEIC", "pip install"), ("a.dng", "save as JPEG")]
)
def test_a_format_that_is_not_read_here_says_how_it_would_be(
    name, remedy, tmp_path, monkeypatch
):
    unread = frozenset({".heic", ".dng"})
    monkeypatch.setattr(image_files, "unread_extensions", lambda: unread)
    path = tmp_path / name
    path.write_bytes(b"of a camera")
    text = message(datasets.read_images, path, 8)
    assert f"{name}' is of a format that is not read here" in text
    assert remedy in text


def test_a_photo_above_the_limit_of_pillow_names_the_limit(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    file = encoded(photo(30, 40), "JPEG")
    for call in (image_files.opened, image_files.decoded, image_files.verify):
        text = message(call, file, "large.jpg")
        assert "1200 pixels" in text
        assert "save it smaller" in text


def test_no_ending_is_both_read_and_not_read():
    read = image_files.readable_extensions()
    assert {".jpg", ".jfif", ".jpe", ".tif", ".ppm", ".webp"} <= read
    assert not read & image_files.unread_extensions()
    assert ".heic" in read | image_files.unread_extensions()

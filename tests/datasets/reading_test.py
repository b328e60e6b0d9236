import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from keras_finegrain import datasets
from tests.datasets.error_messages import message

pytestmark = pytest.mark.one_backend


def smooth(seed, size):
    """A picture as soft as a photo: JPEG keeps it nearly as it is."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    image = Image.fromarray(pixels)
    return image.resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def photos(tmp_path):
    """Saves pictures of several sizes in a folder for each of two classes."""

    def save(extension, **options):
        sizes = [(61, 40), (40, 87), (300, 211), (23, 30), (64, 64), (9, 300)]
        for seed, size in enumerate(sizes):
            path = tmp_path / "birds" / "ab"[seed % 2] / f"{seed}.{extension}"
            path.parent.mkdir(parents=True, exist_ok=True)
            smooth(seed, size).save(path, **options)
        return tmp_path / "birds"

    return save


def as_batches_gives(folder, image_size):
    """Every image of a folder as it is tested on, with its path."""
    birds = datasets.load(folder, decode=False)
    found = {}
    for split, keys in (
        (birds.train, birds.train_keys),
        (birds.test, birds.test_keys),
    ):
        batches = datasets.batches(
            split, image_size=image_size, batch_size=4, training=False
        )
        images = [image for x, _ in batches for image in x.numpy()]
        found.update(zip(keys, images, strict=True))
    return found


@pytest.mark.parametrize("image_size", [32, 100])
def test_a_file_without_loss_is_what_a_model_was_tested_on(photos, image_size):
    folder = photos("png")
    wanted = as_batches_gives(folder, image_size)
    images = datasets.read_images([folder / k for k in wanted], image_size)
    assert images.dtype == np.float32
    # Pillow rounds between rows and columns, OpenCV after them.
    assert np.abs(images - list(wanted.values())).max() <= 1


def test_a_jpeg_turned_or_not_is_what_a_model_was_tested_on(photos):
    exif = Image.Exif()
    exif[0x0112] = 6  # Turn by a quarter to see it upright.
    folder = photos("jpg", quality=92)
    smooth(9, (80, 50)).save(folder / "a" / "turned.jpg", exif=exif)
    wanted = as_batches_gives(folder, 32)
    images = datasets.read_images([folder / k for k in wanted], 32)
    assert np.abs(images - list(wanted.values())).max() <= 1


def test_a_large_jpeg_is_what_batches_gives_of_its_file(photos):
    folder = photos("jpg")
    smooth(9, (900, 700)).save(folder / "a" / "large.jpg")
    birds = datasets.load(folder, test_fraction=0.5, decode=False)
    tested = birds.train.concatenate(birds.test)
    keys = [*birds.train_keys, *birds.test_keys]
    batches = datasets.batches(
        tested, image_size=50, batch_size=len(keys), training=False
    )
    images = datasets.read_images([folder / key for key in keys], 50)
    assert np.abs(images - next(iter(batches))[0]).max() <= 1


def test_one_file_several_and_a_folder_give_the_same_images(photos):
    folder = photos("png")
    paths = datasets.image_paths(folder)
    assert paths == sorted(str(p) for p in folder.rglob("*.png"))
    images = datasets.read_images(folder, 24)
    assert images.shape == (6, 24, 24, 3)
    for i, path in enumerate(paths):
        np.testing.assert_array_equal(
            datasets.read_images(path, 24), images[i : i + 1]
        )
    some = datasets.read_images((pathlib.Path(p) for p in paths[2:4]), 24)
    np.testing.assert_array_equal(some, images[2:4])


def test_gray_and_transparent_images_have_three_channels(tmp_path):
    for mode in ("L", "RGBA", "P", "1"):
        smooth(0, (40, 30)).convert(mode).save(tmp_path / f"{mode}.png")
    images = datasets.read_images(tmp_path, 16)
    assert images.shape == (4, 16, 16, 3)


def test_the_images_of_a_folder_are_listed_and_the_others_named(tmp_path, draw):
    for name in ("b.jpg", "a.png", "deep/er/c.webp", ".hidden.png"):
        draw(tmp_path / name)
    for name in ("raw.cr2", "notes.txt"):
        (tmp_path / name).write_bytes(b"raw")
    with pytest.warns(UserWarning, match=r"'.*\.hidden\.png'.*raw\.cr2"):
        paths = datasets.image_paths(str(tmp_path))
    names = [os.path.relpath(path, tmp_path) for path in paths]
    assert names == ["a.png", "b.jpg", "deep/er/c.webp"]


@pytest.mark.parametrize("content", [b"", b"no image", "cut"])
def test_a_file_that_is_no_image_is_named(tmp_path, draw, content):
    good, bad = draw(tmp_path / "good.png"), draw(tmp_path / "bad.png")
    whole = bad.read_bytes()
    bad.write_bytes(whole[: len(whole) // 2] if content == "cut" else content)
    text = message(datasets.read_images, [good, bad], 16)
    assert str(bad) in text
    assert "cannot be decoded" in text


@pytest.mark.parametrize(
    ("paths", "words", "error"),
    [
        ("none.png", "'none.png' cannot be read: No such", None),
        ([], "must name at least one image", None),
        (3, "paths must be .* received 3", TypeError),
        ([b"a.png"], "paths must be .* received b'a.png'", TypeError),
        (b"a.png", "paths must be .* received b'a.png'", TypeError),
        (["a.png", None], "paths must be .* received None", TypeError),
    ],
)
def test_paths_that_name_no_image_are_refused(paths, words, error):
    with pytest.raises(error or datasets.DatasetError, match=words):
        datasets.read_images(paths, 16)


def test_folders_without_images_are_refused(tmp_path, draw):
    (tmp_path / "empty").mkdir()
    assert "has no images" in message(datasets.image_paths, tmp_path / "empty")
    assert "has no images" in message(
        datasets.read_images, tmp_path / "empty", 16
    )
    assert "does not exist" in message(datasets.image_paths, tmp_path / "no")
    file = draw(tmp_path / "a.png")
    assert "is a file" in message(datasets.image_paths, file)


def test_a_size_of_no_pixels_is_refused(tmp_path):
    with pytest.raises(ValueError, match="image_size must be an integer"):
        datasets.read_images(tmp_path, 0)


def test_reading_images_needs_no_tensorflow(photos):
    pytest.importorskip("jax")
    folder = photos("png")
    code = (
        "import sys\n"
        "sys.modules['tensorflow'] = None\n"
        "from keras_finegrain import datasets\n"
        f"print(datasets.read_images({str(folder)!r}, 16).shape)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.strip() == "(6, 16, 16, 3)", result.stderr

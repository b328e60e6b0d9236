"""Image files to a network's inputs, by Pillow alone."""

import os
import pathlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from keras_finegrain._base import checks
from keras_finegrain.datasets.crops import LEAST_SIDE, evaluation_boxes
from keras_finegrain.datasets.errors import DatasetError, one_line
from keras_finegrain.datasets.folder import (
    bytes_of,
    hidden_and_unread,
    shown,
    warn_unread,
)
from keras_finegrain.datasets.folder_tree import scan
from keras_finegrain.datasets.image_files import opened
from keras_finegrain.datasets.requirements import import_pillow
from keras_finegrain.datasets.transforms import samples_a_pixel

_Path = str | os.PathLike[str]


def image_paths(folder: _Path) -> list[str]:
    """Lists the image files of a folder and of the folders in it.

    Formats are those that `load` reads, told by the ending of the name.
    Hidden files and thumbnails are left out.

    Args:
        folder: The folder; `~` is expanded.

    Returns:
        The paths, which begin with `folder`, in alphabetical order.

    Warns:
        UserWarning: With how many images are not read, and why.

    Raises:
        DatasetError: If there is no such folder, it cannot be read or it
            holds no image.
        MissingPackageError: A `DatasetError`, if Pillow is missing.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> from keras_finegrain import datasets
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGB", (8, 6)).save(f"{folder}/wren.png")
        ...     Image.new("RGB", (8, 6)).save(f"{folder}/jay.jpg")
        ...     paths = datasets.image_paths(folder)
        ...     [path.removeprefix(folder) for path in paths]
        ['/jay.jpg', '/wren.png']
    """
    root = _checked_path("image_paths", folder)
    if not root.is_dir():
        what = "is a file, not" if root.exists() else "does not exist as"
        raise DatasetError(
            f"{str(root)!r} {what} a folder: pass one that holds images"
        )
    tree = scan(root)
    paths = tree.all_images()
    unread = hidden_and_unread([tree])
    if not paths:
        raise DatasetError(
            f"The folder {str(root)!r} has no images: it must hold "
            "files that end in .jpg, .png, .webp, .tif or another usual ending"
            + "".join(f". {line}" for line in unread)
        )
    warn_unread(root, unread)
    return paths


def read_images(
    paths: _Path | Iterable[_Path], image_size: int
) -> npt.NDArray[np.float32]:
    """Reads image files as `batches(training=False)` gives them.

    Each image is turned as its EXIF orientation says, its central square,
    87.5 % of the short side, is cut out and resized, bilinear and smoothed
    where it shrinks, and rounded to whole numbers. Pillow does all of it, on
    all cores: no TensorFlow is needed, under any backend. Pixels equal those
    that `batches` gives of the same files to one level of 255.

    Args:
        paths: One file, several, or one folder, of which every image is read
            in the order of `image_paths`. Of a large folder, read slices of
            `image_paths(folder)`: a result takes `12 · image_size²` bytes an
            image.
        image_size: Side of the images, in pixels.

    Returns:
        float32 `(images, image_size, image_size, 3)` in [0, 255], also for
        one file.

    Raises:
        DatasetError: If a file is missing, damaged or no image (the message
            names it), or `paths` names none.
        MissingPackageError: A `DatasetError`, if Pillow is missing.
        ValueError: If `image_size` is not a positive integer.
        TypeError: If `paths` is neither a path nor several.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> from keras_finegrain import datasets
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGB", (80, 60), "red").save(f"{folder}/kite.png")
        ...     images = datasets.read_images(f"{folder}/kite.png", 32)
        >>> images.shape, images[0, 0, 0].tolist()
        ((1, 32, 32, 3), [255.0, 0.0, 0.0])
    """
    checks.positive_integer("read_images", "image_size", image_size)
    import_pillow()
    if isinstance(paths, (str, os.PathLike)):
        one = _checked_path("read_images", paths)
        files = image_paths(one) if one.is_dir() else [one]
    elif isinstance(paths, Iterable) and not isinstance(paths, bytes):
        files = [_checked_path("read_images", path) for path in paths]
    else:
        raise _no_path("read_images", paths)
    if not files:
        raise DatasetError(
            "read_images: paths must name at least one image, and is empty"
        )

    def read(path: _Path) -> npt.NDArray[np.float32]:
        return _read(str(path), image_size)

    images = np.empty((len(files), image_size, image_size, 3), np.float32)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for place, image in enumerate(pool.map(read, files)):
            images[place] = image
    return images


def _read(path: str, image_size: int) -> npt.NDArray[np.float32]:
    image = opened(bytes_of(path), shown(path), image_size / LEAST_SIDE)
    box = evaluation_boxes([(image.height, image.width)])[0].astype(int)
    top, left, bottom, right = box.tolist()
    # Cut first: a resize with a box would look at pixels around it.
    image = image.crop((left, top, right, bottom))
    samples = samples_a_pixel(image.height, image.width, image_size)
    side = (samples * image_size, samples * image_size)
    image = image.resize(side, import_pillow().Resampling.BILINEAR)
    return np.asarray(image.reduce(samples), np.float32)


def _checked_path(who: str, path: object) -> pathlib.Path:
    if not isinstance(path, (str, os.PathLike)) or not str(path):
        raise _no_path(who, path)
    return pathlib.Path(path).expanduser()


def _no_path(who: str, value: object) -> TypeError:
    argument = "folder" if who == "image_paths" else "paths"
    rule = (
        "the path of a folder"
        if who == "image_paths"
        else "the path of an image or a folder, or several of images"
    )
    return TypeError(
        f"{who}: {argument} must be {rule}, received "
        f"{one_line(repr(value), 80)}"
    )

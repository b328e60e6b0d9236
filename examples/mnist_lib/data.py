"""The images: three data sets by name, or a folder of IDX files."""

import difflib
import gzip
import math
import pathlib
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from keras_finegrain.cli.output import CommandError

BY_TFDS = ("mnist", "fashion_mnist")
NAMES = ("digits", *BY_TFDS)
# The smallest side that survives two poolings.
SMALLEST_SIDE = 8


class ImageSet(NamedTuple):
    """Images in [0, 255] with one class each.

    Attributes:
        name: What was asked for.
        class_names: The name of each class.
        train_images: float32 `(samples, height, width, 1)`.
        train_labels: int32 `(samples,)`.
        test_images: As `train_images`.
        test_labels: As `train_labels`.
    """

    name: str
    class_names: tuple[str, ...]
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray

    @property
    def num_classes(self) -> int:
        """Labels lie in [0, num_classes)."""
        return len(self.class_names)


def load(
    name: str,
    *,
    data_dir: str | None = None,
    train_images: int | None = None,
    class_names: Sequence[str] | None = None,
) -> ImageSet:
    """Reads a data set and checks it.

    Args:
        name: One of `NAMES`, or a folder.
        data_dir: Where TFDS keeps its data.
        train_images: How many to train on, always the same ones; all if None.
        class_names: In place of the data set's own.

    Raises:
        CommandError: In one line, for whatever is wrong with it.
    """
    if name == "digits":
        data = _digits()
    elif name in BY_TFDS:
        data = _from_tfds(name, data_dir)
    elif pathlib.Path(name).is_dir():
        data = _from_folder(pathlib.Path(name))
    else:
        near = difflib.get_close_matches(name, NAMES, n=1)
        raise CommandError(
            f"--dataset {name}: is none of {', '.join(NAMES)} and no folder"
            + (f". Did you mean {near[0]}?" if near else "")
        )
    if class_names is not None:
        if len(class_names) != data.num_classes:
            raise CommandError(
                f"--class-names: {name} has {data.num_classes} classes, "
                f"received {len(class_names)} names"
            )
        data = data._replace(class_names=tuple(class_names))
    if train_images is not None:
        data = _fewer(data, train_images)
    _check(data)
    return data


def _digits() -> ImageSet:
    """scikit-learn's digits; a fifth of every class to test on.

    They have no official split. This one is the same for every seed.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    # 16 is white there.
    images = images.reshape(-1, 8, 8) * (255 / 16)
    train, test, train_labels, test_labels = train_test_split(
        images, labels, test_size=0.2, stratify=labels, random_state=0
    )
    return _image_set("digits", train, train_labels, test, test_labels)


def _from_tfds(name: str, data_dir: str | None) -> ImageSet:
    from keras_finegrain import datasets

    try:
        data = datasets.load(name, data_dir=data_dir)
    except datasets.DatasetError as error:
        raise CommandError(f"--dataset {name}: {error}") from error
    arrays = []
    for split in (data.train, data.test):
        batches = list(split.batch(1000).as_numpy_iterator())
        # The three channels of a gray image are the same.
        arrays.append(np.concatenate([images[..., 0] for images, _ in batches]))
        arrays.append(np.concatenate([labels for _, labels in batches]))
    return _image_set(name, *arrays)._replace(class_names=data.class_names)


def _from_folder(folder: pathlib.Path) -> ImageSet:
    """Reads the four files of MNIST and its successors."""
    arrays = []
    for split in ("train", "t10k"):
        images = _read_idx(folder, f"{split}-images-idx3-ubyte", 3)
        labels = _read_idx(folder, f"{split}-labels-idx1-ubyte", 1)
        if len(images) != len(labels):
            raise CommandError(
                f"--dataset {folder}: {split} has {len(images)} images and "
                f"{len(labels)} labels"
            )
        arrays += [images, labels]
    if arrays[0].shape[1:] != arrays[2].shape[1:]:
        raise CommandError(
            f"--dataset {folder}: images to train on are "
            f"{_size(arrays[0])} pixels and those to test on {_size(arrays[2])}"
        )
    return _image_set(str(folder), *arrays)


def _read_idx(folder: pathlib.Path, name: str, rank: int) -> np.ndarray:
    """Reads one IDX file of bytes (http://yann.lecun.com/exdb/mnist/).

    Two zeros, the type (8 is uint8), the number of axes, the length of each
    as a big-endian integer of four bytes; then the values.
    """
    path = folder / name
    if not path.exists():
        path = folder / f"{name}.gz"
    if not path.exists():
        raise CommandError(
            f"--dataset {folder}: holds neither {name} nor {name}.gz"
        )
    try:
        with gzip.open(path) if path.suffix else open(path, "rb") as file:
            content = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise CommandError(
            f"--dataset: {path} cannot be read ({error})"
        ) from error
    head = 4 + 4 * rank
    if len(content) < head or content[:4] != bytes([0, 0, 8, rank]):
        raise CommandError(
            f"--dataset: {path} is no IDX file of bytes with {rank} axes"
        )
    shape = tuple(np.frombuffer(content[4:head], ">u4").tolist())
    if len(content) - head != math.prod(shape):
        raise CommandError(
            f"--dataset: {path} holds {len(content) - head} values where its "
            f"head says {' x '.join(map(str, shape))}"
        )
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)


def _image_set(
    name: str,
    train_images: np.ndarray,
    train_labels: np.ndarray,
    test_images: np.ndarray,
    test_labels: np.ndarray,
) -> ImageSet:
    """An `ImageSet` with numbers as class names."""
    classes = int(max(train_labels.max(initial=0), test_labels.max(initial=0)))
    return ImageSet(
        name,
        tuple(map(str, range(classes + 1))),
        train_images[..., None].astype(np.float32),
        train_labels.astype(np.int32),
        test_images[..., None].astype(np.float32),
        test_labels.astype(np.int32),
    )


def _fewer(data: ImageSet, train_images: int) -> ImageSet:
    available = len(data.train_images)
    if train_images > available:
        raise CommandError(
            f"--train-images {train_images}: {data.name} has {available}"
        )
    order = np.random.default_rng(0).permutation(available)[:train_images]
    return data._replace(
        train_images=data.train_images[order],
        train_labels=data.train_labels[order],
    )


def _check(data: ImageSet) -> None:
    """Finds what would otherwise fail during or after the training."""
    if min(data.train_images.shape[1:3]) < SMALLEST_SIDE:
        raise CommandError(
            f"--dataset {data.name}: images must be at least {SMALLEST_SIDE} "
            f"pixels wide and high, received {_size(data.train_images)}"
        )
    counts = np.bincount(data.train_labels, minlength=data.num_classes)
    if (counts == 0).any():
        missing = ", ".join(map(str, np.flatnonzero(counts == 0)))
        raise CommandError(
            f"--dataset {data.name}: every class needs an image to train on, "
            f"there is none of class {missing}"
        )
    counts = np.bincount(data.test_labels, minlength=data.num_classes)
    if np.sum(counts > 0) < 2 or counts.max() < 2:
        raise CommandError(
            f"--dataset {data.name}: the distances between images to test on "
            "need two classes and two images of one"
        )


def _size(images: np.ndarray) -> str:
    return f"{images.shape[1]} x {images.shape[2]}"

"""One function from a data set's name to its images."""

import dataclasses
import os
import pathlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from keras_finegrain._base import checks
from keras_finegrain.datasets import decoding, tfds_source
from keras_finegrain.datasets.errors import DatasetError, one_line
from keras_finegrain.datasets.folder import read_folder
from keras_finegrain.datasets.requirements import (
    check_preparation,
    import_opencv,
    import_pillow,
    import_tensorflow,
    prepare,
)
from keras_finegrain.datasets.selection import (
    Division,
    MissingTestClasses,
    SingleImages,
    Splits,
    divided,
)
from keras_finegrain.datasets.sources import Records, Source

if TYPE_CHECKING:
    import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class ImageDataset:
    """Images with one class each, split for training and testing.

    Attributes:
        name: The name or folder that it was loaded with.
        class_names: The name of each class, of both splits; the index is the
            label.
        train: `tf.data.Dataset` of single `(image, label)` pairs: uint8 RGB
            `(height, width, 3)` in its own size, and int64. The order is the
            same every time: `batches` shuffles. With `decode=False` the image
            is a dictionary of its file: `encoded`, the bytes; `origin`, what
            messages call it; with `crop_to_bbox` also `bbox`, `(4,)` float32.
        test: The same for testing.
        train_size: Number of pairs in `train`.
        test_size: Number of pairs in `test`.
        train_keys: What each image in `train` is known by, in the same order:
            of a folder the path of the file in it, with `/`; of a TFDS data
            set the name of the file where its records have one, otherwise
            the split and the number of the record, `"train/12"`. No two
            images have the same.
        test_keys: The same for `test`.
        num_train_classes: Number of classes to train on, so the number of
            classes of a head: labels in `train` lie in
            [0, num_train_classes). It is `num_classes` except with
            `split_by_class`, where the labels in `test` follow, in
            [num_train_classes, num_classes).
    """

    name: str
    class_names: tuple[str, ...]
    train: "tf.data.Dataset"
    test: "tf.data.Dataset"
    train_size: int
    test_size: int
    train_keys: tuple[str, ...] = dataclasses.field(repr=False)
    test_keys: tuple[str, ...] = dataclasses.field(repr=False)
    num_train_classes: int

    @property
    def num_classes(self) -> int:
        """Number of classes; labels lie in [0, num_classes)."""
        return len(self.class_names)


def load(
    name: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    classes: str | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    crop_to_bbox: bool = False,
    splits: Sequence[str] | None = None,
    split_by_class: float | None = None,
    missing_test_classes: MissingTestClasses = "error",
    single_images: SingleImages = "error",
    decode: bool = True,
) -> ImageDataset:
    """Loads an image classification data set by name or from a folder.

    A data set of TFDS is downloaded and prepared on first use, after the
    checks of `check`. A folder holds one folder a class, or folders to train
    and to test on that do. Those, and the splits of TFDS, are known by their
    usual names in any case (`train`, `Training`, `cars_train`, `test`,
    `testing`, …). A validation split (`val`, `valid`, `dev`, `eval`,
    `holdout`, …) is the test set where there is no other with labels, and is
    left out beside one. Where there is only one split, `test_fraction` of
    every class is split off. Where the names do not tell, an error asks for
    `splits`; a warning says what is left out.

    All labels are read and checked at once, which reads the records of a
    TFDS data set once (seconds a gigabyte); images are decoded when they are
    read.

    Args:
        name: A TFDS data set with an image and a label
            (`"caltech_birds2011"`, `"cars196"`, `"stanford_dogs"`, …),
            `"synthetic_birds"`, which this package draws itself, or a folder.
            A bare name that TFDS knows means TFDS even if there is a folder
            of that name: write `"./cars196"` for the folder.
        data_dir: Where TFDS keeps its data; None for its default,
            `~/tensorflow_datasets`. Folders do not use it.
        classes: Takes only the classes whose name holds this text, case
            aside, `_` equal to a space; with `*`, `?` or `[` a shell pattern
            for the whole name. Labels are numbered anew from 0 in the order
            of the original ones. Classes of which the prepared data has no
            image are passed over: `"*"` takes all that are there.
        test_fraction: Share of every class to test on, in (0, 1), where the
            source has one split only. 0.2 is the usual share.
        seed: Seed of that split.
        crop_to_bbox: Cut every image to the square around its bounding box
            (feature `bbox`), as papers on CUB-200-2011 and Cars196 sometimes
            do, with as much around it as the central crop for testing takes
            off again.
        splits: What to train and what to test on: two names of splits, or of
            folders in the folder, or one alone that is divided.
            `splits=(".",)` takes the folders of a folder as classes, whatever
            their names. None finds them.
        split_by_class: Trains on the first share of the classes, in (0, 1),
            in the order of their labels, and tests on the others, with all
            images of both splits of the source: the usual protocol for
            retrieval, with 0.5 on CUB-200-2011 and Cars196 (Oh Song et al.,
            CVPR 2016). The number of classes to train on is rounded down.
            `test_fraction`, `seed` and the two options below have no effect
            then. None tests on the classes that are trained on.
        missing_test_classes: What to do if the source has a test set and not
            of every class: `"error"` (the default), because its accuracy then
            says nothing of those, or `"allow"`.
        single_images: What to do with a class of one image where the source
            has one split only, which is to be divided: `"error"` (the
            default), `"train"` to train on it and not test the class, or
            `"drop"` to leave the class out, with labels numbered anew.
        decode: Whether `train` and `test` hold images. With False they hold
            the files, which `batches` and `balanced_batches` take as well:
            large photos are decoded faster for them, the order is mixed
            better and kept data is ten times smaller.

    Returns:
        An `ImageDataset`.

    Warns:
        UserWarning: With how many images of a folder and which splits are not
            read, and why.

    Raises:
        DatasetError: In one line, for whatever is wrong with the data set.
        MissingPackageError: A `DatasetError`, if a package is missing.

    Example:
        >>> from keras_finegrain import datasets
        >>> birds = datasets.load("synthetic_birds")  # doctest: +SKIP
        >>> train = datasets.batches(
        ...     birds.train, image_size=64, batch_size=32, training=True
        ... )  # doctest: +SKIP

    Reference:
        - [Oh Song et al., "Deep Metric Learning via Lifted Structured Feature
          Embedding", CVPR 2016](https://arxiv.org/abs/1511.06452):
          the first half of the classes to train on
    """
    checks.boolean("load", "decode", decode)
    found = open_splits(
        name,
        data_dir,
        classes,
        Division(
            test_fraction,
            seed,
            split_by_class,
            missing_test_classes,
            single_images,
        ),
        crop_to_bbox=crop_to_bbox,
        splits=splits,
    )
    return ImageDataset(
        name=str(name),
        class_names=found.class_names,
        train=_pairs(found.train, crop_to_bbox, decode),
        test=_pairs(found.test, crop_to_bbox, decode),
        train_size=found.train.labels.size,
        test_size=found.test.labels.size,
        train_keys=found.train.keys,
        test_keys=found.test.keys,
        num_train_classes=found.num_train_classes,
    )


def check(
    name: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
    classes: str | None = None,
    *,
    crop_to_bbox: bool = False,
    splits: Sequence[str] | None = None,
    split_by_class: float | None = None,
    missing_test_classes: MissingTestClasses = "error",
    single_images: SingleImages = "error",
) -> None:
    """Checks that `load` with the same arguments will work; fetches nothing.

    A script calls it before anything that costs time. Data that is there is
    checked as `load` does, and every image of a folder is read to its end:
    the structure of JPEG, the checksums of PNG, all frames of the others.

    For a TFDS data set that is still to be prepared it checks the packages
    that the preparation of known fine-grained data sets imports (OpenCV for
    caltech_birds2011, SciPy for cars196), the right to write to `data_dir`,
    and the space left there. It does not ask for a network: without one TFDS
    tries for three to four minutes before `load` fails. Class names may only
    be known after the preparation.

    Args:
        name: As in `load`.
        data_dir: As in `load`.
        classes: As in `load`.
        crop_to_bbox: As in `load`.
        splits: As in `load`.
        split_by_class: As in `load`.
        missing_test_classes: As in `load`.
        single_images: As in `load`.

    Warns:
        UserWarning: As `load`.

    Raises:
        DatasetError: With one line that says what is wrong and what to do.

    Example:
        >>> from keras_finegrain import datasets
        >>> try:
        ...     datasets.check("caltech_bird2011")
        ... except datasets.DatasetError as error:
        ...     print(error)  # doctest: +ELLIPSIS
        TFDS has no data set 'caltech_bird2011': did you mean 'caltech_...
    """
    division = Division(
        split_by_class=split_by_class,
        missing_test_classes=missing_test_classes,
        single_images=single_images,
    )
    source = _open_source(name, data_dir, crop_to_bbox, splits, download=False)
    if source is not None:
        divided(source, classes, data_dir, division)


def open_splits(
    name: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None,
    classes: str | None,
    division: Division,
    *,
    crop_to_bbox: bool = False,
    splits: Sequence[str] | None = None,
) -> Splits:
    """Opens a data set and divides it; the arguments are `load`'s.

    Raises:
        DatasetError: In one line, for whatever is wrong with the data set.
    """
    source = _open_source(name, data_dir, crop_to_bbox, splits, download=True)
    assert source is not None  # download=True prepares it
    return divided(source, classes, data_dir, division)


def _open_source(
    name: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None,
    crop_to_bbox: bool,
    splits: Sequence[str] | None,
    download: bool,
) -> Source | None:
    """Opens a folder or a data set of TFDS.

    Args:
        name: As in `load`.
        data_dir: As in `load`.
        crop_to_bbox: Whether the records must have bounding boxes.
        splits: As in `load`.
        download: Whether a data set that is not prepared is prepared.

    Returns:
        The source, or None for one that could be prepared but is not.

    Raises:
        DatasetError: In one line, for whatever is wrong with the data set.
    """
    import_tensorflow()
    _check_arguments(name, data_dir, splits)
    checks.boolean("load", "crop_to_bbox", crop_to_bbox)
    if _is_folder(str(name)):
        if crop_to_bbox:
            raise DatasetError(
                "crop_to_bbox=True needs bounding boxes, and the folder "
                f"{str(name)!r} has none"
            )
        return read_folder(str(name), splits, thorough=not download)
    builder = tfds_source.open_builder(str(name), data_dir, crop_to_bbox)
    if not builder.is_prepared():
        if not download:
            check_preparation(builder)
            return None
        prepare(builder)
    return tfds_source.read_prepared(builder, splits)


def _check_arguments(
    name: Any, data_dir: Any, splits: Sequence[str] | None
) -> None:
    for argument, value, rule in (
        ("name", name, "the name of a data set or a folder"),
        ("data_dir", data_dir or ".", "a folder or None"),
    ):
        if not isinstance(value, (str, os.PathLike)) or not str(value):
            raise DatasetError(
                f"load: {argument} must be {rule}, received "
                f"{one_line(repr(value), 80)}"
            )
    if splits is not None and (
        not isinstance(splits, (list, tuple))
        or not all(isinstance(split, str) and split for split in splits)
        or len(splits) not in (1, 2)
        or len(set(splits)) != len(splits)
    ):
        raise DatasetError(
            "load: splits must be None or a tuple of one or two different "
            "names, such as ('train', 'val'), received "
            f"{one_line(repr(splits), 80)}"
        )


def _is_folder(name: str) -> bool:
    """Whether a name means a folder, there or not."""
    if not re.fullmatch(r"\w[\w+./:-]*", name) or ".." in name:
        return True
    if pathlib.Path(name).is_dir():
        return "/" in name or not tfds_source.is_known(name)
    # "cifar10_corrupted/fog_1" is a configuration of a TFDS data set.
    return "/" in name and not tfds_source.is_known(name.split("/")[0])


def _pairs(records: Records, crop_to_bbox: bool, decoded: bool) -> Any:
    """Returns the `(image, label)` pairs of records, decoded when read."""
    tf = import_tensorflow()
    import_pillow()  # Decoding needs both.
    import_opencv()
    parts = ["encoded", "origin", *(["bbox"] if crop_to_bbox else [])]

    def pair(example: dict[str, Any]) -> tuple[Any, Any]:
        file: decoding.File = {part: example[part] for part in parts}
        return decoding.decode(file) if decoded else file, example["label"]

    return records.examples().map(pair, num_parallel_calls=tf.data.AUTOTUNE)

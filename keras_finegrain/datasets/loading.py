"""One function from a data set's name to its images."""

import dataclasses
import os
import pathlib
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from keras_finegrain.datasets import tfds_source
from keras_finegrain.datasets.decoding import crop_to_box, decode
from keras_finegrain.datasets.errors import DatasetError
from keras_finegrain.datasets.folder import read_folder
from keras_finegrain.datasets.requirements import (
    check_preparation,
    import_tensorflow,
)
from keras_finegrain.datasets.selection import (
    listed,
    matching_classes,
    stratified_split,
)
from keras_finegrain.datasets.sources import Records, Source

if TYPE_CHECKING:
    import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class ImageDataset:
    """Images with one class each, split for training and testing.

    Attributes:
        name: The name or folder that it was loaded with.
        class_names: The name of each class; the index is the label.
        train: `tf.data.Dataset` of single `(image, label)` pairs: uint8 RGB
            `(height, width, 3)` in its own size, and int64. The order is the
            same every time: `batches` shuffles.
        test: The same for testing.
        train_size: Number of pairs in `train`.
        test_size: Number of pairs in `test`.
    """

    name: str
    class_names: tuple[str, ...]
    train: "tf.data.Dataset"
    test: "tf.data.Dataset"
    train_size: int
    test_size: int

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
) -> ImageDataset:
    """Loads an image classification data set by name or from a folder.

    A data set of TFDS is downloaded and prepared on first use, after a check
    of everything that can be known to fail. Its splits `train` and `test`
    are taken, or `validation` for `test`. A folder holds one folder a class,
    or `train` and `test` (or `val`) folders that do. Where there is only one
    split, `test_fraction` of every class is split off.

    All labels are read and checked at once, which reads the records of a
    TFDS data set once through (seconds a gigabyte); images are decoded when
    they are asked for.

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

    Returns:
        An `ImageDataset`.

    Raises:
        DatasetError: In one line, for whatever is wrong with the data set.
        MissingPackageError: A `DatasetError`, if a package is missing.

    Example:
        >>> from keras_finegrain import datasets
        >>> birds = datasets.load("synthetic_birds")  # doctest: +SKIP
        >>> train = datasets.batches(
        ...     birds.train, image_size=64, batch_size=32, training=True
        ... )  # doctest: +SKIP
    """
    source = _open(name, data_dir, crop_to_bbox, download=True)
    assert source is not None  # download=True prepares it
    labels = _selected_labels(source, classes, data_dir)
    class_names = tuple(source.class_names[label] for label in labels)
    # renumber[original label] is the new label, or -1 for a class left out.
    renumber = np.full(len(source.class_names), -1, np.int64)
    renumber[labels] = np.arange(len(labels))
    train_labels = renumber[source.train.labels]
    in_train = train_labels >= 0
    if source.test is None:
        test_records = source.train
        in_test = stratified_split(
            train_labels, class_names, test_fraction, seed
        )
        in_train &= ~in_test
    else:
        test_records = source.test
        in_test = renumber[source.test.labels] >= 0
    return ImageDataset(
        name=str(name),
        class_names=class_names,
        train=_decoded(source.train, in_train, renumber),
        test=_decoded(test_records, in_test, renumber),
        train_size=int(in_train.sum()),
        test_size=int(in_test.sum()),
    )


def check(
    name: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
    classes: str | None = None,
    *,
    crop_to_bbox: bool = False,
) -> None:
    """Checks that `load` with the same arguments will work; fetches nothing.

    A script calls it before anything that costs time. Whatever is there is
    looked at as `load` does. For a TFDS data set that is still to be
    prepared: the packages that its preparation imports (OpenCV for
    caltech_birds2011, SciPy for cars196), the right to write to `data_dir`,
    the space left there, and whether a host that has the data answers.
    Class names may only be known after the preparation.

    Args:
        name: As in `load`.
        data_dir: As in `load`.
        classes: As in `load`.
        crop_to_bbox: As in `load`.

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
    source = _open(name, data_dir, crop_to_bbox, download=False)
    if source is not None:
        _selected_labels(source, classes, data_dir)


def _open(
    name: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None,
    crop_to_bbox: bool,
    download: bool,
) -> Source | None:
    """Returns the source, or None for one that could be prepared but is not."""
    import_tensorflow()
    if _is_folder(str(name)):
        if crop_to_bbox:
            raise DatasetError(
                "crop_to_bbox=True needs bounding boxes, and the folder "
                f"{str(name)!r} has none"
            )
        return read_folder(str(name))
    builder = tfds_source.open_builder(str(name), data_dir, crop_to_bbox)
    if not builder.is_prepared():
        if not download:
            check_preparation(builder)
            return None
        tfds_source.prepare(builder)
    return tfds_source.read_prepared(builder, crop_to_bbox)


def _is_folder(name: str) -> bool:
    """Whether a name means a folder, there or not."""
    if not re.fullmatch(r"\w[\w+./:-]*", name) or ".." in name:
        return True
    if pathlib.Path(name).is_dir():
        return "/" in name or not tfds_source.is_known(name)
    # "cifar10_corrupted/fog_1" is a configuration of a TFDS data set.
    return "/" in name and not tfds_source.is_known(name.split("/")[0])


def _selected_labels(
    source: Source,
    classes: str | None,
    data_dir: str | os.PathLike[str] | None,
) -> list[int]:
    """Returns the original labels of the selected classes, in order."""
    names = source.class_names
    num_train = np.bincount(source.train.labels, minlength=len(names))
    num_test = (
        num_train
        if source.test is None
        else np.bincount(source.test.labels, minlength=len(names))
    )
    absent = (num_train == 0) & (num_test == 0)
    if classes is None:
        labels = list(range(len(names)))
    else:
        labels = [
            label
            for label in matching_classes(classes, names)
            if not absent[label] or label in source.required_classes
        ]
    empty = [names[label] for label in labels if absent[label]]
    if empty and source.required_classes:
        raise DatasetError(
            f"{source.name!r}: no images in the class {listed(empty)}: add "
            "some or remove its folder"
        )
    if empty:
        where = f" in data_dir={str(data_dir)!r}" if data_dir else ""
        raise DatasetError(
            f"{len(empty)} of the {len(names)} classes of "
            f"{source.name!r}{where} have no images ({listed(empty)}): only "
            "a part of it was prepared. Pass classes='*' for the classes "
            "that have images, or a pattern that selects among them"
        )
    for split, count in (("train", num_train), ("test", num_test)):
        missing = [
            names[label]
            for label in labels
            if not count[label]
            and (split == "train" or label in source.required_classes)
        ]
        if missing:
            raise DatasetError(
                f"{source.name!r}: the {split} split has no images of "
                f"{listed(missing)}, and the other split has: select "
                "classes that have images in both"
            )
    if len(labels) < 2:
        chosen = listed([names[label] for label in labels]) or "none"
        raise DatasetError(
            f"Telling classes apart takes at least two with images, and "
            f"classes={classes!r} selects {chosen} of {source.name!r}"
        )
    return labels


def _decoded(
    records: Records,
    members: npt.NDArray[np.bool_],
    renumber: npt.NDArray[np.int64],
) -> Any:
    """Returns the `(image, label)` pairs of some records, decoded lazily."""
    tf = import_tensorflow()
    is_member = tf.constant(members)
    new_label = tf.constant(renumber)

    def decoded_pair(example: dict[str, Any]) -> tuple[Any, Any]:
        image = decode(example["encoded"], example["origin"])
        if "bbox" in example:
            image = crop_to_box(image, example["bbox"])
        return image, tf.gather(new_label, example["label"])

    return (
        records.examples()
        .enumerate()
        .filter(lambda index, _: tf.gather(is_member, index))
        .map(
            lambda _, example: decoded_pair(example),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        .apply(tf.data.experimental.assert_cardinality(int(members.sum())))
    )

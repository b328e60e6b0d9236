"""The records of a data set, its classes selected, for training and testing."""

import dataclasses
import os
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_finegrain.datasets.errors import DatasetError
from keras_finegrain.datasets.opening import open_source
from keras_finegrain.datasets.requirements import import_tensorflow
from keras_finegrain.datasets.selection import (
    listed,
    matching_classes,
    stratified_split,
)
from keras_finegrain.datasets.sources import Records, Source


@dataclasses.dataclass(frozen=True)
class Split:
    """The records that belong to one split, of the classes selected.

    Attributes:
        records: Records of which it takes some.
        members: `(records,)` bool, True for those.
        new_labels: The label of each class of the source among those
            selected; -1 for a class left out.
    """

    records: Records
    members: npt.NDArray[np.bool_]
    new_labels: npt.NDArray[np.int64]

    @property
    def size(self) -> int:
        """Number of records in it."""
        return int(self.members.sum())

    def examples(self) -> Any:
        """Makes a `tf.data.Dataset` as `Records.examples`, with new labels."""
        tf = import_tensorflow()
        is_member = tf.constant(self.members)
        new_label = tf.constant(self.new_labels)
        return (
            self.records.examples()
            .enumerate()
            .filter(lambda index, _: tf.gather(is_member, index))
            .map(
                lambda _, example: {
                    **example,
                    "label": tf.gather(new_label, example["label"]),
                }
            )
            .apply(tf.data.experimental.assert_cardinality(self.size))
        )


@dataclasses.dataclass(frozen=True)
class Splits:
    """A data set with its classes selected, nothing decoded yet.

    Attributes:
        class_names: The name of each class; the index is the label.
        train: The records to train on.
        test: The records to test on.
    """

    class_names: tuple[str, ...]
    train: Split
    test: Split


def open_splits(
    name: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None,
    classes: str | None,
    test_fraction: float,
    seed: int,
    *,
    crop_to_bbox: bool = False,
) -> Splits:
    """Opens a data set, prepared if need be; the arguments are `load`'s."""
    source = open_source(name, data_dir, crop_to_bbox, download=True)
    assert source is not None  # download=True prepares it
    labels = selected_labels(source, classes, data_dir)
    class_names = tuple(source.class_names[label] for label in labels)
    new_labels = np.full(len(source.class_names), -1, np.int64)
    new_labels[labels] = np.arange(len(labels))
    train_labels = new_labels[source.train.labels]
    in_train = train_labels >= 0
    if source.test is None:
        test_records = source.train
        in_test = stratified_split(
            train_labels, class_names, test_fraction, seed
        )
        in_train &= ~in_test
    else:
        test_records = source.test
        in_test = new_labels[source.test.labels] >= 0
    return Splits(
        class_names,
        Split(source.train, in_train, new_labels),
        Split(test_records, in_test, new_labels),
    )


def selected_labels(
    source: Source,
    classes: str | None,
    data_dir: str | os.PathLike[str] | None,
) -> list[int]:
    """Returns the original labels of the selected classes, in order.

    Args:
        source: Where the classes are.
        classes: As in `load`.
        data_dir: As in `load`, for the messages.

    Raises:
        DatasetError: If no class matches, fewer than two do, or one of them
            has no images where it must have some.
    """
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

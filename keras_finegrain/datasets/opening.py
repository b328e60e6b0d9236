"""From the name of a data set to its records, nothing decoded yet."""

import os
import pathlib
import re

import numpy as np

from keras_finegrain.datasets import tfds_source
from keras_finegrain.datasets.errors import DatasetError
from keras_finegrain.datasets.folder import read_folder
from keras_finegrain.datasets.requirements import (
    check_preparation,
    import_tensorflow,
    prepare,
)
from keras_finegrain.datasets.selection import selected_labels, stratified_split
from keras_finegrain.datasets.sources import Records, Source


def open_splits(
    name: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None,
    classes: str | None,
    test_fraction: float,
    seed: int,
    *,
    crop_to_bbox: bool = False,
) -> tuple[tuple[str, ...], Records, Records]:
    """Opens a data set and selects its classes; the arguments are `load`'s.

    Returns:
        The names of the selected classes, the records to train on and those
        to test on, with labels numbered anew.

    Raises:
        DatasetError: In one line, for whatever is wrong with the data set.
    """
    source = open_source(name, data_dir, crop_to_bbox, download=True)
    assert source is not None  # download=True prepares it
    selected = selected_labels(source, classes, data_dir)
    class_names = tuple(source.class_names[label] for label in selected)
    new_labels = np.full(len(source.class_names), -1, np.int64)
    new_labels[selected] = np.arange(len(selected))
    train_labels = new_labels[source.train.labels]
    if source.test is None:
        is_test = stratified_split(
            train_labels, class_names, test_fraction, seed
        )
        test = source.train.relabeled(np.where(is_test, train_labels, -1))
        train_labels = np.where(is_test, -1, train_labels)
    else:
        test = source.test.relabeled(new_labels[source.test.labels])
    return class_names, source.train.relabeled(train_labels), test


def open_source(
    name: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None,
    crop_to_bbox: bool,
    download: bool,
) -> Source | None:
    """Opens a folder or a data set of TFDS.

    Args:
        name: As in `load`.
        data_dir: As in `load`.
        crop_to_bbox: Whether the records must have bounding boxes.
        download: Whether a data set that is not prepared is prepared.

    Returns:
        The source, or None for one that could be prepared but is not.

    Raises:
        DatasetError: In one line, for whatever is wrong with the data set.
    """
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
        prepare(builder)
    return tfds_source.read_prepared(builder)


def _is_folder(name: str) -> bool:
    """Whether a name means a folder, there or not."""
    if not re.fullmatch(r"\w[\w+./:-]*", name) or ".." in name:
        return True
    if pathlib.Path(name).is_dir():
        return "/" in name or not tfds_source.is_known(name)
    # "cifar10_corrupted/fog_1" is a configuration of a TFDS data set.
    return "/" in name and not tfds_source.is_known(name.split("/")[0])

"""From the name of a data set to its records."""

import os
import pathlib
import re

from keras_finegrain.datasets import tfds_source
from keras_finegrain.datasets.errors import DatasetError
from keras_finegrain.datasets.folder import read_folder
from keras_finegrain.datasets.requirements import (
    check_preparation,
    import_tensorflow,
)
from keras_finegrain.datasets.sources import Source


def open_source(
    name: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None,
    crop_to_bbox: bool,
    download: bool,
) -> Source | None:
    """Opens a folder or a data set of TFDS; no image is decoded.

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
        tfds_source.prepare(builder)
    return tfds_source.read_prepared(builder)


def _is_folder(name: str) -> bool:
    """Whether a name means a folder, there or not."""
    if not re.fullmatch(r"\w[\w+./:-]*", name) or ".." in name:
        return True
    if pathlib.Path(name).is_dir():
        return "/" in name or not tfds_source.is_known(name)
    # "cifar10_corrupted/fog_1" is a configuration of a TFDS data set.
    return "/" in name and not tfds_source.is_known(name.split("/")[0])
